"""Probes against scorers made by hand, NegCLIP against the cross-entropy of a table, groups against scikit-learn."""

import functools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import binom
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_sample_weight

from minilip.clip import CLIP, clip_loss
from minilip.compositionality import (
    PROBES,
    NegCLIP,
    attribute_probe,
    exchange,
    group_accuracy,
    group_weights,
    hard_captions,
    indistinct_floor,
    log_prior,
    negclip_loss,
    order_probe,
    probe_accuracy,
    probe_hits,
    probe_scores,
    relation_probe,
    replaced_probe,
    visual_gpt_score,
    worst_group,
    worst_group_interval,
)
from minilip.data.pretrained import open_clip
from minilip.data.reading import agreement, read
from minilip.data.scenes import Scenes
from minilip.nn import BagOfWords, ConvNet
from minilip.nn.tokenizer import Tokenizer, words
from tests import helpers
from tests.helpers import assert_near, seeded, value_and_gradients

vectors = functools.partial(helpers.vectors, dtype=torch.float32)
WORLD = Scenes(16, objects=2)
LATENTS = WORLD.sample(200, seeded())
SAME_WORDS = ("order", "attribute", "objects")


def probes():
    return {name: make(LATENTS, seeded(1)) for name, make in PROBES.items()}


# ---- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBES)
def test_the_true_caption_is_true_and_the_others_are_false(name):
    probe = probes()[name]
    assert agreement(probe.true, LATENTS[probe.scenes])["all"].all()
    for caption in zip(*probe.false, strict=True):
        assert not agreement(list(caption), LATENTS[probe.scenes])["all"].any()


@pytest.mark.parametrize("name", PROBES)
def test_swaps_keep_the_bag_of_words_and_the_others_do_not(name):
    probe = probes()[name]
    kept = [sorted(words(f)) == sorted(words(t)) for t, row in zip(probe.true, probe.false, strict=True) for f in row]
    assert all(kept) if name in SAME_WORDS else not any(kept)


def test_a_probe_asks_where_the_exchange_says_something_else():
    probe = attribute_probe(LATENTS)
    z = LATENTS[probe.scenes]
    assert (z.colour[:, 0] != z.colour[:, 1]).all() and (z.shape[:, 0] != z.shape[:, 1]).all()
    rest = torch.ones(len(LATENTS), dtype=torch.bool)
    rest[probe.scenes] = False
    left = LATENTS[rest]
    assert ((left.colour[:, 0] == left.colour[:, 1]) | (left.shape[:, 0] == left.shape[:, 1])).all()
    sized = attribute_probe(LATENTS, "size", ("size", "colour", "shape"))
    assert (LATENTS.size[sized.scenes, 0] != LATENTS.size[sized.scenes, 1]).all()
    assert all(f[0] != t for t, f in zip(sized.true, sized.false, strict=True))


def test_an_exchange_is_its_own_inverse_and_changes_nothing_else():
    other = exchange(LATENTS, "colour", "size")
    assert torch.equal(other.colour, LATENTS.colour.flip(1)) and torch.equal(other.shape, LATENTS.shape)
    back = exchange(other, "colour", "size")
    assert all(torch.equal(getattr(back, f), getattr(LATENTS, f)) for f in LATENTS.__dataclass_fields__)


def test_a_replaced_value_is_of_neither_object():
    for name in ("colour", "shape"):
        probe = replaced_probe(LATENTS, seeded(), name)
        said = read([row[0] for row in probe.false], objects=2)[name]
        new = said != getattr(LATENTS, name)
        assert (new.sum(dim=1) == 1).all()
        assert (said[new][:, None] != getattr(LATENTS, name)).all()
        assert set(said[new].tolist()) == set(range(8 if name == "colour" else 3))
        assert 60 < int(new[:, 0].sum()) < 140  # either object


def test_shuffles_are_words_in_another_order_from_a_seed():
    a, b, c = (order_probe(LATENTS, seeded(s), shuffles=3) for s in (0, 0, 1))
    assert a.false == b.false != c.false and all(
        len(row) == 3 and t not in row for t, row in zip(a.true, a.false, strict=True)
    )


