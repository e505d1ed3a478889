r"""Accuracy group by group: the worst of them, how sure we are of it, and weights that make all groups count the same.

Letters: N examples, K groups, n_k examples of group k, a_k its accuracy.

Source: Sagawa et al. 2020 (arXiv 1911.08731) for the worst group; Efron and Tibshirani 1993 for the bootstrap of a
bias; lesson 10.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minilip import _check


def group_accuracy(hits: Tensor, groups: Tensor) -> Tensor:
    r"""The accuracy of each group.

    $$ a_k = \frac1{n_k} \sum_{n:\, g_n = k} h_n $$

    Args:
        hits: h (N,), 1 for right and 0 for wrong; numbers between are shares.
        groups: g (N,) int64, numbers from 0 to K - 1, each of which occurs.

    Returns:
        (K,) float64

    Raises:
        ValueError: hits are not in [0, 1], lengths differ, or a group has no example: it has no accuracy.

    Source: Sagawa et al. 2020; lesson 10.
    """
    _hits(hits, groups)
    counts = _counts(groups)  # (K,) n_k
    sums = torch.zeros(len(counts), dtype=torch.float64, device=hits.device).index_add(0, groups, hits.double())
    return sums / counts  # (K,)


def worst_group(hits: Tensor, groups: Tensor) -> float:
    r"""The accuracy of the worst group, $\min_k a_k$.

    It is too low on average. Each a_k is right on average; but the least of several noisy numbers lies below the least
    of their expectations, since min is concave: $E[\min_k a_k] \le \min_k E[a_k]$.

    Args:
        hits, groups: as in `group_accuracy`.

    Raises:
        ValueError: as in `group_accuracy`.

    Source: Sagawa et al. 2020; lesson 10.
    """
    return float(group_accuracy(hits, groups).min())


def worst_group_interval(hits: Tensor, groups: Tensor, draws: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    r"""95 % bootstrap interval of the worst group's accuracy, and how much the plain estimate is too low.

    Each draw resamples every group by itself and takes the minimum again, so that which group is the worst may change.
    Resampling adds noise a second time and with it the bias a second time: the draws lie below the estimate $\hat w$ by
    about as much as the estimate lies below the truth. The interval is therefore that of the draws reflected at it,
    $[2 \hat w - q_{97.5}, 2 \hat w - q_{2.5}]$, cut to [0, 1].

    Args:
        hits, groups: as in `group_accuracy`.
        draws: number of resamples.
        seed: of the resampling.

    Returns:
        low, high, bias; `worst_group(hits, groups) - bias` is the corrected estimate, and the bias is not above 0 but
        for the noise of the draws.

    Raises:
        ValueError: as in `group_accuracy`; draws below 1.

    Source: Efron and Tibshirani 1993, chapters 10 and 13; lesson 10.
    """
    found = worst_group(hits, groups)
    _check.count("draws", draws)
    rng = np.random.default_rng(_check.count("seed", seed, least=0))
    h, g = hits.detach().double().cpu().numpy(), groups.cpu().numpy()
    least = np.full(draws, np.inf)
    for k in range(int(g.max()) + 1):
        mine = h[g == k]  # (n_k,)
        step = max(1, 4_000_000 // len(mine))
        for start in range(0, draws, step):
            part = least[start : start + step]
            drawn = mine[rng.integers(len(mine), size=(len(part), len(mine)))].mean(axis=1)
            np.minimum(part, drawn, out=part)
    below, above = np.percentile(least, [2.5, 97.5])
    low, high = (float(np.clip(2 * found - q, 0, 1)) for q in (above, below))
    return low, high, float(least.mean() - found)


def group_weights(groups: Tensor) -> Tensor:
    r"""Weights of examples under which every group counts the same: $w_n = N / (K\, n_{g_n})$, of mean 1.

    As factors of the losses they reweight; as probabilities of being drawn they balance the batches.

    Args:
        groups: (N,) int64, numbers from 0 to K - 1, each of which occurs.

    Returns:
        (N,) float32

    Raises:
        ValueError: groups are not such numbers.

    Source: after Sagawa et al. 2020; lesson 10.
    """
    _check.labels("groups", groups, None, torch.iinfo(torch.int64).max)
    counts = _counts(groups)  # (K,)
    return (len(groups) / (len(counts) * counts[groups])).float()  # (N,)


def _counts(groups: Tensor) -> Tensor:
    """n_k of each group. (N,) -> (K,)"""
    counts = torch.bincount(groups)
    if bool((counts == 0).any()):
        _check.fail("groups", "an example of each group", f"none of group {int((counts == 0).nonzero()[0])}")
    return counts


def _hits(hits: Tensor, groups: Tensor) -> None:
    _check.tensor("hits", hits, dims=1)
    if len(hits) == 0:
        _check.fail("hits", "at least one", "none")
    _check.labels("groups", groups, len(hits), torch.iinfo(torch.int64).max)
    _check.finite("hits", hits)
    if float(hits.min()) < 0 or float(hits.max()) > 1:
        _check.fail("hits", "numbers from 0 to 1", f"{float(hits.min()):g} to {float(hits.max()):g}")
