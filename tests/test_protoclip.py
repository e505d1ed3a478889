"""Back translation, targets and loss against loops; the model by hand; episodes that outlive a kill; some training."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import normalized_mutual_info_score
from torch import nn

from minilip.clip import clip_loss, zero_shot_classifier
from minilip.nn import BagOfWords, ConvNet
from minilip.nn.tokenizer import Tokenizer
from minilip.protoclip import Episodes, ProtoCLIP, back_translate, kmeans, prototype_loss, soft_targets
from minilip.training import fit
from tests.helpers import seeded, vectors


def labelled(n, k, seed=0):
    return torch.randint(k, (n,), generator=seeded(seed))


# ---- back translation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, dim, k", [(1, 1, 1), (30, 5, 7), (200, 3, 4), (10, 4, 40)])
def test_back_translation_is_a_mean_by_group(n, dim, k):
    h, y = vectors(n, dim), labelled(n, k)
    got = back_translate(h, y, k)
    index = y[:, None].expand(-1, dim)
    want = torch.zeros(k, dim, dtype=torch.double).scatter_reduce(0, index, h, "mean", include_self=False)
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)
    for group in range(k):
        mine = h.numpy()[y.numpy() == group]
        np.testing.assert_allclose(got[group], mine.mean(axis=0) if len(mine) else np.zeros(dim), atol=1e-12)


def test_settled_centroids_translate_to_themselves():
    h = vectors(300, 6)
    centroids, y = kmeans(h, 9, seeded(), iterations=200)
    torch.testing.assert_close(back_translate(h, y, 9), centroids)


def test_back_translation_does_not_see_where_the_other_modality_is():
    h, other = vectors(200, 4), vectors(200, 4, 1)
    near, far = (kmeans(x, 5, seeded(), 100)[1] for x in (other, other + 20))
    torch.testing.assert_close(back_translate(h, near, 5), back_translate(h, far, 5))


# ---- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.01, 0.3, 5.0])
def test_soft_targets_equal_a_loop_and_sum_to_one(temperature):
    C, y = vectors(6, 4, length=0.7), labelled(20, 6)
    q = soft_targets(C, y, temperature)
    for i, group in enumerate(y):
        scores = [float(C[group] @ C[k]) / temperature for k in range(6)]
        weights = [math.exp(s - max(scores)) for s in scores]
        np.testing.assert_allclose(q[i], np.array(weights) / sum(weights), atol=1e-12)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(20, dtype=torch.double))


def test_cold_targets_are_one_hot_and_hot_ones_even():
    C, y = vectors(8, 5), labelled(30, 8)
    torch.testing.assert_close(soft_targets(C, y, 1e-5), F.one_hot(y, 8).double())
    torch.testing.assert_close(soft_targets(C, y, 1e9), torch.full((30, 8), 1 / 8).double())


def test_a_longer_neighbour_outweighs_the_own_group():
    C = torch.tensor([[0.5, 0.0], [0.8, 0.6]])
    assert soft_targets(C, torch.tensor([0]), 0.01)[0, 1] > 0.99
    assert soft_targets(F.normalize(C, dim=1), torch.tensor([0]), 0.01)[0, 0] > 0.99


# ---- the loss --------------------------------------------------------------------------------------------------------


def by_loops(h, C, q, s):
    total = 0.0
    for i in range(len(h)):
        scores = [s * float(h[i] @ C[k]) for k in range(len(C))]
        normaliser = max(scores) + math.log(sum(math.exp(x - max(scores)) for x in scores))
        total -= sum(float(q[i, k]) * (scores[k] - normaliser) for k in range(len(C)))
    return total / len(h)


@pytest.mark.parametrize("scale", [0.5, 14.3, 100.0])
@pytest.mark.parametrize("batch, k", [(1, 1), (1, 5), (12, 3), (5, 30)])
def test_loss_equals_a_loop(batch, k, scale):
    h, C, y = vectors(batch, 4, length=1.3), vectors(k, 4, 1, length=0.6), labelled(batch, k)
    q = soft_targets(vectors(k, 7, 2), y, 0.2)
    assert float(prototype_loss(h, C, q, scale)) == pytest.approx(by_loops(h, C, q, scale), abs=1e-10)
    hard = F.one_hot(y, k).double()
    assert float(prototype_loss(h, C, y, scale)) == pytest.approx(by_loops(h, C, hard, scale), abs=1e-10)
    torch.testing.assert_close(prototype_loss(h, C, y, scale), prototype_loss(h, C, hard, scale))


def test_constants():
    h, y = vectors(6, 4), labelled(6, 5)
    assert float(prototype_loss(h, torch.zeros(5, 4).double(), y, 14.0)) == pytest.approx(math.log(5))
    eye = torch.eye(5).double()
    assert float(prototype_loss(eye[y], eye, y, 3.0)) == pytest.approx(math.log(1 + 4 * math.exp(-3)))
    # Prototypes that are the teacher's centroids, at the teacher's temperature: what is left is the entropy of q.
    q = soft_targets(eye, y, 1 / 3)
    entropy = float(-(q * q.log()).sum(dim=1).mean())
    assert float(prototype_loss(eye[y], eye, q, 3.0)) == pytest.approx(entropy)


def test_the_names_of_the_groups_do_not_count_and_the_groups_do():
    h, C, y = vectors(9, 4), vectors(6, 4, 1), labelled(9, 6)
    order = torch.randperm(6, generator=seeded())
    q = soft_targets(C, y, 0.3)
    torch.testing.assert_close(prototype_loss(h, C[order], q[:, order], 9.0), prototype_loss(h, C, q, 9.0))
    torch.testing.assert_close(prototype_loss(h, C[order], order.argsort()[y], 9.0), prototype_loss(h, C, y, 9.0))
    assert abs(float(prototype_loss(h, C[order], y, 9.0) - prototype_loss(h, C, y, 9.0))) > 0.1


def test_gradcheck():
    h, C, teacher = (vectors(n, 3, n).requires_grad_() for n in (5, 4, 6))
    teacher, y, s = teacher[:4].detach().requires_grad_(), labelled(5, 4), torch.tensor(3.0).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda h, C, s: prototype_loss(h, C, y, s), (h, C, s))
    # From outside the rows sum to 1 only on the surface of the softmax, so it is part of what is checked.
    assert torch.autograd.gradcheck(
        lambda h, C, t, s: prototype_loss(h, C, soft_targets(t, y, 0.5), s), (h, C, teacher, s)
    )
    assert torch.autograd.gradcheck(lambda h: back_translate(h, y, 7), (h,))


def test_half_precision_and_autocast_are_computed_in_float32():
    h, C, y = vectors(8, 5).float(), vectors(6, 5, 1).float(), labelled(8, 6)

    def all_three(h, C):
        return back_translate(h, y, 6), (q := soft_targets(C, y, 0.01)), prototype_loss(h, C, q, 14.3)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = all_three(h, C)
    for got, want in zip(inside, all_three(h, C), strict=True):
        assert got.dtype == torch.float32 and torch.equal(got, want)
    half = [x.bfloat16().requires_grad_() for x in (h, C)]
    results = all_three(*half)
    for got, want in zip(results, all_three(*(x.detach().float() for x in half)), strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.detach(), want)
    for g in torch.autograd.grad(results[2], half):
        assert g.dtype == torch.bfloat16 and g.isfinite().all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda h, C, y: back_translate(h, y, 2), "labels: expected numbers from 0 to 1, got 0 to 2"),
        (lambda h, C, y: back_translate(h, y - 1, 3), "labels: expected numbers from 0 to 2, got -1 to 1"),
        (lambda h, C, y: back_translate(h, y[:2], 3), r"labels: expected int64 of shape \(3,\), got torch.int64 of"),
        (lambda h, C, y: back_translate(h, y.float(), 3), r"labels: expected int64 of shape \(3,\), got torch.float32"),
        (lambda h, C, y: back_translate(h, y, 0), "k: expected a whole number"),
        (lambda h, C, y: back_translate(math.nan * h, y, 3), "features: expected finite numbers"),
        (lambda h, C, y: soft_targets(C, y, 0.0), "temperature: expected a finite number above 0"),
        (lambda h, C, y: soft_targets(C, y + 2, 0.1), "labels: expected numbers from 0 to 2"),
        (lambda h, C, y: soft_targets(C, y[:0], 0.1), "labels: expected .*, got"),
        (lambda h, C, y: soft_targets(C[0], y, 0.1), r"centroids: expected shape \(B, D\)"),
        (lambda h, C, y: prototype_loss(h, C[:, :1], y, 1.0), r"prototypes: expected shape \(K, 4\), got \(3, 1\)"),
        (lambda h, C, y: prototype_loss(h, math.inf * C, y, 1.0), "prototypes: expected finite numbers"),
        (lambda h, C, y: prototype_loss(h, C, y, -1.0), "logit_scale: expected a finite number above 0"),
        (lambda h, C, y: prototype_loss(h, C, y + 1, 1.0), "targets: expected numbers from 0 to 2, got 1 to 3"),
        (lambda h, C, y: prototype_loss(h, C, torch.ones(3, 2), 1.0), r"targets: expected .* \(3, 3\) rows that sum"),
        (lambda h, C, y: prototype_loss(h, C, torch.ones(3, 3), 1.0), "targets: expected .* rows that sum to 1"),
        (
            lambda h, C, y: prototype_loss(h, C, torch.tensor([[1.5, -0.5, 0.0]] * 3), 1.0),
            "targets: expected .* numbers from 0, got sums from 1 to 1, least -0.5",
        ),
        (lambda h, C, y: prototype_loss(h, C, torch.full((3, 3), math.nan), 1.0), "targets: expected"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.eye(3, 4), torch.eye(3, 4), torch.arange(3))


# ---- the model -------------------------------------------------------------------------------------------------------

WORDS = ["ape", "bee", "cat", "dog", "eel", "fox"]
ADJECTIVES = ["big", "small", "red", "blue", "wet", "dry"]
TOKENIZER = Tokenizer([f"{a} {w}" for a, w in zip(ADJECTIVES, WORDS, strict=True)])


class Frozen(nn.Module):
    """A tower for features that were made before: nothing to learn below the linear map."""

    dim = 12

    def forward(self, x):
        return x


class World:
    """Items of six groups, one a word: image features near the group's middle, a caption with some adjective."""

    def __init__(self, n=240):
        self.group, kind = labelled(n, 6), labelled(n, 6, 1)
        self.images = (vectors(6, 12, length=3.0)[self.group] + vectors(n, 12, 1)).float()
        self.tokens = TOKENIZER([f"{ADJECTIVES[k]} {WORDS[g]}" for k, g in zip(kind, self.group, strict=True)])
        self.teacher = F.one_hot(self.group, 6).float()

    def __call__(self, items, generator):
        noise = torch.randn(len(items), 12, generator=generator, device=generator.device)
        return self.images[items] + 0.1 * noise, self.tokens[items]


