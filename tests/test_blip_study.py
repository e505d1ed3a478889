"""The studies of lesson 09: foils are wrong in one thing, what is true is true, the web's noise is what it says."""

import pytest
import torch

from minilip.blip import Kept
from minilip.data.reading import agreement
from minilip.data.scenes import OPPOSITE, RELATIONS
from minilip.studies.blip import cleaning, examination, losses, task
from minilip.studies.blip.task import BATCH, FOILS, TWINS, album, captions, code, foils, true_of, turned
from tests.helpers import seeded

SCENES = task.WORLD.sample(300, seeded(4))


def test_a_turned_caption_is_true_and_says_the_other_order():
    said = captions(turned(SCENES))
    assert bool(agreement(said, SCENES)["all"].all())
    assert all(a != b for a, b in zip(said, captions(SCENES), strict=True))
    assert torch.equal(code(turned(turned(SCENES))), code(SCENES))


def test_codes_tell_captions_apart_and_nothing_else():
    said = captions(SCENES)
    same = code(SCENES)[:, None] == code(SCENES)
    assert same.tolist() == [[a == b for b in said] for a in said]


def test_what_is_true_of_a_scene_is_what_a_reader_of_captions_finds_true():
    few = SCENES[:40]
    true = true_of(few, few)
    for j, caption in enumerate(captions(few)):
        assert torch.equal(true[:, j], agreement([caption] * 40, few)["all"])


@pytest.mark.parametrize("name", FOILS)
def test_foils_are_false_and_differ_in_one_thing(name):
    index, said = foils(SCENES, seeded())[name]
    real, right = SCENES[index], agreement(captions(said), SCENES[index])
    assert len(index) > 100 and not right["all"].any()
    changed = [(getattr(real, f) != getattr(said, f)) for f in ("colour", "shape")]
    turned_round = real.relation != said.relation
    if name == "relation turned":
        assert turned_round.all() and not changed[0].any() and not changed[1].any()
        assert torch.equal(torch.tensor(OPPOSITE)[real.relation], said.relation)
    else:
        what = changed["shape" in name]
        assert not turned_round.any() and not changed["shape" not in name].any()
        assert (what.sum(dim=1) == (1 if "one" in name else 2)).all()


def test_a_foil_that_says_the_same_is_left_out():
    alike = SCENES.with_(colour=SCENES.colour[:, :1].expand(-1, 2).clone())
    assert len(foils(alike, seeded())["colours swapped"][0]) == 0


def test_twins_show_the_objects_again_in_a_relation_of_their_own():
    scenes = album(seeded(), 64, 20)
    for f in ("colour", "shape"):
        assert torch.equal(getattr(scenes, f)[-20:], getattr(scenes, f)[:20])
    assert 0.5 < (scenes.relation[-20:] != scenes.relation[:20]).float().mean() < 1
    assert torch.equal(code(album(seeded(), 64, 0)), code(task.WORLD.sample(64, seeded())))
    assert 2 * TWINS <= BATCH


def test_batches_are_pictures_with_their_captions():
    images, tokens = task.batch(seeded(3))
    scenes = album(seeded(3))
    assert torch.equal(images, task.WORLD.render(scenes))
    assert task.tokenizer().decode(tokens) == captions(scenes)
    assert {w for r in RELATIONS for w in r.split()} <= set(task.tokenizer().vocabulary)


def test_labels_are_those_of_single_objects():
    images, labels = task.labelled(seeded())
    assert images.shape == (BATCH, 3, 32, 32) and labels.shape == (BATCH, 2)
    assert labels.amax(dim=0).tolist() == [7, 2]


def test_examined_scenes_are_not_those_of_training():
    seeds = set(task.SEEDS.values())
    assert len(seeds) == 2 and not seeds & set(range(10))
    assert not torch.equal(*(code(examination.scenes(part, 50)[0]) for part in ("val", "test")))


