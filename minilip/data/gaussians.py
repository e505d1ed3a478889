"""Correlated Gaussian pairs: every density, every density ratio and the mutual information are known exactly.

Letters: N pairs, D dimensions, rho the correlation of x and c in each dimension.
"""

import math

import torch
from torch import Tensor

from minilip import _check


class Gaussians:
    r"""Pairs (x, c) of standard normal vectors with correlation rho in each dimension, independent across dimensions.

    $$ c \sim \mathcal N(0, I), \qquad x \mid c \sim \mathcal N(\rho c, (1 - \rho^2) I), \qquad
       I(x; c) = -\tfrac D2 \log(1 - \rho^2) $$

    >>> world = Gaussians(dim=2, mutual_information=1.0)
    >>> round(world.correlation, 3)
    0.795
    >>> x, c = world.sample(100_000, torch.Generator().manual_seed(0))
    >>> abs(float(world.log_ratio(x, c).mean()) - 1.0) < 0.02  # the mean log ratio is the mutual information
    True

    Args:
        dim: D >= 1.
        correlation: rho, in (-1, 1).
        mutual_information: I(x; c) >= 0 in nats, in place of the correlation, which is then at least 0.

    Attributes:
        dim, correlation, mutual_information: each known, whichever was given.

    Raises:
        ValueError: dim < 1, none or both of correlation and mutual_information, or one out of its range.

    Source: the set-up of Belghazi et al. 2018 (MINE, arXiv 1801.04062) and Poole et al. 2019 (arXiv 1905.06922);
    lesson 01.
    """

    def __init__(self, dim: int, correlation: float | None = None, mutual_information: float | None = None):
        _check.count("dim", dim)
        if correlation is not None and mutual_information is not None:
            _check.fail("Gaussians", "either correlation or mutual_information", "correlation and mutual_information")
        if correlation is not None:
            self.correlation = _check.number("correlation", correlation)
            if not -1 < self.correlation < 1:
                _check.fail("correlation", "a number between -1 and 1, the ends excluded", correlation)
            self.mutual_information = -dim / 2 * math.log1p(-(self.correlation**2))
        elif mutual_information is not None:
            self.mutual_information = _check.number("mutual_information", mutual_information)
            if self.mutual_information < 0:
                _check.fail("mutual_information", "a number of nats of at least 0", mutual_information)
            self.correlation = math.sqrt(-math.expm1(-2 * self.mutual_information / dim))
            if self.correlation == 1:
                _check.fail("mutual_information", f"fewer nats in {dim} dimensions", mutual_information)
        else:
            _check.fail("Gaussians", "either correlation or mutual_information", "neither")
        self.dim = dim

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """N pairs: x (N, D) and c (N, D), on the generator's device."""
        _check.count("n", n)
        _check.generator("generator", generator)
        c, noise = torch.randn(2, n, self.dim, generator=generator, device=generator.device)  # (N, D) each
        return self.correlation * c + math.sqrt(1 - self.correlation**2) * noise, c

    def log_ratio(self, x: Tensor, c: Tensor) -> Tensor:
        r"""log p(x | c) / p(x) of each pair: positive where c makes x more likely. x (N, D), c (N, D) -> (N,)

        $$ \frac{\rho\, x^\top c}{1 - \rho^2} - \frac{\rho^2 (\lVert x \rVert^2 + \lVert c \rVert^2)}{2 (1 - \rho^2)}
           + I(x; c) $$

        Its mean over pairs is the mutual information.
        """
        self._refuse(x, c)
        if x.shape != c.shape:
            _check.fail("c", f"the shape of x, {tuple(x.shape)}", tuple(c.shape))
        return self._ratio((x * c).sum(dim=1), x.square().sum(dim=1), c.square().sum(dim=1))  # (N,)

    def log_ratios(self, x: Tensor, c: Tensor) -> Tensor:
        """log p(x_j | c_i) / p(x_j) for all i and j: row i is context i, column j candidate j.

        x (M, D), c (N, D) -> (N, M)
        """
        self._refuse(x, c)
        return self._ratio(c @ x.T, x.square().sum(dim=1), c.square().sum(dim=1)[:, None])  # (N, M)

    def _ratio(self, product: Tensor, x_squared: Tensor, c_squared: Tensor) -> Tensor:
        rho, rest = self.correlation, 1 - self.correlation**2
        return (rho * product - rho**2 * (x_squared + c_squared) / 2) / rest + self.mutual_information

    def _refuse(self, x: Tensor, c: Tensor) -> None:
        for name, value in (("x", x), ("c", c)):
            _check.embeddings(name, value)
            if value.shape[1] != self.dim:
                _check.fail(name, f"shape (N, {self.dim})", tuple(value.shape))
