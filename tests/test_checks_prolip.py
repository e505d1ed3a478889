"""Exercises of lessons 12 and 12b: the five proofs, no mutant that the inputs miss, what the messages rest on."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch.distributions import Normal

from minilip.course.checks import Exercise, judge
from minilip.course.checks import prolip as twelve
from minilip.course.checks import uncertainty as twelve_b
from tests.proofs import proved

ALL = twelve.EXERCISES | twelve_b.EXERCISES
WRITTEN = {name: e for name, e in ALL.items() if isinstance(e, Exercise)}

test_exercise, test_no_mutant_passes_unnoticed = proved(ALL)


def drawn(name):
    return WRITTEN[name].inputs(torch.Generator().manual_seed(0))


def mistake(name, attempt):
    report = judge(ALL[name], attempt)
    assert report.status == "FAIL"
    return report.mistake


# ---- the references, against what they stand for ---------------------------------------------------------------------


def test_the_overlap_is_an_integral():
    def integral(m1, l1, m2, l2):
        def p(x, m, v):
            return math.exp(-((x - m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)

        v1, v2 = math.exp(l1), math.exp(l2)
        ends = m1 - 12 * math.sqrt(v1), m1 + 12 * math.sqrt(v1)
        return scipy.integrate.quad(lambda x: p(x, m1, v1) ** 2 * p(x, m2, v2), *ends, epsabs=0, epsrel=1e-10)[0]

    given = drawn("log_overlap")[1]
    rows = zip(*(x.tolist() for x in given), strict=True)
    want = [sum(math.log(integral(*numbers)) for numbers in zip(*row, strict=True)) for row in rows]
    found = WRITTEN["log_overlap"].reference(*(x.double() for x in given))
    assert torch.allclose(found, torch.tensor(want, dtype=torch.double), rtol=1e-8)


def test_ties_are_averaged_over_their_orders():
    rng = np.random.default_rng(0)
    for confidence, right in drawn("risk_coverage"):
        n, c, wrong = len(right), confidence.numpy(), ~right.numpy()
        orders = [np.lexsort((rng.random(n), -c)) for _ in range(8000)]
        shuffled = np.mean([wrong[order].cumsum() for order in orders], axis=0) / np.arange(1, n + 1)
        risk, area = twelve_b.risk_coverage(confidence, right)
        assert np.allclose(risk, shuffled, atol=0.025)
        assert area == pytest.approx(float(risk.mean()))


def test_the_bounds_of_the_area():
    right = torch.rand(5000, generator=torch.Generator().manual_seed(0)) < 0.6
    e = 1 - float(right.double().mean())
    assert float(twelve_b.risk_coverage(torch.ones(5000), right)[1]) == pytest.approx(e)
    oracle = float(twelve_b.risk_coverage(right.double(), right)[1])
    assert oracle == pytest.approx(e + (1 - e) * math.log(1 - e), abs=1e-3)


def test_something_is_always_left_out():
    for codes, u, keep in drawn("say_less"):
        less = twelve.say_less(codes, u, keep)
        assert ((less == codes) | (less == 0)).all()
        assert ((less > 0).sum(1) < (codes > 0).sum(1))[(codes > 0).any(1)].all()
        assert (less[codes.sum(1) == 0] == 0).all()


def test_a_step_never_lowers_the_objective_and_ends_at_its_maximum():
    for log_p, pi, alpha in drawn("prompt_step"):
        log_p, pi = log_p.double(), pi.double()

        def objective(pi, log_p=log_p, alpha=alpha):
            return (pi.log() + log_p).logsumexp(1).sum() + (alpha - 1) * pi.log().sum()

        for _ in range(200):
            before, pi = objective(pi), twelve_b.prompt_step(log_p, pi, alpha)
            assert objective(pi) >= before - 1e-9 and pi.sum() == pytest.approx(1)
        others = torch.rand(500, len(pi), generator=torch.Generator().manual_seed(0)).double()
        assert all(objective(other / other.sum()) <= objective(pi) + 1e-3 for other in others)


def test_partial_correlation_of_what_the_control_made():
    z = torch.arange(400).double()
    x, y = (z + 20 * torch.randn(400, generator=torch.Generator().manual_seed(k)) for k in range(2))
    assert scipy.stats.spearmanr(x, y)[0] > 0.9
    assert abs(twelve_b.partial_rank_correlation(x, y, z)) < 0.15


# ---- what learners write ---------------------------------------------------------------------------------------------


def less(codes, u, keep):
    rows = []
    for row, chances in zip(codes.tolist(), u.tolist(), strict=True):
        top = max((x for c, x in zip(row, chances, strict=True) if c), default=2.0)
        rows.append([c if x < min(keep, top) else 0 for c, x in zip(row, chances, strict=True)])
    return torch.tensor(rows)


def less_in_numpy(codes, u, keep):
    c, x = codes.numpy().copy(), u.numpy()
    c[np.arange(len(c)), np.where(c > 0, x, -1).argmax(1)] = 0
    c[x >= keep] = 0
    return c


def less_where_all_would_stay(codes, u, keep):
    stays = (codes > 0) & (u < keep)
    whole = (stays == (codes > 0)).all(1)
    stays[whole] &= (u < torch.where(codes > 0, u, -1).amax(1, keepdim=True))[whole]
    return torch.where(stays, codes, 0)


def risk_by_group_means(confidence, right):
    _, inverse = np.unique(-confidence.numpy(), return_inverse=True)
    share = np.bincount(inverse, ~right.numpy()) / np.bincount(inverse)
    risk = share[np.sort(inverse)].cumsum() / np.arange(1, len(right) + 1)
    return risk, risk.mean()


def partial_by_scipy(x, y, z):
    x, y, z = (scipy.stats.rankdata(v.numpy()) for v in (x, y, z))
    left = [v - np.polyval(np.polyfit(z, v, 1), z) for v in (x, y)]
    return float(scipy.stats.pearsonr(*left)[0])


def partial_by_lstsq(x, y, z):
    x, y, z = (torch.tensor(scipy.stats.rankdata(v.numpy())).float() for v in (x, y, z))
    line = torch.stack([torch.ones(len(z)), z], 1)
    left = [v - line @ torch.linalg.lstsq(line, v[:, None]).solution[:, 0] for v in (x, y)]
    return torch.corrcoef(torch.stack(left))[0, 1]


@pytest.mark.parametrize(
    ("name", "attempt"),
    [
        ("csd", lambda *a: WRITTEN["csd"].library(*a).bfloat16()),
        ("vib_loss", lambda m, w: WRITTEN["vib_loss"].library(m, w).bfloat16()),
        ("halved", [True, True, False, True]),
        ("halved", (1, 1, 0, 1)),
        ("apart_sign", " Positive"),
        ("apart_2d", [1, 0]),
        ("say_less", less),
        ("say_less", less_in_numpy),
        ("say_less", less_where_all_would_stay),
        ("say_less", lambda *a: less(*a).int()),
        ("risk_coverage", risk_by_group_means),
        ("partial_rank_correlation", partial_by_scipy),
        ("partial_rank_correlation", partial_by_lstsq),
    ],
)
def test_right_answers_in_other_forms_pass(name, attempt):
    assert judge(ALL[name], attempt).status == "PASS"


def test_any_mask_token_is_recognised():
    for token in (-1, 9, 32000):

        def masks(codes, u, keep, token=token):
            return torch.where((less(codes, u, keep) == 0) & (codes > 0), token, codes)

        assert mistake("say_less", masks) == "a token for what is gone"


def test_the_variance_for_the_standard_deviation_is_recognised():
    def wrong(mu, logvar):
        return torch.distributions.kl_divergence(Normal(mu, logvar.exp()), Normal(0.0, 1.0)).sum(1).mean()

    assert mistake("vib_loss", wrong) == "logarithm of the standard deviation"


def test_products_of_densities_through_variances_are_recognised():
    def p1_p2(m1, l1, m2, l2):
        return Normal(m2, (l1.exp() + l2.exp()).sqrt()).log_prob(m1).sum(1)

    assert mistake("log_overlap", p1_p2) == "p1 p2"


@pytest.mark.parametrize(
    "divide",
    [
        lambda x, l1, l2: x / (l1.exp() + 2 * l2.exp()),
        lambda x, l1, l2: x / (l1.exp() * (1 + 2 * (l2 - l1).exp())),
        lambda x, l1, l2: x / torch.logaddexp(l1, l2 + math.log(2)).exp(),
    ],
)
def test_dividing_by_infinity_is_a_matter_of_numerics(divide):
    def attempt(m1, l1, m2, l2):
        w = torch.logaddexp(l1, l2 + math.log(2))
        return -(math.log(2 * math.pi) + (l1 + w) / 2 + divide((m1 - m2) ** 2, l1, l2)).sum(1)

    report = judge(ALL["log_overlap"], attempt)
    assert report.mistake == "wrong on extreme numbers" and "gradient" in report.message


@pytest.mark.parametrize("at", [4, 5])
def test_a_scale_or_bias_that_never_learns_is_recognised(at):
    def attempt(*args):
        return WRITTEN["ppcl_loss"].library(*(float(x) if i == at else x for i, x in enumerate(args)))

    assert mistake("ppcl_loss", attempt) == "detached"


def test_cosines_without_variances_are_two_slips():
    assert mistake("csd", lambda m1, l1, m2, l2: 2 - 2 * m1 @ m2.T) == "cosines for distances, and no variances"


def risk(c, r, change=lambda wrong, k: wrong.cumsum(0) / k, order=lambda c: c.argsort(descending=True)):
    curve = change((~r[order(c)]).float(), torch.arange(1, len(r) + 1))
    return curve, curve.mean()


@pytest.mark.parametrize(
    ("attempt", "name"),
    [
        (risk, "ties as stored"),
        (lambda c, r: risk(c, r, order=lambda c: c.argsort().flip(0)), "ties as stored, the last first"),
        (lambda c, r: risk(c, r, lambda w, k: w.cumsum(0) / len(w)), "errors among all"),
        (lambda c, r: risk(c, r, lambda w, k: w.cumsum(0)), "errors counted"),
        (lambda c, r: risk(c, ~r), "accuracy instead of risk"),
        (lambda c, r: risk(c, r, order=torch.argsort), "least sure first"),
        (lambda c, r: (risk(c, r)[0], risk(c, r)[0].sum()), "sum under the curve"),
        (lambda c, r: (risk(c, r)[0], torch.trapezoid(risk(c, r)[0]) / len(r)), "trapezoids"),
        (lambda c, r: risk(c, r)[::-1], "area first"),
        (lambda c, r: risk(c, r)[0], "curve alone"),
    ],
)
def test_a_first_attempt_that_ignores_ties_is_told_its_other_slip(attempt, name):
    found = mistake("risk_coverage", attempt)
    assert found is not None and name in found and "ties as stored" in found


@pytest.mark.parametrize("rank", [lambda v: v.argsort().argsort(), lambda v: v.argsort(stable=True).argsort()])
def test_ranks_by_sorting_twice_are_recognised(rank):
    def attempt(x, y, z):
        left = [rank(v) - np.polyval(np.polyfit(rank(z), rank(v), 1), rank(z)) for v in (x, y)]
        return np.corrcoef(*left)[0, 1]

    assert mistake("partial_rank_correlation", attempt) == "ties as stored"
