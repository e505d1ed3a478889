"""What an exercise is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

STABILITY = "exp overflows above 88 and is 0 below -103 in float32. Which function never forms the large number?"


@dataclass(frozen=True)
class Slip:
    """A mistake that can be made in any function: `change(right function) -> wrong function`."""

    change: Callable[[Callable], Callable]

    def __call__(self, right: Callable) -> Callable:
        return self.change(right)


@dataclass(frozen=True)
class Misconception:
    """A wrong answer worth making.

    Args:
        name: what it does, as it stands after FAIL: "multiplies by the temperature".
        wrong: the function a mistaken learner writes, or a `Slip` that makes it of the library's; for a `Prediction`,
            the value a mistaken learner expects. It is called by position.
        message: the mistake and the idea behind it, without giving the answer away.
        says: says(wrong result, *arguments) -> bool, what the message states of the result ("your loss is negative"):
            the proofs hold it against every plain input on which the result is wrong.
    """

    name: str
    wrong: Any
    message: str
    says: Callable[..., Any] | None = None


def both(first: Misconception, second: Misconception, wrong: Callable) -> Misconception:
    """Two misconceptions that are often made at once, and the function that makes both."""
    # What the two messages say of the result need not be so of both at once; the names are of what the function does.
    text = f"Two slips at once: {first.name}; {second.name}. Mend one, and the check explains the other."
    return Misconception(f"{first.name}, and {second.name}", wrong, text)


@dataclass(frozen=True)
class Invariance:
    """A change of the arguments, `transform(*arguments) -> arguments`, that leaves the right result as it is."""

    name: str
    transform: Callable[..., tuple]
    message: str


@dataclass(frozen=True, eq=False)
class Exercise:
    """Write a function.

    Args:
        library: the function that the notebook goes on with until the learner's is right.
        reference: an independent one written for clarity, with loops. It runs in float64 and is called by position;
            messages use its argument names.
        inputs: torch.Generator -> argument tuples, of several sizes and moderate numbers, on which a wrong formula
            gives a finite wrong number.
        hints: three, from a nudge to nearly the answer.
        misconceptions: the first one that does on every input what the attempt does is reported; then two at once, if
            one of them is a `Slip`.
        gradients: names of the arguments whose gradient is compared too. A number is then passed a second time as a
            tensor that requires grad, without dimensions and with one element by turns.
        extreme: like `inputs`; judged in float32 once all else is right, where numerics is the lesson.
        stability: what an attempt is told that is right on the plain inputs and overflows on the extreme ones.
        invariances: further inputs, made from the plain ones, on which the result must stay the same.
        view: view(result, *arguments) is compared in place of the result, where several results are right.
        tolerance: largest difference, relative to the largest expected number of a tensor.
        scale: scale(*arguments) -> the size of the numbers that cancel on the way to the result, to which the
            tolerance is relative if it is larger than the result.
        right: right answers written differently (einsum, other formula), for the proofs; float64, lists and arrays
            are tried without being named.
        naive: unstable answers, right on the plain inputs and wrong on the extreme ones, for the proofs; or the reason
            why there is none.
    """

    library: Callable
    reference: Callable
    inputs: Callable[[torch.Generator], Sequence[tuple]]
    hints: tuple[str, str, str]
    misconceptions: tuple[Misconception, ...]
    gradients: tuple[str, ...] = ()
    extreme: Callable[[torch.Generator], Sequence[tuple]] | None = None
    stability: str = STABILITY
    invariances: tuple[Invariance, ...] = ()
    view: Callable | None = None
    tolerance: float = 1e-4
    scale: Callable[..., Any] | None = None
    right: tuple[Callable, ...] = ()
    naive: tuple[Callable, ...] | str = ""

    def wrong(self, misconception: Misconception) -> Callable:
        """The function of a misconception."""
        wrong = misconception.wrong
        return wrong(self.library) if isinstance(wrong, Slip) else wrong


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
