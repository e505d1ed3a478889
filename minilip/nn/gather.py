"""What a loss that compares across the whole batch needs under torchrun."""

import torch
import torch.distributed as dist
from torch import Tensor

from minilip import _check


def gather(x: Tensor) -> Tensor:
    """Under torchrun, the rows of all processes, with gradients to each; otherwise x itself. (B, D) -> (W B, D)

    Raises:
        ValueError: on every process, if one has another number of rows than the others.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    from torch.distributed.nn.functional import all_gather  # missing where torch was built without distributed

    rows = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, torch.tensor([len(x)], device=x.device))
    counts = [int(n) for n in rows]
    if len(set(counts)) > 1:
        came = ", ".join(f"{n} on rank {rank}" for rank, n in enumerate(counts))
        _check.fail("batch", "as many rows on every rank", came)
    return torch.cat(all_gather(x))  # (W B, D)
