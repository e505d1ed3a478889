"""Build the notebooks: course/ in; notebooks/, exercises/, solutions/, RESULTS.md and the README's map out.

What the exercises ask goes to minilip/course/exercises.json: whoever grades has it with the library.

    python -m tools.build             execute every lesson and every solution
    python -m tools.build 07          execute lesson 07 (any number of beginnings of names)
    python -m tools.build --changed   execute the notebooks whose code is not that of the committed ones
    python -m tools.build --check     execute and write nothing; fail on any difference from what is committed

Whatever is executed, the prose of all notebooks is refreshed: a notebook whose code did not change keeps its outputs.
With MINILIP_BUDGET set, run times are not recorded. CONTRIBUTING.md says what a lesson must look like.
"""

import argparse
import copy
import hashlib
import json
import os
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from minilip._files import write

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `python tools/build.py` finds the package that it lies in, as `python -m` does
from tools.execute import device, execute, rounded  # noqa: E402
from tools.sources import BuildError, Lesson  # noqa: E402

FOLDERS = ("notebooks", "exercises", "solutions")
CLAIMS = "application/vnd.minilip.claims+json"
MAP = re.compile(r"<!-- map -->\n.*?<!-- /map -->", re.S)
LARGEST_NOTEBOOK = 1_000_000  # bytes


# --- Files -----------------------------------------------------------------------------------------------------------