def test_opposite_relations_are_opposite():
    probe = relation_probe(LATENTS)
    told = zip(probe.true, (row[0] for row in probe.false), strict=True)
    pairs = {(t.split(" ", 3)[3].rsplit(" ", 3)[0], f.split(" ", 3)[3].rsplit(" ", 3)[0]) for t, f in told}
    assert pairs == {("left of", "right of"), ("right of", "left of"), ("above", "below"), ("below", "above")}


@pytest.mark.parametrize("make", PROBES.values())
def test_scenes_of_one_object_are_refused(make):
    with pytest.raises(ValueError, match="two objects"):
        make(Scenes(16).sample(3, seeded()), seeded())


def test_what_cannot_be_asked_is_refused():
    alike = LATENTS.with_(colour=torch.zeros_like(LATENTS.colour))
    with pytest.raises(ValueError, match="whose objects differ"):
        attribute_probe(alike)
    with pytest.raises(ValueError, match="another attribute"):
        attribute_probe(LATENTS, "colour", ("colour",))
    with pytest.raises(ValueError, match="expected one of opposite, objects"):
        relation_probe(LATENTS, "passive")


# ---- scorers made by hand --------------------------------------------------------------------------------------------


class Scorer(torch.nn.Module):
    """Vectors of captions by a function of the sentence; a picture's vector is that of its own caption."""

    def __init__(self, code):
        super().__init__()
        self.code, self.sentences = code, WORLD.caption(LATENTS, detail=2)

    def tokenizer(self, sentences, device=None):
        return torch.stack([self.code(s) for s in sentences])

    def encode_text(self, tokens):
        return tokens

    def encode_image(self, images):
        return torch.stack([self.code(self.sentences[int(i)]) for i in images[:, 0]])


NUMBERS = {}


def perfect(sentence):
    number = NUMBERS.setdefault(sentence, len(NUMBERS))
    return F.one_hot(torch.tensor(number), 5000).float()


def bag(sentence):
    counts = torch.zeros(40)
    for word in words(sentence):
        if word not in ("a", "an"):
            counts[NUMBERS.setdefault(("word", word), len([k for k in NUMBERS if isinstance(k, tuple)]))] += 1
    return F.normalize(counts, dim=0)


INDICES = torch.arange(len(LATENTS)).float()[:, None]


@pytest.mark.parametrize("name", PROBES)
def test_the_three_scorers(name):
    probe = probes()[name]
    chance = 1 / (1 + len(probe.false[0]))
    assert probe_accuracy(probe_scores(Scorer(perfect), INDICES, probe)) == 1
    blind = probe_scores(Scorer(lambda s: torch.ones(3)), INDICES, probe)
    assert [probe_accuracy(blind, t) for t in ("lot", "wrong", "right")] == pytest.approx([chance, 0, 1])
    counted = probe_scores(Scorer(bag), INDICES, probe)
    assert probe_accuracy(counted) == pytest.approx(chance if name in SAME_WORDS else 1)
    assert probe_accuracy(counted, "wrong") == (0 if name in SAME_WORDS else 1)


def test_a_bag_of_words_tower_is_at_chance_whatever_its_weights():
    tokenizer = Tokenizer(WORLD.caption(WORLD.sample(500, seeded()), detail=2))
    model = CLIP(ConvNet(4), BagOfWords(len(tokenizer), 8), tokenizer, 8)
    probe = relation_probe(LATENTS, "objects")
    scores = probe_scores(model, WORLD.render(LATENTS), probe).double()
    torch.testing.assert_close(scores[:, 0], scores[:, 1], rtol=0, atol=1e-6)
    rounded = scores.mul(1e4).round()  # sums of the same numbers in another order
    assert probe_accuracy(rounded, "wrong") < 0.02 and abs(probe_accuracy(rounded) - 0.5) < 0.02


