"""Ranks, recall and accuracy of a table of similarities.

Letters: Q queries, G gallery items, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from minilip import _check


def ranks(similarity: Tensor, match: Tensor) -> Tensor:
    """Rank of each query's best match, 1 is first; a tie with a wrong item counts against the query.

    Counting ties against means that a model which scores everything alike ranks last and not first.

    >>> similarity = torch.tensor([[0.9, 0.2, 0.1], [0.8, 0.5, 0.6], [0.3, 0.3, 0.3]])
    >>> ranks(similarity, torch.tensor([0, 1, 2])).tolist()
    [1, 3, 3]

    Args:
        similarity: (Q, G), larger is nearer.
        match: (Q,) index of the one right item, or (Q, G) bool where several are right.

    Returns:
        (Q,) int64

    Raises:
        ValueError: shapes disagree, a score is not finite, or a query has no right item.
    """
    _check.tensor("similarity", similarity)
    _check.tensor("match", match)
    if similarity.dim() != 2 or similarity.numel() == 0:
        _check.fail("similarity", "shape (Q, G)", tuple(similarity.shape))
    _check.finite("similarity", similarity)
    q, g = similarity.shape
    if match.shape == (q,) and not match.is_floating_point() and match.dtype != torch.bool:
        if int(match.min()) < 0 or int(match.max()) >= g:
            _check.fail("match", f"indices from 0 to {g - 1}", f"{int(match.min())} to {int(match.max())}")
        right = torch.zeros_like(similarity, dtype=torch.bool).scatter_(1, match[:, None], True)  # (Q, G)
    elif match.shape == (q, g) and match.dtype == torch.bool:
        right = match
    else:
        _check.fail("match", f"({q},) indices or ({q}, {g}) bool", f"{match.dtype} {tuple(match.shape)}")
    if not bool(right.any(dim=1).all()):
        _check.fail("match", "a right item for every query", f"{int((~right.any(dim=1)).sum())} queries without one")
    best = similarity.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)  # (Q, 1)
    return 1 + ((similarity >= best) & ~right).sum(dim=1)  # (Q,)


def retrieval(similarity: Tensor, match: Tensor, at: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Recall at k (share of queries with a right item among the first k) and median rank.

    >>> similarity = torch.tensor([[0.9, 0.2, 0.1], [0.8, 0.5, 0.6]])
    >>> retrieval(similarity, torch.tensor([0, 2]), at=(1, 2))
    {'R@1': 0.5, 'R@2': 1.0, 'median rank': 1.5}

    Returns:
        {"R@1": ..., "R@5": ..., "R@10": ..., "median rank": ...}
    """
    if not isinstance(at, Sequence) or not at:
        _check.fail("at", "one or more whole numbers", repr(at))
    for k in at:
        _check.count("at", k)
    rank = ranks(similarity, match).double()
    found = {f"R@{k}": float((rank <= k).double().mean()) for k in at}
    return {**found, "median rank": float(np.median(rank.cpu()))}


def accuracy(similarity: Tensor, labels: Tensor) -> float:
    """Share of queries whose most similar class is the right one; a tie counts as wrong. (N, C), (N,) -> [0, 1]

    >>> accuracy(torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [0.2, 0.3]]), torch.tensor([0, 1, 0, 1]))
    0.5
    """
    return retrieval(similarity, labels, at=(1,))["R@1"]
