"""What an exercise is made of for its learner: a check, three hints, a table of what is solved."""

import dataclasses
import functools
import textwrap
from collections.abc import Iterator
from typing import Any

from minilip.course import checks, compare, plan, record, session, switches
from minilip.course.console import say

WIDTH = 110


def check(name: str, attempt: Any) -> checks.Report:
    """Judge an exercise, print the verdict and return the report; `.use` is what the notebook goes on with.

    Args:
        name: "lesson.exercise", such as "clip.zero_shot".
        attempt: the function or value asked for. What a check handed out itself is not judged and not recorded.

    Raises:
        ValueError: there is no exercise of that name.
        AssertionError: the verdict is not PASS, and MINILIP_STRICT=1.
    """
    strict = switches.strict()
    _, exercise = checks.find(name)
    prediction = isinstance(exercise, checks.Prediction)
    if handed_out(exercise, attempt):
        whose, own = ("answer", "prediction") if prediction else ("version", "function")
        text = f"This is the library's {whose}, which a check hands out: run the cell with your own {own} first."
        report = checks.Report("TODO", None, attempt, text)
        lines = [f"TODO  {name}", text]
    else:
        report = checks.judge(exercise, attempt)
        instead = "the right answer" if prediction else "the library's version"
        if prediction and report.status != "PASS":
            report = dataclasses.replace(report, use=hand_out(report.use))
        record.keep(name, status=report.status)
        lines = [f"{report.status}  {name}" + (f" · {report.mistake}" if report.mistake else "")]
        if report.status != "PASS":
            lines += report.message.splitlines()
            lines += [f'The notebook goes on with {instead}. Stuck? hint("{name}")']
    verdict = "\n".join(textwrap.fill(line, WIDTH, replace_whitespace=False) for line in lines)
    say(verdict)
    if report.status != "PASS" and strict:
        raise AssertionError(verdict)
    return report


def hint(name: str) -> None:
    """Print the next hint of an exercise; after the last one, where its solution is."""
    lesson, exercise = checks.find(name)
    used = record.rows().get(name, {}).get("hints", 0)
    if used >= len(exercise.hints):
        say(f"Those were all the hints. The solution is in solutions/{lesson}.ipynb")
        return
    say(textwrap.fill(f"Hint {used + 1} of {len(exercise.hints)}: {exercise.hints[used]}", WIDTH))
    record.keep(name, hints=used + 1)


def progress() -> None:
    """Print every exercise of the course: its lesson, whether it is solved, the hints used; and which to do next."""
    rows, exercises = record.rows(), checks.catalogue()
    for name, (lesson, exercise) in exercises.items():
        row = {"status": "TODO", "hints": 0} | rows.get(name, {})
        hints = f"{row['hints']} of {len(exercise.hints)} hints"
        say(f"{lesson:16}  {name:{max(map(len, exercises))}}  {row['status']}  {hints}")
    say(f"{sum(rows.get(name, {}).get('status') == 'PASS' for name in exercises)} of {len(exercises)} solved")
    if next_one := plan.suggestion(rows, str(session.claims["lesson"])):
        say(textwrap.fill(next_one, WIDTH))


# ---- what a check hands out, and knows again -------------------------------------------------------------------------


class Given:
    """Marks the answer to a prediction that a check handed out, so that it is not taken for the learner's own."""


class GivenText(Given, str): ...


class GivenWhole(Given, int): ...


class GivenNumber(Given, float): ...


class GivenTuple(Given, tuple): ...


class GivenList(Given, list): ...


_MARKED = {str: GivenText, int: GivenWhole, float: GivenNumber, tuple: GivenTuple, list: GivenList}
_given: list[Any] = []  # tensors and arrays, known by identity


def hand_out(answer: Any) -> Any:
    """An equal value of the same kind that `handed_out` knows. Equality would not do: a learner may come to it alone.

    Identity would not do either: Python keeps one object for each short string and small number.
    """
    if kind := _MARKED.get(type(answer)):
        return kind(answer)
    if compare.shape(next(iter(compare.leaves(answer).values()), None)) is None:
        return answer
    _given.append(copied := compare.clone(answer))
    return copied


def handed_out(exercise: checks.Exercise | checks.Prediction, attempt: Any) -> bool:
    """Whether an attempt is the library's function or the reference, however wrapped, or an answer handed out."""
    if isinstance(exercise, checks.Prediction):
        return isinstance(attempt, Given) or any(attempt is given for given in _given)
    ours = [layer for function in (exercise.library, exercise.reference) for layer in layers(function)]
    return any(layer is own for layer in layers(attempt) for own in ours)


def layers(function: Any) -> Iterator[Any]:
    """A function, and what it is wrapped around: by partial, functools.wraps, or as a method."""
    for _ in range(100):  # a chain may lead back into itself
        yield function
        inner = function.func if isinstance(function, functools.partial) else None
        inner = inner or getattr(function, "__func__", None) or getattr(function, "__wrapped__", None)
        if inner is None:
            return
        function = inner