def test_a_score_of_picture_and_words_at_once_is_used_as_it_is():
    probe = relation_probe(LATENTS)
    scorer = Scorer(perfect)
    table = probe_scores(scorer, INDICES, probe, score=lambda x, t: x[:, 0] - t.argmax(dim=1), batch=7)
    want = [
        [float(s) - NUMBERS[c] for c in (t, f[0])]
        for s, t, f in zip(probe.scenes, probe.true, probe.false, strict=True)
    ]
    assert table.tolist() == want
    with pytest.raises(ValueError, match="score: expected one for each"):
        probe_scores(scorer, INDICES, probe, score=lambda x, t: t)
    with pytest.raises(ValueError, match="probe: expected a Probe of these"):
        probe_scores(scorer, INDICES[:5], probe)


def test_the_probes_run_on_open_clip():
    torch.manual_seed(0)
    model, z = open_clip("ViT-S-32-alt", None), LATENTS[:3]
    for name in ("order", "relation"):
        scores = probe_scores(model, WORLD.render(z), PROBES[name](z, seeded()))
        assert scores.shape == (3, 5 if name == "order" else 2) and bool((scores.abs() <= 1.001).all())
        assert not torch.equal(scores[:, 0], scores[:, 1])


# ---- ties ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=1, max_size=8))
def test_hits_count_ties_as_they_say(rows):
    scores = torch.tensor(rows).float()
    for ties in ("lot", "wrong", "right"):
        want = []
        for true, *false in rows:
            beside = sum(f == true for f in false)
            won = true >= max(false)
            want.append(won * {"lot": 1 / (1 + beside), "wrong": float(beside == 0), "right": 1.0}[ties])
        assert probe_hits(scores, ties).tolist() == pytest.approx(want)
        assert probe_accuracy(scores, ties) == pytest.approx(np.mean(want))


def test_the_two_conventions_of_aro_by_argmax():
    scores = torch.randint(3, (300, 5), generator=seeded()).float()
    false_first = np.concatenate([scores[:, 1:], scores[:, :1]], axis=1)
    assert probe_accuracy(scores, "wrong") == pytest.approx(np.mean(false_first.argmax(axis=1) == 4))
    assert probe_accuracy(scores, "right") == pytest.approx(np.mean(scores.numpy().argmax(axis=1) == 0))
    broken_by_lot = scores + 1e-3 * torch.rand(400, 300, 5, generator=seeded())
    drawn = (broken_by_lot.argmax(dim=2) == 0).double().mean()
    assert probe_accuracy(scores, "lot") == pytest.approx(float(drawn), abs=0.01)


# ---- NegCLIP ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch, hard", [(2, 1), (5, 5), (7, 21)])
def test_negclip_is_the_cross_entropy_of_a_table_made_by_hand(batch, hard):
    v, t, h, s = vectors(batch, 6), vectors(batch, 6, 1), vectors(hard, 6, 2), torch.tensor(9.0)

    def by_hand(v, t, h, s):
        rows = []
        for i in range(batch):
            rows.append(torch.stack([s * (v[i] * c).sum() for c in (*t, *h)]))
        table = torch.stack(rows)
        return (F.cross_entropy(table, torch.arange(batch)) + F.cross_entropy(table.T[:batch], torch.arange(batch))) / 2

    assert_near(value_and_gradients(negclip_loss, v, t, h, s), value_and_gradients(by_hand, v, t, h, s))


def test_constants_of_negclip():
    ones = torch.ones(6, 4)
    assert float(negclip_loss(ones, ones, torch.ones(6, 4), 3.0)) == pytest.approx((math.log(12) + math.log(6)) / 2)
    v, t = vectors(6, 4), vectors(6, 4, 1)
    far = -100 * v.sum(dim=0, keepdim=True)
    assert float(negclip_loss(v.abs(), t, -far.abs(), 1.0)) == pytest.approx(float(clip_loss(v.abs(), t, 1.0)))
    own = torch.eye(6)  # a hard caption that cannot be told from the true one costs half of log 2
    assert float(negclip_loss(own, own, own, 50.0) - clip_loss(own, own, 50.0)) == pytest.approx(math.log(2) / 2)


