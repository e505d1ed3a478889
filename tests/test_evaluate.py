"""Measures against other implementations and against answers known by hand."""

import itertools
import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from minilip.evaluation import (
    accuracy,
    aurc,
    encode,
    few_shot,
    interval,
    knn,
    linear_probe,
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


def test_probe_ignores_the_scale_of_features():
    (x, y), (x2, y2) = blobs(200, 0), blobs(200, 1)
    scale = torch.tensor([1e3, 1e-3, 1.0, 10.0, 0.1])
    assert linear_probe(x, y, x2, y2) == linear_probe(x * scale, y, x2 * scale, y2)


def test_encode_batches():
    x = torch.randn(10, 4)
    torch.testing.assert_close(encode(lambda v: v.double() * 2, x, batch=3), x * 2)


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
