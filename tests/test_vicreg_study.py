"""The study of lesson 05: what is trained on is not examined, each arm is what it says, readings of known answers."""

import pytest
import torch

from minilip.data.emoji import SEEN_ARTISTS, EmojiPairs
from minilip.nn import ConvNet
from minilip.simclr import SimCLR
from minilip.studies.vicreg import terms as study
from minilip.studies.vicreg.terms import ARMS, Arm, build, drawings, examine, measure, train, views
from minilip.vicreg import VICReg


def test_parts_share_no_concept_and_no_artist_is_new():
    parts = [set(EmojiPairs(split=split).concepts.tolist()) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts))
    for split, concepts in zip(("train", "val", "test"), parts, strict=True):
        assert drawings(split).shape == (len(SEEN_ARTISTS), len(concepts), 3, 32, 32)


def test_two_views_are_of_one_drawing():
    marks = torch.arange(12.0).view(3, 4, 1, 1, 1).expand(-1, -1, 3, 16, 16) / 12  # a grey of its own for each
    one, two = views(marks, 50)(torch.Generator().manual_seed(0))
    assert one.shape == (50, 3, 16, 16) and not torch.equal(one, two)
    order = torch.corrcoef(torch.stack([one.mean((1, 2, 3)), two.mean((1, 2, 3))]))[0, 1]
    assert float(order) > 0.8


def test_an_arm_is_what_its_name_says():
    assert isinstance(build(ARMS["SimCLR"], 0), SimCLR)
    for name, left_out in (("no invariance", 0), ("no variance", 1), ("no covariance", 2)):
        weights = build(ARMS[name], 0).weights
        assert [w == 0 for w in weights] == [i == left_out for i in range(3)]
    assert build(ARMS["VICReg"], 0).weights == (25, 25, 1)
    seen = {arm.pictures for name, arm in ARMS.items() if name != "untrained"}
    assert seen == {study.PICTURES} and all(study.PICTURES % arm.batch == 0 for arm in ARMS.values())


def test_every_run_sees_as_many_pictures(monkeypatch):
    steps = []

    def fit(model, batches, count, **options):
        steps.append(count * len(batches(torch.Generator().manual_seed(0))[0]))
        return study.History()

    monkeypatch.setattr(study, "fit", fit)
    for batch in (16, 64):
        train(Arm(batch=batch, pictures=640), 0, drawings("val"), progress=False)
    assert steps == [640, 640]


class Told(VICReg):
    """A model that is told which drawing it sees: by a mark in the corner that views leave where it is."""

    def forward(self, images):
        return torch.nn.functional.one_hot((images[:, 0, 0, 0] * 12).round().long(), 12).float()

    expand = forward


def test_readings_of_a_model_that_knows_and_of_one_that_does_not(monkeypatch):
    monkeypatch.setattr(study, "view", lambda x, generator: x)
    marks = torch.arange(12.0).view(3, 4, 1, 1, 1).expand(-1, -1, 3, 16, 16) / 12
    found = examine(Told(ConvNet(2)), marks)
    assert found["view"] == 1.0 and found["terms"][0] == 0.0
    assert found["rank h"] == pytest.approx(11, rel=1e-3)  # 12 corners of a simplex

    class Same(Told):
        def forward(self, images):
            return torch.zeros(len(images), 12)

        expand = forward

    found = examine(Same(ConvNet(2)), marks)
    assert found["view"] == 0.0 and found["rank h"] == 0.0 and found["terms"] == [0.0, 0.99, 0.0]


def test_measure_says_what_it_says_it_says():
    result = measure(Arm(pictures=256)._asdict(), 0, "val")
    assert set(result) == {"view", "artists", "h", "z", "rank h", "rank z", "terms", "seconds"}
    assert len(result["h"]) == 4 * study.WIDTH and len(result["z"]) == study.DIM and len(result["terms"]) == 3
    for wrong in ({"arm": {"method": "moco"}}, {"arm": {}, "part": "train"}):
        with pytest.raises(ValueError, match="expected one of"):
            measure(seed=0, **wrong)


def test_the_stored_measurements_are_of_this_code():
    known = study.known()
    assert set(known) == set(ARMS) and all(len(runs) == len(study.SEEDS) for runs in known.values())
