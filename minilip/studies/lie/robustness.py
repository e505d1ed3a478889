r"""Does a representation learned from some turned drawings know the others when they turn? The protocol, with controls.

Letters: B batch, D embedding dimension, N drawings, T poses (see `data.poses.PosedEmoji` for the roles of drawings).

A base (MAE, VICReg, SimCLR) is trained on the poses that training shows, alone or with the Lie operator on pairs of
poses of one drawing, or with the operator replaced by something that cannot be a rotation. Three readers then name the
concept of pictures from three cells: a known drawing in a new pose, an unknown drawing in any pose, an unknown drawing
upright.

`python -m minilip.studies.lie.robustness` measures every entry that `measured/robustness.json` lacks.

Source: Ibrahim, Bouchacourt and Morcos 2022, of which the code is not public: bases, sizes, weights and
controls are ours. Lesson 06.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from minilip import _check
from minilip.data.poses import PosedEmoji
from minilip.evaluation import encode
from minilip.lie import LieOperator, lie_loss
from minilip.mae import MAE
from minilip.nn import ConvNet, augment
from minilip.simclr import nt_xent
from minilip.studies.store import SHIPPED, fingerprint, recall, stored
from minilip.training import fit
from minilip.vicreg import vicreg_loss

BASES = ("mae", "vicreg", "simclr")
CONTROLS = (
    "alone",
    "operator",
    "identity",
    "shuffled",
    "angle",
    "positives",
    "positives + operator",
    "positives + identity",
)
CELLS = ("known, new pose", "unknown, any pose", "unknown, typical pose")
DIM = 64  # of every representation
TEMPERATURE = 0.2


def controls(base: str) -> tuple[str, ...]:
    """Those that a base can have: MAE compares no two views, so it has no other pose for a positive."""
    return CONTROLS[:5] if base == "mae" else CONTROLS


class Tower(nn.Module):
    """A ConvNet read at every place of its last map, not at their mean: where a thing is tells how it is turned.

    (B, 3, 32, 32) -> (B, 64), each coordinate of mean 0 and variance 1 over the batch (over the training set in `eval`)
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.dim = DIM
        self.layers = ConvNet(width).layers  # (B, 4 width, 4, 4)
        self.out = nn.Linear(4 * width * 16, DIM)
        self.norm = nn.BatchNorm1d(DIM, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x.contiguous(memory_format=torch.channels_last))  # (B, 4 width, 4, 4)
        return self.norm(self.out(x.flatten(1)))  # (B, 64)


def view(images: Tensor, generator: torch.Generator) -> Tensor:
    """A pose-free augmentation: shifted, zoomed and recoloured, never turned or mirrored. (B, 3, S, S), same shape"""
    moved = augment.move(images, generator, degrees=0, zoom=(0.9, 1.1), shift=0.08, flip=False)
    return augment.recolour(moved, generator, strength=0.15)


