"""Scenes and captions whose ambiguity is known: what fits how many kinds of scene, and how much of a thing is hidden.

Letters: A attributes (5), C captions that name some of them (2160), N kinds of scene that a caption fits (1 to 576),
B batch, M masked copies, L tokens, H = W image size.

Source: ours, after the roles of masked inputs in Chun et al. 2025 (arXiv 2410.18857); lesson 12.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip import _check
from minilip.data.scenes import (
    ATTRIBUTES,
    BACKGROUND_RGB,
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    Latents,
    Scenes,
)
from minilip.nn.tokenizer import MASK, PAD, Tokenizer

KINDS = torch.tensor([len(SIZES), len(COLOURS), len(SHAPES), len(PLACES), len(BACKGROUNDS)])  # (A,) as ATTRIBUTES
MASKINGS = ("attributes", "words", "tokens")


class Captions:
    """All C captions of one-object scenes, from "a shape" to those that name everything.

    A caption is a row of codes: for each attribute 0 where it is not named, else its value counted from 1.

    Args:
        world: writes the captions.
        held: share of the captions that training never sees, "a shape" excepted.
        seed: of their choice.

    Attributes:
        codes: (C, A) int64; texts: C sentences; tokens: (C, L) int64; tokenizer: of all of them.
        fits: (C,) N, the product of the numbers of values of what is not named.
        words: (C,) length in words.
        held: (C,) bool.
        full: (576,) rows that name everything.
    """

    def __init__(self, world: Scenes, held: float = 0.15, seed: int = 0):
        self.codes = torch.cartesian_prod(*(torch.arange(k + 1) for k in KINDS.tolist()))  # (C, A)
        self.texts = _write(world, self.codes)
        self.tokenizer = Tokenizer(self.texts)
        self.tokens = self.tokenizer(self.texts)  # (C, L)
        self.fits = torch.where(self.codes > 0, 1, KINDS).prod(dim=1)  # (C,)
        self.words = (self.tokens != PAD).sum(dim=1)  # (C,)
        self.held = torch.rand(len(self.codes), generator=torch.Generator().manual_seed(seed)) < held  # (C,)
        self.held[0] = False
        self.full = (self.codes > 0).all(dim=1).nonzero()[:, 0]  # (576,)

    def to(self, device: torch.device) -> "Captions":
        """Move the tables to the device that trains."""
        for name in ("codes", "tokens", "fits", "words", "held", "full"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def row(self, codes: Tensor) -> Tensor:
        """Which caption these codes are. (B, A) -> (B,)"""
        digits = torch.cat([KINDS.new_ones(1), (KINDS + 1).flip(0).cumprod(0)[:-1]]).flip(0)  # (A,) mixed radix
        return codes @ digits.to(codes.device)

    def some(self, codes: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """Captions that name each attribute of `codes` with this probability, none of them held out. -> (B,) rows"""
        rows = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
        wanted = torch.ones_like(rows, dtype=torch.bool)
        for _ in range(8):  # after eight draws one in four million is left, and stays "a shape"
            named = torch.rand(codes.shape, generator=generator, device=codes.device) < share
            drawn = self.row(codes * named)
            rows = torch.where(wanted, drawn, rows)
            wanted &= self.held[rows]
        return torch.where(wanted, 0, rows)


def codes_of(latents: Latents) -> Tensor:
    """What there is to name in scenes of one object. -> (B, A), each from 1"""
    z = latents
    columns = (z.size[:, 0], z.colour[:, 0], z.shape[:, 0], z.place(), z.background)
    return torch.stack(columns, dim=1) + 1


def _write(world: Scenes, codes: Tensor) -> list[str]:
    size, colour, shape, place, background = (codes - 1).clamp(min=0).unbind(dim=1)
    side = torch.stack([place % 2, place // 2], dim=1)[:, None] - 0.5  # (C, 1, 2)
    latents = world.sample(len(codes), torch.Generator().manual_seed(0)).with_(
        size=size[:, None], colour=colour[:, None], shape=shape[:, None], position=side, background=background
    )
    texts = [""] * len(codes)
    for named in (codes > 0).unique(dim=0):
        rows = ((codes > 0) == named).all(dim=1).nonzero()[:, 0]
        names = tuple(a for a, yes in zip(ATTRIBUTES, named, strict=True) if yes)
        for row, text in zip(rows.tolist(), world.caption(latents[rows], attributes=names), strict=True):
            texts[row] = text
    return texts


def masked(captions: Captions, rows: Tensor, masking: str, generator: torch.Generator) -> Tensor:
    """A more general copy of each caption, by one of three recipes. (M,) -> (M, L) tokens

    Args:
        rows: of the captions.
        masking: "attributes" names each named attribute with probability 1/2, in a caption of its own; "words" deletes
            3/4 of the words; "tokens" writes [MASK] over 3/4 of them, as the released code does.
        generator: source of all randomness.
    """
    _check.choice("masking", masking, MASKINGS)
    if masking == "attributes":
        return captions.tokens[captions.some(captions.codes[rows], 0.5, generator)]
    tokens = captions.tokens[rows]  # (M, L)
    gone = torch.rand(tokens.shape, generator=generator, device=tokens.device) < 0.75
    if masking == "tokens":
        return torch.where(gone & (tokens != PAD), MASK, tokens)
    kept = (tokens != PAD) & ~gone
    kept[:, 0] |= ~kept.any(dim=1)
    return torch.where(kept, tokens, PAD).gather(1, (~kept).long().argsort(dim=1, stable=True))  # kept words first


def boxes(images: Tensor, generator: torch.Generator) -> Tensor:
    """Put a rectangle of one random colour over each image, from a quarter to nine tenths of it wide. (M, 3, H, W)"""
    n, _, _, h = images.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, device=images.device)

    axis = _axis(h, images)  # (W,)
    half, centre, colour = uniform(0.25, 0.9, n, 2, 1), uniform(-0.7, 0.7, n, 2, 1), uniform(0, 1, n, 3, 1, 1)
    x, y = ((axis - centre).abs() < half).unbind(dim=1)  # (M, W), (M, H)
    return torch.where((x[:, None, :] & y[:, :, None])[:, None], colour, images)


def nested(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cover each image with a part of a rectangle, for half of them with none of it, and with all of it.

    Half of the rectangles have one random colour, half a random coarse pattern. Between the two copies of an image only
    the amount differs that is covered. (M, 3, H, W) -> (M, 3, H, W) twice
    """
    n, _, _, h = images.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, device=images.device)

    axis = _axis(h, images)  # (W,)
    half, centre, colour = uniform(0.25, 0.9, n, 2, 1), uniform(-0.7, 0.7, n, 2, 1), uniform(0, 1, n, 3, 1, 1)
    cells = 2 ** int(torch.randint(2, 5, (1,), generator=generator, device=images.device))  # 4, 8 or 16 in a row
    pattern = F.interpolate(uniform(0, 1, n, 3, cells, cells), size=(h, h))  # (M, 3, H, W)
    fill = torch.where(uniform(0, 1, n, 1, 1, 1) < 0.5, colour.expand_as(images), pattern)
    inner = uniform(-1, 1, n, 1, 1).clamp(min=0) * half  # (M, 2, 1)
    out = []
    for side in (inner, half):
        x, y = ((axis - centre).abs() < side).unbind(dim=1)  # (M, W), (M, H)
        out.append(torch.where((x[:, None, :] & y[:, :, None])[:, None], fill, images))
    return out[0], out[1]


