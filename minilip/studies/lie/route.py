"""What the route of `orbits` reaches, and what its controls reach, seed by seed.

`python -m minilip.studies.lie.route` measures what `measured/orbits.jsonl` lacks: for each of three seeds an encoder
with its generator, its controls and both trained together, about ten minutes on a core.

Letters as in `orbits`. Source: ours; lesson 06.
"""

from __future__ import annotations

import copy
import math
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.data.poses import PosedEmoji
from minilip.lie import LieOperator, search, spectrum
from minilip.studies.lie import orbits, scale
from minilip.studies.lie.learners import pairs as pose_pairs
from minilip.studies.lie.orbits import (
    PoseContrast,
    PoseContrastWithOperator,
    closure,
    learn,
    neighbours,
    period,
    refine,
    standardise,
    turn,
)
from minilip.studies.lie.readers import embed, examinations, lessons, turns
from minilip.studies.runs import command
from minilip.studies.store import Study
from minilip.training import fit

STEPS, TOGETHER, GENERATOR, REFINE = 350, 500, 1000, 200
SEEDS = (0, 1, 2)
POINTS = (2, 4, 8, 16, 24, 48)

Cells = dict[str, float]  # accuracy in each cell, and of "known, new pose" ", by instance" and ", by concept"
Angles = TypedDict(
    "Angles",
    {
        "r by reader": float,  # |correlation| of t with the angle
        "r by search": float,
        "median error": float,  # of the angle by search, degrees
    },
)
Linear = TypedDict(
    "Linear", {"gap with map": float, "gap without": float, "frequencies": list[float], "nearest": Cells}
)
Found = TypedDict(
    "Found",
    {
        "frequencies": list[float],  # turns of the feature in one turn of the picture, by falling energy
        "r by reader": float,  # |correlation| of t with the angle
        "r by search": float,
        "median error": float,  # of the angle by search, degrees
        "closure": float,  # per coordinate, squared distance to the start after a full turn
        "farthest": float,  # and at its largest on the way
        "orbit": dict[str, Cells],  # points of the orbit that are learned -> accuracy
        "orbit in other planes": Cells,
    },
)


class Together(TypedDict):
    plain: Cells
    learned: Found
    refined: Found
    gaps: list[float]


Result = TypedDict(
    "Result",
    {
        "pose share": float,  # share of the features' variance that is pose
        "plain": Cells,
        "linear": Linear,
        "learned": Found,
        "refined": Found,
        "true angle": dict[str, Any],  # "frequencies", and the accuracy with "16" points
        "seconds": float,  # of training the encoder
        "together": Together,
    },
    total=False,
)


def frequencies(operator: LieOperator, z: Tensor, turned: float) -> list[float]:
    """Turns of the feature in one turn of the picture, for the planes that turn, by falling energy. (B, D)"""
    values, _ = spectrum(operator, z)
    found = values.imag * turned / (2 * math.pi)
    return [round(float(f), 3) for f in found if f > 0.3][:8]


def angles_read(operator: LieOperator, u: Tensor, turned: float) -> Angles:
    """How well t follows the angle between poses up to a quarter turn apart, by the reader and by search. (U, T, D)"""
    z, z_g, k = orbits.pairs(u, 2000, orbits.WIDEST[:1], torch.Generator().manual_seed(3))
    angle = k[:, 0] * 360 / u.shape[1]
    with torch.no_grad():
        read = operator.infer(z, z_g)[:, 0]
    # The pairs are known to lie within a quarter turn; a little more leaves room at its ends.
    found = search(operator, z, z_g, turned * torch.linspace(-0.3, 0.3, 61)[:, None])[:, 0]
    r = float(torch.corrcoef(torch.stack([found, angle]))[0, 1])
    off = (found / turned * 360 * (1 if r > 0 else -1) - angle).abs()
    by_reader = float(torch.corrcoef(torch.stack([read, angle]))[0, 1].abs())
    return {"r by reader": by_reader, "r by search": abs(r), "median error": float(off.median())}


def nearest(z: Tensor, data: PosedEmoji, path: Tensor | None = None) -> Cells:
    """1-NN by cosine in the three cells, and "known, new pose" also by instance and by concept.

    Args:
        z: (N, T, D) features.
        path: (K, D, D) matrices; every feature of a typical-only drawing is learned at all K points of its path.
    """
    rows, poses = lessons(data)
    many = data.varied[rows]
    x, y = z[rows[many], poses[many]], data.concept[rows[many]]
    few, pose = (data.typical[:, None] & data.upright).nonzero().T
    extra, labels = z[few, pose][:, None], data.concept[few]  # (P, 1, D), (P,)
    if path is not None:
        extra = torch.einsum("kij,pj->pki", path, extra[:, 0])  # (P, K, D)
    x = F.normalize(torch.cat([x, extra.flatten(0, 1)]), dim=1)
    y = torch.cat([y, labels.repeat_interleave(extra.shape[1])])
    out: Cells = {}
    for cell, (row, p) in examinations(data).items():
        query = F.normalize(z[row, p], dim=1)
        named = torch.cat([y[(part @ x.T).argmax(dim=1)] for part in query.split(1024)])
        hit = (named == data.concept[row]).double()
        out[cell] = float(hit.mean())
        if cell.startswith("known"):
            out[f"{cell}, by instance"] = float(hit[data.mixed[row]].mean())
            out[f"{cell}, by concept"] = float(hit[~data.mixed[row]].mean())
    return out


