"""The study of lesson 04: views share their content and nothing else, arms differ in one thing, results add up."""

import math

import pytest
import torch
from scipy.stats import ks_2samp

from minilip.hypersphere import align_uniform_loss
from minilip.nn.vectors import unit
from minilip.simclr import nt_xent
from minilip.studies.hypersphere import plane as study
from minilip.studies.hypersphere.plane import (
    ARMS,
    WORLD,
    Arm,
    Examination,
    build,
    certified,
    content,
    measure,
    restyled,
)
from tests.helpers import seeded, vectors


@pytest.fixture(scope="module")
def scenes():
    return WORLD.sample(6000, seeded(3))


def test_a_new_style_leaves_the_content_and_is_drawn_as_the_world_draws_it(scenes):
    new = restyled(scenes, seeded(4))
    for what, y in content(scenes).items():
        assert torch.equal(content(new)[what], y)
    fresh = WORLD.sample(6000, seeded(5))
    styles = ("radius", "angle", "background")
    for a, b in [(getattr(new, s), getattr(fresh, s)) for s in styles] + [(new.position.abs(), fresh.position.abs())]:
        assert ks_2samp(a.flatten().float(), b.flatten().float()).pvalue > 1e-4
    for size, (low, high) in enumerate(study.RADII):
        radii = torch.cat([z.radius[z.size == size] for z in (new, fresh)])
        assert low <= float(radii.min()) < low + 0.001 and high - 0.001 < float(radii.max()) <= high


def test_styles_of_two_views_are_independent_given_the_content(scenes):
    new = restyled(scenes, seeded(4))
    large = scenes.size[:, 0] == 1
    pairs = [(scenes.angle, new.angle), (scenes.background[:, None].float(), new.background[:, None].float())]
    for a, b in [*pairs, (scenes.radius[large], new.radius[large])]:
        assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.06


def test_there_are_as_many_contents_as_the_lesson_says(scenes):
    parts = content(scenes)
    seen = torch.stack([parts[p] for p in ("shape", "colour", "size", "place")], dim=1)
    assert len(seen.unique(dim=0)) == study.CONTENTS == 192
    assert len(parts["class"].unique()) == 24


def test_arms_start_alike_and_differ_in_their_objective():
    x, y = vectors(6, 4, 0), vectors(6, 4, 1)
    start = [list(build(arm, 1).parameters()) for arm in ARMS.values()]
    assert all(torch.equal(a, b) for other in start[1:] for a, b in zip(start[0], other, strict=True))
    torch.testing.assert_close(ARMS["tau 0.1"].objective()(x, y), nt_xent(x, y, 0.1))
    torch.testing.assert_close(ARMS["share 0.25"].objective()(x, y), align_uniform_loss(x, y, 1.5, 0.5))
    assert len({float(arm.objective()(x, y)) for arm in ARMS.values()}) == len(ARMS)


def test_parts_share_no_scene_and_a_perfect_encoder_reads_everything():
    test, val = Examination(), Examination("val")
    assert not torch.equal(test.images[:100], val.images[:100])
    y = test.content["class"]
    perfect = torch.eye(24)[y] + 0.01 * torch.randn(len(y), 24, generator=seeded())
    assert test.read(perfect) > 0.99 and study.unscaled_probe(unit(perfect), y) > 0.99
    assert test.read(torch.randn(len(y), 8, generator=seeded())) < 0.1
    assert study.tolerance(unit(perfect), y) > 0.9


class Oracle:
    """Sees something of the content; or nothing."""

    def __init__(self, sees):
        self.sees, self.noise = sees, seeded(9)

    def project(self, images):
        brightest = images.flatten(2).amax(dim=2)  # (B, 3) something of the colour
        return unit(brightest + 0.1) if self.sees else unit(torch.randn(len(images), 3, generator=self.noise))


def test_the_critic_certifies_what_is_there_and_not_more(monkeypatch):
    monkeypatch.setattr(study, "CANDIDATES", 32)
    nothing, colour = (certified(Oracle(sees), 0, seeded(1), 512, 512) for sees in (False, True))
    assert nothing < 0.05
    assert 0.3 < colour < math.log(32)


def test_measure_says_what_it_says_it_says(monkeypatch):
    monkeypatch.setattr(study, "WATCH", (3,))
    monkeypatch.setattr(study, "CANDIDATES", 32)
    result = measure(Arm()._asdict(), 0, "val", steps=3)
    assert [step for step, *_ in result["path"]] == [0, 3]
    shares = ("h", "z", "unscaled", "shape", "colour", "size", "place")
    assert set(result) == {"path", *shares, "tolerance", "bound", "loss", "seconds"}
    assert all(0 <= result[name] <= 1 for name in shares) and result["bound"] < math.log(study.CONTENTS)
    assert result["path"][-1][3] == result["h"]


def test_the_stored_measurements_are_of_this_code():
    known = study.known()
    assert set(known) == set(ARMS) and all(len(runs) == 3 for runs in known.values())
    assert all(run["path"][-1][0] == study.STEPS for runs in known.values() for run in runs)


@pytest.mark.parametrize("wrong", ["train", "", None])
def test_an_unknown_part_is_refused(wrong):
    with pytest.raises(ValueError, match="part: expected one of"):
        Examination(wrong)
