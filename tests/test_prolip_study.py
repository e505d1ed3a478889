"""The study of lesson 12: what its examination asks, that a model which knows passes, and that others do not."""

import inspect
import json
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import rankdata, spearmanr
from torch import nn

from minilip.clip import CLIP, SigLIP, siglip_loss
from minilip.data.emoji import ARTISTS, UNSEEN_ARTIST, EmojiPairs
from minilip.data.scenes import Scenes
from minilip.evaluation import aurc
from minilip.nn.tokenizer import MASK, PAD, words
from minilip.prolip import ProLIP, csd
from minilip.prolip.inclusion import contains, inclusion, inclusion_difference
from minilip.studies import store
from minilip.studies.digest import fingerprint
from minilip.studies.heads import Head
from minilip.studies.prolip import emoji, uses
from minilip.studies.prolip import examination as exam
from minilip.studies.prolip import scenes as study
from minilip.studies.prolip.generality import KINDS, Captions, codes_of
from minilip.studies.prolip.scenes import ARMS, PROBABILISTIC, Masking, batches, build, start, train
from minilip.training import fit

constant_input = pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")


@pytest.fixture(scope="module")
def captions():
    return Captions(Scenes())


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def coin(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# ---- models whose answers are known ------------------------------------------------------------------------------


def additive(captions):
    """A mean for each caption, a sum of what it names: (C, 24), of which 3 are 0.

    One coordinate for each value of each attribute, and one that all captions share. A value's length squared is the
    logarithm of how many values there are: so the product of a caption with one that holds it is a line in log N.
    """
    parts = [torch.ones(len(captions.codes), 1)]
    for a, k in enumerate(KINDS.tolist()):
        parts.append(F.one_hot(captions.codes[:, a], k + 1)[:, 1:] * math.log(k) ** 0.5)
    return F.pad(torch.cat(parts, dim=1), (0, 3)) / (1 + math.log(576)) ** 0.5


class Told:
    """Reads captions by their row, and pictures that are codes and how much is hidden: (W, A + 1, 1)."""

    def tell(self, captions, mu, fooled=False):
        self.captions, self.mu, self.fooled = captions, mu, fooled
        self.rows = {tuple(t): i for i, t in enumerate(captions.tokens.tolist())}
        self.logit_scale = nn.Parameter(torch.tensor(3.0))

    def text_rows(self, tokens):
        return torch.tensor([self.rows[tuple(t)] for t in tokens.tolist()])

    def seen(self, x):
        codes = x[:, :5, 0].long()
        if self.fooled:  # where more than half is hidden the other size is seen
            codes[:, 0] = torch.where(x[:, 5, 0] > 0.5, 3 - codes[:, 0], codes[:, 0])
        return self.mu[self.captions.row(codes)]


class Oracle(Told, ProLIP):
    """Gaussians in the place of towers: `variance` of each caption (C,), and of a picture by how much is hidden."""

    def __init__(self, captions, variance, mu=None, picture=lambda hidden: 0.01 + hidden, fooled=False):
        nn.Module.__init__(self)
        self.tell(captions, additive(captions) if mu is None else mu, fooled)
        self.variance, self.picture = variance, picture

    def spread(self, s):
        return (s / self.mu.shape[1]).log()[:, None].expand(-1, self.mu.shape[1])

    def text_gaussian(self, tokens):
        rows = self.text_rows(tokens)
        return self.mu[rows], self.spread(self.variance[rows])

    def image_gaussian(self, x):
        return self.seen(x), self.spread(self.picture(x[:, 5, 0]))


class Plain(Told, CLIP):
    """The same without variances."""

    def __init__(self, captions, mu=None):
        nn.Module.__init__(self)
        self.tell(captions, additive(captions) if mu is None else mu)

    def encode_text(self, tokens):
        return self.mu[self.text_rows(tokens)]

    def encode_image(self, x):
        return self.seen(x)


def by_generality(captions):
    return 0.01 * (1 + captions.fits.log())


def by_lot(captions, seed=0):
    return 0.01 + 0.06 * coin(len(captions.codes), seed=seed)


class Legible(Scenes):
    """Scenes whose pictures are their codes."""

    def render(self, latents, generator=None, occluder_colour="grey"):
        codes = codes_of(latents)
        return torch.cat([codes, torch.zeros(len(codes), 1)], dim=1)[:, :, None]


@pytest.fixture
def legible(monkeypatch):
    """No pixel is drawn: what is seen in pictures has tests of its own, what is made of it is tested here."""

    def spoilt(count, kind, seed):
        z = exam.CLEAN.sample(200, torch.Generator().manual_seed(seed))
        x = exam.CLEAN.render(z)
        x[:, 5, 0] = coin(200, seed=seed + 10) * (coin(200, seed=seed + 20) < 0.8)
        return z, x, (0.4 if kind == "blur" else 1.0) * x[:, 5, 0]

    clean = Legible()
    for module in (exam, uses):
        monkeypatch.setattr(module, "CLEAN", clean)
        monkeypatch.setattr(module, "spoilt", spoilt)


def unrelated(captions, dim=6):
    """Gaussians that mean nothing: each caption has its own."""
    mu, logvar = torch.randn(2, len(captions.codes), dim, generator=torch.Generator().manual_seed(0))
    model = Oracle(captions, torch.ones(len(mu)), F.normalize(mu, dim=1))
    model.text_gaussian = lambda tokens: (model.mu[model.text_rows(tokens)], logvar[model.text_rows(tokens)] - 2)
    return model


# ---- small things ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CLIP, ProLIP])
def test_gaussians_are_those_of_the_model_in_one_piece(captions, kind):
    torch.manual_seed(0)
    arm = {CLIP: "CLIP", ProLIP: "ProLIP"}[kind]
    model = build(arm, captions, 0).eval()
    images = torch.rand(9, 3, 32, 32)
    for x, name in ((images, "image"), (captions.tokens[:1100], "text")):  # more than two pieces of 512
        mu, logvar = exam.gaussians(model, x)
        assert not mu.requires_grad
        with torch.no_grad():
            if kind is ProLIP:
                expected = getattr(model, f"{name}_gaussian")(x)
            else:
                expected = getattr(model, f"encode_{name}")(x), torch.zeros(len(x), 64)
        for got, want in zip((mu, logvar), expected, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_rank_correlation_is_of_ranks():
    x, y = coin(50), (coin(50, seed=1) * 4).long()  # with ties
    rank = np.corrcoef(rankdata(x), rankdata(y))[0, 1]
    assert exam.rank_correlation(x, y) == pytest.approx(rank)
    assert exam.rank_correlation(x, -(x**3)) == pytest.approx(-1)


def test_percentiles_are_mean_ranks_of_each_group():
    s, groups = coin(41), (coin(41, seed=1) * 3).long()
    rank = (rankdata(s) - 1) / 40
    expected = {str(g): pytest.approx(rank[groups.numpy() == g].mean(), abs=6e-5) for g in range(3)}
    assert exam.percentiles(s, groups) == expected
    assert exam.percentiles(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0.2, 0.0, 0.4])) == {
        "0": 0.0,
        "0.2": 1.0,
        "0.4": 0.5,
    }


