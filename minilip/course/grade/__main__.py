"""minilip grade: a table of each notebook's exercises, and an exit status that means something.

    minilip grade exercises/07_clip.ipynb
    minilip grade handed_in/*.ipynb --lesson 07_clip --csv marks.csv

Exit 0: every exercise that has a check was judged and passed. 1: at least one did not. 2: no grading, because a file is
no notebook or the command is wrong.
"""

import argparse
import csv
import sys
import time
from pathlib import Path

from minilip.course import grade
from minilip.course.console import say

COLUMNS = ("notebook", "lesson", "exercise", "check", "status", "detail", "seconds")


def seconds(text: str) -> float:
    if not 0 < (value := float(text)) < float("inf"):
        raise ValueError
    return value


def plain(text: str) -> str:
    """One line without control characters: it may be a learner's, and goes to the grader's terminal."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= 200 else f"{line[:199]}…"


def cell(value: object) -> object:
    """What a spreadsheet would take for a formula is text."""
    text = plain(str(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def table(rows: list[grade.Row]) -> str:
    widths = [max(len(getattr(row, name)) for row in rows) for name in ("number", "check", "status")]
    lines = []
    for row in rows:
        facts = (row.number, row.check or "-", row.status)
        start = "  ".join(f"{fact:{width}}" for fact, width in zip(facts, widths, strict=True))
        lines.append(f"  {start}  {plain(row.detail)}".rstrip())
    return "\n".join(lines)


def main(arguments: list[str] | None = None, program: str = "python -m minilip.course.grade") -> int:
    parser = argparse.ArgumentParser(
        prog=program, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebook", nargs="+", type=Path)
    known = sorted(set(grade.lessons().values()))
    parser.add_argument("--lesson", choices=known, help="where neither a file's name nor its cells say")
    limit = f"seconds for each cell and each exercise ({grade.TIMEOUT:g})"
    parser.add_argument("--timeout", type=seconds, default=grade.TIMEOUT, metavar="S", help=limit)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all rows to this file too")
    options = parser.parse_args(arguments)
    status, lines = 0, []
    for path in options.notebook:
        start = time.monotonic()
        try:
            cells = grade.read(path)
            lesson = options.lesson or grade.lesson_of(path, cells, grade.lessons())
        except grade.Unreadable as error:
            say(plain(str(error)))
            status = 2
            continue
        rows = grade.grade(cells, lesson, options.timeout)
        checked = [row for row in rows if row.check]
        passed = sum(row.status == "PASS" for row in checked)
        say(f"{plain(str(path))} · {lesson}\n{table(rows)}")
        say(f"  {passed} of {len(checked)} passed, {time.monotonic() - start:.0f} s\n")
        status = max(status, int(passed < len(checked)))
        lines += [(path, lesson, r.number, r.check, r.status, r.detail, f"{r.seconds:.2f}") for r in rows]
    if options.csv:
        try:
            with options.csv.open("w", encoding="utf-8-sig", newline="") as file:  # Excel needs the mark
                csv.writer(file).writerows([COLUMNS, *(map(cell, line) for line in lines)])
        except OSError as error:
            say(f"{options.csv}: {error.strerror}")
            return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
