r"""Emoji as a test bed: which pictures and captions are trained on, and which are kept for the examination.

Letters: B batch, N pictures, C concepts, K training concepts, H held-out ones, L tokens.

Three artists are trained on, the fourth is kept; so are a fifth of the concepts. Lesson 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip import _check
from minilip.data.concepts import SPLITS, read_concepts, split_of
from minilip.data.emoji import ARTISTS, SEEN_ARTISTS, UNSEEN_ARTIST, EmojiPairs
from minilip.data.pretrained import emoji_features
from minilip.nn.tokenizer import PAD, UNK, Tokenizer

SEEN, UNSEEN = [ARTISTS.index(a) for a in SEEN_ARTISTS], ARTISTS.index(UNSEEN_ARTIST)
RUNS = {"subgroups": "whole families of subgroups are held out", "random": "concepts are held out by lot"}


@lru_cache(maxsize=1)
def _emoji() -> tuple[EmojiPairs, list[str]]:
    data = EmojiPairs()
    return data, split_of(read_concepts(data.root))


@lru_cache(maxsize=4)
def _pictures(images: str, seed: int) -> Tensor:
    if images != "pixels":
        return emoji_features(seed=seed if images == "untrained" else None)  # (4, C, 1280)
    x = F.avg_pool2d(_emoji()[0].images.float() / 255, 2)  # (4 C, 3, 32, 32)
    return x.unflatten(0, (len(ARTISTS), -1))


class Task:
    """Pictures and captions of a split: `pairs` for training, the rest for the examination.

    Args:
        split: "subgroups", where no family of look-alike subgroups is on both sides; "random", where twins may be.
        seed: of the random split and of an untrained network.
        images, opaque: as for `Arm`.
        part: "test"; "val" for choosing settings. They share no concept.

    Attributes:
        x: (4, C, ...) pictures or features of them, artists in the order of ARTISTS.
        train, held: (K,), (H,) concepts.
        group, subgroup: (C,).
        labels: (C, L) tokens; a word that no caption of the training has is left out.
        tokenizer: of the training captions.
        population: pictures that are trained on.
    """

    def __init__(self, split: str, seed: int, images: str = "trained", opaque: bool = False, part: str = "test"):
        _check.choice("split", split, tuple(RUNS))
        _check.choice("images", images, ("trained", "untrained", "pixels"))
        _check.choice("part", part, SPLITS[2:])
        data, parts = _emoji()
        if split == "random":
            order = torch.randperm(len(parts), generator=torch.Generator().manual_seed(seed))
            parts = [parts[i] for i in order]
        self.train, self.held = (torch.tensor([p == name for p in parts]).nonzero()[:, 0] for name in ("train", part))
        self.group, self.subgroup = data.group, data.subgroup
        self.x = _pictures(images, seed if images == "untrained" else 0)
        self.population = len(SEEN) * len(self.train)

        names = [f"concept{c}" for c in range(len(parts))] if opaque else data.labels
        tags = [()] * len(parts) if opaque else data.tags
        known = self.train.tolist()
        self.tokenizer = Tokenizer([names[c] for c in known] + [tag for c in known for tag in tags[c]], length=16)
        self.labels = self._tokens(names)  # (C, L)
        self.count = torch.tensor([len(row) for row in tags])  # (C,)
        most = max(1, int(self.count.max()))
        flat = [tag for row in tags for tag in (*row, *[""] * (most - len(row)))]
        self.tags = self._tokens(flat).unflatten(0, (-1, most))  # (C, most, L)

    def _tokens(self, sentences: list[str]) -> Tensor:
        tokens = self.tokenizer(sentences)
        tokens = tokens.masked_fill(tokens == UNK, PAD)
        return tokens[:, (tokens != PAD).any(dim=0)]  # a bag of words does not mind holes

    def pairs(self, items: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures and captions of items 0 ... population - 1: the label, in half of them a tag with it or two tags."""
        artist, concept = torch.tensor(SEEN)[items // len(self.train)], self.train[items % len(self.train)]  # (B,)
        lot = torch.rand(3, len(items), generator=generator)
        count = self.count[concept]
        kind = (lot[0] * 4).long() * (count > 0)  # 0, 1: label; 2: label and tag; 3: two tags
        first = (lot[1] * count).long()
        second = (first + 1 + (lot[2] * (count - 1)).long()) % count.clamp(min=1)
        parts = [
            self.labels[concept] * (kind < 3)[:, None],
            self.tags[concept, first] * (kind > 1)[:, None],
            self.tags[concept, second] * (kind > 2)[:, None],
        ]
        return self.x[artist, concept], torch.cat(parts, dim=1)

    def pictures(self, artists: Sequence[int], concepts: Tensor) -> tuple[Tensor, Tensor]:
        """All pictures of these concepts by these artists, and the concept of each. -> (N, ...), (N,)"""
        return self.x[list(artists)][:, concepts].flatten(0, 1), concepts.repeat(len(artists))