class Learner(nn.Module):
    """A base and, beside it, what is done with the other pose of the same drawing.

    Args:
        base: "mae", "vicreg" or "simclr".
        control: "alone", the base's own loss; "operator", plus `lie_loss` with t inferred; "identity", plus `lie_loss`
            with t = 0; "shuffled", with the t inferred for another pair; "angle", with the true angle as t;
            "positives", the base's own loss with the other pose as the second view (not for MAE, which has one view);
            "positives + operator" and "positives + identity", that and `lie_loss`.
        weights: of the contrastive and the Euclidean term (the latter per coordinate of z).

    Raises:
        ValueError: an unknown base or control.
    """

    def __init__(self, base: str, control: str, weights: tuple[float, float] = (1.0, 1.0)):
        super().__init__()
        _check.choice("base", base, BASES)
        _check.choice("control", control, controls(base))
        self.base, self.control, self.weights = base, control, weights
        self.tower = MAE(size=32, patch=4, dim=DIM, depth=3, heads=4) if base == "mae" else Tower()
        wide = 4 * DIM if base == "vicreg" else DIM
        self.head = nn.Sequential(
            nn.Linear(DIM, 2 * wide), nn.BatchNorm1d(2 * wide), nn.ReLU(), nn.Linear(2 * wide, wide)
        )
        self.operator = LieOperator(DIM)

    def forward(self, images: Tensor) -> Tensor:
        return self.tower(images)  # (B, D)

    def loss(self, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """(view, another view of the same picture, view of another pose, angle between the poses in radians)"""
        a, b, posed, angle = batch
        uses_pose = self.control != "alone"
        if self.base == "mae":
            # Both poses are reconstructed under every control, so that all see the same pictures.
            ssl = self.tower.loss(torch.cat([a, posed]))[0]  # type: ignore[operator]
            z, z_g = self.tower(torch.cat([a, posed])).chunk(2) if uses_pose else (None, None)
        else:
            second = posed if self.control.startswith("positives") else b
            extra = [posed] if uses_pose and second is b else []
            z, z_b, *rest = self.tower(torch.cat([a, second, *extra])).chunk(2 + len(extra))  # (B, D) each
            z_g = rest[0] if rest else z_b
            x, y = self.head(torch.cat([z, z_b])).chunk(2)  # (B, wide)
            ssl = (
                vicreg_loss(x, y) / 25
                if self.base == "vicreg"
                else nt_xent(*(F.normalize(v, dim=1) for v in (x, y)), TEMPERATURE)  # type: ignore[arg-type, call-arg]
            )
        if self.control in ("alone", "positives"):
            return ssl, {"ssl": ssl.item()}
        t = self._coordinates(z, z_g, angle)  # type: ignore[arg-type]  # (B, 1)
        contrastive, euclidean = lie_loss(self.operator, z, z_g, TEMPERATURE, t)  # type: ignore[arg-type]
        metrics = {
            "ssl": ssl.item(),
            "contrastive": contrastive.item(),
            "gap with operator": euclidean.item() / DIM,
            "gap without": (z - z_g).square().mean().item(),  # type: ignore[operator]
        }
        return ssl + self.weights[0] * contrastive + self.weights[1] * euclidean / DIM, metrics

    def _coordinates(self, z: Tensor, z_g: Tensor, angle: Tensor) -> Tensor:
        if "identity" in self.control:
            return torch.zeros_like(angle)[:, None]
        if self.control == "angle":
            return angle[:, None]
        t = self.operator.infer(z, z_g)
        return t.roll(1, dims=0) if self.control == "shuffled" else t


def pairs(data: PosedEmoji, batch: int, device: torch.device) -> Callable[[torch.Generator], tuple]:
    """Batches for `fit`: two pose-free views of one training pose, a view of another, and the angle between them."""
    images, angles = data.images.to(device), data.angles.to(device)
    shown, rows = data.trained.float().to(device), (~data.unknown).nonzero().squeeze(1).to(device)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        r = rows[torch.randperm(len(rows), generator=generator, device=device)[:batch]]  # (B,)
        p, q = torch.multinomial(shown[r], 2, generator=generator).T  # (B,) each
        x, posed = images[r, p].float() / 255, images[r, q].float() / 255  # (B, 3, S, S)
        angle = torch.deg2rad((angles[r, q] - angles[r, p] + 180) % 360 - 180)  # (B,)
        return view(x, generator), view(x, generator), view(posed, generator), angle

    return draw


# ---- reading -----------------------------------------------------------------------------------------------------


def lessons(data: PosedEmoji, each: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """What the readers learn from: as many pictures of every known drawing, whether it was seen in 24 poses or in 3.

    Returns rows and poses, (8 * 3 C,) each.
    """
    rows = (~data.unknown).nonzero().squeeze(1).repeat_interleave(each)
    generator = torch.Generator().manual_seed(seed)
    return rows, torch.multinomial(data.trained[rows].float(), 1, generator=generator).squeeze(1)


def examinations(data: PosedEmoji, each: int = 8, seed: int = 1) -> dict[str, tuple[Tensor, Tensor]]:
    """The three cells: rows and poses of the pictures that each examines. A new pose is at least 30 degrees off."""
    generator = torch.Generator().manual_seed(seed)

    def some(drawings: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        rows = drawings.nonzero().squeeze(1)
        poses = torch.multinomial(allowed[rows].float(), each, generator=generator)
        return rows.repeat_interleave(each), poses.flatten()

    turned = data.angles.abs() >= 30
    known, unknown = some(data.typical, turned), some(data.unknown, torch.ones_like(turned))
    rows, poses = (data.unknown[:, None] & data.upright).nonzero().T
    return dict(zip(CELLS, (known, unknown, (rows, poses)), strict=True))


class Classifier(nn.Module):
    """A copy of a tower and a linear layer that names the concept, to be trained together: the fine-tuned reader.

    The layer starts as the linear probe: from a random one the first steps would spoil what the tower knows.

    Source: Kumar et al. 2022 (arXiv 2202.10054), LP-FT.
    """

    def __init__(self, tower: nn.Module, probe: Pipeline):
        super().__init__()
        scaler, logistic = (step for _, step in probe.steps)
        weight = torch.from_numpy(logistic.coef_ / scaler.scale_).float()  # (C, D)
        self.tower, self.out = copy.deepcopy(tower), nn.Linear(weight.shape[1], len(weight))
        with torch.no_grad():
            self.out.weight.copy_(weight)
            self.out.bias.copy_(
                torch.from_numpy(logistic.intercept_).float() - weight @ torch.from_numpy(scaler.mean_).float()
            )

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.tower(images))  # (B, C)

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        images, labels = batch
        return F.cross_entropy(self(images), labels), {}


def read(tower: nn.Module, data: PosedEmoji, seed: int, tune: int) -> dict[str, dict[str, Tensor]]:
    """What three readers get right: {reader: {cell: (pictures,) bool}}.

    Args:
        tower: in `eval` mode; left as it is.
        data: in the roles that the tower was trained with.
        seed: of the fine-tuning.
        tune: steps of fine-tuning at batch 128.
    """
    device = next(tower.parameters()).device
    rows, poses = lessons(data)
    y, examined = data.concept[rows], examinations(data)
    pictures = {cell: data.images[r, p] for cell, (r, p) in examined.items()}
    truth = {cell: data.concept[r] for cell, (r, _) in examined.items()}

    def features(images: Tensor) -> Tensor:
        return encode(lambda x: tower(x.to(device).float() / 255).cpu(), images)  # (pictures, D)

    x = features(data.images[rows, poses])
    at = {cell: features(images) for cell, images in pictures.items()}
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(x.numpy(), y.numpy())
    nearest = KNeighborsClassifier(1, metric="cosine").fit(x.numpy(), y.numpy())
    named = {
        "linear probe": {cell: torch.from_numpy(linear.predict(z.numpy())) for cell, z in at.items()},
        "1-NN": {cell: torch.from_numpy(nearest.predict(z.numpy())) for cell, z in at.items()},
    }
    model = Classifier(tower, linear).to(device)

    def batches(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(rows), (128,), generator=generator, device=device).cpu()
        return view(data.images[rows[chosen], poses[chosen]].to(device).float() / 255, generator), y[chosen].to(device)

    fit(model, batches, tune, lr=5e-4, weight_decay=0.0, seed=seed, label="fine-tune")
    named["fine-tuned"] = {
        cell: encode(lambda x: model(x.to(device).float() / 255).cpu(), images).argmax(dim=1)
        for cell, images in pictures.items()
    }
    return {reader: {cell: guess == truth[cell] for cell, guess in by.items()} for reader, by in named.items()}


def embed(tower: nn.Module, data: PosedEmoji) -> Tensor:
    """Every drawing in every pose, (N, T, D)."""
    device = next(tower.parameters()).device
    z = encode(lambda x: tower(x.to(device).float() / 255).cpu(), data.images.flatten(0, 1))  # (N T, D)
    return z.unflatten(0, data.images.shape[:2])  # (N, T, D)


def turns(z: Tensor, data: PosedEmoji, strength: float = 1.0) -> Tensor:
    r"""The matrix that best turns features by each multiple of 360/T degrees, by ridge regression on varied drawings.

    $$ R_k = \arg\min_R \sum \lVert R z_p - z_{p+k} \rVert^2 + \text{strength} \lVert R \rVert_F^2 $$

    Uses the true angles. (N, T, D) -> (T, D, D)
    """
    v = z[data.varied]  # (V, T, D)
    x = v.flatten(0, 1)  # (V T, D)
    gram = x.T @ x + strength * torch.eye(x.shape[1])  # (D, D)
    cross = torch.stack([x.T @ v.roll(-k, dims=1).flatten(0, 1) for k in range(v.shape[1])])  # (T, D, D)
    return torch.linalg.solve(gram, cross).mT  # (T, D, D)


def angle_error(z: Tensor, data: PosedEmoji) -> float:
    """How far off the angle between two poses of an unknown drawing is read, in degrees: the median; 90 is chance.

    The answer is the turn k whose ridge map brings the one pose nearest to the other. (N, T, D)
    """
    maps, u = turns(z, data), z[data.unknown]  # (T, D, D), (U, T, D)
    t = u.shape[1]
    moved = torch.einsum("kij,uj->uki", maps, u[:, 0])  # (U, T, D)
    read = torch.cdist(moved, u).argmin(dim=1)  # (U, T): for each second pose, the best k
    off = (read - torch.arange(t) + t // 2) % t - t // 2
    return float(off[:, 1:].abs().double().median() * 360 / t)


# ---- measuring ---------------------------------------------------------------------------------------------------


def measure(base: str, control: str, seed: int, steps: int, tune: int, split: str = "test") -> dict[str, Any]:
    """Train one entry and examine it.

    Returns:
        "hits": {reader: {cell: one digit of base 36 for each concept, how many of its pictures are named right}};
        "examined": {cell: the same for how many there are}; "pose share": the share of the features' variance that is
        pose; "angle error": see `angle_error`; "r": correlation of t with the angle over pairs of unknown drawings
        (None without an operator); "gaps": per coordinate ||g z - z^g||^2 and ||z - z^g||^2 along the training.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = PosedEmoji(split, seed=seed)
    torch.manual_seed(seed)
    learner = Learner(base, control).to(device)
    history = fit(
        learner, pairs(data, 128, device), steps, weight_decay=0.0, seed=seed, label=f"{base}, {control}, {seed}"
    )
    tower = learner.tower.eval()
    right, examined = read(tower, data, seed, tune), examinations(data)
    z = embed(tower, data)  # (N, T, D)
    gaps = [history.metrics.get(name, []) for name in ("gap with operator", "gap without")]
    return {
        "hits": {
            reader: {cell: _count(data, examined[cell][0], hit) for cell, hit in by.items()}
            for reader, by in right.items()
        },
        "examined": {cell: _count(data, rows, torch.ones(len(rows))) for cell, (rows, _) in examined.items()},
        "pose share": float((z - z.mean(1, keepdim=True)).square().mean() / (z - z.mean((0, 1))).square().mean()),
        "angle error": angle_error(z, data),
        "r": follow(learner.operator, z, data)[2] if "operator" in control or control == "shuffled" else None,
        "gaps": [[round(sum(part) / len(part), 4) for part in _tenths(gap)] for gap in gaps],
        "seconds": round(history.seconds[-1], 1),
    }


def follow(operator: LieOperator, z: Tensor, data: PosedEmoji, seed: int = 2) -> tuple[Tensor, Tensor, float]:
    """Inferred t and true angle (within 90 degrees) of a pair of each unknown drawing, and |correlation| of the two."""
    u, quarter = z[data.unknown], z.shape[1] // 4  # (U, T, D)
    generator = torch.Generator().manual_seed(seed)
    p = torch.randint(z.shape[1], (len(u),), generator=generator)
    k = torch.randint(-quarter, quarter + 1, (len(u),), generator=generator)
    row = torch.arange(len(u))
    with torch.no_grad():
        t = operator.cpu().infer(u[row, p], u[row, (p + k) % z.shape[1]])[:, 0]  # (U,)
    angle = k * 360 / z.shape[1]
    return t, angle, float(torch.corrcoef(torch.stack([t, angle]))[0, 1].abs().nan_to_num())


def _count(data: PosedEmoji, rows: Tensor, hits: Tensor) -> str:
    counts = torch.zeros(len(data.labels), dtype=torch.int64).index_add_(0, data.concept[rows], hits.long())
    return "".join(np.base_repr(int(n), 36) for n in counts)


def _tenths(values: list[float]) -> list[list[float]]:
    step = max(1, len(values) // 35)
    return [values[i : i + step] for i in range(0, len(values), step)]


STEPS, TUNE, SEEDS = 350, 150, (0, 1, 2)
CODE = fingerprint(
    Tower, view, Learner, pairs, lessons, examinations, Classifier, read, turns, angle_error, measure, DIM, TEMPERATURE
)


def settings(base: str, control: str, seed: int) -> dict[str, Any]:
    return {"base": base, "control": control, "seed": seed, "steps": STEPS, "tune": TUNE}


def known() -> dict[tuple[str, str, int], dict[str, Any]]:
    """What has been measured with this code: {(base, control, seed): the result of `measure`}.

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    every = [(base, control, seed) for seed in SEEDS for base in BASES for control in controls(base)]
    return dict(zip(every, recall("robustness", [settings(*entry) for entry in every], CODE, __name__), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bases", nargs="+", choices=BASES, default=list(BASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    args = parser.parse_args()
    for seed in args.seeds:
        for base in args.bases:
            for control in controls(base):
                result = stored("robustness", settings(base, control, seed), CODE, measure, SHIPPED)
                print(f"{base}, {control}, seed {seed}: trained in {result['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
