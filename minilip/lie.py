r"""The Lie operator: variation as a group that acts on representations, with a learned basis of its algebra.

Letters
    B   batch                  L    generators (N, D, D), the learned basis of the algebra
    D   embedding dimension    t    coordinates (B, N), how far to go along each generator
    N   generators             g    group elements exp(sum_n t_n L_n), one (D, D) matrix for each pair
    T   points of an orbit     z^g  the embedding of the same thing in another pose

Source: Ibrahim, Bouchacourt and Morcos 2022 (arXiv 2210.13356), of which the operator and the loss are public. Its
initialisation, dimensions and weights are not: the values here are the course's own. Lesson 06.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check
from minilip.infonce import info_nce

FURTHEST = 256.0  # norm of tL: over forty turns at frequency 1, 128 steps of the series: more is a mistake


@_check.full_precision
def exp_action(basis: Tensor, t: Tensor, z: Tensor) -> Tensor:
    r"""Move each z by its own group element, without ever forming the (D, D) matrix.

    $$ e^A z = (e^{A/s})^s z, \qquad e^{A/s} z = \sum_{k=0}^K \frac{(A/s)^k z}{k!} + \text{rest}, \qquad
       A = \sum_n t_n L_n $$

    s is the least whole number with sum_n |t_n| ||L_n|| / s <= 2 for the whole batch, for which K = 15 terms leave a
    rest below 1e-8 (float32) and K = 25 one below 1e-18 (float64). A term costs N products of (B, D) with (D, D).

    Args:
        basis: (N, D, D), L.
        t: (B, N).
        z: (B, D).

    Returns:
        (B, D), in float32 or better.

    Raises:
        ValueError: shapes or dtypes disagree, a number is not finite, ||A|| is above FURTHEST, or the result overflows,
            as it does where a direction grows: exp(89) is no float32.

    Source: Al-Mohy and Higham 2011, algorithm 3.2, with s and K chosen beforehand; lesson 06.
    """
    _vectors(basis, z)
    _coordinates(basis, t, len(z))
    if not z.dtype == t.dtype == basis.dtype:
        _check.fail("basis, t and z", "one dtype", f"{basis.dtype}, {t.dtype} and {z.dtype}")
    s = max(1, math.ceil(_norm(basis, t) / 2))
    for _ in range(s):
        term = z  # (B, D)
        for k in range(1, 26 if z.dtype == torch.float64 else 16):
            term = _apply(basis, t / (s * k), term)  # (B, D)
            z = z + term
    _check.finite("exp(tL) z", z)
    return z


def _apply(basis: Tensor, t: Tensor, z: Tensor) -> Tensor:
    """(sum_n t_n L_n) z, each row with its own t."""
    return sum((t[:, n, None] * (z @ L.T) for n, L in enumerate(basis)), torch.zeros_like(z))  # (B, D)


def _norm(basis: Tensor, t: Tensor) -> float:
    """A bound on the spectral norm of every sum_n t_n L_n of the batch."""
    sizes = torch.linalg.matrix_norm(basis.detach(), 2)  # (N,)
    norm = float((t.detach().abs() @ sizes).max())
    if norm > FURTHEST:
        _check.fail("t", f"coordinates with |t| ||L|| of at most {FURTHEST:.0f}", f"{norm:.3g}")
    return norm


def _vectors(basis: Tensor, z: Tensor) -> None:
    """A basis, and a batch that it can act on."""
    _check.tensor("basis", basis, floating=True)
    shape = tuple(basis.shape)
    if len(shape) != 3 or shape[1] != shape[2] or 0 in shape:
        _check.fail("basis", "shape (N, D, D)", shape or type(basis).__name__)
    _check.finite("basis", basis)
    _check.embeddings("z", z)
    if z.shape[1] != shape[1]:
        _check.fail("z", f"shape (B, {shape[1]})", tuple(z.shape))


def _coordinates(basis: Tensor, t: Tensor, b: int | None = None) -> None:
    n, rows = len(basis), "B" if b is None else b
    if not isinstance(t, Tensor) or t.dim() != 2 or t.shape[1] != n or (b is not None and len(t) != b):
        _check.fail("t", f"shape ({rows}, {n})", tuple(getattr(t, "shape", ())) or type(t).__name__)
    _check.embeddings("t", t)


class LieOperator(nn.Module):
    r"""A group that acts on embeddings, and a network that reads from a pair how far the one is from the other.

    $$ \hat g = \exp\Big(\sum_n \hat t_n L_n\Big), \qquad \hat t = \mathrm{MLP}([z, z^g]),
       \qquad \hat g z \approx z^g $$

    Only the product of t and L has a meaning: twice the generator and half the coordinate are the same group.

    Args:
        dim: D.
        generators: N, how many basis matrices are learned.
        hidden: width of the two hidden layers that infer t.
        scale: standard deviation of the entries of L at the start; small keeps g near the identity.

    Source: Ibrahim et al. 2022; lesson 06. Width and scale are ours.
    """

    def __init__(self, dim: int, generators: int = 1, hidden: int = 128, scale: float = 0.02):
        super().__init__()
        for name, value in (("dim", dim), ("generators", generators), ("hidden", hidden)):
            _check.count(name, value)
        _check.positive("scale", scale)
        self.basis = nn.Parameter(scale * torch.randn(generators, dim, dim))  # L
        self.reader = nn.Sequential(
            nn.Linear(2 * dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, generators),
        )

    @_check.full_precision
    def infer(self, z: Tensor, z_g: Tensor) -> Tensor:
        """The coordinates that should take z to z_g. (B, D), (B, D) -> t (B, N)"""
        _check.paired("z", z, "z_g", z_g, least=1)
        _vectors(self.basis, z)
        return self.reader(torch.cat([z, z_g], dim=1))  # (B, N)

    @_check.full_precision
    def group(self, t: Tensor) -> Tensor:
        r"""The group elements themselves, exp(sum_n t_n L_n). (B, N) -> (B, D, D)

        For a few t (an orbit, a figure). In training the exponential of a matrix for each pair is too dear: `forward`.

        Raises:
            ValueError: a wrong shape, a norm above FURTHEST, or overflow.
        """
        _coordinates(self.basis, t)
        basis = self.basis.to(torch.promote_types(t.dtype, self.basis.dtype))
        t = t.to(basis.dtype)
        _check.finite("basis", basis)
        _norm(basis, t)
        g = torch.linalg.matrix_exp(torch.einsum("bn,nij->bij", t, basis))  # (B, D, D)
        _check.finite("exp(tL)", g)
        return g

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """exp(sum_n t_n L_n) z by `exp_action`. (B, D), (B, N) -> (B, D)"""
        return exp_action(self.basis, t, z)  # (B, D)


@_check.full_precision
def lie_loss(
    operator: LieOperator, z: Tensor, z_g: Tensor, temperature: float = 0.2, t: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""The two terms that ask the operator to take z to z^g: which one, and exactly where.

    $$ \mathcal L_c = -\frac1B \sum_i \log
       \frac{\exp(\cos(\hat g_i z_i, z_i^g) / \tau)}{\sum_j \exp(\cos(\hat g_i z_i, z_j^g) / \tau)},
       \qquad \mathcal L_e = \frac1B \sum_i \lVert \hat g_i z_i - z_i^g \rVert_2^2 $$

    The whole objective is (SSL loss) + weight_c L_c + weight_e L_e.

    Args:
        operator: supplies g and, where t is None, infers t from the pair.
        z: (B, D); z_g: (B, D), row i the same thing in another pose. B >= 2.
        temperature: tau > 0 of the contrastive term.
        t: (B, N), coordinates to use instead (a control: the true angle, another pair's, zero for the identity).

    Returns:
        L_c (nats, log B at chance) and L_e (squared length, summed over D).

    Raises:
        ValueError: shapes differ, a batch of 1, numbers that are not finite.

    Source: Ibrahim et al. 2022; lesson 06. Temperature and cosines are ours.
    """
    _check.paired("z", z, "z_g", z_g)
    moved = operator(z, operator.infer(z, z_g) if t is None else t)  # (B, D)
    contrastive = info_nce(F.normalize(moved, dim=1), F.normalize(z_g, dim=1), temperature)
    return contrastive, (moved - z_g).square().sum(dim=1).mean()