def discs(images: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """Put a chequered disc over each image: round and patterned, as no box is. (B, 3, H, W), (B, 2), (B,)"""
    h = images.shape[-1]
    axis = _axis(h, images)  # (W,)
    x, y = axis[None, None, :] - centre[:, 0, None, None], -axis[None, :, None] - centre[:, 1, None, None]
    disc = (x.square() + y.square()).sqrt() < radius[:, None, None]  # (B, H, W)
    half = torch.arange(h, device=images.device) // 2
    board = ((half[:, None] + half) % 2).to(images.dtype)  # (H, W)
    return torch.where(disc[:, None], board, images)


def hidden(latents: Latents, clean: Tensor, covered: Tensor) -> Tensor:
    """The share of each object's pixels that a cover has changed. (B, 3, H, W), (B, 3, H, W) -> (B,) in [0, 1]

    A cover of the object's own colour does not count: a white square of a chequered disc hides nothing that is white.
    """
    ground = BACKGROUND_RGB.to(clean.device)[latents.background][:, :, None, None]  # (B, 3, 1, 1)
    thing = (clean - ground).abs().amax(dim=1) > 0.1  # (B, H, W)
    changed = (covered - clean).abs().amax(dim=1) > 0.02
    return (thing & changed).sum(dim=(1, 2)) / thing.sum(dim=(1, 2))


def _axis(h: int, like: Tensor) -> Tensor:
    return (torch.arange(h, device=like.device) + 0.5) * (2 / h) - 1
