"""What ProLIP learns on Scenes, where the ambiguity of every caption and picture is known, and what its rivals learn.

`python -m minilip.studies.prolip.scenes` measures every arm and seed that `measured/prolip.jsonl` lacks.

Letters as in `generality`; D embedding dimension, S summed variance. Source: ours; lesson 12.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minilip.clip import CLIP, siglip_loss
from minilip.data import home
from minilip.data.scenes import Scenes
from minilip.nn import BagOfWords, ConvNet, TextTransformer
from minilip.prolip import ProLIP
from minilip.studies.prolip import examination as prolip_exam
from minilip.studies.prolip.generality import Captions, boxes, codes_of, masked, nested
from minilip.studies.store import SHIPPED, fingerprint, recall, stored
from minilip.training import History, fit

SEEDS = (0, 1, 2)
START, STEPS, BATCH, SHARE, NAMED, LR = 700, 900, 256, 1 / 8, 0.6, 2e-3
SPOILT = {"blur": 0.15, "occlusion": 0.15}  # of the pictures that are trained on
# arm -> masking of the inclusion losses, and their weight
PROBABILISTIC: dict[str, tuple[str | None, float]] = {
    "ProLIP": ("attributes", 0.02),
    "words deleted": ("words", 0.02),
    "[MASK] tokens": ("tokens", 0.02),
    "no inclusion": (None, 0.0),
}
ARMS = ("CLIP", "SigLIP", *PROBABILISTIC)


class SigLIP(CLIP):
    """CLIP's towers under the sigmoid loss: ProLIP without variances."""

    def __init__(self, *parts: Any, batch: int, **more: Any):
        super().__init__(*parts, **more)
        self.logit_bias = nn.Parameter(torch.tensor(-math.log(batch - 1)))

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
        v, t = self.encode_image(batch[0]), self.encode_text(batch[1])  # (B, D) each
        with torch.no_grad():
            self.logit_scale.clamp_(0, math.log(100))
        s = self.logit_scale.exp()
        return siglip_loss(v, t, s, self.logit_bias), {"logit scale": s.item()}


def build(arm: str, captions: Captions, seed: int) -> CLIP | ProLIP:
    """The same two towers under another loss."""
    torch.manual_seed(seed)
    tokenizer = captions.tokenizer
    readouts = 2 if arm in PROBABILISTIC else 1
    towers = ConvNet(), TextTransformer(len(tokenizer), tokenizer.length, depth=1, readouts=readouts)
    if arm == "CLIP":
        return CLIP(*towers, tokenizer)
    if arm == "SigLIP":
        return SigLIP(*towers, tokenizer, batch=BATCH)
    return ProLIP(*towers, tokenizer, batch=BATCH, alpha=PROBABILISTIC[arm][1])


