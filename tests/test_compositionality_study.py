"""The studies of lesson 10: batches hold what they say, worlds have the habits they say, results add up."""

import pytest
import torch

from minilip.data.latents import COLOURS
from minilip.data.reading import agreement
from minilip.studies.compositionality import bed, bias, matcher, order, prior
from minilip.studies.compositionality.bed import CAPTIONS, alike, draw, layout, sentences
from tests.helpers import seeded

EYE = 1


@pytest.fixture(scope="module")
def pool():
    torch.manual_seed(0)
    return bed.Pool(400, steps=EYE)


# ---- the bed ---------------------------------------------------------------------------------------------------------


def test_eight_captions_are_alike_to_a_bag_of_words_and_two_mean_the_same():
    z = draw(30_000, seeded())
    kinds = {}
    for caption, words, place in zip(sentences(z), alike(z).tolist(), map(tuple, layout(z).tolist()), strict=True):
        kinds.setdefault(words, {}).setdefault(place, set()).add(caption)
    assert sum(len(c) for places in kinds.values() for c in places.values()) == CAPTIONS == 1344
    assert all(len(places) == 4 and all(len(c) == 2 for c in places.values()) for places in kinds.values())
    assert pytest.approx(1 / len(kinds)) == bed.SAME_WORDS and pytest.approx(1 / (4 * len(kinds))) == bed.SAME_MEANING


def test_the_layout_is_of_the_picture():
    z = draw(200, seeded())
    axis = (z.relation >= 2).long()
    along = z.position.gather(2, axis[:, None, None].expand(-1, 2, 1)).squeeze(2)  # (N, 2) x or y of both
    nearer = along.argmin(dim=1)  # left, or below
    read = layout(z)
    assert torch.equal(read[:, 0], axis)
    assert torch.equal(read[:, 1], z.colour.gather(1, nearer[:, None]).squeeze(1))
    assert torch.equal(read[:, 4], z.shape.gather(1, 1 - nearer[:, None]).squeeze(1))


def test_in_a_world_of_habits_the_earlier_colour_and_shape_come_first():
    z = draw(300, seeded(), habits=True)
    assert (z.colour[:, 0] < z.colour[:, 1]).all() and (z.shape[:, 0] < z.shape[:, 1]).all()
    free = draw(300, seeded())
    assert 100 < int((free.colour[:, 0] < free.colour[:, 1]).sum()) < 200
    assert agreement(sentences(free), free)["all"].all()


def test_the_second_half_of_the_pool_has_its_colours_exchanged(pool):
    z, n = pool.latents, len(pool) // 2
    assert torch.equal(z.colour[:n], z.colour[n:].flip(1)) and torch.equal(z.shape[:n], z.shape[n:])
    assert torch.equal(pool.alike[:n], pool.alike[n:]) and pool.x.shape == (2 * n, bed.WIDTH)


# ---- batches ---------------------------------------------------------------------------------------------------------