def test_a_hard_caption_asks_no_question():
    v, t, h = vectors(5, 4), vectors(5, 4, 1), vectors(5, 4, 2)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        negclip_loss(v, t, h, 5.0), negclip_loss(v, t, h[order], 5.0)
    )  # whose it is does not matter
    assert float(negclip_loss(v, t, h, 5.0)) > float(clip_loss(v, t, 5.0))


def test_gradcheck_and_half_precision():
    v, t, h = (vectors(3, 3, i, dtype=torch.double).requires_grad_() for i in range(3))
    assert torch.autograd.gradcheck(negclip_loss, (v, t, h, torch.tensor(4.0, dtype=torch.double, requires_grad=True)))
    low = negclip_loss(*(x.detach().bfloat16() for x in (v, t, h)), 100.0)
    assert low.dtype == torch.float32 and torch.isfinite(low)


def test_the_model_learns_through_all_three_parts():
    tokenizer = Tokenizer(WORLD.caption(LATENTS, detail=2))
    model = NegCLIP(ConvNet(4), BagOfWords(len(tokenizer), 8), tokenizer, 8)
    z = LATENTS[:6]
    batch = (WORLD.render(z), tokenizer(WORLD.caption(z, detail=2)), tokenizer(hard_captions(z, seeded())))
    loss, metrics = model.loss(batch)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters()) and float(metrics["logit scale"]) == pytest.approx(
        1 / 0.07
    )
    model.eval()
    with torch.no_grad():
        v, t, h = model.encode_image(batch[0]), model.encode_text(batch[1]), model.encode_text(batch[2])
        torch.testing.assert_close(model.loss(batch)[0], negclip_loss(v, t, h, model.logit_scale.exp()))
    with pytest.raises(ValueError, match="images, tokens and hard tokens"):
        model.loss(batch[:2])


def test_hard_captions_are_false_and_of_every_kind():
    hard = hard_captions(LATENTS, seeded())
    assert not agreement(hard, LATENTS)["all"].any()
    said = read(hard, objects=2)
    colour, shape = ((said[n] != getattr(LATENTS, n)).any(dim=1) for n in ("colour", "shape"))
    relation = said["relation"] != LATENTS.relation
    kinds = [colour & ~shape, shape & ~colour, colour & shape, relation]
    assert all(int(kind.sum()) > 20 for kind in kinds)
    assert hard == hard_captions(LATENTS, seeded()) != hard_captions(LATENTS, seeded(1))


# ---- what a batch pays -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch, share", [(1, 0.3), (2, 0.5), (64, 1 / 168), (256, 0.01), (7, 0.0), (7, 1.0)])
def test_the_floor_is_an_expectation(batch, share):
    n = np.arange(batch)
    assert indistinct_floor(batch, share) == pytest.approx(float(binom.pmf(n, batch - 1, share) @ np.log1p(n)))


def test_floors_are_those_of_the_best_critics_in_scenes():
    """An ideal critic of the meaning, and one of the bag of words, on batches drawn from the world."""
    g, batch, meaning, bag_ = seeded(3), 48, [], []
    for _ in range(150):
        z = WORLD.sample(3 * batch, g)
        z = z[(z.colour[:, 0] != z.colour[:, 1]) & (z.shape[:, 0] != z.shape[:, 1])][:batch]
        turned = ((z.relation == 1) | (z.relation == 2)).long()
        order = torch.stack([turned, 1 - turned], dim=1)
        where = torch.cat([x.gather(1, order) for x in (z.colour, z.shape)], dim=1) * torch.tensor([1000, 100, 10, 1])
        loose = torch.cat([x.sort(dim=1).values for x in (z.colour, z.shape)], dim=1) * torch.tensor([1000, 100, 10, 1])
        for found, code in ((meaning, where), (bag_, loose)):
            number = code.sum(dim=1) * 10 + z.relation // 2
            same = (number[:, None] == number).sum(dim=1).double()  # the pairs that this critic cannot tell from it
            found.append(float(same.log().mean()))
    for found, share in ((meaning, 2 / 1344), (bag_, 8 / 1344)):
        error = np.std(found) / math.sqrt(len(found))
        assert abs(np.mean(found) - indistinct_floor(batch, share)) < 4 * error + 1e-3


