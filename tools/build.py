"""Build the notebooks: course/ in; notebooks/, exercises/, solutions/, RESULTS.md and the README's map out.

    python tools/build.py             execute every lesson and every solution
    python tools/build.py 07          execute lesson 07 (any number of beginnings of names)
    python tools/build.py --changed   execute the notebooks whose code is not that of the committed ones
    python tools/build.py --check     execute and write nothing; fail on any difference from what is committed

Whatever is executed, the prose of all notebooks is refreshed: a notebook whose code did not change keeps its outputs.
CONTRIBUTING.md says what a lesson and an exercise must look like.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

FOLDERS = ("notebooks", "exercises", "solutions")
TAGS = {"nbval-skip", "nbval-check-output", "raises-exception", "hide-input"}
CLAIMS = "application/vnd.minilip.claims+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
MAP = re.compile(r"(<!-- map -->\n).*?(<!-- /map -->)", re.S)
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
MARKER = re.compile(r"(\s*)#+\s*(?:begin|end)\s+solution\b", re.I)  # and its misspellings
HEADER = re.compile(
    r"# Exercise (\d+\.\d+) · (implement|prove|predict|break|explore) · (\d+) min · difficulty [1-5] of 5"
)
LARGEST_NOTEBOOK, LARGE_FIGURE = 1_000_000, 60_000  # bytes
CELL_TIMEOUT = 600  # seconds


class BuildError(Exception):
    """What is wrong, and in which file and cell."""


# --- Sources: cells, stubs, exercises --------------------------------------------------------------------------------


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
            raise BuildError(f"{cell.where}: unknown tag {', '.join(sorted(unknown))} (known: {', '.join(sorted(TAGS))})")
        if any(map(MARKER.match, cell.source.splitlines())) and (path.stem != "exercises" or cell.cell_type != "code"):
            raise BuildError(f"{cell.where}: solution markers belong in code cells of exercises.py")
        cell.metadata = NotebookNode(tags=tags) if tags else NotebookNode()
        if "hide-input" in tags:
            cell.metadata.jupyter = {"source_hidden": True}
        cells.append(cell)
    return cells


def first_line(cell: NotebookNode) -> str:
    return cell.source.partition("\n")[0].strip()


def code_of(cells: list[NotebookNode]) -> list[str]:
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


def exercise_minutes(lesson: str, cells: list[NotebookNode], stubs: list[NotebookNode]) -> list[int]:
    """The minutes of each exercise; refuses one that a learner could not plan, check or get help with."""
    like = "'# Exercise 7.3 · implement · 10 min · difficulty 2 of 5'"
    starts = [k for k, c in enumerate(cells) if c.cell_type == "code" and re.match("#+ *exercise", c.source, re.I)]
    for cell in cells[: starts[0] if starts else len(cells)]:
        if cell.cell_type == "code" and re.search(r"\bcheck\(|BEGIN SOLUTION", cell.source):
            raise BuildError(f"{cell.where}: an exercise without a header like {like}")
    minutes = []
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(cells)], strict=True), 1):
        where, header = cells[start].where, HEADER.fullmatch(first_line(cells[start]))
        if not header or header[1] != f"{int(lesson[:2])}.{number}":
            raise BuildError(f"{where}: expected exercise {int(lesson[:2])}.{number} with a header like {like}")
        code = "\n".join(code_of(stubs[start:end]))
        checks = set(re.findall(r'^[^#\n]*\bcheck\("([^"]+)"', code, re.M))
        hints = set(re.findall(r'^# *hint\("([^"]+)"\)', code, re.M))
        if re.search(r"^[^#\n]*\bhint\(", code, re.M):
            raise BuildError(f"{where}: comment the hint out, or running all cells spoils the exercise")
        if header[2] == "explore":
            if not any("Rubric" in cell.source for cell in cells[start:end] if cell.cell_type == "markdown"):
                raise BuildError(f"{where}: an explore exercise needs a markdown cell with its Rubric")
        elif not checks:
            raise BuildError(f"{where}: no check")
        elif checks != hints:
            raise BuildError(f"{where}: a check without a hint, or the reverse: {', '.join(sorted(checks ^ hints))}")
        elif not any(BEGIN in source for source in code_of(cells[start:end])):
            raise BuildError(f"{where}: no solution markers, so it is solved before it is begun")
        minutes.append(int(header[3]))
    return minutes


class Lesson:
    """One folder of course/: its cells, and the facts that headers and maps are made of."""

    def __init__(self, folder: Path):
        self.name = folder.name
        self.cells = read(folder / "lesson.py")
        self.title = self.heading(self.cells)
        self.derive, self.train = self.fact("You derive"), self.fact("You train")
        self.solutions = read(folder / "exercises.py") if (folder / "exercises.py").exists() else []
        self.stubs = [strip_solutions(cell) for cell in self.solutions]
        if self.solutions:
            self.heading(self.solutions)
        self.minutes = exercise_minutes(self.name, self.solutions, self.stubs)

    def heading(self, cells: list[NotebookNode]) -> str:
        start = f"# {self.name[:2]} · "
        if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith(start):
            raise BuildError(f"course/{self.name}: the first cells must be markdown and start with '{start}Title'")
        return first_line(cells[0]).removeprefix("# ")

    def fact(self, label: str) -> str:
        found = re.search(rf"^\*\*{label}\*\* (.+?)(?=\n\s*\n|\n\*\*|\Z)", self.cells[0].source, re.M | re.S)
        if not found and self.name != "00_start":
            raise BuildError(f"{self.cells[0].where}: no paragraph starts with '**{label}** '")
        return found[1] if found else ""


# --- Notebooks and maps as the sources say, without outputs ----------------------------------------------------------


class Course:
    """Everything the sources say: lessons, measured times, and `notebooks` by path, without outputs."""

    def __init__(self, root: Path):
        self.root = root
        found = re.search(r'^Repository = "https://github\.com/(.+)"', load(root / "pyproject.toml"), re.M)
        if not found:
            raise BuildError("pyproject.toml: no Repository under [project.urls]")
        self.repository = found[1]
        self.times: dict[str, dict[str, float | None]] = json.loads(load(root / "course" / "times.json") or "{}")
        self.lessons = [Lesson(path.parent) for path in sorted((root / "course").glob("[0-9][0-9]_*/lesson.py"))]
        self.notebooks: dict[str, NotebookNode] = {}
        for lesson in self.lessons:
            self.add(f"notebooks/{lesson.name}.ipynb", lesson.cells, self.runs_in(lesson.name))
            if lesson.solutions:
                plan = f"{len(lesson.minutes)} exercises, about {sum(lesson.minutes)} minutes."
                self.add(f"exercises/{lesson.name}.ipynb", lesson.stubs, plan)
                self.add(f"solutions/{lesson.name}.ipynb", lesson.solutions, plan)

    def add(self, path: str, cells: list[NotebookNode], line: str) -> None:
        title, _, rest = cells[0].source.partition("\n")
        first = new_markdown_cell(f"{title}\n\n{self.badge(path)} {line}\n{rest}".rstrip())
        first.source = MAP.sub(lambda found: self.map("../"), first.source)
        install = new_code_cell(
            'if "google.colab" in str(get_ipython()):\n'
            f'    %pip install --quiet "minilip @ git+https://github.com/{self.repository}"'
        )
        code = next((k for k, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
        new = []
        for cell in [first, *cells[1:code], install, *cells[code:]]:
            make = new_code_cell if cell.cell_type == "code" else new_markdown_cell
            before = sum(other.source == cell.source for other in new)
            digest = hashlib.sha256(f"{path} {cell.cell_type} {before} {cell.source}".encode()).hexdigest()
            new.append(make(cell.source, metadata=cell.metadata, id=digest[:12]))
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        notebook = new_notebook(cells=new, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
        notebook.nbformat_minor = 5  # the first with cell ids
        self.notebooks[path] = notebook

    def badge(self, path: str) -> str:
        image = "https://colab.research.google.com/assets/colab-badge.svg"
        page = f"https://colab.research.google.com/github/{self.repository}/blob/main/{path}"
        return f"[![Open in Colab]({image})]({page})"

    def runs_in(self, name: str) -> str:
        cpu, gpu = (self.times.get(name, {}).get(device) for device in ("cpu", "gpu"))
        on_cpu = f"Runs in {cpu} s on 2 CPU cores" if cpu else "2 CPU cores: not measured yet"
        return on_cpu + (f", {gpu} s on a GPU." if gpu else "; GPU: not measured yet.")

    def map(self, up: str) -> str:
        """The table of lessons; `up` leads from the page it stands on to the root of the repository."""
        rows = [["lesson", "you derive", "you train", "2 CPU cores", "GPU", "exercises", ""], ["---"] * 7]
        for lesson in self.lessons:
            if lesson.name == "00_start":
                continue
            path, plan = f"notebooks/{lesson.name}.ipynb", f"{len(lesson.minutes)}, {sum(lesson.minutes)} min"
            seconds = [self.times.get(lesson.name, {}).get(device) for device in ("cpu", "gpu")]
            rows.append([
                f"[{lesson.title}]({up}{path})", lesson.derive, lesson.train,
                *(f"{s} s" if s else "not measured yet" for s in seconds),
                f"[{plan}]({up}exercises/{lesson.name}.ipynb)" if lesson.minutes else "", self.badge(path),
            ])  # fmt: skip
        return "<!-- map -->\n" + table(rows) + "<!-- /map -->"

    def readme(self) -> str:
        text = load(self.root / "README.md")
        if not MAP.search(text):
            raise BuildError("README.md: no <!-- map --> and <!-- /map --> lines")
        return MAP.sub(lambda found: self.map(""), text)

    def results(self) -> str:
        """RESULTS.md from the claims in the committed lessons."""
        page, verdicts = [], []
        for lesson in self.lessons:
            claims = {}
            for cell in getattr(committed(self.root / f"notebooks/{lesson.name}.ipynb"), "cells", []):
                for output in cell.get("outputs", []):
                    claims |= {row["id"]: row for row in output.get("data", {}).get(CLAIMS, {}).get("rows", [])}
            if claims:
                rows = [["claim", "source", "measured", "holds", "note"], ["---"] * 5]
                for row in claims.values():
                    verdicts.append({True: "yes", False: "no", None: "not judged"}[row["holds"]])
                    rows.append([row["says"], row["source"], row["measured"], verdicts[-1], row["note"]])
                page.append(f"\n## [{lesson.title}](notebooks/{lesson.name}.ipynb)\n\n{table(rows)}")
        count = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("yes", "no", "not judged"))
        return (
            "# Results\n\nWhat the papers claim, what we measure at the scale of this course, and whether it holds.\n"
            f"Generated from the claims tables of the executed lessons. Of {len(verdicts)} claims: {count}.\n"
        ) + "".join(page)


def table(rows: list[list[str]]) -> str:
    cells = ([" ".join(cell.split()).replace("|", r"\|") for cell in row] for row in rows)
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


# --- Files -----------------------------------------------------------------------------------------------------------


def load(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def committed(path: Path) -> NotebookNode | None:
    return nbformat.read(path, as_version=4) if path.exists() else None


def write(path: Path, text: str) -> None:
    """All of it or nothing, whenever the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(text, "utf-8", newline="\n")
    os.replace(partial, path)


