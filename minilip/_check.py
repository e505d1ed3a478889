"""Refuse bad input with one sentence: what was expected and what came."""

import functools
import math
from collections.abc import Callable
from numbers import Integral
from typing import NoReturn, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")


class NotFinite(ValueError):
    """NaN or infinity where a finite number is needed; in training `fit` says at which step."""


def fail(name: str, expected: str, came: object) -> NoReturn:
    raise ValueError(f"{name}: expected {expected}, got {came}")


def finite(name: str, x: Tensor) -> None:
    # A sum is finite only if every entry is, and costs one pass; float32 keeps half precision from overflowing.
    total = x.detach().sum(dtype=torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else None)
    if not math.isfinite(total.item()):
        came = f"{int((~torch.isfinite(x)).sum())} non-finite of {x.numel()}"
        raise NotFinite(f"{name}: expected finite numbers, got {came}")


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
    plain = float(value.detach() if isinstance(value, Tensor) else value)
    if not math.isfinite(plain):
        raise NotFinite(f"{name}: expected a finite number, got {plain}")
    return plain


def positive(name: str, value: "float | Tensor") -> None:
    if (plain := number(name, value)) <= 0:
        fail(name, "a finite number above 0", plain)


def count(name: str, value: int, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        fail(name, f"a whole number of at least {least}", repr(value))


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
    """Compute a loss in float32 or better: half-precision tensors are widened and autocast is off inside."""

    widened: Callable[..., R] = loss  # widening keeps the signature, which a type checker cannot see

    @functools.wraps(loss)
    def wide(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next((x.device.type for x in args if isinstance(x, Tensor)), "cpu")
        given = map(_widen, args), {name: _widen(x) for name, x in kwargs.items()}
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return widened(*given[0], **given[1])
        with torch.autocast(device, enabled=False):
            return widened(*given[0], **given[1])

    return wide


def _widen(x: object) -> object:
    return x.float() if isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16) else x