def test_auroc_counts_pairs_and_half_of_the_ties():
    positive, negative = (coin(30) * 8).round() + 1, (coin(20, seed=1) * 8).round()
    wins = np.mean([float(p > n) + 0.5 * float(p == n) for p in positive for n in negative])
    assert exam.auroc(positive, negative) == pytest.approx(wins) and 0.5 < wins < 1


def test_precision_is_the_loop(generator):
    scores, match = torch.randn(30, 40, generator=generator), torch.rand(30, 40, generator=generator) < 0.2
    match[3] = False  # nothing to find: left out
    shares = []
    for s, m in zip(scores.tolist(), match.tolist(), strict=True):
        if r := sum(m):
            best = sorted(range(40), key=lambda i, s=s: -s[i])[:r]
            shares.append(sum(m[i] for i in best) / r)
    assert len(shares) == 29
    assert uses.precision(scores, match) == pytest.approx(np.mean(shares))
    assert uses.precision(match.double() + coin(30, 40) / 2, match) == 1
    assert uses.precision(-match.double() + coin(30, 40) / 2, match & (match.sum(dim=1) < 20)[:, None]) == 0


# ---- spoilt pictures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["box", "square", "disc", "blur"])
def test_pictures_are_spoilt_as_they_say(kind):
    z, images, amount = exam.spoilt(150, kind, 3)
    again, other = exam.spoilt(150, kind, 3), exam.spoilt(150, kind, 4)
    assert torch.equal(images, again[1]) and torch.equal(amount, again[2]) and not torch.equal(images, other[1])
    clean = Scenes().render(z.with_(blur=torch.zeros(150)))
    assert float(z.occluder[:, 2].max()) == 0
    assert images.shape == (150, 3, 32, 32) and float(images.min()) >= 0 and float(images.max()) <= 1
    same = (images == clean).flatten(1).all(dim=1)
    assert 0.1 < float(same.double().mean()) < 0.3  # a fifth is not spoilt at all
    if kind == "blur":
        assert bool(same[amount == 0].all()) and float(amount[same].max()) < 0.02  # a fifth of a pixel's width
        assert 0.3 < float(amount.max()) <= 0.4 and torch.equal(z.blur, amount)
        assert 0.15 < float(amount[amount > 0].mean()) < 0.25
        return
    assert float(amount[same].max()) == float(amount.min()) == 0 and 0.9 < float(amount.max()) <= 1
    assert int(((amount > 0.1) & (amount < 0.9)).sum()) > 40  # every share of the thing, not all or nothing
    cover = (images != clean).any(dim=1) & (amount > 0)[:, None, None]  # (W, H, W)
    inside = images.movedim(1, 3)[cover]  # (pixels, 3)
    if kind == "disc":
        assert set(inside.flatten().tolist()) == {0.0, 1.0}
    if kind == "square":  # of one grey but for its edges
        assert float((inside - 0.5).abs().amax(dim=1).lt(1e-6).double().mean()) > 0.7
    if kind == "box":
        assert all(p[:, c].T.unique(dim=0).shape[0] == 1 for p, c in zip(images, cover, strict=True) if bool(c.any()))


# ---- pairs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [True, False])
def test_pairs_include_and_the_wrong_ones_differ_in_one_value(captions, held):
    a, b, c = exam.pairs(captions, 8000, seed=5, held=held)
    x, y, z = (captions.codes[rows] for rows in (a, b, c))
    assert len(a) == len(b) == len(c) > 1500
    assert bool(((y == 0) | (y == x)).all()) and bool(((y > 0).sum(dim=1) < (x > 0).sum(dim=1)).all())
    assert bool((y > 0).any(dim=1).all())  # there is a value to be wrong about
    assert torch.equal(y > 0, z > 0) and torch.equal(captions.fits[b], captions.fits[c])
    wrong = y != z
    assert torch.equal(wrong.sum(dim=1), torch.ones_like(a))
    assert bool((x != z)[wrong].all()) and bool((x[wrong] > 0).all())  # false of all that the first is true of
    assert torch.equal(captions.held[a] | captions.held[b], torch.full((len(a),), held))
    if held:
        assert bool((captions.held[a] & ~captions.held[b]).any()) and bool((captions.held[b] & ~captions.held[a]).any())
    at = wrong.long().argmax(dim=1)[:, None]
    swaps = torch.cat([at, y.gather(1, at), z.gather(1, at)], dim=1).unique(dim=0)
    assert len(swaps) == sum(k * (k - 1) for k in KINDS.tolist())  # every value is taken for every other
    again, other = exam.pairs(captions, 8000, seed=5, held=held)[0], exam.pairs(captions, 8000, seed=6, held=held)[0]
    assert torch.equal(a, again) and not torch.equal(a[:1000], other[:1000])


def recorded(monkeypatch, model, captions, count=1500):
    """Every score of `inclusion_tests`: {name: {question: (true, against)}}"""
    seen = []

    def auroc(true, against):
        seen.append((true, against))
        return len(seen) - 1

    with monkeypatch.context() as patch:
        patch.setattr(exam, "auroc", auroc)
        out = exam.inclusion_tests(model, captions, count)
    pairs = out.pop("pairs")
    return {name: {question: seen[i] for question, i in each.items()} for name, each in out.items()}, pairs


def test_every_score_is_asked_about_the_same_pairs(captions, monkeypatch):
    model = unrelated(captions)
    scores, count = recorded(monkeypatch, model, captions)
    a, b, c = exam.pairs(captions, 1500, seed=5)
    assert count == len(a) > 200
    mu, logvar = model.text_gaussian(captions.tokens)
    s = logvar.exp().sum(dim=1)
    by_hand = {
        "difference": lambda x, y: inclusion_difference(mu[x], logvar[x], mu[y], logvar[y]),
        "overlap": lambda x, y: inclusion(mu[x], logvar[x], mu[y], logvar[y]),
        "contains": lambda x, y: contains(mu[x], logvar[x], mu[y], logvar[y]),
        "cosine": lambda x, y: F.cosine_similarity(mu[x], mu[y]),
        "variances": lambda x, y: s[y] - s[x],
    }
    assert set(scores) == {*by_hand, "calibrated", "difference + overlap"}
    for name, score in by_hand.items():
        for question, (x, y) in {"reversed": (b, a), "one wrong": (a, c)}.items():
            true, against = scores[name][question]
            torch.testing.assert_close(true, score(a, b))
            torch.testing.assert_close(against, score(x, y))
    both = torch.cat([*scores["difference + overlap"]["reversed"], scores["difference + overlap"]["one wrong"][1]])
    expected = 0
    for name in ("difference", "overlap"):
        every = torch.cat([by_hand[name](a, b), by_hand[name](b, a), by_hand[name](a, c)])
        expected = expected + (every - every.mean()) / every.std()
    torch.testing.assert_close(both, expected)


