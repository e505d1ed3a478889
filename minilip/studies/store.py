"""Long measurements, made once by the code that a lesson shows and kept under the content that made them.

An entry's key is a digest of its settings and of the code that its measurement reaches (`digest.fingerprint`): change a
line of it that computes, and it is measured afresh, or `rekey` proves on one entry that nothing has changed. Entries
that come with the course lie in `measured/`; those of your own settings are added to `home() / "measured"`.
"""

import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tqdm.auto import tqdm

from minilip.data import home
from minilip.studies.digest import fingerprint

SHIPPED = Path(__file__).parent / "measured"


@dataclass(frozen=True)
class Study:
    """A file of entries, and what measures one.

    Args:
        name: of the file.
        make: takes settings, JSON values, and returns a result of JSON values.
        numbers: what of a result `rekey` compares.
    """

    name: str
    make: Callable[..., Any]
    numbers: Callable[[Any], Any] = lambda result: result

    def recall(self, settings: list[dict[str, Any]]) -> list[Any]:
        """The results of all these settings; `recall` of this study, with its code as it is."""
        return recall(self.name, settings, fingerprint(self.make), self.make.__module__)

    def complete(self, settings: Iterable[dict[str, Any]]) -> None:
        """Measure what the course's entries lack, one after the other: a run that was stopped goes on from there."""
        code, known = fingerprint(self.make), _known(self.name)
        missing = [each for each in settings if key(each, code) not in known]
        for each in tqdm(missing, desc=f"{self.name}, {len(missing)} entries", unit="entry"):
            stored(self.name, each, code, self.make, SHIPPED)


def entries(study: str) -> dict[str, dict[str, Any]]:
    """What is known of a study, the course's entries and your own: {key: {"settings": ..., "result": ...}}."""
    found = {name: json.loads(line) for name, line in _known(study).items()}
    return {name: {part: entry[part] for part in ("settings", "result")} for name, entry in found.items()}


def key(settings: dict[str, Any], code: str) -> str:
    """Of an entry: a digest of its settings and of the code's `fingerprint`."""
    return sha256(json.dumps([settings, code], sort_keys=True).encode()).hexdigest()[:16]


def recall(study: str, settings: list[dict[str, Any]], code: str, module: str) -> list[Any]:
    """The results of all these settings.

    Raises:
        LookupError: some are not known for this code; the message says how many, and which module measures them.
    """
    known, names = _known(study), [key(each, code) for each in settings]
    if missing := sum(name not in known for name in names):
        raise LookupError(
            f"{study}: {missing} of {len(names)} entries have not been measured with this code. "
            f"`python -m {module}` measures them, in minutes each."
        )
    return [json.loads(known[name])["result"] for name in names]


def stored(
    study: str, settings: dict[str, Any], code: str, make: Callable[..., Any], folder: Path | None = None
) -> dict[str, Any]:
    """The result of `make(**settings)`, from the store where it is known, else made now and added to it.

    What cannot be kept (a folder that no one can write to, a full disk, a result that is not JSON) is returned all the
    same, with a warning; that a folder cannot be written to is said before the work begins.

    Args:
        study: name of the file of entries.
        settings: JSON values only.
        code: `fingerprint` of `make`.
        make: returns JSON values only.
        folder: where a new entry goes (default: your own store).
    """
    name = key(settings, code)
    if (line := _known(study).get(name)) is not None:
        return json.loads(line)["result"]
    path = (home() / "measured" if folder is None else folder) / f"{study}.jsonl"
    try:
        _try(path)
    except OSError as error:
        warnings.warn(f"{study}: {path} cannot be written to ({error}); the result will not be kept", stacklevel=2)
    result = make(**settings)
    try:
        line = json.dumps({"key": name, "settings": settings, "result": result})
        _append(path, line)
    except (OSError, TypeError, ValueError) as error:
        warnings.warn(f"{study}: the result of {settings} could not be kept ({error})", stacklevel=2)
    return result if line is None else json.loads(line)["result"]


def _known(study: str) -> dict[str, str]:
    """Key of each entry -> its line, the course's and your own."""
    found: dict[str, str] = {}
    for folder in (SHIPPED, home() / "measured"):
        path = folder / f"{study}.jsonl"
        try:
            stat = path.stat()
        except OSError:  # none, or none that can be read
            continue
        found |= _lines(path, stat.st_mtime_ns, stat.st_size)
    return found


@lru_cache(maxsize=32)
def _lines(path: Path, _modified: int, _size: int) -> dict[str, str]:
    """Key -> line of the whole entries of a file, which is read once as long as it stays as it is."""
    found = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            entry["settings"], entry["result"]
            found[entry["key"]] = line
        except (ValueError, TypeError, KeyError):  # the last words of a run that was killed
            continue
    return found


def _try(path: Path) -> None:
    """Raise an OSError if nothing can be written to a file, and leave no trace."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") if path.exists() else TemporaryFile(dir=path.parent):
        pass


def _append(path: Path, line: str) -> None:
    """Add a line in one write, so that what several processes add to one file stays whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = f"\n{line}\n".encode()  # on a line of its own, even after one that a killed run has left unfinished
    with path.open("ab", buffering=0) as out:
        if out.write(data) != len(data):
            raise OSError("the disk is full")
