"""Emoji on a turntable: some drawings seen from every side, others only upright, others never.

Letters
    C   concepts, the classes          T   poses of a drawing, evenly spaced on a full turn
    N   drawings, four to a concept    S   side of a picture in pixels

Every picture is drawn from its vectors at its angle, so nothing is resampled and no corner is cut.

Source: the protocol of Ibrahim et al. 2022, on flat drawings; lesson 06.
"""

from hashlib import sha256
from pathlib import Path

import numpy as np
import resvg_py
import torch
from torch import Tensor
from tqdm.auto import tqdm

from minilip import _check
from minilip.data.cache import cached
from minilip.data.emoji import ARTISTS, FIT, FRAME, EmojiPairs, render_poses

GROUPS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")
TURNED_INTO_EACH_OTHER = ("time",)  # three o'clock, turned, is six o'clock
SELF_SIMILAR = 0.12  # root mean square difference to the drawing's own quarter or half turn, on a scale of 0 to 1
TYPICAL = 20.0  # degrees from upright


class PosedEmoji:
    """C concepts, each by four artists, each at T poses, with the roles of the robustness protocol.

    Of each concept one artist's drawing, drawn by lot, is the **unknown** instance: it is never trained on. The three
    others are **known**. In half of the concepts two of the three known drawings are **varied**: training shows them
    at all T poses. All other known drawings are **typical-only**: training shows them within 20 degrees of upright.

    So one training serves both splits of the protocol. *By instance*: a typical-only drawing whose concept has varied
    drawings too. *By concept*: one whose concept was never seen turned.

    Args:
        split: "test" for what is reported, "val" for choosing settings; they share no concept.
        concepts: C, at most 300, even.
        poses: T, at least 18, so that every drawing has two poses within 20 degrees of upright.
        size: S.
        root, download: as for `EmojiPairs`.
        seed: of the roles and of each drawing's own starting angle, so that no two drawings share their poses.

    Attributes:
        images: (N, T, 3, S, S) uint8. Row 4 c + a is concept c by artist a.
        angles: (N, T) degrees in [-180, 180), counter-clockwise.
        concept, artist: (N,) int64.
        unknown, varied, typical: (N,) bool, the roles; each drawing has exactly one.
        mixed: (N,) bool, whether the drawing's concept has varied drawings.
        upright: (N, T) bool, within 20 degrees.
        trained: (N, T) bool, what training shows.
        labels: the C names.

    Raises:
        ValueError: an argument out of range.
        MissingData: the emoji are not in the cache and not to be had.
    """

    def __init__(
        self,
        split: str = "test",
        concepts: int = 240,
        poses: int = 24,
        size: int = 32,
        root: str | Path | None = None,
        download: bool = True,
        seed: int = 0,
    ):
        _check.choice("split", split, ("val", "test"))
        _check.count("concepts", concepts, least=4)
        _check.count("poses", poses, least=18)
        if concepts % 2 or concepts > 300:
            _check.fail("concepts", "an even number of at most 300", concepts)
        emoji = EmojiPairs(root, size=32, download=download)  # upright, to leave out what looks alike when turned
        usable = _usable(emoji)
        generator = torch.Generator().manual_seed(0)  # of the split: the same whatever else is asked for
        usable = usable[torch.randperm(len(usable), generator=generator)]
        chosen = usable[:concepts] if split == "test" else usable[len(usable) - concepts :]  # (C,)
        self.labels = [emoji.labels[c] for c in chosen]
        a, n = len(ARTISTS), concepts * len(ARTISTS)
        self.concept = torch.arange(concepts).repeat_interleave(a)  # (N,)
        self.artist = torch.arange(a).repeat(concepts)  # (N,)

        generator.manual_seed(seed)
        lot = torch.rand(concepts, a, generator=generator).argsort(dim=1).flatten()  # (N,) a rank within the concept
        self.mixed = (torch.randperm(concepts, generator=generator) < concepts // 2).repeat_interleave(a)  # (N,)
        self.unknown = lot == 0
        self.varied = self.mixed & (lot >= 2)
        self.typical = ~self.unknown & ~self.varied
        step = 360 / poses
        start = step * (torch.rand(n, 1, generator=generator) - 0.5)  # (N, 1)
        self.angles = (start + step * torch.arange(poses) + 180) % 360 - 180  # (N, T)
        self.upright = self.angles.abs() <= TYPICAL
        self.trained = self.varied[:, None] | (self.typical[:, None] & self.upright)
        rows = self.artist * len(emoji.concepts) + chosen.repeat_interleave(a)  # (N,) of `emoji`
        self.images = _draw(emoji, rows, self.angles, size)  # (N, T, 3, S, S)


def _usable(emoji: EmojiPairs) -> Tensor:
    """Concepts of GROUPS that no artist draws so that a quarter or half turn hardly changes it. (K,) int64"""
    x = emoji.images.float() / 255  # (4 C, 3, 32, 32)
    turned = (torch.rot90(x, k, (2, 3)) for k in (1, 2, 3))
    change = torch.stack([(x - y).square().mean(dim=(1, 2, 3)).sqrt() for y in turned])  # (3, 4 C)
    change = change.amin(dim=0).unflatten(0, (len(ARTISTS), -1)).amin(dim=0)  # (C,)
    group = torch.tensor([emoji.group_names[g] in GROUPS for g in emoji.group])
    clock = torch.tensor([emoji.subgroup_names[s] in TURNED_INTO_EACH_OTHER for s in emoji.subgroup])
    return ((change > SELF_SIMILAR) & group & ~clock).nonzero().squeeze(1)


def _draw(emoji: EmojiPairs, rows: Tensor, angles: Tensor, size: int) -> Tensor:
    """(N, T, 3, S, S) uint8, from the cache or drawn now."""
    shape = (*angles.shape, 3, size, size)
    recipe = (resvg_py.__version__, FRAME, FIT, emoji.codepoints, rows.tolist(), angles.tolist(), shape)
    key = sha256(repr(recipe).encode()).hexdigest()[:12]
    cache = emoji.root / "emoji" / f"poses-{size}-{key}.npz"

    def draw() -> np.ndarray:
        turntable = tqdm(rows, desc="draw the turntable", unit="drawing")
        drawings = (
            render_poses(emoji.svg(int(row)), turns, size) for row, turns in zip(turntable, angles, strict=True)
        )
        return torch.stack(list(drawings)).numpy()  # (N, T, 3, S, S)

    return torch.from_numpy(cached(cache, shape, draw))
