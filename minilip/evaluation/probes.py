"""What a linear readout, few labels or the nearest neighbours find in frozen features.

Letters: N examples, D feature dimension.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from minilip import _check


def linear_probe(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, strength: float = 1.0) -> float:
    """Test accuracy of logistic regression on frozen, standardised features: what a linear readout finds in them.

    Args:
        x, x_test: (N, D) features; y, y_test: (N,) class indices.
        strength: inverse of the L2 penalty (scikit-learn's C).

    Returns:
        accuracy in [0, 1]
    """
    _probe_inputs(x, y, x_test, y_test)
    named = linear_predictions(x, y, x_test, strength)
    return float((named == y_test.cpu()).double().mean())


def linear_predictions(x: Tensor, y: Tensor, x_test: Tensor, strength: float = 1.0) -> Tensor:
    """What the logistic regression of `linear_probe` takes each test example for: for tests of two models in pairs.

    Args:
        x, x_test: (N, D) features; y: (N,) class indices.
        strength: inverse of the L2 penalty (scikit-learn's C).

    Returns:
        (N',) int64
    """
    _check.embeddings("x_test", x_test)
    _probe_inputs(x, y, x_test, torch.zeros(len(x_test), dtype=torch.int64))
    _check.positive("strength", strength)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    a, b = _features(x, x_test)
    with warnings.catch_warnings():
        # With one example a class scikit-learn suspects a regression.
        warnings.filterwarnings("ignore", message="The number of unique classes")
        return torch.from_numpy(probe.fit(a, y.cpu().numpy()).predict(b))


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
    _check.count("repeats", repeats)
    seed = _check.count("seed", seed, least=0)
    if not isinstance(shots, Sequence) or not shots:
        _check.fail("shots", "one or more whole numbers", repr(shots))
    fewest = int(y.unique(return_counts=True)[1].min())
    generator = torch.Generator().manual_seed(seed)
    out: dict[int, list[float]] = {}
    for k in shots:
        _check.count("shots", k)
        if k > fewest:
            _check.fail("shots", f"1 to {fewest} (the rarest class)", k)
        for _ in range(repeats):
            order = torch.randperm(len(y), generator=generator)
            chosen = torch.cat([order[y.cpu()[order] == c][:k] for c in y.cpu().unique()])
            out.setdefault(k, []).append(linear_probe(x[chosen], y[chosen], x_test, y_test))
    return out


def knn(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, k: int = 20) -> float:
    """Test accuracy of the majority among the k nearest training features by cosine."""
    _probe_inputs(x, y, x_test, y_test)
    _check.count("k", k)
    if k > len(x):
        _check.fail("k", f"1 to {len(x)} neighbours", k)
    a, b = _features(x, x_test)
    model = KNeighborsClassifier(k, metric="cosine").fit(a, y.cpu().numpy())
    return float(model.score(b, y_test.cpu().numpy()))


def _features(*arrays: Tensor) -> Iterator[np.ndarray]:
    for x in arrays:
        yield x.detach().float().cpu().numpy()


def _probe_inputs(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> None:
    _check.embeddings("x", x, 2)
    _check.embeddings("x_test", x_test)
    if x.shape[1] != x_test.shape[1]:
        _check.fail("x_test", f"{x.shape[1]} features", x_test.shape[1])
    for name, labels, features in (("y", y, x), ("y_test", y_test, x_test)):
        whole = isinstance(labels, Tensor) and not (labels.is_floating_point() or labels.is_complex())
        if not whole or labels.shape != (len(features),):
            _check.fail(name, f"({len(features)},) whole numbers", _check.described(labels))
    if len(y.unique()) < 2:
        _check.fail("y", "at least two classes", "one")
