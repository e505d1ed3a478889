"""Exercises of lesson 01: each mistake is named, and right answers written differently pass."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minilip.course.checks import assert_exercise
from minilip.course.checks.infonce import EXERCISES


def by_log_softmax(q, k, t):
    return -(q @ k.T / t).log_softmax(dim=1).diagonal().mean()


def by_einsum(q, k, t):
    logits = torch.einsum("id,jd->ij", q, k) / t
    return (torch.logsumexp(logits, 1) - torch.einsum("id,id->i", q, k) / t).mean()


def with_shifted_rows(q, k, t):
    logits = q @ k.T / t
    logits = logits - logits.max(dim=1, keepdim=True).values
    return (logits.exp().sum(1).log() - logits.diagonal()).mean()


def negatives_by_cross_entropy(q, p, n, t):
    logits = torch.cat([(q * p).sum(1, keepdim=True), torch.bmm(n, q[:, :, None])[:, :, 0]], dim=1) / t
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def negatives_as_a_race(q, p, n, t):
    return F.softplus(((n @ q[:, :, None])[:, :, 0] / t).logsumexp(1) - (q * p).sum(1) / t).mean()


def bound_by_means(scores):
    return (scores.diagonal() - scores.logsumexp(1) + math.log(len(scores))).mean()


def gradient_by_autograd(similarity, t):
    x = similarity.detach().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(x / t, torch.arange(len(x))), x)[0]


def gradient_in_numpy(similarity, t):
    x = np.exp(similarity.double().numpy() / t)
    return (x / x.sum(1, keepdims=True) - np.eye(len(x))) / (len(x) * t)


CORRECT = {
    "info_nce": [
        by_log_softmax,
        by_einsum,
        with_shifted_rows,
        lambda q, k, t: by_einsum(q.double(), k.double(), t),
        lambda q, k, t: by_log_softmax(q, k, t).bfloat16(),
    ],
    "negatives": [
        negatives_by_cross_entropy,
        negatives_as_a_race,
        lambda q, p, n, t: negatives_by_cross_entropy(q.double(), p.double(), n.double(), t),
    ],
    "posterior": [
        lambda a, b: (a - b - (a - b).logsumexp(0)).exp(),
        lambda a, b: F.softmax(a.double() - b.double(), dim=0),
        lambda a, b: torch.stack([1 / ((a - b) - (a[i] - b[i])).exp().sum() for i in range(len(a))]),
    ],
    "bound": [
        bound_by_means,
        lambda s: bound_by_means(s.double()),
        lambda s: math.log(len(s)) + s.log_softmax(1).diag().mean(),
    ],
    "candidates": [149, 149.0],
    "gradient": [gradient_by_autograd, gradient_in_numpy],
    "effective_negatives": [
        lambda n, t: torch.distributions.Categorical(logits=n / t).entropy().exp(),
        lambda n, t: torch.special.entr(torch.softmax(n.double() / t, 0)).sum().exp(),
        lambda n, t: float(torch.special.entr(torch.softmax(n / t, 0)).sum().exp()),
    ],
}


@pytest.mark.parametrize("name", EXERCISES)
def test_exercise(name):
    assert_exercise(EXERCISES[name], CORRECT[name])
