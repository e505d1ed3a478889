"""The protocol with its controls: what each control replaces, what each cell examines, and that stored entries fit."""

import math

import pytest
import torch
import torch.nn.functional as F

from minilip.data.poses import PosedEmoji
from minilip.studies.lie import readers, robustness
from minilip.studies.lie.learners import BASES, CONTROLS, Learner, Tower, controls, pairs
from minilip.studies.lie.readers import CELLS, examinations, lessons
from minilip.studies.lie.robustness import counts, decode, shares


@pytest.fixture(scope="module")
def data():
    return PosedEmoji("val", concepts=12, poses=24)


def batch(data, size=16):
    return pairs(data, size, torch.device("cpu"))(torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("base", "control"), [(b, c) for b in BASES for c in controls(b)])
def test_every_entry_trains_its_tower_and_its_operator_where_it_has_one(data, base, control):
    torch.manual_seed(0)
    learner = Learner(base, control)
    loss, metrics = learner.loss(batch(data))
    loss.backward()
    assert math.isfinite(loss.item())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in learner.tower.parameters())
    used = learner.operator.basis.grad is not None and bool(learner.operator.basis.grad.abs().sum() > 0)
    assert used == (control in ("operator", "shuffled", "angle", "positives + operator"))
    assert ("gap without" in metrics) == (control not in ("alone", "positives"))


@pytest.mark.parametrize("control", ["identity", "positives + identity"])
def test_the_identity_control_moves_nothing(data, control):
    _, metrics = Learner("vicreg", control).loss(batch(data))
    assert metrics["gap with operator"] == pytest.approx(metrics["gap without"], rel=1e-5)


def test_controls_differ_from_the_operator_in_t_alone(data):
    z, z_g, angle = torch.randn(8, 64), torch.randn(8, 64), torch.randn(8)
    operator = Learner("simclr", "operator").operator
    names = ("operator", "shuffled", "identity", "angle", "positives + operator", "positives + identity")
    t = {name: CONTROLS[name].t(operator, z, z_g, angle) for name in names}
    assert torch.equal(t["operator"], operator.infer(z, z_g))
    assert torch.equal(t["positives + operator"], t["operator"])
    assert torch.equal(t["positives + identity"], t["identity"])
    assert torch.equal(t["shuffled"], t["operator"].roll(1, dims=0))
    assert torch.equal(t["identity"], torch.zeros(8, 1))
    assert torch.equal(t["angle"], angle[:, None])


def test_alone_never_looks_at_the_other_pose(data):
    torch.manual_seed(0)
    learner = Learner("vicreg", "alone")
    a, b, posed, angle = batch(data)
    assert torch.equal(learner.loss((a, b, posed, angle))[0], learner.loss((a, b, torch.rand_like(posed), angle))[0])


@pytest.mark.parametrize(("base", "control"), [("mae", "positives"), ("clip", "alone"), ("vicreg", "random")])
def test_unknown_entries_are_refused(base, control):
    with pytest.raises(ValueError, match="expected one of"):
        Learner(base, control)


def test_pairs_are_training_poses_and_their_angle(data):
    images, images_2, posed, angle = batch(data, 36)
    assert images.shape == images_2.shape == posed.shape == (36, 3, 32, 32) and angle.shape == (36,)
    assert bool((angle.abs() <= math.pi + 1e-6).all()) and bool((angle.abs() > 1e-3).all())
    # Most drawings are typical-only, whose poses lie within 20 degrees of upright on either side.
    assert float((angle.abs() <= math.radians(40) + 1e-6).float().mean()) > 0.5


def test_cells_examine_what_training_did_not_show(data):
    rows, poses = lessons(data)
    assert bool(data.trained[rows, poses].all())
    for cell, (row, pose) in examinations(data).items():
        assert not bool(data.trained[row, pose].any()), cell
        if cell == CELLS[0]:
            assert bool(data.typical[row].all()) and bool((data.angles[row, pose].abs() >= 30).all())
        else:
            assert bool(data.unknown[row].all())
    row, pose = examinations(data)[CELLS[2]]
    assert bool(data.upright[row, pose].all())


