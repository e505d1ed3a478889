"""Random changes to a batch of pictures, each picture its own, drawn on the device that trains.

Letters: B batch, H = W image size in pixels.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from . import _check


def _rand(b: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(b, generator=generator, device=generator.device)


def move(
    images: Tensor,
    generator: torch.Generator,
    degrees: float = 15.0,
    zoom: tuple[float, float] = (0.8, 1.15),
    shift: float = 0.1,
    flip: bool = True,
    fill: float = 1.0,
) -> Tensor:
    """Turn, zoom, shift and mirror each picture by its own random amount.

    Args:
        images: (B, 3, H, W) in [0, 1], on the generator's device.
        generator: source of all randomness.
        degrees: turns are uniform in (-degrees, degrees).
        zoom: bounds of the magnification, uniform in its logarithm; below 1 the picture shrinks.
        shift: greatest shift in each direction, in widths of the picture.
        flip: mirror left and right with probability 1/2.
        fill: brightness of what comes in from outside; 1 is white.

    Returns:
        (B, 3, H, W)

    Raises:
        ValueError: not a batch of pictures, or a bound out of range.
    """
    _pictures(images)
    if not 0 < zoom[0] <= zoom[1] or degrees < 0 or shift < 0:
        _check.fail("zoom, degrees, shift", "0 < zoom[0] <= zoom[1] and the others at least 0", (zoom, degrees, shift))
    b = len(images)
    angle = _rand(b, -math.radians(degrees), math.radians(degrees), generator)  # (B,)
    inverse = torch.exp(-_rand(b, math.log(zoom[0]), math.log(zoom[1]), generator))  # output to input coordinates
    mirror = 1 - 2 * (_rand(b, 0, 1, generator) < 0.5).float() if flip else torch.ones_like(angle)
    cos, sin = inverse * angle.cos(), inverse * angle.sin()
    dx, dy = (_rand(b, -2 * shift, 2 * shift, generator) for _ in range(2))  # the picture is 2 wide
    theta = torch.stack([torch.stack([mirror * cos, -sin, dx], 1), torch.stack([mirror * sin, cos, dy], 1)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(images - fill, grid, align_corners=False) + fill  # outside is 0, so that 0 must mean `fill`


def recolour(images: Tensor, generator: torch.Generator, strength: float = 0.25) -> Tensor:
    """Mix the colour channels and bend the brightness of each picture by its own random amount; white stays white.

    $$ x' = (M x)^\\gamma, \\qquad M = \\text{rows of } I + \\text{strength}\\, n, \\text{ each divided by its sum},
       \\qquad n \\sim N(0, 1) \\text{ cut at } \\pm 1, \\qquad \\log \\gamma \\sim N(0, (2\\,\\text{strength})^2) $$

    Args:
        images: (B, 3, H, W) in [0, 1].
        generator: source of all randomness.
        strength: 0 changes nothing; at 0.25 artists' palettes overlap and hues can still be named.

    Raises:
        ValueError: not a batch of pictures, or strength outside [0, 0.3], beyond which a row of M can sum to nothing.
    """
    _pictures(images)
    if not 0 <= strength <= 0.3:
        _check.fail("strength", "0 to 0.3", strength)
    b, device = len(images), generator.device
    mix = torch.eye(3, device=device) + strength * torch.randn(b, 3, 3, generator=generator, device=device).clamp_(
        -1, 1
    )
    mix = mix / mix.sum(dim=2, keepdim=True)  # (B, 3, 3), rows sum to 1
    gamma = torch.exp(2 * strength * torch.randn(b, 1, 1, 1, generator=generator, device=device))
    return torch.einsum("bij,bjhw->bihw", mix, images).clamp(0, 1) ** gamma


def _pictures(images: Tensor) -> None:
    if images.dim() != 4 or images.shape[1] != 3 or not images.is_floating_point():
        _check.fail("images", "a floating-point tensor of shape (B, 3, H, W)", f"{images.dtype} {tuple(images.shape)}")
