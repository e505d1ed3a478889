r"""Two-object scenes in which the order of the words is all that tells some captions apart, and an eye that sees it.

Letters: B batch, N scenes of the pool, D feature dimension.

Every scene has two colours and two shapes, so that the words of its caption, as a bag, belong to four arrangements that
mean four different things. The eye has learned from labels, not from captions, what stands where, and is frozen: what a
model then fails to tell apart, it fails to read.

Source: ours, after Yuksekgonul et al. 2023; lesson 10.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip.compositionality import exchange
from minilip.data.latents import COLOURS, RELATIONS, SHAPES, Latents
from minilip.data.scenes import Scenes
from minilip.evaluation import encode
from minilip.nn import ConvNet
from minilip.nn.tokenizer import Tokenizer
from minilip.training import fit

WORLD = Scenes(size=32, objects=2)
CAPTIONS = len(COLOURS) * (len(COLOURS) - 1) * len(SHAPES) * (len(SHAPES) - 1) * len(RELATIONS)  # 1,344
SAME_MEANING = 2 / CAPTIONS  # "a left of b" and "b right of a"
SAME_WORDS = 8 / CAPTIONS  # `alike`
EYE_STEPS, EYE_BATCH, EYE_LR = 400, 128, 3e-3
RADIUS = (0.25, 0.30)  # all objects are large: what shape a small one has is hard to see in 32 pixels
POOL, WIDTH = 10_000, 128


def draw(n: int, generator: torch.Generator, habits: bool = False) -> Latents:
    """n scenes whose objects differ in colour and in shape, all arrangements equally likely.

    Args:
        habits: the first-named object has the earlier colour and the earlier shape, as a rider is above a horse: the
            words, in any order, then say everything.
    """
    kept: list[Latents] = []
    have = 0
    while have < n:
        z = WORLD.sample(2 * (n - have) + 8, generator)
        z = z[(z.colour[:, 0] != z.colour[:, 1]) & (z.shape[:, 0] != z.shape[:, 1])]
        kept, have = [*kept, z], have + len(z)
    z = joined(kept)[:n]
    large = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * torch.rand(n, 2, generator=generator)
    z = z.with_(size=torch.ones_like(z.size), radius=large)
    return z.with_(colour=z.colour.sort(dim=1).values, shape=z.shape.sort(dim=1).values) if habits else z


def joined(parts: list[Latents]) -> Latents:
    """The scenes of all parts, one after the other."""
    return Latents(**{name: torch.cat([getattr(p, name) for p in parts]) for name in Latents.__dataclass_fields__})


def sentences(latents: Latents) -> list[str]:
    return WORLD.caption(latents, detail=2)


def alike(latents: Latents) -> Tensor:
    """A number for what a bag of words cannot tell apart; 168 in all, of eight captions each. (N,)

    To know the words is to know two colours, two shapes and the axis. "Left" or "right" says no more: a picture of a
    left of b is described by "a left of b" and by "b right of a".
    """
    colour, shape = (x.sort(dim=1).values for x in (latents.colour, latents.shape))
    return ((colour[:, 0] * 8 + colour[:, 1]) * 9 + shape[:, 0] * 3 + shape[:, 1]) * 2 + latents.relation // 2


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    return Tokenizer(sentences(draw(2000, torch.Generator().manual_seed(0))))


# ---- the eye -----------------------------------------------------------------------------------------------------


def layout(latents: Latents) -> Tensor:
    """What stands where, whatever a caption calls first: axis, then colour and shape left or below, and the other's.

    -> (N, 5) int64
    """
    turned = ((latents.relation == 1) | (latents.relation == 2)).long()  # the second is left of, or below, the first
    order = torch.stack([turned, 1 - turned], dim=1)  # (N, 2)
    colour, shape = (x.gather(1, order) for x in (latents.colour, latents.shape))
    return torch.cat([(latents.relation // 2)[:, None], colour, shape], dim=1)


class Eye(nn.Module):
    """The convolutions of a ConvNet read place by place, not averaged over places. (B, 3, 32, 32) -> (B, 128)"""

    SIZES = (2, 8, 8, 3, 3)

    def __init__(self) -> None:
        super().__init__()
        convolutions = ConvNet(24)
        self.layers = nn.Sequential(
            convolutions.layers, nn.Flatten(), nn.Linear(16 * convolutions.dim, WIDTH), nn.GELU()
        )
        self.heads = nn.ModuleList(nn.Linear(WIDTH, size) for size in self.SIZES)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.contiguous(memory_format=torch.channels_last))

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x = self(batch[0])
        parts = [F.cross_entropy(head(x), y) for head, y in zip(self.heads, batch[1].unbind(1), strict=True)]
        return torch.stack(parts).sum(), {}

    @torch.no_grad()
    def sees(self, features: Tensor, latents: Latents) -> float:
        """Share of scenes whose layout is read right in all five parts."""
        read = torch.stack([head(features).argmax(dim=1) for head in self.heads], dim=1)  # (N, 5)
        return float((read == layout(latents)).all(dim=1).float().mean())


@lru_cache(maxsize=2)
def eye(steps: int = EYE_STEPS, progress: bool = False) -> Eye:
    """Trained from labels on two-object scenes, and frozen."""
    torch.manual_seed(0)
    model = Eye()

    def batches(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = draw(EYE_BATCH, generator)
        return WORLD.render(z), layout(z)

    fit(model, batches, steps, lr=EYE_LR, seed=0, label="the eye", progress=progress)
    return model.requires_grad_(False)


class Head(nn.Module):
    """What learns on top of the frozen eye: (B, 128) -> (B, 128)"""

    def __init__(self, width: int = 128):
        super().__init__()
        self.dim = WIDTH
        self.layers = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


# ---- the pool ----------------------------------------------------------------------------------------------------


class Pool:
    """Scenes with what the eye makes of them; row N / 2 + i is row i with the colours exchanged.

    Args:
        n: half of the scenes.
        seed: of the scenes.
        habits: see `draw`; there are no exchanged ones then, rows are repeated.
        steps: of the eye's training.
    """

    def __init__(self, n: int = POOL, seed: int = 1, habits: bool = False, steps: int = EYE_STEPS):
        half = draw(n, torch.Generator().manual_seed(seed), habits)
        self.latents = half if habits else joined([half, exchange(half, "colour")])
        self.x = see(self.latents, steps)  # (N, 128)
        self.tokens = tokenizer()(sentences(self.latents))  # (N, L)
        self.alike = alike(self.latents)  # (N,)

    def __len__(self) -> int:
        return len(self.latents)


def see(latents: Latents, steps: int = EYE_STEPS) -> Tensor:
    """(N, 128) features of the frozen eye."""
    model = eye(steps)
    return torch.cat([encode(model, WORLD.render(latents[i : i + 1000])) for i in _starts(len(latents))])


def _starts(n: int) -> range:
    return range(0, n, 1000)
