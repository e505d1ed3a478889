"""The training loop: the schedule, exact resume after a kill, and two processes that act as one."""

import math
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from minilip.training import cosine_warmup, fit, optimizer


class Line(nn.Module):
    """Least squares with dropout, so that the model's own randomness is part of what a resume must restore."""

    def __init__(self, explode_at=None):
        super().__init__()
        self.layer, self.drop = nn.Linear(3, 1), nn.Dropout(0.2)
        self.calls, self.explode_at = 0, explode_at

    def loss(self, batch):
        x, y = batch
        self.calls += 1
        error = (self.layer(self.drop(x)) - y).square().mean()
        if self.calls == self.explode_at:
            error = error * float("inf")
        return error, {"error": float(error.detach())}


def batches(generator):
    x = torch.randn(16, 3, generator=generator)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5]])


def line():
    torch.manual_seed(1)
    return Line()


def test_it_learns_and_reports():
    model = line()
    x, y = batches(torch.Generator().manual_seed(9))
    before = (model.layer(x) - y).square().mean()
    history = fit(model, batches, 200, lr=0.05, watch=lambda m: (m.training, torch.is_grad_enabled()), progress=False)
    assert (model.layer(x) - y).square().mean() < 0.1 * before
    assert history.metrics["error"] == history.loss and len(history.seconds) == 200
    assert history.seconds == sorted(history.seconds)
    assert [step for step, *_ in history.watched] == [50, 100, 150, 200]
    assert all(value == (False, False) for *_, value in history.watched)
    assert not model.training


def test_same_seed_same_run_other_seed_other_run():
    runs = [fit(line(), batches, 20, seed=seed, progress=False).loss for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_cosine_equals_pytorch_after_warmup():
    optim = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    oracle = CosineAnnealingLR(optim, T_max=90)
    for step in range(10, 100):
        assert cosine_warmup(step, 100, 10) == pytest.approx(optim.param_groups[0]["lr"], abs=1e-6)
        optim.step()
        oracle.step()
    assert [cosine_warmup(s, 100, 10) for s in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    assert cosine_warmup(99, 100, 0) > 0


def test_only_matrices_decay():
    decayed, kept = optimizer(line(), 1e-3, 0.1).param_groups
    assert [p.shape for p in decayed["params"]] == [(1, 3)] and decayed["weight_decay"] == 0.1
    assert [p.shape for p in kept["params"]] == [(1,)] and kept["weight_decay"] == 0


def test_gradient_is_clipped():
    seen = []

    class Steep(Line):
        def loss(self, batch):
            loss, metrics = super().loss(batch)
            return 1e6 * loss, metrics

    model = Steep()
    original = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        seen.append(math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters())))
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", spy)
        fit(model, batches, 3, clip=0.5, progress=False)
    assert seen == pytest.approx([0.5] * 3, rel=1e-3)


def test_resume_equals_an_uninterrupted_run(tmp_path):
    whole = line()
    expected = fit(whole, batches, 60, every=10, progress=False)

    class Killed(Exception):
        pass

    def batches_until_killed(generator):
        batches_until_killed.count += 1
        if batches_until_killed.count == 37:
            raise Killed
        return batches(generator)

    batches_until_killed.count = 0
    first, path = line(), tmp_path / "run.pt"
    with pytest.raises(Killed):
        fit(first, batches_until_killed, 60, every=10, checkpoint=path, progress=False)
    torch.manual_seed(999)  # whatever happened in between
    resumed = Line()
    history = fit(resumed, batches, 60, every=10, checkpoint=path, progress=False)
    assert history.loss == expected.loss
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]
    again = fit(Line(), batches, 60, every=10, checkpoint=path, progress=False)
    assert again.loss == expected.loss  # a finished run is read, not run


def test_resume_after_sigkill(tmp_path):
    script = textwrap.dedent(
        f"""
        import sys, time
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_train import batches, line
        from minilip.training import fit
        def slow(generator):
            time.sleep(0.01)
            return batches(generator)
        fit(line(), slow, 400, every=5, checkpoint={str(tmp_path / "run.pt")!r}, progress=False)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    while not (tmp_path / "run.pt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    history = fit(Line(), batches, 400, every=5, checkpoint=tmp_path / "run.pt", progress=False)
    assert history.loss == fit(line(), batches, 400, every=5, progress=False).loss


def test_a_checkpoint_of_another_run_or_a_broken_one_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    fit(line(), batches, 10, checkpoint=path, progress=False)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"lr 0.002 -> 0.1"):
        fit(line(), batches, 10, lr=0.1, checkpoint=path, progress=False)
    assert path.read_bytes() == before
    path.write_bytes(before[:100])
    with pytest.raises(ValueError, match="a file that fit"):
        fit(line(), batches, 10, checkpoint=path, progress=False)


def test_a_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(FloatingPointError, match="at step 4"):
        fit(Line(explode_at=5), batches, 10, progress=False)


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"lr": 0.0}, {"lr": math.nan}, {"clip": -1.0}, {"every": 0}, {"warmup": -1}]
)
def test_bad_arguments_are_refused(bad):
    with pytest.raises(ValueError, match="expected .* got"):
        fit(line(), batches, **{"steps": 5, "progress": False, **bad})


def test_nothing_to_train_is_refused():
    model = line()
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(ValueError, match="trainable"):
        fit(model, batches, 5, progress=False)


WORKER = """
import sys, torch, torch.distributed as dist
from torch import nn
from minilip.clip import CLIP
from minilip.nn.tokenizer import Tokenizer
from minilip.training import fit

class Tower(nn.Module):
    dim = 6
    def __init__(self, inputs):
        super().__init__()
        self.f = nn.Linear(inputs, 6)
    def forward(self, x):
        return self.f(x.flatten(1).double())

world = int(sys.argv[1])
if world > 1:
    dist.init_process_group("gloo")
rank = dist.get_rank() if world > 1 else 0
torch.manual_seed(0)
model = CLIP(Tower(12), Tower(4), Tokenizer(["a b"]), dim=5).double()
every_row = torch.randn(8, 12), torch.randint(9, (8, 4))
part = slice(rank * 8 // world, (rank + 1) * 8 // world)
steps = []
def batch(generator):
    return every_row[0][part], every_row[1][part]
def watch(model):
    return [p.grad.flatten().tolist() for p in model.parameters()]
history = fit(model, batch, 3, lr=1e-2, every=1, watch=watch, clip=1e9, progress=False)
if rank == 0:
    torch.save({"grads": [v for *_, v in history.watched], "loss": history.loss}, sys.argv[2])
"""


def test_two_processes_give_the_gradient_of_one(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    out = {}
    for world in (1, 2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launch = (
            ["-m", "torch.distributed.run", f"--nproc_per_node={world}", f"--master_port={port}"] if world > 1 else []
        )
        file = tmp_path / f"{world}.pt"
        command = [sys.executable, *launch, str(tmp_path / "worker.py"), str(world), str(file)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run(command, check=True, env=env, timeout=120, capture_output=True)
        out[world] = torch.load(file, weights_only=True)
    assert out[1]["loss"] == pytest.approx(out[2]["loss"], rel=1e-6)
    for one, two in zip(out[1]["grads"], out[2]["grads"], strict=True):
        for a, b in zip(one, two, strict=True):
            torch.testing.assert_close(torch.tensor(b), torch.tensor(a), rtol=1e-5, atol=1e-7)
