"""Emoji: real image-text pairs, 1,594 concepts each drawn by four artists. The concept is content, the artist style.

Letters
    C   concepts in the table, 1594            N   pictures, artists times K
    K   concepts in a split                    T   poses
    S   side of a picture in pixels

Pictures are vectors, so each can be drawn at any size and pose. None of it is part of this repository: pinned
packages are fetched, verified, drawn once and cached (`minilip.data.home()`), each under its own licence.

Source: pictures from the four artists, labels and groups from emojibase (Unicode CLDR); lessons 03, 06, 07, 09, 11, 12.
"""

import io
import operator
from collections.abc import Sequence
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import resvg_py
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from minilip import _check
from minilip.data import home
from minilip.data.cache import cached
from minilip.data.concepts import ARTWORK, SPLITS, WORDS, read_concepts, read_credit, read_vectors, split_of
from minilip.data.fetch import MissingData, fetch

ARTISTS = tuple(ARTWORK)
UNSEEN_ARTIST = "openmoji"  # kept out of training wherever a lesson asks for an unseen style
SEEN_ARTISTS = tuple(artist for artist in ARTISTS if artist != UNSEEN_ARTIST)

FIT = 0.5**0.5  # a square drawn at this scale keeps its corners inside the picture at every angle
FRAME = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-50 -50 100 100">'
    '<g transform="rotate({turn}) scale({scale}) translate(-50 -50)">{svg}</g></svg>'
)


def render(svg: str, size: int = 64, angle: float = 0.0, scale: float = FIT) -> Tensor:
    """Draw a vector at a pose, on white.

    x -> scale * R(angle) x about the centre, R a counter-clockwise rotation.

    At scale 1 the drawing fills the picture, as in `EmojiPairs.images`, and a turned corner would be cut off. The
    default shrinks it to FIT = 1/sqrt(2), the largest scale at which a square turns inside its own bounds, so that
    every angle shows the whole drawing at one size.

    Args:
        svg: an `<svg>` element with a viewBox, as from `EmojiPairs.svg`.
        size: S, pixels, 8 to 512.
        angle: degrees, counter-clockwise.
        scale: side of the drawing over side of the picture, above 0.
    Returns:
        (3, S, S) uint8, RGB.
    Raises:
        ValueError: a value out of range, or not a drawing.
    Source: lesson 06.
    """
    _check_size(size)
    if not isinstance(svg, str) or not svg.startswith("<svg"):
        _check.fail("svg", "a string that starts with <svg", repr(svg)[:40])
    _check.positive("scale", scale)
    # SVG's y axis points down, so its angles run clockwise.
    turn = -_check.number("angle", angle) % 360
    drawing = FRAME.format(turn=turn, scale=float(scale), svg=svg)
    png = resvg_py.svg_to_bytes(svg_string=drawing, width=size, height=size, background="white", skip_system_fonts=True)
    pixels = np.array(Image.open(io.BytesIO(png)).convert("RGB"))  # (S, S, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # (3, S, S)


def render_poses(svg: str, angles: Sequence[float] | Tensor, size: int = 64, scale: float = FIT) -> Tensor:
    """Draw a vector at T angles: `render` for each, stacked.

    Args:
        svg, size, scale: as for `render`.
        angles: (T,) degrees, counter-clockwise.
    Returns:
        (T, 3, S, S) uint8, RGB.
    Raises:
        ValueError: as `render`; or no angles, or not one-dimensional.
    Source: lesson 06.
    """
    turns = torch.as_tensor(angles, dtype=torch.float64)
    if turns.dim() != 1 or len(turns) == 0:
        _check.fail("angles", "at least one angle, shape (T,)", tuple(turns.shape))
    return torch.stack([render(svg, size, angle, scale) for angle in turns.tolist()])  # (T, 3, S, S)


