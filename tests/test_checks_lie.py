"""Exercises of lesson 06: each mistake is named, and right answers written differently pass."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from minilip.course.checks import assert_exercise, judge
from minilip.course.checks.lie import EXERCISES, act, infer, rotation_generator
from minilip.lie import LieOperator, search


def series_by_horner(A, terms):
    total = torch.eye(len(A)).to(A)
    for k in range(terms - 1, 0, -1):
        total = torch.eye(len(A)).to(A) + A @ total / k
    return total


def series_by_powers_in_double(A, terms):
    A = A.double()
    return sum(torch.linalg.matrix_power(A, k) / float(math.factorial(k)) for k in range(terms))


def generator_by_autograd(frequencies):
    def rotation(theta):
        turns = [(k * theta).reshape(()) for k in frequencies]
        blocks = [torch.stack([torch.stack([a.cos(), -a.sin()]), torch.stack([a.sin(), a.cos()])]) for a in turns]
        return torch.block_diag(*blocks)

    return torch.autograd.functional.jacobian(rotation, torch.zeros(()))


def generator_by_kron(frequencies):
    return torch.kron(torch.diag(torch.tensor(frequencies).double()), torch.tensor([[0.0, -1.0], [1.0, 0.0]]).double())


def frequencies_by_iL(L):
    return torch.linalg.eigvalsh(1j * L).flip(0)[: (len(L) + 1) // 2]


def frequencies_by_angle(L):
    small = 1e-3  # so that no plane turns by more than half a turn
    angles = np.angle(np.linalg.eigvals(scipy.linalg.expm(small * L.double().numpy()))) / small
    return np.sort(angles)[::-1][: (len(L) + 1) // 2]


def gap_by_third_difference(A, B, s):
    """The s^2 coefficient by differences: the orders above it fall out as h -> 0."""
    A, B = A.double(), B.double()

    def gap(h):
        exp = torch.linalg.matrix_exp
        return (exp(h * A) @ exp(h * B) - exp(h * (A + B))) / h**2

    h = 1e-3
    return s**2 * (gap(h) + gap(-h)) / 2


def act_by_matrices(L, t, z):
    return torch.einsum("bij,bj->bi", torch.linalg.matrix_exp(t[:, None, None] * L), z)


def act_by_small_steps(L, t, z):
    s = 1 + int((t.abs().max() * L.norm()).detach())
    for _ in range(s):
        term, k = z, 0
        while k < 20:
            k += 1
            term = torch.einsum("ij,bj->bi", L, term) * t[:, None] / (s * k)
            z = z + term
    return z


def act_row_by_row(L, t, z):
    return torch.stack([torch.linalg.matrix_exp(t[i] * L.double()) @ z[i].double() for i in range(len(z))])


def act_in_eigenbasis(L, t, z):
    values, vectors = torch.linalg.eig(L.double())
    parts = torch.linalg.solve(vectors, z.double().T.to(vectors.dtype)).T
    return ((torch.exp(t[:, None] * values) * parts) @ vectors.T).real


def infer_by_loops(L, z, z_g, times):
    found = torch.zeros(len(z))
    for i in range(len(z)):
        gaps = [float((torch.linalg.matrix_exp(t * L) @ z[i] - z_g[i]).norm()) for t in times]
        found[i] = times[gaps.index(min(gaps))]
    return found


def infer_in_double(L, z, z_g, times):
    g = torch.linalg.matrix_exp(times.double()[:, None, None] * L.double())
    path = torch.einsum("tij,bj->bti", g, z.double())
    return times[torch.cdist(z_g.double()[:, None], path)[:, 0].argmin(1)].double()


def infer_by_the_library(L, z, z_g, times):
    operator = LieOperator(len(L))
    operator.basis.data = L[None]
    return search(operator, z, z_g, times[:, None], steps=0)[:, 0]


def ratio_by_means(L, t, z, z_g):
    moved = act_by_matrices(L, t, z)
    return ((moved - z_g) ** 2).sum(1).mean() / ((z - z_g) ** 2).sum(1).mean()


CORRECT = {
    "series": [series_by_horner, series_by_powers_in_double, lambda A, n: series_by_horner(A, n).bfloat16()],
    "rotation_generator": [
        generator_by_autograd,
        generator_by_kron,
        lambda ks: generator_by_kron(ks).numpy(),
        lambda ks: generator_by_kron(ks).half(),
    ],
    "frequencies": [
        frequencies_by_iL,
        frequencies_by_angle,
        lambda L: torch.linalg.svdvals(L)[::2],
        lambda L: frequencies_by_iL(L.double()),
        lambda L: frequencies_by_iL(L).half(),
    ],
    "commutator_gap": [
        gap_by_third_difference,
        lambda A, B, s: s * s * (torch.einsum("ij,jk->ik", A, B) - torch.einsum("ij,jk->ik", B, A)) / 2,
        lambda A, B, s: s * s * (A @ B - (A @ B + B @ A) / 2),
        lambda A, B, s: (s**2 / 2 * (A @ B - B @ A)).bfloat16(),
    ],
    "act": [
        act_by_matrices,
        act_by_small_steps,
        act_row_by_row,
        act_in_eigenbasis,
        lambda L, t, z: act_by_small_steps(L, t, z).bfloat16(),
    ],
    "infer": [
        infer_by_loops,
        infer_in_double,
        infer_by_the_library,
        lambda L, z, z_g, times: infer_by_loops(L, z, z_g, times).bfloat16(),
    ],
    "gain_invariance": [(True, True, True, True), [True] * 4, (1, 1, 1, 1)],
    "gain_operator": [[False, False, False, True]],
    "gain_noise": [[False, True, False, True]],
    "gap_ratio": [
        ratio_by_means,
        lambda L, t, z, z_g: float(ratio_by_means(L.double(), t.double(), z.double(), z_g.double())),
        lambda L, t, z, z_g: ((act_by_matrices(L, t, z) - z_g).norm() / (z - z_g).norm()) ** 2,
        lambda L, t, z, z_g: ratio_by_means(L, t, z, z_g).bfloat16(),
    ],
}


@pytest.mark.parametrize("name", EXERCISES)
def test_exercise(name):
    assert_exercise(EXERCISES[name], CORRECT[name])


@pytest.mark.parametrize(
    ("mistake", "attempt"),
    [
        ("both signs", lambda L: torch.linalg.eigvals(L).imag.sort().values),
        ("real parts", lambda L: np.linalg.eigvals(L.numpy()).real),
        ("the complex eigenvalues", lambda L: np.linalg.eigvals(L.numpy())),
        ("squares", lambda L: torch.linalg.eigvalsh(L.T @ L).flip(0)[::2]),
    ],
)
def test_eigenvalues_are_recognised_in_any_order(mistake, attempt):
    assert judge(EXERCISES["frequencies"], attempt).mistake == mistake


@pytest.mark.parametrize("terms", [8, 12, 30, 60, 150])
def test_a_series_without_substeps_is_recognised_whatever_its_length(terms):
    def attempt(L, t, z):
        term = z
        for k in range(1, terms):
            term = t[:, None] / k * (term @ L.T)
            z = z + term
        return z

    assert judge(EXERCISES["act"], attempt).mistake == "too few substeps"


def test_a_cut_graph_is_recognised():
    report = judge(EXERCISES["act"], lambda L, t, z: act_by_matrices(L.detach(), t, z))
    assert (report.status, report.mistake) == ("FAIL", "detached") and "`L`" in report.message


def test_the_functions_a_learner_goes_on_with():
    world = rotation_generator([1, 2])
    z, t = torch.randn(6, 4), torch.linspace(-1, 1, 6)
    assert torch.allclose(act(world, t, z), act_by_matrices(world, t, z), atol=1e-5)
    assert torch.allclose(infer(world, z, act(world, t, z), torch.linspace(-1, 1, 21)), t, atol=1e-6)