# ---- the prior of the language ---------------------------------------------------------------------------------------


def test_the_prior_is_a_mean_of_likelihoods():
    log_p = -40 + 20 * torch.randn(6, 9, generator=seeded(), dtype=torch.double)
    torch.testing.assert_close(log_prior(log_p).numpy(), logsumexp(log_p.numpy(), axis=1) - math.log(9))
    assert (log_prior(log_p) > log_p.mean(dim=1)).all()  # Jensen
    assert torch.isfinite(log_prior(log_p - 1000)).all()
    assert torch.autograd.gradcheck(log_prior, log_p.requires_grad_())


def test_alpha_goes_from_the_likelihood_to_the_mutual_information():
    joint = torch.rand(4, 5, generator=seeded(), dtype=torch.double)
    joint /= joint.sum()
    given_image, prior = (joint / joint.sum(dim=0)).log(), joint.sum(dim=1, keepdim=True).log()
    pmi = (joint / (joint.sum(dim=0) * joint.sum(dim=1, keepdim=True))).log()
    torch.testing.assert_close(visual_gpt_score(given_image, prior, 1.0), pmi)
    torch.testing.assert_close(visual_gpt_score(given_image, prior, 0.0), given_image)
    torch.testing.assert_close(visual_gpt_score(given_image, prior, 0.3), 0.7 * given_image + 0.3 * pmi)
    with pytest.raises(ValueError, match="broadcasts to"):
        visual_gpt_score(given_image, torch.zeros(7, dtype=torch.double))


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_groups_as_scikit_learn_counts_them():
    g, y, p = (torch.randint(k, (300,), generator=seeded(k)) for k in (4, 3, 2))
    hits = (y == p).float()
    want = [accuracy_score(y[g == k], p[g == k]) for k in range(4)]
    torch.testing.assert_close(group_accuracy(hits, g), torch.tensor(want, dtype=torch.double))
    assert worst_group(hits, g) == pytest.approx(min(want))
    torch.testing.assert_close(group_weights(g).numpy(), compute_sample_weight("balanced", g.numpy()).astype("float32"))
    assert float(group_weights(g).mean()) == pytest.approx(1)


def test_a_group_without_an_example_is_refused():
    with pytest.raises(ValueError, match="none of group 1"):
        group_accuracy(torch.ones(2), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="none of group 0"):
        group_weights(torch.tensor([1, 2]))


def test_the_least_of_equals_is_too_low_and_the_interval_knows():
    rng, share, runs = np.random.default_rng(0), 0.9, 120
    groups = torch.arange(8).repeat_interleave(50)
    found, corrected, covered = [], [], 0
    for seed in range(runs):
        hits = torch.from_numpy((rng.random(400) < share).astype("float32"))
        low, high, bias = worst_group_interval(hits, groups, draws=200, seed=seed)
        found.append(worst_group(hits, groups))
        corrected.append(found[-1] - bias)
        covered += low <= share <= high
    expected = sum(binom.sf(k - 1, 50, share) ** 8 for k in range(1, 51)) / 50  # E min of eight binomials
    assert np.mean(found) == pytest.approx(expected, abs=0.01) and expected < share - 0.05
    assert abs(np.mean(corrected) - share) < 0.7 * abs(np.mean(found) - share)
    assert covered / runs > 0.88


def test_one_group_has_the_ordinary_interval_and_the_seed_decides():
    hits = (torch.arange(200) % 5 > 0).float()
    low, high, bias = worst_group_interval(hits, torch.zeros(200, dtype=torch.int64))
    assert 0.73 < low < 0.76 and 0.84 < high < 0.87 and abs(bias) < 0.005
    assert (low, high, bias) == worst_group_interval(hits, torch.zeros(200, dtype=torch.int64))
