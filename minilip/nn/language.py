"""A small causal language model: words, or vectors in their place, to the words that follow.

Letters: B batch, L tokens, D width of a token, V words in the vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilip import _check
from minilip.nn.text import check_tokens
from minilip.nn.tokenizer import PAD
from minilip.nn.transformer import Block


class LanguageModel(nn.Module):
    r"""A Transformer in which a word sees itself and what stands before it. (B, L) or (B, L, D) -> logits (B, L, V)

    $$ p(t_{j+1} \mid t_1 \dots t_j) = \operatorname{softmax}(E\,u_j), \quad u = \text{blocks}(E_t + \text{position}) $$

    The rows of one matrix E (V, D) are both the vectors of the words on the way in and the classifier on the way out.
    What comes in may be vectors (B, L, D) instead of words: a soft prompt is a row that is no row of E.

    Args:
        vocabulary: V, special tokens among them.
        length: the most tokens of a row.
        dim: D; depth: blocks; heads: of each block.

    Raises:
        ValueError: rows longer than `length`, numbers outside the vocabulary, vectors of another width.

    Source: decoder of Vaswani et al. 2017 (arXiv 1706.03762), tied matrix of Press and Wolf 2017 (arXiv 1608.05859);
    lessons 08 and 10.
    """

    def __init__(self, vocabulary: int, length: int, dim: int = 64, depth: int = 2, heads: int = 4):
        super().__init__()
        for name, value in (("vocabulary", vocabulary), ("length", length), ("dim", dim), ("depth", depth)):
            _check.count(name, value)
        self.vocabulary, self.length, self.dim = vocabulary, length, dim
        self.embed = nn.Embedding(vocabulary, dim)  # E
        self.position = nn.Parameter(0.02 * torch.randn(length, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Row j of the result is about the token behind j."""
        if isinstance(x, Tensor) and x.is_floating_point():
            _check.sequences("x", x)
            if x.shape[2] != self.dim:
                _check.fail("x", f"vectors of {self.dim}", tuple(x.shape))
        else:
            check_tokens(x, self.vocabulary)
            x = self.embed(x)  # (B, L, D)
        n = x.shape[1]
        if n > self.length:
            _check.fail("x", f"at most {self.length} tokens a row", n)
        x = x + self.position[:n]
        before = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()  # (L, L) row j sees columns 0 ... j
        for block in self.blocks:
            x = block(x, before)
        return F.linear(self.norm(x), self.embed.weight)  # (B, L, V)

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Texts (B, L), padded with PAD behind their end -> nats a word, the first of each row not among them."""
        check_tokens(batch, self.vocabulary)
        if batch.shape[1] < 2:
            _check.fail("batch", "rows of at least two tokens", tuple(batch.shape))
        logits = self(batch[:, :-1])  # (B, L - 1, V)
        return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), ignore_index=PAD), {}