def test_a_pair_whose_second_is_not_the_wider_one_is_behind_all_others(captions, monkeypatch):
    """And the others are in the order of what their cosine has over a line in both variances, by least squares."""
    model = unrelated(captions)
    scores, _ = recorded(monkeypatch, model, captions)
    passes = torch.cat([*scores["difference"]["reversed"], scores["difference"]["one wrong"][1]]) > 0
    got = torch.cat([*scores["calibrated"]["reversed"], scores["calibrated"]["one wrong"][1]])
    assert 100 < int(passes.sum()) < len(passes) - 100
    assert float(got[~passes].max()) < float(got[passes].min()) and len(got[~passes].unique()) == 1
    mu, logvar = model.text_gaussian(captions.tokens)
    s = logvar.exp().sum(dim=1).double().numpy()
    cosine = torch.cat([*scores["cosine"]["reversed"], scores["cosine"]["one wrong"][1]]).double().numpy()
    x, y, _ = (rows.numpy() for rows in exam.pairs(captions, 1500, seed=6, held=False))
    line = np.linalg.lstsq(
        np.stack([np.ones(len(x)), s[x], s[y]], axis=1), (mu[x] * mu[y]).sum(dim=1).double().numpy(), rcond=None
    )[0]
    a, b, c = (rows.numpy() for rows in exam.pairs(captions, 1500, seed=5))
    first, second = np.r_[a, b, a], np.r_[b, a, c]
    expected = cosine - line[0] - line[1] * s[first] - line[2] * s[second]
    np.testing.assert_allclose(got[passes].numpy(), expected[passes.numpy()], atol=1e-5)


# ---- an oracle passes and others fail ----------------------------------------------------------------------------


GIVEN = ("", ", given length", ", given length and attributes")
ASKED = tuple(rows + given for rows in ("all", "held") for given in GIVEN)


def test_variance_that_is_generality_passes(captions):
    out = exam.generality(Oracle(captions, by_generality(captions)), captions)
    assert [out[name] for name in ASKED] == pytest.approx([1] * 6, abs=1e-3)
    lengths = captions.words.bincount()
    assert set(out["at one length"]) == {str(w) for w, n in enumerate(lengths.tolist()) if n > 60}
    assert len(out["at one length"]) == 5 and min(out["at one length"].values()) > 0.999
    named = (captions.codes > 0).sum(dim=1)
    for name, count in (("length", captions.words), ("attributes", named)):
        assert out[name] == pytest.approx(spearmanr(captions.fits, -count)[0], abs=1e-3)
    ranks = [out["by scenes"][str(n)] for n in sorted(captions.fits.unique().tolist())]
    assert ranks == sorted(ranks) and ranks[0] < 0.2 and ranks[-1] == 1 and len(ranks) == 21


def test_what_was_held_out_is_asked_apart(captions):
    s = torch.where(captions.held, 0.2 - by_generality(captions), by_generality(captions))
    out = exam.generality(Oracle(captions, s), captions)
    assert [out[name] for name in ASKED[3:]] == pytest.approx([-1] * 3, abs=1e-3)
    assert all(0.2 < out[name] < 0.9 for name in ASKED[:3])


@pytest.mark.parametrize("what", ["words", "attributes"])
def test_variance_that_counts_words_or_attributes_is_found_out(captions, what):
    """Short captions are general ones: only what is asked of captions as long as each other tells the two apart."""
    count = captions.words if what == "words" else (captions.codes > 0).sum(dim=1)
    out = exam.generality(Oracle(captions, 0.2 - 0.01 * count + 1e-5 * coin(2160)), captions)
    assert out["length" if what == "words" else "attributes"] > 0.9 and out["all"] > 0.5
    assert abs(out["all, given length and attributes"]) < 0.1
    if what == "words":
        assert abs(out["all, given length"]) < 0.1 and max(map(abs, out["at one length"].values())) < 0.25


@pytest.mark.parametrize(("variance", "low", "high"), [("reversed", -1.001, -0.999), ("by lot", -0.1, 0.1)])
def test_other_variances_fail(captions, variance, low, high):
    s = 0.2 - by_generality(captions) if variance == "reversed" else by_lot(captions)
    out = exam.generality(Oracle(captions, s), captions)
    for name in ASKED:
        chance = 0.1 if variance == "by lot" and "held" in name else 0  # of fewer captions
        assert low - chance <= out[name] <= high + chance, name


@constant_input
def test_variance_that_is_the_same_everywhere_has_no_answer(captions):
    with pytest.raises(ValueError, match="ranks"):
        exam.generality(Oracle(captions, torch.full((2160,), 0.05)), captions)


def test_inclusion_is_passed_by_both_answers_together_alone(captions):
    def score(**parts):
        return exam.inclusion_tests(Oracle(captions, **parts), captions, 3000)

    n = by_generality(captions)
    right = score(variance=n)
    assert right["calibrated"] == {"reversed": 1.0, "one wrong": pytest.approx(1, abs=1e-4)}
    assert right["difference"]["reversed"] == right["variances"]["reversed"] == right["contains"]["reversed"] == 1
    assert right["variances"]["one wrong"] == pytest.approx(0.5, abs=1e-3)  # widths do not see a wrong value
    assert right["cosine"]["reversed"] == pytest.approx(0.5)  # nor do means see which is which
    assert right["cosine"]["one wrong"] < 0.99  # a general caption is farther than a wrong specific one

    turned = score(variance=0.2 - n)
    assert turned["calibrated"]["reversed"] == turned["difference"]["reversed"] == 0
    assert turned["calibrated"]["one wrong"] == pytest.approx(0.5)  # nothing passes the first question
    lot = score(variance=by_lot(captions))
    assert 0.35 < lot["calibrated"]["reversed"] < 0.65 and 0.35 < lot["difference"]["reversed"] < 0.65
    with pytest.raises(ValueError):  # no order at all
        score(variance=torch.full((2160,), 0.05))
    blind = score(variance=n, mu=F.normalize(torch.randn(2160, 24, generator=torch.Generator().manual_seed(0)), dim=1))
    assert blind["calibrated"]["reversed"] > 0.9 and abs(blind["calibrated"]["one wrong"] - 0.5) < 0.1


def test_pictures_whose_variance_is_what_is_hidden_pass(captions, legible):
    s = by_generality(captions)
    out = exam.pictures(Oracle(captions, s))
    assert set(out) == {"box", "square", "disc", "blur"}
    for kind, each in out.items():
        assert each["rho"] == pytest.approx(1, abs=1e-6)
        step = 0.08 if kind == "blur" else 0.2
        assert list(each["percentiles"]) == [f"{g * step:g}" for g in range(6)]
        assert list(each["percentiles"].values()) == sorted(each["percentiles"].values())
    turned = exam.pictures(Oracle(captions, s, picture=lambda hidden: 1.1 - hidden))
    assert [each["rho"] for each in turned.values()] == pytest.approx([-1] * 4, abs=1e-6)


