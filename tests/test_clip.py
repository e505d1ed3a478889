"""CLIP's two losses against open_clip, the tiled loss against the plain one, the model and its classifier by hand."""

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from open_clip.loss import ClipLoss, SigLipLoss

from minilip.clip import CLIP, SigLIP, clip_loss, siglip_loss, zero_shot_classifier
from minilip.nn import BagOfWords, ConvNet
from minilip.nn.tokenizer import Tokenizer
from tests import helpers
from tests.helpers import assert_near, value_and_gradients

vectors = functools.partial(helpers.vectors, dtype=torch.float32)


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
@pytest.mark.parametrize("batch", [2, 7, 40])
def test_losses_equal_open_clip(batch, scale):
    v, t, s, b = vectors(batch, 6), vectors(batch, 6, 1), torch.tensor(scale), torch.tensor(-3.0)
    assert_near(value_and_gradients(clip_loss, v, t, s), value_and_gradients(ClipLoss(), v, t, s))
    assert_near(value_and_gradients(siglip_loss, v, t, s, b), value_and_gradients(SigLipLoss(), v, t, s, b))


def test_constants():
    same, eye = torch.ones(9, 4), torch.eye(5)
    assert float(clip_loss(same, same, 7.0)) == pytest.approx(math.log(9))
    assert float(clip_loss(same, same, 7.0, tile=2)) == pytest.approx(math.log(9))
    assert float(clip_loss(eye, eye, 2.0)) == pytest.approx(math.log(1 + 4 * math.exp(-2)))
    assert float(siglip_loss(0 * eye, eye, 3.0, 0.0)) == pytest.approx(5 * math.log(2))  # B questions a picture
    base = float(siglip_loss(0 * eye, eye, 3.0, -math.log(4)))
    assert base == pytest.approx(-math.log(1 / 5) - 4 * math.log(4 / 5))  # the entropy of the base rate, B times


def test_the_loss_does_not_know_which_side_is_the_picture():
    v, t, order = vectors(8, 5), vectors(8, 5, 1), torch.randperm(8, generator=torch.Generator().manual_seed(0))
    for loss in (
        lambda v, t: clip_loss(v, t, 9.0),
        lambda v, t: clip_loss(v, t, 9.0, tile=3),
        lambda v, t: siglip_loss(v, t, 9.0, -2.0),
    ):
        torch.testing.assert_close(loss(v, t), loss(t, v))
        torch.testing.assert_close(loss(v, t), loss(v[order], t[order]))
        assert abs(float(loss(v, t) - loss(v, t[order]))) > 0.1


# ---- gradients and precision -----------------------------------------------------------------------------------------


