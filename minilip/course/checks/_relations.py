"""A result that is the right one doubled, transposed, negated: what explains a mistake that has no name."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from minilip.course.compare import close, plain


def _quantities(argument_names: Sequence[str], args: Sequence[Any]) -> dict[str, Tensor]:
    """The numbers that a forgotten or a doubled factor usually is: 2, the sizes of the inputs, their scalars."""
    found = {"2": 2.0}
    for name, value in zip(argument_names, args):  # noqa: B905
        if isinstance(value, Tensor) and value.dim():
            found |= {f"{name}.shape[{axis}]": float(size) for axis, size in enumerate(value.shape)}
        elif isinstance(value, float | int | Tensor):
            found[name] = float(value)
    return {label: torch.tensor(value, dtype=torch.double) for label, value in found.items()}


RELATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "the expected result with its sign turned": torch.neg,
    "the transpose of the expected result": lambda want: want.T if want.dim() == 2 else want,
    "the mean of the expected numbers": torch.mean,
    "the sum of the expected numbers": torch.sum,
    "the square of the expected result": torch.square,
    "the square root of the expected result": torch.sqrt,
    "the exponential of the expected result": torch.exp,
    "the logarithm of the expected result": torch.log,
}
SCALINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "the expected result times {}": torch.mul,
    "the expected result divided by {}": torch.div,
    "the expected result plus log({})": lambda want, q: want + q.log(),
    "the expected result minus log({})": lambda want, q: want - q.log(),
}


def relation(
    argument_names: Sequence[str], cases: Sequence[tuple[Sequence[Any], dict, dict]], tolerance: float
) -> str | None:
    """What the results are of the expected ones, for instance their double, where one relation explains all cases.

    Args:
        argument_names: for the words.
        cases: (arguments, what came, what was expected), the last two as `leaves`.
    """
    if any(got.keys() != want.keys() for _, got, want in cases):
        return None

    def explains(change: Callable[[Tensor, int], Tensor]) -> bool:
        return all(
            isinstance(leaf, Tensor)
            and isinstance(want[p], Tensor)
            and close(leaf, change(plain(want[p]), i), tolerance)
            for i, (_, got, want) in enumerate(cases)
            for p, leaf in got.items()
        )

    for label, relate in RELATIONS.items():
        if explains(partial(_alone, relate)):
            return label
    found = [_quantities(argument_names, args) for args, _, _ in cases]
    for quantity in found[0]:
        if any(quantity not in q for q in found):
            continue
        for label, scale in SCALINGS.items():
            if explains(partial(_scaled, scale, [q[quantity] for q in found])):
                return label.format(quantity)
    return None


def _alone(relate: Callable[[Tensor], Tensor], want: Tensor, case: int) -> Tensor:
    return relate(want)


def _scaled(scale: Callable[[Tensor, Tensor], Tensor], quantity: list[Tensor], want: Tensor, case: int) -> Tensor:
    return scale(want, quantity[case])
