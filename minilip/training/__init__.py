"""The one training loop, and what goes on from a trained encoder."""

from minilip.training.encoders import keep_encoder, load_encoder
from minilip.training.history import History
from minilip.training.loop import cosine_warmup, fit, optimizer
from minilip.training.tuning import finetune

__all__ = ["History", "cosine_warmup", "finetune", "fit", "keep_encoder", "load_encoder", "optimizer"]
