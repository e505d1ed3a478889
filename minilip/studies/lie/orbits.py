r"""The route to a genuine operator: keep the pose in the representation, then learn the generator that moves it.

Letters: B batch, D embedding dimension, V varied drawings, T poses on a full turn, S sizes of a drawing, N generators,
K points of an orbit.

Where poses are pulled together, nothing is left for an operator to do but nothing. So the encoder is trained with the
other pose of the same picture as a negative, and the operator on pairs of its features. No step sees an angle.

Source: ours, with the operator of Ibrahim et al. 2022; lesson 06.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from minilip.data.poses import PosedEmoji
from minilip.lie import LieOperator, exp_action, lie_loss, orbit, search
from minilip.studies.lie.learners import DIM, TEMPERATURE, Tower, view


class PoseContrast(nn.Module):
    r"""SimCLR that must also tell two poses of one drawing apart.

    $$ \mathcal L = -\frac1{2B} \sum_{i=1}^{2B} \log \frac{\exp(u_i^\top u_{p(i)} / \tau)}
       {\sum_{j \ne i} \exp(u_i^\top u_j / \tau) + \sum_{j=1}^B \exp(u_i^\top n_j / \tau)} $$

    u are unit embeddings of two pose-free views of B pictures, n those of another pose of each.
    """

    def __init__(self, tower: nn.Module | None = None):
        super().__init__()
        self.tower = Tower() if tower is None else tower

    def forward(self, images: Tensor) -> Tensor:
        return self.tower(images)  # (B, D)

    def loss(self, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """(view, another view of the same picture, view of another pose, angle, which is not used)"""
        z = self.tower(torch.cat(batch[:3]))  # (3B, D)
        return self.contrast(z), {}

    @staticmethod
    def contrast(z: Tensor) -> Tensor:
        """[two views, another pose] -> the loss. (3B, D)"""
        u = F.normalize(z.float(), dim=1)  # (3B, D)
        b = len(u) // 3
        logits = (u[: 2 * b] @ u.T / TEMPERATURE).fill_diagonal_(-math.inf)  # (2B, 3B)
        return F.cross_entropy(logits, torch.arange(2 * b, device=z.device).roll(b))


class PoseContrastWithOperator(PoseContrast):
    r"""Encoder and operator trained together: `PoseContrast` plus a Lie loss that cannot be met by dropping the pose.

    $$ -\frac1B \sum_i \log \frac{\exp(\cos(\hat g_i z_i, z_i^g) / \tau)}
       {\sum_j \exp(\cos(\hat g_i z_i, z_j^g) / \tau) + \sum_j \exp(\cos(\hat g_i z_i, z_j) / \tau)} $$

    The sources z themselves are among the candidates: the identity would choose its own source. The Euclidean term
    teaches the operator alone, since an encoder meets it best by shrinking the pose.
    """

    def __init__(self, weights: tuple[float, float] = (0.3, 1.0)):
        super().__init__()
        self.operator, self.weights = LieOperator(DIM), weights

    def loss(self, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        z = self.tower(torch.cat(batch[:3])).float()  # (3B, D)
        source, _, posed = z.chunk(3)  # (B, D) each
        t = self.operator.infer(source.detach(), posed.detach())  # (B, N)
        moved = F.normalize(self.operator(source, t), dim=1)  # (B, D)
        candidates = F.normalize(torch.cat([posed, source]), dim=1)  # (2B, D)
        chosen = F.cross_entropy(moved @ candidates.T / TEMPERATURE, torch.arange(len(moved), device=z.device))
        euclidean = (exp_action(self.operator.basis, t, source.detach()) - posed.detach()).square().mean()
        total = self.contrast(z) + self.weights[0] * chosen + self.weights[1] * euclidean
        return total, {"gap with operator": euclidean.item(), "gap without": (source - posed).square().mean().item()}


def neighbours(
    data: PosedEmoji, batch: int, steps: int, device: torch.device, widest: float = 90.0
) -> Callable[[torch.Generator], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Batches like `robustness.pairs` whose poses start one step of the turntable apart and spread to `widest` degrees.

    Neighbouring frames of a film tell which poses are near, never by how much or to which side.
    """
    images, angles, shown = (x.to(device) for x in (data.images, data.angles, data.trained))
    rows = (~data.unknown).nonzero().squeeze(1).to(device)
    calls = iter(range(steps))

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        reach = _reach(next(calls), steps, 360 / angles.shape[1], widest)
        r = rows[torch.randperm(len(rows), generator=generator, device=device)[:batch]]  # (B,)
        p = torch.multinomial(shown[r].float(), 1, generator=generator)  # (B, 1)
        angle = (angles[r] - angles[r].gather(1, p) + 180) % 360 - 180  # (B, T)
        near = shown[r] & (angle.abs() > 1e-3) & (angle.abs() <= reach + 1e-3)  # (B, T)
        q = torch.multinomial(near.float(), 1, generator=generator)  # (B, 1)
        x, posed = (images[r, k[:, 0]].float() / 255 for k in (p, q))  # (B, 3, S, S)
        return view(x, generator), view(x, generator), view(posed, generator), angle.gather(1, q)[:, 0].deg2rad()

    return draw


def _reach(step: int, steps: int, least: float, most: float) -> float:
    """The curriculum: from `least` to `most` over the first 60 % of the steps."""
    return least + (most - least) * min(1.0, step / (0.6 * steps))


# ---- the generator, from features ----------------------------------------------------------------------------------


WIDEST = (0.25, 0.6)  # a quarter turn, and three of five sizes: where the curriculum ends


