"""What many tests start from: seeded vectors and Gaussians, gradients, and a comparison relative to size."""

import torch
import torch.nn.functional as F


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def vectors(batch, dim, seed=0, length=1.0, dtype=torch.double):
    """Rows of one length in random directions; the same directions in every dtype."""
    return (length * F.normalize(torch.randn(batch, dim, generator=seeded(seed), dtype=torch.double), dim=1)).to(dtype)


def gaussians(batch, dim, seed=0, unit=False):
    """Means and log-variances in float64."""
    mu, logvar = torch.randn(2, batch, dim, generator=seeded(seed), dtype=torch.double)
    return (F.normalize(mu, dim=1) if unit else mu), logvar - 1


def value_and_gradients(loss, *tensors):
    tensors = [x.clone().requires_grad_() for x in tensors]
    value = loss(*tensors)
    return [value.detach(), *torch.autograd.grad(value, tensors)]


def assert_near(got, want, relative=1e-5, absolute=0.0):
    """Relative to the largest entry of each tensor."""
    for x, y in zip(got, want, strict=True):
        assert x.shape == y.shape
        apart, size = (x.double() - y.double()).abs().max().item(), y.double().abs().max().item()
        assert apart <= relative * size + absolute, (apart, size)
