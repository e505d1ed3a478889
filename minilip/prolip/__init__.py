"""ProLIP: embeddings that know what they don't know. The method, inclusion, and the uses of a variance."""

from minilip.prolip.inclusion import (
    clip_norm,
    contains,
    inclusion,
    inclusion_difference,
    inclusion_loss,
    projection_residual,
)
from minilip.prolip.model import ProLIP, csd, ppcl_loss, reparametrise, vib_loss
from minilip.prolip.uncertainty import (
    gallery_scores,
    partial_spearman,
    prompt_weights,
    reweighted_class,
    traverse,
    uncertainty,
)

__all__ = [
    "ProLIP",
    "clip_norm",
    "contains",
    "csd",
    "gallery_scores",
    "inclusion",
    "inclusion_difference",
    "inclusion_loss",
    "partial_spearman",
    "ppcl_loss",
    "projection_residual",
    "prompt_weights",
    "reparametrise",
    "reweighted_class",
    "traverse",
    "uncertainty",
    "vib_loss",
]
