r"""What prototypes bring to CLIP on emoji, and what the controls bring, seed by seed.

Letters: B batch, N pictures, C concepts, D dimensions, K groups, L tokens, v and t unit embeddings of pictures and
labels, h what the heads make of them.

Three artists are trained on, the fourth is kept for the examination; so are a fifth of the concepts. Every arm sees
as many pairs as every other. `python -m minilip.studies.protoclip.emoji` measures what
`measured/protoclip.jsonl` lacks.

Source: Chen et al. 2022 (arXiv 2206.10996), claims and method; test bed, sizes and controls are ours. Lesson 11.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count, product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from scipy.stats import t as student  # comes with scikit-learn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from minilip import _check
from minilip.clip import CLIP
from minilip.data.concepts import SPLITS, read_concepts, split_of
from minilip.data.emoji import ARTISTS, SEEN_ARTISTS, UNSEEN_ARTIST, EmojiPairs
from minilip.data.pretrained import emoji_features, label_embeddings
from minilip.evaluation import accuracy, encode, ranks
from minilip.nn import BagOfWords, ConvNet
from minilip.nn.tokenizer import PAD, UNK, Tokenizer
from minilip.protoclip import Episodes, ProtoCLIP, prototype_loss
from minilip.protoclip.clustering import kmeans
from minilip.studies.store import SHIPPED, fingerprint, recall, stored
from minilip.training import History, fit

STEPS, BATCH, EPISODE, WARMUP = 400, 256, 2048, 1
LOOKS, GROUPS = 16, 4  # at a model in training; every fourth look counts groups too
WIDTH, DIM = 128, 64  # of both towers' features; of the shared space and of the projected one
SEEN, UNSEEN = [ARTISTS.index(a) for a in SEEN_ARTISTS], ARTISTS.index(UNSEEN_ARTIST)
RUNS = {"subgroups": "whole families of subgroups are held out", "random": "concepts are held out by lot"}


class Arm(NamedTuple):
    """What is trained.

    weight: of the prototypes; None is CLIP itself. `external` is the teacher's.
    alone: without the contrastive term and without warm-up, groups from the first step on.
    lot: groups of the right sizes, with members drawn by lot.
    opaque: one meaningless word for each concept in place of its captions.
    gap: both sides of both spaces are moved apart by this much before they are made unit vectors.
    images: "trained" or "untrained" features of EfficientNet-Lite0, or "pixels" for a ConvNet from scratch.
    """

    weight: float | None = None
    external: float = 0.0
    k: int = 48
    temperature: float | None = 0.01
    translate: bool = True
    alone: bool = False
    lot: bool = False
    opaque: bool = False
    gap: float = 0.0
    images: str = "trained"
    steps: int = STEPS
    batch: int = BATCH


# ---- data --------------------------------------------------------------------------------------------------------


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
        return tokens[:, (tokens != PAD).any(dim=0)]  # a bag of words does not mind gaps

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


# ---- models ------------------------------------------------------------------------------------------------------


class Head(nn.Module):
    """What learns on top of frozen features: (B, 1280) -> (B, 128)"""

    def __init__(self) -> None:
        super().__init__()
        self.dim = WIDTH
        self.layers = nn.Sequential(nn.Dropout(0.3), nn.Linear(1280, 256), nn.GELU(), nn.Linear(256, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Alone(ProtoCLIP):
    """Prototypes without pairs: no contrastive term."""

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
        images, tokens, positions = batch
        h = self._embed(images, tokens)[2:]
        y = self.groups["labels"][:, positions]  # (2, B)
        targets = [self._targets(self.groups["centroids"][i], y[i]) for i in (1, 0)]  # each side learns from the other
        sides = zip(h, self.groups["prototypes"], targets, strict=True)
        s = self.prototype_scale.exp().clamp(max=100)
        return torch.stack([prototype_loss(x, c, q, s) for x, c, q in sides]).mean(), {}


class ByLot(ProtoCLIP):
    """The same groups, with members drawn by lot: what the term does without what the groups mean."""

    def episode(self, pairs: Any, generator: torch.Generator, teacher: Tensor | None = None) -> None:
        super().episode(pairs, generator, teacher)
        y = self.groups["labels"]
        self.groups["labels"] = y[:, torch.randperm(y.shape[1], generator=generator)]


class Apart(nn.Module):
    """Unit vectors moved by `gap` along one fixed direction: no weight before it can undo that."""

    def __init__(self, gap: float):
        super().__init__()
        self.gap = gap

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) + self.gap / x.shape[1] ** 0.5  # along (1, ..., 1), a unit vector


def build(arm: Arm, task: Task, seed: int) -> CLIP:
    """The model of an arm; arms with one seed start with the same towers."""
    torch.manual_seed(seed)
    eye = ConvNet() if arm.images == "pixels" else Head()
    parts = (eye, BagOfWords(len(task.tokenizer), WIDTH), task.tokenizer, DIM)
    if arm.weight is None:
        model = CLIP(*parts)
    else:
        kind = Alone if arm.alone else ByLot if arm.lot else ProtoCLIP
        options = {"k": arm.k, "projected": DIM, "weight": arm.weight, "external": arm.external}
        model = kind(*parts, **options, temperature=arm.temperature, translate=arm.translate)  # type: ignore[arg-type]
    if arm.gap:
        for name, part in list(model.named_children()):
            if name.endswith(("_map", "_head")):
                sign = 1 if name.startswith("image") else -1
                setattr(model, name, nn.Sequential(part, Apart(sign * arm.gap)))
    return model


def batches(model: CLIP, arm: Arm, task: Task) -> Callable[[torch.Generator], tuple[Tensor, ...]]:
    """For `fit`: episodes for ProtoCLIP; for CLIP pairs drawn in the same way, with replacement."""
    if isinstance(model, ProtoCLIP):
        teacher = label_embeddings()[task.train].repeat(len(SEEN), 1) if arm.external else None  # (population, 384)
        warmup = 0 if arm.alone else WARMUP
        return Episodes(model, task.pairs, task.population, EPISODE, arm.batch, warmup, teacher)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return task.pairs(torch.randint(task.population, (arm.batch,), generator=generator), generator)

    return draw


def train(arm: Arm, task: Task, seed: int, progress: bool = True) -> tuple[CLIP, History]:
    """One arm with one seed; `watch` of the history is `glance`, sixteen times."""
    model = build(arm, task, seed)
    look = count(1)
    history = fit(
        *(model, batches(model, arm, task), arm.steps),
        seed=seed,
        watch=lambda _: glance(model, task, groups=next(look) % GROUPS == 0),
        every=arm.steps // LOOKS,
        label="CLIP" if arm.weight is None else "ProtoCLIP",
        progress=progress,
    )
    return model, history


# ---- examination -------------------------------------------------------------------------------------------------


class Spaces(NamedTuple):
    features: Tensor  # (N, 128) of the tower
    embedding: Tensor  # (N, D), unit vectors
    projected: Tensor | None  # (N, D), unit vectors; CLIP has none


@torch.no_grad()
def see(model: CLIP, x: Tensor) -> Spaces:
    """Pictures (N, ...) in every space of the model."""
    model.eval()
    return _spaces(encode(model.image_tower, x), model.image_map, getattr(model, "image_head", None))


@torch.no_grad()
def read(model: CLIP, tokens: Tensor) -> Spaces:
    """Labels (N, L) in every space of the model."""
    model.eval()
    return _spaces(encode(model.text_tower, tokens), model.text_map, getattr(model, "text_head", None))


def _spaces(features: Tensor, image_or_text_map: nn.Module, head: nn.Module | None) -> Spaces:
    z = image_or_text_map(features)  # (N, D)
    h = None if head is None else F.normalize(head(z), dim=1)
    return Spaces(features, F.normalize(z, dim=1), h)


def zero_shot(v: Tensor, group: Tensor, t: Tensor, group_of_t: Tensor) -> float:
    """Accuracy of naming the group of pictures v (N, D) by the nearest mean of the labels t (M, D) of a group."""
    w = torch.stack([t[group_of_t == g].mean(dim=0) for g in group_of_t.unique()])  # (groups, D)
    return accuracy(v @ F.normalize(w, dim=1).T, group)


def ridge(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, strength: float = 10.0) -> float:
    """Accuracy of a linear probe in closed form: least squares on one-hot classes, of standardised features."""
    mean, sd = x.mean(dim=0), x.std(dim=0) + 1e-6
    x, x_test = (F.pad((a - mean) / sd, (0, 1), value=1.0) for a in (x, x_test))  # (N, D + 1)
    gram = x.T @ x + strength * torch.eye(x.shape[1])
    weights = torch.linalg.solve(gram, x.T @ F.one_hot(y).float())  # (D + 1, classes)
    return float(((x_test @ weights).argmax(dim=1) == y_test).float().mean())


def probe(x: Tensor, y: Tensor, tests: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """`evaluate.linear_probe`, fitted once and read on several test sets."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x.numpy(), y.numpy())
    return {name: float(model.score(a.numpy(), b.numpy())) for name, (a, b) in tests.items()}


