"""Compare what came with what was expected, and say in words how they differ."""

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Half precision keeps 11 (float16) or 8 (bfloat16) bits of a number, and a loss is several roundings deep.
SLACK = {torch.float16: 1e-2, torch.bfloat16: 5e-2}
# Relative to nothing, a rounding error is infinite: numbers below this count as this large.
SMALL = 1e-2


def clone(value: Any, double: bool = False) -> Any:
    """A deep copy, so that nobody can change the original; `double` turns floating-point tensors into float64."""
    if isinstance(value, Tensor):
        copied = value.detach().clone()
        return copied.double() if double and copied.is_floating_point() else copied
    if isinstance(value, torch.Generator):
        return torch.Generator(value.device).set_state(value.get_state())
    if type(value) in (tuple, list):
        return type(value)(clone(v, double) for v in value)
    if isinstance(value, dict):
        return {k: clone(v, double) for k, v in value.items()}
    copied = copy.deepcopy(value)
    return copied.double() if double and isinstance(copied, torch.nn.Module) else copied


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Flatten tuples, lists and dicts into {path: leaf}; numbers and arrays become tensors, the rest stays."""
    if isinstance(value, tuple | list):
        return {p: leaf for i, v in enumerate(value) for p, leaf in leaves(v, f"{path}[{i}]").items()}
    if isinstance(value, dict):
        return {p: leaf for k, v in value.items() for p, leaf in leaves(v, f"{path}[{k!r}]").items()}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        return {path: torch.from_numpy(np.array(value))}
    if isinstance(value, bool | int | float):
        return {path: torch.tensor(value, dtype=torch.double if isinstance(value, float) else None)}
    return {path: value}


def shape(leaf: Any) -> tuple[int, ...] | None:
    return tuple(leaf.shape) if isinstance(leaf, Tensor) else None


def plain(x: Tensor) -> Tensor:
    """The numbers of a tensor, wherever and in whatever precision they are, as float64 on the CPU."""
    return x.detach().cpu().double()


def gap(left: Tensor, right: Tensor) -> float:
    """Largest difference, relative to the largest number on either side; NaN where a side is NaN."""
    left, right = plain(left), plain(right)
    if left.numel() == 0:
        return 0.0
    apart = torch.where(left == right, 0.0, (left - right).abs())  # equal infinities do not differ
    scale = torch.cat([x[x.isfinite()].abs() for x in (left.flatten(), right.flatten(), torch.tensor([SMALL]))]).max()
    return (apart.max() / scale).item()


def slack(values: dict, tolerance: float) -> float:
    """The tolerance that results of this precision deserve."""
    return max(tolerance, *(SLACK.get(leaf.dtype, 0.0) for leaf in values.values() if isinstance(leaf, Tensor)), 0.0)


def close(got: Any, want: Any, tolerance: float) -> bool:
    """Equal leaves: floating-point numbers within the tolerance, whole numbers and all else exactly."""
    if not isinstance(got, Tensor) or not isinstance(want, Tensor):
        return type(got) is type(want) and bool(got == want)
    if shape(got) != shape(want):
        return False
    if not got.is_floating_point() and not want.is_floating_point():
        return torch.equal(plain(got), plain(want))
    return gap(got, want) <= tolerance


def all_close(got: dict, want: dict, tolerance: float) -> bool:
    return got.keys() == want.keys() and all(close(got[p], want[p], tolerance) for p in want)


def broken(got: dict, want: dict) -> bool:
    """Whether infinite or NaN numbers came where all of the expected ones are finite."""
    return any(
        isinstance(want[p], Tensor) and bool(want[p].isfinite().all() and not leaf.isfinite().all())
        for p, leaf in got.items()
        if isinstance(leaf, Tensor) and p in want
    )


def untouched(before: Any, after: Any) -> bool:
    """Whether every tensor and array still holds the numbers it held."""
    old, new = leaves(before), leaves(after)
    return old.keys() == new.keys() and all(
        shape(x) == shape(new[p]) and torch.equal(x.nan_to_num(), new[p].nan_to_num())
        for p, x in old.items()
        if isinstance(x, Tensor)
    )


def names(function: Callable) -> list[str]:
    """Of the arguments."""
    return list(inspect.signature(function).parameters)


def kind(x: Tensor) -> str:
    """Precision and device are the learner's choice, the kind of number is not."""
    return "floating-point" if x.is_floating_point() else str(x.dtype).removeprefix("torch.").rstrip("0123456789")


# ---- words -----------------------------------------------------------------------------------------------------------


def describe(value: Any) -> str:
    """A value in a few words: "float32 (4, 7)", "0.5", "a tuple of 2"."""
    if isinstance(value, Tensor) and value.dim():
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Tensor):
        return f"{value.item():.6g}"
    if isinstance(value, tuple | list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"array {value.dtype} {value.shape}"
    if isinstance(value, str | int | float):
        return repr(value)
    return f"a {type(value).__name__}"


def numbers(leaf: Any, most: int = 6) -> str:
    """The first entries of a tensor, and its shape where there are more; other values as they are."""
    if not isinstance(leaf, Tensor):
        return repr(leaf)
    first = [f"{x:.5g}" for x in plain(leaf).flatten()[:most].tolist()]
    if leaf.dim() == 0:
        return first[0]
    return f"[{', '.join(first)}{', ...' if leaf.numel() > most else ''}]  {tuple(leaf.shape)}"


def worst(got: Tensor, want: Tensor) -> str:
    """Where two tensors of one shape and finite numbers differ most."""
    apart = (plain(got) - plain(want)).abs()
    at = tuple(int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape))
    return f"largest difference {apart[at].item():.3g}" + (f" at {list(at)}" if at else "")


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

    for label, f in RELATIONS.items():
        if explains(lambda want, _, f=f: f(want)):  # type: ignore[misc]
            return label
    found = [_quantities(argument_names, args) for args, _, _ in cases]
    for quantity in found[0]:
        for label, g in SCALINGS.items():
            if all(quantity in q for q in found) and explains(lambda want, i, g=g, q=quantity: g(want, found[i][q])):  # type: ignore[misc]
                return label.format(quantity)
    return None
