"""The studies of lesson 08: what the writer reads is text, captions are true, nothing frozen moves, scores add up."""

import math

import pytest
import torch

from minilip.data.emoji import ARTISTS, UNSEEN_ARTIST
from minilip.data.fetch import MissingData
from minilip.data.reading import agreement
from minilip.data.scenes import SHAPES
from minilip.limber import LimBeR, LinearPrompt
from minilip.nn.language import LanguageModel
from minilip.nn.tokenizer import PAD
from minilip.studies.limber import bed, emoji, scenes
from minilip.studies.limber.bed import ATTRIBUTES, END, EYES, TOKENIZER
from tests.helpers import seeded

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def language():
    torch.manual_seed(0)
    return LanguageModel(END + 1, bed.LENGTH, bed.DIM)


# ---- scenes ----------------------------------------------------------------------------------------------------------


def test_a_text_is_about_one_scene_and_every_sentence_of_it_is_true():
    rows = bed.texts(seeded(), 200)
    assert rows.shape[1] <= bed.LENGTH and (rows[:, 0] == END).all()
    for row in rows.tolist():
        text = [t for t in row if t != PAD]
        assert text[-1] == END and 1 <= text.count(END) - 1 <= bed.SAID
        for names in ATTRIBUTES.values():
            words = {TOKENIZER.vocabulary[t] for t in text if t != END} & set(names)
            assert len(words) <= 1


def test_captions_are_true_and_fit_behind_the_prompts():
    latents = bed.WORLD.sample(100, seeded())
    tokens = scenes.tokens_of(latents)
    assert (tokens[:, -1] == END).all() and 16 + tokens.shape[1] <= bed.LENGTH
    right = agreement(TOKENIZER.decode(tokens[:, :-1]), latents)
    assert all(right[name].all() for name in (*ATTRIBUTES, "all"))


@pytest.mark.parametrize("name", EYES)
def test_eyes_are_frozen_standardised_and_of_one_shape(name):
    tower = bed.train_eye(name, 0, CPU, steps=1)
    images = bed.scenes(seeded(1), 200)[0]
    for pooled, shape in ((False, (200, 16, 192 if name == "pixels" else 64)), (True, (200, shape_of(name)))):
        eye = bed.standardised(tower, pooled, CPU)
        h = eye(images)
        assert h.shape == shape and not any(p.requires_grad for p in eye.parameters())
        if name in ("random", "pixels"):  # after one step of training most numbers of the others stand still
            assert float(h.flatten(0, -2).std(dim=0).median()) == pytest.approx(1, abs=0.2)


def shape_of(name):
    return 192 if name == "pixels" else 64


def test_an_unknown_eye_is_refused():
    with pytest.raises(ValueError, match="expected one of"):
        bed.train_eye("cat", 0, CPU)


def test_the_examination_of_a_writer_that_knows(language, monkeypatch):
    images, latents = bed.scenes(seeded(2), 50)
    model = LimBeR(bed.Patches(), LinearPrompt(192, bed.DIM), language, END)
    monkeypatch.setattr(scenes, "write", lambda *_: bed.WORLD.caption(latents))
    named = {n: [TOKENIZER(w)[0, 0] for w in names] for n, names in ATTRIBUTES.items()}
    monkeypatch.setattr(scenes, "answers", lambda m, x, n: torch.stack(named[n])[getattr(latents, n)[:, 0]])
    monkeypatch.setattr(scenes, "nats", lambda m, x, t: torch.full((5,), 0.5 if x is images else 2.0))
    found = scenes.examine(model, images, latents)
    assert set(found["caption"].values()) == set(found["answer"].values()) == {1.0}
    assert found["nats"] == {"size": 0.5, "colour": 0.5, "shape": 0.5, "caption": 2.5} and found["shuffled"] == 10.0


def test_an_untrained_writer_pays_about_the_logarithm_of_its_words(language):
    images, latents = bed.scenes(seeded(3), 64)
    model = LimBeR(bed.Patches(), LinearPrompt(192, bed.DIM), language, END)
    cost = scenes.nats(model, images, scenes.tokens_of(latents))
    assert cost.mean().item() == pytest.approx(math.log(END + 1), abs=0.4)
    assert scenes.blind()["caption"] == pytest.approx(math.log(48)) and len(SHAPES) == 3