def test_names_are_right_where_the_means_are(captions, legible):
    out = exam.zero_shot(Oracle(captions, by_generality(captions)), captions, 400)
    assert out == exam.zero_shot(Plain(captions), captions, 400) == {"accuracy": 1, "accuracy by distance": 1}
    # All else right and one attribute wrong is wrong; of two sizes one is always right.
    mu = additive(captions)
    mu[:, 1:3] = mu[:, 1:3].flip(1)
    half = Plain(captions, additive(captions))
    half.encode_image = lambda x: mu[captions.row(x[:, :5, 0].long())]
    assert exam.zero_shot(half, captions, 400)["accuracy"] == 0
    # A gallery's variance decides between two names that are as near.
    wide = torch.where(captions.codes[:, 0] == 1, 3.0, 0.01)  # what says "small" is very unsure
    out = exam.zero_shot(Oracle(captions, wide), captions, 400)
    assert out["accuracy"] == 1 and 0.4 < out["accuracy by distance"] < 0.6


# ---- what to do with it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["CLIP", "ProLIP"])
def test_confidences_are_one_number_for_each_picture(captions, arm, monkeypatch):
    original = uses.spoilt
    monkeypatch.setattr(uses, "spoilt", lambda count, kind, seed: original(30, kind, seed))
    model = build(arm, captions, 0).eval()
    out, right = uses.confidences(model, captions, 4)
    names = ["max softmax", "margin", "cosine", "variance", "pair probability", "softmax of samples"]
    assert list(out) == names[: 3 if arm == "CLIP" else 6]
    assert right.shape == (90,) and right.dtype == torch.bool
    assert all(c.shape == (90,) and bool(c.isfinite().all()) and c.unique().numel() > 20 for c in out.values())
    v, logvar = exam.gaussians(model, torch.cat([original(30, kind, 4)[1] for kind in ("square", "disc", "blur")]))
    t, t_logvar = exam.gaussians(model, captions.tokens[captions.full])
    cosines = (v @ t.T).sort(dim=1, descending=True).values
    s = model.logit_scale.detach().exp()
    torch.testing.assert_close(out["cosine"], cosines[:, 0])
    torch.testing.assert_close(out["margin"], cosines[:, 0] - cosines[:, 1])
    torch.testing.assert_close(out["max softmax"], 1 / (s * (cosines - cosines[:, :1])).exp().sum(dim=1))
    if arm == "ProLIP":
        torch.testing.assert_close(out["variance"], -logvar.exp().sum(dim=1))
        torch.testing.assert_close(out["pair probability"], (1 - csd(v, logvar, t, t_logvar) / 2).amax(dim=1))
        noise = torch.Generator().manual_seed(4)
        drawn = [v + (logvar / 2).exp() * torch.randn(v.shape, generator=noise) for _ in range(8)]
        mean = sum((s * z @ t.T).softmax(dim=1) for z in drawn) / 8  # of the distributions, then the largest
        torch.testing.assert_close(out["softmax of samples"], mean.amax(dim=1))


def test_who_knows_where_it_fails_pays_as_little_as_an_oracle(captions, legible):
    out = uses.selective(Oracle(captions, by_generality(captions), fooled=True), captions)
    assert 0.3 < out["error"] < 0.5  # where more than half is hidden
    assert out["errors"]["variance"] == out["errors"]["oracle"] == 1 and out["errors"]["both"] > 0.99
    assert out["aurc"]["variance"] == pytest.approx(out["aurc"]["oracle"])
    assert out["aurc"]["oracle"] < out["aurc"]["random"] / 2
    assert abs(out["errors"]["random"] - 0.5) < 0.1 and out["aurc"]["random"] == pytest.approx(out["error"], abs=0.1)
    for name, risk in out["risk"].items():
        assert len(risk) == 20 and risk[-1] == pytest.approx(out["error"], abs=1e-4), name
    assert out["risk"]["variance"][:10] == [0] * 10
    assert out["tenths"][:5] == [1] * 5 and out["tenths"][-3:] == [0] * 3 and out["tenths, correlation"] < -0.8


def test_who_is_surest_where_it_fails_pays_most(captions, legible, monkeypatch):
    model = Oracle(captions, by_generality(captions), fooled=True, picture=lambda hidden: 1.1 - hidden)
    original, seeds = uses.confidences, []
    monkeypatch.setattr(uses, "confidences", lambda *a, seed: (seeds.append(seed), original(*a, seed))[1])
    out = uses.selective(model, captions)
    assert len(set(seeds)) == len(seeds) == 2
    assert out["errors"]["variance"] == 0 and out["aurc"]["variance"] > out["aurc"]["random"] > out["aurc"]["oracle"]
    assert out["tenths, correlation"] > 0.8
    assert out["errors"]["both"] > 0.99  # what is wrong about it can be learned from other pictures


def test_risk_is_read_at_every_twentieth(captions, legible):
    model = Plain(captions)
    model.encode_image = lambda x: model.mu[captions.row(x[:, :5, 0].long())] + coin(len(x), 24, seed=len(x)) - 0.5
    out = uses.selective(model, captions)
    assert set(out["aurc"]) == {"max softmax", "margin", "cosine", "random", "oracle"} and "tenths" not in out
    scores, right = uses.confidences(model, captions, 5)
    order = scores["margin"].argsort(descending=True)
    wrong = (~right)[order].double().tolist()
    assert 0 < sum(wrong) < len(wrong) == 600
    assert out["risk"]["margin"] == pytest.approx([np.mean(wrong[: 30 * k]) for k in range(1, 21)], abs=2e-3)
    assert out["aurc"]["margin"] == pytest.approx(aurc(scores["margin"], right))


def test_retrieval_is_the_loop_in_both_directions(captions, legible):
    mu = F.normalize(torch.randn(2160, 9, generator=torch.Generator().manual_seed(0)), dim=1)
    model = Oracle(captions, by_lot(captions), mu, picture=lambda hidden: torch.linspace(0.01, 0.9, len(hidden)))
    out = uses.retrieval(model, captions, 40)
    z = exam.CLEAN.sample(40, torch.Generator().manual_seed(7))
    truth, codes = codes_of(z).tolist(), captions.codes.tolist()
    match = np.array([[all(c in (0, v) for c, v in zip(code, t, strict=True)) for code in codes] for t in truth])
    assert set(match.sum(axis=1)) == {32}  # each subset of the five
    v, v_s = mu[captions.row(codes_of(z))].numpy(), np.linspace(0.01, 0.9, 40)
    t, t_s = mu.numpy(), model.variance.numpy()
    tables = {
        "to captions": (v @ t.T, match),
        "to pictures": (t @ v.T, match.T),
        "to captions, by distance": (v @ t.T - t_s / 2, match),
        "to pictures, by distance": (t @ v.T - v_s / 2, match.T),
    }
    assert set(out) == set(tables)
    for name, (score, true) in tables.items():
        best = [np.argsort(-s, kind="stable")[: m.sum()] for s, m in zip(score, true, strict=True)]
        shares = [m[b].mean() for b, m in zip(best, true, strict=True) if m.any()]
        assert out[name] == pytest.approx(np.mean(shares), abs=2e-3), name
    plain = uses.retrieval(Plain(captions, mu), captions, 40)
    assert plain == {name: out[name] for name in ("to captions", "to pictures")}
    assert uses.retrieval(Plain(captions), captions, 40)["to pictures"] == 1


