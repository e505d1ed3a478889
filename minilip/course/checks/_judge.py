"""Judge an attempt: run it beside the reference, stop at the first stage that differs, name the mistake.

Stages: it runs, shape, dtype and finiteness, value, its inputs left alone, gradient; then the same for each invariance.
"""

import traceback
from collections.abc import Callable
from typing import Any

from torch import Tensor

from . import _compare as compare
from ._exercise import Exercise, Prediction, Report
from ._observe import Case, Outcome, make_cases, observe


def judge(exercise: Exercise | Prediction, attempt: Any) -> Report:
    """The verdict on an attempt. Whatever the attempt raises becomes part of the report.

    Args:
        attempt: a function for an `Exercise`, a value for a `Prediction`; None or `...` where nothing is written yet.
    """
    instead = exercise.answer if isinstance(exercise, Prediction) else exercise.library
    todo = Report("TODO", None, instead, "Not written yet.")
    if attempt is None or attempt is ...:
        return todo
    if isinstance(exercise, Prediction):
        return _judge_value(exercise, attempt)
    if not callable(attempt):
        return Report("FAIL", None, instead, f"Expected a function, got {compare.describe(attempt)}.")
    cases = make_cases(exercise)
    seen = [observe(attempt, case.args, exercise) for case in cases]
    if any(outcome.unwritten for outcome in seen):
        return todo
    for because in (None, *exercise.invariances):
        for stage in (_runs, _shapes, _kinds, _values, _left_alone, _gradients):
            for case, got in zip(cases, seen, strict=True):
                if case.because is because and (problem := stage(exercise, case, got)):
                    return _fail(exercise, cases, seen, case, stage, problem)
    return Report("PASS", None, attempt, "")


def _judge_value(exercise: Prediction, attempt: Any) -> Report:
    def read(value: Any) -> dict[str, Any]:
        return {p: v.strip().casefold() if isinstance(v, str) else v for p, v in compare.leaves(value).items()}

    def is_attempt(value: Any) -> bool:
        return compare.all_close(read(attempt), read(value), exercise.tolerance)

    if is_attempt(exercise.answer):
        return Report("PASS", None, attempt, "")
    known = next((m for m in exercise.misconceptions if is_attempt(m.wrong)), None)
    text = known.message if known else f"It is not {compare.numbers(attempt)}."
    return Report("FAIL", known.name if known else None, exercise.answer, text)


# ---- stages: (name of the mistake if it is known, what is wrong, evidence), or None ----------------------------------

_Problem = tuple[str | None, str, str]


def _runs(exercise: Exercise, case: Case, got: Outcome) -> _Problem | None:
    if got.error:
        text = traceback.format_exception_only(got.error)[0].strip().splitlines()[0]
        where = got.line or f"the call with ({', '.join(compare.names(exercise.reference))})"
        return None, text, f"  in       {where}"
    if got.output is None:
        return "returns nothing", "Your function returned nothing: did you forget `return`?", ""
    return None


def _shapes(exercise: Exercise, case: Case, got: Outcome) -> _Problem | None:
    want = case.truth
    if got.values.keys() != want.values.keys():
        came, expected = compare.describe(got.output), compare.describe(want.output)
        return None, "The result does not have the expected parts.", f"  expected {expected}\n  got      {came}"
    for path, leaf in want.values.items():
        if compare.shape(got.values[path]) != compare.shape(leaf):
            return (
                None,
                "The result does not have the expected shape.",
                _evidence(f"result{path}", got.values[path], leaf),
            )
    return None


def _kinds(exercise: Exercise, case: Case, got: Outcome) -> _Problem | None:
    for path, want in case.truth.values.items():
        came = got.values[path]
        # A single number may be a Python int or float.
        if isinstance(want, Tensor) and want.dim() and compare.kind(came) != compare.kind(want):
            text = f"Expected {compare.kind(want)} numbers, got {compare.kind(came)} ones."
            return None, text, _evidence(f"result{path}", came, want)
        if compare.broken({path: came}, {path: want}):
            text = "The result is not finite where the right one is."
            return None, text, _evidence(f"result{path}", came, want)
    return None


