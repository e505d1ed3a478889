"""Changes to a batch of pictures by a given amount, an amount for each picture. `augment.py` draws the amounts.

Pictures (B, 3, H, W) in [0, 1] go in and come out; an amount (B,) says how much each is changed. Names, units and
values are those of torchvision.transforms.functional, where one amount serves the whole batch.

Letters: B batch, H = W image size in pixels, K width of a blur.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from minilip import _check
from minilip.nn.vision import check_images


def crop(images: Tensor, box: Tensor) -> Tensor:
    """Stretch a box of each picture over the whole picture.

    A box, (B, 4), is left, top, width and height in units of the picture's; a negative width is read right to left.
    """
    check_images(images)
    _check.tensor("box", box)
    if tuple(box.shape) != (len(images), 4):
        _check.fail("box", f"shape ({len(images)}, 4)", tuple(box.shape))
    _check.finite("box", box)
    left, top, width, height = box.to(images.dtype).unbind(dim=1)  # (B,) each
    zero = torch.zeros_like(left)
    across = torch.stack([width, zero, 2 * left + width - 1], dim=1)  # (B, 3), the picture goes from -1 to 1
    down = torch.stack([zero, height, 2 * top + height - 1], dim=1)  # (B, 3)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """x' = factor x: 0 is black, 1 changes nothing."""
    return (_amount("factor", factor, images) * images).clamp(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """x' = factor x + (1 - factor) m, with m the mean grey of the picture: 0 leaves only that, 1 changes nothing."""
    f, m = _amount("factor", factor, images), greyscale(images).mean(dim=(1, 2, 3), keepdim=True)  # (B, 1, 1, 1) each
    return (f * images + (1 - f) * m).clamp(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """x' = factor x + (1 - factor) g, with g the grey of each pixel: 0 leaves only that, 1 changes nothing."""
    f = _amount("factor", factor, images)  # (B, 1, 1, 1)
    return (f * images + (1 - f) * greyscale(images)).clamp(0, 1)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the colour circle by `shift` whole turns, -1/2 to 1/2; each pixel keeps its highest and lowest value.

    A channel is high up to a sixth of the circle from its own colour, low from a third on, and linear in between.
    """
    turn = 6 * _amount("shift", shift, images, -0.5, 0.5).squeeze(1)  # (B, 1, 1) in sixths of the circle
    red, green, blue = images.unbind(dim=1)  # (B, H, W) each
    high, low = images.amax(dim=1), images.amin(dim=1)  # (B, H, W)
    span = torch.where(high > low, high - low, 1)
    near_green_or_blue = torch.where(green == high, 2 + (blue - red) / span, 4 + (red - green) / span)
    hue = torch.where(red == high, (green - blue) / span, near_green_or_blue) + turn  # (B, H, W)
    own = torch.tensor([0, 2, 4], device=images.device).view(3, 1, 1)  # red, green, blue
    apart = hue[:, None] - own  # (B, 3, H, W)
    distance = (apart - 6 * (apart / 6).round()).abs()  # the shorter way round
    return high[:, None] - (high - low)[:, None] * (distance - 1).clamp(0, 1)


def greyscale(images: Tensor) -> Tensor:
    """0.2989 red + 0.587 green + 0.114 blue, which is how bright each looks to the eye, in all three channels."""
    check_images(images)
    weights = images.new_tensor([0.2989, 0.587, 0.114]).view(3, 1, 1)
    return (weights * images).sum(dim=1, keepdim=True).expand_as(images)


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur with a Gaussian of `sigma` pixels, cut off beyond `radius` pixels, the picture mirrored at its border."""
    _check.count("radius", radius)
    width = _amount("sigma", sigma, images, least=1e-3)  # (B, 1, 1, 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device)  # (K,)
    row = torch.softmax(-0.5 * (offsets / width) ** 2, dim=3)  # (B, 1, 1, K)
    row = row.repeat_interleave(3, dim=0).to(images.dtype)  # (3B, 1, 1, K), a group of the convolution for each channel
    x = F.pad(images, (radius,) * 4, mode="reflect").flatten(0, 1)[None]  # (1, 3B, H + 2 radius, W + 2 radius)
    return F.conv2d(F.conv2d(x, row, groups=len(row)), row.mT, groups=len(row)).view_as(images)


def _amount(name: str, x: Tensor, images: Tensor, least: float = 0.0, most: float = 1e6) -> Tensor:
    """One amount for each picture, checked and shaped to go with them: (B,) -> (B, 1, 1, 1)"""
    check_images(images)
    _check.tensor(name, x)
    if tuple(x.shape) != (len(images),):
        _check.fail(name, f"shape ({len(images)},), one for each picture", tuple(x.shape))
    if not (x.min() >= least and x.max() <= most):
        _check.fail(name, f"{least:g} to {most:g}", f"{x.min():g} to {x.max():g}")
    return x.view(-1, 1, 1, 1)  # (B, 1, 1, 1)
