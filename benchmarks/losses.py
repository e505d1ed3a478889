"""InfoNCE in both directions, forward and backward: plain, tiled, one strip, and open_clip's ClipLoss."""

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import Tensor

from minilip.clip import clip_loss

SCALE = 14.3
TILE = 128
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def contenders(batch: int) -> dict[str, Loss]:
    peer = ClipLoss()
    return {
        "open_clip": lambda v, t, s: peer(v, t, s),
        "plain": clip_loss,
        f"tiled, {TILE}": lambda v, t, s: clip_loss(v, t, s, tile=TILE),
        "one strip": lambda v, t, s: clip_loss(v, t, s, tile=batch),
    }


def inputs(batch: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    v, t = (F.normalize(torch.randn(batch, dim, generator=generator), dim=1) for _ in range(2))
    return v.requires_grad_(), t.requires_grad_(), torch.tensor(SCALE, requires_grad=True)


def step(loss: Loss, args: tuple[Tensor, Tensor, Tensor]) -> float:
    for x in args:
        x.grad = None
    value = loss(*args)
    value.backward()
    return value.item()


def times(batch: int, dim: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each repeat; the contenders take turns, so that a busy moment hits all of them."""
    losses, args = contenders(batch), inputs(batch, dim)
    values = {name: step(loss, args) for name, loss in losses.items()}
    if max(values.values()) - min(values.values()) > 1e-4 * max(values.values()):
        raise AssertionError(f"the losses do not agree: {values}")
    spent: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(repeats):
        for name, loss in losses.items():
            start = time.perf_counter()
            step(loss, args)
            spent[name].append(1e3 * (time.perf_counter() - start))
    return spent


def peak(name: str, batch: int, dim: int) -> float:
    """MiB that one forward and backward adds to the peak of a fresh process (Linux)."""
    command = [sys.executable, "-m", "benchmarks.losses", name, str(batch), str(dim)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _peak_here(name: str, batch: int, dim: int) -> float:
    step(contenders(64)[name], inputs(64, dim))  # libraries load and thread pools start before the baseline
    loss, args = contenders(batch)[name], inputs(batch, dim)
    for x in args:
        x.grad = torch.zeros_like(x)  # the gradients are the caller's, not the loss's
    Path("/proc/self/clear_refs").write_text("5")  # sets the highest resident size back to the present one
    before = _status("VmRSS")
    loss(*args).backward()
    return _status("VmHWM") - before


def _status(field: str) -> float:
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]


def report(quick: bool) -> str:
    sizes = [(256, 128), (256, 512)] if quick else [(b, d) for d in (128, 512) for b in (256, 1024, 4096, 16384)]
    lines = ["| B | D | " + " | ".join(contenders(2)) + " |", "|" + " ---: |" * 6]
    for batch, dim in sizes:
        repeats = 3 if quick else {256: 200, 1024: 40, 4096: 9, 16384: 3}[batch]
        spent = {name: statistics.median(t) for name, t in times(batch, dim, repeats).items()}
        cells = [f"{t:.3g} ms ({t / spent['open_clip']:.2f})" for t in spent.values()]
        lines.append(f"| {batch} | {dim} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    lines += ["", "Peak extra memory in MiB, and its ratio to open_clip's:", ""]
    lines += ["| B | D | " + " | ".join(contenders(2)) + " |", "|" + " ---: |" * 6]
    for batch in (1024,) if quick else (1024, 4096, 16384):
        used = {name: peak(name, batch, 128) for name in contenders(2)}
        cells = [f"{m:.0f} ({m / used['open_clip']:.3f})" for m in used.values()]
        lines.append(f"| {batch} | 128 | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    if not quick:
        name = f"tiled, {TILE}"
        lines.append(f"| 65536 | 128 | | | {peak(name, 65536, 128):.0f} | |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


if __name__ == "__main__":
    print(_peak_here(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
