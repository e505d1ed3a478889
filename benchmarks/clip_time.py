"""How long CLIP trains until it names 48 kinds of scenes in pictures it never saw."""

import math
import statistics

import torch

from minilip.clip import CLIP, zero_shot_classifier
from minilip.data.scenes import COLOURS, SHAPES, SIZES, Scenes
from minilip.evaluation import accuracy, encode
from minilip.nn import BagOfWords, ConvNet
from minilip.nn.tokenizer import Tokenizer
from minilip.training import History, fit

from . import header, row, target

CLASSES = [f"{size} {colour} {shape}" for shape in SHAPES for colour in COLOURS for size in SIZES]


def run(seed: int, steps: int, every: int, fresh: int = 2000) -> History:
    """One training run; `watched` holds the zero-shot accuracy on fresh scenes."""
    torch.manual_seed(seed)
    world, generator = Scenes(32), torch.Generator().manual_seed(1_000_000 + seed)
    tokenizer = Tokenizer(world.caption(world.sample(4000, generator), detail=3))
    model = CLIP(ConvNet(32), BagOfWords(len(tokenizer), 64), tokenizer, dim=64)
    latents = world.sample(fresh, generator)
    images = world.render(latents)  # (N, 3, H, W)
    labels = torch.tensor([CLASSES.index(c.removeprefix("a ")) for c in world.caption(latents, detail=3)])  # (N,)

    def batches(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        latents = world.sample(256, generator)
        return world.render(latents), tokenizer(world.caption(latents, detail=3))

    def watch(_: torch.nn.Module) -> float:
        return accuracy(encode(model.encode_image, images) @ zero_shot_classifier(model, CLASSES).T, labels)

    return fit(model, batches, steps, lr=3e-3, seed=seed, watch=watch, every=every, progress=False)


def first(history: History, share: float) -> float:
    """Training seconds when the accuracy first reaches a share; infinite if it never does."""
    return next((seconds for _, seconds, value in history.watched if value >= share), math.inf)


def report(quick: bool) -> str:
    lines = header(["seed", "to 95 %", "to 99 %", "final accuracy", "all steps"])
    rows = []
    for seed in range(1 if quick else 3):
        history = run(seed, 4, 2, fresh=100) if quick else run(seed, 500, 25)
        rows.append((first(history, 0.95), first(history, 0.99), history.watched[-1][2], history.seconds[-1]))
        lines.append(_line(str(seed), rows[-1]))
        print(lines[-1], flush=True)
    middle = tuple(statistics.median(column) for column in zip(*rows, strict=True))
    lines += [_line("median", middle), ""]
    lines.append(target("seconds to 95 %, median", middle[0], 45))
    lines.append(target("seconds to 99 %, median", middle[1], 60))
    return "\n".join(lines)


def _line(name: str, values: tuple[float, ...]) -> str:
    soon, later, final, whole = values
    reached = [f"{t:.1f} s" if math.isfinite(t) else "not reached" for t in (soon, later)]
    return row([name, *reached, f"{final:.3f}", f"{whole:.1f} s"])