@pytest.fixture
def cameras(monkeypatch, legible):
    """Every kind of scene four times: two of each class for a camera to learn from, and two to be tested on.

    In the place of EM, which has tests of its own, is the share of samples that are nearest to each prompt.
    """
    z = Scenes().sample(6000, torch.Generator().manual_seed(1))
    kinds = z[torch.tensor(list({tuple(code): i for i, code in enumerate(codes_of(z).tolist())}.values()))]
    assert len(kinds) == 576
    four = kinds[torch.arange(576).repeat(4)]
    monkeypatch.setattr(exam.CLEAN, "sample", lambda count, generator: four[slice(count)])
    calls = []

    def weights(mu, logvar, samples):
        calls.append((mu, samples))
        near = (samples @ mu.T - mu.square().sum(dim=1) / 2).argmax(dim=1)
        return near.bincount(minlength=len(mu)) / len(samples), None

    monkeypatch.setattr(uses, "prompt_weights", weights)
    return calls


def test_prompts_of_another_class_mislead_and_weights_can_tell(captions, cameras):
    plain = Plain(captions)
    right, half, wrong = (uses.prompts(plain, captions, strangers) for strangers in (0, 3, 6))
    assert set(right) == {"uniform", "bare prompt"}
    assert right["bare prompt"] == half["bare prompt"] == wrong["bare prompt"] == 1
    assert right["uniform"] > 0.9 > half["uniform"] > 0.1 and wrong["uniform"] == 0
    assert not cameras
    model = Oracle(captions, by_generality(captions), picture=lambda hidden: 1e-4 + hidden)
    out = uses.prompts(model, captions, 3)
    assert set(out) == {"uniform", "bare prompt", "labelled", "nearest"}
    assert out["labelled"] > half["uniform"] + 0.2
    # 12 cameras, two ways, 48 classes; and of each labelled image of a class 20 samples.
    assert len(cameras) == 12 * 2 * 48
    classes = torch.cartesian_prod(*(torch.arange(k) + 1 for k in KINDS[:3].tolist()))  # (48, 3)
    bare = model.mu[captions.row(F.pad(classes, (0, 2)))]
    for number, (prompts, samples) in enumerate(cameras):
        assert prompts.shape == (6, 24) and samples.shape[0] == (40 if number // 48 % 2 == 0 else 100)
        if number // 48 % 2 == 0:
            assert bool(((samples @ bare.T).argmax(dim=1) == number % 48).all())


@pytest.mark.parametrize(("fooled", "found"), [("first", 1), ("second", 0)])
def test_prompts_are_tested_on_what_nothing_was_learned_from(captions, cameras, monkeypatch, fooled, found):
    """A model that takes one size for the other in the first half of what a camera shows, or in the second."""
    plain_render = exam.CLEAN.render

    def render(latents):
        x = plain_render(latents)
        x[:, 5, 0] = (torch.arange(len(x)) < len(x) // 2).float() if fooled == "first" else 0
        x[len(x) // 2 :, 5, 0] += fooled == "second"
        return x

    monkeypatch.setattr(exam.CLEAN, "render", render)
    model = Plain(captions)
    model.fooled = True
    assert uses.prompts(model, captions, 0)["bare prompt"] == found


def test_the_strangers_are_as_many_as_said_and_the_others_are_the_class_s_own(captions, cameras):
    uses.prompts(Oracle(captions, by_generality(captions)), captions, 2)
    classes = torch.cartesian_prod(*(torch.arange(k) + 1 for k in KINDS[:3].tolist()))
    number = {tuple(m): i for i, m in enumerate(additive(captions).tolist())}
    for k, (prompts, _) in enumerate(cameras[:48]):
        codes = captions.codes[torch.tensor([number[tuple(m)] for m in prompts.tolist()])]
        own = (codes[:, :3] == classes[k]).all(dim=1)
        assert own.tolist() == [True] * 4 + [False] * 2
        assert len(codes[:4].unique(dim=0)) == 4


def test_the_way_to_the_root_passes_what_is_true(captions, legible):
    mu = F.normalize(additive(captions), dim=1)
    out = uses.traversal(Oracle(captions, by_generality(captions), mu), captions, 12)
    assert set(out) == {"a shape", "most inclusive", "root"} and out["root"] in captions.texts
    way = out["a shape"]
    assert way["precision"] == 1 and way["captions met"] >= 2 and way["order"] > 0.8
    assert way["recall"] == pytest.approx(way["captions met"] / 6)  # all at different levels
    lost = Plain(captions, mu)
    lost.encode_image = lambda x: mu[captions.row(x[:, :5, 0].long() % KINDS + 1)]  # every value taken for the next
    out = uses.traversal(lost, captions, 12)
    assert set(out) == {"a shape"} and out["a shape"]["precision"] == pytest.approx(1 / out["a shape"]["captions met"])


def test_an_examination_asks_a_model_what_it_has_an_answer_to(captions, monkeypatch):
    questions = "zero_shot", "selective", "retrieval", "traversal", "generality", "pictures", "inclusion_tests"
    for name in questions:
        monkeypatch.setattr(study, name, lambda model, *more, name=name: name)
    monkeypatch.setattr(study, "prompts", lambda model, captions, strangers: strangers)
    of_all = {
        "zero-shot": "zero_shot",
        "selective": "selective",
        "retrieval": "retrieval",
        "prompts": 0,
        "prompts, half of them wrong": 3,
        "traversal": "traversal",
    }
    assert study.examine(Plain(captions), captions) == of_all
    of_variances = {"captions": "generality", "pictures": "pictures", "inclusion": "inclusion_tests"}
    assert study.examine(Oracle(captions, by_generality(captions)), captions) == of_all | of_variances


# ---- the arms ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(study, "BATCH", 16)


def masking(arm):
    return PROBABILISTIC.get(arm, Masking())


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_has_a_finite_loss_that_reaches_all_it_learns(captions, arm, small, generator):
    model = build(arm, captions, 0)
    assert type(model) is {"CLIP": CLIP, "SigLIP": SigLIP}.get(arm, ProLIP)
    loss, metrics = model.loss(batches(captions, masking(arm))(generator))
    loss.backward()
    assert math.isfinite(loss.item()) and all(map(math.isfinite, metrics.values()))
    for name, p in model.named_parameters():
        assert p.grad is not None and bool(p.grad.isfinite().all()) and float(p.grad.abs().sum()) > 0, name
    assert ("text in masked" in metrics) == ("image in masked" in metrics) == bool(masking(arm).captions)
    if arm in PROBABILISTIC:
        assert model.alpha == PROBABILISTIC[arm].weight


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_arms_start_from_the_same_towers(captions):
    models = {arm: build(arm, captions, 0) for arm in ARMS}
    for arm, model in models.items():
        assert same(model.image_tower, models["CLIP"].image_tower), arm
        assert model.text_tower.readouts == (2 if arm in PROBABILISTIC else 1)
        rival = models["ProLIP" if arm in PROBABILISTIC else "CLIP"].state_dict()
        mine = model.state_dict()
        assert set(mine) - set(rival) == ({"logit_bias"} if arm == "SigLIP" else set())
        assert all(torch.equal(mine[name], x) for name, x in rival.items()), arm
    other = build("ProLIP", captions, 1)
    assert not same(other.image_tower, models["ProLIP"].image_tower)
    assert not same(other.text_tower, models["ProLIP"].text_tower)


def test_siglip_is_the_sigmoid_loss_of_its_towers(captions, small, generator):
    model = build("SigLIP", captions, 0)
    images, tokens = batches(captions, Masking())(generator)
    assert model.logit_bias.item() == pytest.approx(-math.log(15))
    loss, metrics = model.loss((images, tokens))
    v, t = model.encode_image(images), model.encode_text(tokens)
    s, b = 1 / 0.07, -math.log(15)
    assert loss.item() == pytest.approx(siglip_loss(v, t, s, b).item(), rel=1e-5)
    total = 0.0
    for i, row in enumerate((v @ t.T).tolist()):
        for j, cosine in enumerate(row):
            logit = (s * cosine + b) * (1 if i == j else -1)
            total += math.log1p(math.exp(-logit))
    assert loss.item() == pytest.approx(total / 16, rel=1e-4) and metrics["logit scale"] == pytest.approx(s)
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    assert model.loss((images, tokens))[1]["logit scale"] == pytest.approx(100)


@pytest.mark.parametrize("masking", [None, "attributes", "words", "tokens"])
def test_batches_show_what_they_say_and_nothing_that_is_held(captions, masking, generator):
    assert (study.BATCH, Masking().share) == (256, 1 / 8)
    batch = batches(captions, Masking(masking))(generator)
    world = Scenes(blur=0.15, occlusion=0.15)
    z = world.sample(256, torch.Generator().manual_seed(0))
    assert torch.equal(batch[0], world.render(z)) and 0.08 < float((z.blur > 0).double().mean()) < 0.22
    number = {tuple(t): i for i, t in enumerate(captions.tokens.tolist())}
    rows = torch.tensor([number[tuple(t)] for t in batch[1].tolist()])
    named = captions.codes[rows]
    assert not bool(captions.held[rows].any())
    assert bool(((named == 0) | (named == codes_of(z))).all())  # true of the picture
    assert 2.7 < float((named > 0).sum(dim=1).double().mean()) < 3.3
    if masking is None:
        assert len(batch) == 2
        return
    boxed, general = batch[2:]
    assert len(boxed) == len(general) == 32
    covered = (boxed != batch[0][:32]).any(dim=1)  # (M, H, W)
    assert bool(covered.flatten(1).any(dim=1).all())
    if masking == "attributes":
        wide = captions.codes[torch.tensor([number[tuple(t)] for t in general.tolist()])]
        assert bool(((wide == 0) | (wide == named[:32])).all()) and bool((wide != named[:32]).any())
    elif masking == "tokens":
        assert torch.equal(torch.where(general == MASK, batch[1][:32], general), batch[1][:32])
        assert bool((general == MASK).any())
    else:
        for before, after in zip(batch[1][:32].tolist(), general.tolist(), strict=True):
            assert not Counter(t for t in after if t != PAD) - Counter(before)


def test_graded_batches_cover_less_and_more_of_the_same_pictures(captions, generator):
    images, tokens, more, general = batches(captions, PROBABILISTIC["graded"])(generator)
    z = Scenes(blur=0.15, occlusion=0.15).sample(256, torch.Generator().manual_seed(0))
    clean = Scenes().render(z)
    assert len(images) == len(tokens) == 256 and len(more) == len(general) == 64
    assert torch.equal(images[64:], clean[64:])
    less = images[:64]
    small, large = ((x != clean[:64]).any(dim=1) for x in (less, more))  # (M, H, W)
    assert bool((large | ~small).all()) and torch.equal(more.movedim(1, 3)[small], less.movedim(1, 3)[small])
    assert 16 < int(small.flatten(1).any(dim=1).sum()) < 48 and bool(large.flatten(1).any(dim=1).all())
    number = {tuple(t): i for i, t in enumerate(captions.tokens.tolist())}
    rows, wide = (torch.tensor([number[tuple(t)] for t in x.tolist()]) for x in (tokens, general))
    named, left = captions.codes[rows], captions.codes[wide]
    assert not bool(captions.held[rows].any()) and not bool(captions.held[wide].any())
    assert bool(((named == 0) | (named == codes_of(z))).all())
    assert bool(((left == 0) | (left == named[:64])).all()) and bool((left != named[:64]).any())


def test_the_tower_that_all_start_from_is_trained_and_the_same_each_time(captions, small, monkeypatch):
    drawn = []

    def watched(model, draw, steps, **more):
        drawn.append(draw(torch.Generator().manual_seed(0)))
        return fit(model, draw, steps, **more)

    monkeypatch.setattr(study, "fit", watched)
    a, b, c = (start(captions, seed, 2, progress=False) for seed in (0, 0, 1))
    assert same(a, b) and not same(a, c) and not a.training
    assert not same(a, build("CLIP", captions, 0).image_tower)
    z = Scenes(blur=0.15, occlusion=0.15).sample(8, torch.Generator().manual_seed(0))
    assert captions.tokenizer.decode(drawn[0][1]) == Scenes().caption(z, detail=3)
    assert torch.equal(drawn[0][0], Scenes().render(z))


@pytest.mark.parametrize("arm", ["CLIP", "ProLIP", "graded"])
def test_a_run_starts_from_the_tower_and_leaves_it_as_it_is(captions, small, monkeypatch, arm):
    torch.manual_seed(7)
    tower = build("CLIP", captions, 7).image_tower
    before = {n: x.clone() for n, x in tower.state_dict().items()}
    began = []

    def watched(model, *arguments, **more):
        began.append({n: x.clone() for n, x in model.image_tower.state_dict().items()})
        assert more["lr"] == study.LR and more["seed"] == 3
        return fit(model, *arguments, **more)

    monkeypatch.setattr(study, "fit", watched)
    model, history = train(arm, captions, 3, 2, tower, progress=False)
    assert len(history.loss) == 2 and ("text in masked" in history.metrics) == (arm != "CLIP") and not model.training
    assert getattr(model, "alpha", None) == (None if arm == "CLIP" else 0.02)
    for name, x in before.items():
        assert torch.equal(x, began[0][name]) and torch.equal(x, tower.state_dict()[name])
    assert not same(model.image_tower, tower)
    assert not {id(p) for p in model.parameters()} & {id(p) for p in tower.parameters()}


def test_a_run_goes_on_from_its_own_checkpoint(captions, small, monkeypatch, tmp_path):
    drawn = []

    def stopping(at=None):
        def short(model, draw, steps, **more):
            def counted(generator):
                drawn.append(more["label"])
                if len(drawn) == at:
                    raise KeyboardInterrupt
                return draw(generator)

            return fit(model, counted, steps, **more | {"every": 1, "progress": False})

        drawn.clear()
        monkeypatch.setattr(study, "fit", short)

    monkeypatch.setenv("MINILIP_HOME", str(tmp_path / "whole"))
    stopping()
    whole, history = study.trained("[MASK] tokens", captions, 0, 1, 3)
    assert drawn == ["image tower, seed 0"] + ["[MASK] tokens, seed 0"] * 3
    monkeypatch.setenv("MINILIP_HOME", str(tmp_path / "parts"))
    stopping(at=4)
    with pytest.raises(KeyboardInterrupt):
        study.trained("[MASK] tokens", captions, 0, 1, 3)
    stopping()
    model, again = study.trained("[MASK] tokens", captions, 0, 1, 3)
    assert drawn == ["[MASK] tokens, seed 0"]  # neither the tower nor the first two steps a second time
    assert same(model, whole) and again.loss == history.loss and not model.training
    stopping()
    model, _ = study.trained("[MASK] tokens", captions, 0, 1, 3)
    assert drawn == [] and same(model, whole) and not model.training
    study.trained("CLIP", captions, 0, 1, 2)
    assert drawn == ["CLIP, seed 0"] * 2  # all arms share the tower
    study.trained("CLIP", captions, 1, 1, 1)
    assert drawn[2:] == ["image tower, seed 1", "CLIP, seed 1"]
    assert len(list((tmp_path / "parts" / "measured").iterdir())) == 5
    monkeypatch.setattr(study, "examine", lambda model, captions: {"exam": type(model).__name__})
    drawn.clear()
    assert study.measure("graded", 0, 1, 2)["exam"] == "ProLIP" and drawn == ["graded, seed 0"] * 2
    assert study.measure("graded", 0, 1, 2).keys() == {"seconds", "exam"} and len(drawn) == 2


def test_a_measurement_is_a_training_and_an_examination(monkeypatch):
    asked = []

    def trained(*arguments):
        asked.append(arguments)
        return "model", SimpleNamespace(seconds=[1.0, 2.04])

    monkeypatch.setattr(study, "trained", trained)
    monkeypatch.setattr(study, "examine", lambda model, captions: {"exam": [model, len(captions.texts)]})
    assert study.measure(**study.settings("SigLIP", 2)) == {"seconds": 2.0, "exam": ["model", 2160]}
    assert asked[0][0] == "SigLIP" and asked[0][2:] == (2, study.START, study.STEPS)


# ---- emoji -------------------------------------------------------------------------------------------------------

LABELS = [f"thing{i}" for i in range(40)]
TAGS = [("all", *(["even", f"two words{i}"] if i % 2 == 0 else []), f"own{i}", f"thing{i}") for i in range(40)]
TAGS[5] = (*TAGS[5], "thing0", "thing1")
SPLITS = {"train": torch.arange(4, 40), "test": torch.arange(4)}  # of whose labels training has met two, as tags


@pytest.fixture
def sentences(monkeypatch):
    """Emoji of a made-up world, whose pictures' features are (artist, concept, 1, 1, ...)."""
    monkeypatch.setattr(
        emoji,
        "EmojiPairs",
        lambda split, size: SimpleNamespace(labels=LABELS, tags=TAGS, concepts=SPLITS[split]),
    )
    features = torch.ones(len(ARTISTS), len(LABELS), 1280)
    features[:, :, 0], features[:, :, 1] = torch.arange(len(ARTISTS))[:, None], torch.arange(len(LABELS))
    monkeypatch.setattr(emoji, "emoji_features", lambda: features)
    return emoji.Sentences()


def test_tags_are_counted_over_the_training_concepts(sentences):
    shared = dict(zip(sentences.tags, sentences.shared.tolist(), strict=True))
    assert shared["all"] == 36 and shared["even"] == 18 and shared["own7"] == shared["thing7"] == 1
    assert "own0" not in shared and len(shared) == 2 + 36 + 36 + 18 + 2
    assert sentences.phrases[6] == ["thing6", "all", "even", "two words6", "own6", "thing6"]
    assert sentences.tokenizer.length == 7 and sentences.tokenizer.unknown("own0 own4") == ["own0"]


def test_some_phrases_are_a_part_in_any_order(sentences, generator):
    phrases = ["a", "b", "c", "d"]
    drawn = [sentences.some(phrases, generator) for _ in range(2000)]
    assert all(d and len(set(d)) == len(d) and set(d) <= set(phrases) for d in drawn)
    share = Counter(p for d in drawn for p in d)
    assert all(0.46 < share[p] / 2000 < 0.58 for p in phrases)  # half, and a little for those left alone
    first = Counter(d[0] for d in drawn)
    assert all(0.2 < first[p] / 2000 < 0.3 for p in phrases)
    assert sentences.some(["only"], generator) == ["only"]


@pytest.mark.parametrize("arm", emoji.ARMS)
def test_emoji_batches_hide_the_unseen_artist_and_the_test_concepts(sentences, monkeypatch, arm, generator):
    caught = {}
    monkeypatch.setattr(emoji, "fit", lambda model, draw, steps, **more: caught.update(draw=draw, steps=steps, **more))
    model = emoji.train(arm, 2, 5, sentences, progress=False)
    assert model.alpha == emoji.ARMS[arm] and caught["steps"] == 5 and caught["seed"] == 2
    batch = caught["draw"](generator)
    assert len(batch) == (4 if emoji.ARMS[arm] else 2)
    x, tokens = batch[:2]
    artists, concepts = x[:, 0].long(), x[:, 1].long().tolist()
    assert {ARTISTS[a] for a in artists} == {a for a in ARTISTS if a != UNSEEN_ARTIST}
    assert set(concepts) <= set(range(4, 40)) and len(set(concepts)) > 30
    captions = [set(c.split()) for c in sentences.tokenizer.decode(tokens)]
    for c, caption in zip(concepts, captions, strict=True):
        assert caption and caption <= set(" ".join(sentences.phrases[c]).split())
    if len(batch) == 4:
        hidden, parts = batch[2], [set(c.split()) for c in sentences.tokenizer.decode(batch[3])]
        assert len(hidden) == len(parts) == 64
        assert bool(((hidden == 0) | (hidden == x[:64])).all())
        assert float((hidden[:, 2:] == 0).double().mean()) == pytest.approx(0.5, abs=0.01)
        assert all(p and p <= c for p, c in zip(parts, captions[:64], strict=True))
        assert sum(p < c for p, c in zip(parts, captions[:64], strict=True)) > 20
    loss, metrics = model.loss(batch)
    loss.backward()
    assert math.isfinite(loss.item()) and ("text in masked" in metrics) == (len(batch) == 4)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_a_tower_on_features_drops_out_in_training_alone():
    torch.manual_seed(0)
    tower, x = Head(), torch.randn(3, 1280)
    assert tower(x).shape == (3, tower.dim) and not torch.equal(tower(x), tower(x))
    assert torch.equal(tower.eval()(x), tower(x))


class Reader(ProLIP):
    """Knows each phrase, and each concept by its picture from the unseen artist."""

    def __init__(self, sentences, width):
        nn.Module.__init__(self)
        self.sentences, self.width = sentences, width

    def text_gaussian(self, tokens):
        read = self.sentences.tokenizer.decode(tokens)
        at = [LABELS.index(r) if r in LABELS else len(LABELS) for r in read]
        s = torch.tensor([self.width(r) for r in read])
        return F.one_hot(torch.tensor(at), 48).float(), (s / 48).log()[:, None].expand(-1, 48)

    def encode_image(self, x):
        assert set(x[:, 0].tolist()) == {ARTISTS.index(UNSEEN_ARTIST)}
        return F.one_hot(x[:, 1].long(), 48).float()


def test_tags_as_wide_as_they_are_shared_pass_and_others_fail(sentences):
    shared = dict(zip(sentences.tags, map(float, sentences.shared), strict=True))
    right = emoji.examine(Reader(sentences, lambda phrase: shared.get(phrase, 0.5)), sentences)
    turned = emoji.examine(Reader(sentences, lambda phrase: 50 - shared.get(phrase, 0.5)), sentences)
    for name in ("shared", "shared, given words", "shared, one word"):
        assert right[name] == pytest.approx(1, abs=1e-3) and turned[name] == pytest.approx(-1, abs=1e-3), name
    assert right["rare against shared by 15"] == 1 and turned["rare against shared by 15"] == 0
    assert right["tags"] == len(shared) == 94
    common = list(right["common"].items())
    assert common[:2] == [("all", [36, 1.0]), ("even", [18, round(92 / 93, 3)])] and len(common) == 8


def test_correlations_of_tags_are_those_of_the_textbook(sentences):
    def width(phrase):
        return 1.0 + sum(map(ord, phrase)) % 37 + 9 * len(phrase.split())

    out = emoji.examine(Reader(sentences, width), sentences)
    s, n = [width(tag) for tag in sentences.tags], sentences.shared.tolist()
    count = [len(tag.split()) for tag in sentences.tags]
    sn, sw, nw = (spearmanr(x, y)[0] for x, y in ((s, n), (s, count), (n, count)))
    assert out["shared"] == pytest.approx(sn, abs=1e-3)
    given = (sn - sw * nw) / ((1 - sw**2) * (1 - nw**2)) ** 0.5
    assert out["shared, given words"] == pytest.approx(given, abs=1e-3)
    single = [(x, y) for x, y, w in zip(s, n, count, strict=True) if w == 1]
    assert out["shared, one word"] == pytest.approx(spearmanr(*zip(*single, strict=True))[0], abs=1e-3)
    assert len({round(out[name], 4) for name in ("shared", "shared, given words", "shared, one word")}) == 3


@constant_input
def test_labels_are_held_against_their_tags(sentences):
    out = emoji.examine(Reader(sentences, lambda phrase: 0.5 if phrase in LABELS else 1.0), sentences)
    # "all" and "own" of each, "even" and "two words" of every second, and two tags that are labels of others. Left out
    # are tags that are the label itself, and those of the test split with a word that training has not met.
    assert out["pairs, train"] == 36 * 2 + 18 * 2 + 2 and out["pairs, test"] == 2 + 1
    assert out["label below tag, train"] == pytest.approx(108 / 110)
    assert out["label below tag, as many words, train"] == pytest.approx(90 / 92)
    assert out["label below tag, test"] == out["label below tag, as many words, test"] == 1
    assert out["R@1, unseen artist"] == 1
    longer = emoji.examine(Reader(sentences, lambda phrase: len(phrase.split()) + 0.5 * (phrase in LABELS)), sentences)
    assert longer["label below tag, train"] == pytest.approx(18 / 110)  # a tag of two words
    assert longer["label below tag, as many words, train"] == 0


# ---- what is stored ----------------------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch, tmp_path):
    monkeypatch.setenv("MINILIP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")


@pytest.mark.parametrize("module", [study, emoji])
def test_what_has_not_been_measured_is_said_with_the_command(bare, monkeypatch, module):
    name, command = module.STUDY.name, rf"of \d+ entries .*`python -m {module.__name__}`"
    code = fingerprint(module.measure)
    for arm in module.ARMS:
        with pytest.raises(LookupError, match=rf"{name}: \d+ {command}"):
            module.known()
        for seed in reversed(module.SEEDS):
            settings = module.settings(arm, seed)
            assert set(settings) == set(inspect.signature(module.measure).parameters)  # an entry can be made so
            store.stored(name, settings, code, lambda **settings: settings)
    for arm, (found, results) in zip(module.ARMS, module.known().items(), strict=True):
        assert found == arm and [r["seed"] for r in results] == list(module.SEEDS)
        assert {r["arm"] for r in results} == {arm}
    monkeypatch.setattr(module, "STEPS", module.STEPS + 1)
    with pytest.raises(LookupError, match=command):
        module.known()


def numbers(result):
    """All numbers in it."""
    if isinstance(result, dict):
        return [n for x in result.values() for n in numbers(x)]
    if isinstance(result, list):
        return [n for x in result for n in numbers(x)]
    return [result] if isinstance(result, (int, float)) else []


def test_stored_entries_belong_to_this_code(captions, monkeypatch, tmp_path):
    """If this fails, the code of the study has changed: `python -m minilip.studies.prolip.scenes` measures afresh."""
    monkeypatch.setenv("MINILIP_HOME", str(tmp_path))  # what comes with the course is whole by itself
    known = study.known()
    assert list(known) == list(ARMS) and {len(results) for results in known.values()} == {len(study.SEEDS)}
    pairs = len(exam.pairs(captions, 8000, seed=5)[0])
    for arm, results in known.items():
        for result in results:
            assert all(map(math.isfinite, numbers(result))), arm
            assert set(result) >= {"seconds", "zero-shot", "selective", "retrieval", "prompts", "traversal"}
            assert set(result) <= set(study.Result.__annotations__)
            assert ({"captions", "pictures", "inclusion"} <= set(result)) == (arm in PROBABILISTIC)
            if arm in PROBABILISTIC:
                assert result["inclusion"]["pairs"] == pairs
                assert result["captions"]["by scenes"].keys() == {str(n) for n in captions.fits.unique().tolist()}
                assert result["traversal"]["root"] in captions.texts
        assert len({json.dumps(result["selective"]) for result in results}) == len(results)  # seeds differ


def test_stored_emoji_entries_belong_to_this_code(monkeypatch, tmp_path):
    """If this fails, the code of the study has changed: `python -m minilip.studies.prolip.emoji` measures afresh."""

    class Table(EmojiPairs):
        def _pictures(self, artist):
            return np.zeros((len(self.labels), 3, 1, 1), dtype=np.uint8)

    monkeypatch.setattr(emoji, "EmojiPairs", Table)
    sentences = emoji.Sentences()
    captions = [" ".join(sentences.phrases[c]) for c in sentences.train.concepts.tolist()]
    assert max(len(words(caption)) for caption in captions) <= sentences.tokenizer.length  # none was cut
    monkeypatch.setenv("MINILIP_HOME", str(tmp_path))
    known = emoji.known()
    assert list(known) == list(emoji.ARMS) and {len(results) for results in known.values()} == {len(emoji.SEEDS)}
    for arm, results in known.items():
        for result in results:
            assert all(map(math.isfinite, numbers(result))), arm
            assert result["tags"] == len(sentences.tags)
            shared = dict(zip(sentences.tags, sentences.shared.tolist(), strict=True))
            assert all(shared[tag] == count for tag, (count, _) in result["common"].items())
        assert len({result["shared"] for result in results}) == len(results)  # seeds differ