def clusters(v: Tensor, t: Tensor, truth: Tensor, k: int) -> dict[str, float]:
    """How k-means groups of pictures and of their labels agree with the subgroups and with each other. (N, D) twice"""
    generator = torch.Generator().manual_seed(0)
    a, b = (kmeans(x, k, generator)[1].numpy() for x in (v, t))
    y = truth.numpy()
    pairs = {"images, truth": (a, y), "texts, truth": (b, y), "images, texts": (a, b)}
    out = {f"AMI {name}": float(adjusted_mutual_info_score(*two)) for name, two in pairs.items()}
    return out | {f"NMI {name}": float(normalized_mutual_info_score(*two)) for name, two in pairs.items()}


def gap(v: Tensor, t: Tensor) -> float:
    """The distance between the mean of pictures and the mean of their labels: 0 to 2 for unit vectors."""
    return float((v.mean(dim=0) - t.mean(dim=0)).norm())


def glance(model: CLIP, task: Task, groups: bool = True) -> dict[str, float]:
    """What is looked at during training: scores on held-out concepts by seen artists, the modality gap, groups."""
    x, concept = task.pictures(SEEN, task.train)
    held, held_concept = task.pictures(SEEN, task.held)
    a, b = see(model, x), see(model, held)
    labels = read(model, task.labels[task.train])
    y, y_held = task.group[concept], task.group[held_concept]
    out = {
        "zero-shot": zero_shot(b.embedding, y_held, labels.embedding, task.group[task.train]),
        "ridge": ridge(a.features, y, b.features, y_held),
    }
    rows = torch.arange(len(task.train)).repeat(len(SEEN))[::3]  # a third of the pictures: enough to count groups
    for space in ("embedding", "projected"):
        v, t = getattr(a, space), getattr(labels, space)
        if v is not None:
            v, t = v[::3], t[rows]
            found = {"gap": gap(v, t)} | (clusters(v, t, task.subgroup[concept[::3]], 48) if groups else {})
            out |= {f"{name}, {space}": value for name, value in found.items()}
    return out


