r"""What a Gaussian knows that a vector does not: how unsure it is, and which prompts to trust.

Chun et al. 2025 (arXiv 2410.18857) and its released code, derived in lessons 12 and 12b. What is inside what:
`inclusion.py`. What an uncertainty is worth is told by `minilip.evaluation.risk_coverage`.

Letters: B batch, Q queries, G gallery items, K prompts of one class, N samples, D embedding dimension, mu mean,
v variance, logvar = log v, pi weights of the prompts, alpha of their prior.
"""

import math

import numpy as np
import torch
from torch import Tensor

from minilip import _check
from minilip.nn.vectors import unit


@_check.full_precision
def uncertainty(logvar: Tensor) -> Tensor:
    r"""How unsure an embedding is: all of its variances together.

    $$ u = \sum_{d=1}^D v_d = \mathbb E \lVert z - \mu \rVert^2, \qquad z \sim N(\mu, v) $$

    Args:
        logvar: (B, D).

    Returns:
        (B,), above 0, squared units of the means.

    Raises:
        ValueError: not (B, D), numbers that are not finite.

    Source: Chun et al. 2025, the uncertainty of an input; lesson 12.
    """
    _check.embeddings("logvar", logvar)
    return logvar.exp().sum(dim=1)  # (B,)


@_check.full_precision
def gallery_scores(mu: Tensor, gallery_mu: Tensor, gallery_logvar: Tensor) -> Tensor:
    r"""Score of every gallery item for every query: the cosine, less half of what the item leaves open.

    $$ s_{qg} = \mu_q^\top \mu_g - \tfrac12 \sum_{d=1}^D v_{gd} $$

    For means of length 1 this is 1 - d/2 with the sampled distance d of `csd`, but for the variance of the
    query: that adds one number to a whole row, and the order of the gallery for one query, or a softmax over it, does
    not see it. In the other direction the two change places, so neither matrix is the transpose of the other.

    Args:
        mu: (Q, D), means of the queries.
        gallery_mu, gallery_logvar: (G, D), of what is to be ranked: captions, images, or classes.

    Returns:
        (Q, G), larger is nearer.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite.

    Source: Chun et al. 2025, retrieval in the released code; lesson 12b.
    """
    _check.embeddings("mu", mu)
    _check.paired("gallery_mu", gallery_mu, "gallery_logvar", gallery_logvar, least=1)
    if mu.shape[1] != gallery_mu.shape[1]:
        _check.fail("gallery_mu", f"shape (G, {mu.shape[1]})", tuple(gallery_mu.shape))
    return mu @ gallery_mu.T - gallery_logvar.exp().sum(dim=1) / 2  # (Q, G)


