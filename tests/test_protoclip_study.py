"""The study of lesson 11: what is trained on is not examined, each arm does what its name says, results add up."""

import math
import time

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from minilip.clip import CLIP
from minilip.data.emoji import ARTISTS, UNSEEN_ARTIST, EmojiPairs
from minilip.evaluation import linear_probe
from minilip.nn.tokenizer import words
from minilip.protoclip import ProtoCLIP
from minilip.studies.protoclip import arms as trained
from minilip.studies.protoclip import emoji as study
from minilip.studies.protoclip import examination as exam
from minilip.studies.protoclip.arms import ARMS, Apart, Arm, ByLot, batches, build, seeds
from minilip.studies.protoclip.emoji import compare, reach
from minilip.studies.protoclip.examination import Scores, glance
from minilip.studies.protoclip.task import Task


@pytest.fixture(scope="module")
def task():
    return Task("random", 0)


@pytest.fixture(scope="module")
def emoji():
    return EmojiPairs()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


# ---- data --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["subgroups", "random"])
def test_parts_share_no_concept(split):
    test, val = Task(split, 0), Task(split, 0, part="val")
    parts = [set(part.tolist()) for part in (test.train, test.held, val.held)]
    assert torch.equal(test.train, val.train)
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(test.group)
    assert min(map(len, parts)) > 100
    shared = set(test.subgroup[test.train].tolist()) & set(test.subgroup[test.held].tolist())
    assert bool(shared) == (split == "random")


def test_the_subgroup_split_is_the_library_s_and_the_random_one_has_its_sizes(task):
    library = {part: EmojiPairs(split=part).concepts for part in ("train", "test")}
    whole = Task("subgroups", 3)
    assert torch.equal(whole.train, library["train"]) and torch.equal(whole.held, library["test"])
    assert (len(task.train), len(task.held)) == (len(whole.train), len(whole.held))
    assert not torch.equal(task.train, Task("random", 1).train)


def test_training_never_shows_the_unseen_artist_nor_a_held_out_concept(task, generator):
    x, _ = task.pairs(torch.arange(task.population), generator)
    kept = [i for i, artist in enumerate(ARTISTS) if artist != UNSEEN_ARTIST]
    assert torch.equal(x, task.x[kept][:, task.train].flatten(0, 1))


def test_captions_are_labels_half_of_the_time_and_always_of_their_own_concept(task, emoji, generator):
    data, item = emoji, 5
    c = int(task.train[item])
    _, tokens = task.pairs(torch.full((4000,), item), generator)
    said = {tuple(sorted(sentence.split())) for sentence in task.tokenizer.decode(tokens)}
    label = data.labels[c].lower().split()
    tags = [tag.lower().split() for tag in data.tags[c]]
    assert len(tags) > 2
    possible = {tuple(sorted(label))} | {tuple(sorted(label + tag)) for tag in tags}
    possible |= {tuple(sorted(a + b)) for i, a in enumerate(tags) for j, b in enumerate(tags) if i != j}
    assert said == possible
    plain = sum(tuple(sorted(s.split())) == tuple(sorted(label)) for s in task.tokenizer.decode(tokens)) / 4000
    assert plain == pytest.approx(0.5, abs=0.04)


def test_words_that_training_lacks_are_left_out(task, emoji):
    unheard = 0
    for c in task.held.tolist():
        said, meant = task.tokenizer.decode(task.labels[c][None])[0].split(), words(emoji.labels[c])
        assert said == [w for w in meant if w in task.tokenizer.vocabulary]
        unheard += len(meant) - len(said)
    assert unheard > 50
    assert not (task.labels == 1).any() and not (task.tags == 1).any()


def test_opaque_captions_say_which_concept_and_nothing_else(generator):
    task = Task("random", 0, opaque=True)
    _, tokens = task.pairs(torch.arange(task.population), generator)
    said = task.tokenizer.decode(tokens)
    assert all(len(sentence.split()) == 1 for sentence in said)
    assert len(set(said)) == len(task.train)
    assert said[: len(task.train)] == said[len(task.train) : 2 * len(task.train)]  # every artist
    assert not task.labels[task.held].any()


# ---- arms --------------------------------------------------------------------------------------------------------


def test_arms_with_one_seed_start_with_the_same_towers(task):
    a, b, other = (build(arm, task, seed) for arm, seed in ((Arm(), 0), (Arm(weight=4.0), 0), (Arm(), 1)))
    assert type(a) is CLIP and type(b) is ProtoCLIP
    for name, p in a.named_parameters():
        assert torch.equal(p, dict(b.named_parameters())[name]), name
    assert not torch.equal(a.image_map.weight, other.image_map.weight)


