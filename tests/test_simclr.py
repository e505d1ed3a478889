"""NT-Xent against lightly and a loop, its closed forms and invariances; the model by hand; a few steps of training."""

import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from torch import nn

from minilip.evaluation import latent_r2
from minilip.nn import ConvNet
from minilip.simclr import SimCLR, StructuredSimCLR, nt_xent
from minilip.training import fit
from tests.helpers import vectors


def by_loops(z1, z2, temperature):
    z, b, total = [*z1, *z2], len(z1), 0.0
    for i in range(2 * b):
        others = [float(z[i] @ z[j]) / temperature for j in range(2 * b) if j != i]
        partner = float(z[i] @ z[(i + b) % (2 * b)]) / temperature
        total += math.log(sum(math.exp(s - partner) for s in others))
    return total / (2 * b)


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("batch", [2, 7, 40])
def test_value_and_gradient_equal_lightly(batch, temperature):
    x = [vectors(batch, 6, seed, length=1.7).requires_grad_() for seed in (0, 1)]
    ours = nt_xent(F.normalize(x[0], dim=1), F.normalize(x[1], dim=1), temperature)
    theirs = NTXentLoss(temperature=temperature)(*x)  # makes unit vectors itself
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
    for got, want in zip(torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x), strict=True):
        torch.testing.assert_close(got, want, atol=1e-10, rtol=0)


@pytest.mark.parametrize("length", [0.5, 1.0, 3.0])
def test_vectors_are_taken_as_they_are(length):
    z1, z2 = vectors(5, 4, 0, length), vectors(5, 4, 1, length)
    assert float(nt_xent(z1, z2, 0.3)) == pytest.approx(by_loops(z1, z2, 0.3), abs=1e-10)


@pytest.mark.parametrize("batch", [2, 5, 33])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_constants(batch, temperature):
    same, eye = torch.ones(batch, 3, dtype=torch.double), torch.eye(batch, dtype=torch.double)
    assert float(nt_xent(same, same, temperature)) == pytest.approx(math.log(2 * batch - 1), abs=1e-12)
    apart = math.log(1 + (2 * batch - 2) * math.exp(-1 / temperature))
    assert float(nt_xent(eye, eye, temperature)) == pytest.approx(apart, abs=1e-12)


def test_neither_the_order_of_the_views_nor_of_the_pictures_counts():
    z1, z2, order = vectors(8, 5), vectors(8, 5, 1), torch.randperm(8, generator=torch.Generator().manual_seed(0))
    value = nt_xent(z1, z2, 0.2)
    some = torch.tensor([True, False, False, True, True, False, True, False])[:, None]
    for x, y in ((z2, z1), (z1[order], z2[order]), (torch.where(some, z1, z2), torch.where(some, z2, z1))):
        torch.testing.assert_close(nt_xent(x, y, 0.2), value)
    assert abs(float(nt_xent(z1, z2[order], 0.2) - value)) > 0.1