@torch.no_grad()
@_check.full_precision
def prompt_weights(
    mu: Tensor,
    logvar: Tensor,
    samples: Tensor,
    prior: float = 2.0,
    widen: float = 0.02,
    start: str = "inverse",
    steps: int = 1000,
) -> tuple[Tensor, Tensor]:
    r"""How much to trust each prompt of a class: the share of the class's images that it explains.

    The prompts are K Gaussians that stay as they are, the images are samples of a mixture of them, and only its
    weights are sought, by expectation and maximisation under a Dirichlet prior:

    $$ \max_\pi \sum_{n=1}^N \log \sum_{k=1}^K \pi_k N(x_n; \mu_k, v_k + w) + (\alpha - 1) \sum_{k=1}^K \log \pi_k $$

    $$ r_{nk} \propto \pi_k N(x_n; \mu_k, v_k + w), \qquad
       \pi_k \leftarrow \frac{\sum_n r_{nk} + \alpha - 1}{N + K (\alpha - 1)} $$

    The prior counts as alpha - 1 images seen for every prompt: at alpha = 1 it is maximum likelihood, and the larger it
    is the more equal are the weights. In pi the objective is concave, so the start decides how soon the maximum is
    reached and not which.

    Args:
        mu, logvar: (K, D), the prompts of one class.
        samples: x (N, D), drawn from the Gaussians of images of the class (`prolip.reparametrise`): labelled ones, or
            those nearest to the mean prompt.
        prior: alpha >= 1. Below, the objective has no maximum.
        widen: w >= 0, added to each variance: captions lie beside images and not among them, and between Gaussians as
            narrow as the trained ones each sample would choose one prompt outright.
        start: "inverse", in proportion to 1 over a prompt's mean variance, as released; or "uniform".
        steps: at most this many; fewer if no weight moves by 1e-12.

    Returns:
        pi (K,), which sum to 1, and the objective before each step and after the last (T,), float64, in nats.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, alpha < 1, w < 0, an unknown start, no steps.

    Source: Chun et al. 2025, Bayesian prompt re-weighting, with alpha and w of its few-shot setting; lesson 12b.
    """
    _check.paired("mu", mu, "logvar", logvar, least=1)
    _check.embeddings("samples", samples)
    if samples.shape[1] != mu.shape[1]:
        _check.fail("samples", f"shape (N, {mu.shape[1]})", tuple(samples.shape))
    if _check.number("prior", prior) < 1:
        _check.fail("prior", "a number of at least 1", prior)
    if _check.number("widen", widen) < 0:
        _check.fail("widen", "a number of at least 0", widen)
    _check.choice("start", start, ("inverse", "uniform"))
    _check.count("steps", steps)

    m, v, x = (t.cpu().double() for t in (mu, logvar, samples))  # (K, D), (K, D), (N, D)
    v = v.exp()
    log_p = _log_density(x, m, v + widen)  # (N, K)
    log_pi = -v.mean(dim=1).log() if start == "inverse" else torch.zeros(len(m)).double()  # (K,)
    pi = log_pi.softmax(dim=0)  # (K,)
    trace = []
    for _ in range(steps):
        joint = pi.log() + log_p  # (N, K)
        trace.append(_objective(joint, pi, prior))
        before, pi = pi, (joint.softmax(dim=1).sum(dim=0) + prior - 1) / (len(x) + len(m) * (prior - 1))  # (K,)
        if float((pi - before).abs().max()) < 1e-12:
            break
    trace.append(_objective(pi.log() + log_p, pi, prior))
    return pi.to(mu), torch.stack(trace)  # (K,), (T,)


def _log_density(x: Tensor, mu: Tensor, v: Tensor) -> Tensor:
    """log N(x_n; mu_k, v_k). (N, D), (K, D), (K, D) -> (N, K)"""
    # Centred on the prompts, the terms of the expanded square are no larger than they need to be.
    centre = mu.mean(dim=0)  # (D,)
    x, mu = x - centre, mu - centre
    square = x.square() @ (1 / v).T - 2 * x @ (mu / v).T + (mu.square() / v).sum(dim=1)  # (N, K)
    return -(square + v.log().sum(dim=1) + mu.shape[1] * math.log(2 * math.pi)) / 2


def _objective(joint: Tensor, pi: Tensor, prior: float) -> Tensor:
    # A weight of 0 is allowed where alpha = 1: there 0 log 0 is 0.
    return joint.logsumexp(dim=1).sum() + torch.special.xlogy(prior - 1, pi).sum()


