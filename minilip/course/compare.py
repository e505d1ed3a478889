"""Compare what came with what was expected, and say in words how they differ."""

import copy
import functools
import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

# What a result of this precision deserves: it keeps 24 (float32), 11 (float16) or 8 (bfloat16) bits of a number, and a
# loss is several roundings deep. A Python float may come from float32 too.
LEAST = 1e-4
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


def clone_graph(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Floating-point tensors changed by a function that autograd follows; the rest as it is."""
    if type(value) in (tuple, list):
        return type(value)(clone_graph(v, change) for v in value)
    return change(value) if isinstance(value, Tensor) and value.is_floating_point() else value


def tensors(value: Any) -> list[Tensor]:
    """All tensors of an argument."""
    if isinstance(value, tuple | list):
        return [x for v in value for x in tensors(v)]
    return [value] if isinstance(value, Tensor) else []


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Flatten tuples, lists and mappings into {path: leaf}; numbers and arrays become tensors, the rest stays."""
    if isinstance(value, tuple | list):
        return {p: leaf for i, v in enumerate(value) for p, leaf in leaves(v, f"{path}[{i}]").items()}
    if isinstance(value, Mapping):
        return {p: leaf for k, v in value.items() for p, leaf in leaves(v, f"{path}[{k!r}]").items()}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        return {path: torch.from_numpy(np.array(value))}
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63):
        return {path: torch.tensor(value, dtype=torch.double if isinstance(value, float) else None)}
    if isinstance(value, Tensor):
        return {path: _strided(value)}
    return {path: value}


def _strided(x: Tensor) -> Tensor:
    """A sparse or quantised tensor as an ordinary one."""
    if x.is_quantized:
        return x.dequantize()
    return x if x.layout == torch.strided else x.to_dense()


def fit(value: Any, like: Any) -> Any:
    """What a learner returned in the form of the right result: a list of numbers or tensors as the tensor it stands
    for, a tensor as the list, one element as the number. What stands for nothing stays as it is."""
    if isinstance(like, Mapping) and isinstance(value, Mapping):
        return {k: fit(v, like[k]) if k in like else v for k, v in value.items()}
    if isinstance(like, tuple | list):
        listed = not any(map(np.ndim, like)) and isinstance(value, Tensor | np.ndarray) and value.ndim
        if listed and len(value) == len(like):
            value = list(value)
        if isinstance(value, tuple | list) and len(value) == len(like):
            return type(like)(fit(v, x) for v, x in zip(value, like, strict=True))
        return value
    if not isinstance(like, Tensor | np.ndarray | np.generic | float | int) or isinstance(like, bool):
        return value
    if isinstance(value, tuple | list) and np.ndim(like):
        value = _stack(value)
    found = leaves(value).get("")
    single = not np.ndim(like) and isinstance(found, Tensor) and found.dim() and found.numel() == 1
    return found.reshape(()) if single and isinstance(found, Tensor) else value


def _stack(rows: Any) -> Any:
    """Nested lists of numbers, arrays and tensors as one tensor, which keeps the graph."""
    parts: list[Any] = [_stack(row) if isinstance(row, tuple | list) else leaves(row).get("") for row in rows]
    same = parts and all(isinstance(p, Tensor) and shape(p) == shape(parts[0]) for p in parts)
    if not same:
        return rows
    dtype = functools.reduce(torch.promote_types, [p.dtype for p in parts])
    return torch.stack([p.to(dtype) for p in parts])


def shape(leaf: Any) -> tuple[int, ...] | None:
    return tuple(leaf.shape) if isinstance(leaf, Tensor) else None


def shapes(values: dict[str, Any]) -> dict[str, tuple[int, ...] | None]:
    return {path: shape(leaf) for path, leaf in values.items()}


def plain(x: Tensor) -> Tensor:
    """The numbers of a tensor, wherever and in whatever precision they are, as float64 on the CPU."""
    x = x.detach()
    return (x.real if x.is_complex() else x).cpu().double()


