"""What a trained model of lesson 12 knows of ambiguity: of captions, of pictures, of what is inside what, of itself.

Letters as in `generality`; D embedding dimension, S summed variance, P pairs, W pictures.
Source: after Chun et al. 2025 (arXiv 2410.18857), on scenes whose ambiguity is known; lesson 12.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from minilip.clip import CLIP
from minilip.data.scenes import Latents, Scenes
from minilip.evaluation import aurc, risk_coverage
from minilip.prolip import ProLIP, reparametrise
from minilip.prolip.inclusion import contains, inclusion, inclusion_difference
from minilip.prolip.uncertainty import (
    gallery_scores,
    partial_spearman,
    prompt_weights,
    reweighted_class,
    traverse,
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


# ---- what to do with it ----------------------------------------------------------------------------------------------


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


def examine(model: CLIP | ProLIP, captions: Captions) -> dict[str, Any]:
    """Everything above that the model has an answer to."""
    out = {
        "zero-shot": zero_shot(model, captions),
        "selective": selective(model, captions),
        "retrieval": retrieval(model, captions),
        "prompts": prompts(model, captions, strangers=0),
        "prompts, half of them wrong": prompts(model, captions, strangers=3),
        "traversal": traversal(model, captions),
    }
    if isinstance(model, ProLIP):
        out |= {
            "captions": generality(model, captions),
            "pictures": pictures(model),
            "inclusion": inclusion_tests(model, captions),
        }
    return out
