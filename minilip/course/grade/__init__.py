"""Grade notebooks: `minilip grade submissions/`. A row a student and exercise; exit 0 only if all of them pass.

Which exercises a lesson has, and what each is judged by, comes from the installed library. Of the learner's notebook
only the attempts count: it runs in a process of its own, in a temporary folder, where `check` hands the attempt in and
judges nothing. Verdicts are made here. The judge calls a learner's function over a pipe: arguments go there, results
and gradients come back as numbers (`wire.py`), and autograd goes on across the pipe (`remote.py`), so the checks are
the same as in a notebook. A cell can patch, delete or redefine what it likes, it does so in its own process. The other
way round, to move the learner's function to the judge, would need its source or a pickle of it to run here.

A cell or a function that does not come to an end costs its process: the notebook is run again without it. The inputs
are drawn anew for every grading, so that no table of those seen in the notebook helps.

On Linux the learner's process is confined (`sandbox.py`): it reads no solutions and no checks, writes into its folder
only, opens no socket, starts no process, signals nobody. Elsewhere it is the same user's: where files matter, grade in
a container. What no grader can see is where an answer was copied from by hand: a function that calls the library's own,
or a copy made of it while it runs, is recognised.
"""

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from minilip.course import checks, plan
from minilip.course.checks import Prediction
from minilip.course.grade import sandbox, wire
from minilip.course.grade.notebook import Cell, Unreadable, lesson_of, read
from minilip.course.grade.remote import Gone, Process, Remote

__all__ = ["TIMEOUT", "Cell", "Row", "Unreadable", "grade", "lesson_of", "lessons", "read", "rows_of"]

TIMEOUT = 30.0  # seconds
LIBRARY = "the library's version was handed in"
WHOLE = 20  # times the limit of a cell is the limit of a notebook


@dataclass
class Row:
    """An exercise of a lesson and its verdict: PASS, FAIL, TODO, "could not run", or "for a person"."""

    number: str
    check: str  # its name; empty where there is nothing to check
    name: str  # what the exercise calls the attempt
    status: str = "TODO"
    detail: str = ""  # the mistake, or what else there is to say
    mistake: str = ""  # its name, where it was recognised
    seconds: float = 0.0
    judged: bool = field(default=False, repr=False)


def lessons() -> dict[str, str]:
    """The lesson of each check."""
    return {name: lesson for name, (lesson, _) in checks.catalogue().items()}


def rows_of(lesson: str) -> list[Row]:
    """What the library asks in a lesson, nothing solved yet."""
    there = {name for name, its in lessons().items() if its == lesson}
    rows = []
    for exercise in plan.asked().get(lesson, []):
        found = {check: name for check, name in exercise["checks"].items() if check in there}
        rows += [Row(exercise["number"], check, name) for check, name in found.items()]
        if not found or exercise["kind"] == "explore":
            rows.append(Row(exercise["number"], "", "", "for a person", exercise["kind"]))
    return rows + [Row("", check, "") for check in sorted(there - {row.check for row in rows})]


def grade(
    cells: Sequence[Cell],
    lesson: str,
    timeout: float = TIMEOUT,
    memory: float = sandbox.MEMORY,
    seed: int | None = None,
) -> list[Row]:
    """Run a learner's cells and judge what they hand in.

    Args:
        timeout: seconds for each cell and for each exercise; a notebook may take 20 times as long.
        memory: GB that the learner's process may use, where the system can be told so.
        seed: of the inputs; None draws one.
    """
    grading = _Grading(cells, lesson, timeout, memory, secrets.randbelow(2**31) if seed is None else seed)
    while not grading.done:
        grading.run()
    return grading.rows


