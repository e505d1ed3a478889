"""Gaussian pairs: densities against scipy, samples against what they claim."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from minilip.data.gaussians import Gaussians
from tests.helpers import seeded


@pytest.mark.parametrize("dim, rho", [(1, 0.9), (3, -0.5), (5, 0.0), (2, 0.999)])
def test_the_log_ratio_is_scipys_joint_over_the_marginals(dim, rho):
    world = Gaussians(dim, correlation=rho)
    x, c = (v.double() for v in world.sample(20, seeded()))
    eye = torch.eye(dim, dtype=torch.double)
    covariance = torch.cat([torch.cat([eye, rho * eye], 1), torch.cat([rho * eye, eye], 1)])
    joint = multivariate_normal(mean=[0] * 2 * dim, cov=covariance.numpy())
    single = multivariate_normal(mean=[0] * dim, cov=eye.numpy())

    def by_scipy(x, c):
        return torch.tensor(joint.logpdf(torch.cat([x, c], 1).numpy()) - single.logpdf(x.numpy()) - single.logpdf(c))

    torch.testing.assert_close(world.log_ratio(x, c), by_scipy(x, c), rtol=1e-6, atol=1e-8)
    table = world.log_ratios(x[:7], c)  # (20, 7)
    assert table.shape == (20, 7)
    for i in range(20):
        torch.testing.assert_close(table[i], by_scipy(x[:7], c[i].expand(7, dim)), rtol=1e-6, atol=1e-8)


def test_the_mutual_information_is_the_mean_log_ratio():
    world = Gaussians(10, correlation=0.6)
    assert world.mutual_information == pytest.approx(-5 * math.log(1 - 0.36))
    ratios = world.log_ratio(*world.sample(200_000, seeded()))
    assert float(ratios.mean()) == pytest.approx(world.mutual_information, abs=4 * float(ratios.std()) / 200_000**0.5)


def test_the_ratio_of_unrelated_pairs_has_mean_one():
    world = Gaussians(2, correlation=0.5)
    x, c = world.sample(200_000, seeded())
    ratio = world.log_ratio(x, c.roll(1, 0)).exp()
    assert float(ratio.mean()) == pytest.approx(1, abs=0.01)


def test_samples_have_the_correlation():
    x, c = Gaussians(3, correlation=-0.7).sample(200_000, seeded())
    covariance = torch.cov(torch.cat([x, c], 1).T)  # (6, 6)
    eye = torch.eye(3)
    want = torch.cat([torch.cat([eye, -0.7 * eye], 1), torch.cat([-0.7 * eye, eye], 1)])
    torch.testing.assert_close(covariance, want, atol=0.02, rtol=0)


def test_the_seed_decides():
    world = Gaussians(3, correlation=0.5)
    a, b, c = (world.sample(5, seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


@given(st.integers(1, 50), st.floats(0, 10))
def test_information_and_correlation_determine_each_other(dim, nats):
    rho = Gaussians(dim, mutual_information=nats).correlation
    assert 0 <= rho < 1
    assert Gaussians(dim, correlation=rho).mutual_information == pytest.approx(nats, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Gaussians(3), "expected either correlation or mutual_information, got neither"),
        (lambda: Gaussians(3, 0.5, 1.0), "got correlation and mutual_information"),
        (lambda: Gaussians(0, 0.5), "dim: expected a whole number"),
        (lambda: Gaussians(3, 1.0), "correlation: expected a number between -1 and 1"),
        (lambda: Gaussians(3, math.nan), "correlation: expected a finite number"),
        (lambda: Gaussians(3, mutual_information=-0.1), "mutual_information: expected a number of nats of at least 0"),
        (lambda: Gaussians(1, mutual_information=1e3), "mutual_information: expected fewer nats in 1 dimensions"),
        (lambda: Gaussians(3, 0.5).sample(0, seeded()), "n: expected a whole number"),
        (lambda: Gaussians(3, 0.5).log_ratio(torch.zeros(2, 3), torch.zeros(1, 3)), "c: expected the shape of x"),
        (lambda: Gaussians(3, 0.5).log_ratio(torch.zeros(2, 4), torch.zeros(2, 4)), "x: expected shape"),
        (lambda: Gaussians(3, 0.5).log_ratios(torch.zeros(2, 3), torch.full((2, 3), math.nan)), "c: expected finite"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
