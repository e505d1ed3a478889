"""Measures against other implementations and against answers known by hand."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from minilip.evaluation import (
    accuracy,
    aurc,
    encode,
    few_shot,
    interval,
    knn,
    linear_probe,
    parameters,
    ranks,
    retrieval,
    risk_coverage,
)


def test_ranks_by_hand():
    similarity = torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]])
    assert ranks(similarity, torch.tensor([0, 1, 2])).tolist() == [1, 2, 3]
    several = torch.tensor([[False, True, True], [True, False, True], [False, False, True]])
    assert ranks(similarity, several).tolist() == [2, 1, 3]


def test_a_constant_scorer_ranks_last():
    assert retrieval(torch.zeros(4, 10), torch.arange(4))["median rank"] == 10
    assert accuracy(torch.zeros(4, 10), torch.arange(4)) == 0


@given(st.integers(0, 10_000))
def test_ranks_against_a_sort(seed):
    g = torch.Generator().manual_seed(seed)
    similarity, match = torch.randn(7, 11, generator=g), torch.randint(11, (7,), generator=g)
    order = similarity.argsort(dim=1, descending=True).tolist()
    assert ranks(similarity, match).tolist() == [order[i].index(m) + 1 for i, m in enumerate(match.tolist())]


def test_recall_equals_scikit_learn_top_k():
    g = torch.Generator().manual_seed(0)
    similarity, match = torch.randn(200, 20, generator=g), torch.randint(20, (200,), generator=g)
    found = retrieval(similarity, match, at=(1, 5))
    for k in (1, 5):
        oracle = sklearn.metrics.top_k_accuracy_score(match, similarity.numpy(), k=k, labels=np.arange(20))
        assert found[f"R@{k}"] == pytest.approx(oracle)


@given(st.integers(0, 10_000))
def test_ties_count_against_the_query_whatever_their_order(seed):
    g = torch.Generator().manual_seed(seed)
    similarity = torch.randint(4, (6, 9), generator=g) / 2  # many ties
    right = torch.rand(6, 9, generator=g) < 0.3
    right[torch.arange(6), torch.randint(9, (6,), generator=g)] = True
    expected = []
    for scores, own in zip(similarity.tolist(), right.tolist(), strict=True):
        best = max(score for score, is_right in zip(scores, own, strict=True) if is_right)
        expected.append(1 + sum(score >= best and not is_right for score, is_right in zip(scores, own, strict=True)))
    assert ranks(similarity, right).tolist() == expected
    order = torch.randperm(9, generator=g)
    assert ranks(similarity[:, order], right[:, order]).tolist() == expected


def test_the_median_rank_of_an_even_number_lies_between_two():
    similarity = torch.zeros(4, 8)
    for query, rank in enumerate((1, 2, 1, 8)):
        similarity[query] = -1 + 2 * (torch.arange(8) < rank - 1)
        similarity[query, 7] = 0.5
    found = retrieval(similarity, torch.full((4,), 7), at=(1, 2))
    assert found == {"R@1": 0.5, "R@2": 0.75, "median rank": 1.5}


def test_interval_has_its_ends_at_the_percentiles_of_95_percent():
    """The mean of resampled zeros and ones is binomial, so the ends are known."""
    x = np.arange(100) % 2
    ends = scipy.stats.binom(100, 0.5).ppf([0.025, 0.975]) / 100
    assert interval(x, draws=8000) == pytest.approx(tuple(ends), abs=0.011)
    x = np.random.default_rng(1).normal(size=400)
    half = 1.96 * x.std() / math.sqrt(len(x))  # what the central limit theorem says
    assert interval(x, draws=4000) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.1 * half)


def test_interval_is_the_same_for_the_same_seed():
    x = np.random.default_rng(0).normal(size=50)
    assert interval(x, seed=3) == interval(torch.from_numpy(x), seed=3) != interval(x, seed=4)
    assert interval(x) == interval(x, draws=1000, seed=0)


def test_interval_draws_groups_whole_and_weighs_each_value():
    """Two groups, one of three values and one of one: four pairs of them can be drawn."""
    means = []
    interval([0, 0, 0, 1], groups=[5, 5, 5, 2], draws=300, statistic=lambda v: means.append(float(v.mean())) or 0.0)
    assert {round(m, 6) for m in means} == {0.0, 0.25, 1.0}
    assert np.mean([m == 0.25 for m in means]) == pytest.approx(0.5, abs=0.1)


def test_interval_covers_the_truth_and_grows_with_groups():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        low, high = interval(rng.normal(1.0, 1.0, 100), draws=200, seed=trial)
        covered += low < 1.0 < high
    assert covered >= 50
    repeated = np.repeat(rng.normal(size=50), 4)
    alone, together = interval(repeated), interval(repeated, groups=np.repeat(np.arange(50), 4))
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])
    low, high = interval([1, 2, 3, 100], statistic=lambda v: float(np.median(v)))
    assert 1 <= low <= high <= 100


def blobs(n, seed, classes=3):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=g)
    centres = 3 * torch.eye(classes, 5)
    return centres[y] + torch.randn(n, 5, generator=g), y


def test_probes_find_what_is_there_and_nothing_more():
    (x, y), (x2, y2) = blobs(300, 0), blobs(300, 1)
    assert linear_probe(x, y, x2, y2) > 0.9
    assert knn(x, y, x2, y2, k=5) > 0.85
    noise = y[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    assert linear_probe(x, noise, x2, y2) < 0.6
    shots = few_shot(x, y, x2, y2, shots=(1, 8), repeats=4)
    assert [len(v) for v in shots.values()] == [4, 4]
    assert np.mean(shots[8]) > np.mean(shots[1])


def by_cosine(x, y, x_test, k):
    """Labels of the majority, by a loop over all cosines; the smallest label where two are as frequent."""
    found = []
    for row in x_test.tolist():
        cosine = [
            sum(a * b for a, b in zip(row, other, strict=True)) / math.hypot(*row) / math.hypot(*other)
            for other in x.tolist()
        ]
        nearest = sorted(range(len(x)), key=lambda i: -cosine[i])[:k]
        votes = [int(y[i]) for i in nearest]
        found.append(max(sorted(set(votes)), key=votes.count))
    return found


@pytest.mark.parametrize("k", [1, 4, 7])
def test_knn_is_the_majority_among_the_nearest_by_cosine(k):
    g = torch.Generator().manual_seed(0)
    x, x_test = (torch.randn(n, 3, generator=g) * (5 * torch.rand(n, 1, generator=g) + 0.1) for n in (60, 40))
    y, y_test = torch.randint(3, (60,), generator=g), torch.randint(3, (40,), generator=g)
    expected = np.mean(np.array(by_cosine(x, y, x_test, k)) == y_test.numpy())
    assert knn(x, y, x_test, y_test, k=k) == pytest.approx(expected)
    longer = torch.rand(60, 1, generator=g) * 9 + 0.5
    assert knn(x * longer, y, x_test, y_test, k=k) == pytest.approx(expected)  # lengths say nothing
    euclidean = torch.cdist(x_test, x).topk(k, largest=False).indices
    assert (y[euclidean].mode(dim=1).values == y_test).double().mean() != pytest.approx(expected)


def test_knn_looks_at_twenty_neighbours():
    g = torch.Generator().manual_seed(0)
    x, y, x_test, y_test = *blobs(60, 0), *blobs(200, 1)
    noisy = torch.where(torch.rand(60, generator=g) < 0.3, torch.randint(3, (60,), generator=g), y)
    assert knn(x, noisy, x_test, y_test) == knn(x, noisy, x_test, y_test, k=20) != knn(x, noisy, x_test, y_test, k=1)


def test_the_probe_is_logistic_regression_on_standardised_features():
    g = torch.Generator().manual_seed(0)
    y, y_test = torch.arange(60) % 2, torch.arange(400) % 2
    x, x_test = torch.randn(60, 40, generator=g), torch.randn(400, 40, generator=g)
    x[:, 0] += 2 * y
    x_test[:, 0] += 2 * y_test
    a, b = ((v - x.mean(dim=0)) / x.std(dim=0, unbiased=False) for v in (x, x_test))
    found = {}
    for strength in (0.001, 1.0, 100.0):
        theirs = (
            LogisticRegression(C=strength, max_iter=1000).fit(a.numpy(), y.numpy()).score(b.numpy(), y_test.numpy())
        )
        found[strength] = linear_probe(x, y, x_test, y_test, strength)
        assert found[strength] == pytest.approx(theirs, abs=0.005)
    assert len(set(found.values())) == 3 and linear_probe(x, y, x_test, y_test) == found[1.0]


def test_few_shot_draws_k_of_each_class_anew(monkeypatch):
    (x, y), (x2, y2) = blobs(60, 0), blobs(30, 1)
    drawn = []

    def spy(x, y, *_):
        drawn.append((x, y))
        return 0.5

    monkeypatch.setattr("minilip.evaluation.probes.linear_probe", spy)
    few_shot(x, y, x2, y2, shots=(1, 5), repeats=3)
    assert [y.bincount().tolist() for _, y in drawn] == [[1] * 3] * 3 + [[5] * 3] * 3
    assert len({x.sum().item() for x, _ in drawn}) == 6
    for rows, labels in drawn:
        at = [(x == row).all(dim=1).nonzero().item() for row in rows]
        assert len(set(at)) == len(at) and torch.equal(y[at], labels)
    again = drawn[:]
    few_shot(x, y, x2, y2, shots=(1, 5), repeats=3)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(again, drawn[6:], strict=True))
    few_shot(x, y, x2, y2, shots=(1, 5), repeats=3, seed=1)
    assert not torch.equal(drawn[-1][0], again[-1][0])


def test_probe_ignores_the_scale_of_features():
    (x, y), (x2, y2) = blobs(200, 0), blobs(200, 1)
    scale = torch.tensor([1e3, 1e-3, 1.0, 10.0, 0.1])
    assert linear_probe(x, y, x2, y2) == linear_probe(x * scale, y, x2 * scale, y2)


def test_encode_batches():
    x, seen = torch.randn(10, 4), []

    def double(v):
        seen.append((len(v), torch.is_grad_enabled()))
        return v.double() * 2

    found = encode(double, x, batch=3)
    torch.testing.assert_close(found, x * 2)
    assert found.dtype == torch.float32 and seen == [(3, False)] * 3 + [(1, False)]


def test_only_what_is_learned_is_counted():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2, bias=False))
    assert parameters(module) == 3 * 2 + 2 + 2 + 2 + 4
    module[0].weight.requires_grad_(False)
    assert parameters(module) == 2 + 2 + 2 + 4


@pytest.mark.parametrize(
    "call",
    [
        lambda: ranks(torch.zeros(3), torch.zeros(3, dtype=torch.int64)),
        lambda: ranks(torch.full((2, 2), torch.nan), torch.tensor([0, 1])),
        lambda: ranks(torch.zeros(2, 2), torch.tensor([0, 2])),
        lambda: ranks(torch.zeros(2, 2), torch.tensor([0.0, 1.0])),
        lambda: ranks(torch.zeros(2, 2), torch.tensor([[True, False], [False, False]])),
        lambda: linear_probe(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), torch.zeros(4, 2), torch.arange(4)),
        lambda: linear_probe(torch.zeros(4, 2), torch.arange(3), torch.zeros(4, 2), torch.arange(4)),
        lambda: linear_probe(torch.zeros(4, 2), torch.arange(4), torch.zeros(4, 3), torch.arange(4)),
        lambda: linear_probe(torch.zeros(4, 2), torch.rand(4), torch.zeros(4, 2), torch.arange(4)),
        lambda: few_shot(*blobs(30, 0), *blobs(30, 1), shots=(31,)),
        lambda: knn(*blobs(30, 0), *blobs(30, 1), k=31),
        lambda: interval([1.0]),
        lambda: interval([1.0, float("nan")]),
        lambda: interval([1.0, 2.0], groups=[0]),
        lambda: encode(lambda v: v, torch.zeros(0, 2)),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match="expected .* got"):
        call()


def by_all_orders(confidence, right):
    """Risks by a loop, averaged over every order of the items in which no confidence rises."""
    risks = []
    for order in itertools.permutations(range(len(right))):
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order)):
            risks.append([sum(not right[i] for i in order[:n]) / n for n in range(1, len(right) + 1)])
    return np.mean(risks, axis=0)


@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=6))
def test_risk_at_every_coverage_against_all_orders_of_ties(items):
    confidence, right = (list(v) for v in zip(*items, strict=True))
    coverage, risk = risk_coverage(torch.tensor(confidence) / 3, torch.tensor(right))
    np.testing.assert_allclose(risk, by_all_orders(confidence, right), atol=1e-12)
    np.testing.assert_allclose(coverage, [(n + 1) / len(items) for n in range(len(items))])
    assert aurc(torch.tensor(confidence) / 3, torch.tensor(right)) == pytest.approx(np.mean(risk.numpy()))
    other = torch.tensor(list(range(len(items)))[::-1])
    again = risk_coverage(torch.tensor(confidence)[other] / 3, torch.tensor(right)[other])[1]
    torch.testing.assert_close(again, risk)


@pytest.mark.parametrize("wrong", [0, 1, 30, 100])
def test_the_area_of_rankings_known_by_hand(wrong):
    n, e = 100, wrong / 100
    right = torch.arange(n) >= wrong
    best = sum((k - (n - wrong)) / k for k in range(n - wrong + 1, n + 1)) / n
    worst = sum(min(k, wrong) / k for k in range(1, n + 1)) / n
    assert aurc(torch.arange(n), right) == pytest.approx(best)
    assert aurc(-torch.arange(n), right) == pytest.approx(worst)
    assert aurc(torch.ones(n), right) == pytest.approx(e)
    g = torch.Generator().manual_seed(0)
    drawn = [aurc(torch.rand(n, generator=g), right) for _ in range(300)]
    assert np.mean(drawn) == pytest.approx(e, abs=0.02)
    assert risk_coverage(torch.rand(n, generator=g), right)[1][-1] == pytest.approx(e)


def test_the_best_area_nears_its_limit():
    n, e = 100_000, 0.4
    assert aurc(torch.arange(n), torch.arange(n) >= e * n) == pytest.approx(e + (1 - e) * math.log(1 - e), abs=1e-5)


def test_confidence_counts_by_its_order_alone():
    g = torch.Generator().manual_seed(0)
    confidence, right = torch.randn(50, generator=g).double(), torch.rand(50, generator=g) < 0.6
    assert aurc(confidence.exp(), right) == aurc(confidence, right) != pytest.approx(aurc(-confidence, right))


@pytest.mark.parametrize(
    "confidence, right, name",
    [
        (torch.zeros(3), torch.zeros(2, dtype=torch.bool), "right"),
        (torch.zeros(3), torch.zeros(3), "right"),
        (torch.zeros(3, 1), torch.zeros(3, 1, dtype=torch.bool), "confidence"),
        (torch.zeros(0), torch.zeros(0, dtype=torch.bool), "confidence"),
        (torch.tensor([1.0, torch.nan]), torch.zeros(2, dtype=torch.bool), "confidence"),
    ],
)
def test_answers_that_cannot_be_ordered_are_refused(confidence, right, name):
    for measure in (risk_coverage, aurc):
        with pytest.raises(ValueError, match=f"^{name}: expected .* got"):
            measure(confidence, right)
