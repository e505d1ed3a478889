"""How long CLIP trains until it classifies 48 kinds of scenes it never saw a label of."""

import statistics

import torch

from minilip.clip import CLIP, zero_shot_classifier
from minilip.data.scenes import COLOURS, SHAPES, SIZES, Scenes
from minilip.encoders import BagOfWords, ConvNet
from minilip.evaluate import accuracy, encode
from minilip.text import Tokenizer
from minilip.train import History, fit

CLASSES = [f"{size} {colour} {shape}" for shape in SHAPES for colour in COLOURS for size in SIZES]


def run(seed: int, steps: int) -> History:
    """One training run; `watched` holds the zero-shot accuracy on 2,000 fresh scenes every 25 steps."""
    torch.manual_seed(seed)
    world = Scenes(32)
    tokenizer = Tokenizer([f"a {name}" for name in CLASSES])
    model = CLIP(ConvNet(32), BagOfWords(len(tokenizer), 64), tokenizer, dim=64)
    fresh = world.sample(2000, torch.Generator().manual_seed(1_000_000 + seed))
    images, labels = world.render(fresh), (fresh.shape * 16 + fresh.colour * 2 + fresh.size)[:, 0]

    def batches(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        latents = world.sample(256, generator)
        return world.render(latents), tokenizer(world.caption(latents))

    def watch(model: torch.nn.Module) -> float:
        assert isinstance(model, CLIP)
        return accuracy(encode(model.encode_image, images) @ zero_shot_classifier(model, CLASSES).T, labels)

    return fit(model, batches, steps, lr=3e-3, seed=seed, watch=watch, every=25, progress=False)


def first(history: History, target: float) -> float:
    """Training seconds when the accuracy first reaches the target; infinite if it never does."""
    return next((seconds for _, seconds, value in history.watched if value >= target), float("inf"))


def report(quick: bool) -> str:
    lines = ["| seed | to 95 % | to 99 % | final accuracy | whole run |", "| --- | ---: | ---: | ---: | ---: |"]
    columns: list[list[float]] = [[], [], [], []]
    for seed in range(1 if quick else 3):
        history = run(seed, steps=30 if quick else 500)
        row = [first(history, 0.95), first(history, 0.99), history.watched[-1][2], history.seconds[-1]]
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        lines.append(_row(str(seed), row))
        print(lines[-1], flush=True)
    lines.append(_row("median", [statistics.median(c) for c in columns]))
    return "\n".join(lines)


def _row(name: str, row: list[float]) -> str:
    return f"| {name} | {row[0]:.1f} s | {row[1]:.1f} s | {row[2]:.3f} | {row[3]:.1f} s |"
