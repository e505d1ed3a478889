"""Move stored entries to the digest of code that has changed but measures the same, once one entry has proved it.

`python -m minilip.studies.rekey protoclip` measures the cheapest entry again with the code as it is. Where every number
agrees with the stored one, all entries of the study get keys of this code; else none does, and they have to be measured
afresh. Settings and results are never touched. It takes as long as that entry did, minutes.

Two numbers agree when |new - old| <= tolerance * max(1, |old|). On one machine with the same packages training repeats
itself bit for bit; on another one a picture in fifty may fall to the other side, for which the default leaves room.
Of seconds, only that they were taken is compared.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

import torch

from minilip.data.fetch import replacing
from minilip.studies import store
from minilip.studies.digest import fingerprint
from minilip.studies.store import Study, key

STUDIES = {  # name -> where its `Study` stands
    "robustness": ("minilip.studies.lie.robustness", "STUDY"),
    "orbits": ("minilip.studies.lie.route", "STUDY"),
    "rotation-and-scale": ("minilip.studies.lie.route", "TWO"),
    "protoclip": ("minilip.studies.protoclip.emoji", "STUDY"),
    "protoclip-anchors": ("minilip.studies.protoclip.emoji", "ANCHORS"),
    "prolip": ("minilip.studies.prolip.scenes", "STUDY"),
    "prolip-emoji": ("minilip.studies.prolip.emoji", "STUDY"),
}
TOLERANCE = 0.02


class Moved(NamedTuple):
    """How many entries have new keys, which one was measured again, and where it differs most."""

    entries: int
    settings: dict[str, Any]
    largest: float
    where: str
    differ: int  # numbers that are not equal to the last bit
    numbers: int


def rekey(study: Study, tolerance: float = TOLERANCE, only: dict[str, Any] | None = None) -> Moved | None:
    """Give the course's entries of a study the keys of its code, if one entry measured again agrees.

    Args:
        tolerance: see above.
        only: settings that the entry which is measured again must have; by default the one that trained fastest.

    Returns:
        None where nothing had to be moved.

    Raises:
        ValueError: the new result has other parts, or a number that does not agree: nothing is moved.
        LookupError: no old entry has the settings of `only`.
    """
    path, code = store.SHIPPED / f"{study.name}.jsonl", fingerprint(study.make)
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [(row, json.loads(line)) for row, line in enumerate(lines) if line.strip()]
    present = {entry["key"] for _, entry in found}
    # Of several old entries with the same settings the last is the newest.
    old = {new: (row, entry) for row, entry in found if (new := key(entry["settings"], code)) not in present}
    if not old:
        return None
    fitting = [e for _, e in old.values() if (only or {}).items() <= e["settings"].items()]
    if not fitting:
        raise LookupError(f"{study.name}: none of {len(old)} old entries has the settings {only}")
    chosen = min(fitting, key=lambda entry: entry["result"].get("seconds", 0))
    again = json.loads(json.dumps(study.make(**chosen["settings"])))
    before, after = (dict(_leaves(study.numbers(result))) for result in (chosen["result"], again))
    if before.keys() != after.keys():
        parts = ", ".join(sorted(before.keys() ^ after.keys())[:5])
        raise ValueError(f"{study.name}: expected a result with the parts of the old one, got a difference in {parts}")
    apart = {name: _apart(before[name], after[name]) for name in before}
    where = max(apart, key=lambda name: apart[name])
    if not apart[where] <= tolerance:
        raise ValueError(
            f"{study.name}: expected the numbers of {chosen['settings']} within {tolerance}, got {after[where]} "
            f"for {before[where]} in {where}; nothing was moved"
        )
    for new, (row, entry) in old.items():
        lines[row] = json.dumps({"key": new, "settings": entry["settings"], "result": entry["result"]})
    with replacing(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    differ = sum(distance > 0 for distance in apart.values())
    return Moved(len(old), chosen["settings"], apart[where], where, differ, len(apart))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value of a result by the way to it; seconds are replaced by 0."""
    if isinstance(value, (dict, list)):
        for part, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from [(f"{name}/seconds", 0)] if part == "seconds" else _leaves(inner, f"{name}/{part}")
    else:
        yield name, value


def _apart(old: Any, new: Any) -> float:
    """0 for the same value; of numbers |new - old| / max(1, |old|); infinite for others."""
    if old == new or (old != old and new != new):
        return 0.0
    if isinstance(old, (int, float)) and isinstance(new, (int, float)):
        distance = abs(new - old) / max(1.0, abs(old))
        return distance if math.isfinite(distance) else math.inf
    return math.inf


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m minilip.studies.rekey", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"default: {TOLERANCE}")
    parser.add_argument("--only", type=json.loads, default={}, help="""settings of the entry: '{"seed": 0}'""")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    module, name = STUDIES[chosen.study]
    try:
        moved = rekey(getattr(import_module(module), name), chosen.tolerance, chosen.only)
    except (ValueError, LookupError) as error:
        raise SystemExit(str(error)) from None
    if moved is None:
        print(f"{chosen.study}: all entries have the keys of this code")
    else:
        print(
            f"{chosen.study}: {moved.entries} entries moved. Measured again: {moved.settings}. Of {moved.numbers} "
            f"numbers {moved.differ} differ, by {moved.largest:.2g} at most, in {moved.where}."
        )


if __name__ == "__main__":
    main()