def examine(model: CLIP, task: Task) -> dict[str, float]:
    """Everything that the lesson says of a trained model."""
    pictures = {
        "train, seen": task.pictures(SEEN, task.train),
        "train, unseen": task.pictures([UNSEEN], task.train),
        "held, seen": task.pictures(SEEN, task.held),
        "held, unseen": task.pictures([UNSEEN], task.held),
    }
    spaces = {name: see(model, x) for name, (x, _) in pictures.items()}
    concept = {name: c for name, (_, c) in pictures.items()}
    labels = read(model, task.labels)
    out: dict[str, float] = {}
    f = {name: each.features for name, each in spaces.items()}
    held = {name: (f[name], task.group[concept[name]]) for name in ("held, seen", "held, unseen")}
    for name, score in probe(f["train, seen"], task.group[concept["train, seen"]], held).items():
        out[f"probe, {name}"] = score
    y = [task.subgroup[concept[name]] for name in ("train, seen", "train, unseen")]
    out["subgroup probe, train, unseen"] = ridge(f["train, seen"], y[0], f["train, unseen"], y[1])
    for space in ("embedding", "projected"):
        t = getattr(labels, space)
        if t is None:
            continue
        named = "" if space == "embedding" else ", projected"
        for name, each in spaces.items():
            v, c = getattr(each, space), concept[name]
            out[f"zero-shot, {name}{named}"] = zero_shot(v, task.group[c], t[task.train], task.group[task.train])
            gallery = task.train if name.startswith("train") else task.held
            rank = ranks(v @ t[gallery].T, torch.searchsorted(gallery, c))
            for k in (1, 10):
                out[f"R@{k}, {name}{named}"] = float((rank <= k).float().mean())
    return out


