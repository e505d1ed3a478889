"""What Gaussians are good for: EM against a general optimiser, scores by sampling, correlations by the textbook."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score
from torch.distributions import MultivariateNormal, Normal

from minilip.prolip import csd, reparametrise
from minilip.prolip.inclusion import contains, inclusion, inclusion_difference
from minilip.prolip.uncertainty import (
    gallery_scores,
    partial_spearman,
    prompt_weights,
    reweighted_class,
    traverse,
    uncertainty,
)
from tests.helpers import gaussians, seeded

# --- One Gaussian and its uncertainty --------------------------------------------------------------------------------


def test_uncertainty_is_the_squared_distance_to_expect_from_the_mean():
    torch.manual_seed(0)
    mu, logvar = gaussians(3, 4)
    z = Normal(mu, (logvar / 2).exp()).sample((200_000,))
    torch.testing.assert_close(uncertainty(logvar), (z - mu).square().sum(dim=2).mean(dim=0), rtol=0.02, atol=0)
    assert uncertainty(torch.zeros(2, 768)).tolist() == [768, 768]


def test_gallery_scores_are_the_sampled_distance_but_for_a_number_a_row():
    (mu, logvar), (mu_g, logvar_g) = gaussians(4, 5, 0, unit=True), gaussians(7, 5, 1, unit=True)
    scores = gallery_scores(mu, mu_g, logvar_g)
    missing = 1 - csd(mu, logvar, mu_g, logvar_g) / 2 - scores
    torch.testing.assert_close(missing, -uncertainty(logvar)[:, None].expand(4, 7) / 2)
    by_hand = [
        [float(a @ b) - sum(map(math.exp, v.tolist())) / 2 for b, v in zip(mu_g, logvar_g, strict=True)] for a in mu
    ]
    torch.testing.assert_close(scores, torch.tensor(by_hand).double())


def test_of_two_items_at_one_place_the_surer_one_ranks_first():
    mu = F.normalize(torch.ones(1, 3), dim=1)
    scores = gallery_scores(mu, mu.expand(2, 3), torch.tensor([[-1.0], [-2.0]]).expand(2, 3))
    assert scores[0, 1] > scores[0, 0]


# --- Weights of prompts ----------------------------------------------------------------------------------------------


def prompts(k=4, dim=3, n=60, seed=0, apart=1.0):
    """K prompts and samples of a mixture of them whose weights are 1 : 2 : ... : K."""
    mu, logvar = gaussians(k, dim, seed)
    mu, planted = apart * mu, torch.arange(1, k + 1).double() / (k * (k + 1) / 2)
    which = torch.multinomial(planted, n, replacement=True, generator=seeded(seed + 1))
    return mu, logvar, reparametrise(mu[which], logvar[which], seeded(seed + 2)), planted, which


def objective(pi, mu, logvar, x, prior, widen):
    """By densities of torch and no logarithm of a sum."""
    scale = torch.diag_embed(logvar.exp() + widen)
    p = torch.stack(
        [MultivariateNormal(m, s).log_prob(x).exp() for m, s in zip(mu, scale, strict=True)], dim=1
    )  # (N, K)
    return float((p @ pi).log().sum()) + sum((prior - 1) * math.log(w) for w in pi.tolist() if prior > 1)


@pytest.mark.parametrize("prior", [1.0, 1.5, 2.0, 5.0])
@pytest.mark.parametrize("start", ["inverse", "uniform"])
@pytest.mark.parametrize("widen", [0.0, 0.3])
def test_the_objective_is_what_it_says_and_never_falls(prior, start, widen):
    mu, logvar, x, *_ = prompts(k=6)
    pi, trace = prompt_weights(mu, logvar, x, prior, widen, start)
    assert (trace.diff() >= -1e-9).all() and trace[-1] - trace[0] > 1
    assert float(trace[-1]) == pytest.approx(objective(pi, mu, logvar, x, prior, widen), rel=1e-9)
    first = 1 / logvar.exp().mean(dim=1) if start == "inverse" else torch.ones(6).double()
    assert float(trace[0]) == pytest.approx(objective(first / first.sum(), mu, logvar, x, prior, widen), rel=1e-9)
    assert float(pi.sum()) == pytest.approx(1) and (pi >= 0).all()


@pytest.mark.parametrize("prior", [1.0, 1.3, 2.0, 5.0])
@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 10])
def test_no_optimiser_finds_better_weights(prior, k, seed):
    mu, logvar, x, *_ = prompts(k, seed=seed)
    log_p = MultivariateNormal(mu, torch.diag_embed(logvar.exp() + 0.1)).log_prob(x[:, None]).numpy()  # (N, K)

    def loss(pi):
        return -np.log(np.exp(log_p) @ pi).sum() - ((prior - 1) * np.log(pi)).sum()

    whole = {"type": "eq", "fun": lambda pi: pi.sum() - 1}
    found = minimize(
        loss, np.full(k, 1 / k), method="SLSQP", bounds=[(1e-12, 1)] * k, constraints=whole, options={"ftol": 1e-14}
    )
    assert found.success
    pi, trace = prompt_weights(mu, logvar, x, prior, 0.1, steps=20_000)
    assert float(trace[-1]) >= -found.fun - 1e-5
    np.testing.assert_allclose(pi.numpy(), found.x, atol=2e-3)


def test_at_alpha_1_each_weight_is_the_share_of_samples_that_it_explains():
    """What holds at a maximum of the likelihood: the mean of p_k / p is 1 where there is weight, no more elsewhere."""
    mu, logvar, x, *_ = prompts(k=5)
    log_p = MultivariateNormal(mu, torch.diag_embed(logvar.exp())).log_prob(x[:, None])
    pi = prompt_weights(mu, logvar, x, prior=1, widen=0, steps=50_000)[0]
    ratio = (log_p.exp() / (log_p.exp() @ pi)[:, None]).mean(dim=0)
    torch.testing.assert_close(ratio[pi > 1e-3], torch.ones_like(ratio[pi > 1e-3]), rtol=0, atol=1e-4)
    assert (ratio <= 1 + 1e-3).all()


@pytest.mark.parametrize("prior", [1.0, 2.0, 5.0])
def test_prompts_far_apart_are_counted(prior):
    mu, logvar, x, _, which = prompts(apart=100.0)
    pi, trace = prompt_weights(mu, logvar, x, prior, widen=0)
    counts = which.bincount(minlength=4).double()
    torch.testing.assert_close(pi, (counts + prior - 1) / (60 + 4 * (prior - 1)))
    assert trace.isfinite().all()


def test_planted_weights_come_back():
    mu, logvar, x, planted, _ = prompts(k=5, dim=8, n=20_000, apart=0.5)
    for start in ("inverse", "uniform"):
        pi, trace = prompt_weights(mu, logvar, x, prior=1, widen=0, start=start)
        torch.testing.assert_close(pi, planted, rtol=0, atol=0.02)
    assert (pi - 0.2).abs().max() > 0.1 and 2 <= len(trace) <= 1001


def test_the_start_decides_how_soon_and_not_what():
    mu, logvar, x, *_ = prompts(k=6)
    a, b = (prompt_weights(mu, logvar, x, start=start)[0] for start in ("inverse", "uniform"))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
    a, b = (prompt_weights(mu, logvar, x, start=start, steps=1)[0] for start in ("inverse", "uniform"))
    assert (a - b).abs().max() > 1e-3


def test_a_strong_prior_trusts_all_alike_and_a_copy_shares():
    mu, logvar, x, *_ = prompts()
    torch.testing.assert_close(
        prompt_weights(mu, logvar, x, prior=1e7)[0], torch.full((4,), 0.25).double(), atol=1e-5, rtol=0
    )
    pi = prompt_weights(mu[[0, 1, 2, 3, 3]], logvar[[0, 1, 2, 3, 3]], x)[0]
    assert float(pi[3]) == pytest.approx(float(pi[4]), rel=1e-12)


def test_weights_keep_their_digits_where_densities_vanish_and_in_half_precision():
    k, dim = 8, 512
    mu, logvar = F.normalize(torch.randn(k, dim, generator=seeded(0)), dim=1), torch.full((k, dim), -9.0)
    x = reparametrise(mu[[0, 0, 0, 1]] + 0.1, logvar[:4], seeded(1))
    pi, trace = prompt_weights(mu, logvar, x, widen=0)
    assert trace.isfinite().all() and pi.dtype == torch.float32
    torch.testing.assert_close(pi, torch.tensor([4, 2, 1, 1, 1, 1, 1, 1]) / 12)
    assert torch.equal(pi, prompt_weights(mu, logvar, x, widen=0)[0])
    assert prompt_weights(mu.bfloat16(), logvar.bfloat16(), x.bfloat16())[0].isfinite().all()


def test_a_class_is_the_average_of_independent_prompts():
    torch.manual_seed(0)
    mu, logvar = gaussians(3, 2)
    weights = torch.tensor([0.2, 0.3, 0.5]).double()
    z = torch.einsum("k,nkd->nd", weights, Normal(mu, (logvar / 2).exp()).sample((400_000,)))
    mean, log_v = reweighted_class(mu, logvar, weights)
    torch.testing.assert_close(mean, z.mean(dim=0), rtol=0, atol=0.01)
    torch.testing.assert_close(log_v.exp(), z.var(dim=0), rtol=0.02, atol=0)


def test_one_prompt_stays_and_k_alike_have_a_kth_of_the_variance():
    mu, logvar = gaussians(4, 3, unit=True)
    mean, log_v = reweighted_class(mu, logvar, torch.tensor([0.0, 1.0, 0.0, 0.0]))
    assert torch.equal(mean, mu[1]) and torch.allclose(log_v, logvar[1])
    mean, log_v = reweighted_class(mu[:1].expand(4, 3), logvar[:1].expand(4, 3), torch.full((4,), 0.25))
    torch.testing.assert_close((mean, log_v.exp()), (mu[0], logvar[0].exp() / 4))
    assert reweighted_class(mu, logvar, torch.full((4,), 0.25))[0].norm() < 0.99


# --- Towards the root ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_the_way_to_the_root_by_a_loop(steps):
    s, r = F.normalize(torch.randn(2, 6, generator=seeded(0)), dim=1)
    way = traverse(s, r, steps)
    wanted = []
    for i in range(steps):
        point = [float(a) - i * (float(a) - float(b)) / steps for a, b in zip(s, r, strict=True)]
        wanted.append([p / math.sqrt(sum(q * q for q in point)) for p in point])
    torch.testing.assert_close(way, torch.tensor(wanted))
    torch.testing.assert_close(way[0], s)


def test_it_nears_the_root_on_the_great_circle_and_never_arrives():
    s, r = F.normalize(torch.randn(2, 6, generator=seeded(0), dtype=torch.double), dim=1)
    way = traverse(s, r)
    assert way.shape == (50, 6) and (way.norm(dim=1) - 1).abs().max() < 1e-12
    assert ((way @ r).diff() > 0).all() and (way[-1] @ r) < 1 - 1e-5
    assert torch.linalg.matrix_rank(torch.cat([way, r[None]]), tol=1e-9) == 2
    torch.testing.assert_close(traverse(3 * s, r / 7), way)
    assert torch.allclose(traverse(s, s), s.expand(50, 6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_between_opposite_directions_there_is_no_way(dtype):
    s = torch.randn(5, generator=seeded(0), dtype=dtype)
    with pytest.raises(ValueError, match="root: expected another direction than opposite to start"):
        traverse(s, -2 * s)
    nearly = F.normalize(-s, dim=0) + 0.01 * torch.eye(5, dtype=dtype)[0]
    assert traverse(s, nearly).isfinite().all()


# --- Correlation of what is left -------------------------------------------------------------------------------------


def related(n=200, seed=0, levels=None):
    g = torch.randn(n, 3, generator=seeded(seed)).double()
    x, y = g[:, 0] + g[:, 1], g[:, 0] + 0.5 * g[:, 2]
    return [v if levels is None else (v * levels).round() for v in (x.exp(), y**3, g[:, 0])]


@pytest.mark.parametrize("levels", [None, 1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_partial_correlation_by_the_textbook(levels, seed):
    x, y, g = related(seed=seed, levels=levels)
    xy, xg, yg = (spearmanr(a, b).statistic for a, b in ((x, y), (x, g), (y, g)))
    wanted = (xy - xg * yg) / math.sqrt((1 - xg**2) * (1 - yg**2))
    assert partial_spearman(x, y, g) == pytest.approx(wanted, abs=1e-12)
    assert abs(xy - wanted) > 0.05


@pytest.mark.parametrize("controls", [1, 2, 4])
def test_several_controls_by_the_inverse_of_the_correlations(controls):
    x, y, _ = related(levels=3)
    given = torch.stack([x + y, x - y, y, x], dim=1)[:, :controls] + torch.randn(200, controls, generator=seeded(5))
    ranks = np.stack([rankdata(v) for v in (x, y, *given.T)])
    p = np.linalg.inv(np.corrcoef(ranks))
    assert partial_spearman(x, y, given) == pytest.approx(-p[0, 1] / math.sqrt(p[0, 0] * p[1, 1]), abs=1e-10)


def test_what_is_given_takes_away_what_it_made_and_nothing_else():
    g, a, b = torch.randn(3, 5000, generator=seeded(1)).double()
    assert spearmanr(g + 0.5 * a, g + 0.5 * b).statistic > 0.7
    assert abs(partial_spearman(g + 0.5 * a, g + 0.5 * b, g)) < 0.06
    assert partial_spearman(a, a + b, g) == pytest.approx(spearmanr(a, a + b).statistic, abs=0.02)
    nothing = torch.zeros(5000)
    assert partial_spearman(a, a + b, nothing) == pytest.approx(spearmanr(a, a + b).statistic, abs=1e-12)
    assert partial_spearman(a, -a.exp(), g) == pytest.approx(-1)


# --- Inside: the wider one, in the same place -----------------------------------------------------------------------


def pairs(n=400, dim=16, seed=0):
    """True: a narrow Gaussian near a wide one. Reversed: the wide in the narrow. Incompatible: a wide one elsewhere."""
    g = seeded(seed)
    wide = F.normalize(torch.randn(n, dim, generator=g), dim=1)
    narrow = F.normalize(wide + 0.15 * torch.randn(n, dim, generator=g), dim=1)
    l_wide = math.log(0.3 / dim) + 0.3 * torch.randn(n, dim, generator=g)
    l_narrow = math.log(0.1 / dim) + 0.3 * torch.randn(n, dim, generator=g)
    return (
        (narrow, l_narrow, wide, l_wide),
        (wide, l_wide, narrow, l_narrow),
        (narrow, l_narrow, wide.roll(1, 0), l_wide.roll(1, 0)),
    )


def auroc(score, positive, negative):
    values = torch.cat([score(*positive), score(*negative)])
    return roc_auc_score([1] * len(positive[0]) + [0] * len(negative[0]), values)


@pytest.mark.parametrize("dim", [4, 16, 256])
@pytest.mark.parametrize("seed", range(3))
def test_it_tells_the_true_from_the_reversed_and_from_the_incompatible_as_no_part_of_it_does(dim, seed):
    true, turned, foreign = pairs(dim=dim, seed=seed)
    against = {
        name: (auroc(score, true, turned), auroc(score, true, foreign))
        for name, score in {
            "both": contains,
            "difference": inclusion_difference,
            "direction": lambda m1, l1, m2, l2: (l2 - l1).sum(dim=1),
            "cosine": lambda m1, l1, m2, l2: (m1 * m2).sum(dim=1),
            "overlap": lambda m1, l1, m2, l2: inclusion(m1, l1, m2, l2) + inclusion(m2, l2, m1, l1),
        }.items()
    }
    assert min(against["both"]) >= 0.9
    for name in ("difference", "direction"):
        assert against[name][0] >= 0.9 and against[name][1] < 0.6
    for name in ("cosine", "overlap"):
        assert against[name][0] == pytest.approx(0.5, abs=1e-3) and against[name][1] >= 0.9


def test_what_contains_is_is_not_contained():
    two = *gaussians(50, 6, 0), *gaussians(50, 6, 1)
    score = contains(*two)
    assert torch.equal(score, -contains(*two[2:], *two[:2])) and (score.abs() <= 1).all()
    assert torch.equal(score.sign(), (two[3] - two[1]).sum(dim=1).sign())
    assert contains(*two[:2], *two[:2]).abs().max() == 0
    torch.testing.assert_close(contains(*(x[7:9] for x in two)), score[7:9])


def test_containment_by_volumes_and_by_the_share_of_the_overlap():
    """One dimension at a time: the overlap of two densities is the density of their difference at 0."""
    m1, l1, m2, l2 = *gaussians(5, 3, 0), *gaussians(5, 3, 1)
    v1, v2 = l1.exp().prod(dim=1).sqrt(), l2.exp().prod(dim=1).sqrt()
    there, here = (Normal(m, (l1.exp() + l2.exp()).sqrt()).log_prob(torch.zeros(()).double()) for m in (m1 - m2, 0))
    share = (there - here).exp().prod(dim=1) ** (1 / 3)
    torch.testing.assert_close(contains(m1, l1, m2, l2), (v2 - v1) / (v2 + v1) * share)


def test_containment_survives_extremes_and_has_gradients():
    mu, logvar = gaussians(3, 4)
    assert contains(1e3 * mu, logvar - 80, -1e3 * mu, logvar + 80).isfinite().all()
    torch.testing.assert_close(contains(mu, logvar, mu, logvar + 9), torch.ones(3).double())
    torch.testing.assert_close(contains(1e6 * mu, logvar, -1e6 * mu, logvar + 9), torch.zeros(3).double())
    x = [v.requires_grad_() for v in (*gaussians(3, 4, 0), *gaussians(3, 4, 1))]
    assert torch.autograd.gradcheck(contains, x)


# --- What is refused -------------------------------------------------------------------------------------------------

MU, LOGVAR = gaussians(4, 3)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: uncertainty(LOGVAR[0]), "logvar"),
        (lambda: uncertainty(LOGVAR / 0), "logvar"),
        (lambda: gallery_scores(MU, MU, LOGVAR[:2]), "gallery_logvar"),
        (lambda: gallery_scores(MU[:, :2], MU, LOGVAR), "gallery_mu"),
        (lambda: prompt_weights(MU, LOGVAR, MU[:, :2]), "samples"),
        (lambda: prompt_weights(MU, LOGVAR, MU[:0]), "samples"),
        (lambda: prompt_weights(MU, LOGVAR[:2], MU), "logvar"),
        (lambda: prompt_weights(MU, LOGVAR, MU, prior=0.9), "prior"),
        (lambda: prompt_weights(MU, LOGVAR, MU, prior=math.nan), "prior"),
        (lambda: prompt_weights(MU, LOGVAR, MU, widen=-0.1), "widen"),
        (lambda: prompt_weights(MU, LOGVAR, MU, start="best"), "start"),
        (lambda: prompt_weights(MU, LOGVAR, MU, steps=0), "steps"),
        (lambda: reweighted_class(MU, LOGVAR, torch.ones(3) / 3), "weights"),
        (lambda: reweighted_class(MU, LOGVAR, torch.ones(4)), "weights"),
        (lambda: reweighted_class(MU, LOGVAR, torch.tensor([1.5, -0.5, 0, 0])), "weights"),
        (lambda: reweighted_class(MU, LOGVAR, torch.tensor([math.nan, 1, 0, 0])), "weights"),
        (lambda: traverse(MU, MU), "start"),
        (lambda: traverse(MU[0], MU[1, :2]), "root"),
        (lambda: traverse(MU[0], 0 * MU[1]), "root"),
        (lambda: traverse(MU[0], MU[1] / 0), "root"),
        (lambda: traverse(MU[0], MU[1], steps=0), "steps"),
        (lambda: partial_spearman(MU, MU, MU), "x"),
        (lambda: partial_spearman(MU[:, 0], MU[:3, 0], MU), "y"),
        (lambda: partial_spearman(MU[:, 0], MU[:, 1], MU[:3]), "given"),
        (lambda: partial_spearman(MU[:, 0], MU[:, 1], MU[:, 2:] / 0), "given"),
        (lambda: partial_spearman(MU[:, 0], MU[:, 1], MU[:, 1:]), "x"),
        (lambda: partial_spearman(torch.ones(9), torch.arange(9), torch.rand(9)), "x"),
        (lambda: partial_spearman(torch.rand(9), torch.arange(9), -torch.arange(9)), "y"),
        (lambda: contains(MU, LOGVAR, MU[:2], LOGVAR), "mu2"),
        (lambda: contains(MU, LOGVAR, MU, LOGVAR / 0), "logvar2"),
    ],
)
def test_bad_input_is_refused(call, name):
    with pytest.raises(ValueError, match=f"^{name}: expected .* got"):
        call()
