"""The scores of a class: one row a student and exercise, kept whole on disk after every notebook."""

import csv
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

import minilip
from minilip import _files
from minilip.course import plan, plot

COLUMNS = (
    *("student", "notebook", "lesson", "exercise", "check", "status", "mistake", "detail", "seconds", "seed", "digest"),
)
STATUSES = {"PASS": plot.GREEN, "FAIL": plot.RED, "TODO": "#BBBBBB", "could not run": plot.BLACK}
Line = dict[str, str]


class Scores:
    """Rows by notebook. What is in the file is not graded again, unless the notebook or its checks have changed."""

    def __init__(self, path: Path | None, again: bool = False):
        """
        Args:
            path: of a CSV file; None keeps nothing.
            again: forget what the file holds.

        Raises:
            ValueError: the file is not one of ours.
        """
        self.path = path
        self.kept: dict[str, list[Line]] = {}
        self.graded: dict[str, list[Line]] = {}
        if path is None or again or not path.exists():
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}; it is left as it is")
            for line in reader:
                self.kept.setdefault(line["digest"], []).append(line)

    def known(self, name: str, digest: str) -> list[Line]:
        """The rows of a notebook with this digest, if it was graded before."""
        return [line for line in self.kept.get(digest, []) if line["notebook"] == cell(name)]

    def add(self, name: str, lines: list[Line]) -> None:
        """The rows of a notebook; the file holds all rows so far when this returns.

        Raises:
            OSError: it cannot be written.
        """
        self.graded[name] = lines
        if self.path is None:
            return
        with _files.replacing(self.path) as part, part.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)  # Excel needs the mark of utf-8-sig
            writer.writeheader()
            writer.writerows(line for lines in self.graded.values() for line in lines)

    def lines(self) -> list[Line]:
        return [line for lines in self.graded.values() for line in lines]


def digest(notebook: bytes, lesson: str) -> str:
    """Of a notebook, the lesson it is graded as, and the checks that grade it."""
    folder = Path(__file__).parents[1]
    checks = sorted((folder / "checks").glob("*.py"))
    parts = [minilip.__version__.encode(), lesson.encode(), notebook, (folder / "exercises.json").read_bytes()]
    return sha256(b"\0".join([*parts, *(path.read_bytes() for path in checks)])).hexdigest()[:16]


def plain(text: str, longest: int = 200) -> str:
    """One line without control characters: it may be a learner's, and goes to the grader's terminal."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def cell(value: object, longest: int = 200) -> str:
    """What a spreadsheet would take for a formula is text."""
    text = plain(str(value), longest)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def rubrics(lesson: str) -> dict[str, str]:
    """What a person goes by: the rubric of each explore exercise, by its number."""
    return {exercise["number"]: exercise["rubric"] for exercise in plan.asked().get(lesson, []) if exercise["rubric"]}


def summary(lines: Sequence[Line]) -> str:
    """What to talk about in class: how many solved each exercise, and the mistakes that several made."""
    counts, mistakes = _counts(lines)
    said = []
    for (lesson, exercise), found in counts.items():
        others = ", ".join(f"{n} {status}" for status, n in found.items() if status != "PASS" and n)
        said.append(f"  {lesson} {exercise}: {found['PASS']} of {found.total()} passed" + f" ({others})" * bool(others))
    often = [f"  {n} × {name} ({exercise})" for (exercise, name), n in mistakes.most_common(10) if n > 1]
    return "\n".join([*said, *(["made more than once:"] if often else []), *often])


def figure(lines: Sequence[Line]) -> Figure:
    """The same as a picture: verdicts by exercise on the left, the most frequent mistakes on the right."""
    plot.style()
    counts, mistakes = _counts(lines)
    common = mistakes.most_common(12)
    height = 1.3 + 0.3 * max(len(counts), len(common), 4)
    picture, (left, right) = plt.subplots(1, 2, figsize=(11, height))
    names, start = [exercise for _, exercise in counts], [0] * len(counts)
    for status, colour in STATUSES.items():
        widths = [found[status] for found in counts.values()]
        left.barh(names, widths, left=start, color=colour, label=status, edgecolor="white")
        start = [a + b for a, b in zip(start, widths, strict=True)]
    left.invert_yaxis()
    left.xaxis.get_major_locator().set_params(integer=True)
    left.set(xlabel="students", ylabel="exercise")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)
    labels = [f"{exercise}  {plain(name, 48)}" for (exercise, name), _ in common]
    right.barh(labels, [n for _, n in common], color=plot.RED)
    right.invert_yaxis()
    right.xaxis.get_major_locator().set_params(integer=True)
    right.set(xlabel="students who made it", title="recognised mistakes" if common else "no recognised mistake")
    right.grid(axis="y", visible=False)
    left.grid(axis="y", visible=False)
    return picture


def _counts(lines: Sequence[Line]) -> tuple[dict[tuple[str, str], Counter[str]], Counter[tuple[str, str]]]:
    """Verdicts by (lesson, exercise and, where it has several, check), and students by (exercise, mistake)."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    mistakes: Counter[tuple[str, str]] = Counter()
    checked = [line for line in lines if line["check"]]
    several = {
        exercise
        for exercise in {(line["lesson"], line["exercise"]) for line in checked}
        if len({line["check"] for line in checked if (line["lesson"], line["exercise"]) == exercise}) > 1
    }
    for line in checked:
        exercise = line["exercise"] or line["check"]
        if (line["lesson"], line["exercise"]) in several:
            exercise = f"{exercise} {line['check'].partition('.')[2]}"
        counts.setdefault((line["lesson"], exercise), Counter(dict.fromkeys(STATUSES, 0)))[line["status"]] += 1
        if line["mistake"]:
            mistakes[exercise, line["mistake"]] += 1
    return counts, mistakes
