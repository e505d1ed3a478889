"""Unit vectors."""

import torch
from torch import Tensor
from torch.nn import functional as F

from minilip import _check


def unit(x: Tensor) -> Tensor:
    """Each row at length 1, in float32 or better. (B, D)"""
    _check.tensor("x", x, 2, floating=True)
    # In bfloat16 a direction has two to three digits: too few for the cosines of a batch of near neighbours.
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)