class Oracle(torch.nn.Module):
    """Scores with the caption's truth; describes from the other end."""

    weights = (1.0, 1.0, 1.0)

    def __init__(self, latents, images):
        super().__init__()
        self.latents, self.images, self.tokenizer = latents, images, task.tokenizer()

    def at(self, images):
        return [int((self.images == x).flatten(1).all(dim=1).nonzero()[0]) for x in images]

    def caption(self, images, top_p=None, generator=None):
        return captions(turned(self.latents[torch.tensor(self.at(images))]))

    def match(self, images, tokens):
        scenes = self.latents[torch.tensor(self.at(images))]
        return agreement(self.tokenizer.decode(tokens), scenes)["all"].float()


def test_a_perfect_model_gets_full_marks(monkeypatch):
    latents, images = examination.scenes("val", 60)
    model = Oracle(latents, images)
    assert all(v == 1 for k, v in examination.describes(model, "val", 60)["greedy"].items() if k != "different")
    found = examination.matches(model, "val", 60)
    assert set(found) == set(FOILS) and set(found.values()) == {1.0}


def test_the_web_is_as_wrong_as_it_says():
    source = cleaning.web(seeded(), 400, 0.4)
    right = agreement(source.captions, source.latents)["all"]
    assert torch.equal(source.true, right) and torch.equal(source.kind == 0, right)
    assert 0.57 <= right.float().mean() <= 0.63
    assert abs(int((source.kind == 1).sum()) - int((source.kind == 2).sum())) < 12
    near = [(a, b) for a, b, k in zip(source.captions, captions(source.latents), source.kind, strict=True) if k == 2]
    assert all(sorted(a.split())[:1] and a != b for a, b in near)


def test_precision_and_recall_of_the_filter_are_counted_by_hand():
    source = cleaning.web(seeded(1), 50, 0.4)
    true = source.true.nonzero()[:, 0]
    wrong = (~source.true).nonzero()[:, 0]
    picture = torch.cat([true[:6], wrong[:2], torch.tensor([0, 1])])
    said = [*(source.captions[i] for i in picture[:8]), captions(source.latents)[0], "a red circle"]
    kept = Kept(picture, task.tokenizer()(said), torch.arange(10) >= 8)
    found = cleaning.filtered(kept, source, task.tokenizer())
    assert found["precision"] == 0.75 and found["recall"] == round(6 / len(true), 4)
    assert found["written and kept"] == 2 / 50 and found["true of written and kept"] == 0.5


def test_measures_say_what_they_say_they_say(monkeypatch):
    monkeypatch.setattr(task, "WARM", 2)
    arm = losses.Arm(steps=2, warm=2)
    model, history = losses.train(arm, 0, progress=False)
    found = examination.examine(model, "val", 40, 12)
    assert set(found) == {"found", "cosine", "matched", "said"} and len(history.loss) == 2
    assert {len(r) for way in found["found"].values() for r in way.values()} == {12}
    contrast_alone = examination.examine(
        losses.train(losses.ARMS["ITC"]._replace(steps=2, warm=2), 0, False)[0], "val", 40, 12
    )
    assert set(contrast_alone) == {"found", "cosine"} and set(contrast_alone["found"]) == {"ITC"}


def test_the_stored_measurements_are_of_this_code():
    known = losses.known()
    assert set(known) == set(losses.ARMS) and all(len(runs) == 3 for runs in known.values())
    assert all(len(run["found"]["ITC"]["captions"]) == examination.GALLERY for runs in known.values() for run in runs)
    cleaned = cleaning.known()
    assert len(cleaned) == 3 and all(set(run["arms"]) == set(cleaning.ARMS) for run in cleaned)


def test_an_arm_with_a_seed_missing_is_said(monkeypatch):
    monkeypatch.setitem(losses.ARMS, "never measured", losses.Arm(steps=7))
    with pytest.raises(LookupError, match="blip"):
        losses.known()
