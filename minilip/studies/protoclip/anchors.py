r"""What InfoNCE does to points on a line: groups come about that no term of the loss asks for.

After the idea of figure 1 in Chen et al. 2022 (arXiv 2206.10996), whose code is not public; lesson 11.

Letters: N pairs of an image and a text, D = 1 coordinate on a line or 2 on a circle, R runs, T steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check

MODES = ("both free", "images free, texts smooth", "both smooth")
PAIRS, CLASSES, INPUTS, HIDDEN = 24, 4, 8, 32
SPREAD, NOISE = 0.3, 0.3  # of the points at the start; of inputs about the middle of their class
CHANCE = (PAIRS // CLASSES - 1) / (PAIRS - 1)  # another point, taken blindly, is of the own class


class Motion(NamedTuple):
    """All points at each step, the start and the end included."""

    images: Tensor  # (T + 1, R, N, D)
    texts: Tensor  # (T + 1, R, N, D)
    loss: Tensor  # (T + 1, R), nats
    found: Tensor  # (T + 1, R), share of images whose nearest text is their own


def classes() -> Tensor:
    """The class of each pair, which the loss is never told. -> (N,)"""
    return torch.arange(PAIRS) % CLASSES


def simulate(
    mode: str,
    seeds: Sequence[int],
    steps: int = 300,
    temperature: float = 0.1,
    offset: float = 0.0,
    circle: bool = False,
    lr: float = 0.03,
) -> Motion:
    r"""InfoNCE in both directions over all pairs, on points that Adam moves.

    $$ \mathcal L = -\frac1{2N} \sum_{i=1}^N \Big[ \log \frac{e^{\ell_{ii}}}{\sum_j e^{\ell_{ij}}}
       + \log \frac{e^{\ell_{ii}}}{\sum_j e^{\ell_{ji}}} \Big], \qquad \ell_{ij} = -\lVert x_i - y_j \rVert^2 / \tau $$

    A *free* point is a parameter of its own. A *smooth* one is what a random network with one hidden layer makes of an
    input, where inputs of a class lie close together. Images and texts have inputs and networks of their own.

    Args:
        mode: one of MODES.
        seeds: one run each.
        steps: T >= 1.
        temperature: tau > 0; on a circle, 2 / tau is CLIP's logit scale.
        offset: what all texts of a line have in common: where it starts; it is learned.
        circle: unit vectors of the plane in place of points on a line.
        lr: Adam's, above 0.

    Returns:
        The motion of all runs. Each is what it would be alone.

    Raises:
        ValueError: an unknown mode, no seed, steps < 1, temperature or lr <= 0, an offset on a circle.

    Source: Chen et al. 2022, figure 1; lesson 11.
    """
    _check.choice("mode", mode, MODES)
    if len(seeds) == 0:
        _check.fail("seeds", "at least one", "none")
    _check.count("steps", steps)
    _check.positive("temperature", temperature)
    _check.positive("lr", lr)
    if _check.number("offset", offset) and circle:
        _check.fail("offset", "0 on a circle", offset)

    dim = 2 if circle else 1
    image, text = (_Points(side, seeds, dim, mode in smooth) for side, smooth in enumerate((MODES[2:], MODES[1:])))
    common = nn.Parameter(torch.full((len(seeds), 1, 1), float(offset)))
    learned = [*image.parameters(), *text.parameters()]
    optimizer = torch.optim.Adam(learned if circle else [*learned, common], lr=lr)

    own = torch.arange(PAIRS)
    rows: list[tuple[Tensor, ...]] = []
    for step in range(steps + 1):
        x, y = image(), text()  # (R, N, D) each
        x, y = (F.normalize(x, dim=2), F.normalize(y, dim=2)) if circle else (x, y + common)
        logits = -(x[:, :, None] - y[:, None]).square().sum(dim=3) / temperature  # (R, N, N)
        chosen = logits.log_softmax(dim=2) + logits.log_softmax(dim=1)  # (R, N, N)
        loss = -chosen.diagonal(dim1=1, dim2=2).mean(dim=1) / 2  # (R,)
        found = (logits.argmax(dim=2) == own).float().mean(dim=1)  # (R,)
        rows.append(tuple(value.detach().clone() for value in (x, y, loss, found)))
        if step < steps:
            optimizer.zero_grad()
            loss.sum().backward()  # a sum of runs that share no parameter
            optimizer.step()
    return Motion(*map(torch.stack, zip(*rows, strict=True)))


def purity(points: Tensor, labels: Tensor) -> Tensor:
    """Share of points whose nearest other point has their label.

    Args:
        points: (..., N, D), N >= 2.
        labels: (N,).

    Returns:
        (...,) in [0, 1]; for labels dealt out blindly, the share of the own label among the others on average.

    Raises:
        ValueError: fewer than two points, labels that do not fit, numbers that are not finite.

    Source: lesson 11.
    """
    if points.dim() < 2 or points.shape[-2] < 2:
        _check.fail("points", "shape (..., N, D) with N >= 2", tuple(points.shape))
    _check.finite("points", points)
    if labels.shape != points.shape[-2:-1]:
        _check.fail("labels", f"shape ({points.shape[-2]},)", tuple(labels.shape))
    distances = (points[..., :, None, :] - points[..., None, :, :]).square().sum(dim=-1)  # (..., N, N), squared
    distances.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)  # no point is its own neighbour
    return (labels[distances.argmin(dim=-1)] == labels).float().mean(dim=-1)


class _Points(nn.Module):
    """R times N points, learned themselves or made of inputs by R learned networks. () -> (R, N, D)"""

    def __init__(self, side: int, seeds: Sequence[int], dim: int, smooth: bool):
        super().__init__()
        drawn = zip(*(self._draw(side, seed, dim) for seed in seeds), strict=True)
        self.inputs, free, first, second = map(torch.stack, drawn)  # (R, N, I), (R, N, D), (R, I, H), (R, H, D)
        self.net = nn.ParameterList([first, second] if smooth else [])
        self.free = None if smooth else nn.Parameter(free)

    @staticmethod
    def _draw(side: int, seed: int, dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(2 * seed + side)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        inputs = normal(CLASSES, INPUTS)[classes()] + NOISE * normal(PAIRS, INPUTS)  # (N, I)
        second = 1.5 * SPREAD * normal(HIDDEN, dim) / HIDDEN**0.5
        return inputs, SPREAD * normal(PAIRS, dim), normal(INPUTS, HIDDEN) / INPUTS**0.5, second

    def forward(self) -> Tensor:
        if self.free is not None:
            return self.free
        first, second = self.net
        return (self.inputs @ first).tanh() @ second
