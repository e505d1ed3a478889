"""A text tower that has a vector for every word, whether it was ever seen or not: words as bags of their n-grams.

Letters: B sentences, L n-grams in the longest of them, D feature dimension.

Source: Bojanowski et al. 2017 (arXiv 1607.04606), section 3.2, which hashes n-grams of 3 to 6 letters into two million
buckets; lesson 07.
"""

from collections.abc import Sequence
from zlib import crc32

import torch
from torch import Tensor
from torch.nn import functional as F

from minilip import _check
from minilip.nn.text import BagOfWords, check_tokens
from minilip.nn.tokenizer import PAD, words


def ngrams(word: str, sizes: Sequence[int]) -> list[str]:
    """A word between < and >, and its parts: `ngrams("cats", (3,))` -> <cats>, <ca, cat, ats, ts>"""
    if not isinstance(word, str):
        _check.fail("word", "a string", type(word).__name__)
    whole = f"<{word}>"
    parts = [whole[i : i + n] for n in _sizes(sizes) for i in range(len(whole) - n + 1) if n < len(whole)]
    return [whole, *parts]


def _sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(sizes, list | tuple) or not sizes:
        _check.fail("sizes", "a tuple of at least one number of letters", repr(sizes))
    for n in sizes:
        _check.count("sizes", n)
    return tuple(sizes)


class NGrams:
    """Sentences to numbers of n-grams, without a vocabulary: an n-gram's number is a hash of it.

    Different n-grams may share a bucket; number 0 is [PAD].

    Args:
        buckets: how many numbers there are, [PAD] included; at least 2.
        sizes: letters of an n-gram, < and > among them.

    Raises:
        ValueError: fewer than 2 buckets, no size, or a size below 1.
    """

    def __init__(self, buckets: int = 8192, sizes: Sequence[int] = (3, 4, 5)):
        _check.count("buckets", buckets, least=2)
        self.buckets, self.sizes = buckets, _sizes(sizes)

    def __len__(self) -> int:
        return self.buckets

    def _numbers(self, sentence: str) -> list[int]:
        """The number of each n-gram of each word, from 1 to buckets - 1."""
        parts = [part for word in words(sentence) for part in ngrams(word, self.sizes)]
        return [1 + crc32(part.encode()) % (self.buckets - 1) for part in parts]  # hash() changes from run to run

    def __call__(self, sentences: str | Sequence[str], device: torch.device | str | None = None) -> Tensor:
        """Sentences to numbers, padded at the end to the longest of them. -> (B, L) int64"""
        rows = [sentences] if isinstance(sentences, str) else list(sentences)
        if not rows:
            _check.fail("sentences", "at least one sentence", "none")
        numbers = [self._numbers(s) for s in rows]
        length = max(1, *map(len, numbers))
        return torch.tensor([row + [PAD] * (length - len(row)) for row in numbers], device=device)  # (B, L)

    def unknown(self, sentence: str) -> list[str]:
        """The words that it cannot read: none."""
        return [word for word in words(sentence) if not ngrams(word, self.sizes)]


class BagOfNGrams(BagOfWords):
    """`BagOfWords` over the numbers of `NGrams`, whose rows are hundreds long. (B, L) -> (B, D)"""

    def forward(self, tokens: Tensor) -> Tensor:
        check_tokens(tokens, self.vocabulary)
        # The same mean without the (B, L, D) numbers that go into it; a row of [PAD] gives 0.
        mean = F.embedding_bag(tokens, self.embed.weight, mode="mean", padding_idx=PAD)  # (B, D)
        return self.mlp(mean)
