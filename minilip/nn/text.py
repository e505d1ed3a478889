"""Towers for words: a bag of words and a Transformer.

Letters: B batch, D feature dimension, L tokens, R read-out tokens.
Every tower has `.dim`, the length D of its output, and returns features of any length: projecting to the shared
space and normalising is the model's job.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilip import _check
from minilip.nn.tokenizer import PAD
from minilip.nn.transformer import Block


def check_tokens(x: Tensor, vocabulary: int) -> None:
    _check.count("vocabulary", vocabulary)
    if not isinstance(x, Tensor) or x.dim() != 2 or x.dtype != torch.int64 or x.numel() == 0:
        _check.fail("tokens", "int64 of shape (B, L)", _check.described(x))
    low, high = int(x.min()), int(x.max())
    if low < 0 or high >= vocabulary:
        _check.fail("tokens", f"numbers from 0 to {vocabulary - 1}", f"{low} to {high}")


class BagOfWords(nn.Module):
    """The mean of the word vectors, blind to their order, then a two-layer MLP. (B, L) -> (B, D)"""

    def __init__(self, vocabulary: int, dim: int = 128):
        super().__init__()
        _check.count("vocabulary", vocabulary)
        _check.count("dim", dim)
        self.vocabulary, self.dim = vocabulary, dim
        self.embed = nn.Embedding(vocabulary, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        check_tokens(tokens, self.vocabulary)
        real = (tokens != PAD).unsqueeze(-1)  # (B, L, 1)
        mean = (self.embed(tokens) * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)  # (B, D)
        return self.mlp(mean)


class TextTransformer(nn.Module):
    """A Transformer over words, read at a [CLS] token put in front; padding is not attended to. (B, L) -> (B, D)

    With R = `readouts` > 1 there are more tokens to read at, such as ProLIP's [UNC]. (B, L) -> (B, R, D)
    """

    def __init__(self, vocabulary: int, length: int, dim: int = 64, depth: int = 2, heads: int = 4, readouts: int = 1):
        super().__init__()
        for name, value in (("vocabulary", vocabulary), ("length", length), ("dim", dim), ("depth", depth)):
            _check.count(name, value)
        _check.count("heads", heads)
        _check.count("readouts", readouts)
        if dim % heads:
            _check.fail("dim", f"a multiple of {heads} heads", dim)
        self.vocabulary, self.length, self.dim, self.readouts = vocabulary, length, dim, readouts
        self.embed = nn.Embedding(vocabulary, dim)
        self.cls = nn.Parameter(0.02 * torch.randn(readouts, dim).squeeze(0))  # (D,) or (R, D)
        self.position = nn.Parameter(0.02 * torch.randn(readouts + length, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        check_tokens(tokens, self.vocabulary)
        if tokens.shape[1] > self.length:
            _check.fail("tokens", f"at most {self.length} a row", tokens.shape[1])
        x = torch.cat([self.cls.expand(len(tokens), self.readouts, -1), self.embed(tokens)], dim=1)  # (B, R + L, D)
        x = x + self.position[: x.shape[1]]
        visible = F.pad(tokens != PAD, (self.readouts, 0), value=True)[:, None, None, :]  # (B, 1, 1, R + L)
        for block in self.blocks:
            x = block(x, visible)
        return self.norm(x[:, : self.readouts]).squeeze(1)  # (B, D) or (B, R, D)
