r"""Contrastive losses in less memory and time: the value and the gradient of the plain ones, a few rows at a time.

The plain losses keep several B x B tables for the backward pass. None is needed. With the logits L = s a b^T,

    one way      loss = 1/B  sum_i  (r_i - L_ii)                 r_i = log sum_j exp L_ij   (rows)
    both ways    loss = 1/2B sum_i  (r_i + c_i - 2 L_ii)         c_j = log sum_i exp L_ij   (columns)
    two views    loss = 1/2B sum_i  (r_i - L_ip(i))              a = b = [z1; z2], L_ii left out, p(i) the partner

The derivative of a log-sum-exp is a softmax, so with P_ij = exp(L_ij - r_i), both ways adding exp(L_ij - c_j),

    dloss/dL = (P - I) / B      or      (P - 2I) / 2B           (the chosen minus the true)
    dloss/da = s dloss/dL b       dloss/db = s (dloss/dL)^T a

Of two views L is its own transpose: r = c, and dloss/dz = s (dloss/dL + its transpose) z is one product.

L is a product of two thin matrices: a strip of its rows can be made, used for its part of the gradients, and
forgotten. So the gradient is found in the forward pass; the backward pass only multiplies it by what comes in.
One way, each row of a strip is complete: one pass, three matrix products. Both ways, a column is complete after the
last strip: a first pass collects r and c, a second one makes the strips again (four products), unless all of
L fits into memory and is kept (three; `tile` >= B).

Near the end of training P_ii is almost 1, and what is missing to 1 is all that is left to learn from. So the real
one and the others are kept apart. With z_i = log sum_{j != i} exp L_ij - L_ii, by how much the others lead,

    r_i - L_ii = softplus(z_i)           P_ii - 1 = -sigmoid(z_i)

which have all their digits however small they are. The real one is taken out before each sum and put in as -sigmoid.

Letters: B batch, D embedding dimension, s scale (1 / temperature), T rows of L that are in memory at one time.

Source: Oord et al. 2018 (arXiv 1807.03748) and Radford et al. 2021 (arXiv 2103.00020) for the losses; the idea at scale
is Cheng et al. 2024 (arXiv 2410.17243); lesson 01.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip import _check

ROWS = 512  # of a strip at most: fewer make the products slow
CACHED = 2**17  # numbers that a processor's core keeps at hand between two steps


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
        RuntimeError: the gradient is differentiated again; `info_nce` can be.

    Source: the identities above; the idea at scale is Cheng et al. 2024 (arXiv 2410.17243); lesson 01.
    """
    _check.paired("queries", queries, "keys", keys)
    _check.positive("temperature", temperature)
    return _loss(_one_way, tile, 1 / temperature, queries, keys)


def symmetric_info_nce_tiled(a: Tensor, b: Tensor, scale: float | Tensor, tile: int) -> Tensor:
    """Mean of both directions of `info_nce` at temperature 1 / scale: what `clip_loss(..., tile=tile)` calls."""
    return _loss(_both_ways, tile, scale, a, b)


def nt_xent_tiled(z: Tensor, scale: float | Tensor, tile: int) -> Tensor:
    """`nt_xent` of views z = [z1; z2], (2B, D), at temperature 1 / scale: what `nt_xent(..., tile=tile)` calls."""
    return _loss(_two_views, tile, scale, z)


def _loss(kernel: Callable[..., Any], tile: int, scale: float | Tensor, *x: Tensor) -> Tensor:
    _check.count("tile", tile)
    return _GradientInForward.apply(kernel, tile, scale, *x)[0]


class _Once(torch.autograd.Function):
    """A function with a gradient, and an error for whatever else is asked of it."""

    @staticmethod
    def jvp(*_: Any) -> Any:
        raise RuntimeError(
            "tile: expected a loss that is differentiated once, in reverse, got another derivative: "
            "use the plain loss (info_nce; clip_loss or nt_xent without tile)"
        )

    @staticmethod
    def vmap(*_: Any) -> Any:
        raise RuntimeError("tile: expected one batch, got many by torch.vmap: use the plain loss in a loop")


