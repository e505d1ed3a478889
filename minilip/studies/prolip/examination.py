"""What a trained model of lesson 12 knows of ambiguity: of captions, of pictures, of what is inside what.

Letters as in `generality`; D embedding dimension, S summed variance, P pairs, W pictures.
Source: after Chun et al. 2025 (arXiv 2410.18857), on scenes whose ambiguity is known; lesson 12.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor

from minilip.clip import CLIP
from minilip.data.scenes import Latents, Scenes
from minilip.prolip import ProLIP
from minilip.prolip.inclusion import contains, inclusion, inclusion_difference
from minilip.prolip.uncertainty import (
    gallery_scores,
    partial_spearman,
    uncertainty,
)
from minilip.studies.prolip.generality import KINDS, Captions, boxes, codes_of, discs, hidden

CLEAN = Scenes()
Gaussians = tuple[Tensor, Tensor]  # means (B, D), log-variances (B, D)


def gaussians(model: CLIP | ProLIP, inputs: Tensor) -> Gaussians:
    """Of pictures (W, 3, H, W) or tokens (C, L); a model without variances gets zeros. -> (., D), (., D)"""
    kind = "text" if inputs.dim() == 2 else "image"
    parts = []
    with torch.no_grad():
        for x in inputs.split(512):
            if isinstance(model, ProLIP):
                parts.append(getattr(model, f"{kind}_gaussian")(x))
            else:
                mu = getattr(model, f"encode_{kind}")(x)
                parts.append((mu, torch.zeros_like(mu)))
    mu, logvar = zip(*parts, strict=True)
    return torch.cat(mu), torch.cat(logvar)


def rank_correlation(x: Tensor, y: Tensor) -> float:
    return float(spearmanr(x.cpu().numpy(), y.cpu().numpy())[0])


def percentiles(s: Tensor, groups: Tensor) -> dict[str, float]:
    """Mean percentile, 0 to 1, of S in each group. (B,), (B,) -> {group: percentile}"""
    rank = s.argsort().argsort().double() / (len(s) - 1)  # (B,)
    return {f"{g:g}": round(float(rank[groups == g].mean()), 4) for g in groups.unique().tolist()}


# ---- what is named, and what is seen ---------------------------------------------------------------------------------


def zero_shot(model: CLIP | ProLIP, captions: Captions, count: int = 8192) -> dict[str, float]:
    """Clean pictures, 576 captions that name everything: all attributes right, and each."""
    z = CLEAN.sample(count, torch.Generator().manual_seed(99))
    truth = codes_of(z)  # (W, A)
    v, (mu, logvar) = gaussians(model, CLEAN.render(z))[0], gaussians(model, captions.tokens[captions.full])
    named = captions.codes[captions.full]  # (576, A)
    out = {}
    for name, scores in {"accuracy": v @ mu.T, "accuracy by distance": gallery_scores(v, mu, logvar)}.items():
        right = named[scores.argmax(dim=1)] == truth  # (W, A)
        out[name] = float(right.all(dim=1).double().mean())
    return out


def generality(model: ProLIP, captions: Captions) -> dict[str, Any]:
    """Does the variance of a caption follow the number of scenes that it fits? Of all, and of those never seen."""
    s, n, words = uncertainty(gaussians(model, captions.tokens)[1]), captions.fits, captions.words  # (C,) each
    named = (captions.codes > 0).sum(dim=1)  # (C,)
    out: dict[str, Any] = {"length": rank_correlation(s, -words), "attributes": rank_correlation(s, -named)}
    for name, rows in {"all": torch.ones_like(captions.held), "held": captions.held}.items():
        out[name] = rank_correlation(s[rows], n[rows])
        out[f"{name}, given length"] = partial_spearman(s[rows], n[rows], words[rows])
        given = torch.stack([words, named], dim=1)  # (C, 2)
        out[f"{name}, given length and attributes"] = partial_spearman(s[rows], n[rows], given[rows])
    out["at one length"] = {
        str(w): rank_correlation(s[words == w], n[words == w])
        for w in words.unique().tolist()
        if (words == w).sum() > 60
    }
    return out | {"by scenes": percentiles(s, n)}


def spoilt(count: int, kind: str, seed: int) -> tuple[Latents, Tensor, Tensor]:
    """Scenes of which something is hidden or blurred, a fifth of them not. -> latents, pictures, how much (W,)

    Kinds: "box" of any colour, as in the masked copies; "square", grey, as in the pictures trained on; "disc", black
    and white and round, as nothing in training; "blur". How much is the hidden share of the object, or the width of the
    blur.
    """
    generator = torch.Generator().manual_seed(seed)
    z = CLEAN.sample(count, generator)
    clean = CLEAN.render(z)
    amount = torch.rand(count, generator=generator) * (torch.rand(count, generator=generator) < 0.8)  # (W,)
    if kind == "blur":
        z = z.with_(blur=0.4 * amount)
        return z, CLEAN.render(z), 0.4 * amount
    centre = z.position[:, 0] + 0.5 * (torch.rand(count, 2, generator=generator) - 0.5)  # (W, 2)
    if kind == "box":
        covered = torch.where((amount > 0)[:, None, None, None], boxes(clean, generator), clean)
    elif kind == "square":
        covered = CLEAN.render(z.with_(occluder=torch.cat([centre, 0.7 * amount[:, None]], dim=1)))
    else:
        covered = discs(clean, centre, 0.7 * amount)
    return z, covered, hidden(z, clean, covered)


def pictures(model: ProLIP, count: int = 2000) -> dict[str, Any]:
    """Does the variance of a picture follow how much of its object is hidden, or how blurred it is?"""
    out: dict[str, Any] = {}
    for kind in ("box", "square", "disc", "blur"):
        _, images, amount = spoilt(count, kind, seed=5)
        s = uncertainty(gaussians(model, images)[1])  # (W,)
        step = 0.08 if kind == "blur" else 0.2
        groups = torch.where(amount > 0, ((amount / step).ceil() * step).clamp(max=5 * step), 0).round(decimals=2)
        out[kind] = {"rho": rank_correlation(s, amount), "percentiles": percentiles(s, groups)}
    return out


# ---- what is inside what ---------------------------------------------------------------------------------------------


def pairs(captions: Captions, count: int, seed: int, held: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Captions, more general ones that hold them, and as general ones with one value wrong. -> (P,) rows each

    The first or the second of a pair was held out of training, or where not `held`, neither.
    """
    generator = torch.Generator().manual_seed(seed)
    specific = captions.codes[torch.randint(len(captions.codes), (count,), generator=generator)]  # (P, A)
    general = specific * (torch.rand(specific.shape, generator=generator) < 0.5)
    named = general > 0
    changed = (torch.rand(general.shape, generator=generator) * named).argmax(dim=1)  # (P,)
    rows = torch.arange(count)
    other = 1 + (torch.rand(count, generator=generator) * (KINDS[changed] - 1)).long()  # 1 ... kinds - 1
    wrong = general.clone()
    wrong[rows, changed] = (general[rows, changed] - 1 + other) % KINDS[changed] + 1
    a, b, c = captions.row(specific), captions.row(general), captions.row(wrong)
    keep = (a != b) & named.any(dim=1) & ((captions.held[a] | captions.held[b]) == held)
    return a[keep], b[keep], c[keep]