def test_every_arm_trains_and_sees_as_many_pairs(task, generator):
    for name, arm in ARMS.items():
        if arm.opaque or arm.images != "trained" or arm.batch != trained.BATCH:
            continue
        model = build(arm, task, 0)
        draw = batches(model, arm, task)
        for _ in range(9):  # into the second episode
            batch = draw(generator)
            assert len(batch[0]) == len(batch[1]) == arm.batch
        assert math.isfinite(model.loss(batch)[0].item()), name
        assert (len(batch) == 3) == (arm.weight is not None), name
        if name not in ("CLIP, as long",):
            assert arm.steps * arm.batch == trained.STEPS * trained.BATCH, name


def test_prototypes_alone_have_no_contrastive_term(task, generator):
    arm = Arm(weight=1.0, alone=True)
    model = build(arm, task, 0).eval()
    batch = batches(model, arm, task)(generator)
    assert len(batch) == 3  # groups from the first batch on
    loss, _ = model.loss(batch)
    loss.backward()
    assert model.logit_scale.grad is None and model.prototype_scale.grad is not None
    whole = build(Arm(weight=1.0), task, 0).eval()
    whole.groups = model.groups
    total, terms = whole.loss(batch)
    assert loss.item() == pytest.approx(terms["prototype"], abs=1e-5)
    assert total.item() == pytest.approx(terms["prototype"] + terms["clip"], abs=1e-4)


def test_groups_by_lot_keep_their_sizes_and_lose_their_meaning(task, generator):
    model = build(Arm(weight=1.0, lot=True), task, 0)
    assert isinstance(model, ByLot)
    items = torch.arange(512)
    pairs = [task.pairs(items, generator)]
    model.episode(pairs, torch.Generator().manual_seed(1))
    honest = build(Arm(weight=1.0), task, 0)
    honest.episode(pairs, torch.Generator().manual_seed(1))
    for a, b in zip(model.groups["labels"], honest.groups["labels"], strict=True):
        assert torch.equal(a.bincount(minlength=48), b.bincount(minlength=48))
        assert not torch.equal(a, b)
    # Prototypes and centroids are the means of the members that were drawn, not of those that k-means found.
    assert not torch.allclose(model.groups["prototypes"], honest.groups["prototypes"], atol=1e-2)
    model.eval()
    with torch.no_grad():
        h = model.project(*pairs[0])  # (N, D) each
    for side in (0, 1):
        own, others = model.groups["labels"][side], model.groups["labels"][1 - side]
        for k in range(48):
            for found, label in ((model.groups["centroids"], own), (model.groups["prototypes"], others)):
                torch.testing.assert_close(found[side, k], h[side][label == k].mean(dim=0))
    # The captions' groups belong to the images' as they did: only who is a member is left to the lot.
    joint = [(48 * g["labels"][0] + g["labels"][1]).bincount(minlength=48**2) for g in (model.groups, honest.groups)]
    assert torch.equal(*joint)


def test_apart_widens_the_gap_in_both_spaces_whatever_the_weights(task, generator):
    x, tokens = task.pairs(torch.arange(512), generator)
    for arm in (Arm(weight=1.0, offset=1.0), Arm(weight=1.0)):
        model = build(arm, task, 0).eval()
        with torch.no_grad():
            spaces = [(model.encode_image(x), model.encode_text(tokens)), model.project(x, tokens)]
        gaps = [exam.modality_gap(v, t) for v, t in spaces]
        assert all(g > 1.2 for g in gaps) if arm.offset else all(g < 1.2 for g in gaps), (arm, gaps)
    v = F.normalize(torch.randn(100, 16), dim=1)
    torch.testing.assert_close(Apart(2.0)(3 * v) - v, torch.full((100, 16), 0.5))


# ---- reading -----------------------------------------------------------------------------------------------------


def test_zero_shot_names_the_group_of_the_nearest_mean_label():
    t = F.normalize(torch.tensor([[1.0, 0.1], [1.0, -0.1], [0.0, 1.0]]), dim=1)
    v = F.normalize(torch.tensor([[1.0, 0.2], [0.3, 1.0], [-1.0, 0.1], [1.0, 0.9]]), dim=1)
    assert exam.zero_shot(v, torch.tensor([0, 1, 1, 1]), t, torch.tensor([0, 0, 1])) == 0.75


