r"""What a benchmark gives to a reader who never looks at the pictures: SugarCrepe's text, counted.

Letters: V words of a vocabulary, L words of a sentence.

A rule maps a sentence to a score, without a picture, and the caption of the larger score is chosen. What is human in a
benchmark of human and generated captions shows in letters: a blank at the end, no full stop, a small letter at the
beginning.

`python -m minilip.studies.compositionality.audit` measures what `measured/sugarcrepe.jsonl` lacks; it needs the text,
`python -m minilip.data.sugarcrepe`. Lessons show the stored counts where the text is not at hand.

Source: Hsieh et al. 2023 (arXiv 2306.14610), whose title promises to fix hackable benchmarks; the counts are ours;
lesson 10. The interpolation of n-grams: Witten and Bell 1991.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minilip import _check
from minilip.data.sugarcrepe import CATEGORIES, Pair, sugarcrepe
from minilip.nn.tokenizer import words
from minilip.studies.compositionality.trigrams import Trigrams
from minilip.studies.runs import command
from minilip.studies.store import Study

Score = Callable[[str], Any]


def human(sentence: str) -> int:
    """How many of three habits of hasty typists a sentence shows."""
    bare = sentence.strip()
    return (sentence != bare) + (not bare.endswith(".")) + bare[:1].islower()


RULES: dict[str, Score] = {
    "shorter": lambda s: -len(s),
    "format": human,
    "format, then shorter": lambda s: (human(s), -len(s)),
}
READERS = ("trigrams, sum", "trigrams, mean")


def counted(pairs: Iterable[Pair], score: Callable[[Pair, str], Any]) -> dict[str, list[int]]:
    """Of each category how often the true caption has the larger score, how often the same, and the pairs."""
    found = {name: [0, 0, 0] for name in CATEGORIES}
    for pair in pairs:
        true, false = score(pair, pair.true), score(pair, pair.false)
        for i, is_so in enumerate((true > false, true == false, True)):
            found[pair.category][i] += is_so
    return found


def reader(pairs: list[Pair]) -> Callable[[Pair, str], float]:
    """log p(sentence) of trigrams that learned from the true captions of other photographs than the pair's."""
    half = {True: set[str](), False: set[str]()}
    for pair in pairs:
        half[_even(pair)].add(pair.true)
    models = {side: Trigrams(words(s) for s in sorted(half[not side])) for side in half}
    return lambda pair, sentence: models[_even(pair)].log_p(words(sentence))


def _even(pair: Pair) -> bool:
    return int(pair.photograph.split(".")[0]) % 2 == 0


def same_words(pair: Pair) -> bool:
    """Whether both captions have the same words, in another order: a bag of words cannot choose."""
    return sorted(words(pair.true)) == sorted(words(pair.false))


def measure(rule: str) -> dict[str, Any]:
    """Count a rule on all pairs.

    Returns:
        "counts" {category: [right, ties, pairs]}, and "same words" likewise, of the pairs that have the same words.
    """
    _check.choice("rule", rule, (*RULES, *READERS))
    pairs = sugarcrepe()
    if rule in RULES:
        score: Callable[[Pair, str], Any] = lambda _, sentence: RULES[rule](sentence)  # noqa: E731
    else:
        log_p = reader(pairs)
        each = rule.endswith("mean")
        score = lambda pair, sentence: log_p(pair, sentence) / (len(words(sentence)) + 1 if each else 1)  # noqa: E731
    return {"counts": counted(pairs, score), "same words": counted(filter(same_words, pairs), score)}


def share(counts: dict[str, list[int]], categories: Iterable[str] = CATEGORIES) -> float:
    """Accuracy over the pairs of some categories, a tie worth one half."""
    right, ties, n = (sum(counts[c][i] for c in categories) for i in range(3))
    return (right + ties / 2) / n


STUDY = Study("sugarcrepe", measure)


def known() -> dict[str, dict[str, Any]]:
    """The stored counts: {rule: what `measure` returns}."""
    names = (*RULES, *READERS)
    return dict(zip(names, STUDY.recall([{"rule": name} for name in names]), strict=True))


def main() -> None:
    command("compositionality.audit", __doc__).parse_args()
    STUDY.complete({"rule": name} for name in (*RULES, *READERS))


if __name__ == "__main__":
    main()