def write_notebook(root: Path, path: str, notebook: NotebookNode) -> None:
    nbformat.validate(notebook)
    text = nbformat.writes(notebook) + "\n"
    if len(text.encode()) > LARGEST_NOTEBOOK:
        raise BuildError(f"{path}: {len(text.encode()) / 1e6:.2f} MB, the limit is {LARGEST_NOTEBOOK / 1e6:.0f} MB")
    write(root / path, text)


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    blank = {"outputs": [], "execution_count": None}
    cells = [NotebookNode(cell, **blank) if cell.cell_type == "code" else cell for cell in notebook.cells]
    return NotebookNode(notebook, cells=cells)


def stale(course: Course) -> list[str]:
    found = (f"{folder}/{path.name}" for folder in FOLDERS for path in (course.root / folder).glob("*.ipynb"))
    return sorted(set(found) - set(course.notebooks))


# --- Execution -------------------------------------------------------------------------------------------------------


def execute(root: Path, path: str, notebook: NotebookNode) -> float:
    """Run the cells in place, clean their outputs; returns the seconds from kernel start to the last cell."""
    # The header promises a time on 2 cores, whatever machine this is.
    environment = os.environ | {"MINILIP_THREADS": "2", "MINILIP_STRICT": str(int(path.startswith("solutions/")))}
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT, kernel_name="python3", record_timing=False, store_widget_state=False,
        resources={"metadata": {"path": str(root)}},
    )  # fmt: skip
    start = time.perf_counter()
    try:
        client.execute(env=environment)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise BuildError(f"{path}: {error}") from error
    seconds = time.perf_counter() - start
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code":
            cell.outputs = clean(cell.outputs, f"{path}, cell {number} ({first_line(cell)!r})", root)
    del notebook.metadata.language_info["version"]
    return seconds
