"""What a learner has solved, kept in `progress.json` in `home()`: nothing that can be read is ever lost.

{"clip.recall_at": {"status": "PASS", "hints": 1}, ...}

A change is read, made and written under a lock, so two kernels lose nothing of each other's. A file that cannot be read
whole is put aside before another is written. Where nothing can be kept, the session remembers.
"""

import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minilip import _files
from minilip.course import switches
from minilip.course.console import say
from minilip.data import home

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Rows = dict[str, dict[str, Any]]  # name -> {"status", "hints"}

STATUSES = ("PASS", "TODO", "FAIL")
RENAMED = {  # exercises that moved to another sitting keep what was solved
    "prolip.risk_coverage": "uncertainty.risk_coverage",
    "prolip.partial_rank_correlation": "uncertainty.partial_rank_correlation",
}
PATIENCE = 60.0  # seconds for which a lock is waited for; a kernel that hangs with it must not hang the others

_session: list[tuple[str, str | None, int]] = []  # what was recorded and is not on disk
_alone = threading.RLock()  # of the threads of this kernel
_said: set[str] = set()


def rows() -> Rows:
    """Everything recorded so far."""
    kept: Rows = {}
    if not _automated():
        try:
            with _locked(path := home() / "progress.json"):
                kept, whole = _read(path)
            if not whole:
                _say_once(f"{path} could not be read whole: {len(kept)} of its rows can be used")
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: no home for this user
            _unkept(error)
    return _with_session(kept)


def keep(name: str, status: str | None = None, hints: int = 0) -> None:
    """Record a verdict, or how many hints have been used. Solved once is solved."""
    with _alone:
        _session.append((name, status, hints))
        if _automated():
            return
        try:
            path = home() / "progress.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path):
                kept, whole = _read(path)
                if not whole:
                    aside = _put_aside(path)
                    say(f"{path} could not be read whole: {len(kept)} of its rows are kept, all of it in {aside.name}")
                _files.write(path, json.dumps(_with_session(kept), indent=1))
            _session.clear()
        except (OSError, RuntimeError, ValueError) as error:
            _unkept(error)


def _automated() -> bool:
    """Quick and strict runs are tests, and leave a learner's record alone."""
    return switches.strict() or switches.mode() == "quick"


def _with_session(kept: Rows) -> Rows:
    for name, status, hints in _session:
        row = kept.setdefault(name, {"status": "TODO", "hints": 0})
        if status and row["status"] != "PASS":
            row["status"] = status
        row["hints"] = max(row["hints"], hints)
    return kept


# ---- the file --------------------------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[Rows, bool]:
    """The rows that can be read, and whether that is all there is. A byte-order mark or a spare comma does no harm."""
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except FileNotFoundError:
        return {}, True
    try:
        found = json.loads(re.sub(r",\s*(?=[}\]])", "", text))
        entries = [(name, _row(row)) for name, row in found.items()]
        whole = True
    except (ValueError, AttributeError, RecursionError):  # a file cut short, say: take what rows there are
        pieces = re.findall(r'"([^"{}]+)"\s*:\s*(\{[^{}]*\})', text)
        entries, whole = [(name, _row(piece)) for name, piece in pieces], False
    good = {RENAMED.get(name, name): row for name, row in entries if row}
    return good, whole and len(good) == len(entries)


def _row(entry: Any) -> dict[str, Any] | None:
    """A row with a verdict that there is; hints that cannot be read count as none used."""
    try:
        entry = json.loads(entry) if isinstance(entry, str) else entry
        status, hints = entry["status"], entry.get("hints", 0)
        known = status in STATUSES
    except (ValueError, TypeError, AttributeError, KeyError):
        return None
    return {"status": status, "hints": max(hints, 0) if type(hints) is int else 0} if known else None


def _put_aside(path: Path) -> Path:
    """A copy under a name that nothing has yet: progress.json.bad, progress.json.bad.2, ..."""
    number = 1
    while (aside := path.with_name(f"{path.name}.bad{f'.{number}' if number > 1 else ''}")).exists():
        number += 1
    shutil.copyfile(path, aside)
    return aside


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's lock, which the system releases when its holder dies; go on without where there is none."""
    try:
        file = open(path.with_name("progress.lock"), "a+b")  # noqa: SIM115
    except OSError:
        yield
        return
    with file:
        until = time.monotonic() + PATIENCE
        while not _lock(file.fileno()) and time.monotonic() < until:
            time.sleep(0.01)
        yield


def _lock(handle: int) -> bool:
    """Try once. Closing the file releases it."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unkept(error: Exception) -> None:
    _say_once(f"progress is kept for this session only: {error}")


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        say(text)
