"""InfoNCE: find the real partner among N candidates.

Oord, Li and Vinyals 2018 (arXiv 1807.03748), derived in lesson 01.

Letters: B batch, D embedding dimension, M negatives, N candidates in all (the positive and its negatives),
T rows of the B x B table of logits that are in memory at one time.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from minilip import _check

ROWS = 512  # of a strip at most: more leave the processor's cache between steps, fewer make the products slow


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


# --- the same value and gradient in less memory ---------------------------------------------------------------------
#
# The plain loss keeps several B x B tables for the backward pass. None is needed. With the scale inside the queries,
# a = queries / tau, and b = keys, the logits are L = a b^T, and
#
#     one way     loss = 1/B  sum_i  (r_i - L_ii)                 r_i = log sum_j exp L_ij   (rows)
#     both ways   loss = 1/2B sum_i  (r_i + c_i - 2 L_ii)         c_j = log sum_i exp L_ij   (columns)
#
# The derivative of a log-sum-exp is a softmax, so with P_ij = exp(L_ij - r_i), both ways adding exp(L_ij - c_j),
#
#     dloss/dL = (P - I) / B      or      (P - 2I) / 2B           (the chosen minus the true)
#     dloss/da = dloss/dL b       dloss/db = (dloss/dL)^T a
#
# L is a product of two thin matrices: a strip of its rows can be made, used for its part of both gradients, and
# forgotten. So the gradient is found in the forward pass; the backward pass only multiplies it by what comes in.
# One way, each row of a strip is complete: one pass, three matrix products. Both ways, a column is complete after the
# last strip: a first pass collects r and c, a second one makes the strips again (four products), unless all of
# L fits into memory and is kept (three; `tile` >= B).
#
# Near the end of training P_ii is almost 1, and what is missing to 1 is all that is left to learn from. So the real
# one and the others are kept apart. With z_i = log sum_{j != i} exp L_ij - L_ii, by how much the others lead,
#
#     r_i - L_ii = softplus(z_i)           P_ii - 1 = -sigmoid(z_i)
#
# which have all their digits however small they are. The diagonal is taken out before each sum and put in as -sigmoid.


@_check.full_precision
def info_nce_tiled(queries: Tensor, keys: Tensor, temperature: float | Tensor, tile: int) -> Tensor:
    """`info_nce`, same value and gradient, with only `tile` rows of the B x B table in memory at one time.

    Args:
        queries, keys, temperature: as in `info_nce`.
        tile: T >= 1 rows at one time; the extra memory is T B + O(B D) numbers instead of O(B^2).

    Returns:
        The mean over the B queries in nats. Differentiable once.

    Raises:
        ValueError: as `info_nce`, and tile < 1.

    Source: the identities above; the idea at scale is Cheng et al. 2024 (arXiv 2410.17243); lesson 01.
    """
    _check.paired("queries", queries, "keys", keys)
    _check.positive("temperature", temperature)
    _check.count("tile", tile)
    return _GradientInForward.apply(queries, keys, 1 / temperature, tile, _one_way)


def symmetric_info_nce_tiled(a: Tensor, b: Tensor, scale: float | Tensor, tile: int) -> Tensor:
    """Mean of both directions of `info_nce` at temperature 1 / scale: what `clip_loss(..., tile=tile)` calls."""
    _check.count("tile", tile)
    return _GradientInForward.apply(a, b, scale, tile, _both_ways)


class _GradientInForward(torch.autograd.Function):
    """A loss(scale * a, b, tile) that hands out its value together with its gradients."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: float | Tensor, tile: int, loss_and_gradients: Callable[..., Any]
    ) -> Tensor:
        loss, to_scaled, to_b = loss_and_gradients(scale * a, b, tile)
        to_scale = torch.dot(to_scaled.flatten(), a.flatten())  # the chain rule through scale * a
        if isinstance(scale, Tensor):
            to_scale = to_scale.to(scale.dtype).reshape(scale.shape)
        ctx.save_for_backward(to_scaled.mul_(scale), to_b, to_scale)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        pairs = zip(ctx.needs_input_grad, ctx.saved_tensors, strict=False)
        return *(weight * gradient if needed else None for needed, gradient in pairs), None, None