def inclusion_tests(model: ProLIP, captions: Captions, count: int = 8000) -> dict[str, Any]:
    """AUROC of true pairs against reversed ones, and against those with one value wrong, by several scores.

    "calibrated" asks two questions in turn. Is the second the wider one? If so: are the two as near as captions of such
    widths are when one holds the other? How near that is, a line in both variances says, fitted to pairs that training
    made by masking. If not, the pair is behind all that pass.
    """
    mu, logvar = gaussians(model, captions.tokens)
    s = uncertainty(logvar)  # (C,)
    a, b, c = pairs(captions, count, seed=5)

    def g(rows: Tensor) -> Gaussians:
        return mu[rows], logvar[rows]

    def cosine(x: Tensor, y: Tensor) -> Tensor:
        return (mu[x] * mu[y]).sum(dim=1)

    def difference(x: Tensor, y: Tensor) -> Tensor:
        return inclusion_difference(*g(x), *g(y))

    def design(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([torch.ones_like(s[x]), s[x], s[y]], dim=1).double()  # (P, 3)

    x, y, _ = pairs(captions, count, seed=6, held=False)
    line = torch.linalg.lstsq(design(x, y), cosine(x, y)[:, None].double()).solution[:, 0]  # (3,)

    def calibrated(x: Tensor, y: Tensor) -> Tensor:
        nearer = cosine(x, y) - design(x, y) @ line
        return torch.where(difference(x, y) > 0, nearer, -3.0)

    kinds = ((a, b), (b, a), (a, c))  # true, reversed, one value wrong
    scores = {
        "difference": [difference(*k) for k in kinds],
        "overlap": [inclusion(*g(x), *g(y)) for x, y in kinds],
        "cosine": [cosine(*k) for k in kinds],
        "variances": [s[y] - s[x] for x, y in kinds],
        "contains": [contains(*g(x), *g(y)) for x, y in kinds],
        "calibrated": [calibrated(*k) for k in kinds],
    }
    parts = [torch.cat(scores[k]) for k in ("difference", "overlap")]
    together = torch.stack([(p - p.mean()) / p.std() for p in parts]).sum(dim=0)
    scores["difference + overlap"] = list(together.split(len(a)))
    return {
        name: {"reversed": auroc(true, turned), "one wrong": auroc(true, wrong)}
        for name, (true, turned, wrong) in scores.items()
    } | {"pairs": len(a)}


def auroc(positive: Tensor, negative: Tensor) -> float:
    labels = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    return float(roc_auc_score(labels, torch.cat([positive, negative]).cpu().numpy()))
