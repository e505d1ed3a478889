"""What a function does on the inputs of an exercise: results, gradients, changes to its inputs, errors."""

import contextlib
import functools
import inspect
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minilip.course import compare

from ._exercise import Detour, Exercise, Invariance, Made
from ._guard import Printer, guarded


class _Watch(TorchDispatchMode):
    """Notes the tensors that torch computes."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Made] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in compare.tensors(result):
            size = x.untyped_storage().nbytes() // x.element_size() if x.layout == torch.strided else x.numel()
            self.made.append(Made(func.overloadpacket.__name__, tuple(x.shape), size))
        return result


@dataclass
class Outcome:
    output: Any = None
    values: dict[str, Any] = field(default_factory=dict)
    gradients: dict[str, Any] = field(default_factory=dict)
    learned: dict[str, Any] = field(default_factory=dict)  # the values when the arguments require grad
    cut: tuple[str, ...] = ()  # arguments that are not in the graph
    changed: str | None = None  # the argument that was changed in place
    error: Exception | None = None
    line: str = ""  # of the function, where the error came from
    detour: Detour | None = None  # the way by which the values came, where it was watched and is not to be taken
    gradient_error: Exception | None = None  # with arguments that require grad only
    unwritten: bool = False


@dataclass
class Case:
    args: tuple
    truth: Outcome
    because: Invariance | None = None
    scale: float = compare.SMALL
    extreme: bool = False
    turn: int = 0  # even: a number that learns has no dimensions; odd: it has one element

    def tolerance(self, exercise: Exercise, got: Outcome) -> float:
        """What the result deserves; where numbers of a hundred cancel, float32 keeps two digits less."""
        return max(compare.slack(got.values, exercise.tolerance), 1e-2 if self.extreme else 0.0)

    @property
    def plain(self) -> bool:
        return not self.because and not self.extreme

    @property
    def size(self) -> int:
        """How many numbers there are to look at."""
        return sum(x.numel() if isinstance(x, Tensor) else 1 for x in compare.leaves(self.args).values())


@dataclass
class Cases:
    plain: list[Case]
    invariant: list[Case]
    extreme: list[Case]


@functools.lru_cache(maxsize=16)
def make_cases(exercise: Exercise, seed: int = 0) -> Cases:
    """The inputs, each with what the reference makes of it, and the transformed copies of the plain ones."""

    def make(inputs: Callable | None, extreme: bool = False) -> list[Case]:
        given = inputs(torch.Generator().manual_seed(2 * seed + extreme)) if inputs else ()
        return [make_case(exercise, args, extreme, turn) for turn, args in enumerate(given)]

    plain = make(exercise.inputs)
    invariant = [
        Case(i.transform(*compare.clone(c.args)), c.truth, i, c.scale, turn=c.turn)
        for i in exercise.invariances
        for c in plain
    ]
    return Cases(plain, invariant, make(exercise.extreme, True))


def make_case(exercise: Exercise, args: tuple, extreme: bool = False, turn: int = 0) -> Case:
    """What the reference makes of the arguments, in float64."""
    truth = observe(exercise.reference, compare.clone(args, double=True), exercise)
    if error := truth.error or truth.gradient_error:
        raise error
    scale = float(exercise.scale(*compare.clone(args))) if exercise.scale else 0.0
    return Case(args, truth, None, max(compare.SMALL, scale), extreme, turn)


def observe(
    function: Callable,
    args: tuple,
    exercise: Exercise,
    like: Outcome | None = None,
    turn: int = 0,
    printer: Printer | None = None,
    watched: bool = False,
) -> Outcome:
    """Call the function on copies of the arguments, once for its result and once for its gradients.

    Args:
        like: the truth; a list is read as a tensor where the truth is one.
        turn: see `Case`.
        watched: look for a detour.
    """
    outcome, silent = Outcome(), printer or Printer(0)
    names = compare.names(exercise.reference)
    try:
        given = compare.clone(args)
        versions = _versions(given)
        with _Watch() if watched and exercise.detour else contextlib.nullcontext() as watch:
            outcome.output, outcome.values = _call(function, given, exercise, like, silent)
        if watch and exercise.detour and exercise.detour.taken(watch.made, *compare.clone(args)):
            outcome.detour = exercise.detour
        outcome.changed = _changed(names, args, given, versions)
    except Exception as error:  # whatever a learner's function raises is material for the report
        outcome.error, outcome.line = error, _line(error, function)
    outcome.unwritten = _is_stub(outcome)
    if exercise.gradients and outcome.values and not outcome.changed:
        for dimensions in sorted({turn % 2, 0}, reverse=True):  # loops may take a number without dimensions only
            try:
                outcome.gradient_error = None
                given, wanted = _learning(compare.clone(args), names, exercise.gradients, dimensions)
                versions = _versions(given)
                outcome.learned = _call(function, given, exercise, like, silent)[1]
                if dimensions and not compare.all_close(outcome.learned, outcome.values, exercise.tolerance):
                    continue  # nor need they say the same of one element
                outcome.changed = _changed(names, given, given, versions)
                with guarded(silent):
                    outcome.gradients, outcome.cut = _differentiate(outcome.learned, wanted)
                break
            except Exception as error:
                outcome.gradient_error, outcome.line = error, _line(error, function)
    return outcome


def _call(
    function: Callable, given: tuple, exercise: Exercise, like: Outcome | None, printer: Printer
) -> tuple[Any, dict[str, Any]]:
    with guarded(printer):
        output = function(*given)
        if output is None or output is ...:
            return output, {}
        read = compare.fit(output, like.output) if like else output
        return output, compare.leaves(exercise.view(read, *given) if exercise.view else read)


def _learning(
    given: tuple, names: list[str], wanted: Sequence[str], dimensions: int
) -> tuple[tuple, dict[str, Tensor]]:
    """The arguments with those that are differentiated as tensors that require grad, and these.

    What is handed out is no leaf: torch lets it be changed in place, so that the change can be told from other errors.
    """
    found, double = {}, any(x.dtype == torch.double for x in compare.tensors(given))
    for name in wanted:
        value = given[names.index(name)]
        if not isinstance(value, Tensor):
            value = torch.tensor(value, dtype=torch.double if double else torch.float)
            value = value[None] if dimensions else value
        found[name] = value.requires_grad_()
    return tuple(found[n].clone() if n in found else x for n, x in zip(names, given)), found  # noqa: B905


def _differentiate(values: dict[str, Any], wanted: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Gradients of one weighted sum of all results (the plain sum of a softmax would have none); zero where cut off."""
    total = torch.zeros(())
    for leaf in values.values():
        if isinstance(leaf, Tensor) and leaf.requires_grad:
            weights = torch.arange(leaf.numel()).cos().view(leaf.shape).to(leaf)
            total = total.to(leaf) + (leaf * weights).sum()
    if not total.requires_grad:
        return {name: torch.zeros_like(x) for name, x in wanted.items()}, tuple(wanted)
    found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    pairs = dict(zip(wanted, found, strict=True))
    cut = tuple(name for name, gradient in pairs.items() if gradient is None)
    return {name: torch.zeros_like(wanted[name]) if g is None else g.detach() for name, g in pairs.items()}, cut


