"""How wide a cloud is, against numpy and scipy; what its effective rank does not notice."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from minilip.evaluation import covariance_spectrum, effective_rank
from minilip.vicreg import vicreg_terms


def cloud(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.double) @ torch.randn(
        d, d, generator=generator, dtype=torch.double
    )
    return x + 3


@pytest.mark.parametrize("n, d", [(2, 3), (9, 4), (5, 8), (40, 1)])
def test_the_spectrum_is_that_of_the_covariance(n, d):
    x = cloud(n, d)
    got = covariance_spectrum(x)
    want = np.linalg.eigvalsh(np.atleast_2d(np.cov(x.numpy().T)))[::-1]
    assert got.shape == (d,) and got.dtype == torch.double and bool((got[:-1] >= got[1:]).all())
    np.testing.assert_allclose(got.numpy(), want, atol=1e-10 * want.max())
    shares = got / got.sum()
    assert effective_rank(x) == pytest.approx(np.exp(entropy(shares.numpy())), rel=1e-12)


def test_k_equal_directions_count_as_k():
    signs = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    for k in (1, 2, 3):
        assert effective_rank(signs[:, :k]) == pytest.approx(k)
        assert effective_rank(torch.cat([signs[:, :k], torch.zeros(4, 5)], dim=1)) == pytest.approx(k)
    assert effective_rank(signs[:, [0, 0, 0]]) == pytest.approx(1)
    assert effective_rank(torch.full((4, 3), 2.0)) == 0.0


def test_what_it_does_not_notice():
    x = cloud(12, 5)
    turn = torch.linalg.qr(cloud(5, 5, seed=1))[0]
    for same in (1e-3 * x, x - 7, x @ turn, x[torch.randperm(12)]):
        assert effective_rank(same) == pytest.approx(effective_rank(x), rel=1e-6)
    assert effective_rank(x * torch.tensor([30.0, 1, 1, 1, 1])) < effective_rank(x)


def test_the_covariance_term_is_the_variance_of_the_spectrum_where_variances_are_equal():
    x = cloud(20, 6)
    x = 1.3 * (x - x.mean(0)) / x.std(0)
    want = (covariance_spectrum(x) - 1.3**2).square().mean()
    torch.testing.assert_close(vicreg_terms(x, x)[2] / 2, want)


@pytest.mark.parametrize("function", [covariance_spectrum, effective_rank])
@pytest.mark.parametrize(
    "wrong", [torch.ones(1, 3), torch.ones(3), torch.ones(3, 3).long(), torch.full((3, 2), np.nan)]
)
def test_bad_input_is_refused(function, wrong):
    with pytest.raises(ValueError, match="x: expected"):
        function(wrong)
