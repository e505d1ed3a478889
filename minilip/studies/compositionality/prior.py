r"""A captioner that has seen the usual more often than the unusual, and what is left once its prior is taken away.

Letters: B batch, N scenes, T captions, I images, L words, V vocabulary, alpha the share of the prior taken away.

In training, nine scenes in ten have a habit: the first-named object has the earlier colour. The pictures are seen
through noise, so that the captioner has to lean on what is usual. It is asked to choose between a caption and the one
with the colours exchanged, of scenes as usual as in training, and of scenes of which one half breaks the habit.

`python -m minilip.studies.compositionality.prior` measures what `measured/language-prior.jsonl` lacks.

Source: Lin et al. 2024 (arXiv 2306.01879); test bed ours; lesson 10.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip.compositionality import exchange, log_prior, probe_accuracy, visual_gpt_score
from minilip.data.latents import Latents
from minilip.nn.generation import with_end
from minilip.nn.tokenizer import PAD
from minilip.studies.compositionality.bed import EYE_STEPS, WIDTH, draw, see, sentences, tokenizer
from minilip.studies.runs import PARTS, Arms
from minilip.studies.store import Study
from minilip.training import History, fit

STEPS, BATCH, LR, SCENES = 500, 128, 3e-3, 8000
IMAGES, QUESTIONS = 100, 1000  # of the prior's mean, and of the examination
ALPHAS = tuple(i / 10 for i in range(16))


class Arm(NamedTuple):
    """usual: share of training scenes with the habit; noise: standard deviation of what the eye says, over its own."""

    usual: float = 0.9
    noise: float = 1.5
    steps: int = STEPS


class Captioner(nn.Module):
    """A GRU whose state begins as the picture: log p(t | i) = sum_k log p(t_k | t_<k, i)."""

    def __init__(self, vocabulary: int, width: int = 128):
        super().__init__()
        self.start, self.end = vocabulary, vocabulary + 1
        self.embed = nn.Embedding(vocabulary + 2, 64)
        self.look = nn.Sequential(nn.Linear(WIDTH, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.gru = nn.GRU(64, width, batch_first=True)
        self.out = nn.Linear(width, vocabulary + 2)

    def log_likelihood(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(B, 128), (B, L) -> (B,) nats, the end included"""
        targets = with_end(tokens, self.end)  # (B, L + 1)
        states, _ = self.gru(self.embed(F.pad(tokens, (1, 0), value=self.start)), self.look(x)[None])
        log_p = self.out(states).log_softmax(dim=2).gather(2, targets[..., None]).squeeze(2)  # (B, L + 1)
        return (log_p * (targets != PAD)).sum(dim=1)

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return -self.log_likelihood(*batch).mean(), {}


def habitual(n: int, usual: float, generator: torch.Generator) -> Latents:
    """n scenes, of which a share has the earlier colour in the first-named object."""
    z = draw(n, generator)
    habit = torch.rand(n, generator=generator) < usual
    turned = (z.colour[:, 0] < z.colour[:, 1]) != habit
    return z.with_(colour=torch.where(turned[:, None], z.colour.flip(1), z.colour))


def seen(latents: Latents, noise: float, generator: torch.Generator) -> Tensor:
    """What the eye says of scenes, through noise. (N, 128)"""
    x = see(latents, EYE_STEPS)
    return x + noise * spread() * torch.randn(x.shape, generator=generator)


@lru_cache(maxsize=1)
def spread() -> float:
    return float(see(draw(1000, torch.Generator().manual_seed(3)), EYE_STEPS).std(dim=0).mean())


def train(arm: Arm, seed: int, progress: bool = True, scenes: int = SCENES) -> tuple[Captioner, History]:
    g = torch.Generator().manual_seed(1000 + seed)
    z = habitual(scenes, arm.usual, g)
    x, tokens = seen(z, 0.0, g), tokenizer()(sentences(z))
    scale = arm.noise * spread()

    def batches(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(z), (BATCH,), generator=generator)
        return x[rows] + scale * torch.randn(BATCH, WIDTH, generator=generator), tokens[rows]

    torch.manual_seed(seed)
    model = Captioner(len(tokenizer()))
    label = f"captioner, seed {seed}"
    return model, fit(model, batches, arm.steps, lr=LR, seed=seed, label=label, progress=progress)


@torch.no_grad()
def tables(model: Captioner, arm: Arm, usual: float, part: str = "test", n: int = QUESTIONS) -> tuple[Tensor, Tensor]:
    """log p(t | i) and log p(t) of the true and the exchanged caption. -> (N, 2), (N, 2)

    Args:
        usual: share of the asked scenes that have the habit.
    """
    g = torch.Generator().manual_seed(300 + PARTS.index(part))
    z = habitual(n, usual, g)
    x = seen(z, arm.noise, g)
    captions = [tokenizer()(sentences(y)) for y in (z, exchange(z, "colour"))]
    given = torch.stack([model.log_likelihood(x, t) for t in captions], dim=1)  # (N, 2)
    others = seen(habitual(IMAGES, arm.usual, g), arm.noise, g)  # (I, 128), as in training
    different, place = torch.cat(captions).unique(dim=0, return_inverse=True)  # (T, L), (2 N,)
    rows = [model.log_likelihood(others, t.expand(len(others), -1)) for t in different]  # T of (I,)
    return given, log_prior(torch.stack(rows))[place].view(2, -1).T


def measure(arm: dict[str, Any], seed: int, part: str = "test") -> dict[str, Any]:
    """Train an arm, `Arm(**arm)`, and examine it.

    Returns:
        "balanced", "usual": accuracy for each of ALPHAS, of scenes one half of which breaks the habit, and of scenes as
        in training; "blind": accuracy of the prior alone on both; "loss" in nats a caption, "seconds" of training.
    """
    chosen = Arm(**arm)
    model, history = train(chosen, seed, progress=False)
    found: dict[str, Any] = {"blind": {}}
    for name, usual in (("balanced", 0.5), ("usual", chosen.usual)):
        given, prior = tables(model, chosen, usual, part)
        found[name] = [round(probe_accuracy(visual_gpt_score(given, prior, a)), 4) for a in ALPHAS]
        found["blind"][name] = round(probe_accuracy(prior), 4)
    return found | {
        "loss": round(sum(history.loss[-50:]) / len(history.loss[-50:]), 4),
        "seconds": round(history.seconds[-1], 1),
    }


ARMS = {"usual nine times in ten": Arm()}
SEEDS = range(3)
STUDY = Study("language-prior", measure)
RUNS = Arms(STUDY, ARMS, SEEDS)
settings, known = RUNS.settings, RUNS.known


def main() -> None:
    RUNS.complete("compositionality.prior", __doc__)


if __name__ == "__main__":
    main()
