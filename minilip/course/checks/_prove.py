"""Prove that an exercise never lies: five kinds of attempts, each with the verdict that it has to get.

(a) naive    unstable answers fail with a message about stability
(b) right    right answers pass: float32, float64, loops, other formulas, lists, numbers and arrays
(c) cut      the right value with one gradient cut fails, and the argument is named
(d) in place the right value with one input changed fails, and the argument is named
(e) named    every misconception fails under its own name, and what is printed is what it does
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minilip.course import compare

from ._exercise import Exercise, Misconception, Prediction, Report
from ._judge import EXTREME, examine, judge
from ._observe import make_cases, observe

PROOFS = ("naive", "right", "cut", "in place", "named")


@dataclass
class Attempt:
    """One attempt and the verdict on it."""

    proof: str  # one of PROOFS
    what: str
    wrong: str = ""  # what the verdict should have been, and was; empty where it is right


def prove(exercise: Exercise | Prediction, right: Sequence[Any] = ()) -> list[Attempt]:
    """All attempts of the five proofs.

    Args:
        right: right answers besides those that the exercise declares.
    """
    if isinstance(exercise, Prediction):
        return [*_answers(exercise, right), *_named_values(exercise)]
    found = [*_naive(exercise), *_right(exercise, right), *_cut(exercise), *_in_place(exercise), *_named(exercise)]
    return [*_sound(exercise), *found]


def _sound(exercise: Exercise) -> Iterator[Attempt]:
    """The exercise itself: hints and messages that say something, gradients that are there to compare."""
    names, messages = zip(*((m.name, m.message) for m in exercise.misconceptions), strict=True)
    if len(exercise.hints) != 3 or not all(t.strip() for t in (*exercise.hints, *names, *messages)):
        yield Attempt("named", "its texts", "a hint, a name or a message is missing")
    if any(len(set(group)) != len(group) for group in (exercise.hints, names)):
        yield Attempt("named", "its texts", "a hint or a name is there twice")
    for name in exercise.gradients:
        if not any(case.truth.gradients[name].any() for case in make_cases(exercise).plain):
            yield Attempt("cut", name, "the reference has no gradient there: comparing it proves nothing")


def _told(report: Report) -> str:
    return f"{report.status}, {report.mistake}: {report.message}"


# ---- (a) -------------------------------------------------------------------------------------------------------------


def _naive(exercise: Exercise) -> Iterator[Attempt]:
    if not exercise.naive:
        yield Attempt("naive", "none", "the exercise has neither an unstable answer nor a reason why there is none")
    if isinstance(exercise.naive, str):
        return
    plain = dataclasses.replace(exercise, extreme=None)
    for i, attempt in enumerate(exercise.naive):
        before, report = judge(plain, attempt), judge(exercise, attempt)
        expected = before.status == "PASS" and report.mistake == EXTREME and exercise.stability in report.message
        yield Attempt("naive", f"naive {i}", "" if expected else f"on plain inputs {_told(before)}; {_told(report)}")


# ---- (b) -------------------------------------------------------------------------------------------------------------


def in_double(function: Callable) -> Callable:
    return lambda *args: function(*compare.clone_graph(args, Tensor.double))


def as_lists(function: Callable) -> Callable:
    """Tensors as lists of their rows, dictionaries in the other order."""

    def listed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: listed(value[k]) for k in reversed(list(value))}
        if isinstance(value, tuple | list):
            return [listed(v) for v in value]
        return list(value) if isinstance(value, Tensor | np.ndarray) and value.ndim else value

    return lambda *args: listed(function(*args))


def as_arrays(function: Callable) -> Callable:
    def array(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(array(v) for v in value)
        return value.numpy() if isinstance(value, Tensor) else value

    return lambda *args: array(function(*args))


def as_numbers(function: Callable) -> Callable:
    """Python numbers, nested in lists."""

    def number(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(number(v) for v in value)
        return value.tolist() if isinstance(value, Tensor | np.ndarray) else value

    return lambda *args: number(function(*args))


def _right(exercise: Exercise, right: Sequence[Callable]) -> Iterator[Attempt]:
    written = {"library": exercise.library, "reference": exercise.reference}
    written |= {f"right {i}": f for i, f in enumerate((*exercise.right, *right))}
    forms: dict[str, Callable] = {"as it is": lambda f: f, "in float64": in_double, "as lists": as_lists}
    if not exercise.gradients:
        forms |= {"as arrays": as_arrays, "as numbers": as_numbers}
    for name, function in written.items():
        for form, change in forms.items():
            if form in ("as it is", "in float64") or name == "library":
                report = judge(exercise, attempt := change(function))
                passes = report.status == "PASS" and report.use is attempt
                yield Attempt("right", f"{name}, {form}", "" if passes else _told(report))


# ---- (c) -------------------------------------------------------------------------------------------------------------


def _cut(exercise: Exercise) -> Iterator[Attempt]:
    names = compare.names(exercise.reference)
    for name in exercise.gradients:

        def attempt(*args: Any, at: int = names.index(name)) -> Any:
            cut = [x.detach() if i == at and isinstance(x, Tensor) else x for i, x in enumerate(args)]
            return exercise.library(*cut)

        report = judge(exercise, attempt)
        told = report.mistake == "detached" and f"`{name}`" in report.message
        named = report.mistake in [m.name for m in exercise.misconceptions]
        expected = report.status == "FAIL" and (told or named)
        yield Attempt("cut", name, "" if expected else _told(report))
    if exercise.gradients:
        report = judge(exercise, torch.no_grad()(lambda *args: exercise.library(*args)))
        expected = report.mistake == "detached" and all(f"`{name}`" in report.message for name in exercise.gradients)
        yield Attempt("cut", "all", "" if expected else _told(report))


# ---- (d) -------------------------------------------------------------------------------------------------------------


def _add_one(x: Any) -> None:
    if isinstance(x, tuple | list):
        for v in x:
            _add_one(v)
    elif isinstance(x, Tensor):
        x.logical_not_() if x.dtype == torch.bool else x.add_(1)


def _times_one(x: Any) -> None:
    """Leaves the numbers as they are, and is an error of torch where the tensor requires grad."""
    if isinstance(x, tuple | list):
        for v in x:
            _times_one(v)
    elif isinstance(x, Tensor):
        x.logical_or_(x.clone()) if x.dtype == torch.bool else x.mul_(1)


def _in_place(exercise: Exercise) -> Iterator[Attempt]:
    first = make_cases(exercise).plain[0].args
    for i, name in enumerate(compare.names(exercise.reference)):
        if not compare.tensors(first[i]) and name not in exercise.gradients:
            continue
        for what, change in (("changed", _add_one), ("touched", _times_one)):

            def attempt(*args: Any, i: int = i, change: Callable = change) -> Any:
                result = exercise.library(*compare.clone_graph(args, Tensor.clone))
                change(args[i])
                return result

            report = judge(exercise, attempt)
            expected = report.mistake == "changes its input in place" and f"`{name}`" in report.message
            yield Attempt("in place", f"{name} {what}", "" if expected else _told(report))


# ---- (e) -------------------------------------------------------------------------------------------------------------


def _named(exercise: Exercise) -> Iterator[Attempt]:
    for m in exercise.misconceptions:
        for form, change in (("", lambda f: f), (", in float64", in_double)):
            report, problem = examine(exercise, change(exercise.wrong(m)))
            wrong = ""
            if (report.status, report.mistake) != ("FAIL", m.name) or not report.message.startswith(m.message):
                wrong = _told(report)
            elif problem and problem.what.startswith("result") and problem.case:
                wrong = "" if _evident(exercise, m, problem) else f"the evidence is not what it does: {report.message}"
            if not form or not wrong.startswith("PASS"):  # an overflow may be none in float64
                yield Attempt("named", m.name + form, wrong)
        if m.says:
            yield Attempt("named", f"{m.name}: what it says", _untrue(exercise, m))


def _evident(exercise: Exercise, m: Misconception, problem: Any) -> bool:
    """What is printed as expected and as got is what the reference and the wrong function make of the input printed."""
    path = problem.what.removeprefix("result")
    truth = observe(exercise.reference, compare.clone(problem.case.args, double=True), exercise).values[path]
    other = observe(exercise.wrong(m), problem.case.args, exercise, problem.case.truth).values[path]
    told = compare.numbers(truth) == compare.numbers(problem.want)
    same = compare.shape(other) == compare.shape(problem.got) and compare.alike(other, problem.got)
    return told and same


def _untrue(exercise: Exercise, m: Misconception) -> str:
    assert m.says
    shown = 0
    for case in make_cases(exercise).plain:
        got = observe(exercise.wrong(m), case.args, exercise, case.truth)
        if got.error or compare.all_close(got.values, case.truth.values, exercise.tolerance, case.scale):
            continue
        shown += 1
        if not bool(m.says(got.output, *compare.clone(case.args))):
            return (
                f"what it says is not so on {[compare.describe(x) for x in case.args]}: {compare.numbers(got.output)}"
            )
    return "" if shown else "no plain input shows what it says"


# ---- predictions -----------------------------------------------------------------------------------------------------


def _answers(exercise: Prediction, right: Sequence[Any]) -> Iterator[Attempt]:
    answer = exercise.answer
    same: list[Any] = [f" {answer.upper()} "] if isinstance(answer, str) else []
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        same = [float(answer), torch.tensor(answer), np.float64(answer)]
    for value in (answer, *same, *right):
        report = judge(exercise, value)
        yield Attempt("right", repr(value), "" if report.status == "PASS" else _told(report))


def _named_values(exercise: Prediction) -> Iterator[Attempt]:
    for m in exercise.misconceptions:
        report = judge(exercise, m.wrong)
        expected = (report.status, report.mistake, report.message) == ("FAIL", m.name, m.message)
        yield Attempt("named", m.name, "" if expected else _told(report))
