"""Training and evaluation mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


@contextmanager
def evaluating(model: M) -> Iterator[M]:
    """The model in eval mode inside the block, and each of its modules in its own mode again after it.

    Also after an error or an interrupted cell. A part that was frozen in eval mode stays so: `model.train()` would not
    know of it.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield model
    finally:
        for module, training in modes:
            module.training = training
