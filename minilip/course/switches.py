"""The environment variables of the course, all read here. What a switch does not know is refused, not taken for off.

| variable | values | what it sets |
|---|---|---|
| MINILIP_BUDGET | quick, cpu, gpu; without it the device decides | sizes and numbers of steps |
| MINILIP_HOME | a folder | downloads, caches, progress (read by `minilip.data.home`) |
| MINILIP_MIRROR | a folder | archives are looked for there first (read by `minilip.data.archives`) |
| MINILIP_STRICT | 0, 1 | 1: a check that does not pass raises |
| MINILIP_THREADS | a whole number of at least 1; without it OMP_NUM_THREADS, else all cores | threads of torch |
"""

import difflib
import os
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from minilip import _check

T = TypeVar("T")
KNOWN = ("MINILIP_BUDGET", "MINILIP_HOME", "MINILIP_MIRROR", "MINILIP_STRICT", "MINILIP_THREADS")

_told: set[str] = set()  # unknown names, each reported once


def _read(name: str, parse: Callable[[str], T], default: T) -> T:
    """The value of a switch; unset and empty are the default. `parse` raises ValueError for what it does not know."""
    for near in os.environ.keys() - set(KNOWN) - _told:
        if near.upper().startswith("MINILIP_"):
            _told.add(near)
            meant = difflib.get_close_matches(near.upper(), KNOWN, n=1)
            hint = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(KNOWN)}."
            warnings.warn(f"{near} is no switch of minilip and does nothing; {hint}", stacklevel=4)
    text = os.environ.get(name)
    return parse(text) if text else default


def strict() -> bool:
    """MINILIP_STRICT: whether a check that does not pass raises."""

    def parse(text: str) -> bool:
        _check.choice("MINILIP_STRICT", text, ("0", "1"))
        return text == "1"

    return _read("MINILIP_STRICT", parse, False)


def mode() -> str:
    """MINILIP_BUDGET: "quick", "cpu" or "gpu"."""

    def parse(text: str) -> str:
        _check.choice("MINILIP_BUDGET", text, ("quick", "cpu", "gpu"))
        return text

    return _read("MINILIP_BUDGET", parse, "gpu" if torch.cuda.is_available() else "cpu")


def threads() -> int | None:
    """MINILIP_THREADS, else all cores; None where OMP_NUM_THREADS is set, which torch has already heard."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) >= 1):
            _check.fail("MINILIP_THREADS", "a whole number of at least 1", repr(text))
        return int(text)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _read("MINILIP_THREADS", parse, None if "OMP_NUM_THREADS" in os.environ else cores)
