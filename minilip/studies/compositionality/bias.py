r"""A spurious correlation planted at a known strength, who suffers from it, and what helps.

Letters: B batch, N scenes of the training set, K = 9 groups of shape and background.

In a training set of N scenes each shape has a background of its own with probability `strength`: 1/3 is no correlation.
Captions name colour and shape and never the background. The examination has as many scenes of each of the 9 groups, so
that a model which looks at the background in place of the shape is wrong in six of them.

`python -m minilip.studies.compositionality.bias` measures what `measured/spurious.jsonl` lacks.

Source: ours, after Sagawa et al. 2020 (arXiv 1911.08731); lesson 10.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip import _check
from minilip.clip import CLIP, zero_shot_classifier
from minilip.compositionality import group_accuracy, group_weights
from minilip.data.latents import BACKGROUNDS, SHAPES, Latents
from minilip.data.scenes import Scenes
from minilip.evaluation import encode
from minilip.nn import BagOfWords, ConvNet
from minilip.nn.tokenizer import Tokenizer
from minilip.studies.runs import PARTS, Arms
from minilip.studies.store import Study
from minilip.training import History, fit

WORLD = Scenes(size=32)
SCENES, STEPS, BATCH, LR = 12_000, 400, 96, 3e-3
RADIUS = (0.40, 0.48)  # all are large
EACH = 200  # scenes of a group in the examination
REPAIRS = ("none", "balanced batches", "reweighted loss")
GROUPS = tuple(f"{shape} on {ground}" for shape in SHAPES for ground in BACKGROUNDS)


class Arm(NamedTuple):
    """strength: of the correlation, from 1/3 to 1; repair: one of REPAIRS."""

    strength: float = 1 / 3
    repair: str = "none"
    steps: int = STEPS


def large(latents: Latents, generator: torch.Generator) -> Latents:
    radius = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * torch.rand(latents.radius.shape, generator=generator)
    return latents.with_(size=torch.ones_like(latents.size), radius=radius)


def planted(n: int, strength: float, generator: torch.Generator) -> Latents:
    """n scenes, each shape on a background of its own with probability `strength`, else on one of the other two."""
    z = large(WORLD.sample(n, generator), generator)
    other = (z.shape[:, 0] + torch.randint(1, 3, (n,), generator=generator)) % 3
    own = torch.rand(n, generator=generator) < strength
    return z.with_(background=torch.where(own, z.shape[:, 0], other))


def groups_of(latents: Latents) -> Tensor:
    """Shape and background as one number, into GROUPS. (N,)"""
    return latents.shape[:, 0] * len(BACKGROUNDS) + latents.background


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    return Tokenizer(WORLD.caption(WORLD.sample(500, torch.Generator().manual_seed(0)), detail=2))


class Weighted(CLIP):
    """CLIP, each pair's two questions times a weight: batch is (images, tokens, (B,))."""

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        images, tokens, weights = batch
        logits = self.logit_scale.clamp(0, 4.6).exp() * self.encode_image(images) @ self.encode_text(tokens).T  # (B, B)
        own = torch.arange(len(logits), device=logits.device)
        both = F.cross_entropy(logits, own, reduction="none") + F.cross_entropy(logits.T, own, reduction="none")
        return (weights * both).mean() / 2, {}


def train(arm: Arm, seed: int, progress: bool = True, scenes: int = SCENES) -> tuple[CLIP, History]:
    """One arm with one seed, which is also the seed of its training set."""
    _check.choice("repair", arm.repair, REPAIRS)
    z = planted(scenes, arm.strength, torch.Generator().manual_seed(1000 + seed))
    images, tokens, weights = WORLD.render(z), tokenizer()(WORLD.caption(z, detail=2)), group_weights(groups_of(z))

    def batches(generator: torch.Generator) -> tuple[Tensor, ...]:
        if arm.repair == "balanced batches":
            rows = torch.multinomial(weights, BATCH, replacement=True, generator=generator)
        else:
            rows = torch.randint(len(z), (BATCH,), generator=generator)
        pairs = images[rows], tokens[rows]
        return (*pairs, weights[rows]) if arm.repair == "reweighted loss" else pairs

    torch.manual_seed(seed)
    made = Weighted if arm.repair == "reweighted loss" else CLIP
    model = made(ConvNet(16), BagOfWords(len(tokenizer()), 64), tokenizer())
    label = f"strength {arm.strength:.2f}, {arm.repair}, seed {seed}"
    return model, fit(model, batches, arm.steps, lr=LR, seed=seed, label=label, progress=progress)


@lru_cache(maxsize=2)
def examination(part: str = "test", each: int = EACH) -> tuple[Latents, Tensor]:
    """`each` scenes of every group, and their pictures."""
    _check.choice("part", part, PARTS)
    g = torch.Generator().manual_seed(200 + PARTS.index(part))
    z = large(WORLD.sample(each * len(GROUPS), g), g)
    numbers = torch.arange(len(z)) % len(GROUPS)
    z = z.with_(shape=(numbers // 3)[:, None], background=numbers % 3)
    return z, WORLD.render(z)


@torch.no_grad()
def examine(model: CLIP, part: str = "test") -> tuple[Tensor, Tensor]:
    """Zero-shot: whether the shape's prompt is the best of three, and the group. -> (N,), (N,)"""
    z, images = examination(part)
    v = encode(model.encode_image, images)
    W = zero_shot_classifier(model, SHAPES, [f"a {c} {{}}" for c in ("red", "green", "blue", "yellow", "white")])
    return (v @ W.T).argmax(dim=1).eq(z.shape[:, 0]).float(), groups_of(z)


def measure(arm: dict[str, Any], seed: int, part: str = "test") -> dict[str, Any]:
    """Train an arm, `Arm(**arm)`, and examine it.

    Returns:
        "right": of each group how many of EACH; "loss" of the last 50 steps; "seconds" of training.
    """
    model, history = train(Arm(**arm), seed, progress=False)
    hits, groups = examine(model, part)
    return {
        "right": [round(EACH * x) for x in group_accuracy(hits, groups).tolist()],
        "loss": round(sum(history.loss[-50:]) / len(history.loss[-50:]), 4),
        "seconds": round(history.seconds[-1], 1),
    }


ARMS = {
    "none": Arm(),
    "0.9": Arm(0.9),
    "0.9, balanced batches": Arm(0.9, "balanced batches"),
    "0.9, reweighted loss": Arm(0.9, "reweighted loss"),
    "0.7": Arm(0.7),
}
SEEDS = range(3)
STUDY = Study("spurious", measure)
RUNS = Arms(STUDY, ARMS, SEEDS)
settings, known = RUNS.settings, RUNS.known


def main() -> None:
    RUNS.complete("compositionality.bias", __doc__)


if __name__ == "__main__":
    main()
