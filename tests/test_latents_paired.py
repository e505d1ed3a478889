"""Readings of known causes against scikit-learn; paired comparisons against scipy and exact enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from minilip.evaluation import interval, latent_r2, latents_r2, paired_interval, permutation_test
from tests.helpers import seeded

# ---- R2 ----------------------------------------------------------------------------------------------------------


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.double)


def test_the_linear_reading_equals_scikit_learn_with_the_variances_added_up():
    x, x_test, w = normal(60, 5), normal(40, 5, seed=1), normal(5, 3, seed=2)
    y, y_test = x @ w + normal(60, 3, seed=3), x_test @ w + normal(40, 3, seed=4)
    y, y_test = y * torch.tensor([1.0, 3.0, 10.0]), y_test * torch.tensor([1.0, 3.0, 10.0])
    scale = StandardScaler().fit(x)
    predicted = Ridge(0.06).fit(scale.transform(x), y).predict(scale.transform(x_test))
    want = r2_score(y_test, predicted, multioutput="variance_weighted")
    assert latent_r2(x, y, x_test, y_test, kernel=False) == pytest.approx(want, abs=1e-12)
    assert abs(want - r2_score(y_test, predicted)) > 1e-3  # so that the line above can tell the two apart


def test_a_kernel_reads_what_a_line_cannot():
    x, x_test = normal(400, 2), normal(200, 2, seed=1)
    y, y_test = (z.square().sum(dim=1, keepdim=True).sqrt() for z in (x, x_test))
    assert latent_r2(x, y, x_test, y_test, kernel=False) < 0.1
    assert latent_r2(x, y, x_test, y_test) > 0.98


@pytest.mark.parametrize("kernel", [True, False])
def test_what_is_not_there_is_not_read_and_scale_and_offset_do_not_count(kernel):
    x, x_test, w = normal(300, 4), normal(200, 4, seed=1), normal(4, 1, seed=2)
    noise, noise_test = normal(300, 1, seed=3), normal(200, 1, seed=4)
    assert abs(latent_r2(x, noise, x_test, noise_test, kernel)) < 0.1
    plain = latent_r2(x, x @ w, x_test, x_test @ w, kernel)
    assert plain > 0.95
    other = latent_r2(100 * x - 7, 1000 + 0.1 * x @ w, 100 * x_test - 7, 1000 + 0.1 * x_test @ w, kernel)
    assert other == pytest.approx(plain, abs=1e-6)


def test_rows_where_a_cause_is_not_defined_are_left_out():
    x, x_test = normal(80, 3), normal(50, 3, seed=1)
    y, y_test = {"a": x[:, :1].clone(), "b": x[:, 1:]}, {"a": x_test[:, :1].clone(), "b": x_test[:, 1:]}
    y["a"][::2] = math.nan
    y_test["a"][5] = math.nan
    found = latents_r2(x, y, x_test, y_test)
    kept = torch.arange(50) != 5
    assert list(found) == ["a", "b"]
    assert found["a"] == latent_r2(x[1::2], y["a"][1::2], x_test[kept], y_test["a"][kept])
    assert found["b"] == latent_r2(x, y["b"], x_test, y_test["b"])


def test_a_cause_that_does_not_vary_is_refused():
    x = normal(20, 2)
    with pytest.raises(ValueError, match="a cause that varies"):
        latent_r2(x, normal(20, 1), x, torch.ones(20, 1, dtype=torch.double))
    with pytest.raises(ValueError, match="y, y_test"):
        latents_r2(x, {"a": normal(20, 1)}, x, {"b": normal(20, 1)})


# ---- two models on the same examples -----------------------------------------------------------------------------


def exact(a, b):
    d = np.asarray(a, float) - np.asarray(b, float)
    means = [abs(np.dot(signs, d)) for signs in itertools.product((-1, 1), repeat=len(d))]
    return float(np.mean(np.array(means) >= abs(d.sum()) - 1e-9))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_p_equals_the_enumeration_of_all_swaps_and_scipy(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0.6, 1, 10), rng.normal(0, 1, 10)
    theirs = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert exact(a, b) == pytest.approx(theirs, abs=1e-12)
    p = exact(a, b)
    assert permutation_test(a, b, 20_000, seed) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 20_000) + 1e-4)


def test_p_of_hits_is_the_sign_test_of_the_examples_on_which_the_models_differ():
    a, b = np.ones(40), np.r_[np.zeros(9), np.ones(31)]
    a[:2], b[:2] = 0, 1  # 7 for a, 2 for b
    want = stats.binomtest(2, 9).pvalue
    assert permutation_test(a, b, 40_000) == pytest.approx(want, abs=0.01)


def test_p_says_little_where_nothing_differs_and_much_where_all_does():
    hits = torch.tensor([1, 0, 1, 1] * 25)
    assert permutation_test(hits, hits, 99) == 1
    assert permutation_test(torch.ones(30), torch.zeros(30), 999) == 1 / 1000
    assert permutation_test([1.0, 0.0], [0.0, 1.0], 50) == 1


def test_a_pair_is_surer_than_two_intervals():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=300)
    a, b = hard + 0.2 + 0.1 * rng.normal(size=300), hard + 0.1 * rng.normal(size=300)
    low, high = paired_interval(a, b)
    assert 0.15 < low < 0.2 < high < 0.25
    assert (low, high) == interval(a - b)
    assert high - low < 0.2 * (interval(a)[1] - interval(a)[0])
    groups = np.arange(300) // 10
    assert paired_interval(a, b, groups) == interval(a - b, groups=groups)


@pytest.mark.parametrize("a, b", [([1.0], [1.0, 2.0]), ([], []), ([math.nan], [1.0]), (["x"], [1.0]), (1.0, 2.0)])
def test_results_that_are_no_pairs_are_refused(a, b):
    for test in (permutation_test, paired_interval):
        with pytest.raises(ValueError, match="^[ab]: expected"):
            test(a, b)
