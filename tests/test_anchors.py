"""Points that InfoNCE moves: the loss and the step against other code, and who has groups."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors

from minilip.clip import clip_loss
from minilip.studies.protoclip import anchors
from minilip.studies.protoclip.anchors import CHANCE, MODES, PAIRS, classes, purity, simulate

SEEDS = range(6)


@pytest.fixture(scope="module")
def motions():
    return {mode: simulate(mode, SEEDS, 100) for mode in MODES}


# ---- the simulation against other code -------------------------------------------------------------------------------


@pytest.mark.parametrize("circle, temperature", [(False, 0.1), (False, 0.7), (True, 0.2)])
def test_the_loss_is_info_nce_of_a_loop_and_of_clip(circle, temperature):
    motion = simulate(MODES[2], [3], 4, temperature, circle=circle)
    x, y = motion.images[2, 0].double(), motion.texts[2, 0].double()
    logits = torch.tensor([[-float((a - b).square().sum()) / temperature for b in y] for a in x])
    own = torch.arange(PAIRS)
    want = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert float(motion.loss[2, 0]) == pytest.approx(float(want), rel=1e-4)
    if circle:  # -|x - y|^2 = 2 x y - 2: CLIP's loss at twice the inverse temperature
        torch.testing.assert_close(x.norm(dim=1), torch.ones(PAIRS, dtype=torch.double), atol=1e-6, rtol=0)
        assert float(motion.loss[2, 0]) == pytest.approx(float(clip_loss(x, y, 2 / temperature)), rel=1e-4)


def test_found_counts_images_whose_nearest_text_is_their_own():
    motion = simulate(MODES[1], [0, 1], 60)
    gaps = torch.cdist(motion.images[50], motion.texts[50])  # (R, N, N)
    for run in range(2):
        nearest = [int(gaps[run, i].argmin()) for i in range(PAIRS)]
        want = sum(i == j for i, j in enumerate(nearest)) / PAIRS
        assert 0 < want < 1 and float(motion.found[50, run]) == pytest.approx(want)


def test_adams_first_step_is_its_rate_against_the_sign_of_the_gradient():
    motion = simulate(MODES[0], [0], 1, lr=0.02)
    x, y = motion.images[0, 0, :, 0].double(), motion.texts[0, 0, :, 0].double()
    logits = -((x[:, None] - y) ** 2) / 0.1
    P, Q = logits.softmax(dim=1), logits.softmax(dim=0)
    row = (P * y).sum(dim=1) - y  # eq. of the lesson, and for the columns the same from each text's side
    column = (Q * (y - x[:, None])).sum(dim=1) - (y - x)
    step = motion.images[1, 0, :, 0].double() - x
    torch.testing.assert_close(step, -0.02 * (row + column).sign(), atol=1e-4, rtol=0)


def test_a_run_does_not_depend_on_the_others():
    together, alone = simulate(MODES[2], [4, 7], 20), simulate(MODES[2], [7], 20)
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[:, 1:], b, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together.images[0, 0], together.images[0, 1])


def test_shapes_and_the_same_again():
    motion = simulate(MODES[1], [5, 6, 8], 7, circle=True)
    assert motion.images.shape == motion.texts.shape == (8, 3, PAIRS, 2)
    assert motion.loss.shape == motion.found.shape == (8, 3)
    for a, b in zip(motion, simulate(MODES[1], [5, 6, 8], 7, circle=True), strict=True):
        assert torch.equal(a, b) and not a.requires_grad and bool(torch.isfinite(a).all())


# ---- what it shows ---------------------------------------------------------------------------------------------------


def test_the_loss_falls_in_every_run_of_every_mode(motions):
    for motion in motions.values():
        assert bool((motion.loss[-1] < 0.5 * motion.loss[0]).all())


def test_free_points_do_not_group_and_smooth_ones_do(motions):
    late = {mode: purity(m.images[50:], classes()).mean() for mode, m in motions.items()}
    assert abs(late[MODES[0]] - CHANCE) < 0.08
    assert late[MODES[1]] > late[MODES[0]] + 0.15
    assert late[MODES[2]] > late[MODES[1]] + 0.15


def test_free_images_begin_without_groups_and_texts_with(motions):
    start = motions[MODES[1]]
    assert float(purity(start.images[0], classes()).mean()) < CHANCE + 0.1
    assert float(purity(start.texts[0], classes()).mean()) > CHANCE + 0.15


def test_classes_reach_the_points_through_the_inputs_alone(monkeypatch):
    free, smooth = (simulate(mode, [0], 10).images for mode in (MODES[0], MODES[2]))
    monkeypatch.setattr(anchors, "classes", lambda: torch.zeros(PAIRS, dtype=torch.int64))
    assert torch.equal(simulate(MODES[0], [0], 10).images, free)
    assert not torch.equal(simulate(MODES[2], [0], 10).images, smooth)


def test_an_offset_moves_the_texts_only_and_is_closed_first():
    near, far = simulate(MODES[1], SEEDS, 30), simulate(MODES[1], SEEDS, 30, offset=2.0)
    torch.testing.assert_close(far.texts[0] - near.texts[0], torch.full_like(near.texts[0], 2.0))
    assert torch.equal(far.images[0], near.images[0])
    gap = (far.texts - far.images).mean(dim=(2, 3)).abs()  # (T + 1, R)
    assert bool((gap[-1] < 0.5 * gap[0]).all())


# ---- purity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_purity_is_that_of_scikit_learns_neighbours(dim):
    x = torch.randn(3, 40, dim, generator=torch.Generator().manual_seed(dim))
    y = torch.randint(4, (40,), generator=torch.Generator().manual_seed(1))
    for points, value in zip(x, purity(x, y), strict=True):
        nearest = NearestNeighbors(n_neighbors=2).fit(points).kneighbors(points)[1][:, 1]
        assert float(value) == pytest.approx(float((y[nearest] == y).float().mean()))


def test_purity_at_its_ends_and_by_chance():
    line = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
    assert float(purity(line, torch.tensor([0, 0, 1, 1]))) == 1
    assert float(purity(line, torch.tensor([0, 1, 0, 1]))) == 0
    x = torch.randn(3000, PAIRS, 1, generator=torch.Generator().manual_seed(0))
    assert float(purity(x, classes()).mean()) == pytest.approx(CHANCE, abs=0.01)


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mode": "free"}, "mode: expected one of both free"),
        ({"seeds": []}, "seeds: expected at least one"),
        ({"steps": 0}, "steps: expected a whole number of at least 1"),
        ({"temperature": 0.0}, "temperature: expected a finite number above 0"),
        ({"lr": -1.0}, "lr: expected a finite number above 0"),
        ({"offset": 1.0, "circle": True}, "offset: expected 0 on a circle"),
        ({"offset": float("nan")}, "offset: expected a finite number"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        simulate(**({"mode": MODES[0], "seeds": [0], "steps": 1} | change))


@pytest.mark.parametrize(
    "points, labels, message",
    [
        (torch.zeros(3), torch.zeros(3), "points: expected shape"),
        (torch.zeros(1, 2), torch.zeros(1), "points: expected shape"),
        (torch.full((3, 1), torch.nan), torch.zeros(3), "points: expected finite numbers"),
        (torch.zeros(5, 3, 1), torch.zeros(5), r"labels: expected shape \(3,\)"),
    ],
)
def test_bad_points_are_refused(points, labels, message):
    with pytest.raises(ValueError, match=message):
        purity(points, labels)
