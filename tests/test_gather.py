"""Two processes with half of the rows each compute the loss and the gradient of one process with all rows."""

import subprocess
import sys

import pytest
import torch

WORKER = """
import sys

import torch
import torch.distributed as dist
from torch import nn

from minilip.clip import CLIP, SigLIP
from minilip.nn import Tokenizer
from minilip.prolip import ProLIP

class Tower(nn.Module):
    dim = 6

    def __init__(self, inputs):
        super().__init__()
        self.f = nn.Linear(inputs, 6)

    def forward(self, x):
        return self.f(x.flatten(1).double()).sin()

rank, world, meeting, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
torch.manual_seed(0)
images, tokens = torch.randn(8, 12), torch.randint(9, (8, 4))
mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
found = {}
for method in (CLIP, SigLIP, ProLIP):
    more = {} if method is CLIP else {"batch": 8}
    model = method(Tower(12), Tower(4), Tokenizer(["a b"]), dim=5, **more).double()
    loss, metrics = model.loss((images[mine], tokens[mine]))
    loss.backward()
    numbers = [loss.detach(), *(p.grad for p in model.parameters())]
    for x in numbers if world > 1 else ():
        dist.all_reduce(x)  # as `fit` does: the mean over processes
        x /= world
    found[method.__name__] = {"numbers": numbers, "own": loss.detach(), "metrics": metrics}
torch.save(found, f"{out}-{rank}")
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """World size -> what each process found."""
    folder = tmp_path_factory.mktemp("gather")
    (folder / "worker.py").write_text(WORKER)
    found = {}
    for world in (1, 2):
        paths = [str(folder / "worker.py"), str(world), str(folder / f"meeting-{world}"), str(folder / f"out-{world}")]
        runs = [
            subprocess.Popen([sys.executable, paths[0], str(rank), *paths[1:]], stderr=subprocess.PIPE, text=True)
            for rank in range(world)
        ]
        for run in runs:
            _, error = run.communicate(timeout=120)
            assert run.returncode == 0, error
        found[world] = [torch.load(f"{paths[3]}-{rank}", weights_only=True) for rank in range(world)]
    return found


@pytest.mark.parametrize("method", ["CLIP", "SigLIP", "ProLIP"])
def test_two_processes_have_the_value_and_the_gradient_of_one(results, method):
    (one,), two = results[1], results[2]
    for x, y in zip(one[method]["numbers"], two[0][method]["numbers"], strict=True):
        assert x.dtype == torch.double
        assert (x - y).abs().max() <= 1e-12 * x.abs().max()
    assert all(grad.abs().max() > 0 for grad in one[method]["numbers"][1:])


@pytest.mark.parametrize("method", ["CLIP", "SigLIP"])  # of ProLIP's terms, inclusion compares nothing across the batch
def test_each_process_computes_the_whole_loss(results, method):
    for rank in (0, 1):
        torch.testing.assert_close(results[2][rank][method]["own"], results[1][0][method]["own"], rtol=1e-12, atol=0)
