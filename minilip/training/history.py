"""What happened in a run, kept as values that any later session can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minilip import _check


@dataclass
class History:
    """What happened at each step, and what `watch` measured. Tensors in it are copies on the CPU."""

    loss: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)  # training time at the end of each step, `watch` not counted
    watched: list[tuple[int, float, Any]] = field(default_factory=list)  # (step, training seconds, measurement)


def plain(value: Any, name: str, strict: bool = False) -> Any:
    """A copy in the types that `torch.load(weights_only=True)` reads back.

    These are None, numbers, text, tensors on the CPU, and lists, tuples and dicts of them. NumPy's numbers become
    Python's; its arrays become tensors, those of text lists. A dataclass becomes a dict, a named tuple a tuple.

    Args:
        value: what is to be kept.
        name: of the value, for the error.
        strict: refuse what has no such form; else it is left as it is.

    Raises:
        ValueError: strict, and a part cannot be kept; the message names it.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        return value.detach().as_subclass(Tensor).to("cpu", copy=True)
    if isinstance(value, np.generic) and type(value.item()) in (bool, int, float, str):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
        try:
            return torch.from_numpy(np.array(value))
        except (TypeError, ValueError):  # text, and numbers that torch does not have
            return value.tolist()
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {plain(k, f"a key of {name}", strict): plain(v, f"{name}[{k!r}]", strict) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        kept = [plain(v, f"{name}[{i}]", strict) for i, v in enumerate(value)]
        return tuple(kept) if isinstance(value, tuple) else kept
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), f"{name}.{f.name}", strict) for f in fields(value)}
    if strict:
        kind_of = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        _check.fail(name, "numbers, text, tensors, and lists, tuples or dicts of them, to be kept", f"a {kind_of}")
    return value