def majority(y: Tensor, y_test: Tensor) -> float:
    """Accuracy of always naming the class that training has most of."""
    return float((y_test == y.mode().values).float().mean())


def measure(arm: dict[str, Any], split: str, seed: int, part: str = "test") -> dict[str, Any]:
    """Train an arm, `Arm(**arm)`, and examine it.

    Returns:
        what `examine` says; "seconds" of training; "curve": for each number that `glance` saw, and for the seconds, a
        list of [step, value].
    """
    chosen = Arm(**arm)
    task = Task(split, seed, chosen.images, chosen.opaque, part)
    curve: dict[str, list[list[float]]] = {}

    def note(step: int, seen: dict[str, float]) -> None:
        for name, value in seen.items():
            curve.setdefault(name, []).append([step, round(value, 4)])

    note(0, glance(build(chosen, task, seed), task))
    model, history = train(chosen, task, seed)
    for step, seconds, seen in history.watched:
        note(step, {"seconds": seconds, **seen})
    result = {name: round(value, 5) for name, value in examine(model, task).items()}
    return {**result, "seconds": round(history.seconds[-1], 2), "curve": curve}


def anchors(split: str, seed: int, part: str = "test") -> dict[str, Any]:
    """The group probe of what nobody trained here: raw features, random networks, MiniLM on labels, the majority."""
    out: dict[str, Any] = {}
    for images in ("trained", "untrained", "pixels"):
        task = Task(split, seed, images, part=part)
        y = task.group

        def features(artists: Sequence[int], concepts: Tensor, task: Task = task) -> tuple[Tensor, Tensor]:
            x, c = task.pictures(artists, concepts)
            if task.x.dim() > 3:  # a random ConvNet that knows the pictures' mean and variance
                torch.manual_seed(seed)
                tower = ConvNet().train()
                tower(task.pictures(SEEN, task.train)[0][::4])
                x = encode(tower.eval(), x)
            return x, task.group[c]

        tests = {f"held, {name}": features(a, task.held) for name, a in (("seen", SEEN), ("unseen", [UNSEEN]))}
        out[images] = probe(*features(SEEN, task.train), tests)
    words = label_embeddings()
    out["MiniLM"] = probe(words[task.train], y[task.train], {"held": (words[task.held], y[task.held])})
    out["majority"] = majority(y[task.train], y[task.held])
    return out


# ---- what is measured ----------------------------------------------------------------------------------------------

