"""Move stored entries to the digest of code that has changed but measures the same, once a measurement has proved it.

    python -m minilip.studies.rekey protoclip
        measures the cheapest entry again with the code as it is. Where every number agrees with the stored one, all
        entries of the study get keys of this code; else none does, and they have to be measured afresh.
    python -m minilip.studies.rekey orbits --since HEAD~1 --settings '{"seed": 0, "steps": 20, "together": 20}'
        measures with the code of that revision too, here and now, and compares the two: for studies whose training
        comes out a little different on every machine, and with settings that may be smaller than any entry's.

Settings and results of entries are never touched. Two numbers agree when |new - old| <= tolerance * max(1, |old|).
On one machine with the same packages training repeats itself bit for bit; on another one a picture in fifty may fall to
the other side, for which the default leaves room. Of seconds, only that they were taken is compared.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch

from minilip._files import write
from minilip.studies import store
from minilip.studies.digest import fingerprint
from minilip.studies.store import Study, key

STUDIES = {  # name -> where its `Study` stands
    "clip": ("minilip.studies.clip.emoji", "STUDY"),
    "cpc-digits": ("minilip.studies.cpc.digits", "STUDY"),
    "cpc-voices": ("minilip.studies.cpc.voices", "STUDY"),
    "simclr-content": ("minilip.studies.simclr.content", "STUDY"),
    "simclr-transfer": ("minilip.studies.simclr.transfer", "STUDY"),
    "simclr-views": ("minilip.studies.simclr.views", "STUDY"),
    "hypersphere": ("minilip.studies.hypersphere.plane", "STUDY"),
    "vicreg": ("minilip.studies.vicreg.terms", "STUDY"),
    "mae": ("minilip.studies.mae.digits", "STUDY"),
    "mae-scratch": ("minilip.studies.mae.digits", "SCRATCH"),
    "robustness": ("minilip.studies.lie.robustness", "STUDY"),
    "orbits": ("minilip.studies.lie.route", "STUDY"),
    "rotation-and-scale": ("minilip.studies.lie.scale", "STUDY"),
    "blip": ("minilip.studies.blip.losses", "STUDY"),
    "blip-cleaning": ("minilip.studies.blip.cleaning", "STUDY"),
    "protoclip": ("minilip.studies.protoclip.emoji", "STUDY"),
    "protoclip-anchors": ("minilip.studies.protoclip.emoji", "ANCHORS"),
    "limber-scenes": ("minilip.studies.limber.scenes", "STUDY"),
    "limber-emoji": ("minilip.studies.limber.emoji", "STUDY"),
    "prolip": ("minilip.studies.prolip.scenes", "STUDY"),
    "prolip-emoji": ("minilip.studies.prolip.emoji", "STUDY"),
    "word-order": ("minilip.studies.compositionality.order", "STUDY"),
    "word-order-blip": ("minilip.studies.compositionality.matcher", "STUDY"),
    "language-prior": ("minilip.studies.compositionality.prior", "STUDY"),
    "spurious": ("minilip.studies.compositionality.bias", "STUDY"),
    "sugarcrepe": ("minilip.studies.compositionality.audit", "STUDY"),
}
TOLERANCE = 0.02  # against a stored result
EQUAL = 1e-6  # against the old code on the same machine
OLD = """
import importlib, json, sys, torch
torch.set_num_threads(1)
module, name, settings = sys.argv[1:]
print(json.dumps(getattr(importlib.import_module(module), name)(**json.loads(settings))))
"""


class Proof(NamedTuple):
    """What was compared, and how far apart it is."""

    entries: int  # with new keys
    settings: dict[str, Any]
    numbers: int
    differ: int  # that are not equal to the last bit
    largest: float
    where: str


def rekey(
    study: Study,
    tolerance: float = TOLERANCE,
    settings: dict[str, Any] | None = None,
    old_result: Any = None,
) -> Proof | None:
    """Give the course's entries of a study the keys of its code, if what this code measures agrees with what was.

    Args:
        tolerance: see above.
        settings: of the measurement; by default those of the old entry that trained fastest.
        old_result: what the old code makes of the settings; by default what is stored.

    Returns:
        None where nothing has to be moved.

    Raises:
        ValueError: the new result has other parts, or a number that does not agree: nothing is moved.
        LookupError: there is no old entry with these settings, and no `old_result`.
    """
    old = _old(study)
    if not old:
        return None
    if settings is None:
        settings = cheapest(study)
    new_key = key(settings, fingerprint(study.make))
    if old_result is None:
        if new_key not in old:
            raise LookupError(f"{study.name}: none of {len(old)} old entries has the settings {settings}")
        old_result = old[new_key][1]["result"]
    apart = compare(study, old_result, json.loads(json.dumps(study.make(**settings))))
    where = max(apart, key=lambda name: apart[name])
    if not apart[where] <= tolerance:
        raise ValueError(
            f"{study.name}: expected the numbers of {settings} within {tolerance} of what they were, got "
            f"{apart[where]:.2g} for {where}; nothing was moved"
        )
    path = _file(study)
    lines = path.read_text(encoding="utf-8").splitlines()
    for new, (row, entry) in old.items():
        lines[row] = json.dumps({"key": new, "settings": entry["settings"], "result": entry["result"]})
    write(path, "\n".join(lines) + "\n")
    return Proof(len(old), settings, len(apart), sum(d > 0 for d in apart.values()), apart[where], where)


def cheapest(study: Study) -> dict[str, Any]:
    """The settings of the old entry that trained fastest."""
    entries = (entry for _, entry in _old(study).values())
    return min(entries, key=lambda entry: entry["result"].get("seconds", 0))["settings"]


def _file(study: Study) -> Path:
    return store.SHIPPED / f"{study.name}.jsonl"


def _old(study: Study) -> dict[str, tuple[int, dict[str, Any]]]:
    """The course's entries of other code whose settings this code has not measured: {new key: (line, entry)}."""
    code, lines = fingerprint(study.make), _file(study).read_text(encoding="utf-8").splitlines()
    found = [(row, json.loads(line)) for row, line in enumerate(lines) if line.strip()]
    present = {entry["key"] for _, entry in found}
    # Of several with the same settings the last is the newest.
    return {new: (row, entry) for row, entry in found if (new := key(entry["settings"], code)) not in present}


