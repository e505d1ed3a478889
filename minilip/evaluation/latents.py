"""How much of a known cause can be read from a representation.

Letters: N examples, D feature dimension, K numbers that describe a cause.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from minilip import _check

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # of the kernel's ridge


def latent_r2(
    x: Tensor,
    y: Tensor,
    x_test: Tensor,
    y_test: Tensor,
    kernel: bool = True,
) -> float:
    r"""The share of a cause's variance that a regression from features explains on examples that it has not seen.

    $$ R^2 = 1 - \frac{\sum_n \lVert y_n - \hat y(x_n) \rVert^2}{\sum_n \lVert y_n - \bar y \rVert^2} $$

    Features are standardised. The regression is linear with a small ridge, or, with `kernel`, a kernel ridge regression
    with k(a, b) = exp(-|a - b|^2 / (2 D)): the first asks whether the cause stands in the features as it is, the second
    whether it is in them in any smooth form. The kernel's penalty is chosen on a quarter of the training examples.

    Args:
        x, x_test: (N, D) features.
        y, y_test: (N, K) numbers that describe the cause: one-hot for a class, cosine and sine for an angle. The
            variances of the K columns are added up.
        kernel: smooth or linear.

    Returns:
        1 for a perfect reading, 0 for no better than always naming the mean, below 0 for worse.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, a cause that does not vary.

    Source: the measure of von Kügelgen et al. 2021 (arXiv 2106.04619); lesson 03.
    """
    for name, value, least in (("x", x, 8), ("x_test", x_test, 2), ("y", y, 8), ("y_test", y_test, 2)):
        _check.embeddings(name, value, least)
    if x.shape[1] != x_test.shape[1]:
        _check.fail("x_test", f"{x.shape[1]} features", x_test.shape[1])
    if len(x) != len(y) or y.shape[1] != y_test.shape[1] or len(x_test) != len(y_test):
        _check.fail(
            "y, y_test", "a row for each of x and x_test, alike in width", f"{tuple(y.shape)}, {tuple(y_test.shape)}"
        )
    scaler = StandardScaler().fit(_array(x))
    a, b, target = scaler.transform(_array(x)), scaler.transform(_array(x_test)), _array(y)
    if not kernel:
        return _explained(Ridge(1e-3 * len(a)).fit(a, target).predict(b), _array(y_test))
    chosen = len(a) * 3 // 4
    score = {
        p: _explained(_Smooth(p, a[:chosen], target[:chosen]).predict(a[chosen:]), target[chosen:]) for p in PENALTIES
    }
    return _explained(_Smooth(max(score, key=score.__getitem__), a, target).predict(b), _array(y_test))


def latents_r2(
    x: Tensor, y: Mapping[str, Tensor], x_test: Tensor, y_test: Mapping[str, Tensor], kernel: bool = True
) -> dict[str, float]:
    """`latent_r2` of each of several causes, {name: (N, K)} -> {name: R2}.

    A row of NaN means that the cause is not defined there (the angle of a circle): such examples are left out.

    Raises:
        ValueError: as `latent_r2`; or the two mappings name other causes.
    """
    _check.embeddings("x", x, 8)
    _check.embeddings("x_test", x_test, 2)
    if not isinstance(y, Mapping) or not isinstance(y_test, Mapping) or not y or set(y) != set(y_test):
        _check.fail("y, y_test", "mappings of the same names to tensors", f"{y!r:.40}, {y_test!r:.40}")
    found = {}
    for name in y:
        for each, features in ((y[name], x), (y_test[name], x_test)):
            _check.tensor(name, each, 2, floating=True)
            if len(each) != len(features):
                _check.fail(name, f"{len(features)} rows", len(each))
        here, there = (~each.isnan().any(dim=1) for each in (y[name], y_test[name]))  # (N,)
        found[name] = latent_r2(x[here], y[name][here], x_test[there], y_test[name][there], kernel)
    return found


class _Smooth:
    """Kernel ridge has no intercept: the mean is taken away before, and added after."""

    def __init__(self, penalty: float, x: np.ndarray, y: np.ndarray):
        self.mean = y.mean(axis=0)
        self.model = KernelRidge(alpha=penalty, kernel="rbf", gamma=1 / (2 * x.shape[1])).fit(x, y - self.mean)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.model.predict(x) + self.mean


def _explained(predicted: np.ndarray, y: np.ndarray) -> float:
    total = float(((y - y.mean(axis=0)) ** 2).sum())
    if total == 0:
        _check.fail("y", "a cause that varies", "one value")
    return 1 - float(((y - predicted.reshape(y.shape)) ** 2).sum()) / total


def _array(x: Tensor) -> np.ndarray:
    return x.detach().to(torch.float64).cpu().numpy()
