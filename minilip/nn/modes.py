"""Train and eval mode, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; after it, however it ends, every submodule is in the mode in which it was.

    with evaluating(model), torch.no_grad():
        z = model(x)

    `model.train()` would not do: it wakes the parts that were frozen in eval mode on purpose.
    """
    before = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, training in before:
            module.training = training
