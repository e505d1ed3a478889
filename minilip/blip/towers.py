"""The two halves of BLIP: an eye that keeps the places of what it sees, and one text Transformer for three roles.

Letters: B batch, L tokens, P places of the picture and one for all of it, D feature dimension, h heads, d = D / h.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from minilip import _check
from minilip.mae import sincos_positions
from minilip.nn.text import check_tokens
from minilip.nn.tokenizer import PAD
from minilip.nn.vision import check_images


class _Attention(nn.Module):
    """Attention of x to anything that has keys and values, pre-norm, its weights in the open.

    $$ A = \\operatorname{softmax}(Q K^\\top / \\sqrt d), \\qquad x + W_o A V $$
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        _check.count("dim", dim)
        if dim % _check.count("heads", heads):
            _check.fail("dim", f"a multiple of {heads} heads", dim)
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def keys(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, D) -> K and V, (B, h, P, d) each"""
        k, v = rearrange(self.key_value(source), "b p (two h d) -> two b h p d", two=2, h=self.heads)
        return k, v

    def forward(
        self, x: Tensor, source: tuple[Tensor, Tensor] | None = None, visible: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, L, D) -> the same, and A (B, h, L, P); without a source x attends to itself."""
        y = self.norm(x)
        k, v = self.keys(y) if source is None else source
        q = rearrange(self.query(y), "b l (h d) -> b h l d", h=self.heads)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])  # (B, h, L, P)
        if visible is not None:
            scores = scores.masked_fill(~visible, -torch.inf)
        weights = scores.softmax(dim=3)
        return x + self.out(rearrange(weights @ v, "b h l d -> b l (h d)")), weights


class Eye(nn.Module):
    """Four convolutions make a grid of places, one attention sums them up. (B, 3, H, W) -> (B, 1 + P, D)

    Token 0 stands for the whole picture, as the [CLS] of a Vision Transformer does; the others are the
    (H / 4) x (W / 4) places, row by row. They do not look at each other: each says what is there, and where that is.
    """

    def __init__(self, size: int = 32, dim: int = 64, heads: int = 4):
        super().__init__()
        for name, value in (("size", size), ("dim", dim)):
            _check.count(name, value)
        if size % 4 or dim % 4:
            _check.fail("size and dim", "multiples of 4", f"{size} and {dim}")
        self.size, self.dim, self.side = size, dim, size // 4
        layers: list[nn.Module] = []
        for before, after, stride in ((3, dim // 2, 2), (dim // 2, dim, 1), (dim, dim, 2), (dim, dim, 1)):
            layers += [
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.stem = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.position = nn.Parameter(sincos_positions(self.side, dim))
        self.norm = nn.LayerNorm(dim)
        self.sums_up, self.mlp = _Attention(dim, heads), _mlp(dim)
        self.whole_norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, self.size)
        grid = self.stem(images.contiguous(memory_format=torch.channels_last))  # (B, D, H / 4, W / 4)
        places = self.norm(rearrange(grid, "b d h w -> b (h w) d") + self.position)  # (B, P, D)
        whole, _ = self.sums_up(places.amax(dim=1, keepdim=True), self.sums_up.keys(places))  # (B, 1, D)
        return torch.cat([self.whole_norm(whole + self.mlp(whole)), places], dim=1)  # (B, 1 + P, D)


class Labelled(nn.Module):
    """An eye's convolutions under labels: what it starts from, as BLIP's does from a network trained on ImageNet.

    The largest answer of each unit over the places goes to a linear map for each kind of label. What is in a few places
    then gets all of the gradient; of a mean over 64 places it would get a sixty-fourth.

    Args:
        eye: whose `stem` learns; nothing else of it does.
        classes: of each kind of label, such as 8 colours and 3 shapes.
    """

    def __init__(self, eye: Eye, classes: tuple[int, ...]):
        super().__init__()
        for k in classes:
            _check.count("classes", k)
        self.stem, self.heads = eye.stem, nn.ModuleList(nn.Linear(eye.dim, k) for k in classes)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> logits of each kind of label, (B, K) each"""
        check_images(images)
        found = self.stem(images.contiguous(memory_format=torch.channels_last)).amax(dim=(2, 3))  # (B, D)
        return [head(found) for head in self.heads]

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """(images, labels (B, kinds)) -> the sum of the cross-entropies."""
        images, labels = batch
        each = [F.cross_entropy(x, y) for x, y in zip(self(images), labels.T, strict=True)]
        return torch.stack(each).sum(), {}


class _Layer(nn.Module):
    """One layer for three roles: two self-attentions, one cross-attention, one feed-forward net."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.reads, self.writes = _Attention(dim, heads), _Attention(dim, heads)  # in both directions; backwards only
        self.looks = _Attention(dim, heads)  # at the picture
        self.mlp = _mlp(dim)

    def forward(
        self, x: Tensor, visible: Tensor, writes: bool, picture: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor | None]:
        x, _ = (self.writes if writes else self.reads)(x, visible=visible)
        weights = None
        if picture is not None:
            x, weights = self.looks(x, picture)
        return x + self.mlp(x), weights


class Reader(nn.Module):
    """The text Transformer: it reads words alone, reads words beside a picture, and writes words about a picture.

    Args:
        vocabulary: numbers that a token can be, the roles' own among them.
        length: the most tokens of a row, the role's own among them.
        dim, depth, heads: D, layers, h.
    """

    def __init__(self, vocabulary: int, length: int, dim: int = 64, depth: int = 2, heads: int = 4):
        super().__init__()
        for name, value in (("vocabulary", vocabulary), ("length", length), ("dim", dim), ("depth", depth)):
            _check.count(name, value)
        self.vocabulary, self.length, self.dim = vocabulary, length, dim
        self.embed = nn.Embedding(vocabulary, dim)
        self.position = nn.Parameter(0.2 * torch.randn(length, dim))
        self.layers = nn.ModuleList(_Layer(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.embed.weight, std=0.2)

    def look(self, places: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each layer's keys and values of pictures (B, P, D): made once, for all that is read or written about them."""
        _check.sequences("places", places)
        return [layer.looks.keys(places) for layer in self.layers if isinstance(layer, _Layer)]

    def forward(
        self, tokens: Tensor, picture: list[tuple[Tensor, Tensor]] | None = None, writes: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """(B, L) tokens, the role's own first -> (B, L, D), and each layer's weights on the picture (B, h, L, P)."""
        check_tokens(tokens, self.vocabulary)
        n = tokens.shape[1]
        if n > self.length:
            _check.fail("tokens", f"at most {self.length} a row", n)
        visible = (tokens != PAD)[:, None, None, :]  # (B, 1, 1, L)
        if writes:
            visible = visible & torch.ones(n, n, dtype=torch.bool, device=tokens.device).tril()  # (B, 1, L, L)
        x, seen = self.embed(tokens) + self.position[:n], []  # (B, L, D)
        for i, layer in enumerate(self.layers):
            x, weights = layer(x, visible, writes, None if picture is None else picture[i])
            if weights is not None:
                seen.append(weights)
        return self.norm(x), seen


def _mlp(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