def turning(n=40, poses=24, frequencies=(1, 2), still=2):
    """Features that truly turn: (N, T, D)"""
    start = torch.randn(n, 2 * len(frequencies) + still, generator=torch.Generator().manual_seed(0))
    angle = 2 * math.pi * torch.arange(poses) / poses
    parts = []
    for j, k in enumerate(frequencies):
        x, y = start[:, 2 * j, None], start[:, 2 * j + 1, None]
        parts += [x * (k * angle).cos() - y * (k * angle).sin(), x * (k * angle).sin() + y * (k * angle).cos()]
    parts += [start[:, 2 * len(frequencies) + j, None].expand(n, poses) for j in range(still)]
    return torch.stack(parts, dim=2)


def test_the_angle_is_read_from_features_that_turn_and_not_from_noise(data):
    z = turning(len(data.images))
    assert readers.angle_error(z, data) == 0
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    assert 60 <= readers.angle_error(noise, data) <= 120
    values = torch.linalg.eigvals(readers.turns(z, data, strength=1e-6)[1])
    assert sorted(round(float(v) * 24 / (2 * math.pi)) for v in values.angle()) == [-2, -1, 0, 0, 1, 2]


def test_readers_read_a_tower_that_knows_the_concept(data):
    class Cheat(torch.nn.Module):
        """Looks the concept up by the picture's content; a little noise keeps the classes from being single points."""

        def __init__(self):
            super().__init__()
            self.table = {
                data.images[n, t].numpy().tobytes(): int(data.concept[n]) for n in range(48) for t in range(24)
            }
            self.scale = torch.nn.Parameter(torch.ones(64))

        def forward(self, x):
            keys = [(255 * p).round().to(torch.uint8).numpy().tobytes() for p in x]
            return F.one_hot(torch.tensor([self.table.get(k, 0) for k in keys]), 64).float() * self.scale

    right = readers.read(Cheat(), data, seed=0, tune=1)
    assert set(right) == {"linear probe", "1-NN", "fine-tuned"}
    for reader in ("linear probe", "1-NN"):
        for cell, hits in right[reader].items():
            assert float(hits.float().mean()) == 1, (reader, cell)
            assert len(hits) == len(examinations(data)[cell][0])


def test_tower_keeps_places_apart():
    """A mean over the map would not see where the dot is: the tower must."""
    torch.manual_seed(0)
    tower = Tower().eval()
    left, right = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    left[..., 8:12, 8:12], right[..., 8:12, 16:20] = 1, 1
    a, b = tower(left), tower(right)
    assert float((a - b).norm() / a.norm()) > 0.05


def test_counts_are_read_as_they_were_written(data):
    rows = data.typical.nonzero()[:, 0].repeat_interleave(12)
    hits = torch.rand(len(rows), generator=torch.Generator().manual_seed(0)) < 0.8
    text = counts(data, rows, hits)
    expected = [int(hits[data.concept[rows] == c].sum()) for c in range(len(data.labels))]
    assert decode(text).tolist() == expected and max(expected) > 9 and len(text) == 12
    assert decode(text).tolist() == [int(digit, 36) for digit in text]


def test_shares_are_hits_over_pictures_in_each_cell():
    result = {"hits": {"1-NN": {"a": "19", "b": "00"}}, "examined": {"a": "2I", "b": "11"}, "r": None}
    assert shares(result) == {"hits": {"1-NN": {"a": 0.5, "b": 0.0}}, "examined": {"a": 20, "b": 2}, "r": None}


def test_stored_entries_belong_to_this_code():
    """If this fails, the code of the protocol changed: `python -m minilip.studies.lie.robustness` measures afresh."""
    entries = robustness.known()
    assert len(entries) == len(robustness.SEEDS) * sum(len(controls(base)) for base in BASES)
    for result in entries.values():
        for by_cell in result["hits"].values():
            for cell, hits in by_cell.items():
                assert bool((decode(hits) <= decode(result["examined"][cell])).all())
