"""Alignment and uniformity against lightly, pdist and loops, floors against scipy, the model by hand, a few steps."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss.hypersphere_loss import HypersphereLoss
from scipy import special
from scipy.integrate import quad
from torch import nn

from minilip.hypersphere import Hypersphere, align_uniform_loss, alignment, uniformity, uniformity_floor
from minilip.infonce import info_nce_negatives
from minilip.nn import ConvNet
from minilip.simclr import nt_xent
from minilip.training import fit
from tests.helpers import seeded, value_and_gradients, vectors


def alignment_loop(x, y, alpha):
    return sum(math.dist(a, b) ** alpha for a, b in zip(x.tolist(), y.tolist(), strict=True)) / len(x)


def uniformity_loop(x, t):
    rows = x.tolist()
    gaussians = [math.exp(-t * math.dist(rows[i], rows[j]) ** 2) for i in range(len(rows)) for j in range(i)]
    return math.log(sum(gaussians) / len(gaussians))


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t, weight, alpha", [(1.0, 1.0, 2.0), (2.0, 0.5, 2.0), (3.0, 2.0, 1.0), (0.5, 1.0, 3.0)])
@pytest.mark.parametrize("batch", [2, 7, 40])
def test_value_and_gradient_equal_lightly(batch, t, weight, alpha):
    x = [vectors(batch, 6, seed, length=1.7).requires_grad_() for seed in (0, 1)]
    unit = [F.normalize(z, dim=1) for z in x]
    ours = align_uniform_loss(*unit, uniform=weight, alpha=alpha, t=t)
    theirs = HypersphereLoss(t=t, lam=weight, alpha=alpha)(*x)  # makes unit vectors itself
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
    for got, want in zip(torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x), strict=True):
        torch.testing.assert_close(got, want, atol=1e-10, rtol=0)


@pytest.mark.parametrize("length", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("t", [0.5, 2.0])
def test_values_equal_loops_and_vectors_are_taken_as_they_are(length, t):
    x, y = vectors(5, 4, 0, length), vectors(5, 4, 1, length)
    assert float(uniformity(x, t)) == pytest.approx(uniformity_loop(x, t), abs=1e-12)
    for alpha in (0.5, 1.0, 2.0, 3.0):
        assert float(alignment(x, y, alpha)) == pytest.approx(alignment_loop(x, y, alpha), abs=1e-12)


def test_uniformity_equals_pdist_in_value_and_gradient():
    x = vectors(30, 5)
    theirs = lambda z: torch.pdist(z).square().mul(-2).exp().mean().log()  # noqa: E731
    for got, want in zip(value_and_gradients(uniformity, x), value_and_gradients(theirs, x), strict=True):
        torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


def test_constants():
    x = vectors(6, 4)
    assert float(alignment(x, x)) == 0 and float(alignment(x, -x)) == pytest.approx(4)
    assert float(uniformity(x[:1].repeat(5, 1))) == pytest.approx(0, abs=1e-12)
    for n in (2, 5, 9):
        simplex = F.normalize(torch.eye(n, dtype=torch.double) - 1 / n, dim=1)
        assert float(uniformity(simplex, 3.0)) == pytest.approx(-6 * n / (n - 1))
    assert float(alignment(vectors(4000, 8), vectors(4000, 8, 1))) == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("t", [0.3, 2.0, 20.0])
@pytest.mark.parametrize("dim", [2, 3, 5, 64])
def test_the_floor_is_bessel_s(dim, t):
    v = dim / 2 - 1
    bessel = special.gammaln(dim / 2) - v * math.log(t) + math.log(special.ive(v, 2 * t))
    assert uniformity_floor(dim, t) == pytest.approx(bessel, abs=1e-10)


@pytest.mark.parametrize("dim", [2, 3, 7])
def test_the_floor_is_an_integral_over_the_cosine(dim):
    density = lambda angle: math.sin(angle) ** (dim - 2)  # noqa: E731
    mean = quad(lambda a: density(a) * math.exp(4 * math.cos(a) - 4), 0, math.pi)[0] / quad(density, 0, math.pi)[0]
    assert uniformity_floor(dim) == pytest.approx(math.log(mean), abs=1e-9)


def test_the_floor_at_the_edges():
    assert uniformity_floor(100_000, 2.0) == pytest.approx(-4 + 8 / 100_000, abs=1e-8)
    assert uniformity_floor(3, 1000.0) == pytest.approx(-math.log(4000), abs=1e-9)  # (1 - e^-4t) / 4t
    assert uniformity_floor(2, 1e-6) == pytest.approx(-2e-6, rel=1e-5)
    assert uniformity_floor(np.int64(3), np.float64(2)) == uniformity_floor(3, 2)


@pytest.mark.parametrize("dim", [2, 3, 10])
def test_no_large_batch_lies_below_the_floor(dim):
    low = uniformity_floor(dim)
    even = F.normalize(torch.randn(3000, dim, generator=seeded(), dtype=torch.double), dim=1)
    assert float(uniformity(even)) == pytest.approx(low, abs=0.02)
    for shift in (0.2, 1.0):
        lumpy = F.normalize(torch.randn(3000, dim, generator=seeded(1), dtype=torch.double) + shift, dim=1)
        assert float(uniformity(lumpy)) > low + 0.02


def test_weighted_by_t_the_loss_bounds_the_limit_of_infonce():
    tau, pool = 0.25, F.normalize(torch.randn(400, 5, generator=seeded(), dtype=torch.double) + 0.3, dim=1)
    near = F.normalize(pool + 0.2 * torch.randn(400, 5, generator=seeded(1), dtype=torch.double), dim=1)
    limit = -(pool * near).sum(1).mean() / tau + ((pool @ pool.T / tau).exp().mean(1).log()).mean()
    bound = (
        align_uniform_loss(pool, near, align=2.0, uniform=0.0)
        + torch.cdist(pool, pool).square().mul(-2).exp().mean().log()
    )
    assert float(limit) < float(bound)
    many = info_nce_negatives(pool, near, pool.repeat(50, 1), tau) - math.log(20_000)
    assert float(many) == pytest.approx(float(limit), abs=0.01)


# ---- invariances -----------------------------------------------------------------------------------------------------


def test_what_leaves_the_measures_alone():
    x, y = vectors(8, 5), vectors(8, 5, 1)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=seeded(), dtype=torch.double))[0]
    order = torch.randperm(8, generator=seeded())
    for a, b in ((x @ turn, y @ turn), (x[order], y[order]), (x + 7, y + 7)):
        torch.testing.assert_close(alignment(a, b), alignment(x, y))
        torch.testing.assert_close(uniformity(a), uniformity(x))
    torch.testing.assert_close(align_uniform_loss(x, y), align_uniform_loss(y, x))
    assert abs(float(alignment(x, y[order]) - alignment(x, y))) > 0.05


# ---- gradients and precision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_gradcheck(alpha):
    x, y = (vectors(4, 3, seed).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(partial(align_uniform_loss, align=0.7, uniform=1.3, alpha=alpha, t=1.5), (x, y))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_views_and_vectors_that_coincide_have_finite_gradients(alpha):
    x = vectors(6, 4, dtype=torch.float32)
    x[1] = x[0]
    for loss in (lambda z: alignment(z, x, alpha), uniformity):
        value, gradient = value_and_gradients(loss, x)
        assert value.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("t", [200.0, 1e4])
def test_finite_where_every_gaussian_underflows(t):
    x = vectors(12, 16, dtype=torch.float32)
    assert not torch.pdist(x).square().mul(-t).exp().any()
    value, gradient = value_and_gradients(partial(uniformity, t=t), x)
    nearest = float(torch.pdist(x.double()).square().min())
    assert float(value) == pytest.approx(-t * nearest - math.log(66), rel=1e-3, abs=0.1)
    assert gradient.isfinite().all() and gradient.any()


def test_far_from_the_origin_float32_still_tells_distances():
    x = vectors(20, 4, dtype=torch.float32)
    torch.testing.assert_close(uniformity(x + 1000), uniformity(x), atol=2e-3, rtol=0)


def test_half_precision_and_autocast_are_computed_in_float32():
    x, y = vectors(16, 8, dtype=torch.float32), vectors(16, 8, 1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = align_uniform_loss(x, y, t=9.0)
    assert inside.dtype == torch.float32 and torch.equal(inside, align_uniform_loss(x, y, t=9.0))
    half = [z.bfloat16().requires_grad_() for z in (x, y)]
    loss = align_uniform_loss(*half, t=60.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, align_uniform_loss(*(z.detach().float() for z in half), t=60.0))
    assert all(g.dtype == torch.bfloat16 and g.isfinite().all() for g in torch.autograd.grad(loss, half))


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: uniformity(torch.ones(1, 3)), "x: expected a batch of at least 2"),
        (lambda: uniformity(torch.ones(3)), r"x: expected shape \(B, D\)"),
        (lambda: uniformity(torch.full((2, 3), math.nan)), "x: expected finite numbers"),
        (lambda: uniformity(torch.ones(2, 3), 0.0), "t: expected a finite number above 0"),
        (lambda: alignment(torch.ones(3, 3), torch.ones(2, 3)), "y: expected the shape of x"),
        (lambda: alignment(torch.ones(2, 3), torch.ones(2, 3), -1.0), "alpha: expected a finite number above 0"),
        (lambda: align_uniform_loss(torch.ones(2, 3), torch.ones(2, 3), align=-1), "align: expected a weight"),
        (lambda: uniformity_floor(1), "dim: expected a whole number of at least 2"),
        (lambda: uniformity_floor(3, math.inf), "t: expected a finite number"),
        (lambda: Hypersphere(ConvNet(4), dim=1), "dim: expected a whole number of at least 2"),
        (lambda: Hypersphere(ConvNet(4), objective="both"), "objective: expected a function"),
        (lambda: Hypersphere(nn.Linear(2, 2)), "tower: expected a tower"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- the model -------------------------------------------------------------------------------------------------------


def pictures(batch=6, size=16, seed=0):
    return torch.rand(batch, 3, size, size, generator=seeded(seed))


def make(**kwargs):
    torch.manual_seed(0)
    return Hypersphere(ConvNet(4), **{"dim": 5, **kwargs})


def test_what_is_kept_comes_before_the_head():
    model = make().eval()
    h, z = model(pictures()), model.project(pictures())
    torch.testing.assert_close(h, model.tower(pictures()))
    assert h.shape == (6, 16) and z.shape == (6, 5)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(6))


@pytest.mark.parametrize("objective", [align_uniform_loss, partial(nt_xent, temperature=0.3)])
def test_the_loss_is_the_objective_of_both_views_in_one_batch(objective):
    model = make(objective=objective, hidden=7).train()
    x1, x2 = pictures(), pictures(seed=1)
    loss, measures = model.loss((x1, x2))
    h = model.tower(torch.cat([x1, x2]))  # both views in one batch, for BatchNorm
    a = h @ model.head[0].weight.T
    a = ((a - a.mean(0)) / (a.var(0, unbiased=False) + 1e-5).sqrt()).relu()  # gain 1 and shift 0 at the start
    x, y = F.normalize(a @ model.head[3].weight.T + model.head[3].bias, dim=1).detach().chunk(2)
    torch.testing.assert_close(loss.detach(), objective(x, y), atol=1e-4, rtol=1e-4)
    assert float(measures["alignment"]) == pytest.approx(alignment_loop(x, y, 2), rel=1e-3)
    both = (uniformity_loop(x, 2) + uniformity_loop(y, 2)) / 2
    assert float(measures["uniformity"]) == pytest.approx(both, rel=1e-3)


def test_views_that_do_not_fit_are_refused():
    for views in ((pictures(3), pictures(4)), (pictures(1), pictures(1)), (pictures(2, 16), pictures(2, 24))):
        with pytest.raises(ValueError, match="views: expected two of one shape"):
            make().loss(views)


def test_alignment_alone_collapses_and_uniformity_alone_spreads():
    def batches(generator):
        x = torch.rand(24, 3, 1, 1, generator=generator).expand(24, 3, 16, 16)  # a colour; its views differ in grain
        return tuple(x + 0.3 * torch.randn(x.shape, generator=generator) for _ in range(2))

    ends = {}
    for name, weights in (("align", {"uniform": 0.0}), ("uniform", {"align": 0.0}), ("both", {})):
        history = fit(
            make(objective=partial(align_uniform_loss, **weights)), batches, steps=60, lr=5e-3, progress=False
        )
        ends[name] = {k: sum(v[-10:]) / 10 for k, v in history.metrics.items()}
    assert ends["align"]["alignment"] < 0.05 and ends["align"]["uniformity"] > -0.3
    assert ends["uniform"]["uniformity"] < -1.5
    assert ends["both"]["alignment"] < ends["uniform"]["alignment"]
    assert ends["both"]["uniformity"] < ends["align"]["uniformity"] - 0.5
