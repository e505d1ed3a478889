r"""BLIP beside the contrastive models: the same scenes, the same frozen eye, and three ways to ask it.

Letters: B batch, P places, D feature dimension.

BLIP reads a caption beside the places of a picture, so its eye hands on what the frozen convolutions say of each place,
before they are put together. Contrast compares two vectors as CLIP does; matching and describing look at the picture
word by word.

`python -m minilip.studies.compositionality.matcher` measures what `measured/word-order-blip.jsonl` lacks.

Source: Li et al. 2022 (arXiv 2201.12086); test bed ours; lessons 09 and 10.
"""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minilip.blip import BLIP
from minilip.compositionality import PROBES, Probe, probe_hits, probe_scores
from minilip.data.latents import Latents
from minilip.evaluation import encode
from minilip.studies.compositionality.bed import EYE_STEPS, POOL, WORLD, draw, eye, sentences, tokenizer
from minilip.studies.compositionality.order import QUESTIONS
from minilip.studies.runs import PARTS, Arms
from minilip.studies.store import Study
from minilip.training import History, fit

STEPS, BATCH, LR, DIM, PLACES = 600, 64, 2e-3, 64, 16
WAYS = ("ITC", "ITM", "LM")


class Arm(NamedTuple):
    """What is trained: BLIP with its three losses at equal weights."""

    batch: int = BATCH
    steps: int = STEPS


class Places(nn.Module):
    """Features of 16 places, with a position each, and one token for all of them. (B, 96 * 16) -> (B, 17, D)"""

    def __init__(self, channels: int = 96, dim: int = DIM):
        super().__init__()
        self.map = nn.Linear(channels, dim)
        self.position = nn.Parameter(0.2 * torch.randn(PLACES, dim))
        self.whole = nn.Sequential(nn.Linear(channels * PLACES, dim), nn.GELU(), nn.Linear(dim, dim))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        places = self.map(x.unflatten(1, (-1, PLACES)).transpose(1, 2)) + self.position  # (B, P, D)
        return self.norm(torch.cat([self.whole(x)[:, None], places], dim=1))


def places_of(latents: Latents, steps: int = EYE_STEPS) -> Tensor:
    """What the eye's convolutions say, place by place. (N, 96 * 16)"""
    stem = nn.Sequential(*list(eye(steps).layers)[:2])
    rows = [encode(stem, WORLD.render(latents[i : i + 1000])) for i in range(0, len(latents), 1000)]
    return torch.cat(rows)


@lru_cache(maxsize=1)
def pool(n: int = POOL, steps: int = EYE_STEPS) -> tuple[Tensor, Tensor]:
    z = draw(n, torch.Generator().manual_seed(1))
    return places_of(z, steps), tokenizer()(sentences(z))


def build(seed: int) -> BLIP:
    """BLIP of lesson 09 whose eye, and its slow copy, read places."""
    torch.manual_seed(seed)
    model = BLIP(tokenizer(), dim=DIM)
    model.eye = Places()  # type: ignore[assignment]  # an eye is whatever makes (B, 1 + P, D)
    model.slow[0] = deepcopy(model.eye).requires_grad_(False)
    return model


def train(arm: Arm, data: tuple[Tensor, Tensor], seed: int, progress: bool = True) -> tuple[BLIP, History]:
    """One arm with one seed."""
    model = build(seed)

    def batches(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(data[0]), (arm.batch,), generator=generator)
        return data[0][rows], data[1][rows]

    return model, fit(model, batches, arm.steps, lr=LR, seed=seed, label=f"BLIP, seed {seed}", progress=progress)


def ask(model: BLIP, x: Tensor, probe: Probe, way: str) -> Tensor:
    """Hits of one probe by one of WAYS. (N,)"""
    score = {"ITC": None, "ITM": model.match, "LM": model.log_likelihood}[way]
    return probe_hits(probe_scores(model, x, probe, score))


def measure(arm: dict[str, Any], seed: int, part: str = "test") -> dict[str, Any]:
    """Train an arm, `Arm(**arm)`, and examine it.

    Returns:
        {way: {probe: [hits, questions]}} for each of WAYS; "loss" of the last 50 steps in nats, "seconds" of training.
    """
    chosen = Arm(**arm)
    model, history = train(chosen, pool(), seed, progress=False)
    g = torch.Generator().manual_seed(100 + PARTS.index(part))
    z = draw(QUESTIONS, g)
    x, probes = places_of(z), {name: make(z, g) for name, make in PROBES.items()}
    found: dict[str, Any] = {}
    for way in WAYS:
        hits = {name: ask(model, x, probe, way) for name, probe in probes.items()}
        found[way] = {name: [round(float(h.sum()), 2), len(h)] for name, h in hits.items()}
    return found | {
        "loss": round(sum(history.loss[-50:]) / len(history.loss[-50:]), 4),
        "seconds": round(history.seconds[-1], 1),
    }


ARMS = {"BLIP": Arm()}
SEEDS = range(3)
STUDY = Study("word-order-blip", measure)
RUNS = Arms(STUDY, ARMS, SEEDS)
settings, known = RUNS.settings, RUNS.known


def main() -> None:
    RUNS.complete("compositionality.matcher", __doc__)


if __name__ == "__main__":
    main()
