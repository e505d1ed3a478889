"""Scenes against the usual ways to make pictures: a PIL loop, and a DataLoader around it."""

import math
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from minilip.data import drawing
from minilip.data.scenes import Latents, Scenes

from . import header, row

SIZE = 32
FINE = 4  # PIL draws without anti-aliasing: draw larger, then shrink
LOOP, LOADER = "PIL loop, 1 thread", "DataLoader around PIL, 2 workers"


class Drawn(Dataset[Tensor]):
    """Sharp scenes of one object, drawn by PIL one at a time from the same latents."""

    def __init__(self, latents: Latents):
        # Plain numbers: to pick single entries out of tensors would cost PIL as much as to draw.
        def colours(table: Tensor, index: Tensor) -> list[tuple[int, ...]]:
            return [tuple(c) for c in (255 * table[index]).round().int().tolist()]

        z = latents
        self.backgrounds = colours(drawing.BACKGROUND_RGB, z.background)
        self.colours = colours(drawing.RGB, z.colour[:, 0])
        columns = (z.shape[:, 0], z.radius[:, 0], z.angle[:, 0], z.position[:, 0])
        self.objects = list(zip(*(column.tolist() for column in columns), strict=True))

    def __len__(self) -> int:
        return len(self.objects)

    def draw(self, i: int) -> Image.Image:
        half = FINE * SIZE / 2
        picture = Image.new("RGB", (FINE * SIZE, FINE * SIZE), self.backgrounds[i])
        pen = ImageDraw.Draw(picture)
        kind, radius, angle, (x, y) = self.objects[i]
        x, y, reach = (x + 1) * half - 0.5, (1 - y) * half - 0.5, drawing.REACH[kind] * radius * half
        if kind == 0:
            pen.ellipse([x - reach, y - reach, x + reach, y + reach], fill=self.colours[i])
        else:
            corners = 5 - kind  # 4 for a square, 3 for a triangle
            turns = [angle + math.pi / (4 if kind == 1 else 2) + 2 * math.pi * k / corners for k in range(corners)]
            pen.polygon([(x + reach * math.cos(a), y - reach * math.sin(a)) for a in turns], fill=self.colours[i])
        return picture.reduce(FINE)

    def __getitem__(self, i: int) -> Tensor:
        return torch.from_numpy(np.array(self.draw(i))).permute(2, 0, 1).float() / 255  # (3, H, W)


def contenders(n: int) -> dict[str, Callable[[], None]]:
    """Ways to make n pictures, as float batches in [0, 1]."""
    world, generator = Scenes(SIZE), torch.Generator().manual_seed(0)
    drawn = Drawn(world.sample(n, generator))
    loader = DataLoader(drawn, batch_size=256, num_workers=2, persistent_workers=True)
    threads = torch.get_num_threads()

    def live(batch: int, count: int) -> None:
        torch.set_num_threads(count)
        for _ in range(n // batch):
            world.render(world.sample(batch, generator))
        torch.set_num_threads(threads)

    def loop() -> None:
        for start in range(0, n, 256):
            torch.stack([drawn[i] for i in range(start, start + 256)])

    def load() -> None:
        for _ in loader:
            pass

    ways: dict[str, Callable[[], None]] = {}
    for count in sorted({1, threads}):
        for batch in (128, 256, 1024):
            name = f"`Scenes`, batch {batch}, {count} thread{'s' if count > 1 else ''}"
            ways[name] = partial(live, batch, count)
    return ways | {LOOP: loop, LOADER: load}


def report(quick: bool) -> str:
    n, repeats = (1024, 1) if quick else (4096, 7)
    ways = contenders(n)
    for make in ways.values():
        make()  # starts the workers, which then wait between the repeats
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, make in ways.items():
            start = time.perf_counter()
            make()
            spent[name].append(time.perf_counter() - start)
    rate = {name: n / statistics.median(t) for name, t in spent.items()}
    lines = header(["pictures of 32 x 32", "a second", "PIL loop = 1", "DataLoader = 1"], words=1)
    for name, r in rate.items():
        lines.append(row([name, f"{r:,.0f}", f"{r / rate[LOOP]:.1f}", f"{r / rate[LOADER]:.1f}"]))
    print("\n".join(lines[2:]), flush=True)
    return "\n".join(lines)
