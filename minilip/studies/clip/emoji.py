r"""Concepts that CLIP never saw: what a text tower brings that can read their names.

Letters: B batch, C concepts, K concepts in a split, P phrases of a concept, L numbers of a phrase, D dimensions.

Three artists are trained on, the fourth is kept for the examination; so are a fifth of the concepts, by whole families
of subgroups. A reader is a way from phrases to vectors: words with a vector each, n-grams of their letters, or MiniLM,
which has read the web and is not trained further (the locked text tower is the mirror image of LiT's locked image
tower).

Settings were chosen on the part "val" with one seed (steps, dropout, a locked or a learned map, stronger augmentation:
R@10 of 0.15 to 0.20 for MiniLM, 0.06 to 0.08 for the others, chance 0.07). All is reported on "test", which shares no
concept with it.
`python -m minilip.studies.clip.emoji` measures what `measured/clip.jsonl` lacks.

Source: Radford et al. 2021 (arXiv 2103.00020); Bojanowski et al. 2017 (arXiv 1607.04606); Zhai et al. 2022
(arXiv 2111.07991); test bed, sizes and controls are ours. Lesson 07.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check
from minilip.clip import CLIP
from minilip.data.concepts import SPLITS, read_concepts, split_of
from minilip.data.emoji import ARTISTS, SEEN_ARTISTS, UNSEEN_ARTIST, EmojiPairs
from minilip.data.pretrained import emoji_features, sentence_embeddings
from minilip.evaluation import encode, ranks
from minilip.nn import BagOfWords, ConvNet
from minilip.nn.augment import move, recolour
from minilip.nn.ngrams import BagOfNGrams, NGrams
from minilip.nn.tokenizer import PAD, UNK, Tokenizer
from minilip.studies.runs import Arms
from minilip.studies.store import Study
from minilip.training import History, fit

STEPS, BATCH, LR, DIM, WIDTH = 500, 192, 3e-3, 64, 128
KEEP = 0.6  # of a concept's phrases in a caption; of none of them, its label
SEEN, UNSEEN = [ARTISTS.index(a) for a in SEEN_ARTISTS], ARTISTS.index(UNSEEN_ARTIST)
READERS = ("words", "n-grams", "MiniLM")
EYES = ("ConvNet", "EfficientNet")


class Arm(NamedTuple):
    """What is trained.

    reader: one of READERS.
    eye: a ConvNet that learns from pixels, or a head on frozen features of EfficientNet-Lite0.
    split: "subgroups", where whole families are held out; "random", where near twins are on both sides.
    """

    reader: str
    eye: str = "ConvNet"
    split: str = "subgroups"
    steps: int = STEPS


# ---- data --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _emoji() -> tuple[EmojiPairs, list[str], list[list[str]]]:
    data = EmojiPairs()
    phrases = [[label, *tags] for label, tags in zip(data.labels, data.tags, strict=True)]
    return data, split_of(read_concepts(data.root)), phrases


@lru_cache(maxsize=2)
def _pictures(eye: str) -> Tensor:
    if eye == "EfficientNet":
        return emoji_features()  # (4, C, 1280)
    return F.avg_pool2d(_emoji()[0].images.float() / 255, 2).unflatten(0, (len(ARTISTS), -1))  # (4, C, 3, 32, 32)


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, int], Tensor]:
    """The number of each phrase from 1 on, and what MiniLM makes of it, 0 for [PAD]. -> {phrase: i}, (1 + all, 384)"""
    phrases = sorted({phrase for row in _emoji()[2] for phrase in row})
    return {phrase: i + 1 for i, phrase in enumerate(phrases)}, F.pad(sentence_embeddings(phrases), (0, 0, 1, 0))


class Task:
    """Pictures and captions of a split.

    Args:
        arm: what is trained; seed: of the random split.
        part: "test"; "val" for choosing settings.

    Attributes:
        x: (4, C, ...) pictures or features of them, artists in the order of ARTISTS.
        train, held: (K,) concepts.
        phrases: (C, P, L) numbers for the reader: of the label, then of each tag.
        vocabulary: of the reader.
    """

    def __init__(self, arm: Arm, seed: int = 0, part: str = "test"):
        _check.choice("reader", arm.reader, READERS)
        _check.choice("eye", arm.eye, EYES)
        _check.choice("split", arm.split, ("subgroups", "random"))
        _check.choice("part", part, SPLITS[2:])
        _, parts, phrases = _emoji()
        if arm.split == "random":
            order = torch.randperm(len(parts), generator=torch.Generator().manual_seed(seed))
            parts = [parts[i] for i in order]
        self.train, self.held = (torch.tensor([p == name for p in parts]).nonzero()[:, 0] for name in ("train", part))
        self.x = _pictures(arm.eye)
        most = max(map(len, phrases))
        flat = [phrase for row in phrases for phrase in (*row, *[""] * (most - len(row)))]
        if arm.reader == "MiniLM":
            numbers, table = _table()
            tokens, self.vocabulary = torch.tensor([[numbers.get(phrase, PAD)] for phrase in flat]), len(table)
        elif arm.reader == "n-grams":
            tokenize = NGrams()
            tokens, self.vocabulary = tokenize(flat), len(tokenize)
        else:
            words = Tokenizer([phrase for c in self.train.tolist() for phrase in phrases[c]])
            tokens, self.vocabulary = words(flat), len(words)
            tokens = tokens.masked_fill(tokens == UNK, PAD)  # a word that training lacks is left out
        self.phrases = tokens.unflatten(0, (-1, most))  # (C, P, L)

    def captions(self, concepts: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Label and tags of concepts (B,), in training each with probability KEEP. -> (B, P L)"""
        tokens = self.phrases[concepts]  # (B, P, L)
        if generator is not None:
            said = torch.rand(tokens.shape[:2], generator=generator) < KEEP
            said &= (tokens != PAD).any(dim=2)  # (B, P)
            said[:, 0] |= ~said.any(dim=1)
            tokens = tokens * said[..., None]
        tokens = tokens.flatten(1)
        return tokens[:, (tokens != PAD).any(dim=0)]  # a bag does not mind gaps

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """BATCH different concepts, each by one of the artists of the training, and their captions."""
        concepts = self.train[torch.randperm(len(self.train), generator=generator)[:BATCH]]
        artists = torch.tensor(SEEN)[torch.randint(len(SEEN), (len(concepts),), generator=generator)]
        x = self.x[artists, concepts]  # (B, ...)
        if x.dim() == 4:
            x = recolour(move(x, generator), generator)
        return x, self.captions(concepts, generator)