def make(seed=0, **kwargs):
    torch.manual_seed(seed)
    return ProtoCLIP(Frozen(), BagOfWords(len(TOKENIZER), 8), TOKENIZER, **{"dim": 8, "k": 6, "hidden": 16, **kwargs})


def batch_of(world, n=64):
    return world(torch.arange(n), seeded())


def test_without_an_episode_it_is_clip():
    model, (images, tokens) = make(), batch_of(World())
    loss, metrics = model.loss((images, tokens))
    expected = clip_loss(model.encode_image(images), model.encode_text(tokens), 1 / 0.07)
    torch.testing.assert_close(loss, expected)
    assert math.isnan(metrics["prototype"]) and math.isnan(metrics["external"])
    assert metrics["clip"] == pytest.approx(loss.item())
    assert zero_shot_classifier(model, WORDS, "{}").shape == (6, 8)


def test_heads_start_alike_and_read_what_becomes_the_embedding():
    model, (images, tokens) = make().eval(), batch_of(World())
    for a, b in zip(model.image_head.parameters(), model.text_head.parameters(), strict=True):
        assert torch.equal(a, b) and a is not b
    assert [type(x) for x in model.image_head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    h_image, h_text = model.project(images, tokens)
    assert h_image.shape == h_text.shape == (64, 64)
    torch.testing.assert_close(h_image, F.normalize(model.image_head(model.image_map(images)), dim=1))
    torch.testing.assert_close(h_text, F.normalize(model.text_head(model.text_map(model.text_tower(tokens))), dim=1))


@pytest.mark.parametrize("teacher", [False, True])
@pytest.mark.parametrize("translate", [False, True])
def test_an_episode_by_hand(translate, teacher):
    world, model = World(), make(translate=translate).train()
    pairs = [(world.images[i : i + 100], world.tokens[i : i + 100]) for i in range(0, 240, 100)]
    before = {name: x.clone() for name, x in model.state_dict().items() if isinstance(x, torch.Tensor)}
    model.episode(iter(pairs), seeded(), world.teacher if teacher else None)
    assert model.training and all(torch.equal(x, model.state_dict()[name]) for name, x in before.items())
    with torch.no_grad():
        h = model.eval().project(world.images, world.tokens)
    generator, groups = seeded(), model.groups
    for i, x in enumerate((*h, *([world.teacher] if teacher else []))):
        centroids, y = kmeans(x, 6, generator)
        assert torch.equal(groups["labels"][i], y)
        if i < 2:
            torch.testing.assert_close(groups["centroids"][i], centroids)
    for i in (0, 1):
        other = back_translate(h[i], groups["labels"][1 - i], 6) if translate else groups["centroids"][1 - i]
        torch.testing.assert_close(groups["prototypes"][i], other)
        if teacher:
            torch.testing.assert_close(groups["external"][i], back_translate(h[i], groups["labels"][2], 6))
    assert ("external" in groups) == teacher
    assert not any(x.requires_grad for x in groups.values())


@pytest.mark.parametrize("temperature", [None, 0.05])
@pytest.mark.parametrize("teacher", [False, True])
def test_the_loss_of_a_batch_by_hand(teacher, temperature):
    world, model = World(), make(weight=2.0, external=0.5, temperature=temperature).train()
    model.episode([(world.images, world.tokens)], seeded(), world.teacher if teacher else None)
    where = torch.tensor([3, 77, 200, 3, 9, 150])
    images, tokens = world.images[where], world.tokens[where]
    loss, metrics = model.loss((images, tokens, where))
    groups, s = model.groups, 1 / 0.07
    h = [x.detach().double() for x in model.project(images, tokens)]
    y = [F.one_hot(labels[where], 6).double() for labels in groups["labels"]]
    q = y
    if temperature is not None:
        q = [soft_targets(groups["centroids"][i], groups["labels"][i][where], temperature) for i in (0, 1)]
    group = [by_loops(h[i], groups["prototypes"][i].double(), q[1 - i], s) for i in (0, 1)]
    pair = float(clip_loss(model.encode_image(images), model.encode_text(tokens), s).detach())
    assert metrics["clip"] == pytest.approx(pair, rel=1e-5)
    assert metrics["prototype"] == pytest.approx(sum(group) / 2, rel=1e-4)
    total = pair + 2.0 * sum(group) / 2
    if teacher:  # its targets are one-hot whatever the temperature
        ext = [by_loops(h[i], groups["external"][i].double(), y[2], s) for i in (0, 1)]
        assert metrics["external"] == pytest.approx(sum(ext) / 2, rel=1e-4)
        total += 0.5 * sum(ext) / 2
    assert float(loss.detach()) == pytest.approx(total, rel=1e-4)
    assert list(metrics) == ["clip", "prototype", "external", "logit scale", "prototype scale"]
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_without_weight_the_groups_teach_nothing():
    world, model = World(), make(weight=0.0, external=0.0)
    model.episode([(world.images, world.tokens)], seeded(), world.teacher)
    batch = *batch_of(world), torch.arange(64)
    torch.testing.assert_close(model.loss(batch)[0], model.loss(batch[:2])[0])


def test_scales_are_kept_in_bounds():
    world, model = World(), make()
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
        model.prototype_scale.fill_(-9.0)
    _, metrics = model.loss(batch_of(world))
    assert metrics["logit scale"] == pytest.approx(100) and metrics["prototype scale"] == pytest.approx(1)


def test_under_autocast_the_loss_is_that_of_float32_features():
    world, model = World(), make()
    model.episode([(world.images, world.tokens)], seeded(), world.teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = model.loss((*batch_of(world), torch.arange(64)))
    assert loss.dtype == torch.float32 and loss.isfinite()


def test_pictures_from_a_tower_work_as_features_do():
    torch.manual_seed(0)
    model = ProtoCLIP(ConvNet(4), BagOfWords(len(TOKENIZER), 8), TOKENIZER, dim=8, k=3)
    images, tokens = torch.rand(12, 3, 16, 16), World().tokens[:12]
    model.episode([(images, tokens)], seeded())
    assert model.loss((images, tokens, torch.arange(12)))[0].isfinite()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"k": 0}, "k: expected a whole number"),
        ({"hidden": 0}, "hidden: expected a whole number"),
        ({"projected": -1}, "projected: expected a whole number"),
        ({"weight": -1.0}, "weight: expected a weight of at least 0"),
        ({"external": math.nan}, "external: expected a finite number"),
        ({"temperature": 0.0}, "temperature: expected a finite number above 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_episodes_that_do_not_fit_are_refused():
    world, model = World(), make()
    with pytest.raises(ValueError, match="batch: expected images and tokens alone before there are groups, got 3"):
        model.loss((*batch_of(world), torch.arange(64)))
    with pytest.raises(ValueError, match="k: expected at most the 5 points, got 6"):
        model.episode([(world.images[:5], world.tokens[:5])], seeded())
    with pytest.raises(ValueError, match="teacher: expected a row for each of 240 items, got 9"):
        model.episode([(world.images, world.tokens)], seeded(), world.teacher[:9])
    with pytest.raises(ValueError, match="x: expected finite numbers"):
        model.episode([(math.nan * world.images, world.tokens)], seeded())


# ---- episodes --------------------------------------------------------------------------------------------------------


def episodes(model, world=None, **kwargs):
    return Episodes(model, world or World(), 240, **{"size": 96, "batch": 32, **kwargs})


def test_an_episode_is_drawn_clustered_and_handed_out_once():
    model, world, generator = make(), World(), seeded()
    batches = episodes(model, world, warmup=1)
    for _ in range(3):
        assert len(batches(generator)) == 2 and not model.groups  # warm-up
    items = model.place["items"]
    seen = []
    for step in range(3):
        images, tokens, where = batches(generator)
        seen += where.tolist()
        mine = model.place["items"][where]
        assert torch.equal(tokens, world.tokens[mine])
        assert 0 < (images - world.images[mine]).abs().mean() < 0.2  # another view than the one that was clustered
        if step == 0:
            groups = model.groups
            assert groups["labels"].shape == (2, 96) and not torch.equal(items, model.place["items"])
        assert model.groups is groups
    assert seen == list(range(96)) and model.place["count"] == 2
    batches(generator)
    assert model.groups is not groups and model.place["count"] == 3


def test_the_teacher_follows_the_items():
    model, world = make(), World()
    batches = episodes(model, world, warmup=0, teacher=world.teacher)
    assert len(batches(seeded())) == 3
    found, true = model.groups["labels"][2], world.group[model.place["items"]]
    assert normalized_mutual_info_score(true, found) == pytest.approx(1)


def test_a_new_set_of_episodes_starts_afresh():
    model = make()
    episodes(model, warmup=0)(seeded())
    assert model.groups and model.place
    episodes(model)
    assert not model.groups and not model.place


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"size": 100}, "size: expected a multiple of the batch, 32, got 100"),
        ({"size": 16}, "size: expected a whole number of at least 32"),
        ({"size": 4, "batch": 4}, "size: expected a whole number of at least 6"),  # K
        ({"batch": 1}, "batch: expected a whole number of at least 2"),
        ({"warmup": -1}, "warmup: expected a whole number of at least 0"),
        ({"teacher": torch.ones(3, 2)}, "teacher: expected a row for each of 240 items, got 3"),
    ],
)
def test_bad_episodes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        episodes(make(), **settings)


