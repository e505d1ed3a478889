"""A learner's process, seen from the judge: cells to run, and functions to call without having them."""

import builtins
import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

import minilip
from minilip.course.grade import sandbox, wire

START = 120.0  # seconds that a process may take to import everything


class Gone(BaseException):
    """The learner's process was given up. Not an Exception: whoever judges must not take it for the attempt's."""


class Process:
    """One learner's process in a temporary folder. Leaving the context ends it and all that it has started.

    Args:
        memory: GB that its cells may use.
    """

    def __init__(self, memory: float = sandbox.MEMORY):
        self.memory = memory

    def __enter__(self) -> "Process":
        self.folder = tempfile.TemporaryDirectory(prefix="minilip-grade-", ignore_cleanup_errors=True)
        own = {name: value for name, value in os.environ.items() if name != "MINILIP_STRICT"}
        paths = [
            str(Path(minilip.__file__).parents[1]),
            *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        ]
        settings = {
            "MINILIP_HOME": self.folder.name,
            "MINILIP_BUDGET": "quick",
            "MINILIP_THREADS": "1",  # several notebooks are graded at a time
            "OMP_NUM_THREADS": "1",
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self.folder.name),
            "IPYTHONDIR": self.folder.name,
            "MPLBACKEND": "agg",
            "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in paths if p),
            "PYTHONUTF8": "1",
        }
        group: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minilip.course.grade.learner", str(self.memory)],
            cwd=self.folder.name,
            env={**own, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **group,
        )
        self.outgoing, self.incoming = cast(BinaryIO, self.process.stdin), cast(BinaryIO, self.process.stdout)
        self.answers: queue.Queue = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.left = self.limit = START
        try:
            self.held = list(self.answer()["held"])  # what confines it
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process = self.process
        if sys.platform == "win32":
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True)
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        for stream in (self.outgoing, self.incoming):
            with contextlib.suppress(OSError):
                stream.close()
        self.folder.cleanup()

    def _listen(self) -> None:
        try:
            while True:
                self.answers.put(wire.receive(self.incoming))
        except Exception as error:
            self.answers.put(error)

    def allow(self, seconds: float) -> float:
        """Set the time that answers may take from now on; what was left before."""
        before, self.left, self.limit = self.left, seconds, seconds
        return before

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        with contextlib.suppress(OSError):  # it may be gone: then the answer says so
            wire.send(self.outgoing, message)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """What the process says next.

        Raises:
            Gone: it took too long, ended, or said what is no message.
        """
        start = time.monotonic()
        try:
            found = self.answers.get(timeout=max(self.left, 0))
        except queue.Empty:
            raise Gone(f"took longer than {self.limit:g} s") from None
        self.left -= time.monotonic() - start
        if isinstance(found, EOFError):
            raise Gone(f"ended the process ({self._ending()})")
        if isinstance(found, Exception):
            raise Gone("sent what cannot be read")
        return found

    def _ending(self) -> str:
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "without a word"
        return f"exit {code}" if code >= 0 else signal.Signals(-code).name


class Remote:
    """A learner's function. Called, it is called over there; what comes back are its numbers and, later, gradients."""

    def __init__(self, process: Process):
        self.process = process
        self.calls = 0
        self.library = False  # whether it left its work to the library's function
        self.line = ""  # where it raised last

    def __call__(self, *args: Any) -> Any:
        live: list[Tensor] = []
        call = wire.pack(list(args), live)
        before = [wire.pack(x) for x in args]
        answer = self.ask({"call": call, "live": [wire.pack(x) for x in live]}, "value")
        number, self.calls = self.calls, self.calls + 1
        self.library = self.library or answer["library"]
        for i, (mine, now) in enumerate(zip(args, answer["after"]["list"], strict=True)):
            if now != before[i] or i in answer["changed"]:
                _become(mine, wire.unpack(now))
        returned = [wire.unpack(x) for x in answer["live"]]
        if returned and live:
            returned = list(_Bridge.apply(self, number, returned, *live))
        return wire.unpack(answer["value"], returned)

    def gradients(self, call: int, grads: tuple[Tensor, ...]) -> list[Tensor | None]:
        answer = self.ask({"backward": call, "gradients": [wire.pack(g) for g in grads]}, "gradients")
        return [g if g is None else wire.unpack(g) for g in answer["gradients"]]

    def ask(self, message: dict[str, Any], expected: str) -> dict[str, Any]:
        answer = self.process.ask(message)
        if "raised" in answer:
            self.line = str(answer["raised"]["line"])
            raise raised(answer["raised"])
        if expected not in answer:
            raise Gone("sent what cannot be read")
        return answer


class _Bridge(torch.autograd.Function):
    """The learner's function in the judge's graph: forward has run over there, backward is asked for."""

    @staticmethod
    def forward(ctx: Any, remote: Remote, call: int, returned: list[Tensor], *live: Tensor) -> tuple[Tensor, ...]:
        ctx.remote, ctx.call = remote, call
        return tuple(returned)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *ctx.remote.gradients(ctx.call, grads)


def raised(facts: dict[str, str]) -> Exception:
    """An exception of the learner's, of its class where Python or torch has that."""
    name, text = str(facts["type"]), str(facts["text"])
    kind = getattr(builtins, name, None) or getattr(torch.linalg, name, None)
    if kind is KeyError:
        text = text.strip("'\"")
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = type(name, (Exception,), {})
    make: Callable[..., Exception] = kind
    try:
        return make(text) if text else make()
    except Exception:  # a class that takes more than a text
        return type(name, (Exception,), {})(text)


def _become(mine: Any, theirs: Any) -> None:
    """Repeat on an argument what was done to its copy over there."""
    if isinstance(mine, Tensor) and isinstance(theirs, Tensor):
        if mine.shape == theirs.shape:
            with torch.no_grad():
                mine.copy_(theirs)
        else:
            mine.data = theirs.to(mine.dtype)
    elif isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray) and mine.shape == theirs.shape:
        mine[...] = theirs
    elif isinstance(mine, list):
        mine[:] = theirs
    elif isinstance(mine, dict):
        mine.clear()
        mine.update(theirs)