def test_batches_hold_what_they_say(pool):
    g = seeded(1)
    for _ in range(5):
        rows = order.members(pool, order.Arm(batch=40, mates="kept apart"), g)
        assert len(rows) == 40 == len(pool.alike[rows].unique())
        rows = order.members(pool, order.Arm(batch=40, mates="brought together"), g)
        assert torch.equal(rows[:20] + len(pool) // 2, rows[20:])
    assert len(order.members(pool, order.Arm(batch=40), g)) == 40
    with pytest.raises(ValueError, match="captions of different words"):
        order.members(pool, order.Arm(batch=200, mates="kept apart"), g)


def test_only_negclip_gets_false_captions(pool):
    x, tokens, hard = order.batches(pool, order.Arm("NegCLIP", batch=12))(seeded())
    told = bed.tokenizer().decode(hard)
    rows = order.members(pool, order.Arm("NegCLIP", batch=12), seeded())
    assert not agreement(told, pool.latents[rows])["all"].any() and torch.equal(tokens, pool.tokens[rows])
    assert len(order.batches(pool, order.Arm(batch=12))(seeded())) == 2 and x.shape == (12, bed.WIDTH)


@pytest.mark.parametrize("method", order.METHODS)
def test_every_method_trains_and_is_examined(method, pool):
    arm = order.Arm(method, batch=16, steps=2)
    model, history = order.train(arm, pool, 0, progress=False)
    asked = order.Examination("val", 40, eye_steps=EYE)
    assert len(history.loss) == 2
    for name in order.PROBES:
        hits = asked.probe(model, name)
        assert 0 < len(hits) <= 40 and 0 <= float(hits.min()) <= float(hits.max()) <= 1
    assert len(asked.retrieval(model)) == len(alike(asked.latents).unique()) and len(asked.naming(model)) == 40


def test_a_model_that_reads_the_layout_is_perfect():
    asked = order.Examination("val", 60, eye_steps=EYE)
    said = dict(zip(sentences(asked.latents), map(tuple, layout(asked.latents).tolist()), strict=True))
    number = {place: i for i, place in enumerate(sorted(set(said.values())))}

    class Oracle(torch.nn.Module):
        def tokenizer(self, rows, device=None):
            return torch.tensor([number.get(said.get(s, ()), len(number)) for s in rows])

        def encode_text(self, tokens):
            return torch.eye(len(number) + 1)[tokens]

        def encode_image(self, x):
            return torch.eye(len(number) + 1)[x[:, 0].long()]

    places = [number[tuple(p)] for p in layout(asked.latents).tolist()]
    asked.x = torch.tensor(places, dtype=torch.float32)[:, None].expand(-1, bed.WIDTH).contiguous()
    model = Oracle()
    assert all(float(asked.probe(model, name).mean()) == 1 for name in ("attribute", "objects", "relation", "order"))
    assert float(asked.retrieval(model).mean()) == 1


def test_unusual_scenes_are_asked_about_their_own_caption():
    asked = order.Examination("val", 30, habits=True, eye_steps=EYE)
    probe = asked.broken_probes["attribute"]
    usual = set(sentences(asked.latents))
    assert all(row[0] in usual and t not in usual for t, row in zip(probe.true, probe.false, strict=True))


@pytest.mark.parametrize("wrong", [order.Arm("BLAP"), order.Arm(mates="alone"), order.Arm(text="RNN")])
def test_an_unknown_arm_is_refused(wrong):
    with pytest.raises(ValueError, match="expected one of"):
        order.build(wrong, 0)


# ---- the planted prior -----------------------------------------------------------------------------------------------


def test_habits_come_as_often_as_they_are_said_to():
    for usual in (0.0, 0.5, 0.9, 1.0):
        z = prior.habitual(2000, usual, seeded())
        assert float((z.colour[:, 0] < z.colour[:, 1]).float().mean()) == pytest.approx(usual, abs=0.03)


@torch.no_grad()
def test_the_captioner_s_likelihoods_are_of_a_distribution():
    model = prior.Captioner(5, 8)
    x = torch.randn(1, bed.WIDTH, generator=seeded())
    # Every sentence of two words or fewer of a vocabulary of five without padding, and all that go on.
    total = sum(
        float(model.log_likelihood(x, torch.tensor([row])).exp())
        for row in [[0, 0]] + [[a, 0] for a in range(1, 5)] + [[a, b] for a in range(1, 5) for b in range(1, 5)]
    )
    assert 0 < total < 1
    first = model.out(model.gru(model.embed(torch.tensor([[5]])), model.look(x)[None])[0]).softmax(dim=2)[0, 0]
    assert float(model.log_likelihood(x, torch.tensor([[0, 0]])).exp()) == pytest.approx(float(first[6]), rel=1e-4)


# ---- the planted bias ------------------------------------------------------------------------------------------------


def test_the_correlation_has_the_strength_it_is_planted_with():
    for strength in (1 / 3, 0.7, 1.0):
        z = bias.planted(4000, strength, seeded())
        assert float((z.shape[:, 0] == z.background).float().mean()) == pytest.approx(strength, abs=0.03)
        other = z[z.shape[:, 0] != z.background]
        if len(other):
            assert (
                torch.bincount(bias.groups_of(other), minlength=9)[[1, 2, 3, 5, 6, 7]].float().std()
                < 0.2 * len(other) / 6
            )


def test_the_examination_has_as_many_of_every_group_and_captions_never_name_the_background():
    z, images = bias.examination("val", 3)
    assert torch.bincount(bias.groups_of(z)).tolist() == [3] * 9 and len(images) == 27
    assert len(bias.GROUPS) == 9 and bias.GROUPS[int(bias.groups_of(z)[0])] == "circle on black"
    assert not set(bias.tokenizer().vocabulary) & {"black", "grey", "brown"} and len(COLOURS) == 8


@pytest.mark.parametrize("repair", bias.REPAIRS)
def test_every_repair_trains(repair):
    model, history = bias.train(bias.Arm(0.9, repair, steps=2), 0, progress=False, scenes=300)
    assert len(history.loss) == 2 and isinstance(model, bias.Weighted) == (repair == "reweighted loss")


def test_weights_of_one_are_clip():
    torch.manual_seed(0)
    model, _ = bias.train(bias.Arm(0.9, "reweighted loss", steps=1), 0, progress=False, scenes=200)
    z = bias.planted(12, 0.9, seeded())
    images, tokens = bias.WORLD.render(z), bias.tokenizer()(bias.WORLD.caption(z, detail=2))
    torch.testing.assert_close(
        model.loss((images, tokens, torch.ones(12)))[0], super(bias.Weighted, model).loss((images, tokens))[0]
    )


# ---- BLIP --------------------------------------------------------------------------------------------------------


def test_blip_is_asked_in_three_ways():
    z = draw(20, seeded())
    data = matcher.places_of(z, EYE), bed.tokenizer()(sentences(z))
    model, history = matcher.train(matcher.Arm(batch=8, steps=1), data, 0, progress=False)
    assert model.eye(data[0]).shape == (20, 17, matcher.DIM) and len(history.loss) == 1
    probe = order.PROBES["objects"](z, seeded())
    hits = [matcher.ask(model, data[0], probe, way) for way in matcher.WAYS]
    assert all(len(h) == 20 for h in hits)
    picture = bed.eye(EYE).layers[0](bed.WORLD.render(z))  # (20, 96, 4, 4): place by place, channels first
    torch.testing.assert_close(data[0].view(20, 96, 4, 4), picture)


# ---- what is stored --------------------------------------------------------------------------------------------------


def test_the_stored_measurements_are_of_this_code():
    assert set(order.known()) == set(order.ARMS) and all(
        len(runs) == (8 if name in order.AGAIN.arms else 3) for name, runs in order.known().items()
    )
    assert set(bias.known()) == set(bias.ARMS)
    assert all(
        len(run["right"]) == 9 and max(run["right"]) <= bias.EACH for runs in bias.known().values() for run in runs
    )
    assert [set(run) for run in matcher.known()["BLIP"]] == [{*matcher.WAYS, "loss", "seconds"}] * 3
    for runs in prior.known().values():
        assert len(runs) == 3 and all(len(run["balanced"]) == len(prior.ALPHAS) for run in runs)
