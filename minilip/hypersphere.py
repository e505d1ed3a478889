r"""Alignment and uniformity: what a contrastive loss asks of unit vectors, measured and trained directly.

Wang and Isola 2020 (arXiv 2005.10242), derived in lesson 04.

Letters: B batch, D embedding dimension, x and y the embeddings of two views of the same pictures, h representation,
t sharpness of the Gaussian kernel (1 / (2 tau) for temperature tau).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from minilip import _check
from minilip.nn.gather import gather
from minilip.nn.vectors import unit


@_check.full_precision
def alignment(x: Tensor, y: Tensor, alpha: float = 2.0) -> Tensor:
    r"""How far apart the two views of a picture lie, on average.

    $$ \mathcal L_{\text{align}} = \frac1B \sum_i \lVert x_i - y_i \rVert^\alpha $$

    Args:
        x: (B, D), unit vectors in the paper, taken as they are.
        y: (B, D); row i of both shows picture i.
        alpha: the power of the distance, above 0.

    Returns:
        A scalar >= 0. For unit vectors and alpha = 2 it is 2 - 2 cos: 0 where partners coincide, 2 on average where
        they have nothing to do with each other, at most 4.

    Raises:
        ValueError: shapes differ, numbers that are not finite, alpha <= 0.

    Source: Wang and Isola 2020; lesson 04.
    """
    _check.paired("x", x, "y", y, least=1)
    _check.positive("alpha", alpha)
    squared = (x - y).square().sum(dim=1)  # (B,)
    apart = squared > 0  # the root of 0 has no slope; views that coincide have reached what they are pulled to
    return torch.where(apart, torch.where(apart, squared, 1.0) ** (alpha / 2), 0.0).mean()


@_check.full_precision
def uniformity(x: Tensor, t: float = 2.0) -> Tensor:
    r"""How evenly vectors are spread: the logarithm of the mean Gaussian potential of all pairs. Lower is more even.

    $$ \mathcal L_{\text{uniform}} = \log \frac{2}{B (B - 1)} \sum_{i < j} e^{-t \lVert x_i - x_j \rVert^2} $$

    Args:
        x: (B, D), unit vectors in the paper, taken as they are. B >= 2. Both views of a batch are two calls.
        t: sharpness, above 0: pairs further apart than about sqrt(1 / t) do not feel each other.

    Returns:
        A scalar <= 0: 0 where all vectors coincide, `uniformity_floor(D, t)` for very many spread evenly. Vectors that
        are not unit length have no floor.

    Raises:
        ValueError: a batch of 1, numbers that are not finite, t <= 0.

    Source: Wang and Isola 2020; lesson 04.
    """
    _check.embeddings("x", x, least=2)
    _check.positive("t", t)
    x = x - x.mean(dim=0)  # moves no two vectors apart, and keeps differences of large numbers out of the next line
    squares = x.square().sum(dim=1)  # (B,)
    distances = squares[:, None] + squares - 2 * x @ x.T  # (B, B) squared
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
    potential = (-t * distances.clamp(min=0)).masked_fill(itself, -math.inf)  # (B, B) log
    return potential.flatten().logsumexp(dim=0) - math.log(len(x) * (len(x) - 1))


def uniformity_floor(dim: int, t: float = 2.0) -> float:
    r"""The uniformity of vectors drawn evenly from the whole hypersphere: no distribution on it has a lower one.

    $$ \log \mathbb E\, e^{-t \lVert x - y \rVert^2} = -2t + \log {}_0F_1\big(; \tfrac D2; t^2\big)
       = -2t + \log \Big[ \Gamma(\tfrac D2)\, t^{1 - D/2}\, I_{D/2 - 1}(2t) \Big] $$

    A batch of B vectors can lie below it, since no vector is paired with itself.

    Args:
        dim: D >= 2, the length of the vectors; 2 is the circle.
        t: sharpness, above 0.

    Returns:
        Between -2t, which it nears as D grows, and 0.

    Raises:
        ValueError: fewer than 2 dimensions, t <= 0.

    >>> round(uniformity_floor(2), 3), round(uniformity_floor(64), 3)
    (-1.575, -3.875)

    Source: Wang and Isola 2020 (the minimum); lesson 04 (the value).
    """
    dim = _check.count("dim", dim, least=2)
    _check.positive("t", t)
    k = torch.arange(int(3 * t) + 100, dtype=torch.double, device="cpu")  # terms beyond k = 3 t are nothing
    half = torch.tensor(dim / 2, dtype=torch.double, device="cpu")
    terms = 2 * k * math.log(t) - torch.lgamma(k + 1) - torch.lgamma(half + k) + torch.lgamma(half)  # (K,) log
    return float(terms.logsumexp(dim=0)) - 2 * float(t)


def align_uniform_loss(
    x: Tensor, y: Tensor, align: float = 1.0, uniform: float = 1.0, alpha: float = 2.0, t: float = 2.0
) -> Tensor:
    r"""The two measures as one objective, the uniformity of each view apart.

    $$ \mathcal L = \lambda_a \mathcal L_{\text{align}}(x, y)
       + \lambda_u \tfrac12 \big[ \mathcal L_{\text{uniform}}(x) + \mathcal L_{\text{uniform}}(y) \big] $$

    Args:
        x, y: (B, D), unit vectors, taken as they are; row i of both shows picture i. B >= 2.
        align, uniform: the weights lambda, at least 0. With align = t and uniform = 1 the loss bounds that of InfoNCE
            with infinitely many negatives and tau = 1 / (2 t) from above.
        alpha, t: as for `alignment` and `uniformity`.

    Raises:
        ValueError: as `alignment` and `uniformity`, and a weight below 0.

    Source: Wang and Isola 2020, whose released code has weights of 1 and 1; lesson 04.
    """
    for name, weight in (("align", align), ("uniform", uniform)):
        if _check.number(name, weight) < 0:
            _check.fail(name, "a weight of at least 0", weight)
    return align * alignment(x, y, alpha) + uniform * (uniformity(x, t) + uniformity(y, t)) / 2


class Hypersphere(nn.Module):
    r"""A tower, and a head that puts its pictures on the unit hypersphere, where any objective of two views may act.

    $$ h = f(x), \qquad z = g(h) / \lVert g(h) \rVert, \qquad g = W_2 \circ \mathrm{ReLU} \circ \mathrm{BN} \circ W_1 $$

    The last layer has no BatchNorm, other than in `SimCLR`: it would keep the pictures of a batch apart by itself, and
    nobody could see what an objective does.

    Args:
        tower: f, (B, 3, H, W) -> (B, tower.dim).
        dim: D, of the space in which views are compared; 2 is a circle.
        objective: (x, y) -> scalar, of unit vectors (B, D); `functools.partial` gives it its weights or temperature.
        hidden: width of the head's middle layer; None for that of the tower.

    Source: Wang and Isola 2020 (tower, head and sizes are ours); lesson 04.
    """

    def __init__(
        self,
        tower: nn.Module,
        dim: int = 64,
        objective: Callable[[Tensor, Tensor], Tensor] = align_uniform_loss,
        hidden: int | None = None,
    ):
        super().__init__()
        before = _check.width("tower", tower)
        hidden = before if hidden is None else hidden
        _check.count("dim", dim, least=2)
        _check.count("hidden", hidden)
        if not callable(objective):
            _check.fail("objective", "a function of two batches of unit vectors", type(objective).__name__)
        self.tower, self.objective = tower, objective
        self.head = nn.Sequential(  # g; the shift that BatchNorm takes away needs no bias before it
            nn.Linear(before, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, dim)
        )

    def forward(self, images: Tensor) -> Tensor:
        """h, what later tasks use: (B, 3, H, W) -> (B, tower.dim)"""
        return self.tower(images)  # (B, tower.dim)

    def project(self, images: Tensor) -> Tensor:
        """z, what the objective sees: (B, 3, H, W) -> unit vectors (B, D)"""
        return unit(self.head(self.tower(images)))  # (B, D)

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """(x1, x2), two views of the same B pictures -> the objective, and both measures at alpha = t = 2."""
        x1, x2 = batch
        _check.views(x1, x2)
        # One pass over 2B pictures: both views share the means and variances of every BatchNorm.
        x, y = self.project(torch.cat([x1, x2])).chunk(2)  # (B, D) each
        x, y = gather(x), gather(y)
        with torch.no_grad():
            measures = {"alignment": alignment(x, y), "uniformity": (uniformity(x) + uniformity(y)) / 2}
        return self.objective(x, y), measures