# ---- gradients and precision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,)])
def test_gradcheck_through_the_temperature(shape):
    z1, z2 = (vectors(4, 3, seed).requires_grad_() for seed in (0, 1))
    temperature = torch.full(shape, 0.3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(nt_xent, (z1, z2, temperature))


def test_finite_at_temperature_one_hundredth():
    z1 = vectors(16, 8, dtype=torch.float32)
    for z2 in (z1, -z1, vectors(16, 8, 1, dtype=torch.float32)):
        x = [z.clone().requires_grad_() for z in (z1, z2)]
        loss = nt_xent(*x, 0.01)
        assert all(v.isfinite().all() for v in (loss, *torch.autograd.grad(loss, x)))
        assert float(loss.detach()) == pytest.approx(by_loops(z1.double(), z2.double(), 0.01), rel=1e-4, abs=1e-5)


def test_half_precision_and_autocast_are_computed_in_float32():
    z1, z2 = vectors(16, 8, dtype=torch.float32), vectors(16, 8, 1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = nt_xent(z1, z2, 0.02)
    assert inside.dtype == torch.float32 and torch.equal(inside, nt_xent(z1, z2, 0.02))
    half = [z.bfloat16().requires_grad_() for z in (z1, z2)]
    loss = nt_xent(*half, 0.02)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nt_xent(*(z.detach().float() for z in half), 0.02))
    assert all(g.dtype == torch.bfloat16 and g.isfinite().all() for g in torch.autograd.grad(loss, half))


@pytest.mark.parametrize(
    "z1, z2, temperature, message",
    [
        (torch.ones(1, 3), torch.ones(1, 3), 1.0, "z1: expected a batch of at least 2"),
        (torch.ones(3, 3), torch.ones(2, 3), 1.0, "z2: expected the shape of z1"),
        (torch.ones(3), torch.ones(3), 1.0, r"z1: expected shape \(B, D\)"),
        (torch.ones(2, 3), torch.ones(2, 3).double(), 1.0, "z2: expected the dtype of z1"),
        (torch.ones(2, 3), torch.full((2, 3), math.nan), 1.0, "z2: expected finite numbers"),
        (torch.ones(2, 3), torch.ones(2, 3), 0.0, "temperature: expected a finite number above 0"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.ones(2), "temperature: expected one number"),
    ],
)
def test_bad_input_is_refused(z1, z2, temperature, message):
    with pytest.raises(ValueError, match=message):
        nt_xent(z1, z2, temperature)


# ---- the model -------------------------------------------------------------------------------------------------------


def pictures(batch=6, size=16, seed=0):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def make(**kwargs):
    torch.manual_seed(0)
    return SimCLR(ConvNet(4), dim=5, **kwargs)


def test_what_is_kept_comes_before_the_head():
    model = make().eval()
    h, z = model(pictures()), model.project(pictures())
    torch.testing.assert_close(h, model.tower(pictures()))
    assert h.shape == (6, 16) and z.shape == (6, 5)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(6))


@pytest.mark.parametrize("hidden, width", [(None, 16), (7, 7)])
def test_the_head_is_two_linear_layers_each_with_batchnorm_the_last_without_bias(hidden, width):
    layers = list(make(hidden=hidden).head)
    assert [type(x) for x in layers] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d]
    assert layers[0].weight.shape == (width, 16) and layers[3].weight.shape == (5, width)
    assert layers[0].bias is layers[3].bias is layers[4].bias is None
    assert layers[1].bias is not None and layers[4].weight is not None


def test_the_loss_and_accuracy_of_a_batch_by_hand():
    model = make(temperature=0.4).train()
    x1, x2 = pictures(), 0.5 * pictures() + 0.5 * pictures(seed=1)
    loss, metrics = model.loss((x1, x2))
    h = model.tower(torch.cat([x1, x2]))  # both views in one batch, for BatchNorm
    a = h @ model.head[0].weight.T
    a = ((a - a.mean(0)) / (a.var(0, unbiased=False) + 1e-5).sqrt()).relu()  # gain 1 and shift 0 at the start
    z = a @ model.head[3].weight.T
    z = F.normalize((z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt(), dim=1).detach().double()
    assert float(loss.detach()) == pytest.approx(by_loops(z[:6], z[6:], 0.4), rel=1e-4)
    found = 0
    for i in range(12):
        nearest = max((j for j in range(12) if j != i), key=lambda j: float(z[i] @ z[j]))
        found += nearest == (i + 6) % 12
    assert 0 < found < 12 and metrics["accuracy"] == pytest.approx(found / 12)


def test_views_that_do_not_fit_are_refused():
    for views in ((pictures(3), pictures(4)), (pictures(1), pictures(1)), (pictures(2, 16), pictures(2, 24))):
        with pytest.raises(ValueError, match="views: expected two of one shape"):
            make().loss(views)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"hidden": 0}, {"dim": 0}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="expected .* got"):
        SimCLR(ConvNet(4), **wrong)


def test_training_lowers_the_loss_and_finds_the_partners():
    def batches(generator):
        x = torch.rand(24, 3, 1, 1, generator=generator).expand(24, 3, 16, 16)  # a colour; its views differ in grain
        return tuple(x + 0.3 * torch.randn(x.shape, generator=generator) for _ in range(2))

    history = fit(make(), batches, steps=40, progress=False)
    first, last = (sum(x) / 5 for x in (history.loss[:5], history.loss[-5:]))
    assert last < first - 0.3
    assert sum(history.metrics["accuracy"][-5:]) > sum(history.metrics["accuracy"][:5])


