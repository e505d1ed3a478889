"""The process that a learner's notebook runs in (`python -m minilip.course.grade.learner`, started by the judge).

It runs the cells it is sent. In it `check` is no judge: it hands the attempt in, answers the judge's calls of it, and
goes on with the verdict that comes back.
"""

import inspect
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, BinaryIO, cast

import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import Tensor

import minilip.course
from minilip.course import checks, exercises
from minilip.course.grade import sandbox, wire


def end_with(parent: int) -> None:
    """End this process when the one that grades is gone, whatever a cell is busy with."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class Learner:
    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO):
        self.incoming, self.outgoing = incoming, outgoing
        self.shell = shell = cast(Any, InteractiveShell.instance())  # some of its parts are replaced
        if shell.history_manager is not None:
            shell.history_manager.enabled = False
        for command in ("pip", "conda", "mamba", "micromamba", "uv"):  # grading changes nobody's environment
            shell.register_magic_function(lambda line: None, "line", command)
        shell.system = lambda line: None
        shell.getoutput = lambda line, **_: []
        shell.enable_gui = lambda gui=None: None  # for %matplotlib: there is no window to open
        self.cell, self.judging = "", False
        shell.compile.get_code_name = lambda *_: f"<{self.cell}>"
        minilip.course.check = exercises.check = self.check

    def serve(self, held: list[str]) -> None:
        """Run cells until there are no more, in a process that is confined by what is `held`."""
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
        wire.send(self.outgoing, {"ready": True, "held": held})
        while message := self.message():
            self.cell = message["cell"]
            result = self.shell.run_cell(message["run"])
            error = result.error_before_exec or result.error_in_exec
            wire.send(self.outgoing, {"done": error and described(error)})

    def message(self) -> dict[str, Any]:
        try:
            return wire.receive(self.incoming)
        except EOFError:
            os._exit(0)

    def check(self, name: str, attempt: Any) -> checks.Report:
        """Hand an attempt in. No frame of this process knows what is right: the judge is another one."""
        if self.judging:
            raise RuntimeError("check was called inside a function that is being checked")
        ours = exercises.handed_out(checks.find(name)[1], attempt)
        hands = {"check": name, "library": ours, "callable": callable(attempt), "value": packed(attempt)}
        wire.send(self.outgoing, hands)
        calls: list[tuple[list[Tensor], list[Tensor]]] = []
        self.judging = True
        while "verdict" not in (message := self.message()):
            wire.send(self.outgoing, self.call(name, attempt, message, calls))
        self.judging = False
        status, mistake, text = message["verdict"]
        goes_on = attempt if ours or status == "PASS" else library_version(name)
        return checks.Report(status, mistake, goes_on, text)

    def call(self, name: str, attempt: Callable, message: dict, calls: list) -> dict[str, Any]:
        """What an attempt returns for the arguments in the message, or the gradients of what it returned before."""
        try:
            if "backward" in message:
                (given, returned), grads = calls[message["backward"]], [wire.unpack(g) for g in message["gradients"]]
                found = torch.autograd.grad(returned, given, grads, allow_unused=True, retain_graph=True)
                return {"gradients": [g if g is None else wire.pack(g) for g in found]}
            given = [wire.unpack(x).requires_grad_() for x in message["live"]]
            with torch.random.fork_rng(devices=[]), torch.enable_grad(), library_calls(name) as seen:
                torch.default_generator.manual_seed(0)
                args = wire.unpack(message["call"], [x.clone() for x in given])  # no leaves, which refuse a change
                output = attempt(*args)
            live: list[Tensor] = []
            value = packed(output, live)
            calls.append((given, live))
            changed = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x._version]
            return {
                "value": value,
                "live": [wire.pack(x) for x in live],
                "after": packed(args),
                "changed": changed,
                "library": bool(seen),
            }
        except BaseException as error:  # a learner's function may raise SystemExit too
            return {"raised": described(error)}


def packed(value: Any, live: list[Tensor] | None = None) -> Any:
    try:
        return wire.pack(value, live)
    except Exception:  # a list that holds itself, a class that cannot be looked at
        return {"thing": "object"}


def library_version(name: str) -> Any:
    found = checks.find(name)[1]
    return exercises.hand_out(found.answer) if isinstance(found, checks.Prediction) else found.library


@contextmanager
def library_calls(name: str) -> Iterator[list[bool]]:
    """Notice a function that leaves its work to the one it should be, or to a copy of it made from its source or code.

    An entry each time that is entered.
    """
    found = checks.find(name)[1]
    ours = [] if isinstance(found, checks.Prediction) else [found.library, found.reference]
    codes = [code for f in ours if isinstance(code := getattr(inspect.unwrap(f), "__code__", None), CodeType)]
    known = {id(code) for code in codes}
    # Two lines may be alike by chance.
    long = [code for code in codes if code.co_nlocals - code.co_argcount >= 2 and len(code.co_names) >= 4]
    seen: list[bool] = []

    def notice(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (id(frame.f_code) in known or any(copied(frame.f_code, code) for code in long)):
            seen.append(True)

    sys.setprofile(notice)
    try:
        yield seen
    finally:
        sys.setprofile(None)


def copied(code: CodeType, of: CodeType) -> bool:
    """Whether two functions share what a copy shares: all names in one order, local variables too, and all numbers.

    Not the instructions: the same lines compiled elsewhere have others.
    """

    def facts(code: CodeType) -> tuple[Any, ...]:
        numbers = [c for c in code.co_consts if not isinstance(c, CodeType | str)]
        return code.co_varnames, code.co_names, [c for c in numbers if c is not None]

    return code.co_varnames == of.co_varnames and facts(code) == facts(of)


def described(error: BaseException) -> dict[str, str]:
    """The error's class, its text, and the line of the learner's that it came from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith("<cell ")]
    if isinstance(error, SyntaxError) and error.filename and error.filename.startswith("<cell "):
        line = f"{error.filename[1:-1]}, line {error.lineno}"
    else:
        line = f"{frames[-1].filename[1:-1]}, line {frames[-1].lineno}: {frames[-1].line}" if frames else ""
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:
        text = "(an error that cannot be printed)"
    if isinstance(error, NotImplementedError) and "NotImplementedError" in line:
        text = ""  # a stub, whatever it says
    return {"type": type(error).__name__, "text": text[:2000], "line": line[:300]}


def main() -> None:
    # The channel is where standard input and output were; to the cells both are empty.
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nowhere, number)
    checks.catalogue()  # imports what the first check would else have to, in its time
    # Before the shell is made: what confines files holds for this thread and those that come after.
    held = sandbox.confine(Path.cwd(), float(sys.argv[1]))
    learner = Learner(incoming, outgoing)
    os.dup2(nowhere, 2)
    learner.serve(held)


if __name__ == "__main__":
    main()
