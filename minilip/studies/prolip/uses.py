"""What the uncertainty of a trained model of lesson 12 is good for: to hold back, to find, to weigh prompts, to walk.

Letters as in `generality`; D embedding dimension, W pictures, Q queries, G gallery items, R matches of a query.
Source: after Chun et al. 2025 (arXiv 2410.18857), on scenes whose ambiguity is known; lesson 12.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from minilip.clip import CLIP
from minilip.evaluation import aurc, risk_coverage
from minilip.prolip import ProLIP, reparametrise
from minilip.prolip.inclusion import inclusion
from minilip.prolip.uncertainty import gallery_scores, prompt_weights, reweighted_class, traverse, uncertainty
from minilip.studies.prolip.examination import CLEAN, auroc, gaussians, rank_correlation, spoilt
from minilip.studies.prolip.generality import KINDS, Captions, codes_of


def confidences(model: CLIP | ProLIP, captions: Captions, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Spoilt pictures, named among 576 captions: several confidences, larger is surer, and what is right. (W,) each"""
    mixed = [spoilt(2000, kind, seed) for kind in ("square", "disc", "blur")]
    v, logvar = gaussians(model, torch.cat([images for _, images, _ in mixed]))  # (W, D) each
    t, t_logvar = gaussians(model, captions.tokens[captions.full])  # (576, D)
    truth = torch.cat([codes_of(z) for z, _, _ in mixed])  # (W, A)
    with torch.no_grad():
        s = float(model.logit_scale.exp())
    cosines = v @ t.T  # (W, 576)
    right = (captions.codes[captions.full][cosines.argmax(dim=1)] == truth).all(dim=1)
    best = cosines.topk(2, dim=1).values  # (W, 2)
    out = {
        "max softmax": (s * cosines).softmax(dim=1).amax(dim=1),
        "margin": best[:, 0] - best[:, 1],
        "cosine": best[:, 0],
    }
    if isinstance(model, ProLIP):
        out["variance"] = -uncertainty(logvar)
        out["pair probability"] = gallery_scores(v, t, t_logvar).amax(dim=1) - uncertainty(logvar) / 2
        generator = torch.Generator().manual_seed(seed)
        drawn = [(s * reparametrise(v, logvar, generator) @ t.T).softmax(dim=1) for _ in range(8)]
        out["softmax of samples"] = torch.stack(drawn).mean(dim=0).amax(dim=1)
    return out, right


def selective(model: CLIP | ProLIP, captions: Captions) -> dict[str, Any]:
    """Who knows when not to answer? Risk at every coverage; "both" is max softmax and variance, weighed on others."""
    scores, right = confidences(model, captions, seed=5)
    if "variance" in scores:
        learned, was_right = confidences(model, captions, seed=6)

        def features(c: dict[str, Tensor]) -> np.ndarray:
            return torch.stack([c["max softmax"].logit(eps=1e-6), c["variance"]], dim=1).double().numpy()  # (W, 2)

        weigh = make_pipeline(StandardScaler(), LogisticRegression()).fit(features(learned), was_right.numpy())
        scores["both"] = torch.from_numpy(weigh.decision_function(features(scores)))
    noise = torch.rand(len(right), generator=torch.Generator().manual_seed(0))
    scores |= {"random": noise, "oracle": right.double()}
    out: dict[str, Any] = {"error": float((~right).double().mean()), "aurc": {}, "errors": {}, "risk": {}}
    for name, confidence in scores.items():
        out["aurc"][name] = aurc(confidence, right)
        out["errors"][name] = auroc(confidence[right], confidence[~right])
        risk = risk_coverage(confidence, right)[1]
        at = (torch.linspace(0.05, 1, 20) * len(risk)).long() - 1
        out["risk"][name] = [round(float(r), 4) for r in risk[at]]
    if "variance" in scores:
        order = scores["variance"].argsort(descending=True)  # surest first
        out["tenths"] = [round(float(part.double().mean()), 4) for part in right[order].chunk(10)]
        out["tenths, correlation"] = float(np.corrcoef(range(10), out["tenths"])[0, 1])
    return out


def retrieval(model: CLIP | ProLIP, captions: Captions, count: int = 2000) -> dict[str, float]:
    """Of as many items as match, the share that does: pictures find captions, captions find pictures.

    By cosine, and less half of the variance of what is found.
    """
    z = CLEAN.sample(count, torch.Generator().manual_seed(7))
    v, v_logvar = gaussians(model, CLEAN.render(z))
    t, t_logvar = gaussians(model, captions.tokens)
    codes = captions.codes
    match = ((codes == 0) | (codes == codes_of(z)[:, None])).all(dim=2)  # (W, C)
    out = {"to captions": precision(v @ t.T, match), "to pictures": precision(t @ v.T, match.T)}
    if isinstance(model, ProLIP):
        out["to captions, by distance"] = precision(gallery_scores(v, t, t_logvar), match)
        out["to pictures, by distance"] = precision(gallery_scores(t, v, v_logvar), match.T)
    return out