# ---- a second oracle -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("batch", [2, 9])
def test_value_and_gradient_equal_pytorch_metric_learning(batch, temperature):
    from pytorch_metric_learning import losses

    x = [vectors(batch, 6, seed).requires_grad_() for seed in (0, 1)]
    ours = nt_xent(*x, temperature)
    both = losses.NTXentLoss(temperature=temperature)
    pictures = torch.arange(batch)
    theirs = both(torch.cat(x), torch.cat([pictures, pictures]))  # unit vectors in, so that its own normalising rests
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
    # Its gradient is that of the normalised vectors: compare what is left of ours at right angles to each.
    for z, got, want in zip(x, torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x), strict=True):
        along = (got * z.detach()).sum(dim=1, keepdim=True) * z.detach()
        torch.testing.assert_close(got - along, want, atol=1e-10, rtol=0)


def test_the_released_code_returns_twice_the_loss():
    z1, z2, tau = vectors(6, 4), vectors(6, 4, 1), 0.3
    own, ab = torch.arange(6), z1 @ z2.T / tau
    aa, bb = ((z @ z.T / tau).fill_diagonal_(-1e9) for z in (z1, z2))
    released = F.cross_entropy(torch.cat([ab, aa], 1), own) + F.cross_entropy(torch.cat([ab.T, bb], 1), own)
    assert float(released) == pytest.approx(2 * float(nt_xent(z1, z2, tau)), abs=1e-10)


# ---- a space for every style -----------------------------------------------------------------------------------------


def structured(styles=2, **kwargs):
    torch.manual_seed(0)
    return StructuredSimCLR(ConvNet(4), styles, dim=3, **kwargs)


def test_the_structured_loss_is_that_of_content_and_the_mean_of_joined_spaces():
    model = structured(temperature=0.4).double().eval()
    batch = tuple(pictures(5, seed=seed).double() for seed in range(4))
    with torch.no_grad():
        loss, metrics = model.loss(batch)
    z = [model.project(x).detach() for x in batch]  # (3, 5, 3) each

    def joined(m):
        return [torch.cat([view[0], view[m]], dim=1) for view in (z[0], z[m + 1])]

    content = by_loops(z[0][0], z[1][0], 0.4)
    styles = [by_loops(*joined(m), 0.4) for m in (1, 2)]
    assert float(metrics["content"]) == pytest.approx(content, abs=1e-9)
    assert float(metrics["style"]) == pytest.approx(sum(styles) / 2, abs=1e-9)
    assert float(loss) == pytest.approx(content + sum(styles) / 2, abs=1e-9)
    torch.testing.assert_close(z[0].norm(dim=2), torch.ones(3, 5, dtype=torch.double))


def test_the_spaces_have_heads_of_their_own_on_one_tower():
    model = structured(3)
    assert len(model.heads) == 4
    first = {id(p) for p in model.heads[0].parameters()}
    assert not first & {id(p) for p in model.heads[1].parameters()}
    assert len({id(p) for p in model.parameters()}) == len(list(model.parameters()))  # the tower is counted once
    assert model.eval()(pictures()).shape == (6, 16) and model.project(pictures()).shape == (4, 6, 3)


def test_a_style_that_is_shared_goes_to_its_space_and_one_that_is_not_leaves_the_content():
    def batches(generator):
        def level():
            return torch.rand(24, 1, 1, 1, generator=generator)

        def view(*causes):  # content is red, the styles are green and blue
            return torch.cat(causes, dim=1).expand(24, 3, 8, 8).contiguous()

        content, one, two = level(), level(), level()
        different = view(content, level(), level())
        return view(content, one, two), different, view(content, one, level()), view(content, level(), two)

    torch.manual_seed(0)
    model = StructuredSimCLR(ConvNet(8), 2, dim=3, temperature=0.3)
    fit(model, batches, steps=200, lr=5e-3, progress=False)
    x = torch.rand(200, 3, 1, 1, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        z = model.project(x.expand(200, 3, 8, 8))  # (3, 200, 3)
    read = [[latent_r2(s[:120], x[:120, c, 0], s[120:], x[120:, c, 0]) for c in range(3)] for s in z]
    assert read[0][0] > 0.7 and max(read[0][1:]) < 0.4
    assert read[1][1] > 0.5 > 0.4 > read[1][2] and read[2][2] > 0.5 > 0.4 > read[2][1]


def test_views_and_settings_of_the_structured_loss_that_do_not_fit_are_refused():
    model, x = structured(), pictures(3)
    for batch in ((x, x), (x,) * 5, x, (x, x, x, pictures(4))):
        with pytest.raises(ValueError, match="expected"):
            model.loss(batch)
    with pytest.raises(ValueError, match="styles"):
        structured(0)