# ---- models ------------------------------------------------------------------------------------------------------


class Locked(nn.Module):
    """The mean of frozen vectors, with dropout: what MiniLM makes of a caption's phrases. (B, L) -> (B, 384)"""

    table: Tensor

    def __init__(self, table: Tensor):
        super().__init__()
        self.dim, self.dropout = table.shape[1], nn.Dropout(0.3)
        self.register_buffer("table", table, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        real = (tokens != PAD).unsqueeze(-1)  # (B, L, 1)
        return self.dropout((self.table[tokens] * real).sum(dim=1) / real.sum(dim=1).clamp(min=1))


class Head(nn.Module):
    """What learns on top of frozen features: (B, 1280) -> (B, 128)"""

    def __init__(self) -> None:
        super().__init__()
        self.dim = WIDTH
        self.layers = nn.Sequential(nn.Dropout(0.3), nn.Linear(1280, 256), nn.GELU(), nn.Linear(256, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def build(arm: Arm, task: Task, seed: int) -> CLIP:
    """The model of an arm."""
    torch.manual_seed(seed)
    if arm.reader == "MiniLM":
        reader: nn.Module = Locked(_table()[1])
    else:
        reader = (BagOfNGrams if arm.reader == "n-grams" else BagOfWords)(task.vocabulary, WIDTH)
    return CLIP(Head() if arm.eye == "EfficientNet" else ConvNet(), reader, None, DIM)  # type: ignore[arg-type]


def train(
    arm: Arm, task: Task, seed: int, watch: Callable[[nn.Module], Any] | None = None, progress: bool = True
) -> tuple[CLIP, History]:
    """One arm with one seed."""
    model = build(arm, task, seed)
    options = {"lr": LR, "seed": seed, "watch": watch, "label": f"{arm.reader}, seed {seed}", "progress": progress}
    return model, fit(model, task.batch, arm.steps, **options)  # type: ignore[arg-type]


# ---- examination -------------------------------------------------------------------------------------------------


@torch.no_grad()
def examine(model: CLIP, task: Task, concepts: Tensor, artist: int) -> list[int]:
    """The rank of each drawing's own caption, label and tags in full, among those of all these concepts. (K,)"""
    model.eval()
    t = encode(lambda c: model.encode_text(task.captions(c)), concepts)  # (K, D)
    v = encode(model.encode_image, task.x[artist, concepts])  # (K, D)
    return ranks(v @ t.T, torch.arange(len(t))).tolist()


def measure(arm: dict[str, Any], seed: int, part: str = "test") -> dict[str, Any]:
    """Train an arm, `Arm(**arm)`, and examine it.

    Returns:
        "held": {artist: ranks of the K held-out concepts}; "train": the same, but only recall at 10; "loss" of the last
        20 steps in nats; "seconds" of training.
    """
    chosen = Arm(**arm)
    task = Task(chosen, seed, part)
    model, history = train(chosen, task, seed)
    known = {a: torch.tensor(examine(model, task, task.train, i)) for i, a in enumerate(ARTISTS)}
    return {
        "held": {artist: examine(model, task, task.held, i) for i, artist in enumerate(ARTISTS)},
        "train": {artist: round(float((r <= 10).float().mean()), 4) for artist, r in known.items()},
        "loss": round(sum(history.loss[-20:]) / len(history.loss[-20:]), 4),
        "seconds": round(history.seconds[-1], 1),
    }


# ---- what is measured --------------------------------------------------------------------------------------------

ARMS = {
    "words": Arm("words"),
    "n-grams": Arm("n-grams"),
    "MiniLM": Arm("MiniLM"),
    "words, trained eye": Arm("words", "EfficientNet", steps=STEPS // 2),
    "MiniLM, trained eye": Arm("MiniLM", "EfficientNet", steps=STEPS // 2),
    "MiniLM, twins leak": Arm("MiniLM", split="random"),
}
SEEDS = range(3)
STUDY = Study("clip", measure)
RUNS = Arms(STUDY, ARMS, SEEDS)
settings, known = RUNS.settings, RUNS.known


def main() -> None:
    RUNS.complete("clip.emoji", __doc__)


if __name__ == "__main__":
    main()
