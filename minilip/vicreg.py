r"""VICReg: two views agree, and no view may say the same of all pictures, or the same thing twice. No negatives.

Bardes, Ponce and LeCun 2022 (arXiv 2105.04906), derived in lesson 05.

Letters: B batch, D embedding dimension, x and y the embeddings of two views of the same pictures, C covariance matrix.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check
from minilip.nn.gather import gather

EPS = 1e-4  # under the square root, where a collapsed dimension would have an infinite slope


@_check.full_precision
def vicreg_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Views that agree, dimensions that spread, dimensions that do not repeat each other: three numbers, unweighted.

    $$ s = \frac1{BD} \sum_{i,d} (x_{id} - y_{id})^2, \qquad
       v = \tfrac12 \big[ v(x) + v(y) \big], \quad
       v(x) = \frac1D \sum_d \max\Big(0, 1 - \sqrt{\operatorname{Var}(x_{\cdot d}) + 10^{-4}}\Big), $$
    $$ c = c(x) + c(y), \quad c(x) = \frac1D \sum_{d \ne e} C(x)_{de}^2, \qquad
       C(x) = \frac1{B-1} \sum_i (x_i - \bar x)(x_i - \bar x)^\top $$

    These are the released code's constants: the variance is halved and the covariance is not, and s is a mean over the
    D dimensions too, where the paper writes a sum. Variances are unbiased, divided by B - 1.

    Args:
        x: (B, D), taken as they are: not unit vectors, whose variance could not reach 1 in every dimension. B >= 2.
        y: (B, D); row i of both shows picture i.

    Returns:
        invariance s, variance v, covariance c: scalars >= 0. At collapse s = c = 0 and v = 0.99.

    Raises:
        ValueError: shapes differ, a batch of 1, numbers that are not finite.

    Source: Bardes et al. 2022, eqs. 1 to 5; lesson 05.
    """
    _check.paired("x", x, "y", y)
    invariance = (x - y).square().mean()
    variance = (_variance(x) + _variance(y)) / 2
    covariance = _covariance(x) + _covariance(y)
    return invariance, variance, covariance


def vicreg_loss(
    x: Tensor, y: Tensor, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    r"""The weighted sum of the three terms of `vicreg_terms`.

    $$ \mathcal L = \lambda s + \mu v + \nu c $$

    Args:
        x, y: (B, D), as in `vicreg_terms`.
        invariance, variance, covariance: lambda, mu, nu, finite and at least 0; 0 leaves a term out.

    Returns:
        A scalar >= 0: 24.75 at collapse, where all embeddings are one point.

    Raises:
        ValueError: as `vicreg_terms`, and a weight below 0.

    Source: Bardes et al. 2022, eq. 6; lesson 05.
    """
    _weights(invariance, variance, covariance)
    s, v, c = vicreg_terms(x, y)
    return invariance * s + variance * v + covariance * c


def _variance(x: Tensor) -> Tensor:
    return F.relu(1 - (x.var(dim=0) + EPS).sqrt()).mean()


def _covariance(x: Tensor) -> Tensor:
    x = x - x.mean(dim=0)
    C = x.T @ x / (len(x) - 1)  # (D, D)
    return C.fill_diagonal_(0).square().sum() / len(C)


def _weights(invariance: float, variance: float, covariance: float) -> tuple[float, float, float]:
    for name, weight in (("invariance", invariance), ("variance", variance), ("covariance", covariance)):
        if _check.number(name, weight) < 0:
            _check.fail(name, "a weight of at least 0", weight)
    return invariance, variance, covariance


class VICReg(nn.Module):
    r"""A tower whose output is kept, and an expander that is thrown away after training.

    $$ h = f(x), \qquad z = g(h), \qquad g = W_3 \circ \mathrm{ReLU} \circ \mathrm{BN} \circ W_2
       \circ \mathrm{ReLU} \circ \mathrm{BN} \circ W_1 $$

    The expander is wide: many nonlinear functions of h that do not correlate leave the dimensions of h not only
    uncorrelated but less dependent. It may also drop what differs between the views.

    Args:
        tower: f, (B, 3, H, W) -> (B, tower.dim).
        dim: D, the width of all three layers of the expander (8192 in the paper).
        invariance, variance, covariance: weights of the three terms, finite and at least 0.

    Source: Bardes et al. 2022, figure 1 and section 4.2; lesson 05.
    """

    def __init__(
        self,
        tower: nn.Module,
        dim: int = 256,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ):
        super().__init__()
        _check.count("dim", dim)
        self.weights = _weights(invariance, variance, covariance)
        self.tower = tower
        self.expander = nn.Sequential(  # g; the shift that BatchNorm takes away needs no bias before it
            nn.Linear(_check.width("tower", tower), dim, bias=False),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
            nn.Linear(dim, dim, bias=False),
        )

    def forward(self, images: Tensor) -> Tensor:
        """h, what later tasks use: (B, 3, H, W) -> (B, tower.dim)"""
        return self.tower(images)  # (B, tower.dim)

    def expand(self, images: Tensor) -> Tensor:
        """z, what the loss compares: (B, 3, H, W) -> (B, D), of any length"""
        return self.expander(self.tower(images))  # (B, D)

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """(x1, x2), two views of the same B pictures -> the weighted sum, and the three terms without weights."""
        x1, x2 = batch
        _check.views(x1, x2)
        # One pass for each view, with BatchNorm statistics of its own, as in the released code.
        x, y = gather(self.expand(x1)), gather(self.expand(x2))  # (B, D) each
        s, v, c = vicreg_terms(x, y)
        invariance, variance, covariance = self.weights
        terms = {"invariance": s.detach(), "variance": v.detach(), "covariance": c.detach()}
        return invariance * s + variance * v + covariance * c, terms