@_check.full_precision
def reweighted_class(mu: Tensor, logvar: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    r"""The Gaussian of a class: the weighted mean of its prompts, drawn independently of each other.

    $$ z = \sum_{k=1}^K \pi_k z_k, \quad z_k \sim N(\mu_k, v_k): \qquad
       \mu = \sum_{k=1}^K \pi_k \mu_k, \qquad v = \sum_{k=1}^K \pi_k^2 v_k $$

    This is not the mixture that found the weights, whose variance also holds the distances between the prompts: K alike
    prompts make a K-th of the variance of one. The mean is not brought back to length 1, as in the released code, so a
    class whose prompts disagree has a shorter one.

    Args:
        mu, logvar: (K, D), the prompts of one class.
        weights: pi (K,), not negative, of sum 1.

    Returns:
        mean (D,) and log-variance (D,), which stack to the gallery of `gallery_scores`.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, weights below 0 or of another sum.

    Source: Chun et al. 2025, Bayesian prompt re-weighting; lesson 12b.
    """
    _check.paired("mu", mu, "logvar", logvar, least=1)
    _check.tensor("weights", weights)
    if weights.shape != (len(mu),):
        _check.fail("weights", f"shape ({len(mu)},)", tuple(weights.shape))
    _check.finite("weights", weights)
    if float(weights.min()) < 0 or abs(float(weights.sum()) - 1) > 1e-4:
        _check.fail(
            "weights", "numbers from 0 of sum 1", f"{float(weights.min()):g} at least, {float(weights.sum()):g}"
        )
    weights = weights.to(mu)
    return weights @ mu, (2 * weights.log()[:, None] + logvar).logsumexp(dim=0)  # (D,), (D,)


@_check.full_precision
def traverse(start: Tensor, root: Tensor, steps: int = 50) -> Tensor:
    r"""The way from one embedding towards the root of all: steps of one length on the chord, each brought to length 1.

    $$ q_i = \frac{s + \tfrac in (r - s)}{\lVert s + \tfrac in (r - s) \rVert}, \qquad i = 0 \dots n - 1 $$

    The first is the start, and the root would be the n + 1st: it is never reached, as in the released code. On the
    sphere the steps are longest midway.

    Args:
        start: s (D,), of any length above 0, such as the caption nearest to an image.
        root: r (D,), such as the embedding of the empty caption, or of the one that holds the most images.
        steps: n.

    Returns:
        (n, D), unit vectors.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, a vector of length 0, or two in opposite
            directions: the chord between those goes through 0, and from there no way is the shortest.

    Source: Chun et al. 2025, image traversal in the released code; lesson 12b.
    """
    for name, x in (("start", start), ("root", root)):
        _check.tensor(name, x)
        if x.dim() != 1 or not x.is_floating_point() or x.shape != start.shape:
            _check.fail(name, "two floating-point vectors (D,) of one length", f"{x.dtype} {tuple(x.shape)}")
        _check.finite(name, x)
        if not bool(x.norm() > 0):
            _check.fail(name, "a length above 0", 0)
    _check.count("steps", steps)
    s, r = unit(torch.stack([start, root]))  # (D,) each
    if float((s + r).norm()) < torch.finfo(s.dtype).eps ** 0.5:
        _check.fail("root", "another direction than opposite to start", "start times -1")
    i = torch.arange(steps, dtype=s.dtype, device=s.device)[:, None]  # (n, 1)
    return unit(s + i / steps * (r - s))  # (n, D)


def partial_spearman(x: Tensor, y: Tensor, given: Tensor) -> float:
    r"""Rank correlation of x and y in what the ranks of others leave unexplained.

    $$ \rho_{xy \cdot g} = \operatorname{corr}(e_x, e_y), \qquad
       e_x = R(x) - \hat R(x), \quad \hat R(x) \text{ the best line in } R(g_1) \dots R(g_G) $$

    Is a caption unsure because it is general, or because it is short? The correlation of variance and generality, given
    the length, removes what length alone would make of either.

    Args:
        x, y: (N,).
        given: (N,), or (N, G) for several at once; equal values share the mean of their ranks.

    Returns:
        from -1 to 1.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, fewer than G + 3 items, an x or y that has
            nothing left: constant, or a line in the ranks of the others.

    Source: the partial correlation of textbooks, of ranks; lesson 12.
    """
    for name, v in (("x", x), ("y", y), ("given", given)):
        _check.tensor(name, v)
    given = given[:, None] if given.dim() == 1 else given  # (N, G)
    for name, v, shape in (("x", x, x.shape), ("y", y, x.shape), ("given", given, (*x.shape, *given.shape[1:]))):
        if x.dim() != 1 or given.dim() != 2 or v.shape != shape:
            _check.fail(name, "(N,) of x and y, (N,) or (N, G) of given", tuple(v.shape))
        _check.finite(name, v.double())
    if len(x) < given.shape[1] + 3:
        _check.fail("x", f"at least {given.shape[1] + 3} items", len(x))
    g = np.stack([np.ones(len(x)), *map(_ranks, given.T)], axis=1)  # (N, 1 + G), 1 for the mean
    e = []
    for name, v in (("x", x), ("y", y)):
        rank = _ranks(v)
        e.append(rank - g @ np.linalg.lstsq(g, rank, rcond=None)[0])  # (N,)
        if np.linalg.norm(e[-1]) <= 1e-10 * np.linalg.norm(rank):
            _check.fail(name, "ranks that are no line in those of given", "ranks that are")
    return float(e[0] @ e[1] / np.linalg.norm(e[0]) / np.linalg.norm(e[1]))


def _ranks(x: Tensor) -> np.ndarray:
    """1 is the smallest; equal values share the mean of their ranks. (N,) -> (N,)"""
    _, group, size = np.unique(x.detach().cpu().numpy(), return_inverse=True, return_counts=True)
    return (np.cumsum(size) - (size - 1) / 2)[group]
