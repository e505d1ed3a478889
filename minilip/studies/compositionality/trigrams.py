r"""A language model that counts: three words in a row, then two, then one.

Letters: V words of the vocabulary, h what came before a word, c(.) a count, t(h) different words seen behind h.

$$ p(w \mid h) = \frac{c(h w) + t(h)\, p(w \mid h')}{c(h) + t(h)}, \qquad h' = h \text{ without its first word} $$

A word that was never seen is one of the vocabulary's, [UNK], and the empty history falls back to 1 / V.

Source: Witten and Bell 1991, method C, interpolated; lesson 10.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from minilip import _check

START, END, UNSEEN = "[START]", "[END]", "[UNK]"


class Trigrams:
    """Args: sentences: each a sequence of words; at least one word in all."""

    def __init__(self, sentences: Iterable[Sequence[str]]):
        self.counts: Counter[tuple[str, ...]] = Counter()
        for sentence in sentences:
            row = [START, START, *sentence, END]
            for i in range(2, len(row)):
                self.counts.update(tuple(row[i - n : i + 1]) for n in range(3))
        self.vocabulary = {gram[0] for gram in self.counts if len(gram) == 1} | {UNSEEN}
        if len(self.vocabulary) < 3:
            _check.fail("sentences", "at least one word", "none")
        self.behind: Counter[tuple[str, ...]] = Counter()  # c(h)
        self.kinds: Counter[tuple[str, ...]] = Counter()  # t(h)
        for gram, count in self.counts.items():
            self.behind[gram[:-1]] += count
            self.kinds[gram[:-1]] += 1

    def p(self, word: str, history: tuple[str, ...]) -> float:
        """p(w | h), h of up to two words."""
        lower = self.p(word, history[1:]) if history else 1 / len(self.vocabulary)
        seen, kinds = self.behind[history], self.kinds[history]
        return (self.counts[(*history, word)] + kinds * lower) / (seen + kinds) if seen else lower

    def log_p(self, sentence: Sequence[str]) -> float:
        """Nats of the whole sentence, its end included."""
        row = [START, START, *(w if w in self.vocabulary else UNSEEN for w in sentence), END]
        return sum(math.log(self.p(row[i], (row[i - 2], row[i - 1]))) for i in range(2, len(row)))