def test_ridge_agrees_with_logistic_regression_where_classes_are_apart(generator):
    centre = 3 * torch.randn(5, 20, generator=generator)
    y = torch.arange(5).repeat(100)
    x = 7 + centre[y] + torch.randn(500, 20, generator=generator)
    a = exam.ridge(x[:400], y[:400], x[400:], y[400:])
    assert a > 0.95 and a == pytest.approx(linear_probe(x[:400], y[:400], x[400:], y[400:]), abs=0.04)
    shuffled = y[torch.randperm(500, generator=generator)]
    assert exam.ridge(x[:400], shuffled[:400], x[400:], shuffled[400:]) < 0.4


def test_probe_is_the_library_s_linear_probe(generator):
    x, y = torch.randn(300, 8, generator=generator), torch.randint(3, (300,), generator=generator)
    x[:, 0] += y
    found = exam.probe(x[:200], y[:200], {"test": (x[200:], y[200:])})
    assert found == {"test": linear_probe(x[:200], y[:200], x[200:], y[200:])}


def test_clusters_that_are_the_truth_agree_with_it(generator):
    y = torch.arange(8).repeat_interleave(40)
    centre = F.normalize(torch.randn(8, 32, generator=generator), dim=1)
    v, t = (F.normalize(centre[y] + 0.03 * torch.randn(320, 32, generator=generator), dim=1) for _ in range(2))
    found = exam.clusters(v, t, y, 8)
    assert min(found.values()) > 0.9
    lost = exam.clusters(F.normalize(torch.randn(320, 32, generator=generator), dim=1), t, y, 8)
    assert lost["AMI images, truth"] < 0.1 and lost["AMI images, texts"] < 0.1 and lost["AMI texts, truth"] > 0.9


def test_the_gap_is_the_distance_of_the_means():
    v = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert exam.modality_gap(v, -v) == pytest.approx(2**0.5)
    assert exam.modality_gap(v, v.flip(0)) == 0


def test_a_glance_leaves_the_model_as_it_was(task):
    model = build(Arm(weight=1.0), task, 0)
    before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    seen = glance(model, task)
    assert all(math.isfinite(value) for value in seen.values()) and "gap, projected" in seen
    for name, value in before.items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_a_run_is_examined_on_all_counts(monkeypatch):
    monkeypatch.setattr(trained, "LOOKS", 2)
    arm = Arm(weight=1.0, external=1.0, steps=10)
    result = study.measure(arm._asdict(), "subgroups", 0, part="val")
    assert [step for step, _ in result["curve"]["zero-shot"]] == [0, 5, 10]
    assert set(result) == {*Scores.__annotations__, "seconds", "curve"}
    assert all(0 <= result[name] <= 1 for name in Scores.__annotations__)
    # The last look and the examination are of one model.
    assert result["curve"]["zero-shot"][-1][1] == pytest.approx(result["zero-shot, held, seen"], abs=1e-4)


# ---- results -----------------------------------------------------------------------------------------------------


def test_compare_is_the_paired_t_interval(generator):
    a, b = torch.rand(2, 6, generator=generator).tolist()
    mean, low, high = compare(a, b)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert mean == pytest.approx(sum(a) / 6 - sum(b) / 6)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    with pytest.raises(ValueError, match="a and b: expected results of the same two seeds"):
        compare([1.0, 2.0], [1.0])


def test_reach_is_the_first_step_at_the_score():
    curve = [[0, 0.1], [25, 0.5], [50, 0.4], [75, 0.6]]
    assert [reach(curve, score) for score in (0.1, 0.45, 0.6, 0.7)] == [0, 25, 75, math.inf]


def test_settings_say_what_differs_from_plain_clip():
    assert study.settings("CLIP", "random", 3) == {"arm": {}, "split": "random", "seed": 3}
    assert study.settings("one-hot targets", "random", 0)["arm"] == {"weight": 4.0, "temperature": None}
    for name, arm in ARMS.items():
        assert Arm(**study.settings(name, "random", 0)["arm"]) == arm


def test_what_is_shipped_is_known_and_read_in_no_time():
    start = time.process_time()
    found = study.known()
    assert time.process_time() - start < 2  # 0.3 s of a core; to read the file for each arm took 8.5
    for split in study.RUNS:
        for name in study.arms(split):
            assert len(found[split][name]) == len(seeds(name))
        assert all(0.1 < each["majority"] < 0.4 for each in found[split]["anchors"])
    assert set(study.arms("random")) == set(ARMS) > set(study.arms("subgroups"))