def compare(study: Study, old: Any, new: Any) -> dict[str, float]:
    """How far apart each number of two results is: |new - old| / max(1, |old|); infinite where that has no meaning.

    Raises:
        ValueError: the results have not the same parts.
    """
    before, after = (dict(_leaves(study.numbers(result))) for result in (old, new))
    if before.keys() != after.keys():
        parts = ", ".join(sorted(before.keys() ^ after.keys())[:5])
        raise ValueError(f"{study.name}: expected a result with the parts of the old one, got a difference in {parts}")
    return {name: _apart(before[name], after[name]) for name in before}


def measured_by(revision: str, module: str, name: str, settings: dict[str, Any]) -> Any:
    """The result of a function as it was in a revision of this repository, in a process of its own."""
    repository = Path(__file__).parents[2]
    archive = ["git", "archive", "--format=zip", revision, "minilip"]
    data = subprocess.run(archive, cwd=repository, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(io.BytesIO(data)).extractall(folder)
        command = [sys.executable, "-c", OLD, module, name, json.dumps(settings)]
        env = {**os.environ, "PYTHONPATH": folder}
        out = subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out.splitlines()[-1])


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
    parser.add_argument("--settings", type=json.loads, help="as JSON; by default those of the cheapest entry")
    parser.add_argument("--since", metavar="REVISION", help="compare with what the code of this revision measures")
    parser.add_argument("--was", metavar="MODULE:FUNCTION", help="in that revision, where it had another name")
    parser.add_argument("--tolerance", type=float, help=f"default: {TOLERANCE}, with --since {EQUAL}")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    module, name = STUDIES[chosen.study]
    study: Study = getattr(import_module(module), name)
    tolerance = chosen.tolerance or (EQUAL if chosen.since else TOLERANCE)
    settings, old, proof = chosen.settings, None, None
    try:
        if chosen.since and _old(study):
            settings = settings or cheapest(study)
            was = chosen.was or f"{module}:{study.make.__qualname__}"
            module, name = was.split(":")
            old = measured_by(chosen.since, module, name, settings)
        proof = rekey(study, tolerance, settings, old)
    except (ValueError, LookupError) as error:
        raise SystemExit(str(error)) from None
    if proof is None:
        print(f"{chosen.study}: all entries have the keys of this code")
        return
    print(
        f"{chosen.study}: {proof.entries} entries have new keys. Measured with {json.dumps(proof.settings)}: of "
        f"{proof.numbers} numbers {proof.differ} differ, by {proof.largest:.2g} at most, in {proof.where}."
    )


if __name__ == "__main__":
    main()
