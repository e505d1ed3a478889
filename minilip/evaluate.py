"""What a representation is worth: retrieval, zero-shot, linear probe, few-shot, neighbours, and how sure we are.

Letters: Q queries, G gallery items, N examples, D feature dimension, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from . import _check


@torch.no_grad()
def encode(function: Callable[[Tensor], Tensor], inputs: Tensor, batch: int = 512) -> Tensor:
    """Apply an encoder to many inputs, `batch` at a time, without gradients. (N, ...) -> (N, D) float32"""
    _check.count("batch", batch)
    if len(inputs) == 0:
        _check.fail("inputs", "at least one", "none")
    return torch.cat([function(part).float() for part in inputs.split(batch)])  # (N, D)


def ranks(similarity: Tensor, match: Tensor) -> Tensor:
    """Rank of each query's best match, 1 is first; a tie with a wrong item counts against the query.

    Counting ties against means that a model which scores everything alike ranks last and not first.

    Args:
        similarity: (Q, G), larger is nearer.
        match: (Q,) index of the one right item, or (Q, G) bool where several are right.

    Returns:
        (Q,) int64

    Raises:
        ValueError: shapes disagree, a score is not finite, or a query has no right item.
    """
    if similarity.dim() != 2 or similarity.numel() == 0:
        _check.fail("similarity", "shape (Q, G)", tuple(similarity.shape))
    _check.finite("similarity", similarity)
    q, g = similarity.shape
    if match.shape == (q,) and not match.is_floating_point() and match.dtype != torch.bool:
        if int(match.min()) < 0 or int(match.max()) >= g:
            _check.fail("match", f"indices from 0 to {g - 1}", f"{int(match.min())} to {int(match.max())}")
        right = torch.zeros_like(similarity, dtype=torch.bool).scatter_(1, match[:, None], True)  # (Q, G)
    elif match.shape == (q, g) and match.dtype == torch.bool:
        right = match
    else:
        _check.fail("match", f"({q},) indices or ({q}, {g}) bool", f"{match.dtype} {tuple(match.shape)}")
    if not bool(right.any(dim=1).all()):
        _check.fail("match", "a right item for every query", f"{int((~right.any(dim=1)).sum())} queries without one")
    best = similarity.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)  # (Q, 1)
    return 1 + ((similarity >= best) & ~right).sum(dim=1)  # (Q,)


def retrieval(similarity: Tensor, match: Tensor, at: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Recall at k (share of queries with a right item among the first k) and median rank.

    Returns:
        {"R@1": ..., "R@5": ..., "R@10": ..., "median rank": ...}
    """
    rank = ranks(similarity, match).double()
    found = {f"R@{k}": float((rank <= k).double().mean()) for k in at}
    return {**found, "median rank": float(np.median(rank.cpu()))}


def accuracy(similarity: Tensor, labels: Tensor) -> float:
    """Share of queries whose most similar class is the right one; a tie counts as wrong. (N, C), (N,) -> [0, 1]"""
    return retrieval(similarity, labels, at=(1,))["R@1"]


