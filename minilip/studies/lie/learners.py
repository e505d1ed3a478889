r"""Who is trained: a base, and beside it what is done with the other pose of a drawing.

Letters: B batch, D embedding dimension, N drawings, T poses (see `data.poses.PosedEmoji` for the roles of drawings).

Source: Ibrahim, Bouchacourt and Morcos 2022, of which the code is not public: bases, sizes, weights and controls are
ours. Lesson 06.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check
from minilip.data.poses import PosedEmoji
from minilip.lie import LieOperator, lie_loss
from minilip.mae import MAE
from minilip.nn import ConvNet, augment
from minilip.simclr import nt_xent
from minilip.vicreg import vicreg_loss

BASES = ("mae", "vicreg", "simclr")
DIM = 64  # of every representation
TEMPERATURE = 0.2


# ---- where t comes from: (operator, z (B, D), z^g (B, D), angle (B,)) -> t (B, 1) ------------------------------------


def inferred(operator: LieOperator, z: Tensor, z_g: Tensor, angle: Tensor) -> Tensor:
    """From the pair."""
    return operator.infer(z, z_g)


def zero(operator: LieOperator, z: Tensor, z_g: Tensor, angle: Tensor) -> Tensor:
    """The identity."""
    return torch.zeros_like(angle)[:, None]


def shuffled(operator: LieOperator, z: Tensor, z_g: Tensor, angle: Tensor) -> Tensor:
    """From another pair of the batch."""
    return operator.infer(z, z_g).roll(1, dims=0)


def true_angle(operator: LieOperator, z: Tensor, z_g: Tensor, angle: Tensor) -> Tensor:
    """In radians."""
    return angle[:, None]


@dataclass(frozen=True)
class Control:
    """What is done with the other pose of the same drawing.

    Args:
        t: where `lie_loss` has its t from; None is without that loss.
        positives: the base compares the two poses in place of two views of one pose; not for MAE, which has one view.
    """

    t: Callable[[LieOperator, Tensor, Tensor, Tensor], Tensor] | None = None
    positives: bool = False


CONTROLS = {
    "alone": Control(),
    "operator": Control(inferred),
    "identity": Control(zero),
    "shuffled": Control(shuffled),
    "angle": Control(true_angle),
    "positives": Control(positives=True),
    "positives + operator": Control(inferred, positives=True),
    "positives + identity": Control(zero, positives=True),
}


def controls(base: str) -> tuple[str, ...]:
    """Those that a base can have: MAE compares no two views, so it has no other pose for a positive."""
    return tuple(name for name, control in CONTROLS.items() if base != "mae" or not control.positives)


class Tower(nn.Module):
    """A ConvNet read at every place of its last map, not at their mean: where a thing is tells how it is turned.

    (B, 3, 32, 32) -> (B, 64), each coordinate of mean 0 and variance 1 over the batch (over the training set in `eval`)
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.dim = DIM
        self.layers = ConvNet(width).layers  # (B, 4 width, 4, 4)
        self.out = nn.Linear(4 * width * 16, DIM)
        self.norm = nn.BatchNorm1d(DIM, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x.contiguous(memory_format=torch.channels_last))  # (B, 4 width, 4, 4)
        return self.norm(self.out(x.flatten(1)))  # (B, 64)


def view(images: Tensor, generator: torch.Generator) -> Tensor:
    """A pose-free augmentation: shifted, zoomed and recoloured, never turned or mirrored. (B, 3, S, S), same shape"""
    moved = augment.move(images, generator, degrees=0, zoom=(0.9, 1.1), shift=0.08, flip=False)
    return augment.recolour(moved, generator, strength=0.15)


class Learner(nn.Module):
    """A base and, beside it, what is done with the other pose of the same drawing.

    Args:
        base: "mae", "vicreg" or "simclr".
        control: a name in CONTROLS that `controls(base)` has.
        weights: of the contrastive and the Euclidean term (the latter per coordinate of z).

    Raises:
        ValueError: an unknown base or control.
    """

    tower: MAE | Tower

    def __init__(self, base: str, control: str, weights: tuple[float, float] = (1.0, 1.0)):
        super().__init__()
        _check.choice("base", base, BASES)
        _check.choice("control", control, controls(base))
        self.base, self.control, self.weights = base, CONTROLS[control], weights
        self.tower = MAE(size=32, patch=4, dim=DIM, depth=3, heads=4) if base == "mae" else Tower()
        wide = 4 * DIM if base == "vicreg" else DIM
        self.head = nn.Sequential(
            nn.Linear(DIM, 2 * wide), nn.BatchNorm1d(2 * wide), nn.ReLU(), nn.Linear(2 * wide, wide)
        )
        self.operator = LieOperator(DIM)

    def forward(self, images: Tensor) -> Tensor:
        return self.tower(images)  # (B, D)

    def loss(self, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """(view, another view of the same picture, view of another pose, angle between the poses in radians)"""
        a, b, posed, angle = batch
        if isinstance(self.tower, MAE):
            both = torch.cat([a, posed])  # both are reconstructed under every control: all see the same pictures
            ssl = self.tower.loss(both)[0]
            z, z_g = (a, posed) if self.control.t is None else self.tower(both).chunk(2)  # (B, D) each
        else:
            views = [a, posed] if self.control.positives else [a, b] if self.control.t is None else [a, b, posed]
            z, second, *rest = self.tower(torch.cat(views)).chunk(len(views))  # (B, D) each
            z_g = rest[0] if rest else second
            ssl = self.compare(*self.head(torch.cat([z, second])).chunk(2))
        metrics = {"ssl": ssl.item()}
        if self.control.t is None:
            return ssl, metrics
        t = self.control.t(self.operator, z, z_g, angle)  # (B, 1)
        contrastive, euclidean = lie_loss(self.operator, z, z_g, TEMPERATURE, t)
        metrics |= {
            "contrastive": contrastive.item(),
            "gap with operator": euclidean.item() / DIM,
            "gap without": (z - z_g).square().mean().item(),
        }
        return ssl + self.weights[0] * contrastive + self.weights[1] * euclidean / DIM, metrics

    def compare(self, x: Tensor, y: Tensor) -> Tensor:
        """The base's own loss of two views behind the head. (B, wide) twice"""
        if self.base == "vicreg":
            return vicreg_loss(x, y) / 25
        return nt_xent(F.normalize(x, dim=1), F.normalize(y, dim=1), TEMPERATURE)


def pairs(data: PosedEmoji, batch: int, device: torch.device) -> Callable[[torch.Generator], tuple]:
    """Batches for `fit`: two pose-free views of one training pose, a view of another, and the angle between them."""
    images, angles = data.images.to(device), data.angles.to(device)
    shown, rows = data.trained.float().to(device), (~data.unknown).nonzero().squeeze(1).to(device)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        r = rows[torch.randperm(len(rows), generator=generator, device=device)[:batch]]  # (B,)
        p, q = torch.multinomial(shown[r], 2, generator=generator).T  # (B,) each
        x, posed = images[r, p].float() / 255, images[r, q].float() / 255  # (B, 3, S, S)
        angle = torch.deg2rad((angles[r, q] - angles[r, p] + 180) % 360 - 180)  # (B,)
        return view(x, generator), view(x, generator), view(posed, generator), angle

    return draw
