"""Is one model better than another on the same examples, or would the toss of a coin look like this?

Letters: N examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from minilip import _check
from minilip.evaluation.statistics import interval


def permutation_test(
    a: Sequence[float] | np.ndarray | Tensor,
    b: Sequence[float] | np.ndarray | Tensor,
    draws: int = 10_000,
    seed: int = 0,
) -> float:
    r"""Two-sided p of a paired permutation test: how often chance alone moves two means as far apart as these.

    If the two models do not differ, each example's two results could as well be swapped. So swap them by the toss of a
    coin, `draws` times, and count how often the difference of the means is at least as large as the one found:

    $$ p = \frac{1 + \#\{|\bar d_{\text{swapped}}| \ge |\bar d|\}}{1 + \text{draws}}, \qquad d_n = a_n - b_n $$

    Args:
        a, b: (N,) results on the same examples in the same order, for instance 1 for right and 0 for wrong.
        draws: number of random swaps; p is never below 1 / (1 + draws).
        seed: of the swaps.

    Raises:
        ValueError: a and b differ in length, are empty or not finite.

    Source: Fisher 1935; the test of Chen et al. 2020, table 8 (p > 0.05 counts as "not worse"); lesson 03.
    """
    d = _differences(a, b)
    _check.count("draws", draws)
    rng = np.random.default_rng(_check.count("seed", seed, least=0))
    d = d[d != 0]  # what is equal stays equal when swapped
    found, as_far, left = abs(d.sum()), 0, draws
    while left > 0:
        some = min(left, max(1, 2_000_000 // max(1, len(d))))
        swapped = (2.0 * rng.integers(2, size=(some, len(d))) - 1) @ d  # (some,)
        as_far += int((np.abs(swapped) >= found - 1e-9).sum())
        left -= some
    return (1 + as_far) / (1 + draws)


def paired_interval(
    a: Sequence[float] | np.ndarray | Tensor,
    b: Sequence[float] | np.ndarray | Tensor,
    groups: Sequence[int] | np.ndarray | Tensor | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % bootstrap interval of mean(a - b) over the same examples; `groups` are drawn together, as in `interval`.

    Pairing removes what both models find hard: where they err on the same examples it is much narrower than the
    difference of two intervals.

    Raises:
        ValueError: as `permutation_test` and `interval`.
    """
    return interval(_differences(a, b), groups=groups, draws=draws, seed=seed)


def _differences(a: object, b: object) -> np.ndarray:
    rows = [np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x) for x in (a, b)]
    for name, x in zip("ab", rows, strict=True):
        if x.ndim != 1 or len(x) == 0 or x.dtype.kind not in "biuf" or not np.isfinite(x.astype(float)).all():
            _check.fail(name, "finite numbers in a row", f"{x.dtype} of shape {x.shape}")
    if len(rows[0]) != len(rows[1]):
        _check.fail("b", f"one result for each of {len(rows[0])} examples", len(rows[1]))
    return rows[0].astype(float) - rows[1].astype(float)