def linear(z: Tensor, data: PosedEmoji) -> Linear:
    """Does turning the picture act linearly on its feature? Ridge maps fitted on varied, tested on unknown drawings."""
    maps, u, t = turns(z, data), z[data.unknown], z.shape[1]
    k = t // 8  # 45 degrees
    away = u.roll(-k, dims=1)
    values = torch.linalg.eigvals(maps[1])  # of one step of the turntable
    lively = values[values.abs() > 0.9]
    found = sorted((lively.angle().abs() * t / (2 * math.pi)).tolist(), reverse=True)
    return {
        "gap with map": float((u @ maps[k].T - away).square().mean()),
        "gap without": float((u - away).square().mean()),
        "frequencies": [round(f, 3) for f in found[::2] if f > 0.3],  # they come in pairs
        "nearest": nearest(z, data, maps),
    }


def route(operator: LieOperator, z: Tensor, data: PosedEmoji, seed: int, refined: bool) -> Found:
    """Find the period of a generator, refine it where asked, and examine it."""
    v, u = z[data.varied], z[data.unknown]
    turned = period(operator, v)
    if refined:
        refine(operator, v, turned * torch.linspace(-0.5, 0.5, 49)[:, None], seed, REFINE)
        turned = period(operator, v)
    x = v.flatten(0, 1)
    path = operator.group(turn(turned, 16)).detach()  # (16, D, D)
    generator = torch.Generator().manual_seed(seed)
    planes = torch.linalg.qr(torch.randn(z.shape[2], z.shape[2], generator=generator))[0]  # (D, D)
    return {
        "frequencies": frequencies(operator, x, turned),
        **angles_read(operator, u, turned),
        "closure": float(closure(operator, x[:512], torch.tensor([[turned]]))[0]),
        "farthest": float(closure(operator, x[:512], turn(turned, 64)).max()),
        "orbit": {str(k): nearest(z, data, operator.group(turn(turned, k)).detach()) for k in POINTS}
        if refined
        else {"16": nearest(z, data, path)},
        "orbit in other planes": nearest(z, data, planes @ path @ planes.T),
    }


def measure(seed: int, steps: int, together: int, split: str = "test") -> Result:
    """What the lesson says of the route with one seed: in two stages, its controls, in one stage."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = PosedEmoji(split, seed=seed)
    torch.manual_seed(seed)
    model = PoseContrast().to(device)
    history = fit(model, pose_pairs(data, 128, device), steps, weight_decay=0.0, seed=seed, label=f"pose kept, {seed}")
    z = embed(model.tower, data)
    share = float((z - z.mean(1, keepdim=True)).square().mean() / (z - z.mean((0, 1))).square().mean())
    z = standardise(z, data)
    v = z[data.varied]
    operator = learn(v, seed=seed, steps=GENERATOR)
    before = route(copy.deepcopy(operator), z, data, seed, refined=False)
    informed = learn(v, seed=seed, steps=GENERATOR, angles=True)
    known = informed.group(turn(2 * math.pi, 16)).detach()
    out: Result = {
        "pose share": share,
        "plain": nearest(z, data),
        "linear": linear(z, data),
        "learned": before,
        "refined": route(operator, z, data, seed, refined=True),
        "true angle": {
            "frequencies": frequencies(informed, v.flatten(0, 1), 2 * math.pi),
            "16": nearest(z, data, known),
        },
        "seconds": round(history.seconds[-1], 1),
    }
    torch.manual_seed(seed)
    joint = PoseContrastWithOperator().to(device)
    batches = neighbours(data, 128, together, device)
    history = fit(joint, batches, together, weight_decay=0.0, seed=seed, label=f"together, {seed}")
    z = embed(joint.tower, data)  # as the operator saw it
    joint.operator.cpu()
    out["together"] = {
        "plain": nearest(z, data),
        "learned": route(copy.deepcopy(joint.operator), z, data, seed, refined=False),
        "refined": route(joint.operator, z, data, seed, refined=True),
        "gaps": [history.metrics[name][-1] for name in ("gap with operator", "gap without")],
    }
    return out


# ---- what is measured ------------------------------------------------------------------------------------------------

STUDY = Study("orbits", measure)


def settings(seed: int) -> dict[str, int]:
    return {"seed": seed, "steps": STEPS, "together": TOGETHER}


def known() -> list[dict[str, Any]]:
    """What has been measured with this code, for each seed: a result of `measure`, and "rotation and scale".

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    one = STUDY.recall([settings(seed) for seed in SEEDS])
    two = scale.STUDY.recall([scale.settings(seed) for seed in SEEDS])
    return [{**a, "rotation and scale": b} for a, b in zip(one, two, strict=True)]


def main() -> None:
    parser = command("lie.route", __doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    chosen = parser.parse_args()
    STUDY.complete(settings(seed) for seed in chosen.seeds)


if __name__ == "__main__":
    main()
