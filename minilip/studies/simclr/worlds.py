"""Scenes whose style depends on their content, and interventions on the style.

Letters: B scenes.

Content is what no intervention touches: the shape and the radius. They are drawn first. Style is drawn given content:
each shape has two colours that it leans to, and a larger shape has less room to stand in. Background and angle depend
on nothing. An intervention draws some styles anew, from the same mechanism.

Source: the model of von Kügelgen et al. 2021 (arXiv 2106.04619), in scenes of ours; lesson 03.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip import _check
from minilip.data.drawing import REACH
from minilip.data.scenes import BACKGROUNDS, COLOURS, SHAPES, Latents, Scenes

CONTENT = ("shape", "radius")
STYLES = ("colour", "background", "position", "angle")
LEANING = 0.5  # how often a shape takes one of its own two colours, red or green for the circle, and so on
SIZE = 32
WORLD = Scenes(SIZE)


def sample(n: int, generator: torch.Generator) -> Latents:
    """Draw n scenes: content, then style given content."""
    drawn = WORLD.sample(n, generator)
    return intervene(drawn, STYLES, generator)


def intervene(z: Latents, styles: Sequence[str], generator: torch.Generator, keep: float = 0.0) -> Latents:
    """Draw the named styles anew given the content, each of them independently left alone with probability `keep`.

    With keep = 0 a named style of the result owes nothing to the old one but through the content.
    """
    changes = {}
    for name in styles:
        _check.choice("style", name, STYLES)
        old, new = getattr(z, name), _mechanism(name, z, generator)
        left_alone = torch.rand(len(z), generator=generator, device=new.device) < keep  # (B,)
        changes[name] = torch.where(left_alone.view(-1, *[1] * (new.dim() - 1)), old, new)
    return z.with_(**changes)


def _mechanism(name: str, z: Latents, generator: torch.Generator) -> Tensor:
    """One style given the content, in the shape it has in Latents."""
    g, b, device = generator, len(z), z.shape.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=g, device=device)

    if name == "colour":
        own = 2 * z.shape + torch.randint(2, (b, 1), generator=g, device=device)  # (B, 1) two colours a shape
        any_ = torch.randint(len(COLOURS), (b, 1), generator=g, device=device)
        return torch.where(uniform(b, 1) < LEANING, own, any_)
    if name == "background":
        return torch.randint(len(BACKGROUNDS), (b,), generator=g, device=device)
    if name == "angle":
        return 2 * math.pi * uniform(b, 1)
    room = (1 - torch.tensor(REACH, device=device)[z.shape] * z.radius).unsqueeze(-1)  # (B, 1, 1) to the border
    return (2 * uniform(b, 1, 2) - 1) * room  # (B, 1, 2)


def causes(z: Latents) -> dict[str, Tensor]:
    """Every latent as numbers to regress on: one-hot classes, coordinates, and the angle up to a shape's symmetry.

    {name: (B, K)}; a circle has no angle, which is NaN.
    """
    shape = z.shape[:, 0]
    fold = torch.tensor([math.nan, 4.0, 3.0], device=shape.device)[shape]  # a square looks alike four times a turn
    turn = fold * z.angle[:, 0]  # (B,)
    return {
        "shape": F.one_hot(shape, len(SHAPES)).float(),
        "radius": z.radius,
        "colour": F.one_hot(z.colour[:, 0], len(COLOURS)).float(),
        "background": F.one_hot(z.background, len(BACKGROUNDS)).float(),
        "position": z.position[:, 0],
        "angle": torch.stack([turn.cos(), turn.sin()], dim=1),
    }
