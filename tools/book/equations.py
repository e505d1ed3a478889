"""Every numbered equation of the course, where it stands, and the cell that checks it.

An equation is numbered by `\tag{3}`. It is checked by the cell that calls `same("(3) ...", left, right)`; a comment
`# check (2), (3): ...` says so too, where one line checks two.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from nbformat import NotebookNode

DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.S)
TAG = re.compile(r"\\tag\{([^}]*)\}")
HEADING = re.compile(r"^#{1,4} +(.+)$", re.M)
NUMBER = r"\((\d+[a-z]?'*)\)"
LEADING = re.compile(rf"\s*{NUMBER}(?:(?:, | and | to ){NUMBER})*")
COMMENT = re.compile(r"^# check (.+?)(?::|$)", re.M)
PRINTED = r"^{name}  left  (.+)\n +right (.+)\n +relative difference (\S+)$"


@dataclass
class Check:
    """One call of `same`: its name, and what the executed notebook printed of it."""

    name: str
    left: str = ""
    right: str = ""
    apart: str = ""


@dataclass
class Equation:
    number: str  # "6'"
    tex: str
    heading: str  # of the section that it stands in
    cells: list[int] = field(default_factory=list)  # of the notebook, that check it
    checks: list[Check] = field(default_factory=list)

    @property
    def label(self) -> str:
        return label(self.number)


def label(number: str) -> str:
    """What an address can hold: "6'" -> "6-prime"."""
    return number.replace("''", "-second").replace("'", "-prime")


def equations(cells: list[NotebookNode]) -> list[Equation]:
    """The numbered equations of a lesson's cells, in order, with their checks."""
    found: dict[str, Equation] = {}
    heading = ""
    for cell in cells:
        if cell.cell_type != "markdown":
            continue
        places = [(m.start(), "heading", m[1]) for m in HEADING.finditer(cell.source)]
        places += [(m.start(), "display", m[1]) for m in DISPLAY.finditer(cell.source)]
        for _, kind, text in sorted(places):
            if kind == "heading":
                heading = text
            for number in TAG.findall(text) if kind == "display" else ():
                if number in found:
                    where = f"{found[number].heading!r} and {heading!r}"
                    raise ValueError(f"equation ({number}) stands there twice: in {where}")
                found[number] = Equation(number, text.strip(), heading)
    for k, cell in enumerate(cells):
        if cell.cell_type == "code":
            for number, checks in numbers(cell).items():
                if number in found:
                    found[number].cells.append(k)
                    found[number].checks += checks
    return list(found.values())


def numbers(cell: NotebookNode) -> dict[str, list[Check]]:
    """The equations that a code cell checks, and the calls of `same` that carry their number."""
    found: dict[str, list[Check]] = {}
    for comment in COMMENT.findall(cell.source):
        found |= {number: [] for number in re.findall(NUMBER, comment)}
    for pattern, name in names(cell.source):
        start = LEADING.match(name)
        for number in re.findall(NUMBER, start[0]) if start else ():
            found.setdefault(number, []).extend(printed(cell, pattern) or [Check(name.strip())])
    return found


def names(source: str) -> Iterator[tuple[str, str]]:
    """The first argument of each call of `same`: as a pattern of what is printed, and as it can be read."""
    for node in ast.walk(ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "same" and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield re.escape(str(first.value)), str(first.value)
            elif isinstance(first, ast.JoinedStr):
                parts = [str(x.value) if isinstance(x, ast.Constant) else None for x in first.values]
                yield "".join(".+?" if x is None else re.escape(x) for x in parts), "".join(x or "..." for x in parts)


def printed(cell: NotebookNode, pattern: str) -> list[Check]:
    """What an executed cell printed under this name; nothing where it was not executed."""
    text = "".join(output.get("text", "") for output in cell.get("outputs", []))
    found = re.finditer(PRINTED.format(name=f"({pattern})"), text, re.M)
    return [Check(*(" ".join(part.split()) for part in m.groups())) for m in found]
