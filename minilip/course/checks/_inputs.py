"""Inputs that several exercises share."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def unit(generator: Generator, *shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


def far_rows(generator: Generator, batch: int = 4, dim: int = 8) -> tuple[Tensor, Tensor]:
    """Unit vectors, all of the second nearly alike; the first of the first lies opposite to them, the last beside them.

    Times 100, their products make a table with a row near -100 and one near 100: exp overflows, and a maximum of the
    whole table is no maximum of a row.
    """
    keys = F.normalize(unit(generator, 1, dim) + 0.02 * torch.randn(batch, dim, generator=generator), dim=1)
    return torch.cat([-keys[:1], unit(generator, batch - 2, dim), keys[-1:]]), keys


def far_table(generator: Generator, n: int = 4) -> Tensor:
    """A table of logits with a row near 100, a row near -100, and others near 0."""
    level = torch.tensor([100.0, -100.0] + [0.0] * (n - 2))
    return level[:, None] + torch.randn(n, n, generator=generator)
