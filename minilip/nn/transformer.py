"""The Transformer block that the towers and MAE are made of.

Letters: B batch, L tokens, D feature dimension.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from minilip import _check


class Block(nn.Module):
    """One pre-norm Transformer block (Vaswani et al. 2017; pre-norm as in Xiong et al. 2020). (B, L, D) -> (B, L, D)"""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        _check.count("dim", dim)
        _check.count("heads", heads)
        if dim % heads:
            _check.fail("dim", f"a multiple of {heads} heads", dim)
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        q, k, v = rearrange(self.qkv(self.norm1(x)), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)  # (B, heads, L, D / heads)
        x = x + self.out(rearrange(a, "b h l d -> b l (h d)"))  # (B, L, D)
        return x + self.mlp(self.norm2(x))
