"""Content and style: the world obeys its model, interventions change what they name, the studies say what they say."""

import math

import numpy as np
import pytest
import torch

from minilip.data.drawing import REACH
from minilip.data.emoji import ARTISTS
from minilip.nn import ConvNet
from minilip.simclr import nt_xent
from minilip.studies.simclr import content, transfer, views, worlds
from tests.helpers import seeded

# ---- the world -------------------------------------------------------------------------------------------------------


def test_style_depends_on_content_as_the_model_says():
    z = worlds.sample(20_000, seeded())
    for shape in range(3):
        share = torch.bincount(z.colour[z.shape == shape], minlength=8) / (z.shape == shape).sum()
        own = torch.full((8,), 0.5 / 8)
        own[2 * shape : 2 * shape + 2] += 0.25
        torch.testing.assert_close(share, own, atol=0.02, rtol=0)
    room = (1 - torch.tensor(REACH)[z.shape] * z.radius)[..., None]  # (N, 1, 1)
    assert (z.position.abs() <= room).all()
    torch.testing.assert_close((z.position / room).std(), torch.tensor(3**-0.5), atol=0.01, rtol=0)


@pytest.mark.parametrize("styles", [("colour",), ("position", "angle"), worlds.STYLES])
def test_an_intervention_changes_what_it_names_and_nothing_else(styles):
    z = worlds.sample(400, seeded())
    new = worlds.intervene(z, styles, seeded(1))
    for name in ("shape", "radius", "size", *worlds.STYLES):
        same = (getattr(z, name) == getattr(new, name)).reshape(400, -1).all(dim=1).float().mean()
        assert same == 1 if name not in styles else same < 0.6
    assert torch.equal(worlds.intervene(z, styles, seeded(1)).position, new.position)  # a seed is a draw


def test_what_is_drawn_anew_owes_nothing_to_the_old_but_through_content():
    z = worlds.sample(20_000, seeded())
    new = worlds.intervene(z, ("colour",), seeded(1))
    for shape in range(3):
        rows = z.shape[:, 0] == shape
        old_own = z.colour[rows, 0] == 2 * shape
        new_own = (new.colour[rows, 0] == 2 * shape).float()
        assert abs(new_own[old_own].mean() - new_own[~old_own].mean()) < 0.03


def test_a_soft_intervention_keeps_each_style_with_its_probability():
    z = worlds.sample(4000, seeded())
    new = worlds.intervene(z, worlds.STYLES, seeded(1), keep=0.25)
    kept = [(getattr(z, name) == getattr(new, name)).flatten(1).all(dim=1) for name in ("position", "angle")]
    for each in kept:
        assert each.float().mean() == pytest.approx(0.25, abs=0.03)
    assert (kept[0] & kept[1]).float().mean() == pytest.approx(0.0625, abs=0.02)  # each by itself


def test_causes_are_numbers_that_symmetry_leaves_alone():
    z = worlds.sample(300, seeded())
    y = worlds.causes(z)
    assert set(y) == {*worlds.CONTENT, *worlds.STYLES} and all(v.shape[0] == 300 for v in y.values())
    quarter = worlds.causes(z.with_(angle=z.angle + math.pi / 2))["angle"]
    circle, square = z.shape[:, 0] == 0, z.shape[:, 0] == 1
    assert y["angle"][circle].isnan().all() and not y["angle"][~circle].isnan().any()
    torch.testing.assert_close(quarter[square], y["angle"][square], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="style: expected one of"):
        worlds.intervene(z, ("shape",), seeded())


# ---- what SimCLR keeps -----------------------------------------------------------------------------------------------


def small(name, **changes):
    arm = content.ARMS[name]._replace(steps=2, batch=8, **changes)._asdict()
    return {**arm, "styles": list(arm["styles"])}


def test_features_that_hold_a_cause_are_read_and_others_not():
    found = content.floor(examined=(300, 200))
    assert found["shape"] > 0.99 and found["radius"] > 0.99
    assert 0.0 < found["colour"] < 0.25  # what the shape alone says of it
    assert max(abs(found[name]) for name in ("background", "position", "angle")) < 0.15
    colour = content.examine(lambda x: x.flatten(1).amax(dim=1, keepdim=True).expand(-1, 2) + 0 * x[:, 0, 0, :2])
    assert colour["position"] < 0.2


@pytest.mark.parametrize("name", content.ARMS)
def test_the_views_of_an_arm_share_what_they_should(name):
    arm = content.ARMS[name]._replace(batch=6)
    x = content.views(arm, seeded())
    assert len(x) == (len(content.KEPT) + 2 if arm.structured else 2)
    assert all(v.shape == (6, 3, 32, 32) and v.min() >= 0 and v.max() <= 1 for v in x)
    assert not torch.equal(x[0], x[1])
    if arm.structured:  # the last view shares the position: the brightest change is not where something stands
        corner = [v[:, :, 0, 0] for v in x]
        at = content.KEPT.index("background") + 2
        assert (corner[0] == corner[at]).float().mean() > (corner[0] == corner[1]).float().mean()


