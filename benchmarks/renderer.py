"""Scenes against the usual ways to make pictures: a PIL loop, and a DataLoader around it."""

import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from minilip.data import scenes
from minilip.data.scenes import Latents, Scenes

FINE = 4  # PIL draws without anti-aliasing: draw larger, then shrink


def draw(latents: Latents, i: int, size: int) -> Image.Image:
    """Scene i by PIL, from the same latents: sharp scenes of one object."""
    side = FINE * size

    def rgb(table: Tensor, row: Tensor) -> tuple[int, ...]:
        return tuple(round(255 * c) for c in table[row].tolist())

    picture = Image.new("RGB", (side, side), rgb(scenes._BACKGROUND_RGB, latents.background[i]))
    (x, y), r = latents.position[i, 0].tolist(), float(latents.radius[i, 0])
    kind, angle = int(latents.shape[i, 0]), float(latents.angle[i, 0])
    centre = ((x + 1) * side / 2 - 0.5, (1 - y) * side / 2 - 0.5)
    fill = rgb(scenes._RGB, latents.colour[i, 0])
    pen = ImageDraw.Draw(picture)
    if kind == 0:
        reach = r * side / 2
        pen.ellipse([centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach], fill=fill)
    else:
        corners, reach = 5 - kind, scenes._REACH[kind] * r * side / 2  # 4 for a square, 3 for a triangle
        first = angle + (math.pi / 4 if kind == 1 else math.pi / 2)
        turns = [first + 2 * math.pi * k / corners for k in range(corners)]
        pen.polygon([(centre[0] + reach * math.cos(a), centre[1] - reach * math.sin(a)) for a in turns], fill=fill)
    return picture.resize((size, size), Image.Resampling.BOX)


class Drawn(Dataset[Tensor]):
    """Scenes drawn one at a time, as a data set of files would be read."""

    def __init__(self, latents: Latents, size: int):
        self.latents, self.size = latents, size

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, i: int) -> Tensor:
        return torch.from_numpy(np.asarray(draw(self.latents, i, self.size))).permute(2, 0, 1).float() / 255


def _rate(make: Callable[[], int], repeats: int) -> float:
    """Median pictures a second over several repeats; `make` returns how many it made."""
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        n = make()
        rates.append(n / (time.perf_counter() - start))
    return statistics.median(rates)


def report(quick: bool) -> str:
    world, generator = Scenes(32), torch.Generator().manual_seed(0)
    repeats, n = (1, 512) if quick else (5, 4096)
    latents = world.sample(n, generator)
    drawn = Drawn(latents, 32)
    threads = torch.get_num_threads()

    def live(batch: int) -> int:
        for _ in range(n // batch):
            world.render(world.sample(batch, generator))
        return n // batch * batch

    def loop() -> int:
        return sum(1 for i in range(n) if drawn[i] is not None)

    loader = DataLoader(drawn, batch_size=256, num_workers=2, persistent_workers=True)

    def loaded() -> int:
        return sum(len(batch) for batch in loader)

    loaded()  # start the workers
    rows: dict[str, float] = {}
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        live(256)
        for batch in (128, 256, 1024):
            name = f"`Scenes`, sampled and drawn, batch {batch}, {count} thread{'s' if count > 1 else ''}"
            rows[name] = _rate(lambda batch=batch: live(batch), repeats)  # type: ignore[misc]
    rows["PIL loop, drawn at 4x and shrunk, 1 thread"] = _rate(loop, repeats)
    rows["DataLoader around the PIL loop, 2 workers"] = _rate(loaded, repeats)
    slow = rows["PIL loop, drawn at 4x and shrunk, 1 thread"]
    lines = ["| 32 x 32 pixels | pictures a second | against the PIL loop |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {rate:,.0f} | {rate / slow:.1f} |" for name, rate in rows.items()]
    print("\n".join(lines[2:]), flush=True)
    return "\n".join(lines)