def _values(exercise: Exercise, case: Case, got: Outcome) -> _Problem | None:
    tolerance = compare.slack(got.values, exercise.tolerance)
    for path, want in case.truth.values.items():
        if not compare.close(got.values[path], want, tolerance):
            return None, "The result differs from the right one.", _evidence(f"result{path}", got.values[path], want)
    return None


def _left_alone(exercise: Exercise, case: Case, got: Outcome) -> _Problem | None:
    if got.changed:
        text = f"The result is right, but your function changes `{got.changed}` itself, which its caller still needs."
        return "changes its input in place", text, ""
    return None


def _gradients(exercise: Exercise, case: Case, got: Outcome) -> _Problem | None:
    if case.because:
        return None  # the result is the same there, its gradient need not be
    tolerance = compare.slack(got.values, exercise.tolerance)
    for name, want in case.truth.gradients.items():
        came = got.gradients[name]
        if not compare.close(came, want, tolerance):
            evidence = _evidence(f"the gradient with respect to {name}", came, want)
            if came.any():
                return None, f"The result is right, but its gradient with respect to `{name}` is not.", evidence
            text = f"The result is right, but no gradient reaches `{name}`: the graph is cut on the way."
            return "detached", f"{text} detach(), item(), numpy() and no_grad() cut it.", evidence
    return None


def _evidence(what: str, got: Any, want: Any) -> str:
    lines = [] if what == "result" else [f"  in       {what}"]
    lines += [f"  expected {compare.numbers(want)}", f"  got      {compare.numbers(got)}"]
    several = isinstance(want, Tensor) and want.dim() and want.numel()
    if several and compare.shape(got) == compare.shape(want) and got.isfinite().all():
        lines.append(f"  {compare.worst(got, want)}")
    return "\n".join(lines)


# ---- naming the mistake ----------------------------------------------------------------------------------------------


def _fail(
    exercise: Exercise, cases: list[Case], seen: list[Outcome], case: Case, stage: Callable, problem: _Problem
) -> Report:
    mistake, text, evidence = problem
    names = compare.names(exercise.reference)
    known = next((m for m in exercise.misconceptions if _behaves_as(m.wrong, exercise, cases, seen, stage)), None)
    if known:
        mistake, text = known.name, known.message
    elif case.because:
        mistake, text = case.because.name, case.because.message
    elif stage in (_shapes, _values):
        pairs = [(c.args, got.values, c.truth.values) for c, got in zip(cases, seen, strict=True)]
        if found := compare.relation(names, pairs, exercise.tolerance):
            text += f" Yours is {found}."
    given = ", ".join(f"{n} {compare.describe(x)}" for n, x in zip(names, case.args))  # noqa: B905
    return Report("FAIL", mistake, exercise.library, "\n".join(filter(None, (text, f"  input    {given}", evidence))))


def _behaves_as(wrong: Callable, exercise: Exercise, cases: list[Case], seen: list[Outcome], stage: Callable) -> bool:
    """Whether a wrong variant does on every input what the attempt did."""

    def equal(got: dict, other: dict, truth: dict, tolerance: float) -> bool:
        # NaN here and infinity there are one mistake.
        both_broken = compare.broken(got, truth) and compare.broken(other, truth)
        return both_broken or compare.all_close(got, other, tolerance)

    def alike(case: Case, got: Outcome) -> bool:
        other = observe(wrong, case.args, exercise)
        if got.error or other.error:
            return type(got.error) is type(other.error)
        tolerance = compare.slack(got.values, exercise.tolerance)
        return (
            equal(got.values, other.values, case.truth.values, tolerance)
            and (stage is not _left_alone or other.changed == got.changed)
            and (stage is not _gradients or equal(got.gradients, other.gradients, case.truth.gradients, tolerance))
        )

    returned = any(not got.error for got in seen)
    return returned and all(alike(case, got) for case, got in zip(cases, seen, strict=True))
