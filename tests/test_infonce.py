"""InfoNCE against an oracle, loops, constants and its own tiled form."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from info_nce import InfoNCE

from minilip.clip import clip_loss
from minilip.infonce import info_nce, info_nce_negatives, info_nce_tiled, mi_lower_bound
from minilip.simclr import nt_xent


def vectors(*shape, seed=0, unit=False, dtype=torch.float32):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    return (F.normalize(x, dim=-1) if unit else x).to(dtype)


def value_and_gradients(loss, *tensors):
    tensors = [x.clone().requires_grad_() for x in tensors]
    value = loss(*tensors)
    return [value.detach(), *torch.autograd.grad(value, tensors)]


def assert_near(got, want, relative=1e-5, absolute=0.0):
    """Relative to the largest entry of each tensor."""
    for x, y in zip(got, want, strict=True):
        assert x.shape == y.shape
        apart, size = (x.double() - y.double()).abs().max().item(), y.double().abs().max().item()
        assert apart <= relative * size + absolute, (apart, size)


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("batch", [2, 5, 33])
def test_info_nce_equals_the_oracle(batch, temperature):
    q, k = vectors(batch, 6), vectors(batch, 6, seed=1)  # the oracle normalises inside
    ours = value_and_gradients(lambda q, k: info_nce(F.normalize(q, dim=1), F.normalize(k, dim=1), temperature), q, k)
    assert_near(ours, value_and_gradients(InfoNCE(temperature=temperature), q, k))


@pytest.mark.parametrize("mode", ["unpaired", "paired"])
def test_negatives_equal_the_oracle(mode):
    q, p = vectors(5, 6, unit=True), vectors(5, 6, seed=1, unit=True)
    n = vectors(*((7, 6) if mode == "unpaired" else (5, 7, 6)), seed=2, unit=True)
    want = value_and_gradients(InfoNCE(temperature=0.2, negative_mode=mode), q, p, n)
    ours = value_and_gradients(lambda *x: info_nce_negatives(*x, 0.2), q, p, n)
    torch.testing.assert_close(ours[0], want[0])
    # The oracle's gradient passes through a normalisation, which removes the part along each vector.
    for x, ours_x, want_x in zip((q, p, n), ours[1:], want[1:], strict=True):
        torch.testing.assert_close(ours_x - (ours_x * x).sum(-1, keepdim=True) * x, want_x, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("batch", [2, 3, 50])
def test_equal_logits_cost_log_of_the_candidates(batch):
    same = torch.ones(batch, 4)
    assert float(info_nce(same, same, 0.3)) == pytest.approx(math.log(batch))
    assert float(info_nce_tiled(same, same, 0.3, 7)) == pytest.approx(math.log(batch))
    assert float(info_nce_negatives(same, same, torch.ones(9, 4), 0.3)) == pytest.approx(math.log(10))
    assert mi_lower_bound(info_nce(same, same, 0.3), batch) == pytest.approx(0, abs=1e-6)


def test_orthogonal_pairs_have_a_closed_form():
    x = torch.eye(6)
    assert float(info_nce(x, x, 0.5)) == pytest.approx(math.log(1 + 5 * math.exp(-2)))


def test_info_nce_is_info_nce_negatives_with_the_other_keys():
    q, k = vectors(6, 4, dtype=torch.double), vectors(6, 4, seed=1, dtype=torch.double)
    others = torch.stack([torch.cat([k[:i], k[i + 1 :]]) for i in range(6)])  # (B, B - 1, D)
    torch.testing.assert_close(info_nce(q, k, 0.4), info_nce_negatives(q, k, others, 0.4))


def test_one_query_is_enough_when_the_negatives_are_given():
    q, p, n = vectors(1, 3), vectors(1, 3, seed=1), vectors(1, 3, seed=2)
    want = math.log1p(math.exp(float((q * n).sum() - (q * p).sum())))
    assert float(info_nce_negatives(q, p, n, 1.0)) == pytest.approx(want, rel=1e-5)


def test_the_order_of_pairs_does_not_matter_and_the_order_of_keys_does():
    q, k, order = vectors(8, 5), vectors(8, 5, seed=1), torch.tensor([3, 1, 0, 7, 5, 2, 6, 4])
    for loss in (lambda q, k: info_nce(q, k, 0.5), lambda q, k: info_nce_tiled(q, k, 0.5, 3)):
        torch.testing.assert_close(loss(q, k), loss(q[order], k[order]))
        assert abs(float(loss(q, k) - loss(q, k[order]))) > 0.1
    n = vectors(9, 5, seed=2)
    torch.testing.assert_close(info_nce_negatives(q, k, n, 0.5), info_nce_negatives(q, k, n.flip(0), 0.5))


def test_the_bound_takes_floats_and_tensors():
    assert mi_lower_bound(1.0, 8) == pytest.approx(math.log(8) - 1)
    loss = torch.tensor(0.5, requires_grad=True)
    bound = mi_lower_bound(loss, 4)
    bound.backward()
    assert float(loss.grad) == -1 and bound.item() == pytest.approx(math.log(4) - 0.5)


# ---- gradients and precision -----------------------------------------------------------------------------------------


def test_gradcheck_through_vectors_and_temperature():
    q, k = (vectors(4, 3, seed=s, dtype=torch.double).requires_grad_() for s in (0, 1))
    n, shared = (vectors(*shape, seed=2, dtype=torch.double).requires_grad_() for shape in ((4, 5, 3), (5, 3)))
    for shape in ((), (1,)):
        t = torch.full(shape, 0.7, dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradcheck(info_nce, (q, k, t))
        for tile in (1, 3, 4, 9):
            assert torch.autograd.gradcheck(lambda q, k, t, tile=tile: info_nce_tiled(q, k, t, tile), (q, k, t))
        assert torch.autograd.gradcheck(info_nce_negatives, (q, k, n, t))
        assert torch.autograd.gradcheck(info_nce_negatives, (q, k, shared, t))


@pytest.mark.parametrize("length", [1.0, 3.0])
@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
@pytest.mark.parametrize("batch, tile", [(2, 1), (12, 4), (13, 4), (13, 1), (13, 13), (13, 99), (300, 128)])
def test_tiled_has_the_value_and_gradient_of_plain(batch, tile, temperature, length):
    q, k = (length * vectors(batch, 8, seed=s, unit=True) for s in (0, 1))
    t = torch.tensor(temperature)
    plain = value_and_gradients(info_nce, q, k, t)
    tiled = value_and_gradients(lambda q, k, t: info_nce_tiled(q, k, t, tile), q, k, t)
    assert_near(tiled, plain, absolute=1e-7 / temperature**2)


def test_tiled_keeps_its_digits_when_the_loss_is_almost_zero():
    q = vectors(64, 32, unit=True)
    k = F.normalize(q + 0.05 * vectors(64, 32, seed=1, unit=True), dim=1)  # a loss of about 0.01
    truth = value_and_gradients(lambda q, k: info_nce(q, k, 0.1), q.double(), k.double())
    assert 1e-3 < truth[0] < 0.1
    assert_near(value_and_gradients(lambda q, k: info_nce_tiled(q, k, 0.1, 10), q, k), truth, relative=2e-5)


def test_tiled_passes_on_the_gradient_that_comes_in():
    q, k = vectors(6, 4), vectors(6, 4, seed=1)
    once = value_and_gradients(lambda q, k: info_nce_tiled(q, k, 0.5, 2), q, k)
    thrice = value_and_gradients(lambda q, k: 3 * info_nce_tiled(q, k, 0.5, 2), q, k)
    assert_near(thrice, [3 * x for x in once])


def test_one_side_may_be_frozen():
    q, k = vectors(5, 4).requires_grad_(), vectors(5, 4, seed=1)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, q)[0] for loss in (info_nce(q, k, 0.5), info_nce_tiled(q, k, 0.5, 2)))
    )


@pytest.mark.parametrize("loss", [info_nce, lambda q, k, t: info_nce_tiled(q, k, t, 5)])
def test_finite_at_a_temperature_of_a_hundredth_and_for_opposites(loss):
    q = vectors(16, 8, unit=True)
    for k in (q, -q, vectors(16, 8, seed=1, unit=True)):
        assert all(x.isfinite().all() for x in value_and_gradients(lambda q, k: loss(q, k, 0.01), q, k))


LOSSES = [
    lambda q, k: info_nce(q, k, 0.01),
    lambda q, k: info_nce_tiled(q, k, 0.01, 5),
    lambda q, k: info_nce_negatives(q, k, k.flip(0), 0.01),
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    q, k = (vectors(16, 8, seed=s, unit=True).to(dtype) for s in (0, 1))
    value, *gradients = value_and_gradients(loss, q, k)
    assert value.dtype == torch.float32 and all(g.dtype == dtype for g in gradients)
    torch.testing.assert_close(value, loss(q.float(), k.float()))


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_does_not_reach_the_loss(loss):
    q, k = vectors(16, 8, unit=True), vectors(16, 8, seed=1, unit=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(q, k)
    assert inside.dtype == torch.float32 and torch.equal(inside, loss(q, k))


# ---- bad input -------------------------------------------------------------------------------------------------------

IN_BATCH = [info_nce, lambda q, k, t: info_nce_tiled(q, k, t, 4)]


@pytest.mark.parametrize("loss", IN_BATCH)
@given(
    st.tuples(st.integers(0, 5), st.integers(0, 4)),
    st.tuples(st.integers(0, 5), st.integers(0, 4)),
    st.sampled_from(["queries", "keys", "both"]),
)
@example((1, 3), (1, 3), "both")
def test_shapes_that_do_not_fit_are_refused(loss, a, b, flat):
    q, k = torch.zeros(a), torch.zeros(b)
    if a == b and a[0] >= 2 and a[1] >= 1:
        assert float(loss(q, k, 1.0)) == pytest.approx(math.log(a[0]), abs=1e-6)
        q, k = (q.flatten() if flat != "keys" else q), (k.flatten() if flat != "queries" else k)
    with pytest.raises(ValueError, match=r"^(queries|keys): expected .*, got "):
        loss(q, k, 1.0)


@pytest.mark.parametrize("loss", IN_BATCH)
@given(st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 11), st.booleans())
def test_numbers_that_are_not_finite_are_refused(loss, bad, where, in_keys):
    pair = [torch.zeros(4, 3), torch.zeros(4, 3)]
    pair[in_keys].view(-1)[where] = bad
    with pytest.raises(ValueError, match=f"{'keys' if in_keys else 'queries'}: expected finite numbers, got 1 non"):
        loss(*pair, 1.0)


@pytest.mark.parametrize("loss", [*IN_BATCH, lambda q, k, t: info_nce_negatives(q, k, k, t)])
@given(st.one_of(st.floats(max_value=0.0), st.just(math.nan), st.just(math.inf)))
def test_temperatures_that_are_not_positive_are_refused(loss, temperature):
    for t in (temperature, torch.tensor(temperature, dtype=torch.double)):
        with pytest.raises(ValueError, match="temperature: expected a finite number"):
            loss(torch.eye(3), torch.eye(3), t)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: info_nce(torch.eye(3).long(), torch.eye(3), 1), "queries: expected a floating-point tensor"),
        (lambda: info_nce([[1.0]], torch.eye(3), 1), "queries: expected a floating-point tensor, got list"),
        (lambda: info_nce(torch.eye(3), torch.eye(3).double(), 1), "keys: expected the dtype of queries"),
        (lambda: info_nce(torch.eye(3), torch.eye(3), torch.ones(3)), "temperature: expected one number"),
        (lambda: info_nce_tiled(torch.eye(3), torch.eye(3), 1, 0), "tile: expected a whole number of at least 1"),
        (lambda: info_nce_tiled(torch.eye(3), torch.eye(3), 1, 2.0), "tile: expected a whole number"),
        (lambda: info_nce_negatives(torch.eye(3), torch.eye(3), torch.eye(4), 1), "negatives: expected shape"),
        (lambda: info_nce_negatives(torch.eye(3), torch.eye(3), torch.zeros(2, 4, 3), 1), "negatives: expected shape"),
        (lambda: info_nce_negatives(torch.eye(3), torch.eye(3), torch.zeros(0, 3), 1), "negatives: expected a batch"),
        (lambda: info_nce_negatives(torch.eye(3), torch.eye(3), torch.eye(3)[0], 1), "negatives: expected shape"),
        (lambda: info_nce_negatives(torch.eye(3), torch.eye(3), None, 1), "negatives: expected a floating-point"),
        (
            lambda: info_nce_negatives(torch.eye(3), torch.eye(3), torch.eye(3).double(), 1),
            "negatives: expected the dt",
        ),
        (lambda: info_nce_negatives(torch.eye(3), torch.eye(2, 3), torch.eye(3), 1), "positive: expected the shape"),
        (lambda: mi_lower_bound(0.5, 1), "candidates: expected a whole number of at least 2"),
        (lambda: mi_lower_bound(0.5, 8.0), "candidates: expected a whole number"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- derivatives of the gradient -------------------------------------------------------------------------------------

TILED = {
    "info_nce": (lambda a, b: info_nce(a, b, 0.3), lambda a, b: info_nce_tiled(a, b, 0.3, 3)),
    "clip_loss": (lambda a, b: clip_loss(a, b, 3.0), lambda a, b: clip_loss(a, b, 3.0, tile=3)),
    "nt_xent": (lambda a, b: nt_xent(a, b, 0.3), lambda a, b: nt_xent(a, b, 0.3, tile=3)),
}


@pytest.mark.parametrize("name", TILED)
def test_a_gradient_of_the_tiled_gradient_is_refused_by_the_name_of_the_plain_loss(name):
    plain, tiled = TILED[name]
    a, b = vectors(7, 4, unit=True).requires_grad_(), vectors(7, 4, seed=1, unit=True).requires_grad_()
    (want,), (slope,) = (torch.autograd.grad(loss(a, b), a, create_graph=True) for loss in (plain, tiled))
    torch.testing.assert_close(slope, want)  # to ask for a graph and not to use it harms nobody
    for x in (a, b):
        assert torch.autograd.grad(want.square().sum(), x, retain_graph=True)[0].abs().max() > 0
        with pytest.raises(RuntimeError, match=f"use the plain loss .*{name}"):
            torch.autograd.grad(slope.square().sum(), x, retain_graph=True)
    with pytest.raises(RuntimeError, match="use the plain loss"):
        (tiled(a, b) + slope.square().sum()).backward()


@pytest.mark.parametrize("name", TILED)
def test_function_transforms_give_the_gradient_or_say_what_to_use(name):
    plain, tiled = TILED[name]
    a, b = vectors(7, 4, unit=True), vectors(7, 4, seed=1, unit=True)
    for transform in (torch.func.grad, torch.func.jacrev):
        torch.testing.assert_close(transform(tiled)(a, b), transform(plain)(a, b))
    for twice in (torch.func.hessian, lambda f: torch.func.jacrev(torch.func.jacrev(f)), torch.func.jacfwd):
        with pytest.raises(RuntimeError, match="use the plain loss"):
            twice(tiled)(a, b)
    for loss in (plain, tiled):
        with pytest.raises(ValueError, match="expected a tensor whose numbers can be read.*vmap"):
            torch.func.vmap(loss)(a[None], b[None])


# ---- two views -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.01, 0.024, 0.1, 1.0])
@pytest.mark.parametrize("batch, tile", [(2, 1), (12, 5), (13, 26), (13, 99), (13, 1), (300, 128), (300, 600)])
def test_tiled_views_have_the_value_and_gradient_of_plain(batch, tile, temperature):
    z1, z2, t = vectors(batch, 8, unit=True), vectors(batch, 8, seed=1, unit=True), torch.tensor(temperature)
    plain = value_and_gradients(nt_xent, z1, z2, t)
    tiled = value_and_gradients(lambda *x: nt_xent(*x, tile=tile), z1, z2, t)
    assert_near(tiled, plain, relative=2e-5, absolute=1e-7 / temperature**2)


def test_gradcheck_of_tiled_views():
    z1, z2 = (vectors(4, 3, seed=s, dtype=torch.double).requires_grad_() for s in (0, 1))
    for start in (0.7, 0.002):  # logits of hundreds need a shift in float64 too
        t = torch.tensor(start, dtype=torch.double, requires_grad=True)
        for tile in (1, 3, 8, 9):
            loss = lambda *x, tile=tile: nt_xent(*x, tile=tile)  # noqa: E731
            assert torch.autograd.gradcheck(loss, (z1, z2, t), eps=1e-6 * start, atol=1e-4)


@pytest.mark.parametrize("temperature, noise", [(0.05, 0.1), (0.01, 0.8)])
def test_tiled_views_keep_their_digits_where_the_loss_is_almost_zero(temperature, noise):
    z1 = vectors(40, 32, unit=True)
    z2 = F.normalize(z1 + noise * vectors(40, 32, seed=1, unit=True), dim=1)
    truth = value_and_gradients(lambda a, b: nt_xent(a, b, temperature), z1.double(), z2.double())
    assert 1e-12 < truth[0] < 1e-3, truth[0]
    for tile in (7, 80):
        ours = value_and_gradients(lambda a, b, k=tile: nt_xent(a, b, temperature, tile=k), z1, z2)
        assert_near(ours, truth, relative=2e-4)
