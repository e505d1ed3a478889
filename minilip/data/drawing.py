"""Scenes as pixels: colours, signed distances to outlines, and a blur with a width for each picture.

Letters: B scenes, R scenes with an object of one shape, H = W image size in pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minilip.data.latents import SHAPES, Latents

RGB = torch.tensor(
    [
        [0.90, 0.12, 0.14],  # red
        [0.10, 0.65, 0.20],  # green
        [0.16, 0.30, 0.92],  # blue
        [0.98, 0.88, 0.12],  # yellow
        [0.55, 0.15, 0.70],  # purple
        [1.00, 0.55, 0.05],  # orange
        [1.00, 1.00, 1.00],  # white
        [0.20, 0.85, 0.90],  # cyan
    ]
)
BACKGROUND_RGB = torch.tensor([[0.0, 0.0, 0.0], [0.35, 0.35, 0.35], [0.30, 0.18, 0.08]])
OCCLUDER_RGB = {"grey": (0.5, 0.5, 0.5), "white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
# Distance from the centre to the sides, so that all shapes of one radius cover the same area:
# pi r^2 = (2 a)^2 for the square, = 3 sqrt(3) a^2 for the triangle.
APOTHEM = (1.0, math.sqrt(math.pi) / 2, math.sqrt(math.pi / (3 * math.sqrt(3))))
REACH = (1.0, math.sqrt(math.pi / 2), 2 * APOTHEM[2])  # farthest corner, for radius 1


def draw(z: Latents, size: int, occluder_colour: str) -> Tensor:
    """Pictures of scenes, as `Scenes.render` says. -> (B, 3, H, W) float32 in [0, 1]"""
    device, n, h = z.shape.device, len(z), size
    axis = (torch.arange(h, device=device) + 0.5) * (2 / h) - 1  # (W,) pixel centres
    x, y = axis[None, None, :], -axis[None, :, None]  # (1, 1, W), (1, H, 1)
    image = BACKGROUND_RGB.to(device)[z.background][:, :, None, None].expand(n, 3, h, h)
    for o in range(z.shape.shape[1]):
        cover = torch.empty(n, h, h, device=device)
        for k in range(len(SHAPES)):
            rows = (z.shape[:, o] == k).nonzero().squeeze(1)
            if len(rows):
                centre, turn = z.position[rows, o], z.angle[rows, o]
                d = _distance(k, x, y, centre, z.radius[rows, o], turn)  # (R, H, W)
                cover[rows] = d.mul_(-h / 2).add_(0.5).clamp_(0, 1)
        colour = RGB.to(device)[z.colour[:, o]][:, :, None, None]  # (n, 3, 1, 1)
        image = torch.lerp(image, colour, cover[:, None])  # (n, 3, H, W)
    if bool((z.occluder[:, 2] > 0).any()):
        cx, cy, half = (v[:, None, None] for v in z.occluder.unbind(1))
        d = torch.maximum((x - cx).abs(), (y - cy).abs()) - half
        cover = (0.5 - d * h / 2).clamp_(0, 1) * (half > 0)
        grey = torch.tensor(OCCLUDER_RGB[occluder_colour], device=device)[None, :, None, None]
        image = torch.lerp(image, grey.expand_as(image), cover[:, None])
    if bool((z.blur > 0).any()):
        image = _blur(image, z.blur * h / 2)
    return image


def _distance(kind: int, x: Tensor, y: Tensor, centre: Tensor, radius: Tensor, angle: Tensor) -> Tensor:
    """Signed distance to a shape's outline, negative inside; outside a corner, to the nearer side's line. (R, H, W)"""
    cx, cy = centre[:, 0, None, None], centre[:, 1, None, None]
    if kind == 0:
        return ((x - cx).square() + (y - cy).square()).sqrt_().sub_(radius[:, None, None])
    # A convex polygon is the largest of its sides' signed distances, and each is affine in (x, y).
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    u = c * (x - cx) + s * (y - cy)  # (R, H, W) coordinates in the shape's own frame
    v = c * (y - cy) - s * (x - cx)
    apothem = (APOTHEM[kind] * radius)[:, None, None]
    if kind == 1:
        return torch.maximum(u.abs_(), v.abs_()).sub_(apothem)
    # Triangle with one side at the bottom; the other two mirror each other, so |u| folds them into one.
    return torch.maximum(-v, v.mul(0.5).add_(u.abs_(), alpha=math.sqrt(3) / 2)).sub_(apothem)


def _blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, each image with its own standard deviation in pixels. (B, 3, H, W), (B,) -> (B, 3, H, W)"""
    reach = max(1, math.ceil(3 * float(sigma.max())))
    offset = torch.arange(-reach, reach + 1, device=image.device)
    sigma = sigma.clamp(min=1e-3)[:, None]  # (B, 1)
    weight = torch.exp(-0.5 * (offset / sigma).square()) * (offset.abs() <= 3 * sigma)  # (B, 2 reach + 1)
    weight = (weight / weight.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)  # (3B, .)
    b, _, h, w = image.shape
    flat = torch.nn.functional.pad(image.reshape(1, 3 * b, h, w), [reach] * 4, mode="replicate")
    flat = torch.nn.functional.conv2d(flat, weight[:, None, None, :], groups=3 * b)
    return torch.nn.functional.conv2d(flat, weight[:, None, :, None], groups=3 * b).reshape(b, 3, h, w)