def gap(left: Tensor, right: Tensor, scale: float = SMALL) -> float:
    """Largest difference, relative to the largest number on either side and at least to `scale`; NaN for a NaN."""
    left, right = plain(left), plain(right)
    if left.numel() == 0:
        return 0.0
    apart = torch.where(left == right, 0.0, (left - right).abs())  # equal infinities do not differ
    sides = (left.flatten(), right.flatten(), torch.tensor([scale]))
    return (apart.max() / torch.cat([x[x.isfinite()].abs() for x in sides]).max()).item()


def slack(values: dict, tolerance: float) -> float:
    """The tolerance that results of this precision deserve."""
    kinds = [leaf.dtype for leaf in values.values() if isinstance(leaf, Tensor)]
    return max([tolerance, LEAST, *(SLACK.get(dtype, 0.0) for dtype in kinds)])


def close(got: Any, want: Any, tolerance: float, scale: float = SMALL) -> bool:
    """Equal leaves: floating-point numbers within the tolerance, whole numbers and all else exactly."""
    if not isinstance(got, Tensor) or not isinstance(want, Tensor):
        try:
            return type(got) is type(want) and bool(got == want)
        except Exception:  # an object of the learner's own
            return False
    if shape(got) != shape(want) or got.is_meta:
        return False
    if not got.is_floating_point() and not want.is_floating_point():
        return torch.equal(plain(got), plain(want))
    return gap(got, want, scale) <= tolerance


def all_close(got: dict, want: dict, tolerance: float, scale: float = SMALL) -> bool:
    return got.keys() == want.keys() and all(close(got[p], want[p], tolerance, scale) for p in want)


def alike(left: Any, right: Any) -> bool:
    """The same numbers, NaN and infinity included."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return bool(torch.allclose(plain(left), plain(right), rtol=LEAST, equal_nan=True))
    return close(left, right, LEAST)


def broken(got: dict, want: dict) -> bool:
    """Whether infinite or NaN numbers came where all of the expected ones are finite."""
    return any(
        isinstance(want[p], Tensor) and bool(want[p].isfinite().all() and not leaf.isfinite().all())
        for p, leaf in got.items()
        if isinstance(leaf, Tensor) and p in want and not leaf.is_meta
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


def words(error: BaseException | None) -> str:
    """The first line of an exception, whatever its own __str__ does."""
    if error is None:
        return ""
    try:
        return traceback.format_exception_only(error)[0].strip().splitlines()[0]
    except BaseException:
        return type(error).__name__


def describe(value: Any) -> str:
    """A value in a few words: "float32 (4, 7)", "0.5", "a tuple of 2"."""
    if isinstance(value, Tensor) and (value.dim() or value.is_meta):
        place = " on the meta device" if value.is_meta else ""
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}{place}"
    if isinstance(value, Tensor):
        return f"{value.item():.6g}"
    if isinstance(value, tuple | list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"array {value.dtype} {value.shape}"
    if isinstance(value, str | int | float):
        return shown(value)
    return f"a {type(value).__name__}"


def given(value: Any, most: int = 8) -> str:
    """An argument: its numbers if they are few, so that it can be tried by hand."""
    if isinstance(value, Tensor) and value.dim() and 0 < value.numel() <= most and not value.is_complex():
        return str(_rounded(plain(value).tolist()))
    return describe(value)


def _rounded(x: Any) -> Any:
    return [_rounded(v) for v in x] if isinstance(x, list) else float(f"{x:.4g}")


def shown(value: Any, most: int = 200) -> str:
    """repr, shortened, whatever an object's own __repr__ does."""
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= most else text[:most] + " ..."


def numbers(leaf: Any, most: int = 6) -> str:
    """The first entries of a tensor, and its shape where there are more; other values as they are."""
    if not isinstance(leaf, Tensor):
        return shown(leaf)
    if leaf.is_meta:
        return describe(leaf)
    first = [f"{x:.5g}" for x in plain(leaf).flatten()[:most].tolist()]
    if leaf.dim() == 0:
        return first[0]
    return f"[{', '.join(first)}{', ...' if leaf.numel() > most else ''}]  {tuple(leaf.shape)}"


def worst(got: Tensor, want: Tensor) -> str:
    """Where two tensors of one shape and finite numbers differ most."""
    apart = (plain(got) - plain(want)).abs()
    at = tuple(int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape))
    return f"largest difference {apart[at].item():.3g} at {list(at)}" if at else f"difference {apart.item():.3g}"