@torch.no_grad()
@_check.full_precision
def orbit(operator: LieOperator, z: Tensor, times: Tensor) -> Tensor:
    """Every z at every point of a path through the group: exp(t L) z for all t. (B, D), (T, N) -> (B, T, D)"""
    _vectors(operator.basis, z)
    g = operator.group(times)  # (T, D, D)
    return (z.to(g.dtype) @ g.flatten(0, 1).T).unflatten(1, (len(times), -1))  # (B, T, D)


@torch.no_grad()
@_check.full_precision
def search(operator: LieOperator, z: Tensor, z_g: Tensor, times: Tensor, steps: int = 3) -> Tensor:
    r"""The coordinates that take z nearest to z^g: the best of a grid, then Gauss-Newton.

    $$ t \leftarrow t + (J^\top J)^{-1} J^\top (z^g - e^{tL} z), \qquad
       J_n = \frac{\partial e^{tL} z}{\partial t_n} \approx L_n e^{tL} z $$

    A network that reads t from the pair answers with the mean where two answers fit (a drawing that nearly repeats
    itself when turned); a search takes one of them.

    Args:
        operator: supplies g.
        z: (B, D); z_g: (B, D).
        times: (T, N), the grid. Its spacing has to be below half the shortest period in z.
        steps: of Gauss-Newton, none longer than the grid reaches; one that does not bring g z nearer is taken back.
            J is exact where the generators commute, as one generator does with itself.

    Returns:
        t (B, N)

    Raises:
        ValueError: as `exp_action`; z and z_g differ in shape, or steps < 0.
    """
    _check.paired("z", z, "z_g", z_g, least=1)
    _check.count("steps", steps, least=0)
    _check.tensor("times", times, 2)
    z, z_g, times = (x.to(operator.basis.dtype) for x in (z, z_g, times))
    path = orbit(operator, z, times)  # (B, T, D)
    best, at = (path - z_g[:, None]).square().sum(dim=2).min(dim=1)  # (B,)
    t, moved = times[at], path[torch.arange(len(z)), at]  # (B, N), (B, D)
    reach = times.abs().amax(dim=0)  # (N,) a z that no generator moves would send t to infinity
    for _ in range(steps):
        J = torch.einsum("nij,bj->bni", operator.basis, moved)  # (B, N, D)
        gram = J @ J.mT  # (B, N, N)
        ridge = 1e-6 * gram.diagonal(dim1=1, dim2=2).sum(dim=1) + 1e-30  # (B,)
        gram = gram + ridge[:, None, None] * torch.eye(len(reach)).to(J)
        step = torch.linalg.solve(gram, J @ (z_g - moved)[..., None])[..., 0].clamp(-reach, reach)  # (B, N)
        there = operator(z, t + step)  # (B, D)
        far = (there - z_g).square().sum(dim=1)  # (B,)
        nearer = (far < best)[:, None]  # (B, 1)
        t, moved = torch.where(nearer, t + step, t), torch.where(nearer, there, moved)
        best = torch.minimum(best, far)
    return t


