r"""Three meanings of "inside": a Gaussian in a Gaussian, a vector in a subspace, a vector in a ball.

The first is the inclusion test and loss of ProLIP, Chun et al. 2025 (arXiv 2410.18857), and a score of our own that
keeps apart who is wider and who is near. All derived in lessons 12 to 12c.

Letters: B batch, D embedding dimension, K basis vectors, mu mean, v variance, logvar = log v.
Every Gaussian has a diagonal covariance, so that a density is a product and its logarithm a sum over D dimensions.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip import _check


@_check.full_precision
def inclusion(mu1: Tensor, logvar1: Tensor, mu2: Tensor, logvar2: Tensor) -> Tensor:
    r"""Logarithm of the overlap of two Gaussians in which the first counts twice.

    Completing the square turns the square of a density into a narrower density, and the product of two densities
    integrates to a third:

    $$ N(x; \mu_1, v_1)^2 = \frac{N(x; \mu_1, v_1 / 2)}{2 \sqrt{\pi v_1}}, \qquad
       \int N(x; \mu_1, v_1/2)\, N(x; \mu_2, v_2)\, dx = N(\mu_1; \mu_2, v_1/2 + v_2) $$

    $$ \log \int p_1^2\, p_2\, dx = -\sum_{d=1}^D \Big[ \tfrac12 \log 4 \pi v_1 + \tfrac12 \log \pi (v_1 + 2 v_2)
       + \frac{(\mu_1 - \mu_2)^2}{v_1 + 2 v_2} \Big] $$

    Args:
        mu1, logvar1: (B, D), mean and log-variance of the first Gaussian of each pair.
        mu2, logvar2: (B, D), of the second.

    Returns:
        (B,), one logarithm a pair; any real number.

    Raises:
        ValueError: shapes differ, numbers that are not finite.

    Source: Chun et al. 2025, the inclusion loss; lesson 12.
    """
    _four(mu1, logvar1, mu2, logvar2)
    return _log_overlap(mu1, logvar1, mu2, logvar2).sum(dim=1)  # (B,)


@_check.full_precision
def inclusion_difference(mu1: Tensor, logvar1: Tensor, mu2: Tensor, logvar2: Tensor) -> Tensor:
    r"""Is the first inside the second (positive) or the second inside the first (negative)?

    $$ H(1 \subset 2) = \log \int p_1^2\, p_2\, dx - \log \int p_1\, p_2^2\, dx $$

    With r = v_2 / v_1 and delta = mu_1 - mu_2, each dimension adds

    $$ \tfrac12 \log \frac{r (r + 2)}{2 r + 1} + \delta^2 \Big( \frac1{v_2 + 2 v_1} - \frac1{v_1 + 2 v_2} \Big), $$

    and both terms have the sign of log r: in one dimension the distance of the means changes how much, never whether.
    In many, it weighs those that say yes against those that say no.

    Args, Raises: as `inclusion`.

    Returns:
        (B,), antisymmetric: it changes its sign with the order of the two.

    Source: Chun et al. 2025, the inclusion loss; lesson 12.
    """
    _four(mu1, logvar1, mu2, logvar2)
    return _difference(mu1, logvar1, mu2, logvar2).sum(dim=1)  # (B,)


@_check.full_precision
def inclusion_loss(
    mu1: Tensor, logvar1: Tensor, mu2: Tensor, logvar2: Tensor, scale: float = 1000.0, eps: float = -20.0
) -> Tensor:
    r"""Push the first Gaussian of each pair inside the second, one dimension at a time.

    $$ \mathcal L = -\frac1{BD} \sum_{i=1}^B \sum_{d=1}^D \log \sigma(s\, H_{id}),
       \qquad H_{id} \text{ with } v e^{-\epsilon} \text{ in place of } v $$

    At s = 1000 this is the hinge 1000 max(0, -H). At eps = -20 the variances are so wide that the means are all in one
    place, and what is left is an order of log-variances, v_1 < v_2 in each dimension. At eps = 0 the means take part by
    their distance over v, which is large: apart where the variances are in order, together where they are not, and
    neither is inclusion.

    Args:
        mu1, logvar1: (B, D), what should be inside: the specific one.
        mu2, logvar2: (B, D), what should hold it: the general one.
        scale: s > 0.
        eps: added to the logarithm of each inverse variance.

    Returns:
        Nats a dimension: log 2 for two equal Gaussians, 0 at best.

    Raises:
        ValueError: shapes differ, numbers that are not finite, scale <= 0.

    Source: Chun et al. 2025, the inclusion loss, with the constants of its released code; lesson 12.
    """
    _four(mu1, logvar1, mu2, logvar2)
    _check.positive("scale", scale)
    _check.number("eps", eps)
    return -F.logsigmoid(scale * _difference(mu1, logvar1 - eps, mu2, logvar2 - eps)).mean()


@_check.full_precision
def contains(mu1: Tensor, logvar1: Tensor, mu2: Tensor, logvar2: Tensor) -> Tensor:
    r"""Is the first inside the second? Only if the second is the wider one and the two are in one place.

    $$ C(1 \subset 2) = \frac{V_2 - V_1}{V_2 + V_1}
       \exp\Big( -\frac1{2D} \sum_{d=1}^D \frac{(\mu_1 - \mu_2)^2}{v_1 + v_2} \Big), \qquad V = \prod_{d=1}^D \sqrt v $$

    The first factor is the *direction*, a comparison of volumes: above 0 if the second is wider, blind to the means.
    The second is the *compatibility*, from 0 to 1: the overlap of the two, as a share of what it would be with the
    means in one place, as a geometric mean over the dimensions. It is blind to the order of the two. Their product is
    above 0 for a pair that includes, the opposite for the same pair reversed and near 0 for two that have nothing to do
    with each other; and unlike a sum or a mean of ranks it does not depend on which other pairs are scored.
    Of the other scores, `inclusion_difference` is mostly a direction, and `inclusion` mostly a compatibility.

    Args:
        mu1, logvar1: (B, D), of what should be inside.
        mu2, logvar2: (B, D), of what should hold it.

    Returns:
        (B,), from -1 to 1; changes its sign with the order of the two.

    Raises:
        ValueError: shapes differ, numbers that are not finite.

    Source: this course; lesson 12b.
    """
    _four(mu1, logvar1, mu2, logvar2)
    direction = ((logvar2 - logvar1).sum(dim=1) / 4).tanh()  # (B,) tanh of half the difference of log V
    distance = (mu1 - mu2).square() * (-torch.logaddexp(logvar1, logvar2)).exp()  # (B, D)
    return direction * (-distance.mean(dim=1) / 2).exp()  # (B,)


@_check.full_precision
def projection_residual(t: Tensor, basis: Tensor) -> Tensor:
    r"""How far each caption is from the subspace of the pictures.

    $$ r_i = \lVert t_i - Q Q^\top t_i \rVert_2, \qquad Q R = A \text{ with the basis vectors as columns of } A $$

    Args:
        t: (B, D).
        basis: (K, D), K <= D linearly independent rows, of any length and at any angle.

    Returns:
        (B,), 0 inside the subspace, the length of t at right angles to it.

    Raises:
        ValueError: D differs, more rows than dimensions, rows that depend on each other, numbers that are not finite.

    Source: the course's summary of ProLIP, eq. 2; lesson 12c.
    """
    _check.embeddings("t", t)
    _check.embeddings("basis", basis)
    k, d = basis.shape
    if d != t.shape[1] or k > d:
        _check.fail("basis", f"at most {t.shape[1]} rows of length {t.shape[1]}", tuple(basis.shape))
    q, r = torch.linalg.qr(basis.T)  # (D, K), (K, K)
    # What is left of each row after those before it: rounding alone where the row depends on them.
    left, whole = r.diagonal().abs(), basis.norm(dim=1)  # (K,) each
    if bool((left <= 10 * d * torch.finfo(r.dtype).eps * whole).any()):
        _check.fail("basis", "linearly independent rows", f"{k} rows of which one depends on the others")
    return (t - t @ q @ q.T).norm(dim=1)  # (B,)


@_check.full_precision
def clip_norm(v: Tensor, gamma: float) -> Tensor:
    r"""The nearest point of the ball of radius gamma: what is inside stays, what is outside is pulled to the surface.

    $$ \Pi(v) = v \min(1, \gamma / \lVert v \rVert) = \arg\min_{\lVert u \rVert \le \gamma} \lVert u - v \rVert $$

    Args:
        v: (B, D).
        gamma: radius > 0.

    Returns:
        (B, D), no row longer than gamma.

    Raises:
        ValueError: numbers that are not finite, gamma <= 0.

    Source: the course's summary of ProLIP, eq. 3; lesson 12c.
    """
    _check.embeddings("v", v)
    _check.positive("gamma", gamma)
    return v * (gamma / v.norm(dim=1, keepdim=True).clamp(min=gamma))  # (B, D)


def _four(mu1: Tensor, logvar1: Tensor, mu2: Tensor, logvar2: Tensor) -> None:
    for name, x in (("logvar1", logvar1), ("mu2", mu2), ("logvar2", logvar2)):
        _check.paired("mu1", mu1, name, x, least=1)


def _difference(mu1: Tensor, logvar1: Tensor, mu2: Tensor, logvar2: Tensor) -> Tensor:
    return _log_overlap(mu1, logvar1, mu2, logvar2) - _log_overlap(mu2, logvar2, mu1, logvar1)  # (B, D)


def _log_overlap(mu1: Tensor, logvar1: Tensor, mu2: Tensor, logvar2: Tensor) -> Tensor:
    wide = torch.logaddexp(logvar1, logvar2 + math.log(2))  # (B, D) log(v_1 + 2 v_2), which no variance can overflow
    return -(math.log(2 * math.pi) + (logvar1 + wide) / 2 + (mu1 - mu2).square() * (-wide).exp())  # (B, D)
