"""Rotation and scale at once: does an operator with two generators find these two?

`python -m minilip.studies.lie.scale` measures what `measured/rotation-and-scale.jsonl` lacks: an encoder and two
generators for each of three seeds, about five minutes on a core.

Letters as in `orbits`. Source: ours; lesson 06.
"""

from __future__ import annotations

import math
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.data.poses import PosedEmoji
from minilip.evaluation import encode
from minilip.lie import search
from minilip.nn.augment import move, recolour
from minilip.studies.lie import orbits
from minilip.studies.lie.learners import pairs as pose_pairs
from minilip.studies.lie.orbits import PoseContrast, learn, refine, standardise
from minilip.studies.runs import command
from minilip.studies.store import Study
from minilip.training import fit

STEPS, GENERATORS, REFINE, SEEDS = 350, 1500, 100, (0, 1, 2)
SIZES = tuple(1.18**k for k in range(-2, 3))  # of a drawing; at 1.41 it would touch the frame

Result = TypedDict(
    "Result",
    {
        "gap with operator": float,  # per coordinate |g z - z^g|^2, t by search
        "gap without": float,  # |z - z^g|^2
        "R2 of angle": float,  # share of the truth that t explains linearly
        "R2 of log size": float,
        "commutator": float,  # |[L_1, L_2] z| / |L_1 L_2 z|: 0 for a rotation and a scale
    },
)


def zoomed(images: Tensor, size: Tensor) -> Tensor:
    """Each drawing at its own size, about the centre, on white. (B, 3, S, S), (B,) -> (B, 3, S, S)"""
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / size
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images - 1, grid, align_corners=False) + 1


def two_generators(seed: int, steps: int, split: str = "test") -> Result:
    """Rotation and scale at once: an encoder that keeps both, two generators, and whether they are those two."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = PosedEmoji(split, seed=seed)
    draw = pose_pairs(data, 128, device)

    def sized(generator: torch.Generator) -> tuple[Tensor, ...]:
        spread = 2 * math.log(SIZES[-1])
        a, b = (torch.exp(spread * (torch.rand(128, generator=generator, device=device) - 0.5)) for _ in range(2))
        x, _, posed, angle = draw(generator)
        first, other = zoomed(x, a), zoomed(posed, b)
        views = (move(y, generator, 0, (0.99, 1.01), 0.04, flip=False) for y in (first, first, other))
        return (*(recolour(y, generator, 0.1) for y in views), angle)

    torch.manual_seed(seed)
    model = PoseContrast().to(device)
    fit(model, sized, steps, weight_decay=0.0, seed=seed, label=f"rotation and scale, {seed}")

    def sees(size: float) -> Tensor:
        def feature(x: Tensor) -> Tensor:
            return model(zoomed(x.to(device).float() / 255, torch.full((len(x),), size, device=device))).cpu()

        return encode(feature, data.images.flatten(0, 1)).unflatten(0, data.images.shape[:2])  # (N, T, D)

    z = torch.stack([sees(size) for size in SIZES], dim=2)  # (N, T, S, D)
    z = standardise(z, data)
    v, u = z[data.varied], z[data.unknown]
    operator = learn(v, 2, seed, GENERATORS)
    with torch.no_grad():
        a, b, _ = orbits.pairs(v, 1024, orbits.WIDEST, torch.Generator().manual_seed(4))
        t = operator.infer(a, b)  # (1024, 2)
        axes = torch.linalg.svd(t, full_matrices=False)[2]  # (2, 2)
        reach = 1.2 * (t @ axes.T).abs().quantile(0.97, dim=0)  # (2,)
        times = torch.cartesian_prod(torch.linspace(-1, 1, 25), torch.linspace(-1, 1, 11)) * reach @ axes  # (275, 2)
    refine(operator, v, times, seed, REFINE)
    a, b, apart = orbits.pairs(u, 2000, orbits.WIDEST, torch.Generator().manual_seed(5))
    truth = apart.double() * torch.tensor([2 * math.pi / z.shape[1], math.log(1.18)])  # (2000, 2)
    t = search(operator, a, b, times).double()
    design = torch.cat([t, torch.ones(len(t), 1)], dim=1)
    weights = torch.linalg.lstsq(design, truth).solution  # (3, 2)
    explained = 1 - (truth - design @ weights).square().sum(0) / (truth - truth.mean(0)).square().sum(0)
    first, second = operator.basis.detach()
    bracket = first @ second - second @ first
    x = u.flatten(0, 2)[::37]
    size = (x @ (first @ second).T).square().mean()
    return {
        "gap with operator": float((operator(a, t.float()).detach() - b).square().mean()),
        "gap without": float((a - b).square().mean()),
        "R2 of angle": float(explained[0]),
        "R2 of log size": float(explained[1]),
        "commutator": float(((x @ bracket.T).square().mean() / size).sqrt()),
    }


STUDY = Study("rotation-and-scale", two_generators)


def settings(seed: int) -> dict[str, int]:
    return {"seed": seed, "steps": STEPS}


def main() -> None:
    parser = command("lie.scale", __doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    chosen = parser.parse_args()
    STUDY.complete(settings(seed) for seed in chosen.seeds)


if __name__ == "__main__":
    main()
