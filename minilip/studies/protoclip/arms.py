r"""What is trained in lesson 11: CLIP, ProtoCLIP, and what takes a part of it away.

Letters: B batch, D dimensions, K groups, h what the heads make of unit embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip.clip import CLIP
from minilip.data.pretrained import label_embeddings
from minilip.nn import BagOfWords, ConvNet
from minilip.nn.modes import evaluating
from minilip.protoclip import Episodes, ProtoCLIP, back_translate, prototype_loss, soft_targets
from minilip.studies.heads import Head
from minilip.studies.protoclip.examination import glance
from minilip.studies.protoclip.task import SEEN, Task
from minilip.training import History, fit

STEPS, BATCH, EPISODE, WARMUP = 400, 256, 2048, 1
LOOKS, GROUPS = 16, 4  # at a model in training; every fourth look counts groups too
WIDTH, DIM = Head.dim, 64  # of both towers' features; of the shared space and of the projected one
WEIGHT = 4.0  # of prototypes where they are to show what they do; the paper's is 1


class Arm(NamedTuple):
    """What is trained.

    weight: of the prototypes; None is CLIP itself. `external` is the teacher's.
    alone: without the contrastive term and without warm-up, groups from the first step on.
    lot: groups of the right sizes, with members drawn by lot.
    opaque: one meaningless word for each concept in place of its captions.
    offset: both sides of both spaces are moved apart by this much before they are made unit vectors.
    images: "trained" or "untrained" features of EfficientNet-Lite0, or "pixels" for a ConvNet from scratch.
    """

    weight: float | None = None
    external: float = 0.0
    k: int = 48
    temperature: float | None = 0.01
    translate: bool = True
    alone: bool = False
    lot: bool = False
    opaque: bool = False
    offset: float = 0.0
    images: str = "trained"
    steps: int = STEPS
    batch: int = BATCH


class Alone(ProtoCLIP):
    """Prototypes without pairs: no contrastive term."""

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
        images, tokens, positions = batch
        y, tau = self.groups["labels"][:, positions], self.temperature  # (2, B)
        q = [y[i] if tau is None else soft_targets(self.groups["centroids"][i], y[i], tau) for i in (0, 1)]
        # Each side learns from the other.
        sides = zip(self.project(images, tokens), self.groups["prototypes"], reversed(q), strict=True)
        s = self.prototype_scale.exp().clamp(max=100)
        return torch.stack([prototype_loss(x, c, q, s) for x, c, q in sides]).mean(), {}


class ByLot(ProtoCLIP):
    """Groups of the same sizes, with members drawn by lot: what the term does without what the groups mean."""

    def episode(
        self, pairs: Iterable[tuple[Tensor, Tensor]], generator: torch.Generator, teacher: Tensor | None = None
    ) -> None:
        pairs = list(pairs)
        super().episode(pairs, generator, teacher)
        y = self.groups["labels"]
        image, text = y = y[:, torch.randperm(y.shape[1], generator=generator)]  # (2, N): pairs keep both their labels
        with evaluating(self), torch.no_grad():
            h = [torch.cat(side) for side in zip(*(self.project(*pair) for pair in pairs), strict=True)]  # (N, D) each
        self.groups = {
            "labels": y,
            "centroids": torch.stack([back_translate(x, own, self.k) for x, own in zip(h, y, strict=True)]),
            "prototypes": torch.stack([back_translate(h[0], text, self.k), back_translate(h[1], image, self.k)]),
        }


class Apart(nn.Module):
    """Unit vectors moved by `offset` along one fixed direction."""

    def __init__(self, offset: float):
        super().__init__()
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) + self.offset / x.shape[1] ** 0.5  # along (1, ..., 1), a unit vector


def build(arm: Arm, task: Task, seed: int) -> CLIP:
    """The model of an arm; arms with one seed start with the same towers."""
    torch.manual_seed(seed)
    eye = ConvNet() if arm.images == "pixels" else Head()
    reader = BagOfWords(len(task.tokenizer), WIDTH)
    if arm.weight is None:
        model = CLIP(eye, reader, task.tokenizer, DIM)
    else:
        kind = Alone if arm.alone else ByLot if arm.lot else ProtoCLIP
        model = kind(
            eye,
            reader,
            task.tokenizer,
            DIM,
            k=arm.k,
            projected=DIM,
            weight=arm.weight,
            external=arm.external,
            temperature=arm.temperature,
            translate=arm.translate,
        )
    if arm.offset:
        for name, part in list(model.named_children()):
            if name.endswith(("_map", "_head")):
                sign = 1 if name.startswith("image") else -1
                setattr(model, name, nn.Sequential(part, Apart(sign * arm.offset)))
    return model


def batches(model: CLIP, arm: Arm, task: Task) -> Callable[[torch.Generator], tuple[Tensor, ...]]:
    """For `fit`: episodes for ProtoCLIP; for CLIP pairs drawn in the same way, with replacement."""
    if isinstance(model, ProtoCLIP):
        teacher = label_embeddings()[task.train].repeat(len(SEEN), 1) if arm.external else None  # (population, 384)
        warmup = 0 if arm.alone else WARMUP
        return Episodes(model, task.pairs, task.population, EPISODE, arm.batch, warmup, teacher)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return task.pairs(torch.randint(task.population, (arm.batch,), generator=generator), generator)

    return draw


def train(arm: Arm, task: Task, seed: int, progress: bool = True) -> tuple[CLIP, History]:
    """One arm with one seed; `watch` of the history is `glance`, sixteen times."""
    model = build(arm, task, seed)
    look = count(1)
    history = fit(
        model,
        batches(model, arm, task),
        arm.steps,
        seed=seed,
        watch=lambda _: glance(model, task, groups=next(look) % GROUPS == 0),
        every=arm.steps // LOOKS,
        label="CLIP" if arm.weight is None else "ProtoCLIP",
        progress=progress,
    )
    return model, history


# ---- the arms --------------------------------------------------------------------------------------------------------

ARMS = {
    "CLIP": Arm(),
    "ProtoCLIP": Arm(weight=1.0),
    "ProtoCLIP x4": Arm(weight=WEIGHT),
    "no back translation": Arm(weight=WEIGHT, translate=False),
    "one-hot targets": Arm(weight=WEIGHT, temperature=None),
    "teacher": Arm(weight=1.0, external=1.0),
    "teacher x4": Arm(weight=1.0, external=WEIGHT),
    "opaque, CLIP": Arm(opaque=True),
    "opaque, ProtoCLIP x4": Arm(weight=WEIGHT, opaque=True),
    "prototypes alone": Arm(weight=1.0, alone=True),
    "alone, no back translation": Arm(weight=1.0, alone=True, translate=False),
    "groups by lot": Arm(weight=WEIGHT, lot=True),
    "apart, CLIP": Arm(offset=1.0),
    "apart, ProtoCLIP x4": Arm(weight=WEIGHT, offset=1.0),
    "apart, no back translation": Arm(weight=WEIGHT, offset=1.0, translate=False),
    "untrained, CLIP": Arm(images="untrained"),
    "untrained, ProtoCLIP x4": Arm(weight=WEIGHT, images="untrained"),
    "CLIP, as long": Arm(steps=7 * STEPS // 4),  # about as many seconds as ProtoCLIP takes
    "opaque, teacher x4": Arm(weight=1.0, external=WEIGHT, opaque=True),
    "pixels, CLIP": Arm(images="pixels"),
    "pixels, ProtoCLIP x4": Arm(weight=WEIGHT, images="pixels"),
    "pixels, teacher x4": Arm(weight=1.0, external=WEIGHT, images="pixels"),
}
# On the split by lot alone, as is every arm whose images are not "trained".
BY_LOT_ALONE = ("groups by lot", "CLIP, as long", "opaque, teacher x4")


def arms(split: str) -> list[str]:
    """The arms that are measured on a split."""
    everywhere = (name for name, arm in ARMS.items() if name not in BY_LOT_ALONE and arm.images == "trained")
    return list(ARMS) if split == "random" else list(everywhere)


def seeds(name: str) -> range:
    """Five; three for an arm that learns from pixels."""
    return range(3 if ARMS[name].images == "pixels" else 5)
