"""InfoNCE: find the real partner among N candidates.

Oord, Li and Vinyals 2018 (arXiv 1807.03748), derived in lesson 01.

Letters: B batch, D embedding dimension, M negatives, N candidates in all (the positive and its negatives).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip import _check
from minilip.tiled import info_nce_tiled

__all__ = ["info_nce", "info_nce_negatives", "info_nce_tiled", "mi_lower_bound"]


@_check.full_precision
def info_nce(queries: Tensor, keys: Tensor, temperature: float | Tensor) -> Tensor:
    r"""Cross-entropy of choosing key i for query i among all keys of the batch (one direction: rows are queries).

    $$ \mathcal L = -\frac1B \sum_i \log \frac{\exp(q_i^\top k_i / \tau)}{\sum_j \exp(q_i^\top k_j / \tau)} $$

    Args:
        queries: (B, D), taken as they are: whoever wants cosines passes unit vectors. B >= 2.
        keys: (B, D); key i is the positive of query i, the B - 1 other keys are its negatives.
        temperature: tau > 0, a float or a tensor with one element (which may be learned).

    Returns:
        The mean over the B queries in nats: log B when all logits are equal, 0 at best.

    Raises:
        ValueError: shapes differ, a batch of 1, numbers that are not finite, temperature <= 0.

    Source: Oord et al. 2018, eq. 4; lesson 01.
    """
    _check.paired("queries", queries, "keys", keys)
    _check.positive("temperature", temperature)
    logits = queries @ keys.T / temperature  # (B, B)
    positives = torch.arange(len(logits), device=logits.device)  # (B,)
    return F.cross_entropy(logits, positives)


@_check.full_precision
def info_nce_negatives(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float | Tensor) -> Tensor:
    r"""InfoNCE in its general form: one positive and M negatives that the caller chooses.

    $$ \mathcal L = -\frac1B \sum_i \log
       \frac{\exp(q_i^\top p_i / \tau)}{\exp(q_i^\top p_i / \tau) + \sum_{m=1}^M \exp(q_i^\top n_{im} / \tau)} $$

    Args:
        query: (B, D).
        positive: (B, D), row i belongs to query i.
        negatives: (M, D), shared by all queries, or (B, M, D), a set for each. M >= 1.
        temperature: tau > 0, a float or a tensor with one element.

    Returns:
        The mean over the B queries in nats: log(M + 1) when all logits are equal.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, temperature <= 0.

    Source: Wang and Isola 2020, eq. 1; lesson 01.
    """
    _check.paired("query", query, "positive", positive, least=1)
    _check.positive("temperature", temperature)
    shared = not (isinstance(negatives, Tensor) and negatives.dim() == 3)
    rows = negatives if shared else negatives.flatten(0, 1)
    _check.embeddings("negatives", rows)
    if rows.shape[1] != query.shape[1] or not (shared or len(negatives) == len(query)):
        wanted = f"shape (M, {query.shape[1]}) or ({len(query)}, M, {query.shape[1]})"
        _check.fail("negatives", wanted, tuple(negatives.shape))
    if rows.dtype != query.dtype:
        _check.fail("negatives", f"the dtype of query, {query.dtype}", rows.dtype)
    right = (query * positive).sum(dim=1, keepdim=True)  # (B, 1)
    wrong = query @ negatives.T if shared else torch.einsum("bd,bmd->bm", query, negatives)  # (B, M)
    logits = torch.cat([right, wrong], dim=1) / temperature  # (B, 1 + M)
    return (logits.logsumexp(dim=1) - logits[:, 0]).mean()


def mi_lower_bound(loss: Any, candidates: int) -> Any:
    r"""Lower bound on the mutual information that an InfoNCE loss certifies.

    $$ I(x; c) \ge \log N - \mathcal L_N $$

    It can never exceed log N, however much information there is.

    Args:
        loss: an InfoNCE value in nats, a float or a tensor.
        candidates: N >= 2, the positive included (N = B in-batch, N = M + 1 in the general form).

    Returns:
        Nats, of the type of `loss`.

    Raises:
        ValueError: fewer than 2 candidates.

    Source: Oord et al. 2018, section 2.3; lesson 01.
    """
    _check.count("candidates", candidates, least=2)
    return math.log(candidates) - loss
