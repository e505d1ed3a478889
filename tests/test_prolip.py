"""ProLIP: distances by sampling, overlaps by quadrature, KL by torch, the loss by open_clip; what is inside what."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from open_clip.loss import SigLipLoss
from scipy.integrate import dblquad, quad
from torch.distributions import Normal, kl_divergence

from minilip.clip import zero_shot_classifier
from minilip.nn import BagOfWords, ConvNet, TextTransformer, ViT
from minilip.nn.tokenizer import Tokenizer
from minilip.prolip import (
    ProLIP,
    clip_norm,
    csd,
    inclusion,
    inclusion_difference,
    inclusion_loss,
    ppcl_loss,
    projection_residual,
    reparametrise,
    vib_loss,
)
from minilip.training import fit
from tests.helpers import gaussians, seeded


def two(batch=4, dim=3, unit=False):
    return *gaussians(batch, dim, 0, unit), *gaussians(batch, dim, 1, unit)


def density(x, mu, logvar):
    return math.exp(-((x - mu) ** 2) / (2 * math.exp(logvar))) / math.sqrt(2 * math.pi * math.exp(logvar))


def log_integral(mu1, l1, mu2, l2):
    """log of the integral of p1^2 p2 in one dimension, by quadrature in units of the narrowest factor."""
    centre = (2 * mu1 * math.exp(-l1) + mu2 * math.exp(-l2)) / (2 * math.exp(-l1) + math.exp(-l2))
    width = (2 * math.exp(-l1) + math.exp(-l2)) ** -0.5

    def integrand(u):
        x = centre + width * u
        return width * density(x, mu1, l1) ** 2 * density(x, mu2, l2)

    return math.log(quad(integrand, -12, 12, epsabs=0, epsrel=1e-13)[0])


# ---- samples and distances -------------------------------------------------------------------------------------------


def test_samples_have_the_mean_and_the_variance():
    mu, logvar = gaussians(1, 4)
    z = reparametrise(mu.expand(100_000, 4), logvar.expand(100_000, 4), seeded(0))
    sd = (logvar / 2).exp()[0]
    assert ((z.mean(dim=0) - mu[0]).abs() < 5 * sd / 100_000**0.5).all()
    assert ((z.std(dim=0) / sd - 1).abs() < 5 / 200_000**0.5).all()


def test_the_gradient_of_a_sample_is_the_noise_it_was_made_of():
    mu, logvar = (x.requires_grad_() for x in gaussians(5, 3))
    z = reparametrise(mu, logvar, seeded(0))
    to_mu, to_logvar = torch.autograd.grad(z.sum(), (mu, logvar))
    assert torch.equal(to_mu, torch.ones_like(mu))
    torch.testing.assert_close(to_logvar, (z - mu) / 2)
    assert torch.equal(z, reparametrise(mu, logvar, seeded(0)))
    assert not torch.equal(z, reparametrise(mu, logvar, seeded(1)))


def test_csd_is_the_mean_squared_distance_of_samples():
    mu1, logvar1, mu2, logvar2 = *gaussians(2, 5), *gaussians(3, 5, 1)
    want = csd(mu1, logvar1, mu2, logvar2)
    assert want.shape == (2, 3)
    n = 100_000
    for i in range(2):
        for j in range(3):
            z1 = reparametrise(mu1[i].expand(n, 5), logvar1[i].expand(n, 5), seeded(10 * i + j))
            z2 = reparametrise(mu2[j].expand(n, 5), logvar2[j].expand(n, 5), seeded(100 + 10 * i + j))
            d = (z1 - z2).square().sum(dim=1)
            assert abs(d.mean() - want[i, j]) < 5 * d.std() / n**0.5


def test_csd_without_variance_is_the_squared_distance():
    mu1, _, mu2, _ = two()
    none = torch.full_like(mu1, -80.0)
    torch.testing.assert_close(csd(mu1, none, mu2, none), torch.cdist(mu1, mu2).square())


# ---- the pairwise loss -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_ppcl_without_variance_is_open_clips_siglip(scale):
    mu1, _, mu2, _ = (x.requires_grad_() for x in two(7, 5, unit=True))
    none = torch.full_like(mu1, -80.0)
    s, b = (torch.tensor(x, dtype=torch.double, requires_grad=True) for x in (scale, -3.0))
    ours, theirs = ppcl_loss(mu1, none, mu2, none, s, b), SigLipLoss()(mu1, mu2, s, b)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for x in (s, b):
        torch.testing.assert_close(*(torch.autograd.grad(y, x, retain_graph=True)[0] for y in (ours, theirs)))
    for x in (mu1, mu2):  # on the sphere: a squared distance and a cosine differ in the direction of the mean itself
        g = [torch.autograd.grad(y, x, retain_graph=True)[0] for y in (ours, theirs)]
        along = [y - (y * x).sum(dim=1, keepdim=True) * x for y in g]
        torch.testing.assert_close(*along)


def test_a_variance_that_all_share_is_a_bias():
    mu1, _, mu2, _ = two(6, 4, unit=True)
    logvar1, logvar2 = torch.full_like(mu1, math.log(0.03)), torch.full_like(mu1, math.log(0.05))
    got = ppcl_loss(mu1, logvar1, mu2, logvar2, 9.0, -2.0)
    want = SigLipLoss()(mu1, mu2, 9.0, -2.0 - 9.0 * 4 * (0.03 + 0.05) / 2)
    torch.testing.assert_close(got, want)


def test_the_variance_of_an_item_grows_where_more_matches_are_predicted_than_there_are():
    mu1, logvar1, mu2, logvar2 = two(6, 4, unit=True)
    s, b = 5.0, -1.0
    loss = ppcl_loss(mu1, logvar1.requires_grad_(), mu2, logvar2, s, b)
    got = torch.autograd.grad(loss, logvar1)[0] / logvar1.exp()  # dL/dv, the same in every dimension
    predicted = torch.sigmoid(s * (1 - csd(mu1, logvar1, mu2, logvar2) / 2) + b).sum(dim=1)
    torch.testing.assert_close(got, (s / 2 * (1 - predicted) / 6).detach()[:, None].expand(6, 4))


def test_ppcl_of_the_released_model_at_its_start():
    mu1, mu2 = torch.eye(768)[:64], torch.eye(768)[64:128]
    logvar = torch.full_like(mu1, -10.0)
    shift = 768 * math.exp(-10) / 0.07
    want = math.log1p(math.exp(10 + shift)) + 63 * math.log1p(math.exp(-10 - shift))
    assert want == pytest.approx(10.5, abs=0.01)
    assert float(ppcl_loss(mu1, logvar, mu2, logvar, 1 / 0.07, -10.0)) == pytest.approx(want, rel=1e-5)


# ---- inclusion -------------------------------------------------------------------------------------------------------

SETTINGS = [
    (0.0, 0.0, 0.0, 0.0),
    (0.3, -1.0, -0.5, 0.7),
    (-0.5, 0.7, 0.3, -1.0),
    (2.0, 1.5, -1.0, -2.0),
    (0.1, -7.0, 0.2, -6.0),
    (0.1, -3.0, 0.1, 4.0),
    (1.0, 2.0, 3.0, 2.0),
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_inclusion_is_the_logarithm_of_the_integral(setting):
    got = inclusion(*(torch.tensor([[x]], dtype=torch.double) for x in setting))
    assert got.item() == pytest.approx(log_integral(*setting), abs=1e-10)


def test_dimensions_add_up():
    columns = [torch.tensor(column, dtype=torch.double)[None] for column in zip(*SETTINGS, strict=True)]  # (1, 7) each
    assert inclusion(*columns).item() == pytest.approx(sum(log_integral(*s) for s in SETTINGS), abs=1e-9)
    a, b = SETTINGS[1], SETTINGS[3]

    def integrand(y, x):
        p1 = density(x, *a[:2]) * density(y, *b[:2])
        return p1**2 * density(x, *a[2:]) * density(y, *b[2:])

    plane = dblquad(integrand, -8, 8, -10, 10, epsabs=0, epsrel=1e-9)[0]
    assert inclusion(*(x[:, [1, 3]] for x in columns)).item() == pytest.approx(math.log(plane), abs=1e-7)


@given(*[st.floats(-3, 3)] * 4)
def test_the_sign_of_the_difference_in_one_dimension_is_the_order_of_the_variances(mu1, l1, mu2, l2):
    mu1, l1, mu2, l2 = (torch.tensor([[x]], dtype=torch.double) for x in (mu1, l1, mu2, l2))
    H = inclusion_difference(mu1, l1, mu2, l2)
    torch.testing.assert_close(H, -inclusion_difference(mu2, l2, mu1, l1))
    torch.testing.assert_close(H, inclusion(mu1, l1, mu2, l2) - inclusion(mu2, l2, mu1, l1))
    r, v1, v2 = (l2 - l1).exp(), l1.exp(), l2.exp()
    formula = (r * (r + 2) / (2 * r + 1)).log() / 2 + (mu1 - mu2) ** 2 * (1 / (v2 + 2 * v1) - 1 / (v1 + 2 * v2))
    torch.testing.assert_close(H, formula[:, 0], atol=1e-12, rtol=1e-7)
    if abs(l2 - l1) > 1e-6:
        assert H.sign() == (l2 - l1).sign()
        assert (H * H.sign()) >= (inclusion_difference(mu2, l1, mu2, l2) * H.sign()) - 1e-9  # distance never softens it


def test_in_many_dimensions_the_means_weigh_the_dimensions_against_each_other():
    l1, l2 = torch.tensor([[-2.0, 0.0]]), torch.tensor([[0.0, -2.1]])  # inside in one, outside in the other
    near, far = torch.zeros(1, 2), torch.tensor([[3.0, 0.0]])
    assert inclusion_difference(near, l1, near, l2) < 0 < inclusion_difference(far, l1, near, l2)


def test_the_released_formula_doubles_a_normaliser():
    def released(mu1, l1, mu2, l2):
        a = (-l1).exp() + (-l2).exp() / 2
        b = 2 * mu1 * (-l1).exp() + mu2 * (-l2).exp()
        c = mu1**2 * (-l1).exp() + mu2**2 * (-l2).exp() / 2
        return (-2 * l1 - l2 - a.log() / 2 + b**2 / (4 * a) - c).sum(dim=1)

    x = mu1, l1, mu2, l2 = two()
    constant = 3 * (math.log(math.pi) - 3 * math.log(2 * math.pi)) / 2
    torch.testing.assert_close(released(*x) + constant, inclusion(*x) - (l1 + l2 / 2).sum(dim=1))
    over = released(*x) - released(mu2, l2, mu1, l1) - inclusion_difference(*x)
    torch.testing.assert_close(over, (l2 - l1).sum(dim=1) / 2)


def test_the_inclusion_loss_is_a_hinge_on_every_dimension():
    mu1, l1, mu2, l2 = two(5, 4)
    H = torch.stack(
        [inclusion_difference(*(x[:, d : d + 1] for x in (mu1, l1, mu2, l2))) for d in range(4)], dim=1
    )  # (B, D)
    want = sum(math.log1p(math.exp(-2 * h)) for h in H.flatten().tolist()) / 20
    assert float(inclusion_loss(mu1, l1, mu2, l2, scale=2.0, eps=0.0)) == pytest.approx(want)
    steep = inclusion_loss(mu1, l1, mu2, l2, scale=1e5, eps=0.0)
    torch.testing.assert_close(steep, 1e5 * (-H).clamp(min=0).mean(), rtol=1e-6, atol=0)
    assert float(inclusion_loss(mu1, l1, mu1, l1)) == pytest.approx(math.log(2))
    assert float(inclusion_loss(mu1, l1, mu2, l1 + 1)) < 1e-9 < 300 < float(inclusion_loss(mu1, l1 + 1, mu2, l1))


def test_eps_widens_both_and_so_hides_the_means():
    mu1, l1, mu2, l2 = two(6, 8, unit=True)
    l1, l2 = 0.3 * l1 - 7, 0.3 * l2 - 7
    torch.testing.assert_close(
        inclusion_loss(mu1, l1, mu2, l2, 1.0, -3.0), inclusion_loss(mu1, l1 + 3, mu2, l2 + 3, 1.0, 0.0)
    )
    mu1, l1 = mu1.requires_grad_(), l1.requires_grad_()
    share = {}
    for eps in (0.0, -20.0):
        to_mu, to_l = torch.autograd.grad(inclusion_loss(mu1, l1, mu2, l2, eps=eps), (mu1, l1))
        share[eps] = float(to_mu.norm() / to_l.norm())
    assert share[0.0] > 1 and share[-20.0] < 1e-4


@pytest.mark.parametrize("wider, direction", [(1.0, -1), (-1.0, 1)])
def test_without_eps_means_move_apart_where_variances_are_in_order_and_together_where_not(wider, direction):
    mu1, mu2 = torch.tensor([[0.1]], requires_grad=True), torch.zeros(1, 1)
    logvar = torch.full((1, 1), -2.0)
    inclusion_loss(mu1, logvar, mu2, logvar + wider, scale=1.0, eps=0.0).backward()
    assert mu1.grad.sign() == direction  # mu1 is right of mu2: downhill is away from it where the slope is negative


# ---- the bottleneck --------------------------------------------------------------------------------------------------


def test_vib_is_the_kl_divergence_of_torch():
    mu, logvar = gaussians(6, 5)
    want = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(dim=1).mean()
    torch.testing.assert_close(vib_loss(mu, logvar), want)
    assert float(vib_loss(torch.zeros(2, 3), torch.zeros(2, 3))) == 0.0


# ---- a subspace and a ball -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_residual_is_that_of_least_squares(k):
    t, basis = gaussians(4, 6)[0], gaussians(k, 6, 1)[0]
    for i, r in enumerate(projection_residual(t, basis)):
        fit_ = np.linalg.lstsq(basis.T.numpy(), t[i].numpy(), rcond=None)[0] @ basis.numpy()
        assert float(r) == pytest.approx(np.linalg.norm(t[i].numpy() - fit_), rel=1e-10)


def test_the_residual_belongs_to_the_subspace_and_not_to_its_basis():
    t, basis, mix = gaussians(4, 6)[0], gaussians(3, 6, 1)[0], gaussians(3, 3, 2)[0]
    torch.testing.assert_close(projection_residual(t, mix @ basis), projection_residual(t, basis))
    torch.testing.assert_close(projection_residual(3 * t + basis[:1], basis), 3 * projection_residual(t, basis))
    assert (projection_residual(mix @ basis, basis) < 1e-12).all()
    assert (projection_residual(t, torch.eye(6, dtype=torch.double)) < 1e-12).all()
    axes = torch.eye(6, dtype=torch.double)
    torch.testing.assert_close(projection_residual(t, axes[:2]), t[:, 2:].norm(dim=1))


def test_the_residual_of_almost_parallel_vectors():
    t, basis = gaussians(4, 6)[0].float(), gaussians(2, 6, 1)[0].float()
    almost = torch.stack([basis[0], basis[0] + 1e-3 * basis[1]])
    torch.testing.assert_close(projection_residual(t, almost), projection_residual(t, basis), rtol=2e-3, atol=0)


def test_clip_norm_meets_the_conditions_of_lagrange():
    v = torch.tensor([0.0, 0.3, 1.0, 4.0, 90.0], dtype=torch.double)[:, None] * gaussians(5, 3, unit=True)[0]
    u = clip_norm(v, 2.0)
    # u minimises |u - v|^2 / 2 + multiplier (|u|^2 - gamma^2) / 2: slope 0, multiplier >= 0, one of the two is 0
    multiplier = (v.norm(dim=1) / 2.0 - 1).clamp(min=0)
    torch.testing.assert_close(u - v + multiplier[:, None] * u, torch.zeros_like(u))
    assert (u.norm(dim=1) <= 2.0 + 1e-12).all()
    assert (multiplier * (u.norm(dim=1) - 2.0)).abs().max() < 1e-10
    assert torch.equal(u[:3], v[:3]) and torch.equal(clip_norm(u, 2.0 + 1e-9), u)


# ---- gradients, precision, bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        csd,
        lambda *x: ppcl_loss(*x, 3.0, -1.0),
        inclusion,
        inclusion_difference,
        lambda *x: inclusion_loss(*x, scale=2.0, eps=0.0),
        lambda *x: inclusion_loss(*x, scale=2.0, eps=-1.0),
        lambda *x: vib_loss(*x[:2]),
        lambda *x: reparametrise(*x[:2], seeded(0)),
        lambda *x: projection_residual(x[0], x[2][:2]),
        lambda *x: clip_norm(x[0], 1.5),
    ],
)
def test_gradcheck(function):
    assert torch.autograd.gradcheck(function, tuple(x.requires_grad_() for x in two()))


def test_gradcheck_through_scale_and_bias():
    x = two(unit=True)
    s, b = (torch.tensor(v, dtype=torch.double, requires_grad=True) for v in (3.0, -1.0))
    assert torch.autograd.gradcheck(lambda s, b: ppcl_loss(*x, s, b), (s, b))


def test_clip_norm_has_a_gradient_at_zero():
    v = torch.zeros(1, 3, requires_grad=True)
    assert torch.equal(torch.autograd.grad(clip_norm(v, 1.0).sum(), v)[0], torch.ones(1, 3))


FUNCTIONS = [
    csd,
    lambda *x: ppcl_loss(*x, 50.0, -5.0),
    inclusion,
    inclusion_difference,
    inclusion_loss,
    lambda *x: vib_loss(*x[:2]),
    lambda *x: projection_residual(x[0], x[2][:2]),
    lambda *x: clip_norm(x[0], 0.5),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_half_precision_and_autocast_are_computed_in_float32(function):
    x = [y.float() for y in two(6, 8)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = function(*x)
    assert inside.dtype == torch.float32 and torch.equal(inside, function(*x))
    half = [y.bfloat16().requires_grad_() for y in x]
    value = function(*half)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, function(*(y.detach().float() for y in half)))
    gradients = torch.autograd.grad(value.sum(), half, allow_unused=True)
    assert all(g.isfinite().all() and g.dtype == torch.bfloat16 for g in gradients if g is not None)


@pytest.mark.parametrize("function", FUNCTIONS[:6])
@pytest.mark.parametrize("one, other", [(-60.0, -60.0), (-60.0, 60.0), (60.0, -60.0), (60.0, 60.0)])
def test_finite_where_a_variance_is_almost_nothing_or_almost_everything(function, one, other):
    mu, _, mu2, _ = (y.float() for y in two(6, 8, unit=True))
    x = [mu, torch.full_like(mu, one), mu2, torch.full_like(mu, other)]
    value = function(*(y.requires_grad_() for y in x))
    gradients = torch.autograd.grad(value.sum(), x, allow_unused=True)
    assert value.isfinite().all() and all(g.isfinite().all() for g in gradients if g is not None)


@pytest.mark.parametrize("function", FUNCTIONS[:5])
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize(
    "bad",
    [torch.zeros(3), torch.zeros(6, 3), torch.zeros(0, 8), torch.full((6, 8), math.nan), torch.zeros(6, 8).long()],
)
def test_bad_gaussians_are_refused(function, place, bad):
    x = [y.float() for y in two(6, 8)]
    x[place] = bad
    with pytest.raises(ValueError, match=r"^(mu|logvar)[12]: expected .*, got "):
        function(*x)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: ppcl_loss(x[:1], x[:1], x[:1], x[:1], 1.0, 0.0), "mu1: expected a batch of at least 2"),
        (lambda x: ppcl_loss(x, x, x, x, 0.0, 0.0), "logit_scale: expected a finite number above 0"),
        (lambda x: ppcl_loss(x, x, x, x, 1.0, math.inf), "logit_bias: expected a finite number"),
        (lambda x: inclusion_loss(x, x, x, x, scale=-1.0), "scale: expected a finite number above 0"),
        (lambda x: inclusion_loss(x, x, x, x, eps=math.nan), "eps: expected a finite number"),
        (lambda x: vib_loss(x, x[:2]), "logvar: expected the shape of mu"),
        (lambda x: reparametrise(x, x[:2], seeded(0)), "logvar: expected the shape of mu"),
        (lambda x: projection_residual(x, x[:, :2]), "basis: expected at most 3 rows of length 3"),
        (lambda x: projection_residual(x, torch.rand(4, 3)), "basis: expected at most 3 rows"),
        (lambda x: projection_residual(x, x[:1].repeat(2, 1)), "basis: expected linearly independent rows"),
        (lambda x: projection_residual(x, torch.zeros(1, 3)), "basis: expected linearly independent rows"),
        (lambda x: projection_residual(x, torch.stack([x[0], x[1], x[0] - 2 * x[1]])), "linearly independent rows"),
        (lambda x: clip_norm(x, 0.0), "gamma: expected a finite number above 0"),
        (lambda x: clip_norm(x[0], 1.0), "v: expected shape"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.rand(5, 3, generator=seeded(0)))


# ---- the model -------------------------------------------------------------------------------------------------------

SENTENCES = ["a red circle", "a blue square", "a picture of a green star", "a picture"]
TOKENS = Tokenizer(SENTENCES)


def make(image="conv", text="transformer", **kwargs):
    torch.manual_seed(0)
    image_tower = ConvNet(8) if image == "conv" else ViT(32, 8, 16, 2, 2, readouts=2)
    n, length = len(TOKENS), TOKENS.length
    text_tower = BagOfWords(n, 12) if text == "bag" else TextTransformer(n, length, 16, 2, 2, readouts=2)
    return ProLIP(image_tower, text_tower, TOKENS, dim=10, batch=4, **kwargs)


def batch(masked=0):
    images = torch.rand(4, 3, 32, 32, generator=seeded(0))
    plain = images, TOKENS(SENTENCES)
    return plain if not masked else (*plain, (images * 0.5)[:masked], TOKENS(["a [MASK] circle", "a"][:masked]))


@pytest.mark.parametrize("image, text", [("conv", "bag"), ("conv", "transformer"), ("vit", "transformer")])
def test_means_have_length_one_and_everything_learns(image, text):
    model = make(image, text)
    for mu, logvar in (model.image_gaussian(batch()[0]), model.text_gaussian(batch()[1])):
        assert mu.shape == logvar.shape == (4, 10)
        torch.testing.assert_close(mu.norm(dim=1), torch.ones(4))
    model.loss(batch(2))[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("tower", [lambda r: ViT(32, 8, 16, 2, 2, readouts=r), lambda r: _text(r)])
def test_towers_with_one_and_with_two_readouts(tower):
    x = torch.rand(3, 3, 32, 32) if isinstance(tower(1), ViT) else TOKENS(SENTENCES[:3])
    assert tower(1)(x).shape == (3, 16) and tower(1).cls.shape == (16,)
    two_ = tower(2)(x)
    assert two_.shape == (3, 2, 16)
    assert (two_[:, 0] - two_[:, 1]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="readouts: expected a whole number of at least 1"):
        tower(0)


def _text(readouts):
    return TextTransformer(len(TOKENS), TOKENS.length, 16, 2, 2, readouts=readouts)


def test_two_readouts_ignore_padding():
    tower = _text(2).eval()
    tokens = TOKENS(["a red circle"])
    torch.testing.assert_close(tower(tokens), tower(tokens[:, :3]))


def test_the_variance_is_read_at_unc_and_the_mean_at_cls():
    model = make("vit").eval()
    tokens = batch()[1]
    features = model.text_tower(tokens)
    mu, logvar = model.text_gaussian(tokens)
    torch.testing.assert_close(mu, F.normalize(features[:, 0] @ model.text_mean.weight.T, dim=1))
    torch.testing.assert_close(logvar, features[:, 1] @ model.text_logvar.weight.T + model.text_logvar.bias)
    assert torch.equal(model.encode_text(tokens), mu)
    assert torch.equal(model.encode_image(batch()[0]), model.image_gaussian(batch()[0])[0])


@pytest.mark.parametrize("masked", [0, 2])
def test_the_loss_is_the_weighted_sum_of_its_terms(masked):
    model = make(alpha=0.3, beta=0.07).eval()
    total, metrics = model.loss(batch(masked))
    images, tokens, *rest = batch(masked)
    v, t = model.image_gaussian(images), model.text_gaussian(tokens)
    want = ppcl_loss(*v, *t, 1 / 0.07, -math.log(3)) + 0.07 * (vib_loss(*v) + vib_loss(*t))
    want = want + 0.3 * inclusion_loss(*v, *t)
    names = {"ppcl", "image in text", "vib", "logit scale"}
    if masked:
        wide_v, wide_t = model.image_gaussian(rest[0]), model.text_gaussian(rest[1])
        want = want + 0.3 * inclusion_loss(*(x[:2] for x in v), *wide_v)
        want = want + 0.3 * inclusion_loss(*(x[:2] for x in t), *wide_t)
        names |= {"image in masked", "text in masked"}
    torch.testing.assert_close(total, want, rtol=1e-4, atol=1e-4)
    assert set(metrics) == names and all(x.numel() == 1 and not x.requires_grad for x in metrics.values())


@pytest.mark.parametrize("dim", [16, 64, 256])
def test_at_the_start_variances_weigh_less_than_a_logit(dim):
    torch.manual_seed(0)
    model = ProLIP(ConvNet(8), BagOfWords(len(TOKENS), 12), TOKENS, dim=dim).eval()
    s_image = model.image_gaussian(batch()[0])[1].exp().sum(dim=1)
    s_text = model.text_gaussian(batch()[1])[1].exp().sum(dim=1)
    assert float((s_image + s_text).max().detach()) / 2 / 0.07 < 1
    assert float(model.logit_bias.detach()) == pytest.approx(-math.log(255))


def test_log_variances_keep_their_digits_under_autocast():
    model = make("vit").eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mu, logvar = model.image_gaussian(batch()[0])
        loss, _ = model.loss(batch(2))
    assert mu.dtype == logvar.dtype == loss.dtype == torch.float32 and loss.isfinite()
    assert not torch.equal(logvar, logvar.bfloat16().float())


@pytest.mark.parametrize("start, kept", [(-1.0, 1.0), (9.0, 100.0)])
def test_the_scale_stays_between_1_and_100(start, kept):
    model = make()
    with torch.no_grad():
        model.logit_scale.fill_(start)
    assert model.loss(batch())[1]["logit scale"] == pytest.approx(kept, rel=1e-5)


def test_it_trains_and_orders_what_it_is_told_to_order():
    model = make(text="transformer")
    history = fit(model, lambda g: batch(2), steps=60, lr=3e-3, bf16=False, progress=False)
    assert history.metrics["ppcl"][-1] < 0.5 * history.metrics["ppcl"][0]
    with torch.no_grad():
        whole = model.text_gaussian(batch(2)[1][:2])[1]
        masked = model.text_gaussian(batch(2)[3])[1]
    assert (masked > whole).float().mean() > 0.9


def test_a_classifier_made_of_words():
    W = zero_shot_classifier(make(), ["circle", "square"], ["a red {}", "a {}"])
    torch.testing.assert_close(W.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    "change",
    [lambda i, t: (i, t[:3]), lambda i, t: (i, t, i), lambda i, t: (i[:2], t[:2], i, t[:2]), lambda i, t: (i,)],
)
def test_a_batch_that_does_not_pair_is_refused(change):
    with pytest.raises(ValueError, match="batch: expected B images"):
        make().loss(change(*batch()))


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"batch": 1}])
def test_a_model_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="expected a whole number"):
        ProLIP(ConvNet(8), BagOfWords(9), TOKENS, **wrong)
