"""The mistakes that can be made in any function, one maker each. Arguments are named by their position.

`Misconception("sum instead of mean", times(lambda q, k, t: len(q)), "Your loss grows with the batch ...")`
Those whose message is the same in every exercise are whole misconceptions, at the end.
"""

import math
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ._exercise import Misconception, Slip


def _of(what: Any, args: tuple) -> Any:
    return what(*args) if callable(what) else what


def then(change: Callable[[Any], Any]) -> Slip:
    """Something done to the result: `then(torch.log)`, `then(lambda r: r.T)`."""
    return Slip(lambda right: lambda *args: change(right(*args)))


def times(factor: Any) -> Slip:
    """The result times a number, or times what a function makes of the arguments: `times(lambda x, k: len(x))`."""
    return Slip(lambda right: lambda *args: right(*args) * _of(factor, args))


def plus(term: Any) -> Slip:
    """The result plus a number, or plus what a function makes of the arguments."""
    return Slip(lambda right: lambda *args: right(*args) + _of(term, args))


negated = times(-1)
percent = times(100)
in_bits = times(1 / math.log(2))
per_batch = times(lambda first, *_: len(first))  # sum for mean: the batch is the length of the first argument
averaged = times(lambda first, *_: 1 / len(first))  # mean for sum


def given(change: Callable[..., tuple]) -> Slip:
    """The right function of other arguments: `given(lambda q, k, t: (q, k, 1 / t))`."""
    return Slip(lambda right: lambda *args: right(*change(*args)))


def argument(at: int, change: Callable[[Any], Any]) -> Slip:
    """One argument changed: `argument(2, torch.exp)`."""
    return given(lambda *args: tuple(change(x) if i == at else x for i, x in enumerate(args)))


def inverted(at: int) -> Slip:
    """Multiplied where it divides: 1 / x for argument x."""
    return argument(at, lambda x: 1 / x)


def exponentiated(at: int) -> Slip:
    """The exponential taken of what is no logarithm."""
    return argument(at, lambda x: x.exp() if isinstance(x, Tensor) else math.exp(x))


def left_out(at: int, instead: Any) -> Slip:
    """One argument ignored, its place taken by a constant."""
    return argument(at, lambda _: instead)


def swapped(i: int, j: int) -> Slip:
    """Two arguments exchanged: the other direction."""

    def exchange(*args: Any) -> tuple:
        found = list(args)
        found[i], found[j] = found[j], found[i]
        return tuple(found)

    return given(exchange)


def transposed(at: int = 0) -> Slip:
    """The other axis: a square argument transposed and, where it is a table, the result transposed back."""

    def change(right: Callable) -> Callable:
        def wrong(*args: Any) -> Any:
            result = argument(at, lambda x: x.T)(right)(*args)
            return result.T if isinstance(result, Tensor) and result.dim() == 2 else result

        return wrong

    return Slip(change)


def normalised(*at: int) -> Slip:
    """Arguments made unit length along their last axis."""
    return given(lambda *args: tuple(F.normalize(x, dim=-1) if i in at else x for i, x in enumerate(args)))


def detached(*at: int) -> Slip:
    """The graph cut at some arguments: a float() or .detach() on the way."""
    return given(lambda *args: tuple(_cut(x) if i in at else x for i, x in enumerate(args)))


def _cut(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


# ---- whole misconceptions --------------------------------------------------------------------------------------------

SIGN_TURNED = Misconception(
    "sign turned",
    negated,
    "Your loss is negative: it is the log-probability itself. A loss is what should fall.",
    says=lambda loss, *_: loss < 0,
)
IN_BITS = Misconception(
    "in bits", in_bits, "This is right in bits. The course counts in nats: natural logarithms throughout."
)
PERCENT = Misconception("in percent", percent, "This is right in percent. A share lies between 0 and 1.")


def summed(what: str) -> Misconception:
    """Sum over the batch where the mean is asked for."""
    return Misconception(
        "sum instead of mean", per_batch, f"Your loss grows with the batch: take the mean over {what}."
    )


def normalises_inside(*at: int) -> Misconception:
    return Misconception(
        "normalises inside",
        normalised(*at),
        "You made the vectors unit length inside the loss. In this course a loss takes vectors as they come; the model "
        "normalises. Doing it twice hides a model that forgot.",
    )


def softmax_twice(wrong: Callable) -> Misconception:
    return Misconception(
        "softmax before the cross-entropy",
        wrong,
        "F.cross_entropy takes logits and does the softmax itself. You gave it probabilities, so it is done twice.",
    )
