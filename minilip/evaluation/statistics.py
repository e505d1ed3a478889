"""How sure we are of a number.

Letters: N examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from minilip import _check


def interval(
    values: Sequence[float] | np.ndarray | Tensor,
    statistic: Callable[[np.ndarray], float] = lambda v: float(np.mean(v)),
    groups: Sequence[int] | np.ndarray | Tensor | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % bootstrap interval of a statistic, by percentiles (Efron 1979).

    >>> low, high = interval([1] * 80 + [0] * 20)  # 80 of 100 hits
    >>> 0.70 < low < 0.75 and 0.85 < high < 0.90
    True

    Args:
        values: (N,) one number for each example, for instance hits or ranks.
        statistic: of an array of values (default: the mean).
        groups: (N,) examples that stand or fall together (four drawings of one concept) are drawn together.
        draws: number of resamples.
        seed: of the resampling.
    """
    _check.count("draws", draws)
    _check.count("seed", seed, least=0)
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