def test_gradcheck_through_scale_and_bias():
    v, t = (vectors(4, 3, seed, dtype=torch.double).requires_grad_() for seed in (0, 1))
    for shape in ((), (1,)):
        s = torch.full(shape, 3.0, dtype=torch.double, requires_grad=True)
        b = torch.full(shape, -1.0, dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradcheck(clip_loss, (v, t, s))
        assert torch.autograd.gradcheck(siglip_loss, (v, t, s, b))
        for tile in (1, 3, 4, 9):
            assert torch.autograd.gradcheck(lambda v, t, s, tile=tile: clip_loss(v, t, s, tile), (v, t, s))
    # logits of 800 and more: each direction needs its own shift, in float64 too
    s = torch.tensor(900.0, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, t, s: clip_loss(v, t, s, 3), (v, t, s), atol=1e-4)


@pytest.mark.parametrize("length", [1.0, 2.5])
@pytest.mark.parametrize("scale", [1.0, 14.3, 60.0, 77.0, 79.0, 100.0])  # about 78 the two ways of summing meet
@pytest.mark.parametrize("batch, tile", [(2, 1), (12, 4), (13, 4), (13, 1), (13, 13), (13, 99), (300, 40), (300, 300)])
def test_tiled_has_the_value_and_gradient_of_plain(batch, tile, scale, length):
    v, t, s = vectors(batch, 8, length=length), vectors(batch, 8, 1, length=length), torch.tensor(scale)
    plain = value_and_gradients(clip_loss, v, t, s)
    tiled = value_and_gradients(lambda v, t, s: clip_loss(v, t, s, tile), v, t, s)
    # A logit of size L is rounded to 6e-8 L, and every probability moves by that part of itself.
    assert_near(tiled, plain, relative=1e-5 + 1.2e-7 * scale * length**2, absolute=1e-7 * scale)


@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_tiled_keeps_its_digits_when_the_loss_is_almost_zero(scale):
    v = vectors(64, 32)
    t = F.normalize(v + 0.05 * vectors(64, 32, 1), dim=1)
    t[1] = F.normalize(t[1] + (2.2 if scale == 10 else 1.0) * t[0], dim=0)  # one pair that is still hard
    truth = value_and_gradients(lambda v, t: clip_loss(v, t, scale), v.double(), t.double())
    assert 1e-4 < truth[0] < 0.1
    for tile in (10, 64):
        assert_near(value_and_gradients(lambda v, t, k=tile: clip_loss(v, t, scale, k), v, t), truth, relative=1e-4)


@pytest.mark.parametrize("scale, noise", [(25.0, 0.1), (60.0, 0.8)])  # one exponential for both directions; one each
def test_tiled_keeps_its_digits_where_plain_float32_has_none(scale, noise):
    v = vectors(40, 32)
    t = F.normalize(v + noise * vectors(40, 32, 1), dim=1)
    truth = value_and_gradients(lambda v, t: clip_loss(v, t, scale), v.double(), t.double())
    assert 1e-12 < truth[0] < 1e-5, truth[0]
    for tile in (7, 40):
        assert_near(value_and_gradients(lambda v, t, k=tile: clip_loss(v, t, scale, k), v, t), truth, relative=2e-4)


@pytest.mark.parametrize(
    "loss", [clip_loss, lambda v, t, s: clip_loss(v, t, s, 5), lambda v, t, s: siglip_loss(v, t, s, -3)]
)
def test_finite_at_the_largest_scale(loss):
    v = vectors(16, 8)
    for t in (v, -v, vectors(16, 8, 1), 30 * v):
        assert all(x.isfinite().all() for x in value_and_gradients(lambda v, t: loss(v, t, 100.0), v, t))


LOSSES = [
    lambda v, t: clip_loss(v, t, 50.0),
    lambda v, t: clip_loss(v, t, 50.0, 5),
    lambda v, t: siglip_loss(v, t, 50.0, -3.0),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_and_autocast_are_computed_in_float32(loss):
    v, t = vectors(16, 8), vectors(16, 8, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(v, t)
    assert inside.dtype == torch.float32 and torch.equal(inside, loss(v, t))
    half = value_and_gradients(loss, v.bfloat16(), t.bfloat16())
    assert half[0].dtype == torch.float32 and half[1].dtype == torch.bfloat16
    torch.testing.assert_close(half[0], loss(v.bfloat16().float(), t.bfloat16().float()))


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss", [clip_loss, lambda v, t, s: clip_loss(v, t, s, 2), lambda v, t, s: siglip_loss(v, t, s, 0)]
)
@given(
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from([math.nan, math.inf, 0.0]),
    st.sampled_from([0.0, -1.0, math.nan, math.inf]),
)
def test_bad_input_is_refused_by_all(loss, n, m, number, scale):
    v, t = torch.zeros(n, 3), torch.zeros(m, 3)
    if n != m or n < 2:
        with pytest.raises(ValueError, match=r"^(image|text): expected .*, got "):
            loss(v, t, 1.0)
        return
    with pytest.raises(ValueError, match="logit_scale: expected a finite number"):
        loss(v, t, scale)
    if number != 0:
        t[0, 0] = number
        with pytest.raises(ValueError, match="text: expected finite numbers"):
            loss(v, t, 1.0)


@pytest.mark.parametrize("tile", [0, -1, 2.0, True])
def test_tiles_that_are_not_whole_numbers_are_refused(tile):
    with pytest.raises(ValueError, match="tile: expected a whole number"):
        clip_loss(torch.eye(3), torch.eye(3), 1.0, tile=tile)


def test_a_bias_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="logit_bias: expected a finite number"):
        siglip_loss(torch.eye(3), torch.eye(3), 1.0, math.nan)


# ---- the model -------------------------------------------------------------------------------------------------------

SENTENCES = ["a red circle", "a blue square", "a picture of a green star"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    tokenizer = Tokenizer(SENTENCES)
    return CLIP(ConvNet(8), BagOfWords(len(tokenizer), 12), tokenizer, dim=10).eval()


@pytest.mark.parametrize("hidden", [None, 7])
def test_embeddings_have_length_one(model, hidden):
    model = CLIP(model.image_tower, model.text_tower, model.tokenizer, dim=10, hidden=hidden).eval()
    images, tokens = torch.rand(3, 3, 32, 32), model.tokenizer(SENTENCES)
    for z in (model.encode_image(images), model.encode_text(tokens)):
        assert z.shape == (3, 10) and z.dtype == torch.float32
        torch.testing.assert_close(z.norm(dim=1), torch.ones(3))


def test_the_loss_of_a_batch_by_hand(model):
    images, tokens = torch.rand(3, 3, 32, 32), model.tokenizer(SENTENCES)
    loss, metrics = model.loss((images, tokens))
    v = model.image_tower(images) @ model.image_map.weight.T
    t = model.text_tower(tokens) @ model.text_map.weight.T

    def cosine(x, y):
        return F.cosine_similarity(x, y, dim=0).item()

    total = 0.0
    for i in range(3):
        own = math.exp(cosine(v[i], t[i]) / 0.07)
        across = sum(math.exp(cosine(v[i], t[j]) / 0.07) for j in range(3))
        down = sum(math.exp(cosine(v[j], t[i]) / 0.07) for j in range(3))
        total -= math.log(own / across) + math.log(own / down)
    assert float(loss.detach()) == pytest.approx(total / 6, rel=1e-4)
    assert metrics["logit scale"] == pytest.approx(1 / 0.07)


@pytest.mark.parametrize("start, kept", [(-1.0, 1.0), (math.log(30), 30.0), (9.0, 100.0)])
def test_the_scale_stays_between_1_and_100(model, start, kept):
    with torch.no_grad():
        model.logit_scale.fill_(start)
    loss, metrics = model.loss((torch.rand(3, 3, 32, 32), model.tokenizer(SENTENCES)))
    assert metrics["logit scale"] == pytest.approx(kept, rel=1e-5)
    assert float(model.logit_scale.detach()) == pytest.approx(math.log(kept), abs=1e-6)
    loss.backward()
    assert model.logit_scale.grad.isfinite()  # a clamp before the loss does not cut it off


def test_siglip_is_clip_under_the_sigmoid_loss(model):
    torch.manual_seed(0)
    sig = SigLIP(model.image_tower, model.text_tower, model.tokenizer, dim=10, batch=17).eval()
    assert isinstance(sig, CLIP) and float(sig.logit_bias.detach()) == pytest.approx(-math.log(16))
    images, tokens = torch.rand(3, 3, 32, 32), model.tokenizer(SENTENCES)
    loss, metrics = sig.loss((images, tokens))
    v, t = sig.encode_image(images).tolist(), sig.encode_text(tokens).tolist()
    total = 0.0
    for i in range(3):
        for j in range(3):
            logit = sum(a * b for a, b in zip(v[i], t[j], strict=True)) / 0.07 - math.log(16)
            total += math.log1p(math.exp(-logit if i == j else logit))
    assert float(loss.detach()) == pytest.approx(total / 3, rel=1e-4)
    assert {name: float(x) for name, x in metrics.items()} == {
        "logit scale": pytest.approx(1 / 0.07),
        "logit bias": pytest.approx(-math.log(16)),
    }
    loss.backward()
    assert all(p.grad is not None for p in sig.parameters())


def test_at_the_start_siglip_expects_one_pair_in_b():
    sig = SigLIP(ConvNet(8), BagOfWords(5, 12), Tokenizer(SENTENCES), batch=64)
    assert float(sig.logit_bias.detach().sigmoid()) == pytest.approx(1 / 64)
    with pytest.raises(ValueError, match="batch: expected a whole number of at least 2, got 1"):
        SigLIP(ConvNet(8), BagOfWords(5, 12), Tokenizer(SENTENCES), batch=1)


@pytest.mark.parametrize("method", [CLIP, SigLIP])
@pytest.mark.parametrize("dim", [None, 0, 2.5, "8", True])
def test_a_tower_without_a_width_is_refused(method, dim):
    tower = torch.nn.Flatten()
    if dim is not None:
        tower.dim = dim
    for towers, name in (((tower, BagOfWords(5, 8)), "image_tower"), ((ConvNet(8), tower), "text_tower")):
        with pytest.raises(ValueError, match=f"^{name}: expected a tower with a whole number `.dim`.*, got Flatten"):
            method(*towers, Tokenizer(SENTENCES))


# ---- a classifier made of words --------------------------------------------------------------------------------------


def test_the_classifier_is_a_loop_over_names_and_templates(model):
    names, templates = ["circle", "square", "star"], ["a {}", "a picture of a {}"]
    W = zero_shot_classifier(model, names, templates)
    for name, row in zip(names, W, strict=True):
        one = [model.encode_text(model.tokenizer([t.replace("{}", name)]))[0].detach() for t in templates]
        mean = (one[0] + one[1]) / 2
        torch.testing.assert_close(row, mean / mean.norm())
    assert not W.requires_grad


def test_the_classifier_leaves_the_mode_of_the_model_alone(model):
    for training in (True, False):
        model.train(training)
        zero_shot_classifier(model, ["circle"])
        assert model.training is training


@pytest.mark.parametrize(
    "names, templates, message",
    [
        (["circle", "zebra"], "a {}", "'a zebra'.*zebra"),
        (["circle"], "an {}", "'an circle'.*an$"),
        ([], "a {}", "expected"),
        (["circle"], "a picture", "expected"),
    ],
)
def test_what_the_model_cannot_read_is_refused_by_name(model, names, templates, message):
    with pytest.raises(ValueError, match=message):
        zero_shot_classifier(model, names, templates)