def interval(
    values: Sequence[float] | np.ndarray | Tensor,
    statistic: Callable[[np.ndarray], float] = lambda v: float(np.mean(v)),
    groups: Sequence[int] | np.ndarray | Tensor | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % bootstrap interval of a statistic, by percentiles (Efron 1979).

    Args:
        values: (N,) one number for each example, for instance hits or ranks.
        statistic: of an array of values (default: the mean).
        groups: (N,) examples that stand or fall together (four drawings of one concept) are drawn together.
        draws: number of resamples.
        seed: of the resampling.
    """
    v = np.asarray(values, dtype=float)
    if v.ndim != 1 or len(v) < 2 or not np.isfinite(v).all():
        _check.fail("values", "at least two finite numbers in a row", f"shape {v.shape}")
    rng = np.random.default_rng(seed)
    _, member = np.unique(np.arange(len(v)) if groups is None else np.asarray(groups), return_inverse=True)
    if len(member) != len(v):
        _check.fail("groups", f"one for each of {len(v)} values", len(member))
    members = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    n = len(members)
    if groups is None:
        samples = (v[rng.integers(n, size=n)] for _ in range(draws))
    else:
        samples = (v[np.concatenate([members[i] for i in rng.integers(n, size=n)])] for _ in range(draws))
    low, high = np.percentile([statistic(s) for s in samples], [2.5, 97.5])
    return float(low), float(high)


def _features(*arrays: Tensor) -> Iterator[np.ndarray]:
    for x in arrays:
        yield x.detach().float().cpu().numpy()


def _probe_inputs(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> None:
    _check.embeddings("x", x, 2)
    _check.embeddings("x_test", x_test)
    if x.shape[1] != x_test.shape[1]:
        _check.fail("x_test", f"{x.shape[1]} features", x_test.shape[1])
    for name, labels, features in (("y", y, x), ("y_test", y_test, x_test)):
        if labels.shape != (len(features),) or labels.is_floating_point():
            _check.fail(name, f"({len(features)},) whole numbers", f"{labels.dtype} {tuple(labels.shape)}")
    if len(y.unique()) < 2:
        _check.fail("y", "at least two classes", "one")


def linear_probe(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, strength: float = 1.0) -> float:
    """Test accuracy of logistic regression on frozen, standardised features: what a linear readout finds in them.

    Args:
        x, x_test: (N, D) features; y, y_test: (N,) class indices.
        strength: inverse of the L2 penalty (scikit-learn's C).

    Returns:
        accuracy in [0, 1]
    """
    _probe_inputs(x, y, x_test, y_test)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    a, b = _features(x, x_test)
    with warnings.catch_warnings():
        # With one example a class scikit-learn suspects a regression.
        warnings.filterwarnings("ignore", message="The number of unique classes")
        return float(probe.fit(a, y.cpu().numpy()).score(b, y_test.cpu().numpy()))


def few_shot(
    x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, shots: Sequence[int], repeats: int = 3, seed: int = 0
) -> dict[int, list[float]]:
    """Linear-probe accuracy with k labelled examples of each class, for each k in `shots`, `repeats` random draws.

    Returns:
        {k: [accuracy of each draw]}

    Raises:
        ValueError: a class has fewer than k examples.
    """
    _probe_inputs(x, y, x_test, y_test)
    fewest = int(y.unique(return_counts=True)[1].min())
    generator = torch.Generator().manual_seed(seed)
    out: dict[int, list[float]] = {}
    for k in shots:
        if k < 1 or k > fewest:
            _check.fail("shots", f"1 to {fewest} (the rarest class)", k)
        for _ in range(repeats):
            order = torch.randperm(len(y), generator=generator)
            chosen = torch.cat([order[y.cpu()[order] == c][:k] for c in y.cpu().unique()])
            out.setdefault(k, []).append(linear_probe(x[chosen], y[chosen], x_test, y_test))
    return out


def knn(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, k: int = 20) -> float:
    """Test accuracy of the majority among the k nearest training features by cosine."""
    _probe_inputs(x, y, x_test, y_test)
    if not 1 <= k <= len(x):
        _check.fail("k", f"1 to {len(x)} neighbours", k)
    a, b = _features(x, x_test)
    model = KNeighborsClassifier(k, metric="cosine").fit(a, y.cpu().numpy())
    return float(model.score(b, y_test.cpu().numpy()))


def parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def risk_coverage(confidence: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    r"""How often we are wrong if we answer only where we are surest, for every share of answers.

    $$ c_n = \frac nN, \qquad r_n = \frac1n \sum_{i=1}^n [\text{the } i \text{-th most confident answer is wrong}] $$

    Answers of equal confidence could come in any order: r is the mean over those orders, in which each of them counts
    with the error rate of all of them. A confidence that is the same everywhere has the error rate as its risk.

    Args:
        confidence: (N,), larger is surer.
        right: (N,) bool.

    Returns:
        coverage (N,) from 1/N to 1, and risk (N,) from 0 to 1, float64.

    Raises:
        ValueError: shapes differ, no items, a confidence that is not finite, answers that are not bool.

    Source: El-Yaniv and Wiener 2010, Geifman and El-Yaniv 2017 (arXiv 1705.08500); lesson 12.
    """
    if confidence.dim() != 1 or len(confidence) == 0:
        _check.fail("confidence", "shape (N,)", tuple(confidence.shape))
    if right.shape != confidence.shape or right.dtype != torch.bool:
        _check.fail("right", f"({len(confidence)},) bool", f"{right.dtype} {tuple(right.shape)}")
    _check.finite("confidence", confidence)
    group, size = (-confidence.double().cpu()).unique(return_inverse=True, return_counts=True)[1:]  # (N,), (groups,)
    wrong = torch.zeros(len(size)).double().index_add(0, group, (~right.cpu()).double())  # (groups,)
    n = torch.arange(1, len(group) + 1).double()  # (N,)
    return n / len(n), (wrong / size).repeat_interleave(size).cumsum(dim=0) / n  # (N,), (N,)


def aurc(confidence: Tensor, right: Tensor) -> float:
    r"""Area under the risk-coverage curve: the risk, averaged over all coverages; small is good.

    $$ \mathrm{AURC} = \frac1N \sum_{n=1}^N r_n $$

    With error rate e, a confidence that knows nothing gives e, and one that puts every error last about
    e + (1 - e) log(1 - e): no ranking makes it 0 where there are errors.

    Args, Raises: as `risk_coverage`.

    Returns:
        from 0 to 1

    Source: Geifman, Uziel and El-Yaniv 2019 (arXiv 1805.08206); lesson 12.
    """
    return float(risk_coverage(confidence, right)[1].mean())
