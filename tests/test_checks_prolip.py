"""Exercises of lesson 12: each mistake is named, and right answers written differently pass."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal, kl_divergence

from minilip.course.checks import Exercise, assert_exercise, judge
from minilip.course.checks.prolip import EXERCISES, partial_rank_correlation, risk_coverage, say_less


def csd_by_moments(m1, l1, m2, l2):
    own = [(m.square() + v.exp()).sum(1) for m, v in ((m1, l1), (m2, l2))]
    return own[0][:, None] + own[1][None] - 2 * torch.einsum("id,jd->ij", m1, m2)


def csd_by_distributions(m1, l1, m2, l2):
    """The difference of two normal variables, asked for its mean and variance."""
    rows = []
    for m, v in zip(m1, l1, strict=True):
        apart = Normal(m - m2, (v.exp() + l2.exp()).sqrt())
        rows.append((apart.mean**2 + apart.variance).sum(1))
    return torch.stack(rows)


def csd_in_double(m1, l1, m2, l2):
    return csd_by_moments(m1.double(), l1.double(), m2.double(), l2.double())


def ppcl_by_bce(m1, l1, m2, l2, s, b):
    logits = s * (1 - csd_by_moments(m1, l1, m2, l2) / 2) + b
    return F.binary_cross_entropy_with_logits(logits, torch.eye(len(m1)).to(logits), reduction="sum") / len(m1)


def ppcl_by_softplus(m1, l1, m2, l2, s, b):
    cosine = m1 @ m2.T  # the means are unit vectors
    logits = s * (cosine - l1.exp().sum(1, keepdim=True) / 2 - l2.exp().sum(1) / 2) + b
    return (F.softplus(logits).sum() - logits.trace()) / len(m1)


def kl_by_distributions(mu, logvar):
    """Of float64, where the square of a narrow deviation is not 0."""
    given = Independent(Normal(mu.double(), (logvar.double() / 2).exp()), 1)
    return kl_divergence(given, Independent(Normal(torch.zeros_like(mu).double(), 1.0), 1)).mean()


def kl_by_standard_deviation(mu, logvar):
    log_sigma = logvar / 2
    return ((2 * log_sigma).exp() + mu * mu - 1 - 2 * log_sigma).sum() / (2 * len(mu))


def overlap_by_normals(m1, l1, m2, l2):
    m1, v1, m2, v2 = m1.double(), l1.double().exp(), m2.double(), l2.double().exp()
    third = Normal(m2, (v1 / 2 + v2).sqrt())
    return (third.log_prob(m1) - (4 * math.pi * v1).log() / 2).sum(1)


def overlap_by_completion(m1, l1, m2, l2):
    """The precisions added, the centre c found, the constant that remains: in float64."""
    m1, l1, m2, l2 = (x.double() for x in (m1, l1, m2, l2))
    p, q = 2 * (-l1).exp(), (-l2).exp()
    c = (p * m1 + q * m2) / (p + q)
    rest = (p * (m1 - c) ** 2 + q * (m2 - c) ** 2) / 2
    heights = -1.5 * math.log(2 * math.pi) - l1 - l2 / 2
    return (heights + (2 * math.pi / (p + q)).log() / 2 - rest).sum(-1)


def overlap_in_float32(m1, l1, m2, l2):
    w = l1 + F.softplus(l2 - l1 + math.log(2))
    return -(l1 / 2 + w / 2 + (m1 - m2) ** 2 * (-w).exp() + math.log(2 * math.pi)).sum(1)


def less_by_loops(codes, u, keep):
    rows = []
    for row, chances in zip(codes.tolist(), u.tolist(), strict=True):
        top = max((x for c, x in zip(row, chances, strict=True) if c), default=2.0)
        rows.append([c if x < min(keep, top) else 0 for c, x in zip(row, chances, strict=True)])
    return torch.tensor(rows)


def less_by_multiplying(codes, u, keep):
    top = (u * (codes > 0)).amax(1, keepdim=True)
    return codes * ((u < keep) & (u < top))


def less_in_numpy(codes, u, keep):
    c, x = codes.numpy().copy(), u.numpy()
    best = np.where(c > 0, x, -1).argmax(1)
    c[np.arange(len(c)), best] = 0
    c[x >= keep] = 0
    return c


def less_where_all_would_stay(codes, u, keep):
    stays = (codes > 0) & (u < keep)
    whole = (stays == (codes > 0)).all(1)
    stays[whole] &= (u < torch.where(codes > 0, u, -1).amax(1, keepdim=True))[whole]
    return torch.where(stays, codes, 0)


def risk_by_shuffling(confidence, right):
    """Ties in many random orders, averaged: exact where each group of ties is small enough to list."""
    n, rng = len(right), np.random.default_rng(0)
    c, wrong, total = confidence.numpy(), ~right.numpy(), np.zeros(n)
    many = 8000
    for _ in range(many):
        order = np.lexsort((rng.random(n), -c))
        total += wrong[order].cumsum() / np.arange(1, n + 1)
    return total / many


def risk_by_group_means(confidence, right):
    _, inverse = np.unique(-confidence.numpy(), return_inverse=True)
    share = np.bincount(inverse, ~right.numpy()) / np.bincount(inverse)
    risk = np.cumsum(np.sort(inverse).astype(float) * 0 + share[np.sort(inverse)]) / np.arange(1, len(right) + 1)
    return risk, risk.mean()


def risk_in_float32(confidence, right):
    wrong = (~right).float()
    same = confidence[:, None] == confidence
    expected = (same * wrong).sum(1) / same.sum(1)
    risk = expected[confidence.argsort(descending=True)].cumsum(0) / torch.arange(1, len(right) + 1)
    return [risk, risk.sum() / len(right)]


def partial_by_scipy(x, y, z):
    x, y, z = (scipy.stats.rankdata(v.numpy()) for v in (x, y, z))
    left = [v - np.polyval(np.polyfit(z, v, 1), z) for v in (x, y)]
    return float(scipy.stats.pearsonr(*left)[0])


def partial_by_precision(x, y, z):
    """Minus the normalised off-diagonal of the inverse correlation matrix."""
    inverse = np.linalg.inv(scipy.stats.spearmanr(torch.stack([x, y, z], 1).numpy())[0])
    return -inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1])


def partial_by_lstsq(x, y, z):
    x, y, z = (torch.tensor(scipy.stats.rankdata(v.numpy())).float() for v in (x, y, z))
    line = torch.stack([torch.ones(len(z)), z], 1)
    left = [v - line @ torch.linalg.lstsq(line, v[:, None]).solution[:, 0] for v in (x, y)]
    return torch.corrcoef(torch.stack(left))[0, 1]


CORRECT: dict[str, list] = {
    "csd": [
        csd_by_moments,
        csd_by_distributions,
        csd_in_double,
        lambda *a: csd_in_double(*a).bfloat16(),
    ],
    "ppcl_loss": [
        ppcl_by_bce,
        ppcl_by_softplus,
        lambda *a: ppcl_by_bce(*(x.double() for x in a[:4]), *a[4:]),
        lambda *a: ppcl_by_bce(*a).bfloat16(),
    ],
    "vib_loss": [
        kl_by_distributions,
        kl_by_standard_deviation,
        lambda m, v: -(1 + v - m.pow(2) - v.exp()).sum(1).mean() / 2,
        lambda m, v: kl_by_standard_deviation(m, v).bfloat16(),
    ],
    "halved": [(True, True, False, True), [True, True, False, True], (1, 1, 0, 1)],
    "log_overlap": [
        overlap_by_normals,
        overlap_by_completion,
        overlap_in_float32,
        lambda *a: overlap_in_float32(*a).bfloat16(),
    ],
    "apart_sign": ["positive", " Positive"],
    "apart_size": ["grows"],
    "apart_2d": [[True, False], (1, 0)],
    "say_less": [
        less_by_loops,
        less_by_multiplying,
        less_in_numpy,
        less_where_all_would_stay,
        lambda *a: less_by_loops(*a).int(),
    ],
    "risk_coverage": [
        risk_by_group_means,
        risk_in_float32,
        lambda c, r: tuple(x.half() for x in risk_in_float32(c, r)),
    ],
    "partial_rank_correlation": [partial_by_scipy, partial_by_precision, partial_by_lstsq],
}


@pytest.mark.parametrize("name", EXERCISES)
def test_exercise(name):
    assert_exercise(EXERCISES[name], CORRECT[name])


def written(name):
    exercise = EXERCISES[name]
    assert isinstance(exercise, Exercise)
    return exercise


def drawn(name):
    return written(name).inputs(torch.Generator().manual_seed(0))


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
    found = written("log_overlap").reference(*(x.double() for x in given))
    assert torch.allclose(found, torch.tensor(want, dtype=torch.double), rtol=1e-8)


def test_ties_are_averaged_over_their_orders():
    for confidence, right in drawn("risk_coverage"):
        risk, area = risk_coverage(confidence, right)
        assert np.allclose(risk, risk_by_shuffling(confidence, right), atol=0.025)
        assert area == pytest.approx(float(risk.mean()))


def test_the_bounds_of_the_area():
    right = torch.rand(5000, generator=torch.Generator().manual_seed(0)) < 0.6
    e = 1 - float(right.double().mean())
    assert float(risk_coverage(torch.ones(5000), right)[1]) == pytest.approx(e)
    oracle = float(risk_coverage(right.double(), right)[1])
    assert oracle == pytest.approx(e + (1 - e) * math.log(1 - e), abs=1e-3)


def test_something_is_always_left_out():
    for codes, u, keep in drawn("say_less"):
        less = say_less(codes, u, keep)
        assert ((less == codes) | (less == 0)).all()
        assert ((less > 0).sum(1) < (codes > 0).sum(1))[(codes > 0).any(1)].all()
        assert (less[codes.sum(1) == 0] == 0).all()


def test_any_mask_token_is_recognised():
    for token in (-1, 9, 32000):

        def masks(codes, u, keep, token=token):
            return torch.where((less_by_loops(codes, u, keep) == 0) & (codes > 0), token, codes)

        assert judge(EXERCISES["say_less"], masks).mistake == "a token for what is gone"


def test_changing_the_captions_in_place_is_refused():
    def in_place(codes, u, keep):
        codes[less_by_loops(codes, u, keep) == 0] = 0
        return codes

    assert judge(EXERCISES["say_less"], in_place).mistake == "changes its input in place"


def test_logarithms_taken_too_late_are_recognised():
    def by_normals(m1, l1, m2, l2):
        v1, v2 = l1.exp(), l2.exp()
        third = Normal(m2, (v1 / 2 + v2).sqrt(), validate_args=False)
        return (third.log_prob(m1) - (4 * math.pi * v1).log() / 2).sum(1)

    assert judge(EXERCISES["log_overlap"], by_normals).mistake == "variances overflow"
    by_torch = lambda m, v: kl_divergence(Normal(m, (v / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()  # noqa: E731
    assert judge(EXERCISES["vib_loss"], by_torch).mistake == "log of exp"


def test_dividing_by_infinity_is_recognised():
    def dividing(m1, l1, m2, l2):
        w = torch.logaddexp(l1, l2 + math.log(2))
        return -(math.log(2 * math.pi) + (l1 + w) / 2 + (m1 - m2) ** 2 / w.exp()).sum(1)

    assert judge(EXERCISES["log_overlap"], dividing).mistake == "divides by infinity"


def test_a_cut_graph_is_recognised():
    report = judge(EXERCISES["ppcl_loss"], lambda m1, l1, m2, l2, s, b: ppcl_by_bce(m1, l1.detach(), m2, l2, s, b))
    assert (report.status, report.mistake) == ("FAIL", "detached") and "`logvar1`" in report.message


def test_partial_correlation_of_what_the_control_made():
    z = torch.arange(400).double()
    x, y = (z + 20 * torch.randn(400, generator=torch.Generator().manual_seed(k)) for k in range(2))
    assert scipy.stats.spearmanr(x, y)[0] > 0.9
    assert abs(float(partial_rank_correlation(x, y, z))) < 0.15
