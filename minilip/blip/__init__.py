"""BLIP: contrast, match, describe. The three losses, the model, and the filter that it makes of itself."""

from minilip.blip.losses import follow, hard_negatives, itc_loss, itm_loss, lm_loss, soft_targets
from minilip.blip.model import BLIP

__all__ = ["BLIP", "follow", "hard_negatives", "itc_loss", "itm_loss", "lm_loss", "soft_targets"]
