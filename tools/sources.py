"""Read course/NN_name/{lesson,exercises}.py, refuse what is not a lesson or an exercise, and make the stubs.

CONTRIBUTING.md says what the files must look like; every refusal names the file and the cell.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import jupytext
from nbformat import NotebookNode

TAGS = {"nbval-skip", "nbval-check-output", "raises-exception", "hide-input"}
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
MARKER = re.compile(r"(\s*)#+\s*(?:begin|end)\s+solution\b", re.I)  # and its misspellings
HEADER = re.compile(
    r"# Exercise (\d+[a-z]?\.\d+) · (implement|prove|predict|break|explore) · (\d+) min · difficulty ([1-5]) of 5"
)
LIKE = "'# Exercise 7.3 · implement · 10 min · difficulty 2 of 5'"


class BuildError(Exception):
    """What is wrong, and in which file and cell."""


def read(path: Path) -> list[NotebookNode]:
    """The cells of a percent-format file. Each knows `where` it stands, for messages."""
    # Uncommenting magics would turn a comment that starts with "more" or "copy" into code.
    percent = {"extension": ".py", "format_name": "percent", "comment_magics": False}
    cells = []
    for number, cell in enumerate(jupytext.read(path, fmt=percent).cells, 1):
        cell.where = f"course/{path.parent.name}/{path.name}, cell {number} ({first_line(cell)!r})"
        tags = cell.metadata.get("tags", [])
        unknown = set(tags) - TAGS | {key for key in cell.metadata if key != "tags" and not key.startswith("lines_to_")}
        if unknown:
            raise BuildError(
                f"{cell.where}: unknown tag {', '.join(sorted(unknown))} (known: {', '.join(sorted(TAGS))})"
            )
        if any(map(MARKER.match, cell.source.splitlines())) and (path.stem != "exercises" or cell.cell_type != "code"):
            raise BuildError(f"{cell.where}: solution markers belong in code cells of exercises.py")
        cell.metadata = NotebookNode(tags=tags) if tags else NotebookNode()
        if "hide-input" in tags:
            cell.metadata.jupyter = {"source_hidden": True}
        cells.append(cell)
    return cells


def first_line(cell: NotebookNode) -> str:
    return cell.source.partition("\n")[0].strip()


def code(cells: list[NotebookNode]) -> list[str]:
    return [cell.source for cell in cells if cell.cell_type == "code"]


def strip_solutions(cell: NotebookNode) -> NotebookNode:
    """The same cell with a stub in place of each solution."""
    kept: list[str] = []
    solution: list[str] | None = None
    for line in cell.source.splitlines():
        marker = MARKER.match(line)
        if not marker:
            (kept if solution is None else solution).append(line)
        elif line.strip() == BEGIN and solution is None:
            solution = []
        elif line.strip() == END and solution is not None:
            indent = marker[1]
            kept += [f"{indent}raise NotImplementedError"] if indent else unbound(solution, cell.where)
            solution = None
        else:
            raise BuildError(f"{cell.where}: misspelt, nested or unbalanced solution marker {line.strip()!r}")
    if solution is not None:
        raise BuildError(f"{cell.where}: {BEGIN!r} without {END!r}")
    return NotebookNode(cell, source="\n".join(kept))


def unbound(solution: list[str], where: str) -> list[str]:
    """`name = ...` for each name that a top-level solution binds, or `...` if it binds none."""
    try:
        statements = ast.parse("\n".join(solution)).body
    except SyntaxError as error:
        raise BuildError(f"{where}: the solution is not complete Python: {error.msg}") from error
    names = []
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.append(statement.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            nodes = (node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
            names += [node.id for node in nodes if isinstance(node.ctx, ast.Store)]
    return [f"{name} = ..." for name in dict.fromkeys(names)] or ["..."]


class Asked(NamedTuple):
    """An exercise as its learner is asked it: "7.1", "The loss", "implement", 15, 2, {"clip.clip_loss": "my_loss"}."""

    number: str
    title: str
    kind: str
    minutes: int
    difficulty: int  # of 5
    checks: dict[str, str]  # the name of each check, and the learner's name for what it judges
    rubric: str = ""  # what a person goes by, of an explore exercise


def asked(lesson: str, cells: list[NotebookNode], stubs: list[NotebookNode]) -> list[Asked]:
    """The exercises; refuses one that a learner could not plan, check or get help with."""
    starts = [k for k, c in enumerate(cells) if c.cell_type == "code" and re.match("#+ *exercise", c.source, re.I)]
    ends = [*starts, len(cells)][1:]
    for cell in cells[: [*starts, len(cells)][0]]:
        if cell.cell_type == "code" and re.search(rf'\bcheck\(\s*"|{BEGIN}', cell.source):
            raise BuildError(f"{cell.where}: an exercise without a header like {LIKE}")
    found = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True), 1):
        where, header = cells[start].where, HEADER.fullmatch(first_line(cells[start]))
        if not header or header[1] != f"{lesson}.{number}":
            raise BuildError(f"{where}: expected exercise {lesson}.{number} with a header like {LIKE}")
        text = "\n".join(code(stubs[start:end]))
        checks = set(re.findall(r'^[^#\n]*\bcheck\(\s*"([^"]+)"', text, re.M))
        bound = {check: name for name, check in re.findall(r'^(\w+) = check\("([^"]+)", \1\)\.use$', text, re.M)}
        hints = set(re.findall(r'^# *hint\("([^"]+)"\)', text, re.M))
        if re.search(r"^[^#\n]*\bhint\(", text, re.M):
            raise BuildError(f"{where}: comment the hint out, or running all cells spoils the exercise")
        if header[2] == "explore":
            if not any("Rubric" in cell.source for cell in cells[start:end] if cell.cell_type == "markdown"):
                raise BuildError(f"{where}: an explore exercise needs a markdown cell with its Rubric")
        elif not checks:
            raise BuildError(f"{where}: no check")
        elif checks != hints:
            raise BuildError(f"{where}: a check without a hint, or the reverse: {', '.join(sorted(checks ^ hints))}")
        elif unnamed := checks - bound.keys():
            raise BuildError(f'{where}: a check is called as f = check("...", f).use, not {", ".join(sorted(unnamed))}')
        elif not any(BEGIN in source for source in code(cells[start:end])):
            raise BuildError(f"{where}: no solution markers, so it is solved before it is begun")
        above = cells[[0, *starts][number - 1] : start]
        titles = re.findall(rf"^## {re.escape(header[1])} (.+)$", "\n".join(cell.source for cell in above), re.M)
        rubric = [found for cell in cells[start:end] for found in re.findall(r"\*\*Rubric\.?\*\*:? *(.+)", cell.source)]
        plan = (header[2], int(header[3]), int(header[4]))
        found.append(Asked(header[1], "".join(titles[-1:]), *plan, bound, " ".join(rubric)))
    return found


class Lesson:
    """One folder of course/: its cells, and the facts that headers and maps are made of."""

    def __init__(self, folder: Path):
        self.name = folder.name
        self.number = folder.name.partition("_")[0]  # "07"; a lesson in several sittings is "12", "12b", ...
        self.cells = read(folder / "lesson.py")
        self.title = self.heading(self.cells)
        self.derive, self.train = self.fact("You derive"), self.fact("You train")
        self.solutions = read(folder / "exercises.py") if (folder / "exercises.py").exists() else []
        self.stubs = [strip_solutions(cell) for cell in self.solutions]
        if self.solutions:
            self.heading(self.solutions)
        self.exercises = asked(self.number.lstrip("0"), self.solutions, self.stubs)
        self.minutes = [exercise.minutes for exercise in self.exercises]

    def heading(self, cells: list[NotebookNode]) -> str:
        start = f"# {self.number} · "
        if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith(start):
            raise BuildError(
                f"course/{self.name}: its files must begin with a markdown cell that starts with '{start}Title'"
            )
        return first_line(cells[0]).removeprefix("# ")

    def fact(self, label: str) -> str:
        found = re.search(rf"^\*\*{label}\*\* (.+?)(?=\n\s*\n|\n\*\*|\Z)", self.cells[0].source, re.M | re.S)
        if not found and self.name != "00_start":
            raise BuildError(f"{self.cells[0].where}: no paragraph starts with '**{label}** '")
        return found[1] if found else ""