WEIGHT = 4.0  # of prototypes where they are to show what they do; the paper's is 1
ARMS = {
    "CLIP": Arm(),
    "ProtoCLIP": Arm(weight=1.0),
    "ProtoCLIP x4": Arm(weight=WEIGHT),
    "no back translation": Arm(weight=WEIGHT, translate=False),
    "one-hot targets": Arm(weight=WEIGHT, temperature=None),
    "teacher": Arm(weight=1.0, external=1.0),
    "teacher x4": Arm(weight=1.0, external=WEIGHT),
    "opaque, CLIP": Arm(opaque=True),
    "opaque, ProtoCLIP x4": Arm(weight=WEIGHT, opaque=True),
    "prototypes alone": Arm(weight=1.0, alone=True),
    "alone, no back translation": Arm(weight=1.0, alone=True, translate=False),
    "groups by lot": Arm(weight=WEIGHT, lot=True),
    "apart, CLIP": Arm(gap=1.0),
    "apart, ProtoCLIP x4": Arm(weight=WEIGHT, gap=1.0),
    "apart, no back translation": Arm(weight=WEIGHT, gap=1.0, translate=False),
    "untrained, CLIP": Arm(images="untrained"),
    "untrained, ProtoCLIP x4": Arm(weight=WEIGHT, images="untrained"),
    "CLIP, as long": Arm(steps=7 * STEPS // 4),  # about as many seconds as ProtoCLIP takes
    "opaque, teacher x4": Arm(weight=1.0, external=WEIGHT, opaque=True),
    "pixels, CLIP": Arm(images="pixels"),
    "pixels, ProtoCLIP x4": Arm(weight=WEIGHT, images="pixels"),
    "pixels, teacher x4": Arm(weight=1.0, external=WEIGHT, images="pixels"),
}
RANDOM_ONLY = ("groups by lot", "CLIP, as long", "opaque, teacher x4", *(n for n in ARMS if n.startswith(("un", "pi"))))
TASK = fingerprint(Task, Head, _pictures, SEEN, UNSEEN, WIDTH, DIM)
CODE = fingerprint(
    *(
        TASK,
        Alone,
        ByLot,
        Apart,
        build,
        batches,
        train,
        _spaces,
        zero_shot,
        ridge,
        probe,
        clusters,
        gap,
        glance,
        examine,
    ),
    *(measure, EPISODE, WARMUP, LOOKS, GROUPS),
)
CODE_ANCHORS = fingerprint(TASK, probe, anchors, majority)


def seeds(name: str) -> range:
    """Five; three for an arm that learns from pixels."""
    return range(3 if name.startswith("pixels") else 5)


def arms(split: str) -> list[str]:
    """The arms that are measured on a split."""
    return [name for name in ARMS if split == "random" or name not in RANDOM_ONLY]


def settings(name: str, split: str, seed: int) -> dict[str, Any]:
    return {"arm": ARMS[name]._asdict(), "split": split, "seed": seed}


def known() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What has been measured with this code: {split: {name of an arm, or "anchors": [a result for each seed]}}.

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for split in RUNS:
        rows = {name: [settings(name, split, seed) for seed in seeds(name)] for name in arms(split)}
        found[split] = {name: recall("protoclip", row, CODE, __name__) for name, row in rows.items()}
        plain = [{"split": split, "seed": seed} for seed in seeds("anchors")]
        found[split]["anchors"] = recall("protoclip-anchors", plain, CODE_ANCHORS, __name__)
    return found


def compare(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """The mean of a - b over runs with the same seeds, and its 95 % interval by Student's t: (mean, low, high)."""
    if len(a) != len(b) or len(a) < 2:
        _check.fail("a and b", "results of the same two seeds or more", f"{len(a)} and {len(b)}")
    d = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)  # (seeds,)
    mean, half = float(d.mean()), float(d.std() / len(d) ** 0.5 * student.ppf(0.975, len(d) - 1))
    return mean, mean - half, mean + half


def reach(curve: list[list[float]], score: float) -> float:
    """The first step of a curve at which it is at least `score`; infinity if it never is."""
    return next((step for step, value in curve if value >= score), float("inf"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--splits", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, "anchors"], default=[*ARMS, "anchors"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for split, name in product(chosen.splits, chosen.arms):
        for seed in seeds(name) if name == "anchors" or name in arms(split) else ():
            if name == "anchors":
                stored("protoclip-anchors", {"split": split, "seed": seed}, CODE_ANCHORS, anchors, SHIPPED)
            else:
                stored("protoclip", settings(name, split, seed), CODE, measure, SHIPPED)
