"""Apply an encoder to many inputs, and say how large it is.

Letters: N examples, D feature dimension.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from minilip import _check


@torch.no_grad()
def encode(function: Callable[[Tensor], Tensor], inputs: Tensor, batch: int = 512) -> Tensor:
    """Apply an encoder to many inputs, `batch` at a time, without gradients. (N, ...) -> (N, D) float32"""
    batch = _check.count("batch", batch)
    _check.tensor("inputs", inputs)
    if inputs.dim() == 0 or len(inputs) == 0:
        _check.fail("inputs", "at least one", "none")
    return torch.cat([function(part).float() for part in inputs.split(batch)])  # (N, D)


def parameters(module: nn.Module) -> int:
    """How many numbers a module learns.

    >>> parameters(nn.Linear(3, 2))  # 6 weights and 2 biases
    8
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
