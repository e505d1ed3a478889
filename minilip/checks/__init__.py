"""Exercises that know the mistakes: `judge` says whether an attempt is right and, where it can, which mistake it makes.

One module a lesson (`minilip/checks/clip.py` for `check("clip.zero_shot", ...)`) declares `LESSON = "07_clip"` and
`EXERCISES: dict[str, Exercise | Prediction]`. CONTRIBUTING.md shows how to write one.
"""

import difflib
import importlib
import pkgutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import _compare as compare


@dataclass(frozen=True)
class Misconception:
    """A wrong answer worth making.

    Args:
        name: what it does, as it stands after FAIL: "multiplies by the temperature".
        wrong: the function a mistaken learner writes; for a `Prediction`, the value a mistaken learner expects.
        message: names the mistake and the idea behind it; it does not give the answer away.
    """

    name: str
    wrong: Any
    message: str


@dataclass(frozen=True)
class Invariance:
    """A change of the arguments, `transform(*arguments) -> arguments`, that leaves the right result as it is."""

    name: str
    transform: Callable[..., tuple]
    message: str


@dataclass(frozen=True)
class Exercise:
    """Write a function.

    Args:
        library: the function that the notebook goes on with until the learner's is right.
        reference: an independent one written for clarity, with loops; runs in float64. Its argument names appear in
            messages; it is called by position.
        inputs: torch.Generator -> argument tuples, of several sizes; extreme ones too where numerics is the lesson.
        hints: three, from a nudge to nearly the answer.
        misconceptions: the first that behaves as the attempt does, on every input, is reported.
        gradients: names of the arguments whose gradient is compared too.
        invariances: further inputs, made from the others, on which the result must not change.
        view: view(result, *arguments) is compared in place of the result, where several results are right.
        tolerance: largest difference, relative to the largest expected number of a tensor.
    """

    library: Callable
    reference: Callable
    inputs: Callable[[torch.Generator], Sequence[tuple]]
    hints: tuple[str, str, str]
    misconceptions: tuple[Misconception, ...]
    gradients: tuple[str, ...] = ()
    invariances: tuple[Invariance, ...] = ()
    view: Callable | None = None
    tolerance: float = 1e-4


@dataclass(frozen=True)
class Prediction:
    """Say what will happen, then run it: the attempt is a value (number, string, tensor, tuple), not a function."""

    answer: Any
    hints: tuple[str, str, str]
    misconceptions: tuple[Misconception, ...]
    tolerance: float = 1e-2


@dataclass(frozen=True)
class Report:
    """The verdict on an attempt.

    Attributes:
        status: "PASS", "TODO" (nothing to judge yet) or "FAIL".
        mistake: the name of the recognised mistake, or None.
        use: what the notebook goes on with: the attempt where it passes, else the library's.
        message: what to tell the learner; empty after PASS.
    """

    status: str
    mistake: str | None
    use: Any
    message: str

    def _ipython_display_(self) -> None:
        """Show nothing as the last value of a cell: `check` has printed it."""


def judge(exercise: Exercise | Prediction, attempt: Any) -> Report:
    """Judge an attempt: errors, shape, dtype and finiteness, value, arguments left alone, gradient, invariances."""
    instead = exercise.answer if isinstance(exercise, Prediction) else exercise.library
    todo = Report("TODO", None, instead, "")
    if attempt is None or attempt is ...:
        return todo
    if isinstance(exercise, Prediction):
        return _judge_value(exercise, attempt)
    if not callable(attempt):
        return Report("FAIL", None, instead, f"Expected a function, got {compare.describe(attempt)}.")
    cases = _cases(exercise)
    seen = [_observe(attempt, case.args, exercise) for case in cases]
    if any(_unwritten(outcome) for outcome in seen):
        return todo
    for because in (None, *exercise.invariances):
        for stage in (_ran, _shapes, _kinds, _values, _left_alone, _gradients):
            for case, got in zip(cases, seen, strict=True):
                if case.because is because and (problem := stage(exercise, case, got)):
                    return _fail(exercise, cases, seen, case, stage, problem)
    return Report("PASS", None, attempt, "")


# ---- what a function does --------------------------------------------------------------------------------------------


@dataclass
class _Outcome:
    output: Any = None
    values: dict[str, Any] = field(default_factory=dict)
    gradients: dict[str, Any] = field(default_factory=dict)
    changed: str | None = None
    error: Exception | None = None


@dataclass
class _Case:
    args: tuple
    truth: _Outcome
    because: Invariance | None


def _cases(exercise: Exercise) -> list[_Case]:
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
    names = compare.signature(exercise.reference)
    try:
        given = compare.clone(args)
        outcome.output, outcome.values = _call(function, given, args, exercise)
        for name, before, after in zip(names, args, given, strict=False):
            if not compare.all_close(compare.leaves(after), compare.leaves(before), tolerance=0.0):
                outcome.changed = outcome.changed or name
        if exercise.gradients and outcome.output is not None and not outcome.changed:
            given = compare.clone(args)
            wanted = {name: given[names.index(name)].requires_grad_() for name in exercise.gradients}
            outcome.gradients = _differentiate(_call(function, given, args, exercise)[1], wanted)
    except Exception as error:  # whatever a learner's function raises is material for a report
        outcome.error = error
    return outcome


