"""What is typed into an exercise: its solution, and one with a mistake that its check knows."""

import contextlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilip.course import checks

ROOT = Path(__file__).resolve().parents[2]
SET_UP = 3  # code cells before the first exercise
# Slips of the pen, tried in turn until a check knows the mistake by name.
SLIPS = (
    (r" / 2\b", ""),
    (r"dim=1\b", "dim=0"),
    (r"dim=-1\b", "dim=0"),
    (r"\.mean\(\)", ".sum()"),
    (r"\.T\b", ""),
    (r"logit_scale \* ", ""),
    (r" / temperature", " * temperature"),
    (r" - ", " + "),
    (r"return -", "return "),
    (r"return ", "return -"),
    (r"return ", "return 2 * "),
    (r"\.square\(\)", ".abs()"),
    (r"\*\* 2", ""),
    (r" / ", " * "),
    (r" \+ ", " - "),
    (r" \* ", " + "),
    (r"\.log\(\)", ""),
    (r"\.exp\(\)", ""),
    (r"unbiased=True", "unbiased=False"),
)


@dataclass(frozen=True)
class Task:
    """An exercise to solve in the browser: which cell, what is asked, the right answer and one with a known mistake."""

    cell: int
    check: str
    right: str
    wrong: str
    mistake: str


def sources(folder: str, lesson: str) -> list[str]:
    """The code cells of a notebook."""
    cells = json.loads((ROOT / folder / f"{lesson}.ipynb").read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def task(lesson: str) -> Task | None:
    """The first exercise of a lesson whose solution a slip turns into a mistake that its check knows."""
    stubs, solutions = sources("exercises", lesson), sources("solutions", lesson)
    space: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for source in solutions[1:SET_UP]:
            exec(source, space)
        for at in range(SET_UP, len(stubs)):
            if not (name := re.search(r'^\w+ = check\("([\w.]+)"', stubs[at], re.M)):
                continue
            for pattern, instead in SLIPS:
                wrong = re.sub(pattern, instead, solutions[at], count=1)
                if wrong != solutions[at] and (mistake := named(wrong, space, name[1])):
                    return Task(at, name[1], solutions[at], wrong, mistake)
    return None


def named(source: str, space: dict[str, Any], check: str) -> str | None:
    """What the check calls the mistake in a cell, if that is one it knows."""
    exercise, found = checks.find(check)[1], []

    def judge(name: str, attempt: Any) -> checks.Report:
        report = checks.judge(checks.find(name)[1], attempt)
        if name == check and report.status == "FAIL":
            found.append(report.mistake)
        return report

    with contextlib.suppress(Exception):
        exec(source, {**space, "check": judge})
    return next((m for m in found if m in [known.name for known in exercise.misconceptions]), None)