def test_a_killed_run_goes_on_in_the_middle_of_its_episode(tmp_path):
    def run(model, steps, kill=None, **kwargs):
        draw, count = episodes(model, teacher=World().teacher), 0

        def batches(generator):
            nonlocal count
            count += 1
            if count == kill:
                raise KeyboardInterrupt
            return draw(generator)

        return fit(model, batches, steps, every=4, progress=False, **kwargs)

    whole, path = make(), tmp_path / "run.pt"
    expected = run(whole, 14)
    with pytest.raises(KeyboardInterrupt):
        run(make(), 14, kill=12, checkpoint=path)  # saved after step 8, the second of three of its episode
    resumed = make(seed=5)
    history = run(resumed, 14, checkpoint=path)
    assert history.loss == expected.loss
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_training_teaches_pairs_and_groups():
    model, world = make(), World()
    history = fit(model, episodes(model, world, teacher=world.teacher), steps=60, lr=1e-2, progress=False)
    assert history.loss[0] == history.metrics["clip"][0]
    assert [math.isnan(x) for x in history.metrics["prototype"][:4]] == [True, True, True, False]
    for name in ("clip", "prototype", "external"):
        values = [x for x in history.metrics[name] if not math.isnan(x)]
        assert sum(values[-5:]) < sum(values[:5])
    for labels in model.groups["labels"]:
        assert normalized_mutual_info_score(world.group[model.place["items"]], labels) > 0.5


def test_same_seed_same_training():
    runs = []
    for _ in range(2):
        model = make()
        runs.append(fit(model, episodes(model), steps=8, progress=False).loss)
    assert runs[0] == runs[1]
