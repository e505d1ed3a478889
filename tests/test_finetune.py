"""Fine-tuning: what it starts from, what it leaves alone, what it learns, what it refuses."""

import math

import pytest
import torch
from torch import nn

from minilip.training import finetune
from minilip.training.tuning import _Classifier
from tests.helpers import seeded


class Tower(nn.Module):
    """Two layers over points of a plane; a third weight that the labels do not need."""

    dim = 16

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, self.dim))

    def forward(self, x):
        return self.layers(x)


def quadrants(n, seed):
    """Points of the plane; the class is whether the signs agree, which no linear head on the points reads."""
    x = torch.randn(n, 2, generator=seeded(seed))
    return x, (x[:, 0] * x[:, 1] > 0).long()


def tower(seed=0):
    torch.manual_seed(seed)
    return Tower()


def tuned(encoder, steps=150, **more):
    (x, y), (x_test, y_test) = quadrants(256, 0), quadrants(256, 1)
    found = finetune(encoder, x, y, x_test, steps, progress=False, **{"lr": 1e-2, **more})
    return found, (found == y_test).float().mean().item()


def test_the_encoder_learns_what_no_linear_head_reads_from_its_input():
    found, accuracy = tuned(tower())
    assert found.shape == (256,) and found.dtype == torch.int64
    assert accuracy > 0.9
    assert tuned(tower(), steps=1)[1] < 0.7  # so that the line above can fail


def test_the_given_encoder_stays_as_it_is_also_a_frozen_one():
    encoder = tower().requires_grad_(False).eval()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    _, accuracy = tuned(encoder)
    assert accuracy > 0.9  # its copy has learned all the same
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())


def test_the_first_loss_is_log_k_and_its_gradient_moves_the_head_alone():
    model = _Classifier(tower(), 3)
    x, y = torch.randn(12, 2, generator=seeded()), torch.arange(12) % 3
    loss, _ = model.loss((x, y))
    assert loss.item() == pytest.approx(math.log(3))
    loss.backward()
    assert model.head.weight.grad.abs().max() > 0
    assert all(not p.grad.any() for p in model.encoder.parameters())


def test_a_seed_is_a_run_and_another_seed_another():
    first, again, other = (tuned(tower(), steps=8, batch=16, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_batch_is_drawn_without_replacement_and_augmented_in_training_only():
    seen = []

    def note(x, generator):
        seen.append(x)
        return x + 0.01 * torch.randn(x.shape, generator=generator)

    x, y = quadrants(24, 0)
    finetune(tower(), x, y, x[:5], 3, batch=16, augment=note, progress=False)
    assert [len(s) for s in seen] == [16, 16, 16]
    assert all(len(s.unique(dim=0)) == 16 for s in seen)
    finetune(tower(), x, y, x[:5], 1, batch=100, augment=note, progress=False)
    assert len(seen[-1]) == 24


def test_what_is_refused():
    x, y = quadrants(16, 0)
    encoder = tower()
    for bad, says in (
        ({"y": y.float()}, "y"),
        ({"y": y[:5]}, "y"),
        ({"y": torch.zeros_like(y)}, "at least two classes"),
        ({"y": y - 1}, "y"),
        ({"x_test": x[:0]}, "x_test"),
        ({"x_test": torch.zeros(3, 5)}, "x_test"),
        ({"x": x.tolist()}, "x"),
        ({"encoder": nn.Linear(2, 3)}, r"\.dim"),
        ({"batch": 0}, "batch"),
        ({"steps": 0}, "steps"),
    ):
        given = {"encoder": encoder, "x": x, "y": y, "x_test": x[:4], "steps": 2, **bad}
        with pytest.raises(ValueError, match=says):
            finetune(**given, progress=False)
    wrong = tower()
    wrong.dim = 7
    with pytest.raises(ValueError, match="features of shape"):
        finetune(wrong, x, y, x, 1, progress=False)
