"""What an exercise is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Misconception:
    """A wrong answer worth making.

    Args:
        name: what it does, as it stands after FAIL: "multiplies by the temperature".
        wrong: the function a mistaken learner writes; for a `Prediction`, the value a mistaken learner expects.
        message: the mistake and the idea behind it, without giving the answer away.
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
        reference: an independent one written for clarity, with loops. It runs in float64 and is called by position;
            messages use its argument names.
        inputs: torch.Generator -> argument tuples, of several sizes; extreme ones too where numerics is the lesson.
        hints: three, from a nudge to nearly the answer.
        misconceptions: the first one that does on every input what the attempt does is reported.
        gradients: names of the tensor arguments whose gradient is compared too.
        invariances: further inputs, made from the others, on which the result must stay the same.
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
    """Say what will happen, then run it: the attempt is a value (number, string, tensor, tuple), not a function.

    Args:
        answer: the right value; of strings, case and surrounding spaces do not count.
        hints, misconceptions: as in `Exercise`.
        tolerance: largest difference of numbers that are not whole, relative to the largest one.
    """

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
        use: what the notebook goes on with: the attempt where it passes, else the library's function or the answer.
        message: what to tell the learner; empty after PASS.
    """

    status: str
    mistake: str | None
    use: Any
    message: str

    def _ipython_display_(self) -> None:
        """Show nothing as the last value of a cell: `check` has printed it."""
