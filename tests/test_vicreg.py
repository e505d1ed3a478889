"""VICReg's terms against lightly, numpy and closed forms; what they do not notice; the model by hand; some training."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss import VICRegLoss
from torch import nn

from minilip.nn import ConvNet
from minilip.training import fit
from minilip.vicreg import VICReg, vicreg_loss, vicreg_terms


def two(batch, dim, length=0.8, dtype=torch.double):
    generator = torch.Generator().manual_seed(batch + dim)
    return [(length * torch.randn(batch, dim, generator=generator, dtype=torch.double)).to(dtype) for _ in range(2)]


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 7.0), (0.0, 3.0, 0.5)])
@pytest.mark.parametrize("batch, dim", [(2, 5), (7, 1), (9, 9), (40, 12)])
def test_value_and_gradient_equal_lightly(batch, dim, weights):
    x = [z.requires_grad_() for z in two(batch, dim)]
    ours, theirs = vicreg_loss(*x, *weights), VICRegLoss(*weights)(*x)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
    for got, want in zip(torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x), strict=True):
        torch.testing.assert_close(got, want, atol=1e-10, rtol=0)


@pytest.mark.parametrize("batch, dim", [(3, 5), (9, 9), (40, 12)])
def test_value_and_gradient_equal_pytorch_metric_learning(batch, dim):
    from pytorch_metric_learning import losses

    x = [z.requires_grad_() for z in two(batch, dim)]
    ours, theirs = vicreg_loss(*x), losses.VICRegLoss(eps=1e-4)(x[0], ref_emb=x[1])
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
    for got, want in zip(torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x), strict=True):
        torch.testing.assert_close(got, want, atol=1e-10, rtol=0)


def test_independent_dimensions_cost_what_the_batch_makes_them_cost():
    generator = torch.Generator().manual_seed(0)
    for batch, dim in ((8, 6), (64, 3)):
        draws = torch.randn(600, 2, batch, dim, generator=generator, dtype=torch.double)
        c = torch.stack([vicreg_terms(*xy)[2] for xy in draws])
        error = float(c.std()) / len(c) ** 0.5
        assert abs(float(c.mean()) - 2 * (dim - 1) / (batch - 1)) < 5 * error


@pytest.mark.parametrize("batch, dim", [(2, 5), (9, 6), (40, 12)])
def test_each_term_equals_numpy(batch, dim):
    x, y = two(batch, dim)
    s, v, c = vicreg_terms(x, y)
    assert float(s) == pytest.approx(np.mean((x.numpy() - y.numpy()) ** 2), abs=1e-12)
    hinges, squares = 0.0, 0.0
    for z in (x.numpy(), y.numpy()):
        hinges += np.mean([max(0.0, 1 - math.sqrt(np.var(column, ddof=1) + 1e-4)) for column in z.T])
        C = np.cov(z.T)
        squares += sum(C[d, e] ** 2 for d in range(dim) for e in range(dim) if d != e) / dim
    assert float(v) == pytest.approx(hinges / 2, abs=1e-12)  # halved
    assert float(c) == pytest.approx(squares, abs=1e-12)  # not halved
    assert float(vicreg_loss(x, y)) == pytest.approx(25 * float(s) + 25 * float(v) + float(c), abs=1e-10)


@pytest.mark.parametrize("point", [0.0, -3.0])
def test_collapse_costs_24_75(point):
    x = torch.full((6, 4), point, dtype=torch.double, requires_grad=True)
    loss = vicreg_loss(x, x)
    assert float(loss.detach()) == pytest.approx(24.75, abs=1e-12)
    assert torch.autograd.grad(loss, x)[0].isfinite().all()


def test_signs_that_never_repeat_each_other_cost_nothing():
    x = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.double)  # variances 4/3
    assert [float(t) for t in vicreg_terms(x, x)] == [0, 0, 0]
    twice = x[:, [0, 0]]  # C_12 = 4/3, so each view costs 2 (4/3)^2 / 2
    assert [float(t) for t in vicreg_terms(twice, twice)] == pytest.approx([0, 0, 2 * (4 / 3) ** 2])
    assert [float(t) for t in vicreg_terms(x, -x)] == pytest.approx([4, 0, 0])


def test_what_the_terms_do_not_notice():
    x, y = two(9, 6)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    signs = torch.tensor([1, -1, -1, 1, 1, -1])
    same = [(y, x), (x[order], y[order]), (x.flip(1), y.flip(1)), (signs * x, signs * y), (x + 2, y + 2)]
    for pair in same:
        torch.testing.assert_close(vicreg_terms(*pair), vicreg_terms(x, y))
    (s, *others), (moved, *kept) = vicreg_terms(x, y), vicreg_terms(x, y + 2)
    assert abs(float(moved - s)) > 0.1
    torch.testing.assert_close(kept, others)
    assert abs(float(vicreg_loss(x, y[order]) - vicreg_loss(x, y))) > 0.1


# ---- gradients and precision -----------------------------------------------------------------------------------------


def test_gradcheck():
    x = [z.requires_grad_() for z in two(5, 4)]
    assert torch.autograd.gradcheck(vicreg_loss, x)
    assert torch.autograd.gradcheck(vicreg_terms, x)


def test_half_precision_and_autocast_are_computed_in_float32():
    x = two(16, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = vicreg_loss(*x)
    assert inside.dtype == torch.float32 and torch.equal(inside, vicreg_loss(*x))
    half = [z.bfloat16().requires_grad_() for z in x]
    loss = vicreg_loss(*half)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, vicreg_loss(*(z.detach().float() for z in half)))
    assert all(g.dtype == torch.bfloat16 and g.isfinite().all() for g in torch.autograd.grad(loss, half))


@pytest.mark.parametrize("function", [vicreg_terms, vicreg_loss])
@pytest.mark.parametrize(
    "x, y, message",
    [
        (torch.ones(1, 3), torch.ones(1, 3), "x: expected a batch of at least 2"),
        (torch.ones(3, 3), torch.ones(2, 3), "y: expected the shape of x"),
        (torch.ones(3), torch.ones(3), r"x: expected shape \(B, D\)"),
        (torch.ones(2, 3), torch.full((2, 3), math.inf), "y: expected finite numbers"),
    ],
)
def test_bad_embeddings_are_refused(function, x, y, message):
    with pytest.raises(ValueError, match=message):
        function(x, y)


@pytest.mark.parametrize("name", ["invariance", "variance", "covariance"])
@pytest.mark.parametrize("weight", [-1.0, math.nan])
def test_bad_weights_are_refused_by_name(name, weight):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        vicreg_loss(*two(3, 3), **{name: weight})
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        VICReg(ConvNet(4), **{name: weight})


# ---- the model -------------------------------------------------------------------------------------------------------


def pictures(batch=6, size=16, seed=0):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def make(**kwargs):
    torch.manual_seed(0)
    return VICReg(ConvNet(4), dim=12, **kwargs)


def test_what_is_kept_comes_before_the_expander():
    model = make().eval()
    torch.testing.assert_close(model(pictures()), model.tower(pictures()))
    assert model(pictures()).shape == (6, 16) and model.expand(pictures()).shape == (6, 12)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [type(x) for x in model.expander] == kinds and model.expander[-1].bias is None


def test_the_loss_of_a_batch_by_hand():
    model = make(invariance=3.0, variance=5.0, covariance=0.5).train()
    views = pictures(), pictures(seed=1)
    loss, metrics = model.loss(views)

    def expand(x):  # each view a batch of its own, for BatchNorm; gain 1 and shift 0 at the start
        x = model.tower(x)
        for i in (0, 3):
            x = x @ model.expander[i].weight.T
            x = F.relu((x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt())
        return x @ model.expander[6].weight.T

    x, y = (expand(v).detach().double() for v in views)
    assert float(loss.detach()) == pytest.approx(float(VICRegLoss(3.0, 5.0, 0.5)(x, y)), rel=1e-4)
    terms = [float(t) for t in vicreg_terms(x, y)]
    assert list(metrics) == ["invariance", "variance", "covariance"]
    assert list(metrics.values()) == pytest.approx(terms, rel=1e-3)


def test_views_and_settings_that_do_not_fit_are_refused():
    for views in ((pictures(3), pictures(4)), (pictures(1), pictures(1))):
        with pytest.raises(ValueError, match="views: expected two of one shape"):
            make().loss(views)
    with pytest.raises(ValueError, match="dim: expected a whole number"):
        VICReg(ConvNet(4), dim=0)


def colours(generator):
    x = torch.rand(24, 3, 1, 1, generator=generator).expand(24, 3, 16, 16)  # a colour; its views differ in grain
    return tuple(x + 0.3 * torch.randn(x.shape, generator=generator) for _ in range(2))


def test_training_lowers_the_loss():
    history = fit(make(), colours, steps=40, progress=False)
    assert sum(history.loss[-5:]) < 0.9 * sum(history.loss[:5])


def test_without_the_variance_term_the_embeddings_collapse():
    kept, lost = (fit(make(variance=weight), colours, steps=40, progress=False).metrics for weight in (25.0, 0.0))
    assert lost["variance"][-1] > lost["variance"][0] and kept["variance"][-1] < lost["variance"][-1] - 0.1