class _GradientInForward(_Once):
    """The outputs of a kernel: its loss, and for the backward pass the gradients to the scale and the embeddings."""

    @staticmethod
    def forward(kernel: Callable[..., Any], tile: int, scale: float | Tensor, *x: Tensor) -> tuple[Tensor, ...]:
        loss, to_scale, *to_x = kernel(float(scale), tile, *x)
        if isinstance(scale, Tensor):
            to_scale = to_scale.to(scale.dtype).reshape(scale.shape)
        return loss, to_scale, *to_x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        gradients, of = output[1:], [x for x in inputs[2:] if isinstance(x, Tensor)]
        ctx.mark_non_differentiable(*gradients)
        ctx.set_materialize_grads(False)  # of the gradients' own gradients, which would be zeros of their size
        ctx.save_for_backward(*gradients, *of)

    @staticmethod
    def backward(ctx: Any, weight: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        n = len(ctx.needs_input_grad) - 2
        gradients, of = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        if torch.is_grad_enabled():  # these depend on the inputs: let nobody take them for constants
            gradients = _Constant.apply(n, *gradients, *of)
        needed = [weight is not None and need for need in ctx.needs_input_grad[2:]]
        return None, None, *(weight * g if need else None for need, g in zip(needed, gradients, strict=True))


class _Constant(_Once):
    """The first n of its arguments; asked how they depend on the others, it refuses."""

    @staticmethod
    def forward(n: int, *x: Tensor) -> tuple[Tensor, ...]:
        return tuple(gradient.view_as(gradient) for gradient in x[:n])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> Any:
        _Once.jvp()


Gradients = tuple[Tensor, ...]  # loss, dloss/ds, dloss/da, dloss/db


def _one_way(scale: float, tile: int, a: Tensor, b: Tensor) -> Gradients:
    n = len(a)
    lead = a.new_empty(n)  # (B,) z
    grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)  # (B, D)
    buffer = a.new_empty(min(tile, n), n)  # (T, B)
    for i in range(0, n, tile):
        here = slice(i, i + tile)
        strip = _product(scale, a[here], b, buffer[: min(tile, n - i)])  # (T, B)
        real = strip.diagonal(i).clone()  # (T,) L_ii
        strip.diagonal(i).fill_(-math.inf)
        highest = strip.amax(dim=1)  # (T,)
        others = strip.sub_(highest[:, None]).exp_().sum(dim=1)  # (T,)
        lead[here] = others.log() + (highest - real)
        wrong = lead[here].sigmoid()  # (T,) the probability of all others together
        p = strip.mul_((scale / n * wrong / others)[:, None])  # (T, B)
        p.diagonal(i).copy_(wrong * (-scale / n))
        torch.mm(p, b, out=grad_a[here])  # (T, D)
        grad_b.addmm_(p.T, a[here])  # (B, D)
    return _softplus(lead).mean(), _to_scale(scale, grad_a, a), grad_a, grad_b


def _both_ways(scale: float, tile: int, a: Tensor, b: Tensor) -> Gradients:
    n, keep = len(a), tile >= len(a)
    height = n if keep else min(tile, ROWS)
    buffer = a.new_empty(height, n)  # (B or T, B)
    safe = _safe(scale, a, b)
    real, others = a.new_empty(n), a.new_full((2, n), 0 if safe else -math.inf)  # (B,) L_ii, (2, B) rows and columns
    for i in range(0, n, height):
        strip = _product(scale, a[i : i + height], b, buffer[: min(height, n - i)])  # (T, B)
        for j, part in _parts(strip, i):
            here = slice(j, j + len(part))
            if safe:
                part.exp_()
            diagonal = part.diagonal(j)
            real[here] = diagonal
            diagonal.fill_(0 if safe else -math.inf)
            if safe:
                torch.sum(part, dim=1, out=others[0, here])
                others[1] += part.sum(dim=0)
            else:
                torch.logsumexp(part, dim=1, out=others[0, here])
                others[1] = torch.logaddexp(others[1], part.logsumexp(dim=0))
    lead = (others / real).log_() if safe else others - real  # (2, B) z
    losses = _softplus(lead)  # (2, B)
    right = lead.sigmoid_().sum(dim=0).mul_(-scale / (2 * n))  # (B,) the diagonal of s dloss/dL
    r, c = _weights(scale / (2 * n), losses, others, real, safe)  # (B,) each

    grad_a, grad_b = torch.empty_like(a), torch.empty_like(b)  # (B, D)
    for i in range(0, n, height):
        strip = buffer[: min(height, n - i)]  # (T, B)
        if not keep:
            _product(scale, a[i : i + height], b, strip)
        for j, part in _parts(strip, i):
            here = slice(j, j + len(part))
            if safe and not keep:
                part.exp_()
            _chosen(part, r[here, None], c, safe)
            part.diagonal(j).copy_(right[here])
        torch.mm(strip, b, out=grad_a[i : i + height])  # (T, D)
        torch.addmm(grad_b, strip.T, a[i : i + height], beta=int(i > 0), out=grad_b)  # (B, D)
    return losses.mean(), _to_scale(scale, grad_a, a), grad_a, grad_b


