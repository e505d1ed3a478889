"""What a learner hands in: the code cells of a notebook, and which lesson they belong to. Tags do not count."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn


class Unreadable(Exception):
    """A file that is no notebook of a lesson, and why."""


@dataclass(frozen=True)
class Cell:
    number: int  # among all cells, from 1
    source: str


def read(data: bytes, name: str) -> list[Cell]:
    """The code cells of a notebook's file, in any encoding of JSON and any notebook format from 4.0 on.

    Raises:
        Unreadable: it is not a notebook, or of an older format.
    """

    def refuse(why: str) -> NoReturn:
        raise Unreadable(f"{name}: {why}")

    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        refuse(f"expected a notebook, which is JSON ({error})")
    if not isinstance(found, dict) or not isinstance(found.get("cells"), list):
        older = isinstance(found, dict) and "worksheets" in found
        refuse("a notebook of format 3; save it anew with Jupyter" if older else "expected a notebook, found no cells")
    cells = []
    for number, cell in enumerate(found["cells"], 1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", "")
            lines = source if isinstance(source, list) else [source]
            cells.append(Cell(number, "".join(line for line in lines if isinstance(line, str))))
    return cells


def lesson_of(name: str, cells: list[Cell], lessons: dict[str, str]) -> str:
    """The lesson that the file is named after, else the one that its cells set up, else the one whose checks they call.

    Args:
        lessons: of each check.

    Raises:
        Unreadable: none of these names one lesson.
    """
    known, source = set(lessons.values()), "\n".join(cell.source for cell in cells)
    named = {lesson for lesson in known if lesson in Path(name).stem}
    set_up = set(re.findall(r"""\bsetup\(\s*["'](\w+)["']""", source)) & known
    checked = {lessons[name] for name in re.findall(r"""\bcheck\(\s*["']([\w.]+)["']""", source) if name in lessons}
    for candidates in (named, set_up, checked):
        if len(candidates) == 1:
            return next(iter(candidates))
    raise Unreadable(f"{name}: which lesson is it? Say --lesson, one of {', '.join(sorted(known))}")
