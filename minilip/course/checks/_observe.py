"""What a function does on the inputs of an exercise: results, gradients, changes to its inputs, errors."""

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import _compare as compare
from ._exercise import Exercise, Invariance


@dataclass
class Outcome:
    output: Any = None
    values: dict[str, Any] = field(default_factory=dict)
    gradients: dict[str, Any] = field(default_factory=dict)
    changed: str | None = None  # the argument that was changed in place
    error: Exception | None = None
    line: str = ""  # of the function, where the error came from
    unwritten: bool = False


@dataclass
class Case:
    args: tuple
    truth: Outcome
    because: Invariance | None


def make_cases(exercise: Exercise) -> list[Case]:
    """The inputs, each with what the reference makes of it, and their transformed copies."""
    cases = []
    for args in exercise.inputs(torch.Generator().manual_seed(0)):
        truth = observe(exercise.reference, compare.clone(args, double=True), exercise)
        if truth.error:
            raise truth.error
        cases.append(Case(args, truth, None))
        cases += [Case(i.transform(*compare.clone(args)), truth, i) for i in exercise.invariances]
    return cases


def observe(function: Callable, args: tuple, exercise: Exercise) -> Outcome:
    """Call the function on copies of the arguments, once for its result and once for its gradients."""
    outcome = Outcome()
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


def _is_stub(outcome: Outcome) -> bool:
    if isinstance(outcome.error, NotImplementedError):
        # torch raises the same class, with a text, where an operation lacks a precision
        return not str(outcome.error) or "NotImplementedError" in outcome.line
    parts = outcome.output if isinstance(outcome.output, tuple) else (outcome.output,)
    return any(part is ... for part in parts) or "ellipsis" in str(outcome.error)  # computing with `...` left in place