def test_the_closed_form_puts_words_where_words_stand(language, monkeypatch):
    """From features that are the caption itself, least squares finds the words' own vectors."""

    _, latents = bed.scenes(seeded(2000), 4000)
    one_hot = [torch.nn.functional.one_hot(getattr(latents, n)[:, 0], len(v)) for n, v in ATTRIBUTES.items()]
    features = torch.cat(one_hot, dim=1).float()
    monkeypatch.setattr(scenes, "encode", lambda *_: features)
    model = scenes.closed_form(torch.nn.Identity(), language, ridge=1e-6)
    prompts = model.prompt(features[:20])
    torch.testing.assert_close(prompts, language.embed(scenes.tokens_of(latents)[:20]), rtol=0, atol=1e-3)


def test_a_short_measurement_has_every_part_and_moves_nothing(monkeypatch):
    some = ("CLIP", "pixels")
    monkeypatch.setattr(scenes, "EYES", some)
    found = scenes.measure(0, scale=0.003, count=20)
    assert set(found) == {"reads", "prompts", "frozen", *some} and found["frozen"] is True
    assert all({"map", "pooled", "closed form", "probe"} == set(found[name]) for name in some)


def test_stored_scenes_are_of_this_code_and_every_map_looks():
    runs = scenes.known()
    assert len(runs) == 3 and all(run["frozen"] for run in runs)
    for run in runs:
        assert min(run["reads"].values()) > 0.95
        assert all(run[name]["map"]["shuffled"] > run[name]["map"]["nats"]["caption"] for name in EYES)


# ---- emoji -----------------------------------------------------------------------------------------------------------


class Writer:
    end = 2

    def tokens(self, sentences, ended=True):
        rows = [[3 + len(w) for w in s.split()] + [2] for s in sentences]
        return torch.tensor([row + [2] * (max(map(len, rows)) - len(row)) for row in rows])


@pytest.fixture(scope="module")
def task():
    try:
        return emoji.Task("EfficientNet", Writer())
    except MissingData as error:
        pytest.skip(str(error))


def test_parts_share_no_concept_and_training_shows_no_unseen_artist(task, monkeypatch):
    assert not set(task.train.tolist()) & set(task.held.tolist())
    assert ARTISTS.index(UNSEEN_ARTIST) not in emoji.SEEN and emoji.QUESTIONS["new artist"] == UNSEEN_ARTIST
    marks = torch.arange(task.x.shape[0] * task.x.shape[1]).float().view(task.x.shape[:2])
    monkeypatch.setattr(task, "x", marks[..., None])
    seen = torch.cat([task.batch(seeded(s))[0].flatten() for s in range(20)]).long()
    assert set((seen // marks.shape[1]).tolist()) == set(emoji.SEEN)
    assert set((seen % marks.shape[1]).tolist()) <= set(task.train.tolist())


def test_features_are_white_on_what_is_trained_on(task):
    x = task.x[emoji.SEEN][:, task.train].flatten(0, 1)
    torch.testing.assert_close(torch.cov(x.T) * x.shape[1], torch.eye(x.shape[1]), atol=0.02, rtol=0)


def test_a_batch_is_cut_behind_its_longest_caption(task):
    tokens = task.batch(seeded(1))[1]
    assert (tokens[:, -1] == 2).all() and bool((tokens[:, -2] != 2).any())


def test_the_nearest_drawing_of_a_trained_concept_is_its_own(task):
    some = task.train[:30]
    assert emoji.nearest(task, some, emoji.SEEN[0]) == [task.labels[c] for c in some.tolist()]


@pytest.mark.parametrize(
    "told, true, score",
    [
        ("red apple", "red apple", 1),
        ("", "cat", 0),
        ("red red", "red apple", 0.5),
        ("Cat!", "cat", 1),
        ("dog", "cat", 0),
    ],
)
def test_f1(told, true, score):
    assert emoji.f1(told, true) == pytest.approx(score)


def test_stored_captions_are_of_this_code(task):
    for runs in emoji.known().values():
        (run,) = runs
        assert run["frozen"] is True and run["new concepts"]["concepts"] == task.held.tolist()
        assert set(run["new artist"]["concepts"]) <= set(task.train.tolist())
        for question in emoji.QUESTIONS:
            part = run[question]
            assert part["true"] == [task.labels[c] for c in part["concepts"]] and len(part["told"]) == len(part["true"])
            assert all(len(v) == len(part["true"]) for by in part["scores"].values() for v in by.values())


@pytest.mark.parametrize("eye, part", [("cat", "test"), ("EfficientNet", "train")])
def test_what_there_is_not_is_refused(eye, part):
    with pytest.raises(ValueError, match="expected one of"):
        emoji.Task(eye, Writer(), part)
