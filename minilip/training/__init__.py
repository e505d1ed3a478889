"""The one training loop."""

from minilip.training.history import History
from minilip.training.loop import cosine_warmup, fit, optimizer

__all__ = ["History", "cosine_warmup", "fit", "optimizer"]
