"""BLIP: contrast, match, describe. The losses, the model, retrieval with two heads, captions that are filtered."""

from minilip.blip.filtering import Kept, capfilt, match_score
from minilip.blip.losses import follow, hard_negatives, itc_loss, itm_loss, lm_loss, momentum_targets
from minilip.blip.model import BLIP
from minilip.blip.searching import match_table, rerank, shortlist
from minilip.blip.towers import Eye, Labelled, Reader

__all__ = [
    "BLIP",
    "Eye",
    "Kept",
    "Labelled",
    "Reader",
    "capfilt",
    "follow",
    "hard_negatives",
    "itc_loss",
    "itm_loss",
    "lm_loss",
    "match_score",
    "match_table",
    "momentum_targets",
    "rerank",
    "shortlist",
]
