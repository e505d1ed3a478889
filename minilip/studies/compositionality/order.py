r"""Who reads the order of words, and what makes them: batches that hold a caption's swap, false captions, another loss.

Letters: B batch, N scenes of the pool.

`python -m minilip.studies.compositionality.order` measures what `measured/word-order.jsonl` lacks: every arm with three
seeds, on one thread. Settings (steps, learning rate) were chosen on the part "val" with one seed; "test" draws other
scenes.

Source: Yuksekgonul et al. 2023 (arXiv 2210.01936); test bed and controls are ours; lesson 10.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minilip import _check
from minilip.clip import CLIP, SigLIP
from minilip.compositionality import (
    PROBES,
    NegCLIP,
    exchange,
    hard_captions,
    probe_hits,
    probe_scores,
)
from minilip.data.latents import COLOURS, SHAPES
from minilip.evaluation import encode, ranks
from minilip.nn import BagOfWords, TextTransformer
from minilip.prolip import ProLIP
from minilip.protoclip import Episodes, ProtoCLIP
from minilip.studies.compositionality.bed import (
    EYE_STEPS,
    POOL,
    Head,
    Pool,
    alike,
    draw,
    see,
    sentences,
    tokenizer,
)
from minilip.studies.runs import PARTS, Arms
from minilip.studies.store import Study
from minilip.training import History, fit

STEPS, BATCH, LR, DIM = 600, 64, 2e-3, 64
METHODS = ("CLIP", "NegCLIP", "SigLIP", "ProtoCLIP", "ProLIP")
MATES = ("by lot", "kept apart", "brought together")
QUESTIONS = 1000  # scenes of the examination


class Arm(NamedTuple):
    """What is trained.

    method: one of METHODS.
    batch: B.
    mates: which scenes come into a batch; "kept apart": no two that a bag of words could
        confuse (`bed.alike`); "brought together": half of
        the batch are the other half's scenes with their colours exchanged.
    text: "Transformer" or "bag".
    habits: the world of `bed.draw(habits=True)`.
    """

    method: str = "CLIP"
    batch: int = BATCH
    mates: str = "by lot"
    text: str = "Transformer"
    habits: bool = False
    steps: int = STEPS


@lru_cache(maxsize=2)
def pool(n: int = POOL, habits: bool = False, eye_steps: int = EYE_STEPS) -> Pool:
    return Pool(n, habits=habits, steps=eye_steps)


def members(data: Pool, arm: Arm, generator: torch.Generator) -> Tensor:
    """The rows of the pool that make a batch. (B,)"""
    n, b = len(data), arm.batch
    if arm.mates == "brought together":
        half = torch.randint(n // 2, (b // 2,), generator=generator)
        return torch.cat([half, half + n // 2])
    if arm.mates == "by lot":
        return torch.randint(n, (b,), generator=generator)
    order = torch.randperm(n, generator=generator)[: 8 * b]
    chosen = firsts(data.alike[order])[:b]
    if len(chosen) < b:
        _check.fail("batch", f"at most {len(chosen)} captions of different words", b)
    return order[chosen]


def firsts(numbers: Tensor) -> Tensor:
    """Where each number occurs first. -> indices, in order"""
    seen = {number: i for i, number in reversed(list(enumerate(numbers.tolist())))}
    return torch.tensor(sorted(seen.values()))


def batches(data: Pool, arm: Arm) -> Callable[[torch.Generator], tuple[Tensor, ...]]:
    """Features, tokens, and for NegCLIP the tokens of a false caption each."""

    def make(generator: torch.Generator) -> tuple[Tensor, ...]:
        rows = members(data, arm, generator)
        pairs = data.x[rows], data.tokens[rows]
        if arm.method != "NegCLIP":
            return pairs
        return (*pairs, tokenizer()(hard_captions(data.latents[rows], generator)))

    return make


def build(arm: Arm, seed: int) -> nn.Module:
    """The same towers under each loss."""
    _check.choice("method", arm.method, METHODS)
    _check.choice("mates", arm.mates, MATES)
    _check.choice("text", arm.text, ("Transformer", "bag"))
    torch.manual_seed(seed)
    words = tokenizer()
    reader = BagOfWords(len(words)) if arm.text == "bag" else TextTransformer(len(words), words.length)
    towers = Head(), reader, words
    if arm.method == "NegCLIP":
        return NegCLIP(*towers, DIM)
    if arm.method == "SigLIP":
        return SigLIP(*towers, DIM, batch=arm.batch)
    if arm.method == "ProtoCLIP":
        return ProtoCLIP(*towers, DIM)
    if arm.method == "ProLIP":
        return ProLIP(*towers, DIM, batch=arm.batch)
    return CLIP(*towers, DIM)


def train(
    arm: Arm,
    data: Pool,
    seed: int,
    watch: Callable[[nn.Module], Any] | None = None,
    progress: bool = True,
    every: int = 100,
) -> tuple[Any, History]:
    """One arm with one seed."""
    model = build(arm, seed)
    source: Callable[[torch.Generator], tuple[Tensor, ...]] = batches(data, arm)
    if isinstance(model, ProtoCLIP):
        source = Episodes(
            model, lambda i, _: (data.x[i], data.tokens[i]), len(data), size=16 * arm.batch, batch=arm.batch
        )
    label = f"{arm.method}, B = {arm.batch}, seed {seed}"
    more: dict[str, Any] = {"lr": LR, "seed": seed, "watch": watch, "every": every, "label": label}
    return model, fit(model, source, arm.steps, progress=progress, **more)


# ---- examination -------------------------------------------------------------------------------------------------


class Examination:
    """Fresh scenes, the probes' questions about them, and a gallery of captions whose words differ.

    Args:
        part: "val" or "test".
        n: scenes.
        habits: scenes with habits, and their exchanged ones as the scenes that break them.
    """

    def __init__(self, part: str = "test", n: int = QUESTIONS, habits: bool = False, eye_steps: int = EYE_STEPS):
        _check.choice("part", part, PARTS)
        g = torch.Generator().manual_seed(100 + PARTS.index(part))
        self.latents = draw(n, g, habits)
        self.x = see(self.latents, eye_steps)
        self.probes = {name: make(self.latents, g) for name, make in PROBES.items()}
        self.broken, self.broken_probes = None, {}
        if habits:
            other = exchange(self.latents, "colour")
            self.broken, self.broken_probes = see(other, eye_steps), {"attribute": PROBES["attribute"](other, g)}
        self.distinct = firsts(alike(self.latents))  # no two that a bag of words could confuse

    def probe(self, model: Any, name: str, broken: bool = False) -> Tensor:
        """Hits of one probe, ties by lot. (N,)"""
        x, probe = (self.broken, self.broken_probes[name]) if broken else (self.x, self.probes[name])
        assert x is not None
        return probe_hits(probe_scores(model, x, probe))

    def retrieval(self, model: Any) -> Tensor:
        """Whether each picture finds its caption first, where words alone could tell. (N',)"""
        v = encode(model.encode_image, self.x[self.distinct])
        t = encode(model.encode_text, model.tokenizer(sentences(self.latents[self.distinct])))
        return (ranks(v @ t.T, torch.arange(len(v))) == 1).float()

    def naming(self, model: Any) -> Tensor:
        """Zero-shot: whether the best of 24 prompts, "a red circle", is of an object that is there. (N,)"""
        prompts = [f"{'an' if c == 'orange' else 'a'} {c} {s}" for c in COLOURS for s in SHAPES]
        best = (encode(model.encode_image, self.x) @ encode(model.encode_text, model.tokenizer(prompts)).T).argmax(1)
        there = self.latents.colour * len(SHAPES) + self.latents.shape  # (N, 2)
        return (best[:, None] == there).any(dim=1).float()


@lru_cache(maxsize=4)
def examination(part: str = "test", habits: bool = False) -> Examination:
    return Examination(part, habits=habits)


def measure(arm: dict[str, Any], seed: int, part: str = "test") -> dict[str, Any]:
    """Train an arm, `Arm(**arm)`, and examine it.

    Returns:
        "probes": {name: [hits, questions]}, "broken": the same of scenes that break habits, "retrieval": [hits,
        pictures], "naming": [hits, pictures], "loss" of the last 50 steps in nats, "seconds" of training.
    """
    chosen = Arm(**arm)
    model, history = train(chosen, pool(habits=chosen.habits), seed, progress=False)
    asked = examination(part, chosen.habits)

    def counted(hits: Tensor) -> list[float]:
        return [round(float(hits.sum()), 2), len(hits)]

    return {
        "probes": {name: counted(asked.probe(model, name)) for name in PROBES},
        "broken": {name: counted(asked.probe(model, name, broken=True)) for name in asked.broken_probes},
        "retrieval": counted(asked.retrieval(model)),
        "naming": counted(asked.naming(model)),
        "loss": round(sum(history.loss[-50:]) / len(history.loss[-50:]), 4),
        "seconds": round(history.seconds[-1], 1),
    }


# ---- what is measured --------------------------------------------------------------------------------------------

ARMS = {
    "CLIP": Arm(),
    "NegCLIP": Arm("NegCLIP"),
    "CLIP, together": Arm(mates="brought together"),
    "CLIP, kept apart": Arm(mates="kept apart"),
    "CLIP, B = 160": Arm(batch=160),
    "CLIP, B = 160, kept apart": Arm(batch=160, mates="kept apart"),
    "SigLIP": Arm("SigLIP"),
    "ProtoCLIP": Arm("ProtoCLIP"),
    "ProLIP": Arm("ProLIP"),
    "bag of words, together": Arm(mates="brought together", text="bag"),
    "CLIP, B = 32": Arm(batch=32),
    "CLIP, B = 96": Arm(batch=96),
    "CLIP, habits": Arm(habits=True),
    "NegCLIP, habits": Arm("NegCLIP", habits=True),
}
SEEDS = range(3)
STUDY = Study("word-order", measure)
RUNS = Arms(STUDY, ARMS, SEEDS)
AGAIN = Arms(STUDY, {"NegCLIP": ARMS["NegCLIP"]}, range(3, 8))  # whose runs part ways: three do not tell how often
settings = RUNS.settings


def known() -> dict[str, list[dict[str, Any]]]:
    """What has been measured with this code: {name of an arm: [a result for each seed]}.

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    first, more = RUNS.known(), AGAIN.known()
    return {name: runs + more.get(name, []) for name, runs in first.items()}


def main() -> None:
    RUNS.complete("compositionality.order", __doc__)
    STUDY.complete(AGAIN.settings(name, seed) for name in AGAIN.arms for seed in AGAIN.seeds)


if __name__ == "__main__":
    main()
