"""What an uncertainty is worth: answers given only where they are sure.

Letters: N answers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from minilip import _check


def risk_coverage(confidence: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    r"""How often we are wrong if we answer only where we are surest, for every share of answers.

    $$ c_n = \frac nN, \qquad r_n = \frac1n \sum_{i=1}^n [\text{the } i \text{-th most confident answer is wrong}] $$

    Answers of equal confidence could come in any order: r is the mean over those orders, in which each of them counts
    with the error rate of all of them. A confidence that is the same everywhere has the error rate as its risk.

    >>> coverage, risk = risk_coverage(torch.tensor([0.9, 0.2, 0.7, 0.4]), torch.tensor([True, False, True, True]))
    >>> coverage.tolist(), risk.tolist()
    ([0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.0, 0.25])

    Args:
        confidence: (N,), larger is surer.
        right: (N,) bool.

    Returns:
        coverage (N,) from 1/N to 1, and risk (N,) from 0 to 1, float64.

    Raises:
        ValueError: shapes differ, no items, a confidence that is not finite, answers that are not bool.

    Source: El-Yaniv and Wiener 2010, Geifman and El-Yaniv 2017 (arXiv 1705.08500); lesson 12b.
    """
    _check.tensor("confidence", confidence)
    _check.tensor("right", right)
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

    >>> right = torch.tensor([True, True, True, False])
    >>> orders = torch.tensor([[4, 3, 2, 1], [1, 2, 3, 4], [1, 1, 1, 1]])  # the error last, first, and no order
    >>> [round(aurc(order, right), 4) for order in orders]
    [0.0625, 0.5208, 0.25]

    Args, Raises: as `risk_coverage`.

    Returns:
        from 0 to 1

    Source: Geifman, Uziel and El-Yaniv 2019 (arXiv 1805.08206); lesson 12b.
    """
    return float(risk_coverage(confidence, right)[1].mean())
