"""W processes that act as one."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn


@torch.no_grad()
def share(model: nn.Module) -> None:
    """All processes start from the first one's parameters and buffers."""
    for x in [*model.parameters(), *model.buffers()]:
        whole = x.detach().contiguous()
        dist.broadcast(whole, src=0)
        x.copy_(whole)


def average_gradients(model: nn.Module, world: int) -> None:
    """A parameter that got no gradient in one process counts as zero there, if any process has one."""
    trained = [p for p in model.parameters() if p.requires_grad]
    users = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32, device=trained[0].device)
    dist.all_reduce(users)
    for p, used in zip(trained, users.tolist(), strict=True):
        if used:
            total = torch.zeros_like(p) if p.grad is None else p.grad.contiguous()
            dist.all_reduce(total)
            p.grad = total / world
