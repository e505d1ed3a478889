"""Run a learner's function without letting it touch what the notebook and the next check need."""

import builtins
import contextlib
import io
import random
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

ROOM = 2000  # characters that one attempt may print


class Stopped(Exception):
    """The attempt tried to end the program, or to ask somebody at the keyboard."""


class Printer(io.TextIOBase):
    """Lets the first characters through and drops the rest, so that a loop that prints cannot fill a notebook."""

    def __init__(self, room: int = ROOM) -> None:
        self.target, self.room = sys.stdout, room

    def write(self, text: str) -> int:
        if self.room > 0 and self.target is not None:
            self.target.write(text[: self.room])
            if len(text) >= self.room:
                self.target.write("\n... (what it prints beyond this is not shown)\n")
        self.room -= len(text)
        return len(text)


def _ask(prompt: object = "") -> str:
    raise Stopped("input() waits for somebody at the keyboard; all that your function needs is in its arguments.")


@contextlib.contextmanager
def guarded(printer: Printer) -> Iterator[None]:
    """Its own random numbers, its prints limited, and the global state put back whatever it does.

    Raises:
        Stopped: it called exit() or raised another exception that would end the program; KeyboardInterrupt passes.
    """
    before = _global_state()
    ask, builtins.input = builtins.input, _ask
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.enable_grad(),
            warnings.catch_warnings(),
            np.errstate(),
            contextlib.redirect_stdout(printer),
            contextlib.redirect_stderr(printer),
        ):
            warnings.simplefilter("ignore")
            torch.default_generator.manual_seed(0)
            yield
    except (SystemExit, GeneratorExit) as error:
        raise Stopped(f"Your function ended the program ({type(error).__name__}) instead of returning.") from error
    finally:
        builtins.input = ask
        for key, (value, restore) in before.items():
            if key in ("numpy", "python") or _global_state()[key][0] != value:
                restore(value)


def _global_state() -> dict[str, tuple[Any, Any]]:
    """{what: (its value, the function that puts it back)}."""
    return {
        "dtype": (torch.get_default_dtype(), torch.set_default_dtype),
        "device": (torch.get_default_device(), torch.set_default_device),
        "threads": (torch.get_num_threads(), torch.set_num_threads),
        "printing": (dict(vars(torch._tensor_str.PRINT_OPTS)), lambda options: torch.set_printoptions(**options)),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.use_deterministic_algorithms),
        "anomaly": (torch.is_anomaly_enabled(), torch.autograd.set_detect_anomaly),
        "numpy": (np.random.get_state(), np.random.set_state),
        "python": (random.getstate(), random.setstate),
    }