def _call(function: Callable, given: tuple, args: tuple, exercise: Exercise) -> tuple[Any, dict[str, Any]]:
    # Its own random stream: the notebook's numbers must not depend on whether an exercise is solved.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(0)
        output = function(*given)
        if output is None or output is ...:
            return output, {}
        return output, compare.leaves(exercise.view(output, *given) if exercise.view else output)


def _differentiate(values: dict[str, Any], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradient of a fixed weighted sum of all results (a plain sum of a softmax would have none); zeros for none."""
    total = torch.zeros(())
    for leaf in values.values():
        if isinstance(leaf, Tensor) and leaf.requires_grad:
            weights = torch.arange(leaf.numel()).cos().view(leaf.shape)
            total = total.to(leaf) + (leaf * weights.to(leaf)).sum()
    if not total.requires_grad:
        return {name: torch.zeros_like(x) for name, x in wanted.items()}
    found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(wanted, found, strict=True))


def _unwritten(outcome: _Outcome) -> bool:
    """A stub: it raises NotImplementedError, or computes with `...`."""
    if isinstance(outcome.error, NotImplementedError):
        # torch raises the same class where an operation lacks a precision
        return not str(outcome.error) or "NotImplementedError" in (_line(outcome.error) or "")
    parts = outcome.output if isinstance(outcome.output, tuple) else (outcome.output,)
    return any(part is ... for part in parts) or "ellipsis" in str(outcome.error)


# ---- the stages: each returns None or (mistake, what is wrong, evidence) -----------------------------------------------

_Problem = tuple[str | None, str, str]


def _ran(exercise: Exercise, case: _Case, got: _Outcome) -> _Problem | None:
    if got.error:
        text = traceback.format_exception_only(got.error)[-1].strip().splitlines()[0]
        called = f"it is called with ({', '.join(compare.signature(exercise.reference))})"
        return None, text, f"  in       {_line(got.error) or called}"
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
    def kind(x: Tensor) -> str:
        return "floating point" if x.is_floating_point() else str(x.dtype).removeprefix("torch.").rstrip("0123456789")

    for path, leaf in case.truth.values.items():
        came = got.values[path]
        if isinstance(leaf, Tensor) and leaf.dim() and kind(leaf) != kind(came):
            text = f"The numbers are of the wrong kind: expected {kind(leaf)}, got {came.dtype}."
            return None, text, _evidence(f"result{path}", came, leaf)
    if compare.broken(got.values, case.truth.values):
        path = next(p for p in got.values if compare.broken({p: got.values[p]}, case.truth.values))
        text = "The result is not finite where the right one is."
        return None, text, _evidence(f"result{path}", got.values[path], case.truth.values[path])
    return None


def _values(exercise: Exercise, case: _Case, got: _Outcome) -> _Problem | None:
    for path, leaf in case.truth.values.items():
        if not compare.close(got.values[path], leaf, exercise.tolerance):
            return None, "The result differs from the expected one.", _evidence(f"result{path}", got.values[path], leaf)
    return None


def _left_alone(exercise: Exercise, case: _Case, got: _Outcome) -> _Problem | None:
    if got.changed:
        text = f"The result is right, but your function changes `{got.changed}` itself, which its caller still needs."
        return "changes its input in place", text, ""
    return None


def _gradients(exercise: Exercise, case: _Case, got: _Outcome) -> _Problem | None:
    for name, want in case.truth.gradients.items():
        came, evidence = got.gradients[name], _evidence(f"d/d {name}", got.gradients[name], want)
        if not came.any() and want.any():
            text = f"The result is right, but no gradient reaches `{name}`: somewhere the graph is cut."
            return "detached", f"{text} detach(), item(), numpy() and no_grad() cut it.", evidence
        if not compare.close(came, want, exercise.tolerance):
            return None, f"The result is right, but its gradient with respect to `{name}` is not.", evidence
    return None


def _evidence(what: str, got: Any, want: Any) -> str:
    lines = [f"  expected {compare.numbers(want)}", f"  got      {compare.numbers(got)}"]
    if isinstance(want, Tensor) and compare.shape(got) == compare.shape(want):
        lines.append(f"  {compare.worst(got, want)}" + ("" if what == "result" else f", in {what}"))
    return "\n".join(lines)


def _line(error: Exception) -> str | None:
    """Where in the learner's function an error came from: the last line of the file that the function is in."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    inside = [f for f in frames if f.filename == frames[0].filename]
    return f"line {inside[-1].lineno}: {inside[-1].line}" if inside else None


# ---- naming the mistake ----------------------------------------------------------------------------------------------


def _fail(
    exercise: Exercise, cases: list[_Case], seen: list[_Outcome], case: _Case, stage: Callable, problem: _Problem
) -> Report:
    mistake, text, evidence = problem
    names = compare.signature(exercise.reference)
    known = next((m for m in exercise.misconceptions if _behaves_as(m.wrong, exercise, cases, seen, stage)), None)
    if known:
        mistake, text = known.name, known.message
    elif case.because:
        mistake, text = case.because.name, case.because.message
    elif stage in (_shapes, _values):
        compared = [(c.args, g.values, c.truth.values) for c, g in zip(cases, seen, strict=True) if not c.because]
        if found := compare.relation(names, compared, exercise.tolerance):
            text += f" Yours is {found}."
    inputs = f"  input    {compare.arguments(names, case.args)}"
    return Report("FAIL", mistake, exercise.library, "\n".join(filter(None, (text, inputs, evidence))))


def _behaves_as(
    wrong: Callable, exercise: Exercise, cases: list[_Case], seen: list[_Outcome], stage: Callable
) -> bool:
    """Whether a wrong variant does on every input what the attempt did."""

    def alike(case: _Case, got: _Outcome) -> bool:
        other = _observe(wrong, case.args, exercise)
        if got.error or other.error:
            return type(got.error) is type(other.error)
        if compare.broken(got.values, case.truth.values) and compare.broken(other.values, case.truth.values):
            return True  # NaN here and infinity there are one mistake
        if stage is _left_alone and not other.changed:
            return False
        agree = compare.all_close(got.values, other.values, exercise.tolerance)
        return agree and (stage is not _gradients or compare.all_close(got.gradients, other.gradients, exercise.tolerance))

    returned = any(not got.error for got in seen)
    return returned and all(alike(case, got) for case, got in zip(cases, seen, strict=True))


def _judge_value(exercise: Prediction, attempt: Any) -> Report:
    def equal(value: Any) -> bool:
        left, right = ({p: v.strip().casefold() if isinstance(v, str) else v for p, v in compare.leaves(x).items()}
                       for x in (attempt, value))  # fmt: skip
        return compare.all_close(left, right, exercise.tolerance)

    if equal(exercise.answer):
        return Report("PASS", None, attempt, "")
    known = next((m for m in exercise.misconceptions if equal(m.wrong)), None)
    text = known.message if known else f"Not {compare.numbers(attempt)}."
    return Report("FAIL", known.name if known else None, exercise.answer, text)


# ---- finding and testing exercises -----------------------------------------------------------------------------------


def catalogue() -> dict[str, tuple[str, Exercise | Prediction]]:
    """Every exercise of the course: "clip.zero_shot" -> (lesson, exercise), in the order of the lessons."""
    modules = [importlib.import_module(f"{__name__}.{m}") for m in _modules()]
    return {
        f"{module.__name__.rpartition('.')[2]}.{key}": (module.LESSON, exercise)
        for module in sorted(modules, key=lambda m: m.LESSON)
        for key, exercise in module.EXERCISES.items()
    }


def find(name: str) -> tuple[str, Exercise | Prediction]:
    """(lesson, exercise) of a name such as "clip.zero_shot".

    Raises:
        ValueError: there is none; the nearest names are listed.
    """
    module_name, _, key = name.partition(".")
    if module_name in _modules():
        module = importlib.import_module(f"{__name__}.{module_name}")
        if key in module.EXERCISES:
            return module.LESSON, module.EXERCISES[key]
    near = difflib.get_close_matches(name, catalogue(), n=3, cutoff=0.4)
    raise ValueError(f"no exercise {name!r}" + (f"; did you mean {' or '.join(map(repr, near))}?" if near else ""))


def _modules() -> list[str]:
    return [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]


def assert_exercise(exercise: Exercise | Prediction, correct: Sequence[Any] = ()) -> None:
    """For tests: every misconception fails with its own name and message, everything correct passes.

    Args:
        correct: right variants written differently (loop, einsum, float64, ...).
    """
    wrongs, function = exercise.misconceptions, isinstance(exercise, Exercise)
    least = 3 if function else 1
    assert len(wrongs) >= least, f"at least {least} misconceptions"
    assert len(exercise.hints) == 3, "three hints"
    for texts in (exercise.hints, [m.name for m in wrongs], [m.message for m in wrongs]):
        assert all(t.strip() for t in texts) and len(set(texts)) == len(texts), f"empty or repeated: {texts}"
    right = (exercise.library, exercise.reference) if isinstance(exercise, Exercise) else (exercise.answer,)
    for i, attempt in enumerate((*right, *correct)):
        report = judge(exercise, attempt)
        assert report.status == "PASS" and report.use is attempt, f"right variant {i}: {report}"
    for m in wrongs:
        report = judge(exercise, m.wrong)
        assert (report.status, report.mistake) == ("FAIL", m.name), f"misconception {m.name!r}: {report}"
        assert report.message.startswith(m.message), f"misconception {m.name!r}: {report}"
    if isinstance(exercise, Exercise):
        for name in exercise.gradients:
            assert any(c.truth.gradients[name].any() for c in _cases(exercise)), f"no gradient reaches {name}"
