"""In how many directions a cloud of points is wide.

Letters: N points, D dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from minilip import _check


def covariance_spectrum(x: Tensor) -> Tensor:
    r"""Variances of a cloud of points along its principal axes, the widest first.

    $$ \lambda_d = \frac{s_d^2}{N - 1}, \qquad s_1 \ge s_2 \ge \dots \text{ the singular values of } x - \bar x $$

    These are the eigenvalues of the covariance matrix, without forming it: small ones keep their digits.

    Args:
        x: (N, D), N >= 2, of any length.

    Returns:
        (D,) float64, >= 0, on the device of x; zeros beyond the min(N - 1, D) that can be anything else.

    Raises:
        ValueError: not (N, D) finite numbers, fewer than two points.

    Source: Jing et al. 2022 (arXiv 2110.09348), figure 2, who plot its logarithm; lesson 05.
    """
    _check.embeddings("x", x, 2)
    x = x.detach().double()
    s = torch.linalg.svdvals(x - x.mean(dim=0))  # (min(N, D),)
    return torch.cat([s.square() / (len(x) - 1), s.new_zeros(x.shape[1] - len(s))])  # (D,)


def effective_rank(x: Tensor) -> float:
    r"""In how many directions a cloud of points is wide: from 1, a line, to D, a ball.

    $$ \exp\Big(-\sum_d p_d \log p_d\Big), \qquad p_d = \lambda_d \Big/ \sum_e \lambda_e $$

    with the variances of `covariance_spectrum`. A cloud of K equal variances and no others has K. It is blind to the
    size of the cloud, so that a collapsed one, read beside its variance, is not taken for a healthy one.

    Args:
        x: (N, D), N >= 2.

    Returns:
        a number from 1 to D; 0 for points that are all the same.

    Raises:
        ValueError: as `covariance_spectrum`.

    Source: Roy and Vetterli 2007, with variances in place of singular values; lesson 05.
    """
    variances = covariance_spectrum(x)  # (D,)
    if not float(variances.sum()) > 0:
        return 0.0
    p = variances / variances.sum()  # (D,)
    return float(torch.special.entr(p).sum().exp())
