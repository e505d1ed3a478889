"""The route: pose kept, generator learned, orbit walked; on features whose rotation is known."""

import math

import pytest
import torch
import torch.nn.functional as F

from minilip.data.poses import PosedEmoji
from minilip.lie import LieOperator
from minilip.studies.lie import orbits, scale
from minilip.studies.lie import route as orbit_study
from minilip.studies.lie.orbits import (
    PoseContrast,
    PoseContrastWithOperator,
    closure,
    learn,
    neighbours,
    period,
    refine,
    turn,
)


def planted(frequencies=(1.0, 2.0), still=1):
    """A skew generator with these frequencies. (D, D)"""
    blocks = [torch.tensor([[0.0, -k], [k, 0.0]]) for k in frequencies] + [torch.zeros(1, 1)] * still
    return torch.block_diag(*blocks)


def ring(n=60, poses=12, frequencies=(1.0, 2.0), still=1, seed=0):
    """Features of n things that turn. (N, T, D)"""
    L = planted(frequencies, still)
    start = torch.randn(n, len(L), generator=torch.Generator().manual_seed(seed))
    g = torch.linalg.matrix_exp(2 * math.pi / poses * torch.arange(poses)[:, None, None] * L)
    return torch.einsum("tij,nj->nti", g, start)


def test_contrast_is_the_loop():
    z = torch.randn(9, 5, dtype=torch.double)
    u = F.normalize(z.float(), dim=1).double()
    total = 0.0
    for i in range(6):
        partner = (i + 3) % 6
        logits = [float(u[i] @ u[j]) / 0.2 for j in range(9) if j != i]
        total += math.log(sum(map(math.exp, logits))) - float(u[i] @ u[partner]) / 0.2
    assert float(PoseContrast.contrast(z)) == pytest.approx(total / 6, rel=1e-5)


def test_contrast_charges_for_a_pose_that_is_not_kept():
    a = torch.randn(8, 16)
    same, other = torch.cat([a, a, a]), torch.cat([a, a, torch.randn(8, 16)])
    assert float(PoseContrast.contrast(same)) > float(PoseContrast.contrast(other)) + 0.3


def test_the_euclidean_term_teaches_the_operator_alone():
    torch.manual_seed(0)
    x = torch.rand(3, 8, 3, 32, 32)
    plain, joint = PoseContrast(), PoseContrastWithOperator(weights=(0.0, 5.0))
    joint.tower.load_state_dict(plain.tower.state_dict())
    for model in (plain, joint):
        model.loss((*x, torch.zeros(8)))[0].backward()
    for p, q in zip(plain.tower.parameters(), joint.tower.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-6)
    assert float(joint.operator.basis.grad.abs().sum()) > 0


def test_pairs_are_near_on_the_ring_and_in_size():
    v = torch.arange(2 * 12 * 5).view(2, 12, 5, 1).float()
    z, z_g, steps = orbits.pairs(v, 500, (0.25, 0.4), torch.Generator().manual_seed(0))
    first, second = z[:, 0].long(), z_g[:, 0].long()
    assert torch.equal(first // 60, second // 60)  # one drawing
    turned = (second // 5 % 12 - first // 5 % 12 + 6) % 12 - 6
    assert torch.equal(turned, steps[:, 0]) and int(turned.abs().max()) == 3
    assert torch.equal(second % 5 - first % 5, steps[:, 1]) and int(steps[:, 1].abs().max()) == 2


def test_neighbours_spread_from_one_step_to_a_quarter_turn():
    data = PosedEmoji("val", concepts=12, poses=24)
    draw, generator = neighbours(data, 36, 40, torch.device("cpu")), torch.Generator().manual_seed(0)
    widest = [float(draw(generator)[3].abs().max()) for _ in range(40)]
    assert widest[0] == pytest.approx(math.radians(15), abs=1e-3)
    assert math.radians(60) < max(widest[24:]) <= math.radians(90) + 1e-3


@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_generator_is_recovered_without_angles(seed):
    v = ring(120, 24, still=2, seed=seed)
    operator = learn(v, seed=seed, steps=400)
    full = period(operator, v)
    refine(operator, v, full * torch.linspace(-0.5, 0.5, 49)[:, None], seed, steps=60)
    full = period(operator, v)
    found = orbit_study.frequencies(operator, v.flatten(0, 1), full)
    assert sorted(round(f, 1) for f in found) == [1.0, 2.0]
    assert orbit_study.angles_read(operator, v, full)["r by search"] >= 0.99


def exact(L):
    operator = LieOperator(len(L))
    with torch.no_grad():
        operator.basis.copy_(L[None])
    return operator


def test_closure_is_zero_at_full_turns_only():
    operator, z = exact(planted()), torch.randn(20, 5)
    gap = closure(operator, z, 2 * math.pi * torch.tensor([[0.0], [0.5], [1.0], [2.0]]))
    assert float(gap[[0, 2, 3]].max()) < 1e-8 and float(gap[1]) > 0.1


def test_turn_starts_at_nothing_and_stops_before_the_full_turn():
    assert turn(8.0, 4)[:, 0].tolist() == [0, 2, 4, 6]


def test_nearest_with_the_identity_as_path_is_plain_and_with_the_truth_is_better():
    data = PosedEmoji("val", concepts=12, poses=24)
    z = ring(48, 24, (1.0, 2.0, 3.0), still=2)
    z = torch.stack([z[n].roll(round(float(data.angles[n, 0]) / 15), dims=0) for n in range(48)])
    plain = orbit_study.nearest(z, data)
    assert orbit_study.nearest(z, data, torch.eye(8)[None]) == plain
    g = torch.linalg.matrix_exp(turn(2 * math.pi, 24)[:, :, None] * planted((1.0, 2.0, 3.0), 2))
    assert orbit_study.nearest(z, data, g)["known, new pose"] == 1.0 > plain["known, new pose"]


def test_frequencies_are_read_in_turns_and_leave_out_what_stands_still():
    operator = exact(0.5 * planted((1.0, 3.0), 2))
    assert sorted(orbit_study.frequencies(operator, torch.randn(50, 6), 4 * math.pi)) == [1.0, 3.0]


def test_zoomed_by_one_is_the_picture_and_by_two_is_larger():
    x = torch.ones(2, 3, 32, 32)
    x[..., 12:20, 12:20] = 0
    assert torch.allclose(scale.zoomed(x, torch.ones(2)), x, atol=1e-6)
    dark = (1 - scale.zoomed(x, torch.full((2,), 2.0))).sum() / (1 - x).sum()
    assert float(dark) == pytest.approx(4, rel=0.05)


def test_stored_entries_belong_to_this_code():
    """If this fails, the code of the route has changed: `python -m minilip.studies.lie.route` measures afresh."""
    assert len(orbit_study.known()) == len(orbit_study.SEEDS)