class _Grading:
    def __init__(self, cells: Sequence[Cell], lesson: str, timeout: float, memory: float, seed: int):
        self.memory, self.seed = memory, seed
        self.rows, self.timeout, self.until = rows_of(lesson), timeout, time.monotonic() + WHOLE * timeout
        self.by_check = {row.check: row for row in self.rows if row.check}
        self.cells = [(f"cell {cell.number}", cell.source) for cell in cells]
        # At the end come our own check cells, for what the notebook's did not hand in or did not solve.
        self.ours = [
            (row.check, f'from minilip.course import check\n{row.name} = check("{row.check}", {row.name}).use')
            for row in self.by_check.values()
            if row.name
        ]
        self.gone: dict[str, str] = {}  # cells that cost a process, and how
        self.verdicts: dict[tuple[str, int], tuple[str, str | None, str]] = {}  # by cell and number of its check
        self.raised: dict[str, str] = {}  # cells that raised
        self.done = False

    def run(self) -> None:
        """The notebook from its first cell; where a process is lost, it is to be run again without what lost it."""
        try:
            with Process(self.memory) as process:
                for where, source in self.cells:
                    self.cell(process, where, source)
                for check, source in self.ours:
                    if self.by_check[check].status != "PASS":
                        self.cell(process, check, source)
        except _Again:
            return
        self.explain()
        self.done = True

    def cell(self, process: Process, where: str, source: str) -> None:
        if where in self.gone or self.allowance() <= 0:
            return
        process.allow(self.allowance())
        number = 0
        try:
            message = process.ask({"run": source, "cell": where})
            while "done" not in message:
                verdict = self.verdicts.get((where, number)) or self.judge(process, where, number, message)
                number += 1
                message = process.ask({"verdict": verdict})
            if message["done"]:
                self.raised[where] = _error(message["done"])
        except Gone as gone:
            self.gone[where] = f"{gone} ({where})"
            raise _Again from None
        except (ValueError, TypeError, LookupError, AttributeError):  # a message unlike any of ours
            self.gone[where] = f"sent what cannot be read ({where})"
            raise _Again from None

    def allowance(self) -> float:
        return min(self.timeout, self.until - time.monotonic())

    def judge(self, process: Process, where: str, number: int, message: dict[str, Any]) -> tuple[str, str | None, str]:
        """The verdict on what was handed in, which becomes the row of its exercise."""
        row = self.by_check.get(message.get("check"))  # type: ignore[arg-type]
        if row is None:
            return "TODO", None, "not of this lesson"
        exercise = checks.find(row.check)[1]
        prediction = isinstance(exercise, Prediction)
        if message["library"]:
            if not row.judged:
                row.detail = LIBRARY
            return "TODO", None, LIBRARY
        remote = Remote(process)
        start, before = time.monotonic(), process.allow(self.allowance())
        try:
            attempt = remote if message["callable"] and not prediction else wire.unpack(message["value"])
            report = checks.judge(exercise, attempt, self.seed)
            verdict = report.status, report.mistake, report.message
            if report.status == "PASS" and remote.library:
                verdict = "FAIL", "calls the library's own function", ""
        except Gone as gone:
            verdict = "FAIL", str(gone), ""
            raise _Again from None
        except Exception as error:  # of the judge: nobody passes by it
            verdict = "could not run", None, f"could not be judged: {type(error).__name__}: {error}"
        finally:
            row.seconds += time.monotonic() - start
            process.allow(before)
            self.verdicts[where, number] = verdict
            # A function that has passed stays solved; of several predictions the last one counts.
            if row.status != "PASS" or prediction:
                row.status, row.judged = verdict[0], True
                row.mistake = verdict[1] or ""
                row.detail = verdict[1] or verdict[2].partition("\n")[0]
                if remote.line and not verdict[1] and row.status == "FAIL":
                    row.detail += f" ({remote.line})"
        return verdict

    def explain(self) -> None:
        """Say of an exercise for which nothing was handed in which cell failed, if it is one of its own."""
        for row in self.by_check.values():
            if row.judged:
                continue
            own = re.compile(rf'"{re.escape(row.check)}"|\b(?:def\s+)?{row.name or "(?!)"}\s*[=(]')
            lost = self.raised | self.gone
            of_it = [where for where, source in self.cells if own.search(source)]
            if failed := [lost[where] for where in of_it if where in lost]:
                row.status, row.detail = "could not run", failed[0]
            elif self.allowance() <= 0:
                row.status, row.detail = "could not run", f"the notebook took longer than {WHOLE * self.timeout:g} s"
            elif not row.detail:
                row.detail = "nothing was handed in"


class _Again(Exception):
    """A process was lost; what it was busy with is known."""


def _error(facts: dict[str, str]) -> str:
    text = str(facts["text"]).strip().splitlines()
    return ": ".join([str(facts["type"]), *text[-1:]]) + f" ({facts['line']})" * bool(facts["line"])
