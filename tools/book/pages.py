"""The pages of the book, made of what is committed: notebooks as they are, and Markdown beside them.

A notebook changes while Sphinx reads it, so that the one to download is the committed one.
"""

import copy
import functools
import json
import posixpath
import re
import shutil
from pathlib import Path
from typing import Any

from minilip._files import write
from minilip.course.checks import catalogue
from tools.build import CLAIMS, ROOT, Course, load_notebook
from tools.sources import BuildError, Lesson

from . import api, equations
from .mistakes import IDEAS, mistakes
from .text import plain, words

LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^()\s]+)\)")
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\(([^)]*)\) ?")
CHECK = re.compile(r'^\w+ = check\("([^"]+)"', re.M)


# --- The source of the book ------------------------------------------------------------------------------------------


def part(course: Course, chosen: list[str]) -> Course:
    """The lessons of a course whose names begin so, all of them if none is chosen."""
    course = copy.copy(course)
    course.lessons = [x for x in course.lessons if not chosen or x.name.startswith(tuple(chosen))]
    kept = {x.name for x in course.lessons}
    course.notebooks = {path: x for path, x in course.notebooks.items() if Path(path).stem in kept}
    if not kept:
        raise BuildError(f"course/: no lesson starts with {', '.join(chosen)}")
    return course


def stage(course: Course, out: Path) -> None:
    """Write everything that Sphinx reads into `out`, and nothing else."""
    root = course.root
    shutil.rmtree(out, ignore_errors=True)
    for path in course.notebooks:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, out / path)
    modules = api.pages()
    texts = {
        "equations.md": equation_page(course),
        "mistakes.md": mistake_page(course),
        "solutions.md": solution_page(course),
        "library.md": library_page(modules),
        **{f"library/{name}.md": api.page(name, found, github(course)) for name, found in modules.items()},
        **{name: (root / name).read_text("utf-8") for name in ("RESULTS.md", "CONTRIBUTING.md")},
        "index.md": (root / "README.md").read_text("utf-8") + contents(course),
    }
    for name, text in texts.items():
        write(out / name, text)
        for _, _, target in LINK.findall(text):
            if (root / target).suffix in (".png", ".svg") and (root / target).is_file():
                (out / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / target, out / target)
    for name, text in texts.items():  # now that every page is there to link to
        write(out / name, adapt(text, name, out, course))


def github(course: Course, kind: str = "blob") -> str:
    return f"https://github.com/{course.repository}/{kind}/main"


def adapt(text: str, page: str, out: Path, course: Course) -> str:
    """Markdown of the repository as a page of the book: no badges, and links that lead somewhere."""

    def link(match: re.Match) -> str:
        image, shown, target = match.groups()
        path, _, fragment = target.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if place == "README.md":
            return f"[{shown}]({posixpath.relpath('index.md', posixpath.dirname(page))})"
        if image or "://" in target or not path or (out / place).is_file():
            return match[0]
        if (course.root / place).exists():
            address = f"{github(course, 'blob' if (course.root / place).is_file() else 'tree')}/{place}"
            return f"[{shown}]({address}{'#' if fragment else ''}{fragment})"
        return match[0]

    def badge(match: re.Match) -> str:
        line = text[: match.start()].rpartition("\n")[2]
        return f"[Colab]({match[1]}) " if line.startswith("|") else ""  # under a title the page has a button for it

    return LINK.sub(link, BADGE.sub(badge, text))


def read_notebook(text: str, page: str, out: Path, course: Course) -> str:
    """The JSON of a notebook as the book shows it: targets for links, no cell that only Colab runs."""
    notebook = json.loads(text)
    folder, name = posixpath.split(page)
    lesson = next(x for x in course.lessons if f"{x.name}.ipynb" == name)
    found = equations.equations(lesson.cells) if folder == "notebooks" else []
    checking: dict[str, list[str]] = {}  # source of a cell -> targets of the equations that it is the first to check
    for e in found:
        for k in e.cells[:1]:
            checking.setdefault(lesson.cells[k].source, []).append(f"check-{lesson.name}-{e.label}")
    cells: list[dict[str, Any]] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source = adapt(source, page, out, course)
            if folder == "solutions" and not cells:
                source = re.sub(r"(?<=: )exercises$", "solutions", source, count=1, flags=re.M)
            if found:
                source = with_targets(source, lesson.name)
        elif '"google.colab" in' in source:
            continue
        else:
            targets = checking.get(source, [])
            if folder == "exercises":
                targets = [f"check-{name}" for name in CHECK.findall(source)]
            if targets:
                lines = "\n\n".join(f"({target})=" for target in targets)
                cells.append({"cell_type": "markdown", "metadata": {}, "source": lines})
            for output in cell["outputs"]:
                output.get("data", {}).pop(CLAIMS, None)  # its Markdown twin says the same
        cells.append(cell | {"source": source})
    for k, cell in enumerate(cells):
        cell["id"] = f"cell-{k}"
    return json.dumps(notebook | {"cells": cells})


def with_targets(source: str, lesson: str) -> str:
    """A target before each displayed formula with a number."""

    def target(match: re.Match) -> str:
        names = [f"(eq-{lesson}-{equations.label(number)})=\n" for number in equations.TAG.findall(match[0])]
        alone = not source[: match.start()].rpartition("\n")[2].strip()
        return ("\n" + "\n".join(names) + "\n" if names and alone else "") + match[0]

    return equations.DISPLAY.sub(target, source)