def load(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def load_notebook(path: Path) -> NotebookNode | None:
    return nbformat.read(path, as_version=4) if path.exists() else None


def write_notebook(path: Path, notebook: NotebookNode) -> None:
    nbformat.validate(notebook)
    text = nbformat.writes(notebook) + "\n"
    if len(text.encode()) > LARGEST_NOTEBOOK:
        size, most = len(text.encode()) / 1e6, LARGEST_NOTEBOOK / 1e6
        raise BuildError(f"{path.parent.name}/{path.name}: {size:.2f} MB, more than {most:.0f} MB")
    write(path, text)


# --- What the sources say: notebooks without outputs, maps -----------------------------------------------------------


class Course:
    """The lessons, their measured times, and every notebook by its path, without outputs."""

    def __init__(self, root: Path):
        self.root = root
        found = re.search(r'^Repository = "https://github\.com/(.+)"', load(root / "pyproject.toml"), re.M)
        if not found:
            raise BuildError("pyproject.toml: no Repository under [project.urls]")
        self.repository = found[1]
        self.times: dict[str, dict[str, int | None]] = json.loads(load(root / "course" / "times.json") or "{}")
        self.lessons = [Lesson(path.parent) for path in sorted((root / "course").glob("[0-9][0-9]*_*/lesson.py"))]
        self.notebooks: dict[str, NotebookNode] = {}
        for lesson in self.lessons:
            cpu, gpu = self.seconds(lesson)
            self.add(f"notebooks/{lesson.name}.ipynb", lesson.cells, f"Run time: {cpu} on 2 CPU cores, {gpu} on a GPU.")
            if lesson.solutions:
                plan = f"{len(lesson.minutes)} exercises, about {sum(lesson.minutes)} minutes."
                self.add(f"exercises/{lesson.name}.ipynb", lesson.stubs, plan)
                self.add(f"solutions/{lesson.name}.ipynb", lesson.solutions, plan)

    def add(self, path: str, cells: list[NotebookNode], line: str) -> None:
        """A notebook with a badge and a line under its title, and an install cell before its first code cell."""
        title, _, rest = cells[0].source.partition("\n")
        first = new_markdown_cell(f"{title}\n\n{self.badge(path)} {line}\n{rest}".rstrip())
        install = new_code_cell(
            'if "google.colab" in str(get_ipython()):\n'
            f'    %pip install --quiet "minilip @ git+https://github.com/{self.repository}"'
        )
        code = next((k for k, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
        new: list[NotebookNode] = []
        for cell in [first, *cells[1:code], install, *cells[code:]]:
            make = new_code_cell if cell.cell_type == "code" else new_markdown_cell
            text = MAP.sub(lambda _: self.map("../"), cell.source) if make is new_markdown_cell else cell.source
            twins = sum(other.source == text for other in new)
            digest = hashlib.sha256(f"{path} {cell.cell_type} {twins} {text}".encode()).hexdigest()
            new.append(make(text, metadata=cell.metadata, id=digest[:12]))
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
        # Format 4.5 is the first with cell ids.
        self.notebooks[path] = new_notebook(cells=new, metadata=metadata, nbformat_minor=5)

    def badge(self, path: str) -> str:
        image = "https://colab.research.google.com/assets/colab-badge.svg"
        page = f"https://colab.research.google.com/github/{self.repository}/blob/main/{path}"
        return f"[![Open in Colab]({image})]({page})"

    def seconds(self, lesson: Lesson) -> list[str]:
        measured = self.times.get(lesson.name, {})
        return [f"{measured[device]} s" if measured.get(device) else "not measured yet" for device in ("cpu", "gpu")]

    def map(self, up: str) -> str:
        """The table of lessons; `up` leads from the page it stands on to the root of the repository."""
        rows = [["lesson", "you derive", "you train", "2 CPU cores", "GPU", "exercises", ""], ["---"] * 7]
        for lesson in self.lessons:
            if lesson.name != "00_start":
                path, plan = f"notebooks/{lesson.name}.ipynb", f"{len(lesson.minutes)}, {sum(lesson.minutes)} min"
                exercises = f"[{plan}]({up}exercises/{lesson.name}.ipynb)" if lesson.solutions else ""
                facts = [lesson.derive, lesson.train, *self.seconds(lesson), exercises, self.badge(path)]
                rows.append([f"[{lesson.title}]({up}{path})", *facts])
        return f"<!-- map -->\n\n{table(rows)}\n<!-- /map -->"

    def pages(self) -> dict[str, str]:
        """README.md with its map, RESULTS.md from the claims in the executed lessons, and what the exercises ask."""
        readme = load(self.root / "README.md")
        if not MAP.search(readme):
            raise BuildError("README.md: no <!-- map --> line with a <!-- /map --> line below it")
        sections, verdicts = "", []
        for lesson in self.lessons:
            path = f"notebooks/{lesson.name}.ipynb"
            notebook = load_notebook(self.root / path)
            claims: dict[str, dict] = {}
            for output in (output for cell in code_cells(notebook) for output in cell.outputs) if notebook else ():
                claims |= {row["id"]: row for row in output.get("data", {}).get(CLAIMS, {}).get("rows", [])}
            rows = [["claim", "source", "measured", "holds", "note"], ["---"] * 5]
            for row in claims.values():
                verdicts.append({True: "yes", False: "no", None: "not judged"}.get(row["holds"], row["holds"]))
                rows.append([row["says"], row["source"], row["measured"], verdicts[-1], row["note"]])
            if claims:
                sections += f"\n## [{lesson.title}]({path})\n\n{table(rows)}"
        counts = (verdicts.count(verdict) for verdict in ("yes", "no", "not testable here", "not judged"))
        yes, no, untestable, unjudged = counts
        results = (
            "# Results\n\nWhat the papers claim, what we measure at the scale of this course, and whether it holds.\n"
            "Generated by `tools/build.py` from the claims tables of the executed lessons.\n"
            f"{len(verdicts)} claims: {yes} hold, {no} do not, {untestable} are not testable here, "
            f"{unjudged} not judged.\n{sections}"
        )
        asked = {x.name: [exercise._asdict() for exercise in x.exercises] for x in self.lessons if x.exercises}
        return {
            "README.md": MAP.sub(lambda _: self.map(""), readme),
            "RESULTS.md": results,
            "minilip/course/exercises.json": json.dumps(asked, indent=1) + "\n",
        }


def table(rows: list[list[str]]) -> str:
    cells = ([" ".join(str(cell).split()).replace("|", r"\|") for cell in row] for row in rows)
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


# --- Commands --------------------------------------------------------------------------------------------------------


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    bare = copy.deepcopy(notebook)
    for cell in code_cells(bare):
        cell.update(outputs=[], execution_count=None)
    return bare


def executed(path: Path, notebook: NotebookNode) -> NotebookNode | None:
    """The committed notebook, if it was executed with the code that the source has now."""
    old = load_notebook(path)
    if not old or any(cell.execution_count is None for cell in code_cells(old)):
        return None
    return old if [c.source for c in code_cells(old)] == [c.source for c in code_cells(notebook)] else None


def stale(course: Course) -> list[str]:
    """Notebooks without a source."""
    found = {f"{folder}/{path.name}" for folder in FOLDERS for path in (course.root / folder).glob("*.ipynb")}
    return sorted(found - set(course.notebooks))


def build(root: Path, chosen: list[str], changed: bool = False) -> None:
    """Execute the chosen lessons (all if none is named; only those with other code if `changed`); write everything."""
    course = Course(root)
    unknown = [start for start in chosen if not any(lesson.name.startswith(start) for lesson in course.lessons)]
    if unknown:
        raise BuildError(f"course/: no lesson starts with {', '.join(unknown)}")
    for path, notebook in course.notebooks.items():
        name = Path(path).stem
        skip = path.startswith("exercises/") or not name.startswith(tuple(chosen or [""]))
        if skip or (changed and executed(root / path, notebook)):
            continue
        print(f"{path} ...", flush=True)
        seconds = execute(root, path, notebook)
        write_notebook(root / path, notebook)
        print(f"  {seconds:.0f} s, {(root / path).stat().st_size / 1e6:.2f} MB")
        if path.startswith("notebooks/") and not os.environ.get("MINILIP_BUDGET"):
            measured = {"cpu": None, "gpu": None} | course.times.get(name, {})
            course.times[name] = measured | {device(): rounded(seconds)}
            write(root / "course" / "times.json", json.dumps(course.times, indent=1, sort_keys=True) + "\n")

    course = Course(root)  # headers and maps now know the new times
    for path, notebook in course.notebooks.items():
        if path.startswith("exercises/"):
            write_notebook(root / path, notebook)
        elif old := executed(root / path, notebook):
            for cell, old_cell in zip(code_cells(notebook), code_cells(old), strict=True):
                cell.update(outputs=old_cell.outputs, execution_count=old_cell.execution_count)
            write_notebook(root / path, notebook)
        else:
            print(f"{path}: its code changed and was not executed")
    for path in stale(course):
        (root / path).unlink()
    for path, text in course.pages().items():
        write(root / path, text)


def differences(root: Path) -> list[str]:
    """What a build would change, figures and printed numbers apart."""
    course = Course(root)
    found = [f"{path}: has no source" for path in stale(course)]
    for path, notebook in course.notebooks.items():
        exercise, old = path.startswith("exercises/"), load_notebook(root / path)
        if not old:
            found.append(f"{path}: missing")
        elif (old if exercise else without_outputs(old)) != notebook:
            found.append(f"{path}: differs from its source")
        elif not exercise and not executed(root / path, notebook):
            found.append(f"{path}: has cells that were not executed")
    generated = course.pages().items()
    return found + [f"{path}: differs from what is generated" for path, text in generated if load(root / path) != text]


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lesson", nargs="*", help="the beginning of a lesson's name")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--changed", action="store_true", help="execute only what has other code than before")
    mode.add_argument("--check", action="store_true", help="compare with what is committed")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            found = differences(root)
            print("\n".join(found) or "course/ and the notebooks agree")
            return int(bool(found))
        build(root, options.lesson, options.changed)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
