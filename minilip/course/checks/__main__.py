"""`python -m minilip.course.checks [name ...]`: the proofs of every exercise, counted, and the wrong verdicts."""

import sys

from . import PROOFS, Exercise, Prediction, catalogue, prove
from ._prove import Attempt


def main(wanted: list[str]) -> int:
    """Print the table; 1 if a verdict is wrong."""
    chosen = {n: e for n, (_, e) in catalogue().items() if not wanted or any(n.startswith(w) for w in wanted)}
    print(f"{'exercise':28}" + "".join(f"{p:>10}" for p in (*PROOFS, "wrong")))
    attempts = [(name, attempt) for name, exercise in chosen.items() for attempt in _row(name, exercise)]
    wrong = [(name, a) for name, a in attempts if a.wrong]
    for name, a in wrong:
        print(f"\n{name}, {a.proof}, {a.what}:\n{a.wrong}")
    print(f"{len(chosen)} exercises, {len(attempts)} attempts, {len(wrong)} wrong verdicts")
    return bool(wrong)


def _row(name: str, exercise: Exercise | Prediction) -> list[Attempt]:
    found = prove(exercise)
    counts = [sum(a.proof == p for a in found) for p in PROOFS] + [sum(bool(a.wrong) for a in found)]
    print(f"{name:28}" + "".join(f"{n:10}" for n in counts), flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