def standardise(z: Tensor, data: PosedEmoji) -> Tensor:
    """Features with the training pictures' mean at 0 and their root mean square coordinate at 1. (N, T, ..., D)"""
    z = z - z[data.trained].flatten(0, -2).mean(dim=0)
    return z / z[data.trained].square().mean().sqrt()


def pairs(v: Tensor, b: int, reach: Sequence[float], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """b pairs of poses of one drawing that lie near each other on the turntable, and in size where there are sizes.

    Args:
        v: (V, T, D) features of drawings on the turntable, or (V, T, S, D) at S sizes each.
        reach: how far apart at most, as a share of a full turn and, where there are sizes, of the S sizes.

    Returns:
        (b, D), (b, D) and the true steps between them (b, 1) or (b, 2), which learning does not use.
    """
    sizes = v.shape[1:-1]  # (T,) or (T, S)
    row = torch.randint(len(v), (b,), generator=generator)
    here, there, steps = [], [], []
    for axis, (size, share) in enumerate(zip(sizes, reach, strict=True)):
        most = max(1, round(share * size))
        p = torch.randint(size, (b,), generator=generator)
        k = torch.randint(-most, most + 1, (b,), generator=generator)
        q = (p + k) % size if axis == 0 else (p + k).clamp(0, size - 1)  # a turn closes, a size does not
        here.append(p)
        there.append(q)
        steps.append(k if axis == 0 else q - p)
    return v[(row, *here)], v[(row, *there)], torch.stack(steps, dim=1)


def learn(
    v: Tensor, generators: int = 1, seed: int = 0, steps: int = 1000, angles: bool = False, label: str = "generator"
) -> LieOperator:
    r"""Generators from pairs of poses that spread from one step of the turntable to a quarter turn.

    Adam on the Euclidean term per coordinate + 0.3 contrastive. A wide pair has many explanations, a near one has one:
    hence the curriculum. A single generator is kept within the rotations, L <- (L - L^T) / 2 after each step: where L
    may also shrink z, it settles for blurring the pose.

    Args:
        v: (V, T, D) or (V, T, S, D) features of the varied drawings.
        generators: N.
        seed: of the start and of the pairs.
        steps: of batches of 128.
        angles: give the true angle as t instead of inferring it (a control).
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    operator = LieOperator(v.shape[-1], generators)
    adam = torch.optim.Adam(operator.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, steps)
    for step in tqdm(range(steps), desc=label, leave=False):
        reach = [_reach(step, steps, 1 / size, most) for size, most in zip(v.shape[1:-1], WIDEST, strict=False)]
        z, z_g, k = pairs(v, 128, reach, generator)
        t = k[:, :1] * (2 * math.pi / v.shape[1]) if angles else None
        contrastive, euclidean = lie_loss(operator, z, z_g, TEMPERATURE, t)
        adam.zero_grad()
        (euclidean / v.shape[-1] + 0.3 * contrastive).backward()
        nn.utils.clip_grad_norm_(operator.parameters(), 1.0)
        adam.step()
        schedule.step()
        if generators == 1:
            with torch.no_grad():
                operator.basis.copy_((operator.basis - operator.basis.mT) / 2)
    return operator


def refine(operator: LieOperator, v: Tensor, times: Tensor, seed: int = 0, steps: int = 200) -> LieOperator:
    """The same generators again, with t by `search` on a grid instead of the reader, and free to leave the rotations.

    Searching t and fitting L take turns, as assigning and averaging do in k-means. The operator is changed in place.

    Args:
        times: (K, N), the grid, for one generator a full turn.
    """
    generator = torch.Generator().manual_seed(seed)
    reach = (0.5,) if v.dim() == 3 else WIDEST  # one generator can search a whole turn
    adam = torch.optim.Adam([operator.basis], lr=1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, steps)
    for _ in tqdm(range(steps), desc="refine", leave=False):
        z, z_g, _steps = pairs(v, 128, reach, generator)
        t = search(operator, z, z_g, times, steps=1)
        adam.zero_grad()
        (operator(z, t) - z_g).square().mean().backward()
        adam.step()
        schedule.step()
    return operator


# ---- the orbit -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def closure(operator: LieOperator, z: Tensor, times: Tensor) -> Tensor:
    """How far exp(tL) z is from z, per coordinate, at each point of a path. (B, D), (K, N) -> (K,)"""
    return (orbit(operator, z, times) - z[:, None]).square().mean(dim=(0, 2))  # (K,)


@torch.no_grad()
def period(operator: LieOperator, v: Tensor, seed: int = 0) -> float:
    """The t of a full turn, found without an angle: where the orbit first closes.

    Looks six times as far as the longest step that the reader infers between two poses, for the first minimum within a
    twentieth of the deepest. One generator. (V, T, D)
    """
    generator = torch.Generator().manual_seed(seed)
    z, z_g, _ = pairs(v, 512, WIDEST[:1], generator)
    far = 6 * float(operator.infer(z, z_g).abs().quantile(0.99))
    times = torch.linspace(0, far, 600)[:, None]  # (600, 1)
    away = closure(operator, z[:128], times)  # (600,)
    left = int((away > away.max() / 2).nonzero()[0])  # past the way out
    low = away[left:].min() + 0.05 * away.max()
    i = left + int((away[left:] <= low).nonzero()[0])
    while i + 1 < len(away) and away[i + 1] < away[i]:
        i += 1
    return float(times[i, 0])


def turn(period: float, points: int) -> Tensor:
    """Evenly spaced points of a full turn, 0 the first. (K, 1)"""
    return period * torch.arange(points)[:, None] / points
