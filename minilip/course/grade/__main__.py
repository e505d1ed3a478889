"""minilip grade: a table of each notebook's exercises, and an exit status that means something.

    minilip grade exercises/07_clip.ipynb
    minilip grade submissions/ --out scores.csv

A folder is a class: a notebook of each student, as nbgrader, otter, Moodle, Canvas or Gradescope leave them, archives
too. With --out each notebook's rows are kept as soon as it is graded: the same command goes on where it was stopped,
and a figure of what the class found hard lies beside the rows.

Exit 0: every exercise that has a check was judged and passed. 1: at least one did not. 2: something was not graded,
because a file is no notebook or the command is wrong.
"""

import argparse
import contextlib
import os
import secrets
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt

from minilip import _files
from minilip.course import grade
from minilip.course.console import say
from minilip.course.grade import sandbox
from minilip.course.grade.marking import UNREADABLE, Terms, identify, mark_all
from minilip.course.grade.scores import Line, Scores, figure, plain, summary
from minilip.course.grade.submissions import Submission, find

FEW = 3  # notebooks whose exercises are all printed


def number(text: str) -> float:
    if not 0 < (value := float(text)) < float("inf"):
        raise ValueError
    return value


def whole(text: str) -> int:
    if (value := int(text)) < 0:
        raise ValueError
    return value


def table(lines: list[Line]) -> str:
    widths = [max(len(line[name]) for line in lines) for name in ("exercise", "check", "status")]
    printed = []
    for line in lines:
        facts = (line["exercise"], line["check"] or "-", line["status"])
        start = "  ".join(f"{fact:{width}}" for fact, width in zip(facts, widths, strict=True))
        printed.append(f"  {start}  {plain(line['detail'])}".rstrip())
    return "\n".join(printed)


def parsed(arguments: list[str] | None, program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebook", nargs="+", type=Path, help="notebooks, archives, folders of them")
    known = sorted(set(grade.lessons().values()))
    parser.add_argument("--lesson", choices=known, help="where neither a file's name nor its cells say")
    limit = f"seconds for each cell and each exercise ({grade.TIMEOUT:g})"
    parser.add_argument("--timeout", type=number, default=grade.TIMEOUT, metavar="S", help=limit)
    most = f"that a notebook may use, on Linux ({sandbox.MEMORY:g})"
    parser.add_argument("--memory", type=number, default=sandbox.MEMORY, metavar="GB", help=most)
    parser.add_argument("--out", "--csv", type=Path, metavar="FILE", help="keep all rows in this CSV file")
    parser.add_argument("--again", action="store_true", help="grade what the file holds already, too")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--jobs", type=whole, default=cores, metavar="N", help=f"notebooks at a time ({cores})")
    fresh = "of the inputs, to repeat a grading; drawn anew without it"
    parser.add_argument("--seed", type=whole, metavar="N", help=fresh)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None, program: str = "python -m minilip.course.grade") -> int:
    options = parsed(arguments, program)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    terms = Terms(options.lesson, options.timeout, options.memory, seed)
    try:
        submissions = find(options.notebook)
        scores = Scores(options.out, options.again)
        status = mark_class(submissions, scores, terms, max(1, options.jobs))
        if len(submissions) > FEW:
            say(summary(scores.lines()))
        if options.out:
            keep_figure(scores, options.out.with_suffix(".png"))
    except OSError as error:
        say(f"{error.filename or options.out}: {error.strerror or error}")
        return 2
    except (ValueError, grade.Unreadable) as error:
        say(plain(str(error)))
        return 2
    return status


def mark_class(submissions: list[Submission], scores: Scores, terms: Terms, jobs: int) -> int:
    """Grade what was not graded before, print what comes out; the exit status."""
    left, status, start = [], 0, time.monotonic()
    few = len(submissions) <= FEW
    for submission in submissions:
        lines = []
        if scores.kept:  # else nobody need read the notebook twice
            with contextlib.suppress(grade.Unreadable):
                lines = scores.known(str(submission), identify(submission, terms)[1])
        if lines:
            scores.add(str(submission), lines)
            status = max(status, report(submission, lines, few, "graded before"))
        else:
            left.append(submission)
    for submission, lines in mark_all(left, terms, jobs):
        scores.add(str(submission), lines)
        status = max(status, report(submission, lines, few, f"{time.monotonic() - start:.0f} s"))
    return status


def report(submission: Submission, lines: list[Line], whole: bool, how: str) -> int:
    """Print the verdict on a notebook; the exit status that it asks for."""
    checked = [line for line in lines if line["check"]]
    passed = sum(line["status"] == "PASS" for line in checked)
    if not checked:
        say(f"{plain(str(submission))}: {plain(lines[0]['detail'])}")
        return 2 if lines[0]["status"] == UNREADABLE else 1
    if whole:
        say(f"{plain(str(submission))} · {lines[0]['lesson']}\n{table(lines)}")
        say(f"  {passed} of {len(checked)} passed, {how}\n")
    else:
        say(f"{plain(submission.student, 40):40}  {lines[0]['lesson']:16}  {passed} of {len(checked)} passed, {how}")
    return int(passed < len(checked))


def keep_figure(scores: Scores, path: Path) -> None:
    if not any(line["check"] for line in scores.lines()):
        return
    picture = figure(scores.lines())
    with _files.replacing(path) as part:
        picture.savefig(part, format="png")
    plt.close(picture)


if __name__ == "__main__":
    sys.exit(main())