def _one_way(a: Tensor, b: Tensor, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    n = len(a)
    lead = a.new_empty(n)  # (B,) z
    grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)  # (B, D)
    buffer = a.new_empty(min(tile, n), n)  # (T, B)
    for i in range(0, n, tile):
        here = slice(i, i + tile)
        strip = torch.mm(a[here], b.T, out=buffer[: min(tile, n - i)])  # (T, B)
        own = strip.diagonal(i).clone()  # (T,) L_ii
        strip.diagonal(i).fill_(-math.inf)
        highest = strip.amax(dim=1)  # (T,)
        others = strip.sub_(highest[:, None]).exp_().sum(dim=1)  # (T,)
        lead[here] = others.log() + (highest - own)
        wrong = lead[here].sigmoid()  # (T,) the probability of all others together
        p = strip.mul_((wrong / others)[:, None])  # (T, B)
        p.diagonal(i).copy_(-wrong)
        torch.mm(p, b, out=grad_a[here])  # (T, D)
        grad_b.addmm_(p.T, a[here])  # (B, D)
    return _softplus(lead).mean(), grad_a.div_(n), grad_b.div_(n)


def _both_ways(a: Tensor, b: Tensor, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    n, keep = len(a), tile >= len(a)
    height = min(tile, ROWS)
    buffer = a.new_empty(n if keep else height, n)  # (B or T, B)

    # |L_ij| <= max |a_i| max |b_j|. Where exp of that neither overflows nor underflows, nor the ratio of a sum of B of
    # them to one of them, one exponential without any shift serves rows and columns. Elsewhere each needs its own.
    largest = float(a.norm(dim=1).max() * b.norm(dim=1).max())
    safe = 2 * largest + math.log(n) < -math.log(torch.finfo(a.dtype).tiny) - 2

    def make(i: int) -> Tensor:
        start = i if keep else 0
        strip = torch.mm(a[i : i + height], b.T, out=buffer[start : start + min(height, n - i)])  # (T, B)
        return strip.exp_() if safe else strip

    own, others = a.new_empty(n), a.new_full((2, n), 0 if safe else -math.inf)  # (B,), (2, B) rows and columns
    for i in range(0, n, height):
        strip, here = make(i), slice(i, i + height)
        own[here] = strip.diagonal(i)
        strip.diagonal(i).fill_(0 if safe else -math.inf)
        if safe:
            torch.sum(strip, dim=1, out=others[0, here])
            others[1] += strip.sum(dim=0)
        else:
            torch.logsumexp(strip, dim=1, out=others[0, here])
            others[1] = torch.logaddexp(others[1], strip.logsumexp(dim=0))
    lead = (others / own).log_() if safe else others - own  # (2, B) z
    right = lead.sigmoid().sum(dim=0).div_(-2 * n)  # (B,) the diagonal of dloss/dL
    losses = _softplus(lead)  # (2, B)
    r, c = (0.5 / n) / (others + own) if safe else losses + own + math.log(2 * n)  # (B,) each

    grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)  # (B, D)
    for i in range(0, n, height):
        here = slice(i, i + height)
        strip, row = buffer[here] if keep else make(i), r[here, None]  # (T, B), (T, 1)
        p = strip.mul_(row + c) if safe else (strip - row).exp_().add_((strip - c).exp_())  # (T, B)
        p.diagonal(i).copy_(right[here])
        torch.mm(p, b, out=grad_a[here])  # (T, D)
        grad_b.addmm_(p.T, a[here])  # (B, D)
    return losses.mean(), grad_a, grad_b


def _softplus(z: Tensor) -> Tensor:
    return F.softplus(z, threshold=40)  # from where on softplus(z) is z, in float64 too
