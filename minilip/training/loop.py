"""The one training loop. A method is an nn.Module with `loss(batch) -> (scalar, {name: number})`; `fit` knows no more.

Letters: S steps, W processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm.auto import tqdm

from minilip import _check
from minilip.nn.modes import evaluating
from minilip.training.checkpoint import Keeper, Run, load
from minilip.training.history import History, plain
from minilip.training.processes import average_gradients, share

# Steps between two looks at the loss: to look is to wait until the device has computed it. A CPU has it at once.
LOOK = {"cpu": 1}
LOOK_ELSEWHERE = 10


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
    *,
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
    """Train a model for a number of steps, and return what happened; the model is in eval mode afterwards.

    Args:
        model: has `loss(batch)`, which returns a scalar tensor and {name: number or tensor of one element}; stays on
            the device it is on.
        batches: makes one batch from the generator, which lives on the model's device. All randomness of the data
            comes from it, so that a resumed run sees the batches that an uninterrupted one would have seen.
        steps: S, the length of the whole schedule.
        lr, weight_decay: AdamW's, at the peak of the schedule; vectors and scalars are not decayed.
        warmup: steps of linear warm-up (default: a twentieth of S, at most 100), then a cosine to 0.
        clip: bound on the norm of the whole gradient.
        bf16: autocast to bfloat16. Default: on a GPU that has it; small layers gain little from it on a CPU.
        seed: of the data and of the model's own randomness (dropout, sampling).
        watch: called on the model in eval mode every `every` steps and at the end; its time is not counted. What it
            returns is kept as numbers, text, tensors on the CPU, and lists, tuples and dicts of these; without a
            checkpoint any other object is kept as it is.
        checkpoint: a file to resume from, and to save to at the start, every `every` steps and at the end. Saved
            whole and readable or not at all: the file before stays until the next one is good.
        label: what the progress bar is called.

    Returns:
        History of all S steps, those before a resume included.

    Raises:
        ValueError: an argument is out of range; the checkpoint is none, is damaged, or was made with other settings or
            another model; what `watch` or the model wants to be kept could not be read back (said at the first save).
        OSError: the checkpoint cannot be written to its folder; said before the first step. A later save that fails,
            on a full disk, is a warning, and the training goes on.
        FloatingPointError: the batch, an embedding, the loss, the gradient or a parameter stopped being finite; the
            message names the step and the learning rate. On a CPU the parameters are as they were before that step. A
            GPU is asked every 10 steps, and its model has gone on: take the checkpoint, which never holds such a step.

    Under torchrun all W processes start from the first one's parameters and buffers, every process draws its own
    batches (seed + rank) and gradients are averaged; a loss that compares across the whole batch gathers the
    embeddings itself (`minilip.nn.gather`). See lesson 13.
    """
    _check.count("steps", steps)
    _check.count("every", every)
    _check.positive("lr", lr)
    _check.positive("clip", clip)
    lr, weight_decay, clip = float(lr), _check.number("weight_decay", weight_decay), float(clip)
    warmup = min(100, max(1, steps // 20)) if warmup is None else warmup
    _check.count("warmup", warmup, 0)
    method = getattr(model, "loss", None)
    if not callable(method):
        _check.fail("model", "an nn.Module with loss(batch)", type(model).__name__)
    optim = optimizer(model, lr, weight_decay)
    device = next(model.parameters()).device
    if bf16 is None:
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    rank = dist.get_rank() if world > 1 else 0

    generator = torch.Generator(device).manual_seed(seed + rank)
    torch.manual_seed(seed + rank)
    settings = {"steps": steps, "lr": lr, "weight_decay": weight_decay, "warmup": warmup, "clip": clip, "seed": seed}
    where = {"bf16": bf16, "device": device.type, "processes": world}
    run = Run(model, optim, generator, plain(settings | where, "settings", strict=True), History(), rank, world)
    path = None if checkpoint is None else Path(checkpoint)
    if world > 1:
        share(model)
    first = load(path, run) if path is not None and path.exists() else 0
    keeper = Keeper(path, run)
    if first < steps:
        keeper.keep(first)  # a folder that cannot be written to is better known now than in an hour

    log = _Log(run.history, lr)
    model.train()
    bar = tqdm(
        range(first, steps), initial=first, total=steps, desc=label, disable=not progress or rank > 0, leave=False
    )
    try:
        for step in bar:
            for group in optim.param_groups:
                group["lr"] = lr * cosine_warmup(step, steps, warmup)
            finite = None
            try:
                batch = batches(generator)
                finite = _finite(batch)
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                    loss, metrics = _loss(method, batch)
            except (ValueError, RuntimeError, ArithmeticError) as error:
                log.read()  # a step before this one may have been the first that was not finite
                log.explain(step, error, finite, model)
                raise
            optim.zero_grad(set_to_none=True)
            loss.backward()
            if world > 1:
                average_gradients(model, world)
            norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
            log.add(_Row(step, loss.detach().clone(), norm, finite, metrics))
            pause = (step + 1) % every == 0 or step + 1 == steps
            if pause or (step + 1) % LOOK.get(device.type, LOOK_ELSEWHERE) == 0:
                log.read()
                bar.set_postfix_str(f"loss {run.history.loss[-1]:.3f}", refresh=False)
            optim.step()
            log.time()
            if pause:
                began = time.perf_counter()
                if not _sound(model):
                    raise FloatingPointError(f"a parameter overflowed at step {step}: {log.advice}")
                if watch is not None:
                    with evaluating(model), torch.no_grad():
                        seen = plain(watch(model), "watch(model)", strict=path is not None and keeper.kept == first)
                    run.history.watched.append((step + 1, run.history.seconds[-1], seen))
                keeper.keep(step + 1)
                log.start += time.perf_counter() - began
    finally:
        bar.close()
        model.eval()
    keeper.close()
    return run.history


# ---- looking at the steps --------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """What a step has left on the device."""

    step: int
    loss: Tensor
    norm: Tensor  # of the gradient
    finite: list[Tensor]  # of each part of the batch, bool
    metrics: dict[str, float | Tensor]


class _Log:
    """Rows that wait on the device until `read` fetches them all at once."""

    def __init__(self, history: History, lr: float):
        self.history, self.rows = history, list[_Row]()
        self.advice = f"try a lower learning rate than {lr}"
        self.start = time.perf_counter() - (history.seconds[-1] if history.seconds else 0.0)

    def add(self, row: _Row) -> None:
        self.rows.append(row)

    def read(self) -> None:
        """Move the waiting rows to the history, up to the first that is not finite.

        Raises:
            FloatingPointError: there is one.
        """
        rows, self.rows = self.rows, []
        losses, norms = _numbers([row.loss for row in rows]), _numbers([row.norm for row in rows])
        for row, loss, norm in zip(rows, losses, norms, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = f"the gradient's norm became {norm}" if math.isfinite(loss) else f"the loss became {loss}"
                self._stop(row.step, what, row.finite)
        self.history.loss += losses
        names = dict.fromkeys(name for row in rows for name in row.metrics)
        for name in names:
            values = [row.metrics[name] for row in rows if name in row.metrics]
            self.history.metrics.setdefault(name, []).extend(_numbers(values))

    def time(self) -> None:
        """The time of each step read so far; steps that were read together share it evenly."""
        seconds, now = self.history.seconds, time.perf_counter() - self.start
        new, last = len(self.history.loss) - len(seconds), seconds[-1] if seconds else 0.0
        seconds += [last + (now - last) * (i + 1) / new for i in range(new)]

    def explain(self, step: int, error: Exception, finite: list[Tensor] | None, model: nn.Module) -> None:
        """Raise FloatingPointError if that is what an error of a step comes from.

        Losses refuse what is not finite before there is a value to look at.
        """
        if isinstance(error, _check.NotFinite) or not _sound(model) or not all(finite or []):
            where = "the loss" if finite is not None else "making the batch"
            self._stop(step, f"{where} met what is not finite ({error})", finite or [], error)

    def _stop(self, step: int, what: str, finite: list[Tensor], cause: Exception | None = None) -> NoReturn:
        if all(finite):
            raise FloatingPointError(f"{what} at step {step}: {self.advice}") from cause
        advice = f"mend what `batches` returns; the learning rate, {self.advice.split()[-1]}, is not to blame"
        raise FloatingPointError(f"{what} at step {step}, whose batch is not finite: {advice}") from cause


def _loss(method: Any, batch: Any) -> tuple[Tensor, dict[str, float | Tensor]]:
    """`method(batch)`, with copies of the metrics that no later step changes."""
    found = method(batch)
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)):
        _check.fail("model.loss(batch)", "(scalar tensor, {name: number})", type(found).__name__)
    loss, metrics = found
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        came = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        _check.fail("model.loss(batch)", "a loss of one element that depends on a trained parameter", came)
    kept: dict[str, float | Tensor] = {}
    for name, value in metrics.items():
        if isinstance(value, Tensor) and value.numel() == 1:
            kept[name] = value.detach().reshape(()).clone()
        else:
            try:
                kept[name] = float(value)
            except (TypeError, ValueError, RuntimeError):
                kind = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                _check.fail(f"metrics[{name!r}] of model.loss(batch)", "one number", kind)
    return loss, kept


def _numbers(values: Sequence[float | Tensor]) -> list[float]:
    """One wait for the device instead of one for each value."""
    tensors = [x for x in values if isinstance(x, Tensor)]
    if len(tensors) == len(values) > 0 and len({(x.dtype, x.device) for x in tensors}) == 1:
        return [float(x) for x in torch.stack([x.reshape(()) for x in tensors]).tolist()]
    return [float(x) for x in values]


def _finite(batch: Any) -> list[Tensor]:
    """Of each floating-point tensor of a batch whether it is finite, as a tensor: nobody waits for it."""
    return [torch.isfinite(x.detach().sum(dtype=torch.promote_types(x.dtype, torch.float32))) for x in _tensors(batch)]


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        if batch.is_floating_point():
            yield batch
    elif isinstance(batch, Mapping):
        yield from _tensors(list(batch.values()))
    elif isinstance(batch, (list, tuple)):
        for part in batch:
            yield from _tensors(part)


def _sound(model: nn.Module) -> bool:
    """Whether every trained parameter is finite."""
    return all(bool(torch.isfinite(p.detach()).all()) for p in model.parameters() if p.requires_grad)
