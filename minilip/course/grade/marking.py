"""Notebooks to rows, several at a time. Whatever a notebook does costs its own row only."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch

from minilip.course import grade
from minilip.course.grade.scores import Line, cell, digest, rubrics
from minilip.course.grade.submissions import Submission

UNREADABLE = "could not be read"
LONGEST = 2000  # of a rubric


@dataclass(frozen=True)
class Terms:
    """What a grading goes by: the lesson, or None where each notebook says it; limits; and the seed of the inputs."""

    lesson: str | None
    timeout: float
    memory: float
    seed: int


def identify(submission: Submission, terms: Terms) -> tuple[str, str, list[grade.Cell]]:
    """The lesson of a submission, its digest, and its cells.

    Raises:
        Unreadable: it is no notebook of a lesson.
    """
    data = submission.read()
    cells = grade.read(data, str(submission))
    lesson = terms.lesson or grade.lesson_of(str(submission), cells, grade.lessons())
    return lesson, digest(data, lesson), cells


def mark(submission: Submission, terms: Terms) -> list[Line]:
    """The rows of one submission; one that says so where it cannot be read."""
    try:
        lesson, its, cells = identify(submission, terms)
    except grade.Unreadable as error:
        return [_line(submission, status=UNREADABLE, detail=str(error).removeprefix(f"{submission}: "))]
    try:
        rows = grade.grade(cells, lesson, terms.timeout, terms.memory, terms.seed)
    except Exception as error:  # of the judge; the others of the class are graded all the same
        found = f"{type(error).__name__}: {error}"
        return [_line(submission, lesson=lesson, status="could not run", detail=found)]
    person = rubrics(lesson)
    return [
        _line(
            submission,
            lesson=lesson,
            exercise=row.number,
            check=row.check,
            status=row.status,
            mistake=row.mistake,
            detail=row.detail if row.check else f"{row.detail}. {person.get(row.number, '')}".strip(". "),
            seconds=f"{row.seconds:.2f}",
            seed=terms.seed,
            digest=its,
        )
        for row in rows
    ]


def mark_all(submissions: Sequence[Submission], terms: Terms, jobs: int) -> Iterator[tuple[Submission, list[Line]]]:
    """The rows of each submission, as they are done; `jobs` of them at a time, each judged by a process of its own."""
    if jobs == 1 or len(submissions) == 1:
        yield from ((submission, mark(submission, terms)) for submission in submissions)
        return
    left = list(submissions)
    while left:
        with _pool(min(jobs, len(left))) as pool:
            waiting: dict[Future[list[Line]], Submission] = {pool.submit(mark, s, terms): s for s in left}
            try:
                for done in as_completed(waiting):
                    rows = done.result()
                    left.remove(waiting[done])
                    yield waiting[done], rows
            except BrokenProcessPool:
                # One of those in work took its judge with it. The next of them goes alone, so that it is known which.
                first = left.pop(0)
                yield first, _alone(first, terms)


def _alone(submission: Submission, terms: Terms) -> list[Line]:
    with _pool(1) as pool:
        try:
            return pool.submit(mark, submission, terms).result()
        except BrokenProcessPool:
            return [_line(submission, status="could not run", detail="its judge did not survive it")]


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))


def _line(submission: Submission, **facts: object) -> Line:
    columns = ("lesson", "exercise", "check", "status", "mistake", "detail", "seconds", "seed", "digest")
    named: dict[str, object] = {"student": submission.student, "notebook": submission, **dict.fromkeys(columns, "")}
    return {name: cell(value, LONGEST) for name, value in (named | facts).items()}