@torch.no_grad()
def spectrum(operator: LieOperator, z: Tensor) -> tuple[Tensor, Tensor]:
    r"""Eigenvalues of a single generator, and the share of the embeddings' energy that each one moves.

    $$ L = V \Lambda V^{-1}, \qquad
       \text{energy}_k \propto \sum_b |(V^{-1} z_b)_k|^2 \, \lVert v_k \rVert^2 $$

    A rotation shows as pairs on the imaginary axis, whose heights are its frequencies. Directions that no embedding
    uses have eigenvalues too, which mean nothing: their energy tells them apart.

    Args:
        operator: with one generator.
        z: (B, D).

    Returns:
        eigenvalues (D,) complex and energies (D,) that sum to 1, both by falling energy.

    Raises:
        ValueError: shapes disagree, several generators, or eigenvectors that coincide.
    """
    if len(operator.basis) != 1:
        _check.fail("operator", "one generator", f"{len(operator.basis)}")
    _vectors(operator.basis, z)
    values, vectors = torch.linalg.eig(operator.basis[0].double())  # (D,), (D, D)
    if (spread := float(torch.linalg.cond(vectors))) > 1e12:
        _check.fail("operator", "a generator with D eigenvectors", f"some that coincide (condition {spread:.1g})")
    parts = torch.linalg.solve(vectors, z.double().T.to(vectors.dtype)).abs().square().mean(dim=1)  # (D,)
    energy = parts * vectors.abs().square().sum(dim=0)  # (D,)
    order = energy.argsort(descending=True)
    return values[order], energy[order] / energy.sum()
