"""Judge an attempt: run it beside the reference, stop at the first stage that differs, name the mistake.

Stages: it runs, shape, dtype and finiteness, value, its inputs left alone, gradient; then the same for each invariance.
"""

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import _compare as compare
from ._exercise import Exercise, Invariance, Prediction, Report


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
    seen = [_observe(attempt, case.args, exercise) for case in cases]
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


# ---- what a function does --------------------------------------------------------------------------------------------


@dataclass
class _Outcome:
    output: Any = None
    values: dict[str, Any] = field(default_factory=dict)
    gradients: dict[str, Any] = field(default_factory=dict)
    changed: str | None = None  # the argument that was changed in place
    error: Exception | None = None
    line: str = ""  # of the function, where the error came from
    unwritten: bool = False


@dataclass
class _Case:
    args: tuple
    truth: _Outcome
    because: Invariance | None


def make_cases(exercise: Exercise) -> list[_Case]:
    """The inputs, each with what the reference makes of it, and their transformed copies."""
    cases = []
    for args in exercise.inputs(torch.Generator().manual_seed(0)):
        truth = _observe(exercise.reference, compare.clone(args, double=True), exercise)
        if truth.error:
            raise truth.error
        cases.append(_Case(args, truth, None))
        cases += [_Case(i.transform(*compare.clone(args)), truth, i) for i in exercise.invariances]
    return cases


def _observe(function: Callable, args: tuple, exercise: Exercise) -> _Outcome:
    """Call the function on copies of the arguments, once for its result and once for its gradients."""
    outcome = _Outcome()
    names = compare.names(exercise.reference)
    try:
        given = compare.clone(args)
        outcome.output, outcome.values = _call(function, given, exercise)
        outcome.changed = next((n for n, x, y in zip(names, args, given) if not compare.untouched(x, y)), None)  # noqa: B905
        if exercise.gradients and outcome.values and not outcome.changed:
            given = compare.clone(args)
            wanted = {name: given[names.index(name)].requires_grad_() for name in exercise.gradients}
            outcome.gradients = _differentiate(_call(function, given, exercise)[1], wanted)
    except Exception as error:  # whatever a learner's function raises is material for the report
        outcome.error, outcome.line = error, _line(error, function)
    outcome.unwritten = _is_stub(outcome)
    return outcome


def _call(function: Callable, given: tuple, exercise: Exercise) -> tuple[Any, dict[str, Any]]:
    # Its own random stream: the notebook's numbers must not depend on whether an exercise is solved.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(0)
        output = function(*given)
        if output is None or output is ...:
            return output, {}
        return output, compare.leaves(exercise.view(output, *given) if exercise.view else output)


def _differentiate(values: dict[str, Any], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of one weighted sum of all results (the plain sum of a softmax would have none); zero where cut off."""
    total = torch.zeros(())
    for leaf in values.values():
        if isinstance(leaf, Tensor) and leaf.requires_grad:
            weights = torch.arange(leaf.numel()).cos().view(leaf.shape).to(leaf)
            total = total.to(leaf) + (leaf * weights).sum()
    if not total.requires_grad:
        return {name: torch.zeros_like(x) for name, x in wanted.items()}
    found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(wanted, found, strict=True))


def _line(error: Exception, function: Callable) -> str:
    """The last line of the function's own file on the way to the error."""
    here = str(Path(__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(here)]
    code = getattr(inspect.unwrap(function), "__code__", None)
    inside = [f for f in frames if code and f.filename == code.co_filename] or frames[:1]
    return f"line {inside[-1].lineno}: {inside[-1].line}" if inside else ""


def _is_stub(outcome: _Outcome) -> bool:
    if isinstance(outcome.error, NotImplementedError):
        # torch raises the same class, with a text, where an operation lacks a precision
        return not str(outcome.error) or "NotImplementedError" in outcome.line
    parts = outcome.output if isinstance(outcome.output, tuple) else (outcome.output,)
    return any(part is ... for part in parts) or "ellipsis" in str(outcome.error)  # computing with `...` left in place


# ---- stages: (name of the mistake if it is known, what is wrong, evidence), or None ----------------------------------

_Problem = tuple[str | None, str, str]


def _runs(exercise: Exercise, case: _Case, got: _Outcome) -> _Problem | None:
    if got.error:
        text = traceback.format_exception_only(got.error)[0].strip().splitlines()[0]
        return (
            None,
            text,
            f"  in       {got.line or 'the call with (' + ', '.join(compare.names(exercise.reference)) + ')'}",
        )
    if got.output is None:
        return "returns nothing", "Your function returned nothing: did you forget `return`?", ""
    return None


def _shapes(exercise: Exercise, case: _Case, got: _Outcome) -> _Problem | None:
    want = case.truth
    if got.values.keys() != want.values.keys():
        came, expected = compare.describe(got.output), compare.describe(want.output)
        return None, "The result has not the expected parts.", f"  expected {expected}\n  got      {came}"
    for path, leaf in want.values.items():
        if compare.shape(got.values[path]) != compare.shape(leaf):
            return None, "The result has not the expected shape.", _evidence(f"result{path}", got.values[path], leaf)
    return None


def _kinds(exercise: Exercise, case: _Case, got: _Outcome) -> _Problem | None:
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


def _values(exercise: Exercise, case: _Case, got: _Outcome) -> _Problem | None:
    tolerance = compare.slack(got.values, exercise.tolerance)
    for path, want in case.truth.values.items():
        if not compare.close(got.values[path], want, tolerance):
            return None, "The result differs from the right one.", _evidence(f"result{path}", got.values[path], want)
    return None


def _left_alone(exercise: Exercise, case: _Case, got: _Outcome) -> _Problem | None:
    if got.changed:
        text = f"The result is right, but your function changes `{got.changed}` itself, which its caller still needs."
        return "changes its input in place", text, ""
    return None


def _gradients(exercise: Exercise, case: _Case, got: _Outcome) -> _Problem | None:
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
    if isinstance(want, Tensor) and want.dim() and compare.shape(got) == compare.shape(want):
        lines.append(f"  {compare.worst(got, want)}")
    return "\n".join(lines)


# ---- naming the mistake ----------------------------------------------------------------------------------------------


def _fail(
    exercise: Exercise, cases: list[_Case], seen: list[_Outcome], case: _Case, stage: Callable, problem: _Problem
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


def _behaves_as(wrong: Callable, exercise: Exercise, cases: list[_Case], seen: list[_Outcome], stage: Callable) -> bool:
    """Whether a wrong variant does on every input what the attempt did."""

    def equal(got: dict, other: dict, truth: dict, tolerance: float) -> bool:
        # NaN here and infinity there are one mistake.
        both_broken = compare.broken(got, truth) and compare.broken(other, truth)
        return both_broken or compare.all_close(got, other, tolerance)

    def alike(case: _Case, got: _Outcome) -> bool:
        other = _observe(wrong, case.args, exercise)
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
