"""The one training loop. A method is an nn.Module with `loss(batch) -> (scalar, {name: float})`; `fit` knows no more.

Letters: S steps, W processes.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm.auto import tqdm

from minilip import _check


@dataclass
class History:
    """What happened at each step, and what `watch` measured."""

    loss: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)  # training time at the end of each step, `watch` not counted
    watched: list[tuple[int, float, Any]] = field(default_factory=list)  # (step, training seconds, measurement)


def cosine_warmup(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor at 0 <= step < steps: (step + 1) / warmup, then (1 + cos(pi u)) / 2 with u from 0 to 1.

    Source: Loshchilov & Hutter 2017 (SGDR), without restarts.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices only: gains, biases, temperatures and position-free vectors keep their size."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        _check.fail("model", "at least one trainable parameter", "none")
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=(0.9, 0.98))


def fit(
    model: nn.Module,
    batches: Callable[[torch.Generator], Any],
    steps: int,
    lr: float = 2e-3,
    weight_decay: float = 0.1,
    warmup: int | None = None,
    clip: float = 1.0,
    bf16: bool | None = None,
    seed: int = 0,
    watch: Callable[[nn.Module], Any] | None = None,
    every: int = 50,
    checkpoint: str | Path | None = None,
    label: str = "",
    progress: bool = True,
) -> History:
    """Train a model for a number of steps, and return what happened.

    Args:
        model: has `loss(batch)`; stays on the device it is on.
        batches: makes one batch from the generator, which lives on the model's device. All randomness of the data
            comes from it, so that a resumed run sees the batches that an uninterrupted one would have seen.
        steps: S, the length of the whole schedule.
        lr, weight_decay: AdamW's, at the peak of the schedule; vectors and scalars are not decayed.
        warmup: steps of linear warm-up (default: a twentieth of S, at most 100), then a cosine to 0.
        clip: bound on the norm of the whole gradient.
        bf16: autocast to bfloat16. Default: on a GPU that has it; small layers gain little from it on a CPU.
        seed: of the data and of the model's own randomness (dropout, sampling).
        watch: called on the model in eval mode every `every` steps and at the end; its time is not counted.
        checkpoint: a file to resume from, and to save to every `every` steps. Saved whole or not at all.
        label: what the progress bar is called.

    Returns:
        History of all S steps, those before a resume included.

    Raises:
        ValueError: an argument is out of range, or the checkpoint was made with other settings.
        FloatingPointError: the loss stopped being finite; the message names the step.

    Under torchrun every process draws its own batches (seed + rank) and gradients are averaged; a loss that compares
    across the whole batch gathers the embeddings itself (`minilip.clip.gather`). See lesson 13.
    """
    _check.count("steps", steps)
    _check.count("every", every)
    _check.positive("lr", lr)
    _check.positive("clip", clip)
    warmup = min(100, max(1, steps // 20)) if warmup is None else warmup
    _check.count("warmup", warmup, 0)
    device = next(model.parameters()).device
    if bf16 is None:
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    rank = dist.get_rank() if world > 1 else 0

    generator = torch.Generator(device).manual_seed(seed + rank)
    torch.manual_seed(seed + rank)
    optim = optimizer(model, lr, weight_decay)
    settings = {"steps": steps, "lr": lr, "weight_decay": weight_decay, "warmup": warmup, "clip": clip, "seed": seed}
    history, first = History(), 0
    if checkpoint is not None and Path(checkpoint).exists():
        first = _load(Path(checkpoint), settings, model, optim, generator, history)
    if world > 1:
        for p in model.parameters():
            dist.broadcast(p.data, src=0)

    before = history.seconds[-1] if history.seconds else 0.0
    start = time.perf_counter()
    model.train()
    bar = tqdm(
        range(first, steps), initial=first, total=steps, desc=label, disable=not progress or rank > 0, leave=False
    )
    for step in bar:
        for group in optim.param_groups:
            group["lr"] = lr * cosine_warmup(step, steps, warmup)
        batch = batches(generator)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            loss, metrics = model.loss(batch)  # type: ignore[operator]
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value} at step {step}: try a lower learning rate than {lr}")
        optim.zero_grad(set_to_none=True)
        loss.backward()
        if world > 1:
            _average_gradients(model, world)
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optim.step()

        history.loss.append(value)
        history.seconds.append(before + time.perf_counter() - start)
        for name, metric in metrics.items():
            history.metrics.setdefault(name, []).append(float(metric))
        bar.set_postfix_str(f"loss {value:.3f}", refresh=False)
        if (step + 1) % every == 0 or step + 1 == steps:
            pause = time.perf_counter()
            if watch is not None:
                model.eval()
                with torch.no_grad():
                    history.watched.append((step + 1, history.seconds[-1], watch(model)))
                model.train()
            if checkpoint is not None and rank == 0:
                _save(Path(checkpoint), settings, model, optim, generator, history)
            start += time.perf_counter() - pause
    model.eval()
    return history


def _average_gradients(model: nn.Module, world: int) -> None:
    for p in model.parameters():
        if p.grad is not None:
            dist.all_reduce(p.grad)
            p.grad /= world


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _save(
    path: Path, settings: dict, model: nn.Module, optim: Any, generator: torch.Generator, history: History
) -> None:
    state = {
        "settings": settings,
        "model": model.state_dict(),
        "optimizer": optim.state_dict(),
        "generator": generator.get_state(),
        "random": _random_state(generator.device),
        "history": vars(history),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        torch.save(state, half)
        os.replace(half, path)  # a killed run leaves the last whole checkpoint, never half of one
    finally:
        half.unlink(missing_ok=True)


def _load(
    path: Path, settings: dict, model: nn.Module, optim: Any, generator: torch.Generator, history: History
) -> int:
    try:
        state = torch.load(path, map_location=generator.device, weights_only=True)
        saved = state["settings"]
    except Exception as error:
        raise ValueError(
            f"checkpoint: expected a file that fit() saved, got {path} ({error}); delete it to start afresh"
        ) from error
    if saved != settings:
        changed = ", ".join(f"{k} {saved.get(k)} -> {v}" for k, v in settings.items() if saved.get(k) != v)
        _check.fail("checkpoint", f"the settings that {path} was made with", f"changes: {changed}")
    model.load_state_dict(state["model"])
    optim.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"].cpu())
    torch.set_rng_state(state["random"]["cpu"].cpu())
    if "cuda" in state["random"]:
        torch.cuda.set_rng_state(state["random"]["cuda"].cpu(), generator.device)
    vars(history).update(state["history"])
    return len(history.loss)
