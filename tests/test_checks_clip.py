"""Exercises of lesson 07: each mistake is named, and right answers written differently pass."""

import math

import pytest
import torch
import torch.nn.functional as F

from minilip.course.checks import assert_exercise
from minilip.course.checks.clip import EXERCISES


def by_log_softmax(v, t, s):
    logits = s * v @ t.T
    return -(logits.log_softmax(0).diagonal() + logits.log_softmax(1).diagonal()).mean() / 2


def by_einsum(v, t, s):
    logits = s * torch.einsum("id,jd->ij", v, t)
    return (logits.logsumexp(1) + logits.logsumexp(0) - 2 * logits.diagonal()).mean() / 2


def in_double(v, t, s):
    return by_log_softmax(v.double(), t.double(), s)


def in_bfloat16(v, t, s):
    return by_log_softmax(v, t, s).bfloat16()


def gradient_by_autograd(logits):
    x = logits.detach().requires_grad_()
    return torch.autograd.grad(by_log_softmax(x, torch.eye(len(x)).to(x), 1.0), x)[0]


def gradient_in_numpy(logits):
    x = logits.double().numpy()
    import numpy as np

    p, q = np.exp(x), np.exp(x)
    p, q = p / p.sum(1, keepdims=True), q / q.sum(0, keepdims=True)
    return (p + q - 2 * np.eye(len(x))) / (2 * len(x))


def floor_by_comb(batch, captions):
    n = batch - 1
    return sum(math.comb(n, k) * (captions - 1) ** (n - k) / captions**n * math.log(1 + k) for k in range(n + 1))


def recall_by_sorting(similarity, k):
    # A tie against the query: lower its own score by less than any gap.
    x = similarity.double() - 1e-9 * torch.eye(len(similarity))
    return (x.topk(k, dim=1).indices == torch.arange(len(x))[:, None]).any(1).double().mean()


def siglip_by_bce(v, t, s, b):
    logits = s * v @ t.T + b
    return F.binary_cross_entropy_with_logits(logits, torch.eye(len(v)), reduction="sum") / len(v)


CORRECT = {
    "clip_loss": [by_log_softmax, by_einsum, in_double, in_bfloat16],
    "logit_gradient": [gradient_by_autograd, gradient_in_numpy],
    "first_step": ["down", " Down"],
    "loss_floor": [floor_by_comb],
    "class_vectors": [
        lambda p: F.normalize((p / p.norm(dim=2, keepdim=True)).sum(1), dim=1),
        lambda p: F.normalize(torch.einsum("ckd,ck->cd", p.double(), 1 / p.double().norm(dim=2)), dim=1),
    ],
    "recall_at": [recall_by_sorting, lambda x, k: float(recall_by_sorting(x, k))],
    "siglip_loss": [siglip_by_bce, lambda v, t, s, b: siglip_by_bce(v, t, s, b).double()],
}


@pytest.mark.parametrize("name", EXERCISES)
def test_exercise(name):
    assert_exercise(EXERCISES[name], CORRECT[name])
