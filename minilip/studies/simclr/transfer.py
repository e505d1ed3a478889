r"""The shape of SimCLR's table 8: what unlabelled drawings teach, carried to other tasks; beside labels and nothing.

Letters: B pictures a step, N test examples, D feature dimension.

A small ConvNet is trained on the emoji of the training split by three artists, with one of five starts. Then every set
is examined twice: a linear classifier on frozen h, and the whole network fine-tuned on 1,000 labelled examples of the
set. Test examples are never used for a choice; the learning rate of the fine-tuning (0.001, 0.003 or 0.006) was chosen
on the "val" part of MNIST and of the animals with seed 0, for the random start, and is the same for all.
`python -m minilip.studies.simclr.transfer` measures what `measured/simclr-transfer.jsonl` lacks; `--cifar10` adds the
photographs where torchvision can fetch them.

Source: Chen et al. 2020 (arXiv 2002.05709), table 8 and figure 8; von Kügelgen et al. 2021 for the artists as style;
lesson 03.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check
from minilip.data.emoji import ARTISTS, SEEN_ARTISTS, EmojiPairs
from minilip.data.scenes import Scenes
from minilip.data.transfer import transfer_set
from minilip.evaluation import encode, linear_predictions, retrieval
from minilip.nn import ConvNet
from minilip.nn.augment import simclr_view
from minilip.simclr import SimCLR
from minilip.studies.runs import command
from minilip.studies.store import Study
from minilip.training import finetune, fit

WIDTH, DIM, TEMPERATURE, LR, BATCH, STEPS = 16, 32, 0.2, 3e-3, 96, 250
AREA = (0.2, 1.0)  # of the crops
TUNE_STEPS, TUNE_LR, TUNE_BATCH = 80, 6e-3, 64
EXAMPLES = 1000  # at most, to learn from and to be examined on

STARTS = ("SimCLR", "artists", "log of the mean", "supervised", "random")
TUNED = ("SimCLR", "supervised", "random")
SETS = (
    "scenes, shape",
    "scenes, colour",
    "scenes, place",
    "emoji, group",
    "emoji, artist",
    "digits",
    "mnist",
    "animals",
)


class Task(NamedTuple):
    """A labelled set."""

    x: Tensor  # (N, 3, 32, 32) in [0, 1]
    y: Tensor  # (N,) int64
    x_test: Tensor
    y_test: Tensor


# ---- data --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def drawings(split: str) -> tuple[EmojiPairs, Tensor]:
    """The table and (4, K, 3, 32, 32) pictures in [0, 1], artists in the order of ARTISTS."""
    data = EmojiPairs(split=split)
    return data, F.avg_pool2d(data.images.float() / 255, 2).unflatten(0, (len(ARTISTS), -1))


def _some(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:EXAMPLES]


@lru_cache(maxsize=12)
def task(name: str, part: str = "test") -> Task:
    """A set by its name in SETS, or "cifar10"; part "val" of the packaged ones is for choosing settings.

    Drawings are dark on white, as the emoji are: the packaged sets are inverted.
    """
    kind, _, label = name.partition(", ")
    parts: list[Tensor] = []
    if kind == "scenes":
        world = Scenes(32)
        for seed in (1, 2):
            z = world.sample(EXAMPLES, torch.Generator().manual_seed(seed))
            parts += [world.render(z), {"shape": z.shape[:, 0], "colour": z.colour[:, 0], "place": z.place()}[label]]
    elif kind == "emoji":
        artists = [ARTISTS.index(a) for a in (SEEN_ARTISTS if label == "group" else ARTISTS)]
        for split in ("train", part):
            data, x = drawings(split)
            group = data.group[data.concepts].repeat(len(artists))  # (artists K,)
            artist = torch.arange(len(artists)).repeat_interleave(x.shape[1])
            rows = _some(len(group), 3)
            parts += [x[artists].flatten(0, 1)[rows], (group if label == "group" else artist)[rows]]
    else:
        for split in ("train", part):
            found = transfer_set(name, split)
            rows = _some(len(found.labels), 4)
            images = found.images[rows].float() / 255
            parts += [images if name == "cifar10" else 1 - images, found.labels[rows]]
    return Task(*parts)


# ---- starts ------------------------------------------------------------------------------------------------------


class LogOfMean(SimCLR):
    """-log mean in the place of mean -log: the logarithm of the mean probability of the 2B partners."""

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        z = self.project(torch.cat(batch))  # (2B, D)
        logits = (z @ z.T / self.temperature).fill_diagonal_(-math.inf)  # (2B, 2B)
        partner = torch.arange(len(z), device=z.device).roll(len(batch[0]))
        log_p = logits.log_softmax(dim=1).gather(1, partner[:, None])[:, 0]  # (2B,)
        return math.log(len(z)) - log_p.logsumexp(dim=0), {"mean -log": -log_p.mean()}


class Supervised(nn.Module):
    """The same tower, trained with labels of the same drawings: the subgroups of their concepts."""

    def __init__(self, classes: int):
        super().__init__()
        self.tower = ConvNet(WIDTH)
        self.head = nn.Linear(self.tower.dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.tower(images)  # (B, D)

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return F.cross_entropy(self.head(self(batch[0])), batch[1]), {}


def build(start: str, seed: int) -> nn.Module:
    """A model before training."""
    _check.choice("start", start, STARTS)
    torch.manual_seed(seed)
    if start == "supervised":
        return Supervised(len(drawings("train")[0].subgroup_names))
    return (LogOfMean if start == "log of the mean" else SimCLR)(ConvNet(WIDTH), DIM, temperature=TEMPERATURE)


def train(start: str, seed: int, steps: int = STEPS, progress: bool = True) -> tuple[nn.Module, float, float]:
    """A start with one seed -> the model, its loss over the last 20 steps, the seconds it took."""
    model = build(start, seed)
    if start == "random":
        return model.eval(), math.nan, 0.0
    data, x = drawings("train")
    subgroup = data.subgroup[data.concepts]  # (K,)
    seen = torch.tensor([ARTISTS.index(a) for a in SEEN_ARTISTS])

    def batches(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        concepts = torch.randperm(x.shape[1], generator=generator)[:BATCH]
        first = torch.randint(len(seen), (len(concepts),), generator=generator)
        step = torch.randint(1, len(seen), (len(concepts),), generator=generator) if start == "artists" else 0
        one, two = x[seen[first], concepts], x[seen[(first + step) % len(seen)], concepts]
        if start == "supervised":
            return simclr_view(one, generator, area=AREA), subgroup[concepts]
        return simclr_view(one, generator, area=AREA), simclr_view(two, generator, area=AREA)

    history = fit(model, batches, steps, lr=LR, seed=seed, label=f"{start}, seed {seed}", progress=progress)
    return model, sum(history.loss[-20:]) / len(history.loss[-20:]), history.seconds[-1]


# ---- examination -------------------------------------------------------------------------------------------------


def packed(right: Tensor) -> str:
    """(N,) bool -> hexadecimal digits, four examples a digit."""
    return np.packbits(right.cpu().numpy()).tobytes().hex()


def unpacked(digits: str, n: int) -> np.ndarray:
    """-> (n,) 0 or 1"""
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=n)


def across_artists(model: nn.Module) -> float:
    """R@10 of the same concept by another seen artist among all held-out concepts, by the cosine of h; all six ways."""
    x = drawings("test")[1][[ARTISTS.index(a) for a in SEEN_ARTISTS]]  # (3, K, 3, 32, 32)
    h = [F.normalize(encode(model, each), dim=1) for each in x]
    own = torch.arange(x.shape[1])
    found = [retrieval(a @ b.T, own, at=(10,))["R@10"] for a in h for b in h if a is not b]
    return sum(found) / len(found)


def measure(start: str, seed: int, sets: list[str], steps: int = STEPS, tune_steps: int = TUNE_STEPS) -> dict[str, Any]:
    """Train a start and examine it on each set.

    Returns:
        "n": {set: N}; "linear": {set: which test examples a linear classifier on h gets right, packed}; "linear z": the
        same on z, for SimCLR; "tuned": fine-tuned, for those of TUNED; "across artists": R@10; "loss"; "seconds".
    """
    model, loss, seconds = train(start, seed, steps)
    tower: nn.Module = model.tower  # type: ignore[assignment]
    result: dict[str, Any] = {"n": {}, "linear": {}}
    for name in sets:
        t = task(name)
        result["n"][name] = len(t.y_test)
        spaces: dict[str, Any] = {"linear": tower}
        if start == "SimCLR":
            spaces["linear z"] = model.project
        for kind, f in spaces.items():
            found = linear_predictions(encode(f, t.x), t.y, encode(f, t.x_test), strength=0.1)
            result.setdefault(kind, {})[name] = packed(found == t.y_test)
        if start in TUNED:
            options: dict[str, Any] = {"lr": TUNE_LR, "batch": TUNE_BATCH, "seed": seed, "label": f"{start}, {name}"}
            found = finetune(tower, t.x, t.y, t.x_test, tune_steps, **options)
            result.setdefault("tuned", {})[name] = packed(found == t.y_test)
    result["across artists"] = round(across_artists(tower), 4)
    return {**result, "loss": None if math.isnan(loss) else round(loss, 4), "seconds": round(seconds, 1)}


SEEDS = range(3)
STUDY = Study("simclr-transfer", measure)


def settings(start: str, seed: int, sets: tuple[str, ...] = SETS) -> dict[str, Any]:
    return {"start": start, "seed": seed, "sets": list(sets)}


def known(sets: tuple[str, ...] = SETS) -> dict[str, list[dict[str, Any]]]:
    """What has been measured with this code: {start: [what `measure` returns, for each seed]}.

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    return {start: STUDY.recall([settings(start, seed, sets) for seed in SEEDS]) for start in STARTS}


def hits(runs: list[dict[str, Any]], kind: str, name: str) -> np.ndarray:
    """Which examples of a set were right, by seed: (3, N)"""
    return np.stack([unpacked(run[kind][name], run["n"][name]) for run in runs])


def main() -> None:
    parser = command("simclr.transfer", __doc__)
    parser.add_argument("--starts", nargs="+", metavar="START", choices=STARTS, default=list(STARTS))
    parser.add_argument("--cifar10", action="store_true", help="measure on CIFAR-10 instead of the eight sets")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    sets = ("cifar10",) if chosen.cifar10 else SETS
    STUDY.complete(settings(start, seed, sets) for start in chosen.starts for seed in SEEDS)


if __name__ == "__main__":
    main()
