"""Refuse bad input with one sentence: what was expected and what came."""

import functools
import math
import operator
from collections.abc import Callable
from numbers import Integral
from typing import Any, NoReturn, ParamSpec, SupportsIndex, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")


class NotFinite(ValueError):
    """NaN or infinity where a finite number is needed; in training `fit` says at which step."""


def fail(name: str, expected: str, came: object) -> NoReturn:
    raise ValueError(f"{name}: expected {expected}, got {came}")


def finite(name: str, x: Tensor) -> None:
    if not _all_finite(name, x):
        came = f"{int((~torch.isfinite(x)).sum())} non-finite of {x.numel()}"
        raise NotFinite(f"{name}: expected finite numbers, got {came}")


def _all_finite(name: str, x: Tensor) -> bool:
    # A sum is finite only if every entry is, and costs one pass; float32 keeps half precision from overflowing.
    total = x.detach().sum(dtype=torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else None)
    try:
        plain = total.item()
    except RuntimeError as error:  # of torch.vmap and of the meta device
        raise ValueError(f"{name}: expected a tensor whose numbers can be read, got one that says: {error}") from error
    # The sum alone may overflow; then it takes a second pass to know.
    return math.isfinite(plain) or bool(torch.isfinite(x).all())


def tensor(name: str, x: object, dims: int | None = None, floating: bool = False) -> None:
    """A tensor of real numbers, of so many dimensions; floating-point if that is asked for."""
    if not isinstance(x, Tensor) or x.is_complex() or (floating and not x.is_floating_point()):
        fail(name, "a floating-point tensor" if floating else "a tensor of real numbers", described(x))
    if dims is not None and x.dim() != dims:
        fail(name, f"a tensor of {dims} dimension{'s' if dims > 1 else ''}", f"shape {tuple(x.shape)}")


def pictures(name: str, x: object) -> None:
    """A floating-point (B, 3, H, W) tensor of finite numbers with B >= 1."""
    if not isinstance(x, Tensor) or x.dim() != 4 or x.shape[1] != 3 or not x.is_floating_point() or x.numel() == 0:
        fail(name, "a floating-point tensor of shape (B, 3, H, W), B >= 1", described(x))
    finite(name, x)


