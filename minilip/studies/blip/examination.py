"""What each of the three roles knows of fresh scenes: captions, matching of hard foils, retrieval.

Letters: N scenes, Q = G of them in a gallery.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from minilip.blip import BLIP, match_score, match_table, rerank
from minilip.data.reading import agreement
from minilip.evaluation import encode, ranks
from minilip.nn.modes import evaluating
from minilip.studies.blip.task import SEEDS, WORLD, captions, code, foils, true_of

SCENES, GALLERY, RERANKED, TOP_P = 1000, 256, 16, 0.9
SAID = ("colour", "shape", "relation", "all")


def scenes(part: str, n: int = SCENES) -> tuple[Any, Tensor]:
    """Latents and pictures of a part, "val" or "test"."""
    latents = WORLD.sample(n, torch.Generator().manual_seed(SEEDS[part]))
    return latents, WORLD.render(latents)


def describes(model: BLIP, part: str, n: int = SCENES) -> dict[str, dict[str, float]]:
    """The share of captions in which colour and shape of both objects, the relation, and all of it are right."""
    latents, images = scenes(part, n)
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, written in (("greedy", model.caption(images)), ("nucleus", model.caption(images, TOP_P, generator))):
        right = agreement(written, latents)
        found[name] = {what: round(float(right[what].float().mean()), 4) for what in SAID}
        found[name]["different"] = len(set(written))
    return found


def matches(model: BLIP, part: str, n: int = SCENES) -> dict[str, float]:
    """AUROC of the matcher alone, true captions against foils of one kind; 0.5 is a coin."""
    latents, images = scenes(part, n)
    tokens = model.tokenizer(captions(latents))
    right = match_score(model, images, tokens)  # (N,)
    found = {}
    for name, (index, said) in foils(latents, torch.Generator().manual_seed(1)).items():
        wrong = match_score(model, images[index], model.tokenizer(captions(said)))  # (M,)
        labels = torch.cat([torch.ones(len(right)), torch.zeros(len(wrong))])
        found[name] = round(float(roc_auc_score(labels, torch.cat([right, wrong]))), 4)
    return found


def contrasts(model: BLIP, part: str, n: int = SCENES) -> dict[str, float]:
    """The same of the cosine alone."""
    latents, images = scenes(part, n)
    with evaluating(model):
        v = encode(model.encode_image, images)  # (N, E)
        t = encode(model.encode_text, model.tokenizer(captions(latents)))
        found = {}
        for name, (index, said) in foils(latents, torch.Generator().manual_seed(1)).items():
            wrong = (v[index] * encode(model.encode_text, model.tokenizer(captions(said)))).sum(dim=1)
            right = (v * t).sum(dim=1)
            labels = torch.cat([torch.ones(len(right)), torch.zeros(len(wrong))])
            found[name] = round(float(roc_auc_score(labels, torch.cat([right, wrong]))), 4)
    return found


def finds(model: BLIP, part: str, n: int = GALLERY) -> dict[str, dict[str, list[int]]]:
    """Ranks of the first true caption of each picture, and of the first picture of each caption, by each way to score.

    Every caption that is true of a picture counts as right. The gallery holds each caption once.
    """
    latents, images = scenes(part, 2 * n)
    first = dict(reversed(list(enumerate(code(latents).tolist()))))  # {scene: code}
    index = torch.tensor(sorted({c: i for i, c in first.items()}.values())[:n])  # the first scene of each caption
    latents, images = latents[index], images[index]
    tokens, true = model.tokenizer(captions(latents)), true_of(latents, latents)
    with evaluating(model):
        cosine = encode(model.encode_image, images) @ encode(model.encode_text, tokens).T  # (Q, G)
    tables = {"ITC": (cosine, cosine.T)}
    if model.weights[1]:
        matching = match_table(model, images, tokens)  # (Q, G)
        tables["ITM"] = (matching, matching.T)
        tables["ITM re-ranks ITC"] = (rerank(cosine, matching, RERANKED), rerank(cosine.T, matching.T, RERANKED))
    return {
        name: {"captions": ranks(a, true).tolist(), "pictures": ranks(b, true.T).tolist()}
        for name, (a, b) in tables.items()
    }


def examine(model: BLIP, part: str, n: int = SCENES, gallery: int = GALLERY) -> dict[str, Any]:
    """All that the model was trained for; what it was not trained for is left out."""
    found: dict[str, Any] = {"found": finds(model, part, gallery), "cosine": contrasts(model, part, n)}
    if model.weights[1]:
        found["matched"] = matches(model, part, n)
    if model.weights[2]:
        found["said"] = describes(model, part, n)
    return found
