r"""What a trained model of lesson 11 is asked.

Letters: N pictures, M labels, D dimensions, v and t unit embeddings of pictures and labels.
"""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from minilip.clip import CLIP
from minilip.evaluation import accuracy, encode, ranks
from minilip.nn.modes import evaluating
from minilip.protoclip import ProtoCLIP
from minilip.protoclip.clustering import kmeans
from minilip.studies.protoclip.task import SEEN, UNSEEN, Task

# What `examine` returns, shares of 1: of concepts that were trained on or held out, drawn by artists seen or unseen.
# Probe and zero-shot name the group, one of 9; recall is of the own label among all labels of the same part. The scores
# of the projected space are those of a model that has one.
Scores = TypedDict(
    "Scores",
    {
        "probe, held, seen": float,
        "probe, held, unseen": float,
        "subgroup probe, train, unseen": float,
        "zero-shot, train, seen": float,
        "R@1, train, seen": float,
        "R@10, train, seen": float,
        "zero-shot, train, unseen": float,
        "R@1, train, unseen": float,
        "R@10, train, unseen": float,
        "zero-shot, held, seen": float,
        "R@1, held, seen": float,
        "R@10, held, seen": float,
        "zero-shot, held, unseen": float,
        "R@1, held, unseen": float,
        "R@10, held, unseen": float,
        "zero-shot, train, seen, projected": float,
        "R@1, train, seen, projected": float,
        "R@10, train, seen, projected": float,
        "zero-shot, train, unseen, projected": float,
        "R@1, train, unseen, projected": float,
        "R@10, train, unseen, projected": float,
        "zero-shot, held, seen, projected": float,
        "R@1, held, seen, projected": float,
        "R@10, held, seen, projected": float,
        "zero-shot, held, unseen, projected": float,
        "R@1, held, unseen, projected": float,
        "R@10, held, unseen, projected": float,
    },
    total=False,
)


class Spaces(NamedTuple):
    features: Tensor  # (N, 128) of the tower
    embedding: Tensor  # (N, D), unit vectors
    projected: Tensor | None  # (N, D), unit vectors; CLIP has none


@torch.no_grad()
def see(model: CLIP, x: Tensor) -> Spaces:
    """Pictures (N, ...) in every space of the model."""
    head = model.image_head if isinstance(model, ProtoCLIP) else None
    with evaluating(model):
        return _spaces(encode(model.image_tower, x), model.image_map, head)


@torch.no_grad()
def read(model: CLIP, tokens: Tensor) -> Spaces:
    """Labels (N, L) in every space of the model."""
    head = model.text_head if isinstance(model, ProtoCLIP) else None
    with evaluating(model):
        return _spaces(encode(model.text_tower, tokens), model.text_map, head)


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


def modality_gap(v: Tensor, t: Tensor) -> float:
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
            found = {"gap": modality_gap(v, t)} | (clusters(v, t, task.subgroup[concept[::3]], 48) if groups else {})
            out |= {f"{name}, {space}": value for name, value in found.items()}
    return out


def examine(model: CLIP, task: Task) -> dict[str, float]:
    """Everything that the lesson says of a trained model: `Scores`."""
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