def start(captions: Captions, seed: int, steps: int, **more: Any) -> nn.Module:
    """The image tower that every arm starts from: lesson 07's CLIP, which has learned to tell shapes apart.

    Captions that leave out what they like teach a shape slowly: without this a tower needs thousands of steps.
    """
    torch.manual_seed(seed)
    tokenizer, world = captions.tokenizer, Scenes(**SPOILT)  # type: ignore[arg-type]
    model = CLIP(ConvNet(), BagOfWords(len(tokenizer), 64), tokenizer).to(captions.tokens.device)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = world.sample(BATCH // 2, generator)
        return world.render(z), tokenizer(world.caption(z), generator.device)

    fit(model, draw, steps, lr=3e-3, seed=seed, label=f"image tower, seed {seed}", **more)
    return model.image_tower


def batches(captions: Captions, masking: str | None) -> Callable[[torch.Generator], tuple[Tensor, ...]]:
    """Pictures, some of them blurred or partly hidden, and captions that name 3 of 5 attributes on average.

    With a masking: also the first eighth of the pictures under a box, and more general copies of their captions.
    """
    world = Scenes(**SPOILT)  # type: ignore[arg-type]

    def draw(generator: torch.Generator) -> tuple[Tensor, ...]:
        z = world.sample(BATCH, generator)
        images, rows = world.render(z), captions.some(codes_of(z), NAMED, generator)
        if masking is None:
            return images, captions.tokens[rows]
        m = int(BATCH * SHARE)
        general = masked(captions, rows[:m], masking, generator)  # (M, L)
        return images, captions.tokens[rows], boxes(images[:m], generator), general

    return draw


def train(
    arm: str, captions: Captions, seed: int, steps: int, tower: nn.Module, **more: Any
) -> tuple[CLIP | ProLIP, History]:
    """One run from a trained image tower, which stays as it is; `more` goes to `fit`."""
    model = build(arm, captions, seed).to(captions.tokens.device)
    model.image_tower.load_state_dict(tower.state_dict())
    draw = batches(captions, PROBABILISTIC.get(arm, (None,))[0])
    return model, fit(model, draw, steps, lr=LR, seed=seed, label=f"{arm}, seed {seed}", **more)


TRAINING = fingerprint(Captions, codes_of, masked, boxes, SigLIP, build, start, batches, train)
TRAINING = fingerprint(TRAINING, SPOILT, PROBABILISTIC, BATCH, SHARE, NAMED, LR)


def graded_batches(captions: Captions) -> Callable[[torch.Generator], tuple[Tensor, ...]]:
    """As "ProLIP", but a masked picture covers more of the same: a quarter of the pictures come as `nested` pairs."""
    world = Scenes(**SPOILT)  # type: ignore[arg-type]

    def draw(generator: torch.Generator) -> tuple[Tensor, ...]:
        z = world.sample(BATCH, generator)
        images, rows = world.render(z), captions.some(codes_of(z), NAMED, generator)
        m = BATCH // 4
        general = masked(captions, rows[:m], "attributes", generator)  # (M, L)
        less, more = nested(images[:m], generator)
        return torch.cat([less, images[m:]]), captions.tokens[rows], more, general

    return draw


def train_graded(captions: Captions, seed: int, steps: int, tower: nn.Module, **more: Any) -> tuple[ProLIP, History]:
    """One run of ProLIP with graded covers, otherwise as `train`."""
    model = build("ProLIP", captions, seed).to(captions.tokens.device)
    assert isinstance(model, ProLIP)
    model.image_tower.load_state_dict(tower.state_dict())
    return model, fit(model, graded_batches(captions), steps, lr=LR, seed=seed, label=f"graded, seed {seed}", **more)


def trained(arm: str, captions: Captions, seed: int, first: int, steps: int) -> tuple[CLIP | ProLIP, History]:
    """A run from its own checkpoint, where it went on after an interruption or is already at its end."""

    def file(name: str) -> Path:
        return home() / "measured" / f"prolip-{TRAINING}-{name.replace(' ', '-')}-{seed}.pt"

    tower = start(captions, seed, first, checkpoint=file(f"start-{first}"), every=first)
    return train(arm, captions, seed, steps, tower, checkpoint=file(f"{arm}-{steps}"), every=100)


def measure(arm: str, seed: int, first: int, steps: int) -> dict[str, Any]:
    """One arm with one seed."""
    captions = Captions(Scenes())
    model, history = trained(arm, captions, seed, first, steps)
    return {"seconds": round(history.seconds[-1], 1), **prolip_exam.examine(model, captions)}


def measure_graded(seed: int, first: int, steps: int) -> dict[str, Any]:
    """Graded covers with one seed."""
    captions = Captions(Scenes())
    folder = home() / "measured"
    tower = start(captions, seed, first, checkpoint=folder / f"prolip-{TRAINING}-start-{first}-{seed}.pt", every=first)
    path = folder / f"prolip-{GRADED}-graded-{steps}-{seed}.pt"
    model, history = train_graded(captions, seed, steps, tower, checkpoint=path, every=100)
    return {"seconds": round(history.seconds[-1], 1), **prolip_exam.examine(model, captions)}


GRADED = fingerprint(TRAINING, nested, graded_batches, train_graded)
CODE = fingerprint(
    TRAINING, *(x for x in vars(prolip_exam).values() if getattr(x, "__module__", "") == prolip_exam.__name__)
)
CODE_GRADED = fingerprint(GRADED, CODE)


def settings(arm: str, seed: int) -> dict[str, Any]:
    return ({} if arm == "graded" else {"arm": arm}) | {"seed": seed, "first": START, "steps": STEPS}


def known() -> dict[str, list[dict[str, Any]]]:
    """Arm, or "graded" -> a result for each seed.

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    found = {arm: recall("prolip", [settings(arm, seed) for seed in SEEDS], CODE, __name__) for arm in ARMS}
    graded = recall("prolip-graded", [settings("graded", seed) for seed in SEEDS], CODE_GRADED, __name__)
    return {**found, "graded": graded}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    for seed in parser.parse_args().seeds:
        for arm in ARMS:
            stored("prolip", settings(arm, seed), CODE, measure, SHIPPED)
        stored("prolip-graded", settings("graded", seed), CODE_GRADED, measure_graded, SHIPPED)
