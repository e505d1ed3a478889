"""Towers for pictures: ConvNet, ResNet and Vision Transformer.

Letters: B batch, D feature dimension, H = W image size, P patches, R read-out tokens.
Every tower has `.dim`, the length D of its output, and returns features of any length: projecting to the shared
space and normalising is the model's job.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from minilip import _check
from minilip.nn.transformer import Block


def check_images(x: Tensor, size: int | None = None) -> None:
    _check.pictures("images", x)
    if size is not None:
        _check.count("size", size)
    if size is not None and tuple(x.shape[2:]) != (size, size):
        _check.fail("images", f"{size} x {size} pixels", f"{x.shape[2]} x {x.shape[3]}")


class ConvNet(nn.Module):
    """Four 3x3 convolutions, three of them halving the picture, then the mean over what is left. (B, 3, H, W) -> (B, D)

    The smallest tower that tells a circle from a square: 0.25 M parameters at width 32.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        _check.count("width", width)
        self.dim = 4 * width
        channels = (3, width, 2 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        for i, stride in enumerate((2, 2, 2, 1)):
            layers += [
                nn.Conv2d(channels[i], channels[i + 1], 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(channels[i + 1]),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # 10 to 30 % faster on a CPU

    def forward(self, x: Tensor) -> Tensor:
        check_images(x)
        x = self.layers(x.contiguous(memory_format=torch.channels_last))  # (B, D, H/8, W/8)
        return x.mean(dim=(2, 3))  # (B, D)


class _Residual(nn.Module):
    """y = relu(x + f(x)), f two convolutions; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.f = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.f(x))


class ResNet(nn.Module):
    """A small residual network (He et al. 2016): stem, then stages that halve the picture. (B, 3, H, W) -> (B, D)"""

    def __init__(self, width: int = 32, stages: int = 3):
        super().__init__()
        _check.count("width", width)
        _check.count("stages", stages)
        self.dim = width * 2 ** (stages - 1)
        blocks: list[nn.Module] = [nn.Conv2d(3, width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
        for i in range(stages):
            after = width * 2**i
            blocks.append(_Residual(before, after, stride=1 if i == 0 else 2))
            before = after
        self.layers = nn.Sequential(*blocks).to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x)
        return self.layers(x.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))  # (B, D)


class ViT(nn.Module):
    """Vision Transformer (Dosovitskiy et al. 2021): patches as words, read at a [CLS] token. (B, 3, H, W) -> (B, D)

    With R = `readouts` > 1 there are more tokens to read at, such as ProLIP's [UNC]. (B, 3, H, W) -> (B, R, D)
    """

    def __init__(
        self, size: int = 32, patch: int = 4, dim: int = 128, depth: int = 4, heads: int = 4, readouts: int = 1
    ):
        super().__init__()
        for name, value in (("size", size), ("patch", patch), ("dim", dim), ("depth", depth), ("heads", heads)):
            _check.count(name, value)
        _check.count("readouts", readouts)
        if size % patch or dim % heads:
            _check.fail("size and dim", "multiples of patch and heads", f"{size}/{patch} and {dim}/{heads}")
        self.size, self.patch, self.dim, self.readouts = size, patch, dim, readouts
        self.embed = nn.Linear(3 * patch**2, dim)
        self.cls = nn.Parameter(0.02 * torch.randn(readouts, dim).squeeze(0))  # (D,) or (R, D)
        self.position = nn.Parameter(0.02 * torch.randn(readouts + (size // patch) ** 2, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.size)
        x = rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=self.patch, q=self.patch)  # (B, P, 3 patch^2)
        x = self.embed(x)  # (B, P, D)
        x = torch.cat([self.cls.expand(len(x), self.readouts, -1), x], dim=1) + self.position  # (B, R + P, D)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, : self.readouts]).squeeze(1)  # (B, D) or (B, R, D)