def _versions(given: tuple) -> dict[str, int]:
    # Every change in place counts one up, also one that happens to leave the numbers as they are.
    return {p: x._version for p, x in compare.leaves(given).items() if isinstance(x, Tensor)}


def _changed(names: list[str], before: tuple, after: tuple, versions: dict[str, int]) -> str | None:
    for i, (name, old, new) in enumerate(zip(names, before, after)):  # noqa: B905
        now = {p: x for p, x in compare.leaves(new, f"[{i}]").items() if isinstance(x, Tensor)}
        if not compare.untouched(old, new) or any(x._version != versions.get(p) for p, x in now.items()):
            return name
    return None


def _line(error: Exception, function: Callable) -> str:
    """The last line of the function's own file on the way to the error."""
    here = str(Path(__file__).parent)
    try:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(here)]
        code = getattr(inspect.unwrap(function), "__code__", None)
    except Exception:
        return ""
    inside = [f for f in frames if code and f.filename == code.co_filename] or frames[:1]
    return f"line {inside[-1].lineno}: {inside[-1].line}" if inside else ""


def _is_stub(outcome: Outcome) -> bool:
    text = compare.words(outcome.error)
    if isinstance(outcome.error, NotImplementedError):
        # torch raises the same class, with a text, where an operation lacks a precision
        return text == "NotImplementedError" or "NotImplementedError" in outcome.line
    parts = outcome.output if isinstance(outcome.output, tuple) else (outcome.output,)
    return any(part is ... for part in parts) or "ellipsis" in text  # computing with `...` left in place
