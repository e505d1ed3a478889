"""What a class has handed in: notebooks in folders and archives, as nbgrader, otter and other platforms leave them.

| made by | looks like | student |
|---|---|---|
| nbgrader | submitted/ada/07/07_clip.ipynb | ada |
| otter, Canvas | submissions/ada_07_clip.ipynb, submissions/ada.zip | the file's name |
| Moodle | submissions/Ada L_12_assignsubmission_file_/07_clip.ipynb | Ada L |
| Gradescope | export/submission_12/07_clip.ipynb | submission_12 |
"""

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from minilip.course.grade.notebook import Unreadable

LARGEST = 100_000_000  # bytes of a notebook
MOODLE = re.compile(r"_\d+_assignsubmission_\w+$")


@dataclass(frozen=True)
class Submission:
    """One notebook of one student."""

    student: str
    path: Path  # of the notebook, or of the archive it lies in
    member: str = ""  # its name in the archive

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    def read(self) -> bytes:
        """What the notebook's file holds.

        Raises:
            Unreadable: it is not there, too large, or the archive is broken.
        """
        try:
            if not self.member:
                with self.path.open("rb") as file:
                    data = file.read(LARGEST + 1)
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                    data = file.read(LARGEST + 1)
        except OSError as error:
            raise Unreadable(f"{self}: {error.strerror or error}") from None
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, KeyError) as error:
            raise Unreadable(f"{self}: {error}") from None
        if len(data) > LARGEST:
            raise Unreadable(f"{self}: larger than {LARGEST / 1e6:g} MB")
        return data


def find(paths: Iterable[Path]) -> list[Submission]:
    """The notebooks that files, archives and folders hold, in the order of their names.

    Raises:
        Unreadable: a folder holds none.
    """
    found: list[Submission] = []
    for path in paths:
        if not path.is_dir():
            found += _of_file(path, path.stem)
            continue
        before = len(found)
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path)
            if file.suffix in (".ipynb", ".zip") and file.is_file() and not _hidden(inside.parts):
                student = MOODLE.sub("", inside.parts[0]) if len(inside.parts) > 1 else file.stem
                found += _of_file(file, student)
        if len(found) == before:
            raise Unreadable(f"{path}: no notebook in this folder")
    return found


def _of_file(path: Path, student: str) -> Iterator[Submission]:
    if path.suffix != ".zip":
        yield Submission(student, path)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        names = []
    members = [n for n in sorted(names) if n.endswith(".ipynb") and not _hidden(PurePosixPath(n).parts)]
    # An archive without a notebook is a submission still: reading it says what is wrong, in a row of its own.
    yield from (Submission(student, path, member) for member in members or ["*.ipynb"])


def _hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in parts)
