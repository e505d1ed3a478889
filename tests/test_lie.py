"""The Lie operator: scipy's exponential one matrix at a time, the group's axioms, planted coordinates, bad input."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import expm
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck

from minilip import lie
from minilip.infonce import info_nce
from minilip.lie import FURTHEST, LieOperator, exp_action, lie_loss, orbit, search, spectrum

SO3 = torch.zeros(3, 3, 3, dtype=torch.double)
for n, (i, j) in enumerate(((2, 1), (0, 2), (1, 0))):
    SO3[n, i, j], SO3[n, j, i] = 1, -1


def generators(n, d, skew, seed=0):
    L = torch.randn(n, d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    L = L - L.mT if skew else L
    return L / torch.linalg.matrix_norm(L, 2)[:, None, None]


def with_basis(basis):
    operator = LieOperator(basis.shape[-1], len(basis)).to(basis.dtype)
    with torch.no_grad():
        operator.basis.copy_(basis)
    return operator


def by_scipy(basis, t, z):
    return torch.stack(
        [
            torch.from_numpy(expm(torch.einsum("n,nij->ij", t[b].double(), basis.double()).numpy())) @ z[b].double()
            for b in range(len(z))
        ]
    )


@pytest.mark.parametrize("dim", [2, 3, 8, 64])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("norm", "skew"), [(0.01, False), (1, False), (7, False), (1, True), (12, True), (40, True)])
def test_the_action_is_scipys_exponential(dim, count, norm, skew):
    basis, generator = generators(count, dim, skew), torch.Generator().manual_seed(1)
    t = torch.rand(5, count, generator=generator, dtype=torch.double) * 2 - 1
    t = norm * t / t.abs().sum(dim=1, keepdim=True)
    z = torch.randn(5, dim, generator=generator, dtype=torch.double)
    truth = by_scipy(basis, t, z)
    size = truth.norm(dim=1)
    exact = exp_action(basis, t, z)
    assert float(((exact - truth).norm(dim=1) / size).max()) < 1e-11
    single = exp_action(basis.float(), t.float(), z.float())
    # Against the truth for the rounded input: at norm 40 the seventh digit of t alone turns z by 4e-6.
    rounded = by_scipy(basis.float(), t.float(), z.float())
    assert single.dtype == torch.float32
    assert float(((single.double() - rounded).norm(dim=1) / rounded.norm(dim=1)).max()) < 1e-5


@pytest.mark.parametrize("skew", [False, True])
def test_action_and_group_agree(skew):
    operator = with_basis(generators(2, 16, skew))
    t, z = torch.randn(6, 2, dtype=torch.double), torch.randn(6, 16, dtype=torch.double)
    g = operator.group(t)
    assert g.shape == (6, 16, 16)
    assert torch.allclose((g @ z[..., None])[..., 0], operator(z, t), atol=1e-11)


def test_gradients():
    basis, t = generators(2, 3, False).requires_grad_(), torch.randn(2, 2, dtype=torch.double, requires_grad=True)
    z = torch.randn(2, 3, dtype=torch.double, requires_grad=True)
    assert gradcheck(exp_action, (basis, t, z))
    assert gradcheck(exp_action, (basis, (4 * t).detach().requires_grad_(), z))  # several substeps
    torch.manual_seed(0)
    operator = LieOperator(3, 2, hidden=4, scale=0.5).double()
    z_g = torch.randn(2, 3, dtype=torch.double, requires_grad=True)
    names, parameters = zip(*operator.named_parameters(), strict=True)

    def loss(z, z_g, *values):
        return torch.func.functional_call(
            Both(operator), {f"operator.{n}": v for n, v in zip(names, values, strict=True)}, (z, z_g)
        )

    assert gradcheck(loss, (z, z_g, *(p.detach().requires_grad_() for p in parameters)))


class Both(torch.nn.Module):
    def __init__(self, operator):
        super().__init__()
        self.operator = operator

    def forward(self, z, z_g):
        return lie_loss(self.operator, z, z_g)


def test_group_axioms():
    operator = with_basis(generators(1, 6, False))
    one = torch.ones(1, 1, dtype=torch.double)
    g = lambda t: operator.group(t * one)[0]  # noqa: E731
    eye = torch.eye(6, dtype=torch.double)
    assert torch.allclose(g(0), eye, atol=1e-15)
    assert torch.allclose(g(1.3) @ g(-1.3), eye, atol=1e-12)
    assert torch.allclose(g(0.4) @ g(0.9), g(1.3), atol=1e-12)
    assert torch.allclose((g(0.4) @ g(0.9)) @ g(2), g(0.4) @ (g(0.9) @ g(2)), atol=1e-12)
    assert torch.linalg.det(g(1.1)).item() == pytest.approx(math.exp(1.1 * operator.basis[0].trace().item()))
    Q = with_basis(generators(1, 6, True)).group(2 * one)[0]
    assert torch.allclose(Q.T @ Q, eye, atol=1e-12)


def test_rotations_of_space_are_rodrigues_and_do_not_commute():
    operator = with_basis(SO3)
    t = torch.randn(20, 3, dtype=torch.double)
    truth = torch.from_numpy(Rotation.from_rotvec(t.numpy()).as_matrix())
    assert torch.allclose(operator.group(t), truth, atol=1e-12)
    x, y = (operator.group(F.one_hot(torch.tensor([k]), 3).double())[0] for k in (0, 1))
    together = operator.group(torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.double))[0]
    assert float((x @ y - together).abs().max()) > 0.1
    commuting = with_basis(torch.stack([SO3[2], torch.eye(3, dtype=torch.double)]))
    a, b, both = (commuting.group(torch.tensor([t], dtype=torch.double))[0] for t in ([0.7, 0], [0, 0.3], [0.7, 0.3]))
    assert torch.allclose(a @ b, both, atol=1e-12)


def test_large_norms_stay_finite_or_say_so():
    turning, growing = generators(1, 4, True).float(), torch.eye(4)[None]
    z = torch.randn(3, 4)
    far = exp_action(turning, torch.full((3, 1), 200.0), z)
    assert torch.allclose(far.norm(dim=1), z.norm(dim=1), rtol=1e-3)
    with pytest.raises(ValueError, match=r"at most 256, got 300"):
        exp_action(turning, torch.full((3, 1), 300.0), z)
    for act in (lambda t: exp_action(growing, t, z), with_basis(growing).group):
        with pytest.raises(ValueError, match="expected finite numbers"):
            act(torch.full((3, 1), 100.0))
        with pytest.raises(ValueError, match=f"at most {FURTHEST:.0f}"):
            act(torch.full((3, 1), 1e6))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype):
    torch.manual_seed(0)
    operator = LieOperator(8)
    z, z_g, t = torch.randn(4, 8), torch.randn(4, 8), torch.randn(4, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(operator(z, t), exp_action(operator.basis, t, z))
        inside = lie_loss(operator, z, z_g)
    outside = lie_loss(operator, z, z_g)
    for a, b in zip(inside, outside, strict=True):
        assert a.dtype == torch.float32 and torch.equal(a, b)
    for value in lie_loss(operator, z.to(dtype), z_g.to(dtype)):
        assert value.dtype == torch.float32 and math.isfinite(value.item())


def test_the_loss_is_the_loop():
    torch.manual_seed(0)
    operator = LieOperator(5, 2, scale=0.3).double()
    z, z_g = torch.randn(6, 5, dtype=torch.double), torch.randn(6, 5, dtype=torch.double)
    moved = by_scipy(operator.basis.detach(), operator.infer(z, z_g).detach(), z).numpy()
    target, contrastive = z_g.numpy(), 0.0
    for i in range(6):
        cosines = [moved[i] @ y / np.linalg.norm(moved[i]) / np.linalg.norm(y) for y in target]
        contrastive -= cosines[i] / 0.2 - math.log(sum(math.exp(c / 0.2) for c in cosines))
    found = lie_loss(operator, z, z_g)
    assert found[0].item() == pytest.approx(contrastive / 6, rel=1e-10)
    assert found[1].item() == pytest.approx(((moved - target) ** 2).sum() / 6, rel=1e-10)


def test_the_loss_at_chance_and_with_the_identity():
    operator = LieOperator(5)
    same = torch.ones(7, 5)
    assert lie_loss(operator, same, same, t=torch.zeros(7, 1))[0].item() == pytest.approx(math.log(7), rel=1e-6)
    z, z_g = torch.randn(7, 5), torch.randn(7, 5)
    contrastive, euclidean = lie_loss(operator, z, z_g, t=torch.zeros(7, 1))
    assert torch.allclose(contrastive, info_nce(F.normalize(z, dim=1), F.normalize(z_g, dim=1), 0.2))
    assert torch.allclose(euclidean, (z - z_g).square().sum(dim=1).mean())


def test_the_orbit_is_the_action_point_by_point():
    operator, z, times = with_basis(generators(2, 6, True)), torch.randn(4, 6, dtype=torch.double), torch.randn(9, 2)
    path = orbit(operator, z, times.double())
    assert path.shape == (4, 9, 6)
    for k, t in enumerate(times.double()):
        assert torch.allclose(path[:, k], operator(z, t.expand(4, 2)), atol=1e-11)


def test_search_finds_planted_coordinates_between_the_points_of_the_grid():
    turn = torch.block_diag(SO3[2], 2 * SO3[2])[None]
    operator, z = with_basis(turn), torch.randn(50, 6, dtype=torch.double)
    t = 4 * torch.rand(50, 1, dtype=torch.double) - 2
    found = search(operator, z, operator(z, t).detach(), torch.linspace(-2.5, 2.5, 40).double()[:, None])
    assert float((found - t).abs().max()) < 1e-3
    both = with_basis(torch.cat([turn, torch.eye(6, dtype=torch.double)[None]]))  # turning and growing commute
    t = torch.rand(50, 2, dtype=torch.double) - 0.5
    grid = torch.cartesian_prod(*(torch.linspace(-0.6, 0.6, 9).double(),) * 2)
    found = search(both, z, both(z, t).detach(), grid)
    assert float((found - t).abs().max()) < 1e-3


def test_search_never_does_worse_than_its_grid():
    torch.manual_seed(0)
    operator, z, z_g = LieOperator(5, scale=1.0), torch.randn(30, 5), torch.randn(30, 5)
    grid = torch.linspace(-1, 1, 7)[:, None]
    best = (orbit(operator, z, grid) - z_g[:, None]).square().sum(dim=2).amin(dim=1)
    with torch.no_grad():
        found = (operator(z, search(operator, z, z_g, grid)) - z_g).square().sum(dim=1)
    assert bool((found <= best + 1e-4).all())


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-20, 1e-6])
def test_search_leaves_in_the_grid_what_no_generator_moves(size):
    turn = torch.block_diag(SO3[2, :2, :2], torch.zeros(2, 2, dtype=torch.double))[None].float()
    z, z_g = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    z[0, :2] *= size  # one row alone: the others are still found
    z_g[1:] = with_basis(turn)(z[1:], torch.full((4, 1), 0.7)).detach()
    found = search(with_basis(turn), z, z_g, torch.linspace(-3, 3, 20)[:, None])
    assert bool(found.isfinite().all()) and torch.allclose(found[1:], torch.full((4, 1), 0.7), atol=1e-5)


def test_orbit_search_and_reader_are_computed_in_float32_under_autocast():
    torch.manual_seed(0)
    operator, z, z_g, grid = LieOperator(8), torch.randn(6, 8), torch.randn(6, 8), torch.linspace(-1, 1, 5)[:, None]
    calls = (
        lambda: orbit(operator, z, grid),
        lambda: search(operator, z, z_g, grid),
        lambda: operator.infer(z, z_g),
    )
    for call in calls:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = call()
        assert inside.dtype == torch.float32 and torch.equal(inside, call())


def turned_pairs(batch, reach, basis, generator):
    """Points in three planes and the same points turned by an angle within +-reach, in a basis that mixes them."""
    radius, phase = torch.rand(2, batch, 3, generator=generator)  # (B, 3) each
    z = torch.polar(0.5 + radius, 2 * math.pi * phase)  # (B, 3) complex
    angle = reach * (2 * torch.rand(batch, 1, generator=generator) - 1)  # (B, 1)
    z_g = z * torch.exp(1j * angle * torch.tensor([1.0, 2.0, 0.0]))  # (B, 3) the third plane does not turn
    return *(torch.view_as_real(x).flatten(1) @ basis.T for x in (z, z_g)), angle  # (B, 6), (B, 6), (B, 1)


def test_training_on_pairs_alone_recovers_the_generator_and_the_angle():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0]
    operator, steps = LieOperator(6), 400
    optimizer = torch.optim.Adam(operator.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        reach = math.radians(20 + 40 * min(1, 2 * step / steps))  # from +-60 at once, three of five seeds fail
        z, z_g, _ = turned_pairs(256, reach, basis, generator)
        contrastive, euclidean = lie_loss(operator, z, z_g)
        optimizer.zero_grad()
        (0.1 * contrastive + euclidean).backward()
        optimizer.step()
        schedule.step()
    z, z_g, angle = turned_pairs(1000, math.radians(60), basis, generator)
    with torch.no_grad():
        t = operator.infer(z, z_g)
    heights = spectrum(operator, z)[0].imag.abs().sort(descending=True).values  # (6,) 2, 2, 1, 1, 0, 0 up to a scale
    assert float(heights[0] / heights[2]) == pytest.approx(2, rel=0.05) and float(heights[4] / heights[2]) < 0.05
    assert abs(float(torch.corrcoef(torch.cat([t, angle], dim=1).T)[0, 1])) > 0.99


def test_the_spectrum_of_a_planted_generator_in_a_random_basis():
    planes = torch.block_diag(
        *(k * SO3[2, :2, :2] for k in (1.0, 2.0, 3.0, 5.0)), torch.zeros(1, 1, dtype=torch.double)
    )
    V = torch.randn(9, 9, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    x = torch.randn(400, 9, dtype=torch.double)
    x[:, 6:8] = 0  # nothing lives in the plane of frequency 5
    values, energy = spectrum(with_basis((V @ planes @ torch.linalg.inv(V))[None]), x @ V.T)
    assert float(energy.sum()) == pytest.approx(1)
    assert sorted(round(v, 6) for v in values[:7].imag.tolist()) == [-3, -2, -1, 0, 1, 2, 3]
    assert sorted(round(v, 6) for v in values[7:].imag.tolist()) == [-5, 5] and float(energy[7:].max()) < 1e-12
    assert float(values.real.abs().max()) < 1e-8


def test_the_start_is_near_the_identity():
    torch.manual_seed(0)
    operator, z = LieOperator(64), torch.randn(100, 64)
    with torch.no_grad():
        moved = operator(z, operator.infer(z, torch.randn(100, 64)))
    assert float((moved - z).norm() / z.norm()) < 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LieOperator(0), "dim"),
        (lambda: LieOperator(4, generators=0), "generators"),
        (lambda: LieOperator(4, scale=0.0), "scale"),
        (lambda: exp_action(torch.zeros(1, 4, 4), torch.zeros(3, 2), torch.zeros(3, 4)), r"t: expected shape \(3, 1\)"),
        (lambda: exp_action(torch.zeros(1, 4, 4), torch.zeros(2, 1), torch.zeros(3, 4)), r"t: expected shape \(3, 1\)"),
        (lambda: exp_action(torch.zeros(1, 4, 4), torch.zeros(3, 1), torch.zeros(3, 5)), r"z: expected shape \(B, 4\)"),
        (lambda: exp_action(torch.zeros(1, 4, 4), torch.full((3, 1), math.nan), torch.zeros(3, 4)), "finite"),
        (lambda: LieOperator(4).group(torch.zeros(4)), r"t: expected shape \(B, 1\)"),
        (lambda: LieOperator(4).group(1.0), "t: expected shape"),
        (lambda: LieOperator(4).infer(torch.zeros(3, 4), torch.zeros(2, 4)), "z_g"),
        (lambda: lie_loss(LieOperator(4), torch.zeros(1, 4), torch.zeros(1, 4)), "at least 2"),
        (lambda: lie_loss(LieOperator(4), torch.zeros(3, 4), torch.zeros(3, 4), 0.0), "temperature"),
        (lambda: spectrum(LieOperator(4, 2), torch.zeros(3, 4)), "one generator"),
        (lambda: orbit(LieOperator(4), torch.zeros(3), torch.zeros(5, 1)), "z: expected shape"),
        (lambda: exp_action(torch.zeros(4, 4), torch.zeros(3, 1), torch.zeros(3, 4)), "basis: expected shape"),
        (lambda: exp_action(torch.zeros(1, 4, 3), torch.zeros(3, 1), torch.zeros(3, 4)), "basis: expected shape"),
        (lambda: exp_action(torch.full((1, 4, 4), math.nan), torch.zeros(3, 1), torch.zeros(3, 4)), "basis: .* finite"),
        (lambda: exp_action(torch.full((1, 4, 4), math.inf), torch.zeros(3, 1), torch.zeros(3, 4)), "basis: .* finite"),
        (lambda: exp_action(torch.zeros(1, 4, 4).double(), torch.zeros(3, 1), torch.zeros(3, 4)), "one dtype"),
        (lambda: with_basis(torch.full((1, 4, 4), math.nan)).group(torch.zeros(3, 1)), "basis: expected finite"),
        (lambda: LieOperator(4).infer(torch.zeros(3, 5), torch.zeros(3, 5)), r"z: expected shape \(B, 4\)"),
        (lambda: lie_loss(LieOperator(4), torch.zeros(3, 5), torch.zeros(3, 5)), r"z: expected shape \(B, 4\)"),
        (lambda: orbit(LieOperator(4), torch.zeros(3, 5), torch.zeros(5, 1)), r"z: expected shape \(B, 4\)"),
        (lambda: search(LieOperator(4), *torch.zeros(2, 3, 5), torch.zeros(5, 1)), r"z: expected shape \(B, 4\)"),
        (lambda: search(LieOperator(4), *torch.zeros(2, 3, 4), torch.zeros(5, 1), steps=-1), "steps"),
        (lambda: spectrum(LieOperator(4), torch.zeros(3, 5)), r"z: expected shape \(B, 4\)"),
        (lambda: spectrum(with_basis(torch.ones(1, 2, 2).triu(1)), torch.ones(3, 2)), "eigenvectors"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_public_names_are_the_designs():
    assert {"LieOperator", "lie_loss"} <= set(vars(lie))
