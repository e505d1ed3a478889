r"""What is read from a trained tower: concepts in three cells, by three readers; and whether it knows of the pose.

Letters: B batch, C concepts, D embedding dimension, N drawings, T poses, V varied drawings, U unknown ones.

Three readers name the concept of pictures from three cells: a known drawing in a new pose, an unknown drawing in any
pose, an unknown drawing upright.

Source: Ibrahim, Bouchacourt and Morcos 2022 for the cells; readers and measures are ours. Lesson 06.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from minilip.data.poses import PosedEmoji
from minilip.evaluation import encode
from minilip.lie import LieOperator
from minilip.studies.lie.learners import view
from minilip.training import fit

CELLS = ("known, new pose", "unknown, any pose", "unknown, typical pose")


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
