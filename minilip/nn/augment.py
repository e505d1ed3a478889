"""Random changes to a batch of pictures, each picture its own, drawn on the device that trains.

What is changed by a given amount is in `adjust.py`; here the amounts are drawn.

Letters: B batch, H = W image size in pixels.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from minilip import _check
from minilip.nn.adjust import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    crop,
    gaussian_blur,
    greyscale,
)
from minilip.nn.vision import check_images


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
    check_images(images)
    _check.generator("generator", generator)
    _bounds("zoom", zoom)
    if not 0 < zoom[0] <= zoom[1] or _check.number("degrees", degrees) < 0 or _check.number("shift", shift) < 0:
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
    check_images(images)
    _check.generator("generator", generator)
    _within("strength", strength, 0.3)
    b, device = len(images), generator.device
    mix = torch.eye(3, device=device) + strength * torch.randn(b, 3, 3, generator=generator, device=device).clamp_(
        -1, 1
    )
    mix = mix / mix.sum(dim=2, keepdim=True)  # (B, 3, 3), rows sum to 1
    gamma = torch.exp(2 * strength * torch.randn(b, 1, 1, 1, generator=generator, device=device))
    return torch.einsum("bij,bjhw->bihw", mix, images).clamp(0, 1) ** gamma


def random_resized_crop(
    images: Tensor,
    generator: torch.Generator,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
) -> Tensor:
    """Stretch a random box of each picture over the whole picture.

    The area is uniform, and the logarithm of the aspect is uniform among those with which a box of that area fits in.
    (torchvision draws both anew until the box fits, which makes large boxes rarer.)

    Args:
        images: (B, 3, H, W) in [0, 1], on the generator's device.
        generator: source of all randomness.
        area: bounds of the box's part of the picture, in (0, 1].
        aspect: bounds of width / height in units of the picture's: one at most 1, one at least 1.
        flip: mirror left and right with probability 1/2.

    Returns:
        (B, 3, H, W)

    Raises:
        ValueError: not a batch of pictures, or a bound out of range.

    Source: Chen et al. 2020, appendix A; lesson 03.
    """
    check_images(images)
    _check.generator("generator", generator)
    _bounds("area", area)
    _bounds("aspect", aspect)
    if not 0 < area[0] <= area[1] <= 1:
        _check.fail("area", "0 < area[0] <= area[1] <= 1", area)
    if not 0 < aspect[0] <= 1 <= aspect[1] < math.inf:
        _check.fail("aspect", "0 < aspect[0] <= 1 <= aspect[1]", aspect)
    b = len(images)
    log_area = _rand(b, *area, generator).log()  # (B,)
    narrowest, widest = log_area.clamp(min=math.log(aspect[0])), (-log_area).clamp(max=math.log(aspect[1]))
    log_aspect = narrowest + (widest - narrowest) * _rand(b, 0, 1, generator)
    width, height = ((log_area + log_aspect) / 2).exp(), ((log_area - log_aspect) / 2).exp()
    left, top = (1 - width) * _rand(b, 0, 1, generator), (1 - height) * _rand(b, 0, 1, generator)
    if flip:
        mirror = _rand(b, 0, 1, generator) < 0.5
        left, width = torch.where(mirror, left + width, left), torch.where(mirror, -width, width)
    return crop(images, torch.stack([left, top, width, height], dim=1))


def colour_jitter(
    images: Tensor,
    generator: torch.Generator,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    probability: float = 0.8,
) -> Tensor:
    """Change brightness, contrast, saturation and hue of each picture by its own random amounts.

    The order of the four changes is drawn once a call, for all pictures; the two views of a picture are two calls.

    Args:
        images: (B, 3, H, W) in [0, 1], on the generator's device.
        generator: source of all randomness.
        brightness, contrast, saturation: a >= 0; the factors are uniform from max(0, 1 - a) to 1 + a.
        hue: the shifts are uniform from -hue to hue turns of the colour circle; 0 to 1/2.
        probability: with which a picture is changed at all.

    Returns:
        (B, 3, H, W) in [0, 1]

    Raises:
        ValueError: not a batch of pictures, or an amount out of range.

    Source: Chen et al. 2020, appendix A; lesson 03.
    """
    check_images(images)
    _check.generator("generator", generator)
    b = len(images)
    changed = (_rand(b, 0, 1, generator) < _within("probability", probability, 1)).float()  # (B,)
    amounts = []
    for name, a in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
        amounts.append(1 + changed * _rand(b, -min(_within(name, a), 1), a, generator))
    amounts.append(changed * _rand(b, -_within("hue", hue, 0.5), hue, generator))
    changes = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
    for i in torch.randperm(4, generator=generator, device=generator.device).tolist():
        images = changes[i](images, amounts[i])
    return images


def simclr_view(
    images: Tensor,
    generator: torch.Generator,
    strength: float = 0.5,
    area: tuple[float, float] = (0.08, 1.0),
    flip: bool = True,
    grey: float = 0.2,
    blur: float | None = None,
) -> Tensor:
    """One random view of each picture as SimCLR draws it: crop and flip, then colour jitter, greyscale and blur.

    Args:
        images: (B, 3, H, W) in [0, 1], on the generator's device.
        generator: source of all randomness; the next call with it draws another view.
        strength: s of the jitter (0.8 s, 0.8 s, 0.8 s, 0.2 s) that 4 pictures in 5 get: 1 for ImageNet, 0.5 for
            CIFAR-10, 0 for none. 0 to 2.5.
        area: bounds of the crop's part of the picture; (1, 1) for no crop.
        flip: mirror left and right with probability 1/2; not for pictures in which they have a meaning.
        grey: probability that a picture loses its colours.
        blur: probability that a picture is blurred, by 0.1 to 2 pixels. Default: 1/2, but 0 for pictures of up to
            32 pixels, whose shapes are no larger than the blur (as in the paper's CIFAR-10 experiments).

    Returns:
        (B, 3, H, W) in [0, 1]

    Raises:
        ValueError: not a batch of pictures, or an amount out of range.

    Source: Chen et al. 2020, appendix A; lesson 03.
    """
    check_images(images)
    s, size = _within("strength", strength, 2.5), images.shape[2]
    images = random_resized_crop(images, generator, area, flip=flip)
    images = colour_jitter(images, generator, 0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s)
    images = _sometimes(_within("grey", grey, 1), greyscale(images), images, generator)
    blur = (0.5 if size > 32 else 0.0) if blur is None else _within("blur", blur, 1)
    if blur > 0:
        sigma = _rand(len(images), 0.1, 2, generator)  # (B,)
        images = _sometimes(blur, gaussian_blur(images, sigma, max(1, size // 20)), images, generator)
    return images


def _sometimes(probability: float, new: Tensor, old: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(_rand(len(old), 0, 1, generator).view(-1, 1, 1, 1) < probability, new, old)


def _within(name: str, value: float, most: float = 1e6) -> float:
    if not 0 <= _check.number(name, value) <= most:
        _check.fail(name, f"0 to {most:g}", value)
    return value


def _bounds(name: str, value: tuple[float, float]) -> None:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        _check.fail(name, "two numbers, the lower first", repr(value))
    for bound in value:
        _check.number(name, bound)