def embeddings(name: str, x: Tensor, least: int = 1) -> None:
    """A floating-point (B, D) tensor of finite numbers with B >= least."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        fail(name, "a floating-point tensor", getattr(x, "dtype", type(x).__name__))
    if x.dim() != 2 or x.shape[1] == 0:
        fail(name, "shape (B, D)", tuple(x.shape))
    if x.shape[0] < least:
        why = " (in-batch negatives need a second pair)" if least == 2 else ""
        fail(name, f"a batch of at least {least}{why}", f"a batch of {x.shape[0]}")
    finite(name, x)


def sequences(name: str, x: object) -> None:
    """A floating-point (B, T, D) tensor of finite numbers, each length at least 1."""
    if not isinstance(x, Tensor) or x.dim() != 3 or not x.is_floating_point() or x.numel() == 0:
        fail(name, "a floating-point tensor of shape (B, T, D), each at least 1", described(x))
    finite(name, x)


def paired(name_x: str, x: Tensor, name_y: str, y: Tensor, least: int = 2) -> None:
    """Two embedding matrices of the same shape and device: row i of one belongs to row i of the other."""
    embeddings(name_x, x, least)
    embeddings(name_y, y, least)
    if x.shape != y.shape:
        fail(name_y, f"the shape of {name_x}, {tuple(x.shape)}", tuple(y.shape))
    if x.device != y.device:
        fail(name_y, f"the device of {name_x}, {x.device}", y.device)
    if x.dtype != y.dtype:
        fail(name_y, f"the dtype of {name_x}, {x.dtype}", y.dtype)


def number(name: str, value: "float | Tensor") -> float:
    if isinstance(value, Tensor) and value.numel() != 1:
        fail(name, "one number", f"shape {tuple(value.shape)}")
    if isinstance(value, str) or not hasattr(value, "__float__"):
        fail(name, "one number", repr(value))
    plain = float(value.detach() if isinstance(value, Tensor) else value)
    if not math.isfinite(plain):
        raise NotFinite(f"{name}: expected a finite number, got {plain}")
    return plain


def positive(name: str, value: "float | Tensor") -> None:
    if (plain := number(name, value)) <= 0:
        fail(name, "a finite number above 0", plain)


def count(name: str, value: SupportsIndex, least: int = 1) -> int:
    """A Python or NumPy integer; not a bool, whose counting is a mistake more often than meant."""
    if isinstance(value, (bool, Tensor)) or not hasattr(value, "__index__") or operator.index(value) < least:
        fail(name, f"a whole number of at least {least}", repr(value))
    return operator.index(value)


def labels(name: str, y: Tensor, n: int | None, k: int) -> None:
    """(N,) int64 in 0 ... K - 1; N is any number from 1 on if it is None."""
    if (
        not isinstance(y, Tensor)
        or y.dtype != torch.int64
        or y.dim() != 1
        or len(y) != (max(len(y), 1) if n is None else n)
    ):
        fail(name, f"int64 of shape ({'N' if n is None else n},)", described(y))
    if len(y) == 0:
        fail(name, "at least one", "none")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= k:
        fail(name, f"numbers from 0 to {k - 1}", f"{low} to {high}")


def generator(name: str, value: object, device: torch.device | None = None) -> None:
    if not isinstance(value, torch.Generator):
        fail(name, "a torch.Generator", repr(value))
    if device is not None and value.device.type != device.type:
        fail(name, f"a torch.Generator on {device}", f"one on {value.device}")


def described(x: object) -> str:
    """What came, for an error: dtype and shape of a tensor, the type of anything else."""
    return f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


def choice(name: str, value: object, among: "tuple[str, ...] | list[str]") -> None:
    if value not in among:
        fail(name, f"one of {', '.join(map(str, among))}", repr(value))


def views(x1: Tensor, x2: Tensor) -> None:
    """Two views of the same B >= 2 pictures: row i of both shows picture i."""
    if x1.shape != x2.shape or len(x1) < 2:
        fail("views", "two of one shape (B, 3, H, W), B >= 2", f"{tuple(x1.shape)} and {tuple(x2.shape)}")


def width(name: str, tower: nn.Module) -> int:
    """D of a tower: a module that turns a batch into features (B, D) and says how long they are, in `.dim`."""
    dim = getattr(tower, "dim", None)
    if isinstance(dim, bool) or not isinstance(dim, Integral) or dim < 1:
        came = f"{type(tower).__name__} without one" if dim is None else f"{type(tower).__name__} with {dim!r}"
        fail(name, "a tower with a whole number `.dim`, the length of its features", came)
    return int(dim)


def full_precision(loss: Callable[P, R]) -> Callable[P, R]:
    """Compute a loss in float32 or better: half-precision tensors are widened and autocast is off inside.

    Finite numbers can be too large or too small for what is made of them, such as a square: a result that is not
    finite is refused too.
    """

    widened: Callable[..., R] = loss  # widening keeps the signature, which a type checker cannot see

    @functools.wraps(loss)
    def wide(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next((x.device.type for x in args if isinstance(x, Tensor)), "cpu")
        given = map(_widen, args), {name: _widen(x) for name, x in kwargs.items()}
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return _held(loss, widened(*given[0], **given[1]))
        with torch.autocast(device, enabled=False):
            return _held(loss, widened(*given[0], **given[1]))

    return wide


def _held(loss: Callable[..., Any], result: R) -> R:
    name = loss.__name__
    for x in result if isinstance(result, tuple) else (result,):
        if isinstance(x, Tensor) and x.is_floating_point() and not _all_finite(name, x):
            raise NotFinite(f"{name}: expected a result that {x.dtype} can hold, got one too large or too small")
    return result


def _widen(x: object) -> object:
    return x.float() if isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16) else x