# --- Pages that exist nowhere else -----------------------------------------------------------------------------------


def contents(course: Course) -> str:
    """The table of contents in the margin."""
    exercises = [f"exercises/{x.name}" for x in course.lessons if x.solutions]
    parts = {
        "Lessons": [f"notebooks/{x.name}" for x in course.lessons],
        "Exercises": [*exercises, "solutions"],
        "All of the course": ["equations", "mistakes", "RESULTS"],
        "The library": ["library", "CONTRIBUTING"],
    }
    trees = (
        "```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(pages) + "\n```"
        for caption, pages in parts.items()
    )
    return "\n\n" + "\n\n".join(trees) + "\n"


def course_equations(course: Course) -> list[tuple[Lesson, list[equations.Equation]]]:
    """The numbered equations of every lesson that has any, checks with what the executed notebook printed."""
    found = []
    for lesson in course.lessons:
        notebook = load_notebook(course.root / f"notebooks/{lesson.name}.ipynb")
        outputs = {c.source: c.outputs for c in notebook.cells if c.cell_type == "code"} if notebook else {}
        cells = [c if c.cell_type == "markdown" else c | {"outputs": outputs.get(c.source, [])} for c in lesson.cells]
        if mine := equations.equations([type(lesson.cells[0])(c) for c in cells]):
            found.append((lesson, mine))
    return found


def equation_page(course: Course) -> str:
    found = course_equations(course)
    total = sum(len(each) for _, each in found)
    out = [
        "# Equations",
        f"All {total} numbered equations of the course, each with the cell that checks it: both sides are computed, "
        "without common code, and have to agree. The number leads to the derivation, *check* to the cell. What is "
        "shown was printed when the lesson was last executed.",
    ]
    for lesson, each in found:
        out.append(f"## {lesson.title}")
        out.append(f"[The lesson](notebooks/{lesson.name}.ipynb)")
        for e in each:
            out.append(f"[({e.number})](#eq-{lesson.name}-{e.label}) · {e.heading}")
            out.append(f"$$\n{e.tex}\n$$")
            check = f"[check](#check-{lesson.name}-{e.label})" if e.cells else "*not checked*"
            lines = [f"{check} · {printed(c)}" for c in e.checks] or [check]
            out.append("\n".join(f"- {line}" for line in lines))
    return "\n\n".join(out) + "\n"


def printed(check: equations.Check) -> str:
    if not check.left:
        return plain(check.name)
    return f"{plain(check.name)}: `{check.left}` and `{check.right}`, relative difference {check.apart}"


def mistake_page(course: Course) -> str:
    found = mistakes()
    here = {x.name for x in course.lessons}
    places = {
        name: f"#check-{name}" if lesson in here else f"exercises/{lesson}.ipynb"
        for name, (lesson, _) in catalogue().items()
    }
    numbers = {exercise: number(exercise) for exercise in catalogue()}
    total = sum(len(each) for each in found.values())
    out = [
        "# Mistakes",
        f"What can be misunderstood, by the idea behind it: the {total} mistakes that `check` tells apart in "
        f"{len(numbers)} exercises. The number leads to the exercise. An attempt that does on every input what one "
        "of these does gets its name and these words; none of them gives the answer away.",
        "| idea | mistakes | exercises |\n| --- | --- | --- |\n"
        + "\n".join(
            f"| [{title}](#idea-{slug(title)}) | {len(each)} | {len({e for m in each for e in m.exercises})} |"
            for title, each in found.items()
        ),
    ]
    says = {one.title: one.says for one in IDEAS}
    for title, each in found.items():
        out.append(f"(idea-{slug(title)})=\n## {title}")
        out.append(says[title])
        lines = []
        for mistake in each:
            where = ", ".join(f"[{numbers[e]}]({places[e]})" for e in mistake.exercises)
            lines.append(f"- **{plain(mistake.name)}** · {plain(words(mistake.message))} ({where})")
        out.append("\n".join(lines))
    return "\n\n".join(out) + "\n"


@functools.cache
def number(exercise: str) -> str:
    """ "clip.clip_loss" -> "7.1"; the name itself for one that no notebook asks."""
    asked = json.loads((ROOT / "minilip" / "course" / "exercises.json").read_text("utf-8"))
    for exercises in asked.values():
        for one in exercises:
            if exercise in one["checks"]:
                return one["number"]
    return exercise


def slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def solution_page(course: Course) -> str:
    names = [f"solutions/{x.name}" for x in course.lessons if x.solutions]
    return (
        "# Solutions\n\nOne way to do each exercise, executed. They are made of the same cells as the exercises; the "
        "search does not look into them. An instructor who hands out the exercises finds the rubrics of the open ones "
        "there too.\n\n```{toctree}\n:maxdepth: 1\n\n" + "\n".join(names) + "\n```\n"
    )


def library_page(modules: dict[str, list]) -> str:
    out = [
        "# The library",
        "One method, one file, each its paper on a screen or two; and a folder for everything that is not a method. "
        "Every entry has its formula, the shapes it takes, what it refuses, and its source folded below.",
    ]
    rows = ["| module | |", "| --- | --- |"]
    for name, found in modules.items():
        first = words((found[0].__doc__ or "").split("\n\n")[0])
        rows.append(f"| [minilip.{name}](library/{name}.md) | {plain(first)} |")
    out.append("\n".join(rows))
    out.append("```{toctree}\n:hidden:\n\n" + "\n".join(f"library/{name}" for name in modules) + "\n```")
    return "\n\n".join(out) + "\n"
