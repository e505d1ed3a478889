"""Exercises of lesson 06: the five proofs, no mutant that the inputs miss, slips written in several ways."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.sparse.linalg import expm_multiply

from minilip.course.checks import judge
from minilip.course.checks.lie import EXERCISES, act, infer, rotation_generator
from minilip.lie import LieOperator, search
from tests.proofs import proved


def generator_by_jacobian(frequencies):
    def rotation(theta):
        turns = [k * theta for k in frequencies]
        return torch.block_diag(*(torch.stack([a.cos(), -a.sin(), a.sin(), a.cos()]).view(2, 2) for a in turns))

    return torch.autograd.functional.jacobian(rotation, torch.zeros(()))


def frequencies_by_angle(L):
    small = 1e-3  # so that no plane turns by more than half a turn
    angles = np.angle(np.linalg.eigvals(scipy.linalg.expm(small * L.double().numpy()))) / small
    return np.sort(angles)[::-1][: (len(L) + 1) // 2]


def infer_by_the_library(L, z, z_g, times):
    operator = LieOperator(len(L))
    operator.basis.data = L.float()[None]
    return search(operator, z.float(), z_g.float(), times.float()[:, None], steps=0)[:, 0]


def act_row_by_row(L, t, z):
    """One scaled generator at a time, and no exponential of it."""
    rows = []
    for a, row in zip(t, z, strict=True):
        s = 1 + int(abs(float(a)) * float(torch.linalg.matrix_norm(L.detach(), 2)) / 2)
        for _ in range(s):
            term = row
            for k in range(1, 16):
                term = (a * L / s) @ term / k
                row = row + term
        rows.append(row)
    return torch.stack(rows)


def by_scipy(L, t, z):
    return torch.from_numpy(
        np.stack([expm_multiply(float(a) * L.numpy(), v.numpy()) for a, v in zip(t, z, strict=True)])
    )


def ratio_by_scipy(L, t, z, z_g):
    return ((by_scipy(L, t, z) - z_g) ** 2).sum().item() / ((z - z_g) ** 2).sum().item()


RIGHT = {
    "rotation_generator": [generator_by_jacobian],
    "frequencies": [frequencies_by_angle],
    "act": [act_row_by_row],
    "infer": [infer_by_the_library],
    "gap_ratio": [ratio_by_scipy],
}

test_exercise, test_no_mutant_passes_unnoticed = proved(EXERCISES, RIGHT)


def positive_imaginary_parts(L):
    heights = torch.linalg.eigvals(L).imag
    return heights[heights > 0].sort(descending=True).values


@pytest.mark.parametrize(
    ("mistake", "attempt"),
    [
        ("both signs", lambda L: torch.linalg.eigvals(L).imag.sort().values),
        ("real parts", lambda L: np.linalg.eigvals(L.numpy()).real),
        ("the complex eigenvalues", lambda L: np.linalg.eigvals(L.numpy())),
        ("squares", lambda L: torch.linalg.eigvalsh(L.T @ L).flip(0)[::2]),
        ("each speed once", lambda L: torch.linalg.eigvals(L).imag.abs().unique().flip(0)),
        ("still planes left out", positive_imaginary_parts),
        ("not sorted", lambda L: torch.linalg.eigvals(L).imag[::2]),
    ],
)
def test_eigenvalues_are_recognised_however_they_are_read(mistake, attempt):
    assert judge(EXERCISES["frequencies"], attempt).mistake == mistake


def steps_by(count):
    """The series of 6.5 with a number of steps of the learner's choice."""

    def attempt(L, t, z):
        s = count(L.detach(), t.detach())
        for _ in range(s):
            term = z
            for k in range(1, 16):
                term = t[:, None] / (s * k) * (term @ L.T)
                z = z + term
        return z

    return attempt


@pytest.mark.parametrize(
    "count",
    [
        lambda L, t: 1,
        lambda L, t: 9,
        lambda L, t: 18,
        lambda L, t: math.ceil(t.abs().max() / 2) + 1,
        lambda L, t: math.ceil(L.norm() / 2) + 1,
        lambda L, t: max(1, math.ceil(t.max() * L.norm() / 2)),
    ],
)
def test_too_few_substeps_are_told(count):
    report = judge(EXERCISES["act"], steps_by(count))
    assert report.status == "FAIL" and "Too few substeps" in report.message


def test_a_division_by_no_steps_is_seen():
    def attempt(L, t, z):
        share = 1 / math.ceil(float(t.detach().abs().max() * L.detach().norm()) / 2)
        return act(L, t, z) * share / share

    report = judge(EXERCISES["act"], attempt)
    assert report.status == "FAIL" and "ZeroDivisionError" in report.message


def test_a_table_of_scaled_generators_is_seen():
    def attempt(L, t, z):
        table = t[:, None, None] * L / 100  # (B, D, D)
        for _ in range(100):
            term = z[:, :, None]
            for k in range(1, 16):
                term = table @ term / k
                z = z + term[:, :, 0]
        return z

    assert judge(EXERCISES["act"], attempt).mistake == "forms a matrix for each row"


def test_numpy_in_the_action_is_told_that_it_cannot_learn():
    report = judge(EXERCISES["act"], by_scipy)
    assert report.status == "FAIL" and "The result is right, but not when" in report.message


def test_the_action_is_that_of_the_exponential():
    world = rotation_generator([1, 2])
    z, t = torch.randn(6, 4), torch.linspace(-1, 1, 6)
    assert torch.allclose(act(world, t, z), by_scipy(world, t, z), atol=1e-5)
    assert torch.allclose(infer(world, z, act(world, t, z), torch.linspace(-1, 1, 21)), t, atol=1e-6)
