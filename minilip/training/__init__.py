"""The one training loop."""

from minilip.training.loop import History, cosine_warmup, fit, optimizer

__all__ = ["History", "cosine_warmup", "fit", "optimizer"]
