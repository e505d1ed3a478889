"""Episodes: a part of the data at a time, grouped with what the model knows now, and then learned from.

Chen et al. 2022 (arXiv 2206.10996), derived in lesson 11.

Letters: N items of an episode, B of them in a batch, K groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from minilip import _check


class Grouping(Protocol):
    """A model that can find the groups of an episode, and remembers them and its place in it: `ProtoCLIP`."""

    k: int
    groups: dict[str, Tensor]
    place: dict[str, Any]

    def episode(
        self, pairs: Iterable[tuple[Tensor, Tensor]], generator: torch.Generator, teacher: Tensor | None = None
    ) -> None: ...


class Episodes:
    """The `batches` of `fit`: draw an episode, have the model find its groups, hand it out in batches, draw the next.

    Every pair is made twice, to be grouped and to be learned from: with random changes, from two views of one item.
    Under torchrun each process has an episode of its own.

    Args:
        model: starts without groups. Its `place` gets "items" (N,), the indices drawn, "next", the position of the
            next batch, and "count", the number of episodes so far.
        pairs: (indices (B,), generator) -> (images, tokens) of those items.
        population: how many items there are, of which N are drawn with replacement.
        size: N of an episode, a multiple of `batch`, at least K.
        batch: B >= 2.
        warmup: this many episodes are handed out as pairs alone, before there are features worth grouping.
        teacher: (population, any width), an external teacher's features, on the generator's device.

    Raises:
        ValueError: an argument is out of range.

    Source: Chen et al. 2022, the online episodic training; lesson 11.
    """

    def __init__(
        self,
        model: Grouping,
        pairs: Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]],
        population: int,
        size: int = 2048,
        batch: int = 256,
        warmup: int = 1,
        teacher: Tensor | None = None,
    ):
        _check.count("population", population)
        _check.count("batch", batch, least=2)
        _check.count("size", size, least=max(batch, model.k))
        _check.count("warmup", warmup, least=0)
        if size % batch:
            _check.fail("size", f"a multiple of the batch, {batch}", size)
        if teacher is not None and len(teacher) != population:
            _check.fail("teacher", f"a row for each of {population} items", len(teacher))
        self.model, self.pairs, self.population = model, pairs, population
        self.size, self.batch, self.warmup, self.teacher = size, batch, warmup, teacher
        model.groups, model.place = {}, {}

    def __call__(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """(images, tokens), and after the warm-up their positions in the episode (B,)."""
        _check.generator("generator", generator)
        if self.model.place.get("next", self.size) == self.size:
            self._draw(generator)
        place = self.model.place
        positions = place["next"] + torch.arange(self.batch, device=generator.device)  # (B,)
        place["next"] += self.batch
        batch = self.pairs(place["items"][positions], generator)
        return (*batch, positions) if self.model.groups else batch

    def _draw(self, generator: torch.Generator) -> None:
        items = torch.randint(self.population, (self.size,), generator=generator, device=generator.device)  # (N,)
        count = self.model.place.get("count", 0) + 1
        self.model.place = {"items": items, "next": 0, "count": count}
        if count > self.warmup:
            pairs = (self.pairs(part, generator) for part in items.split(self.batch))
            self.model.episode(pairs, generator, None if self.teacher is None else self.teacher[items])