class EmojiPairs(Dataset[tuple[Tensor, str]]):
    """Pictures and captions: `data[i]` is (image (3, S, S) float32 in [0, 1], label).

    Rows come artist by artist: row a K + k is the split's k-th concept by the a-th of `artists`, so
    `data.images.unflatten(0, (len(data.artists), -1))` is (artists, K, 3, S, S).
    To train on a device take all at once: `data.images.to(device)[rows].float() / 255`.

    Args:
        root: cache folder; None is `minilip.data.home()`.
        size: S, pixels, 8 to 512.
        artists: some of ARTISTS; SEEN_ARTISTS leaves out UNSEEN_ARTIST.
        split: "all", or "train", "val", "test" with about 70, 10 and 20 % of the concepts. They share no subgroup and
            no near twins (`concepts.KIN`), and every group is in "train".
        download: fetch what the cache lacks, once (55 MB, or 14 MB by npm). False looks only in the cache.
    Attributes:
        images: (N, 3, S, S) uint8.
        concept: (N,) int64, into the table.
        artist: (N,) int64, into ARTISTS.
        concepts: (K,) int64, the split's concepts.
        labels, tags, codepoints: the table, always of all C concepts: captions, tuples of words, code points.
        group, subgroup: (C,) int64, into group_names (9) and subgroup_names (95).
        credits: who drew and who named these, and the licence of each.
    Raises:
        ValueError: an argument out of range.
        MissingData: not in the cache and not to be had.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        size: int = 64,
        artists: Sequence[str] = ARTISTS,
        split: str = "all",
        download: bool = True,
    ) -> None:
        _check_size(size)
        _check.choice("split", split, SPLITS)
        if not isinstance(artists, (tuple, list)) or not artists:
            _check.fail("artists", f"a tuple of names among {', '.join(ARTISTS)}", repr(artists))
        for position, artist in enumerate(artists):
            _check.choice("artists", artist, [name for name in ARTISTS if name not in artists[:position]])
        self.root = home() if root is None else Path(root).expanduser()
        self.size, self.artists, self.split = size, tuple(artists), split
        fetched = fetch([*ARTWORK.values(), WORDS], self.root, download, "python -m minilip.data.emoji")
        self.credits = {artist: read_credit(artist, self.root) for artist in self.artists}
        self.credits["labels"] = f"labels: {WORDS} by Miles Johnson, MIT"
        if fetched:
            print(self.credits["labels"])

        table = read_concepts(self.root)
        self.labels, self.tags, self.codepoints = table.labels, table.tags, table.codepoints
        self.group, self.group_names = table.group, table.group_names
        self.subgroup, self.subgroup_names = table.subgroup, table.subgroup_names
        self.concepts = torch.tensor([split in ("all", part) for part in split_of(table)]).nonzero().squeeze(1)  # (K,)

        pictures = [torch.from_numpy(self._pictures(artist))[self.concepts] for artist in self.artists]
        self.images = torch.cat(pictures)  # (N, 3, S, S)
        self.concept = self.concepts.repeat(len(self.artists))  # (N,)
        numbers = torch.tensor([ARTISTS.index(artist) for artist in self.artists])
        self.artist = numbers.repeat_interleave(len(self.concepts))  # (N,)
        self._vectors: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: SupportsIndex) -> tuple[Tensor, str]:
        row = self._row(index)
        return self.images[row].float() / 255, self.labels[self.concept[row]]

    def svg(self, index: SupportsIndex) -> str:
        """The drawing of row `index` as an `<svg>` element, for `render`."""
        row = self._row(index)
        artist = ARTISTS[self.artist[row]]
        if artist not in self._vectors:
            self._vectors[artist] = read_vectors(artist, self.codepoints, self.root)
        return self._vectors[artist][self.concept[row]]

    def row(self, label: str, artist: str | None = None) -> int:
        """The row where `artist` (by default the first of `artists`) draws the concept called `label`."""
        artist = self.artists[0] if artist is None else artist
        _check.choice("artist", artist, self.artists)
        names = [self.labels[concept] for concept in self.concepts]
        if label not in names:
            near = ", ".join(get_close_matches(str(label), names)) or names[0]
            _check.fail("label", f"a label of the {self.split!r} split, such as {near}", repr(label))
        return self.artists.index(artist) * len(names) + names.index(label)

    def _row(self, index: SupportsIndex) -> int:
        try:
            row = operator.index(index)
        except TypeError:
            raise ValueError(f"index: expected a whole number, got {index!r}") from None
        if not -len(self) <= row < len(self):
            # Not a ValueError: an IndexError is what ends `for image, label in data`.
            raise IndexError(f"index: expected one of {len(self)} rows, got {row}")
        return row % len(self)

    def _pictures(self, artist: str) -> np.ndarray:
        """All C concepts by one artist, (C, 3, S, S) uint8, from the cache or drawn now."""
        shape = (len(self.labels), 3, self.size, self.size)
        recipe = (resvg_py.__version__, FRAME, ARTWORK[artist], self.codepoints, shape)
        key = sha256(repr(recipe).encode()).hexdigest()[:12]
        cache = self.root / "emoji" / f"{artist}-{self.size}-{key}.npz"

        def draw() -> np.ndarray:
            print(self.credits[artist])
            vectors = tqdm(read_vectors(artist, self.codepoints, self.root), desc=f"draw {artist}", unit="picture")
            return np.stack([render(svg, self.size, scale=1.0).numpy() for svg in vectors])  # (C, 3, S, S)

        return cached(cache, shape, draw)


def _check_size(size: int) -> None:
    _check.count("size", size, least=8)
    if size > 512:
        _check.fail("size", "at most 512 pixels", size)


if __name__ == "__main__":
    try:
        data = EmojiPairs()
    except MissingData as error:
        raise SystemExit(str(error)) from None
    print(f"{len(data):,} pictures of {len(data.concepts):,} concepts, {data.size} x {data.size}, in {data.root}")
