"""The one training loop."""

from minilip.training.history import History
from minilip.training.loop import cosine_warmup, fit, optimizer
from minilip.training.tuning import finetune

__all__ = ["History", "cosine_warmup", "finetune", "fit", "optimizer"]
