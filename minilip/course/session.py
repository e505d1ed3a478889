"""What a notebook begins with: seeds, threads, the device, and sizes that fit it."""

import random
from typing import Any, TypeVar

import numpy as np
import torch

from minilip import __version__
from minilip.course import plot, switches
from minilip.course.console import say

T = TypeVar("T")

claims: dict[str, Any] = {"lesson": "", "rows": {}}  # of the lesson that was set up last


def setup(lesson: str, seed: int = 0) -> torch.device:
    """Fix seeds and threads, set the figure style, print one line about this machine; the device to compute on.

    Args:
        lesson: the name of its folder, "07_clip".
        seed: of Python's, NumPy's and torch's random numbers.

    Raises:
        ValueError: one of the variables MINILIP_BUDGET, MINILIP_STRICT, MINILIP_THREADS has an unknown value.
    """
    budget_mode, threads, _ = switches.mode(), switches.threads(), switches.strict()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if threads:
        torch.set_num_threads(threads)
    plot.style()
    claims.update(lesson=lesson, rows={})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    count = f"{(n := torch.get_num_threads())} thread{'s' if n > 1 else ''}"
    say(f"minilip {__version__} · torch {torch.__version__} · {name} · {count} · budget {budget_mode}")
    return device


def quick() -> bool:
    """Whether this run only tests that everything works: then nothing is trained to the end and no claim judged."""
    return switches.mode() == "quick"


def budget(cpu: T, gpu: T | None = None, quick: T | None = None) -> T:
    """A size or a number of steps that fits the machine: `budget(cpu=300, gpu=3000)`.

    Args:
        cpu: for two CPU cores.
        gpu: for a GPU; the same as cpu where not given.
        quick: for a test run; where not given at most 2 for a whole number, the same as cpu for all else.

    MINILIP_BUDGET=quick, cpu or gpu chooses; without it the device does.
    """
    if quick is None:
        quick = min(cpu, 2) if isinstance(cpu, int) else cpu  # type: ignore[assignment]
    return {"cpu": cpu, "gpu": cpu if gpu is None else gpu, "quick": quick}[switches.mode()]  # type: ignore[return-value]
