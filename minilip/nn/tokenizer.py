"""Words to numbers and class names to sentences.

Letters: B sentences, L tokens in the longest of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from minilip import _check

PAD, UNK, MASK = 0, 1, 2
SPECIAL = ("[PAD]", "[UNK]", "[MASK]")
_WORD = re.compile(r"\[MASK\]|\[UNK\]|[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)


def words(sentence: str) -> list[str]:
    """Lower-case words without punctuation; [MASK] and [UNK] stay whole.

    >>> words("A man's hat, and [MASK].")
    ['a', "man's", 'hat', 'and', '[MASK]']
    """
    if not isinstance(sentence, str):
        _check.fail("sentence", "a string", type(sentence).__name__)
    return [w if w in SPECIAL else w.lower().replace("’", "'") for w in _WORD.findall(sentence)]


class Tokenizer:
    """One word, one number. Numbers 0, 1, 2 are [PAD], [UNK] and [MASK].

    >>> tokenizer = Tokenizer(["a red circle", "a blue square"])
    >>> tokenizer.vocabulary
    ['[PAD]', '[UNK]', '[MASK]', 'a', 'blue', 'circle', 'red', 'square']
    >>> tokenizer(["a red square", "a green"]).tolist()
    [[3, 6, 7], [3, 1, 0]]
    >>> tokenizer.decode(tokenizer("A blue circle!"))
    ['a blue circle']

    Args:
        sentences: what the vocabulary is read from.
        length: L, the length of every token row; longer sentences are cut. Default: the longest sentence.
        least: a word seen fewer times becomes [UNK].

    Raises:
        ValueError: there is no word at all, or `length` or `least` is below 1.
    """

    def __init__(self, sentences: Iterable[str], length: int | None = None, least: int = 1):
        if isinstance(sentences, str) or not isinstance(sentences, Iterable):
            _check.fail("sentences", "several strings", repr(sentences))
        split = [words(s) for s in sentences]
        counts = Counter(w for row in split for w in row if w not in SPECIAL)
        if not counts:
            _check.fail("sentences", "at least one word", "none")
        _check.count("least", least)
        self.length = max(map(len, split)) if length is None else length
        _check.count("length", self.length)
        # Sorted by count, then alphabet, so that the numbering does not depend on the order of the sentences.
        kept = sorted((w for w, n in counts.items() if n >= least), key=lambda w: (-counts[w], w))
        self.vocabulary = [*SPECIAL, *kept]
        self._index = {w: i for i, w in enumerate(self.vocabulary)}

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __call__(self, sentences: str | Sequence[str], device: torch.device | str | None = None) -> Tensor:
        """Sentences to tokens, padded at the end. -> (B, L) int64"""
        rows = [sentences] if isinstance(sentences, str) else list(sentences)
        if not rows:
            _check.fail("sentences", "at least one sentence", "none")
        tokens = [[self._index.get(w, UNK) for w in words(s)][: self.length] for s in rows]
        tokens = [row + [PAD] * (self.length - len(row)) for row in tokens]
        return torch.tensor(tokens, device=device)  # (B, L)

    def unknown(self, sentence: str) -> list[str]:
        """The words of a sentence that the vocabulary lacks."""
        return [w for w in words(sentence) if w not in self._index]

    def decode(self, tokens: Tensor) -> list[str]:
        """Tokens to sentences, padding left out. (B, L) -> B strings"""
        if not isinstance(tokens, Tensor) or tokens.dim() != 2 or tokens.dtype != torch.int64:
            _check.fail("tokens", "int64 of shape (B, L)", _check.described(tokens))
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(self):
            _check.fail("tokens", f"numbers from 0 to {len(self) - 1}", f"{int(tokens.min())} to {int(tokens.max())}")
        return [" ".join(self.vocabulary[t] for t in row if t != PAD) for row in tokens.tolist()]


def fill(templates: str | Sequence[str], names: Sequence[str]) -> list[list[str]]:
    """Put each name into each template; "a {}" becomes "an {}" before a vowel. -> a list of sentences for each name

    >>> fill(["a photo of a {}", "the {}"], ["cat", "apple"])
    [['a photo of a cat', 'the cat'], ['a photo of an apple', 'the apple']]
    """
    for name, x in (("templates", templates), ("names", names)):
        if not isinstance(x, Sequence):
            _check.fail(name, "a list of strings", repr(x))
    templates = [templates] if isinstance(templates, str) else list(templates)
    if not templates or not names:
        _check.fail("templates and names", "at least one of each", f"{len(templates)} and {len(names)}")
    for t in templates:
        if t.count("{}") != 1:
            _check.fail("template", "exactly one {} for the name", repr(t))
    for n in names:
        if not isinstance(n, str) or not n.strip():
            _check.fail("name", "a word or more", repr(n))
    return [
        [re.sub(r"\ba \{\}", "an {}" if n.lower()[0] in "aeiou" else "a {}", t).format(n) for t in templates]
        for n in names
    ]
