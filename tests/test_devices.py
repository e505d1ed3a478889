"""The whole surface on a device that is not the CPU, by tensors that only say so (`tests/accelerator.py`)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import infonce
from tests.accelerator import DEVICE, Accelerator, Elsewhere, Generator
from tests.surface import cases

NAMES = list(cases())
# Constructors that take sizes alone make modules on the CPU; `.to` moves them.
LOSSES = [name for name in NAMES if name.endswith(("loss", ".loss")) and not name.startswith("Tokenizer")]


def generator() -> Generator:
    made = Generator()
    made.manual_seed(0)
    return made


def tensors(value: Any) -> list[Tensor]:
    """Those of a result, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, nn.Module):
        return []
    if isinstance(value, dict):
        return [t for x in value.values() for t in tensors(x)]
    if isinstance(value, (tuple, list)):
        return [t for x in value for t in tensors(x)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [t for field in dataclasses.fields(value) for t in tensors(getattr(value, field.name))]
    return []


@pytest.fixture(scope="module")
def table() -> Any:
    torch.manual_seed(0)
    here = cases()
    with Accelerator():
        torch.manual_seed(0)
        yield here, cases(DEVICE.type, generator)


@pytest.mark.parametrize("name", NAMES)
def test_it_computes_there_what_it_computes_here(name, table):
    here, there = table
    torch.manual_seed(0)
    want = tensors(here[name]())
    torch.manual_seed(0)
    got = tensors(there[name]())
    assert len(got) == len(want)
    for x, y in zip(got, want, strict=True):
        near = x.here if isinstance(x, Elsewhere) else x
        torch.testing.assert_close(near, y, rtol=1e-3, atol=1e-4, equal_nan=True)
    if name in LOSSES:
        assert all(isinstance(x, Elsewhere) for x in got), f"{name}: its result is on {got[0].device}"


@pytest.mark.parametrize("name", [n for n in LOSSES if n.endswith(".loss")])
def test_a_step_of_training(name, table):
    method = table[1][name].call
    model = method.__self__
    loss, metrics = method(table[1][name].given.get("batch", table[1][name].given.get("images")))
    model.zero_grad()
    loss.backward()
    reached = [p.grad for p in model.parameters() if p.grad is not None]
    assert reached and all(isinstance(grad, Elsewhere) for grad in reached)
    assert all(torch.isfinite(grad).all() for grad in reached) and metrics is not None


@pytest.mark.parametrize("name", [n for n in LOSSES if not n.endswith(".loss") and "." not in n])
def test_a_loss_hands_its_gradient_back(name, table):
    case = table[1][name]
    given = {k: v.detach().requires_grad_() if is_real(v) else v for k, v in case.given.items()}
    out = tensors(case.call(**given))[0]
    out.sum().backward()
    wanted = [x for x in given.values() if is_real(x)]
    assert any(x.grad is not None for x in wanted)
    assert all(isinstance(x.grad, Elsewhere) for x in wanted if x.grad is not None)


def is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


# ---- the catch -------------------------------------------------------------------------------------------------------


def without_a_device(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    logits = queries @ keys.T / temperature
    return F.cross_entropy(logits, torch.arange(len(logits)))


def test_an_arange_without_a_device_is_caught(table):
    given = table[1]["info_nce"].given
    assert isinstance(infonce.info_nce(**given), Elsewhere)
    with pytest.raises(RuntimeError, match="got one on cpu"):
        without_a_device(**given)


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x + torch.zeros(x.shape),
        lambda x: x * torch.tensor([1.0, 2.0, 3.0]),
        lambda x: torch.cat([x, torch.ones(1, 3)]),
        lambda x: x @ torch.eye(3),
        lambda x: torch.where(torch.ones(2, 3) > 0, x, x),
        lambda x: x.scatter_(1, torch.zeros(2, 1, dtype=torch.int64), 1.0),
    ],
)
def test_other_mixtures_are_caught(fault):
    with Accelerator(), pytest.raises(RuntimeError, match="got one on cpu"):
        fault(torch.randn(2, 3, device=DEVICE))


def test_what_a_gpu_allows_is_allowed():
    with Accelerator():
        x = torch.randn(2, 3, device=DEVICE)
        assert isinstance(x[torch.tensor([1, 0])], Elsewhere)  # an index of the CPU
        assert isinstance(x * torch.tensor(2.0), Elsewhere)  # one number of the CPU
        assert not isinstance(x.cpu(), Elsewhere) and isinstance(x.cpu().to(DEVICE), Elsewhere)