def precision(scores: Tensor, match: Tensor) -> float:
    """Mean over queries of the share of matches among the first R, R their number; queries with R = 0 left out."""
    ordered = match.gather(1, scores.argsort(dim=1, descending=True))  # (Q, G)
    r = match.sum(dim=1)  # (Q,)
    first = torch.arange(match.shape[1]) < r[:, None]
    return float(((ordered & first).sum(dim=1) / r)[r > 0].double().mean())


def prompts(model: CLIP | ProLIP, captions: Captions, strangers: int, shots: int = 5) -> dict[str, float]:
    """A camera that looks at one corner on one background: which prompts of a class are to be trusted?

    48 classes of size, colour and shape. Each has 6 prompts, drawn from the 20 that name or leave out a place and a
    background, so that most say something untrue of these pictures; the last `strangers` of them are of another class.
    Accuracy, averaged over 12 cameras.
    """
    t, t_logvar = gaussians(model, captions.tokens)
    classes = torch.cartesian_prod(*(torch.arange(k) + 1 for k in KINDS[:3].tolist()))  # (48, 3)
    around = torch.cartesian_prod(*(torch.arange(k + 1) for k in KINDS[3:].tolist()))  # (20, 2)
    codes = torch.cat([classes.repeat_interleave(20, dim=0), around.repeat(48, 1)], dim=1)  # (960, A)
    rows = captions.row(codes).view(48, 20)
    generator = torch.Generator().manual_seed(9)
    z = CLEAN.sample(24_000, generator)
    v_all, logvar_all = gaussians(model, CLEAN.render(z))
    labels_all = (codes_of(z)[:, None, :3] == classes).all(dim=2).long().argmax(dim=1)  # (W,)
    found: dict[str, list[float]] = {}
    for place, ground in torch.cartesian_prod(torch.arange(4), torch.arange(3)).tolist():
        seen = ((z.place() == place) & (z.background == ground)).nonzero()[:, 0]
        v, logvar, labels = v_all[seen], logvar_all[seen], labels_all[seen]
        half = len(v) // 2  # to learn the weights from, and to be tested on
        own = rows.gather(1, torch.rand(48, 20, generator=generator).argsort(dim=1)[:, :6])  # (48, 6)
        own = torch.cat([own[:, strangers:], own[:, :strangers].roll(7, dims=0)], dim=1)
        means = {"uniform": t[own].mean(dim=1), "bare prompt": t[rows[:, 0]]}  # (48, D) each
        for name in ("labelled", "nearest") if isinstance(model, ProLIP) else ():
            weighed = []
            for k, r in enumerate(own):
                mine = (labels[:half] == k).nonzero()[:shots, 0]
                near = (v[:half] @ means["uniform"][k]).topk(shots).indices
                chosen = (mine if name == "labelled" else near).repeat(20)
                samples = reparametrise(v[chosen], logvar[chosen], generator)
                weights, _ = prompt_weights(t[r], t_logvar[r], samples)
                weighed.append(reweighted_class(t[r], t_logvar[r], weights)[0])
            means[name] = torch.stack(weighed)
        for name, w in means.items():
            named = (v[half:] @ F.normalize(w, dim=1).T).argmax(dim=1)
            found.setdefault(name, []).append(float((named == labels[half:]).double().mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def traversal(model: CLIP | ProLIP, captions: Captions, count: int = 200) -> dict[str, Any]:
    """From a picture's nearest full caption towards the root: what is met on the way, and is it true of the picture?

    The root is "a shape", or what holds the most pictures by `inclusion`. Levels are the numbers of attributes named.
    """
    z = CLEAN.sample(count, torch.Generator().manual_seed(8))
    v, logvar = gaussians(model, CLEAN.render(z))
    t, t_logvar = gaussians(model, captions.tokens)
    truth, codes = codes_of(z), captions.codes
    roots = {"a shape": t[0]}
    if isinstance(model, ProLIP):
        held = torch.stack(
            [inclusion(v, logvar, *(x[c].expand_as(v) for x in (t, t_logvar))).sum() for c in range(len(t))]
        )
        roots["most inclusive"] = t[held.argmax()]
    out: dict[str, Any] = {}
    for name, root in roots.items():
        rows = []
        for i in range(count):
            first = captions.full[(t[captions.full] @ v[i]).argmax()]
            path = (traverse(t[first], root) @ t.T).argmax(dim=1)  # (50,)
            met = path.unique()
            true = ((codes[met] == 0) | (codes[met] == truth[i])).all(dim=1)
            levels = (codes[met[true]] > 0).sum(dim=1).unique()
            order = rank_correlation(torch.arange(50), captions.fits[path]) if len(met) > 1 else 0.0
            rows.append([float(true.double().mean()), len(levels) / 6, float(len(met)), order])
        out[name] = dict(
            zip(("precision", "recall", "captions met", "order"), np.mean(rows, axis=0).tolist(), strict=True)
        )
    if "most inclusive" in roots:
        out["root"] = captions.texts[int(held.argmax())]
    return out
