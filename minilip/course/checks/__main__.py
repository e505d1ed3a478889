"""`python -m minilip.course.checks [name ...]`: the proofs of every exercise, counted, and the wrong verdicts.

`--mutants` changes one thing at a time in the right functions and lists the changes that no input notices.
"""

import sys

from . import PROOFS, Exercise, Prediction, catalogue, prove
from ._mutate import survivors
from ._prove import Attempt


def main(arguments: list[str]) -> int:
    """Print the table; 1 if a verdict is wrong, or a mutant survives that other inputs tell apart."""
    wanted = [a for a in arguments if not a.startswith("-")]
    chosen = {n: e for n, (_, e) in catalogue().items() if not wanted or any(n.startswith(w) for w in wanted)}
    return mutate(chosen) if "--mutants" in arguments else tabulate(chosen)


def tabulate(chosen: dict[str, Exercise | Prediction]) -> int:
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


def mutate(chosen: dict[str, Exercise | Prediction]) -> int:
    total = missed = 0
    for name, exercise in chosen.items():
        if isinstance(exercise, Exercise):
            made, passed = survivors(exercise)
            total, missed = total + made, missed + sum(s.differs for s in passed)
            print(f"{name:28}{made:6} mutants, {len(passed)} pass", flush=True)
            for s in passed:
                print(f"    {'NOT NOTICED' if s.differs else 'the same'}: {s.where}")
    print(f"{total} mutants, {missed} not noticed")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