@pytest.mark.parametrize("name, spaces", [("all styles", {"h", "z"}), ("structured", {"h", "content", *content.KEPT})])
def test_measure_says_what_it_says_it_says(name, spaces):
    found = content.measure(small(name), 0, (60, 40))
    assert set(found) == {"before", "after", "linear", "loss", "seconds"}
    for when in ("before", "after", "linear"):
        assert set(found[when]) == spaces
        assert all(set(r2) == {*worlds.CONTENT, *worlds.STYLES} for r2 in found[when].values())
        assert all(r2 <= 1 for row in found[when].values() for r2 in row.values())
    assert content.measure(small(name), 0, (60, 40))["after"] == found["after"]  # a seed is a run


def test_the_stored_measurements_are_of_this_code():
    known = content.known()
    assert set(known) == set(content.ARMS) and all(len(runs) == 3 for runs in known.values())
    assert set(views.known()) == {(a, s) for a in views.AREAS for s in views.STRENGTHS}
    carried = transfer.known()
    assert set(carried) == set(transfer.STARTS)
    for start, runs in carried.items():
        for name in transfer.SETS:
            assert transfer.hits(runs, "linear", name).shape == (3, len(transfer.task(name).y_test))
        assert ("tuned" in runs[0]) == (start in transfer.TUNED)


# ---- other tasks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", transfer.SETS)
def test_a_task_is_pictures_and_labels_and_its_parts_differ(name):
    t = transfer.task(name)
    for x, y in ((t.x, t.y), (t.x_test, t.y_test)):
        assert x.shape == (len(y), 3, 32, 32) and len(y) <= transfer.EXAMPLES
        assert x.min() >= 0 and x.max() <= 1 and len(y.unique()) > 1
    assert set(t.y_test.tolist()) <= set(t.y.tolist())
    some = {x.numpy().tobytes() for x in t.x[:300]}
    assert sum(x.numpy().tobytes() in some for x in t.x_test[:300]) <= 3


def test_hits_come_back_as_they_were_packed():
    right = torch.rand(1001, generator=seeded()) < 0.3
    assert (transfer.unpacked(transfer.packed(right), 1001) == right.numpy()).all()
    runs = [{"n": {"a": 5}, "linear": {"a": transfer.packed(torch.tensor(r) > 0)}} for r in ([1, 0, 1, 1, 0], [0] * 5)]
    np.testing.assert_array_equal(transfer.hits(runs, "linear", "a"), [[1, 0, 1, 1, 0], [0] * 5])


def test_log_of_the_mean_is_below_the_mean_of_logs_and_equals_its_formula():
    torch.manual_seed(0)
    model = transfer.LogOfMean(ConvNet(4), 5, temperature=0.5).eval()
    x = [torch.rand(6, 3, 16, 16, generator=seeded(s)) for s in (0, 1)]
    with torch.no_grad():
        loss, metrics = model.loss(x)
        z = model.project(torch.cat(x)).double()
        p = torch.softmax((z @ z.T / 0.5).fill_diagonal_(-math.inf), dim=1)
    own = p[torch.arange(12), torch.arange(12).roll(6)]
    assert float(loss) == pytest.approx(-math.log(own.mean()), abs=1e-5)
    assert float(metrics["mean -log"]) == pytest.approx(float(nt_xent(*z.chunk(2), 0.5)), abs=1e-5)
    assert loss < metrics["mean -log"]


@pytest.mark.parametrize("start", transfer.STARTS)
def test_a_start_is_examined_on_each_set(start):
    found = transfer.measure(start, 0, ["digits"], steps=1, tune_steps=1)
    kinds = {"linear", *(["tuned"] if start in transfer.TUNED else []), *(["linear z"] if start == "SimCLR" else [])}
    assert kinds == {k for k, v in found.items() if isinstance(v, dict)} - {"n"}
    assert found["n"] == {"digits": len(transfer.task("digits").y_test)}
    assert 0 <= found["across artists"] <= 1 and (found["loss"] is None) == (start == "random")


def test_artists_pair_the_same_concept_by_two_hands(monkeypatch):
    seen = []
    monkeypatch.setattr(transfer, "simclr_view", lambda x, generator, area: seen.append(x) or x)
    x = transfer.drawings("train")[1]
    for start in ("artists", "SimCLR"):
        transfer.train(start, 0, steps=1, progress=False)
        one, two = seen[-2:]
        where = [
            [next((a, c) for a in range(len(ARTISTS)) for c in (x[a] == each).all(dim=(1, 2, 3)).nonzero().tolist())]
            for each in (*one[:3], *two[:3])
        ]
        for i in range(3):
            (a, c), (b, d) = where[i][0], where[i + 3][0]
            assert c == d and (a != b) == (start == "artists")


def test_a_cell_of_crop_and_colour_is_trained_and_asked():
    found = views.measure(0.5, 0.0, 0, steps=1)
    assert set(found) == {"across artists", "animals", "partner"} and all(0 <= v <= 1 for v in found.values())
