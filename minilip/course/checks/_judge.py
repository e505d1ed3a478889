"""Judge an attempt: run it beside the reference, stop at the first stage that differs, name the mistake.

Plain inputs come first, so that a wrong formula gets its name; then the same on inputs that must not matter
(invariances); then the extreme inputs, whose failures speak of numerics. On each of them the stages are: it runs,
shape, dtype and finiteness, value, its inputs left alone, gradient.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from minilip.course import compare
from minilip.course.checks._exercise import Exercise, Misconception, Prediction, Report, Slip, both
from minilip.course.checks._guard import Printer
from minilip.course.checks._observe import Case, Outcome, make_cases, observe
from minilip.course.checks._relations import relation

EXTREME = "wrong on extreme numbers"


@dataclass
class Problem:
    """What is wrong with an attempt, and where it shows."""

    mistake: str | None  # its name, where the stage knows it
    text: str
    what: str = ""  # the part of the result that differs
    got: Any = None
    want: Any = None
    line: str = ""  # of the attempt
    case: Case | None = None

    def evidence(self) -> str:
        if self.line or not self.what:
            return f"  in       {self.line}" if self.line else ""
        lines = [] if self.what == "result" else [f"  in       {self.what}"]
        lines += [f"  expected {compare.numbers(self.want)}", f"  got      {compare.numbers(self.got)}"]
        alike = isinstance(self.want, Tensor) and compare.shape(self.got) == compare.shape(self.want)
        if alike and self.want.numel() and self.got.isfinite().all() and self.want.isfinite().all():
            lines.append(f"  {compare.worst(self.got, self.want)}")
        return "\n".join(lines)


def judge(exercise: Exercise | Prediction, attempt: Any, seed: int = 0) -> Report:
    """The verdict on an attempt. Whatever the attempt raises becomes part of the report.

    Args:
        attempt: a function for an `Exercise`, a value for a `Prediction`; None or `...` where nothing is written yet.
        seed: of the inputs. A notebook sees those of 0; who grades asks for others, which no table can hold.
    """
    return examine(exercise, attempt, seed)[0]


def examine(exercise: Exercise | Prediction, attempt: Any, seed: int = 0) -> tuple[Report, Problem | None]:
    """The verdict, and after FAIL what it rests on."""
    instead = exercise.answer if isinstance(exercise, Prediction) else exercise.library
    todo = Report("TODO", None, instead, "Not written yet.")
    if attempt is None or attempt is ...:
        return todo, None
    if isinstance(exercise, Prediction):
        return _judge_value(exercise, attempt), None
    if not callable(attempt):
        return Report("FAIL", None, instead, f"Expected a function, got {compare.describe(attempt)}."), None
    cases, printer = make_cases(exercise, seed), Printer()
    plain = _see(exercise, attempt, cases.plain, printer)
    if any(got.unwritten for _, got in plain):
        return todo, None
    if problem := _first(exercise, plain):
        return _fail(exercise, problem, plain, _name_plain), problem
    invariant = _see(exercise, attempt, cases.invariant, printer)
    for because in exercise.invariances:
        if problem := _first(exercise, [(c, got) for c, got in invariant if c.because is because]):
            return _fail(exercise, problem, plain + invariant, _name_variant), problem
    extreme = _see(exercise, attempt, cases.extreme, printer)
    if problem := _first(exercise, extreme):
        return _fail(exercise, problem, plain + extreme, _name_extreme), problem
    return Report("PASS", None, attempt, ""), None


def problem_with(exercise: Exercise, attempt: Callable, cases: Sequence[Case] | None = None) -> Problem | None:
    """What is wrong with an attempt on these cases, or on all of the exercise, without a name; None if nothing is."""
    made = make_cases(exercise)
    for case in cases or sorted((*made.plain, *made.invariant, *made.extreme), key=lambda c: c.size):
        if problem := _first(exercise, _see(exercise, attempt, [case], Printer(0))):
            return problem
    return None


def _see(exercise: Exercise, attempt: Callable, cases: Sequence[Case], printer: Printer) -> list[tuple[Case, Outcome]]:
    return [(c, observe(attempt, c.args, exercise, c.truth, c.turn, printer, c.plain)) for c in cases]


def _judge_value(exercise: Prediction, attempt: Any) -> Report:
    def read(value: Any) -> dict[str, Any]:
        return {p: v.strip().casefold() if isinstance(v, str) else v for p, v in compare.leaves(value).items()}

    def is_attempt(value: Any) -> bool:
        return compare.all_close(read(compare.fit(attempt, value)), read(value), exercise.tolerance)

    if is_attempt(exercise.answer):
        return Report("PASS", None, attempt, "")
    for known in filter(lambda m: is_attempt(m.wrong), exercise.misconceptions):
        return Report("FAIL", known.name, exercise.answer, known.message)
    return Report("FAIL", None, exercise.answer, f"It is not {compare.numbers(attempt)}.")


# ---- stages: what is wrong, or None ----------------------------------------------------------------------------------


def _first(exercise: Exercise, seen: list[tuple[Case, Outcome]]) -> Problem | None:
    """The first stage that any input fails, shown on the smallest input that fails it."""
    for stage in (_runs, _shapes, _kinds, _values, _left_alone, _gradients):
        for case, got in sorted(seen, key=lambda pair: pair[0].size):
            if problem := stage(exercise, case, got):
                problem.case = case
                return problem
    return None


def _runs(exercise: Exercise, case: Case, got: Outcome) -> Problem | None:
    if got.error:
        where = got.line or f"the call with ({', '.join(compare.names(exercise.reference))})"
        return Problem(None, compare.words(got.error), line=where)
    if got.output is None:
        return Problem("returns nothing", "Your function returned nothing: did you forget `return`?")
    return None


def _shapes(exercise: Exercise, case: Case, got: Outcome) -> Problem | None:
    want = case.truth
    if got.values.keys() != want.values.keys():
        came, expected = compare.describe(got.output), compare.describe(want.output)
        parts = f"  expected {expected}\n  got      {came}"
        return Problem(None, f"The result does not have the expected parts.\n{parts}")
    for path, leaf in want.values.items():
        came = got.values[path]
        if compare.shape(came) != compare.shape(leaf):
            return Problem(None, "The result does not have the expected shape.", f"result{path}", came, leaf)
        if isinstance(came, Tensor) and came.is_meta:
            return Problem(None, "Your result lies on the meta device: it has a shape and no numbers.")
    return None


def _kinds(exercise: Exercise, case: Case, got: Outcome) -> Problem | None:
    for path, want in case.truth.values.items():
        came = got.values[path]
        # A single number may be a Python int or float.
        if isinstance(want, Tensor) and (want.dim() or came.is_complex()) and compare.kind(came) != compare.kind(want):
            text = f"Expected {compare.kind(want)} numbers, got {compare.kind(came)} ones."
            return Problem(None, text, f"result{path}", came, want)
        if compare.broken({path: came}, {path: want}):
            return Problem(None, "The result is not finite where the right one is.", f"result{path}", came, want)
    return None


def _values(exercise: Exercise, case: Case, got: Outcome) -> Problem | None:
    tolerance = case.tolerance(exercise, got)
    for path, want in case.truth.values.items():
        if not compare.close(got.values[path], want, tolerance, case.scale):
            return Problem(None, "The result differs from the right one.", f"result{path}", got.values[path], want)
    return None


def _left_alone(exercise: Exercise, case: Case, got: Outcome) -> Problem | None:
    if got.changed:
        text = f"The result is right, but your function changes `{got.changed}` in place. Its caller still needs it."
        return Problem("changes its input in place", f"{text} x = x / 2 makes a new tensor, x /= 2 does not.")
    if detour := got.detour:
        return Problem(detour.name, f"The result is right, but not the way to it. {detour.message}")
    return None


def _gradients(exercise: Exercise, case: Case, got: Outcome) -> Problem | None:
    if case.because or not exercise.gradients:
        return None  # the result is the same there, its gradient need not be
    if got.gradient_error:
        text = f"The result is right, but not when {_listed(exercise.gradients)} can learn (requires_grad): "
        return Problem(None, text + compare.words(got.gradient_error), line=got.line)
    tolerance = case.tolerance(exercise, got)
    for path, want in case.truth.values.items():
        if not compare.close(got.learned.get(path), want, tolerance, case.scale):
            text = f"The result is right, but another one comes when {_listed(exercise.gradients)} can learn."
            return Problem(None, text, f"result{path}", got.learned.get(path), want)
    wrong = {}
    for name, want in case.truth.gradients.items():
        came = got.gradients[name].reshape(want.shape)
        if not compare.close(came, want, tolerance):
            wrong[name] = (came, want)
    for name, (came, want) in wrong.items():
        where = (f"the gradient with respect to {name}", came, want)
        if cut := [n for n in got.cut if n in wrong]:
            if name not in cut:
                continue
            text = f"The result is right, but no gradient reaches {_listed(cut)}: the graph is cut on the way."
            return Problem("detached", f"{text} float(), item(), detach(), numpy() and no_grad() cut it.", *where)
        if not came.isfinite().all() and want.isfinite().all():
            return Problem(
                None, f"The result is right, but its gradient with respect to `{name}` is not finite.", *where
            )
        if not came.any():
            text = f"The result is right, but its gradient with respect to `{name}` is 0: something on the way is flat"
            return Problem(None, f"{text} (a comparison, a rounding, a clamp).", *where)
        return Problem(None, f"The result is right, but its gradient with respect to `{name}` is not.", *where)
    return None


def _listed(names: Sequence[str]) -> str:
    quoted = [f"`{n}`" for n in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


# ---- naming the mistake ----------------------------------------------------------------------------------------------

_Seen = list[tuple[Case, Outcome]]
_Name = tuple[str | None, str]


def _fail(exercise: Exercise, problem: Problem, seen: _Seen, name: Callable[..., _Name]) -> Report:
    mistake, text = name(exercise, problem, seen)
    named = zip(compare.names(exercise.reference), problem.case.args if problem.case else ())  # noqa: B905
    given = ", ".join(f"{n} {compare.given(x)}" for n, x in named)
    lines = (text, f"  input    {given}", problem.evidence())
    return Report("FAIL", mistake, exercise.library, "\n".join(filter(None, lines)))


def _name_plain(exercise: Exercise, problem: Problem, seen: _Seen) -> _Name:
    if known := _known(exercise, seen):
        return known.name, known.message
    pairs = [(c.args, got.values, c.truth.values) for c, got in seen]
    if problem.what.startswith("result") and all(got.values for _, got in seen):
        found = relation(compare.names(exercise.reference), pairs, exercise.tolerance)
        also = next((got.changed for _, got in seen if got.changed), None)
        text = problem.text + (f" Yours is {found}." if found else "")
        return problem.mistake, text + (f" It also changes `{also}` in place." if also else "")
    return problem.mistake, problem.text


def _name_variant(exercise: Exercise, problem: Problem, seen: _Seen) -> _Name:
    if known := _known(exercise, seen):
        return known.name, known.message
    because = problem.case.because if problem.case else None
    return (because.name, because.message) if because else (problem.mistake, problem.text)


def _name_extreme(exercise: Exercise, problem: Problem, seen: _Seen) -> _Name:
    if known := _known(exercise, seen):
        return known.name, known.message
    raises = f"not on extreme ones. {problem.text.rstrip('.')}."
    differs = f"on extreme ones {problem.text[0].lower()}{problem.text[1:]}"
    return EXTREME, f"Right on ordinary numbers, but {differs if problem.what else raises} {exercise.stability}"


def _known(exercise: Exercise, seen: _Seen) -> Misconception | None:
    """The misconception that does on every input what the attempt does, or two of them at once."""
    if all(got.error for _, got in seen):
        return None
    seen = sorted(seen, key=lambda pair: pair[0].size)  # small ones first: most are told apart there
    right = not any(stage(exercise, c, got) for c, got in seen for stage in (_runs, _shapes, _kinds, _values))
    candidates = (*exercise.misconceptions, *_pairs(exercise))
    return next((m for m in candidates if _behaves_as(exercise.wrong(m), exercise, seen, right)), None)


def _pairs(exercise: Exercise) -> Iterator[Misconception]:
    for first in exercise.misconceptions:
        for second in exercise.misconceptions:
            if isinstance(second.wrong, Slip) and first is not second:
                yield both(first, second, second.wrong(exercise.wrong(first)))


def _behaves_as(wrong: Callable, exercise: Exercise, seen: _Seen, right: bool) -> bool:
    """Whether a wrong variant does on every input what the attempt did, and is wrong on one of them.

    Args:
        right: the attempt's results are, so that what counts is its gradients and what it changes.
    """

    def equal(got: dict, other: dict, truth: dict, tolerance: float, scale: float) -> bool:
        both = compare.broken(got, truth) and compare.broken(other, truth)  # NaN here, infinity there: one mistake
        return both or compare.all_close(got, other, tolerance, scale)

    deviates = False
    for case, got in seen:
        other = observe(wrong, case.args, exercise, case.truth, case.turn)
        if got.error or other.error:
            if type(got.error) is not type(other.error):
                return False
            deviates = True
            continue
        tolerance = case.tolerance(exercise, got)
        if not equal(got.values, other.values, case.truth.values, tolerance, case.scale):
            return False
        if right and (other.changed != got.changed or type(other.gradient_error) is not type(got.gradient_error)):
            return False
        graded = right and not case.because
        if graded and not equal(got.gradients, other.gradients, case.truth.gradients, tolerance, compare.SMALL):
            return False
        deviates = deviates or _first(exercise, [(case, other)]) is not None
    return deviates