def _two_views(scale: float, tile: int, z: Tensor) -> Gradients:
    n, keep = len(z), tile >= len(z)  # n = 2B
    height = n if keep else min(tile, ROWS)
    buffer = z.new_empty(height, n)  # (2B or T, 2B)
    safe = _safe(scale, z, z)
    nothing = 0 if safe else -math.inf
    partner = torch.arange(n, device=z.device).roll(n // 2)[:, None]  # (2B, 1) p(i)
    real, others = z.new_empty(n, 1), z.new_empty(n)  # L_ip(i), the sum of the others

    def make(i: int) -> Tensor:
        return _product(scale, z[i : i + height], z, buffer[: min(height, n - i)])  # (T, 2B)

    for i in range(0, n, height):
        for j, part in _parts(make(i), i):
            here = slice(j, j + len(part))
            if safe:
                part.exp_()
            part.diagonal(j).fill_(nothing)
            torch.gather(part, 1, partner[here], out=real[here])
            part.scatter_(1, partner[here], nothing)
            (torch.sum if safe else torch.logsumexp)(part, dim=1, out=others[here])
    lead = (others / real[:, 0]).log_() if safe else others - real[:, 0]  # (2B,) z
    losses = _softplus(lead)  # (2B,)
    wrong = lead.sigmoid_()  # (2B,)
    right = (wrong + wrong.roll(n // 2)).mul_(-scale / n)  # (2B,) what L_ip(i) and L_p(i)i get, being one number
    (r,) = _weights(scale / n, losses[None], others[None], real[:, 0], safe)  # (2B,)

    gradient = torch.empty_like(z)  # (2B, D)
    for i in range(0, n, height):
        strip = buffer[: min(height, n - i)] if keep else make(i)  # (T, 2B)
        for j, part in _parts(strip, i):
            here = slice(j, j + len(part))
            if safe and not keep:
                part.exp_()
            _chosen(part, r[here, None], r, safe)
            part.diagonal(j).fill_(0)
            part.scatter_(1, partner[here], right[here, None])
        torch.mm(strip, z, out=gradient[i : i + height])  # (T, D)
    return losses.mean(), _to_scale(scale, gradient, z) / 2, gradient


def _product(scale: float, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    return torch.addmm(out, a, b.T, beta=0, alpha=scale, out=out)  # (T, B)


def _parts(strip: Tensor, first: int) -> list[tuple[int, Tensor]]:
    """A strip in parts that stay in a core's cache from one step to the next, each with its first row's number."""
    if strip.device.type != "cpu":
        return [(first, strip)]
    height = max(1, CACHED * torch.get_num_threads() // strip.shape[1])
    return [(first + j, strip[j : j + height]) for j in range(0, len(strip), height)]


def _safe(scale: float, a: Tensor, b: Tensor) -> bool:
    """Whether one exponential without any shift serves rows and columns; elsewhere each needs its own.

    |L_ij| <= s max |a_i| max |b_j|. It is safe where exp of that neither overflows nor underflows, nor the ratio of a
    sum of B of them to one of them.
    """
    longest = [float(torch.linalg.vector_norm(x, dim=1).amax()) for x in ((a,) if a is b else (a, b))]
    largest = scale * longest[0] * longest[-1]
    return 2 * largest + math.log(len(a)) < -math.log(torch.finfo(a.dtype).tiny) - 2


def _weights(share: float, losses: Tensor, others: Tensor, real: Tensor, safe: bool) -> Tensor:
    """What exp L_ij is multiplied by in each row and column (safe), or the logarithm of what it is divided by."""
    return share / (others + real) if safe else losses + real - math.log(share)


def _chosen(part: Tensor, r: Tensor, c: Tensor, safe: bool) -> Tensor:
    """From L, or from exp L where that is safe, to the share of the gradient that each of the others gets; in place."""
    if safe:
        return part.mul_(r + c)
    columns = (part - c).exp_()  # (T, B)
    return part.sub_(r).exp_().add_(columns)


def _to_scale(scale: float, gradient: Tensor, x: Tensor) -> Tensor:
    return torch.dot(gradient.flatten(), x.flatten()) / scale  # the chain rule: scale and x stand together in L


def _softplus(z: Tensor) -> Tensor:
    return F.softplus(z, threshold=40)  # from where on softplus(z) is z, in float64 too
