"""Contrastive losses, forward and backward: open_clip's ClipLoss beside clip_loss, lightly's NTXentLoss beside nt_xent.

Letters: B batch, D embedding dimension.
"""

import contextlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from open_clip.loss import ClipLoss
from torch import Tensor

from minilip.clip import clip_loss
from minilip.simclr import nt_xent

from . import header, row, target

SCALE = 14.3  # 1 / 0.07, where CLIP starts
REPEATS = {256: 200, 1024: 40, 4096: 9, 16384: 2}
PAIRS = {256: 100, 1024: 20, 4096: 3}  # of views, and repeats
PEER, TILED, FAST = "open_clip", "tiled, 128", "fast, tile = B"
LIGHTLY, PLAIN = "lightly", "plain"
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def contenders(batch: int) -> dict[str, Loss]:
    return {
        PEER: ClipLoss(),
        "plain": clip_loss,
        TILED: lambda image, text, scale: clip_loss(image, text, scale, tile=128),
        FAST: lambda image, text, scale: clip_loss(image, text, scale, tile=batch),
    }


def of_views(batch: int) -> dict[str, Loss]:
    """NT-Xent of 2B views at temperature 1 / scale; lightly's has a fixed one, and normalises what is normalised."""
    theirs = NTXentLoss(1 / SCALE)
    return {
        LIGHTLY: lambda z1, z2, scale: theirs(z1, z2),
        PLAIN: lambda z1, z2, scale: nt_xent(z1, z2, 1 / SCALE),
        TILED: lambda z1, z2, scale: nt_xent(z1, z2, 1 / SCALE, tile=128),
        FAST: lambda z1, z2, scale: nt_xent(z1, z2, 1 / SCALE, tile=2 * batch),
    }


def inputs(batch: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(batch, dim, generator=generator), dim=1) for _ in range(2))  # (B, D)
    return image.requires_grad_(), text.requires_grad_(), torch.tensor(SCALE, requires_grad=True)


def step(loss: Loss, args: tuple[Tensor, Tensor, Tensor]) -> float:
    for x in args:
        x.grad = None
    value = loss(*args)
    value.backward()
    return value.item()


def times(
    batch: int, dim: int, repeats: int, contenders: Callable[[int], dict[str, Loss]] = contenders
) -> dict[str, list[float]]:
    """Milliseconds of each repeat; the contenders take turns, so that a busy moment of the machine hits all of them."""
    losses, args = contenders(batch), inputs(batch, dim)
    values = {name: step(loss, args) for name, loss in losses.items()}  # warms up, too
    if max(values.values()) - min(values.values()) > 1e-4:
        raise AssertionError(f"the losses do not agree: {values}")
    spent: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(repeats):
        for name, loss in losses.items():
            start = time.perf_counter()
            step(loss, args)
            spent[name].append(1e3 * (time.perf_counter() - start))
    return spent


def peak(name: str, batch: int, dim: int) -> float:
    """MiB that one forward and backward adds to the memory of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.losses", name, str(batch), str(dim)]
    root = Path(__file__).parents[1]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root).stdout)


def _peak_here(name: str, batch: int, dim: int) -> float:
    step(contenders(64)[name], inputs(64, dim))  # libraries load and thread pools start before the baseline
    loss, args = contenders(batch)[name], inputs(batch, dim)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading the libraries
    before, _ = _resident()
    loss(*args).backward()
    return _resident()[1] - before


def _resident() -> tuple[float, float]:
    """MiB of memory that this process has now, and had at most; the latter twice where the former is not known."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource  # macOS, in bytes

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return most, most
    now, most = (int(re.findall(rf"{field}:\s+(\d+) kB", status)[0]) / 1024 for field in ("VmRSS", "VmHWM"))
    return now, most


def compared(spent: dict[str, list[float]], peer: str) -> tuple[list[str], float]:
    """A cell for each way: median, minimum, and their ratios to the peer's; and the worse ratio of the fast path."""
    middle, least = ({name: f(t) for name, t in spent.items()} for f in (statistics.median, min))
    ratios = {name: (middle[name] / middle[peer], least[name] / least[peer]) for name in spent}
    cells = [f"{middle[n]:.3g} / {least[n]:.3g} ms ({ratios[n][0]:.2f} / {ratios[n][1]:.2f})" for n in spent]
    return cells, max(ratios[FAST])


def report(quick: bool) -> str:
    batches = (256,) if quick else tuple(REPEATS)
    names = list(contenders(2))
    lines = header(["B", "D", *names])
    ratios: dict[int, float] = {}  # the worst of the fast path at each B
    for dim in (128, 512):
        for batch in batches:
            spent = times(batch, dim, 5 if quick else REPEATS[batch])
            cells, worst = compared(spent, PEER)
            ratios[batch] = max(ratios.get(batch, 0), worst)
            lines.append(row([f"{batch}", f"{dim}", *cells]))
            print(lines[-1], flush=True)
    lines += ["", "NT-Xent of B pairs of views, D = 128:", ""]
    names_of_views = list(of_views(2))
    lines += header(["B", *names_of_views])
    views: dict[int, float] = {}  # the worst of the fast path at each B
    for batch in batches[:1] if quick else PAIRS:
        spent = times(batch, 128, 5 if quick else PAIRS[batch], of_views)
        cells, views[batch] = compared(spent, LIGHTLY)
        lines.append(row([f"{batch}", *cells]))
        print(lines[-1], flush=True)
    lines += ["", "Peak extra memory in MiB, and in brackets its ratio to open_clip's:", ""]
    lines += header(["B", "D", *names])
    tiled: dict[int, float] = {}  # the memory ratio at the largest B, for each D
    for dim in (128, 512):
        for batch in batches:
            used = {name: peak(name, batch, dim) for name in names}
            tiled[dim] = used[TILED] / max(used[PEER], 1)
            cells = [f"{m:.1f} ({m / used[PEER]:.3f})" if used[PEER] >= 1 else "below 1" for m in used.values()]
            lines.append(row([f"{batch}", f"{dim}", *cells]))
            print(lines[-1], flush=True)
    if quick:
        return "\n".join(lines)
    huge = peak(TILED, 65536, 128)
    lines.append(row(["65536", "128", "", "", f"{huge:.1f}", ""]))
    print(lines[-1], flush=True)
    lines += ["", "Targets; a ratio of times is the largest of both D, of medians and minima:", ""]
    lines.append(target("time, fast to open_clip, B = 256", ratios[256], 0.70))
    lines.append(target("time, fast to open_clip, B = 4096 and 16384", max(ratios[4096], ratios[16384]), 0.40))
    lines.append(target("time, fast to lightly, NT-Xent of 1024 pairs", views[1024], 0.40))
    for dim, ratio in tiled.items():
        lines.append(target(f"memory, tiled to open_clip, B = 16384, D = {dim}", ratio, 0.03))
    lines.append(target("MiB, tiled, B = 65536, D = 128", huge, 512))
    return "\n".join(lines)


if __name__ == "__main__":
    print(_peak_here(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
