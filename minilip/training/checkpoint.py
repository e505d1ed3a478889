"""Checkpoints: all that a run needs to go on as if it had not stopped, in a file that is never unpickled.

Letters: W processes.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from minilip import _check
from minilip._files import replacing
from minilip.training.history import History, plain

PARTS = {"settings", "model", "trained", "optimizer", "ranks"}


@dataclass
class Run:
    """What changes in the course of a run, and the settings, which do not."""

    model: nn.Module
    optim: torch.optim.Optimizer
    generator: torch.Generator  # of the data
    settings: dict[str, Any]
    history: History
    rank: int = 0
    world: int = 1  # W


def save(path: Path, run: Run) -> None:
    """Replace the file by the run as it stands, or leave it as it is. All processes take part, the first one writes.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
        ValueError: what the model or `watch` wants to be kept could not be read back; the message names it.
    """
    mine: dict[str, Any] = {
        "generator": run.generator.get_state(),
        "random": _random_state(run.generator.device),
        "own": _own(run),
        "history": plain(vars(run.history), "history", strict=True),
    }
    ranks: list[Any] = [mine]
    if run.world > 1:
        ranks = [None] * run.world
        dist.all_gather_object(ranks, mine)
    if run.rank > 0:
        return
    model = run.model.state_dict()
    model.update(mine["own"])
    state = {
        "settings": run.settings,
        "model": model,
        "trained": _trained(run),
        "optimizer": run.optim.state_dict(),
        "ranks": ranks,
    }
    try:
        with replacing(path) as part:
            torch.save(state, part)
            torch.load(part, map_location="cpu", weights_only=True)  # only what can be read replaces what could
    except pickle.UnpicklingError:
        # Not torch's own words: they advise to unpickle it all the same.
        raise ValueError("checkpoint: expected an optimizer and a model of numbers and tensors, got more") from None
    except RuntimeError as error:  # how torch reports a disk that is full
        raise OSError(str(error).splitlines()[0]) from error


class Keeper:
    """Keeps a run where it can: what fails before the first step is an error, what fails later a warning."""

    def __init__(self, path: Path | None, run: Run):
        self.path, self.run = path, run
        self.kept: int | None = None  # steps in the file
        self.failure: Exception | None = None

    def keep(self, step: int) -> None:
        if self.path is None:
            return
        try:
            save(self.path, self.run)
        except (OSError, ValueError) as error:
            if self.kept is None and isinstance(error, OSError):
                where = f"checkpoint: expected a folder that can be written to, got {self.path.parent}"
                raise OSError(f"{where} ({error})") from error
            if self.kept is None:
                raise
            self.failure = error
            warnings.warn(f"step {step} could not be kept, training goes on: {error}", stacklevel=3)
        else:
            self.kept, self.failure = step, None

    def close(self) -> None:
        if self.failure is not None:
            text = f"{self.path} holds the run after {self.kept} steps, not its end: {self.failure}"
            warnings.warn(text, stacklevel=3)


def load(path: Path, run: Run) -> int:
    """Bring a run to where the file left it; the number of steps that it has made. A refused file changes nothing.

    Raises:
        ValueError: not a checkpoint, a damaged one, or one of other settings or another model.
        OSError: the file cannot be read.
    """
    state = _read(path, run.generator.device)
    saved = state["settings"]
    if saved != run.settings:
        names = dict.fromkeys([*run.settings, *saved])
        changed = [f"{k} {saved.get(k)} -> {run.settings.get(k)}" for k in names if saved.get(k) != run.settings.get(k)]
        _check.fail("checkpoint", f"the settings that {path} was made with", f"changes: {', '.join(changed)}")
    changed = _changes(state["model"], run.model.state_dict())
    if not changed and state["trained"] != _trained(run):
        changed = ["other parameters are trained, or in another order"]
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        _check.fail("checkpoint", f"the model that {path} was made with", f"changes: {', '.join(changed[:5])}{more}")
    mine = state["ranks"][run.rank]
    state["model"].update(mine["own"])
    try:
        run.optim.load_state_dict(state["optimizer"])
        run.model.load_state_dict(state["model"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"checkpoint: expected a state that the model accepts, got from {path}: {error}") from error
    run.generator.set_state(mine["generator"].cpu())
    torch.set_rng_state(mine["random"]["cpu"].cpu())
    if "cuda" in mine["random"]:
        torch.cuda.set_rng_state(mine["random"]["cuda"].cpu(), run.generator.device)
    vars(run.history).update(plain(mine["history"], "history"))
    return len(run.history.loss)


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    expected = "checkpoint: expected a file that fit() saved, got"
    with path.open("rb"):  # what cannot be opened is no damage
        pass
    try:
        if zipfile.is_zipfile(path) and (part := zipfile.ZipFile(path).testzip()):
            raise ValueError(f"{part} has other bytes than were written")  # torch does not look
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
            # Not torch's own words: they advise to unpickle it all the same.
            raise ValueError(f"{expected} {path}, which holds more than numbers; choose another name") from None
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{expected} {path}, which is none or damaged ({why}); delete it to start afresh") from error
    if not isinstance(state, dict) or not state.keys() >= PARTS:
        raise ValueError(f"{expected} {path}, which holds something else; choose another name")
    return state


def _changes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two models, in words."""

    def kind(x: Any) -> str:
        return f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}" if isinstance(x, Tensor) else "state"

    both = {name: (kind(saved[name]), kind(now[name])) for name in now if name in saved}
    return [
        *(f"{name} {before} -> {after}" for name, (before, after) in both.items() if before != after),
        *(f"{name} is new" for name in now if name not in saved),
        *(f"{name} is missing" for name in saved if name not in now),
    ]


def _trained(run: Run) -> list[str]:
    """Names in the order of the optimizer, which knows its parameters by their number."""
    names = {id(p): name for name, p in run.model.named_parameters()}
    return [names[id(p)] for group in run.optim.param_groups for p in group["params"]]


def _own(run: Run) -> dict[str, Any]:
    """What each process has for itself: buffers and what else the model keeps, but no parameters."""
    shared = {name for name, _ in run.model.named_parameters(remove_duplicate=False)}
    return {k: plain(v, f"model.{k}", strict=True) for k, v in run.model.state_dict().items() if k not in shared}


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state
