r"""The plane of alignment and uniformity: where objectives carry an encoder, and what a linear probe reads on the way.

Letters: B batch, D embedding dimension, N scenes, M pairs, tau temperature.

The world has exact answers. A scene's *content* is its shape, colour, size and quadrant, 192 in all, equally likely;
its *style* is radius within the size, place within the quadrant, turn and background. Two views are two scenes of one
content with independent styles, so they share log 192 = 5.26 nats of information, no more and no less.

Sizes, learning rate and steps were chosen with one seed of NT-Xent on the part "val"; all is reported on "test".
`python -m minilip.studies.hypersphere.plane` measures what `measured/hypersphere.jsonl` lacks.

Source: Wang and Isola 2020 (arXiv 2005.10242); Wang and Liu 2021 (arXiv 2012.09740); test bed, sizes and
controls are ours. Lesson 04.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from minilip import _check
from minilip.data.drawing import REACH
from minilip.data.latents import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Latents
from minilip.data.scenes import Scenes
from minilip.evaluation import encode, linear_probe
from minilip.hypersphere import Hypersphere, align_uniform_loss, alignment, uniformity
from minilip.infonce import info_nce, mi_lower_bound
from minilip.nn import ConvNet
from minilip.simclr import nt_xent
from minilip.studies.runs import Arms
from minilip.studies.store import Study
from minilip.training import History, fit

SIZE, BATCH, STEPS, LR, WIDTH, DIM = 32, 64, 400, 5e-3, 16, 64
WATCH = (10, 30, 100, 200, 400)  # steps after which the encoder is examined, beside step 0
RADII, MARGIN = ((0.24, 0.30), (0.40, 0.48)), 0.08  # as in Scenes: of small and large; from a quadrant's border
CONTENTS = len(SHAPES) * len(COLOURS) * len(SIZES) * len(PLACES)
CANDIDATES = 256  # N of every bound on information
PARTS = {"val": 1001, "test": 2002}  # seeds of the scenes on which encoders are examined
WORLD = Scenes(size=SIZE)


class Arm(NamedTuple):
    """What is trained.

    temperature: of NT-Xent; None for weighted alignment and uniformity.
    align, uniform, alpha, t: as for `align_uniform_loss`.
    """

    temperature: float | None = None
    align: float = 1.0
    uniform: float = 1.0
    alpha: float = 2.0
    t: float = 2.0

    def objective(self) -> Callable[[Tensor, Tensor], Tensor]:
        if self.temperature is not None:
            return partial(nt_xent, temperature=self.temperature)
        return partial(align_uniform_loss, align=self.align, uniform=self.uniform, alpha=self.alpha, t=self.t)


# ---- data --------------------------------------------------------------------------------------------------------


def restyled(scenes: Latents, generator: torch.Generator) -> Latents:
    """Scenes of the same contents, with styles of their own."""
    device = generator.device
    radii, reach = (torch.tensor(v, device=device) for v in (RADII, REACH))
    u = torch.rand(len(scenes), 4, generator=generator, device=device)
    low, high = radii[scenes.size].unbind(-1)  # (N, 1) each
    radius = low + (high - low) * u[:, :1]  # (N, 1)
    room = 1 - reach[scenes.shape] * radius  # (N, 1)
    position = scenes.position.sign() * (MARGIN + (room - MARGIN) * u[:, 1:3])[:, None]  # (N, 1, 2)
    background = torch.randint(len(BACKGROUNDS), (len(scenes),), generator=generator, device=device)
    return scenes.with_(radius=radius, position=position, angle=2 * math.pi * u[:, 3:], background=background)


def pairs(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two views of n contents: pictures (n, 3, S, S) each."""
    scenes = WORLD.sample(n, generator)
    return WORLD.render(scenes), WORLD.render(restyled(scenes, generator))


def content(scenes: Latents) -> dict[str, Tensor]:
    """The parts of the content, (N,) each, and "class": shape and colour, the 24 classes that a probe is asked for."""
    parts = {"shape": scenes.shape[:, 0], "colour": scenes.colour[:, 0], "size": scenes.size[:, 0]}
    return {**parts, "place": scenes.place(), "class": scenes.shape[:, 0] * len(COLOURS) + scenes.colour[:, 0]}


# ---- examination -------------------------------------------------------------------------------------------------


class Examination:
    """Scenes that no training has seen: 2,000 to fit probes and 2,000 to judge them, and 1,024 pairs.

    Args:
        part: "test"; "val" for choosing settings.
    """

    def __init__(self, part: str = "test"):
        _check.choice("part", part, tuple(PARTS))
        generator = torch.Generator().manual_seed(PARTS[part])
        scenes = WORLD.sample(4000, generator)
        self.images, self.content = WORLD.render(scenes), content(scenes)
        self.views = pairs(1024, generator)
        self.generator = generator

    def read(self, features: Tensor, what: str = "class") -> float:
        """Accuracy of a linear probe for a part of the content, on standardised features."""
        y = self.content[what]
        return linear_probe(features[:2000], y[:2000], features[2000:], y[2000:])

    def glance(self, model: Hypersphere) -> tuple[float, float, float]:
        """Alignment and uniformity of z, and what a probe reads from h."""
        x, y = (encode(model.project, v) for v in self.views)  # (M, D) each
        return float(alignment(x, y)), float(uniformity(x) + uniformity(y)) / 2, self.read(encode(model, self.images))


def unscaled_probe(z: Tensor, y: Tensor) -> float:
    """Accuracy of logistic regression on vectors as they are: what lies in a tiny cap is not magnified first."""
    probe = LogisticRegression(max_iter=1000).fit(z[:2000].numpy(), y[:2000].numpy())
    return float(probe.score(z[2000:].numpy(), y[2000:].numpy()))


def tolerance(z: Tensor, y: Tensor) -> float:
    """The mean cosine of two different scenes of one class, above that of any two."""
    cosines, same = z @ z.T, y[:, None] == y
    itself = torch.eye(len(z), dtype=torch.bool)
    return float(cosines[same & ~itself].mean() - cosines[~itself].mean())


class Critic(nn.Module):
    """Two small networks and a dot product: a critic that can undo what an encoder has bent. For `fit`."""

    def __init__(self, dim: int = DIM):
        super().__init__()
        self.a, self.b = (nn.Sequential(nn.Linear(dim, 128), nn.GELU(), nn.Linear(128, 64)) for _ in range(2))

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        return info_nce(self.a(batch[0]), self.b(batch[1]), 1.0), {}


def certified(model: Hypersphere, seed: int, generator: torch.Generator, train: int = 4096, test: int = 2048) -> float:
    """Nats that a critic, trained on frozen z, certifies on fresh pairs: log N - loss with N = CANDIDATES.

    The critic sees z with each coordinate at mean 0 and variance 1, as a linear probe does.
    """
    x, y = (encode(model.project, v) for v in pairs(train + test, generator))  # (M, D) each
    mean, scale = x[:train].mean(dim=0), x[:train].std(dim=0) + 1e-8
    x, y = (x - mean) / scale, (y - mean) / scale

    def batch(g: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(train, (CANDIDATES,), generator=g)
        return x[chosen], y[chosen]

    torch.manual_seed(seed)
    critic = Critic(x.shape[1])
    fit(critic, batch, 300, lr=3e-3, seed=seed, progress=False)
    with torch.no_grad():
        held = zip(x[train:].split(CANDIDATES), y[train:].split(CANDIDATES), strict=True)
        losses = [float(critic.loss(b)[0]) for b in held]
    return mi_lower_bound(sum(losses) / len(losses), CANDIDATES)


def build(arm: Arm, seed: int, dim: int = DIM, width: int = WIDTH) -> Hypersphere:
    """The model of an arm; every arm of a seed starts from the same numbers."""
    torch.manual_seed(seed)
    return Hypersphere(ConvNet(width), dim, arm.objective())


def train(model: Hypersphere, seed: int, steps: int = STEPS, **options: Any) -> History:
    return fit(model, partial(pairs, BATCH), steps, lr=LR, seed=seed, **options)


def measure(arm: dict[str, Any], seed: int, part: str = "test", steps: int = STEPS) -> dict[str, Any]:
    """Train an arm, `Arm(**arm)`, and examine it.

    Returns:
        "path": [(step, alignment, uniformity, accuracy of a probe for the class on h)] from step 0 on; accuracies of
        probes: "h" and "z" for the class, "unscaled" on z as it is, "shape", "colour", "size", "place" on h;
        "tolerance"; "bound" in nats; "loss" of the last 20 steps; "seconds" of training.
    """
    exam, model = Examination(part), build(Arm(**arm), seed)
    model.eval()
    path = [(0, *exam.glance(model))]
    taken = iter(range(1, steps + 1))

    def watch(m: nn.Module) -> tuple[float, float, float] | None:
        return exam.glance(model) if next(taken) in WATCH else None

    history = train(model, seed, steps, watch=watch, every=1, progress=False)
    path += [(step, *seen) for step, _, seen in history.watched if seen is not None]
    h, z = encode(model, exam.images), encode(model.project, exam.images)  # (N, 4 width), (N, D)
    y = exam.content["class"]
    found = {
        "h": exam.read(h),
        "z": exam.read(z),
        "unscaled": unscaled_probe(z, y),
        **{what: exam.read(h, what) for what in ("shape", "colour", "size", "place")},
        "tolerance": tolerance(z[2000:], y[2000:]),
        "bound": certified(model, seed, exam.generator),
        "loss": sum(history.loss[-20:]) / len(history.loss[-20:]),
    }
    rounded = {name: round(value, 4) for name, value in found.items()}
    path = [(step, round(a, 5), round(u, 5), round(p, 4)) for step, a, u, p in path]
    return {"path": path, **rounded, "seconds": round(history.seconds[-1], 1)}


# ---- what is measured --------------------------------------------------------------------------------------------

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)  # of uniformity in the weights, which sum to 2
TEMPERATURES = (0.05, 0.1, 0.25, 0.5, 1.0)
WEIGHTED = {f"share {s:g}": Arm(align=2 * (1 - s), uniform=2 * s) for s in SHARES}
CONTRASTED = {f"tau {tau:g}": Arm(tau) for tau in TEMPERATURES}
BOUNDS = {  # of the limits of NT-Xent, with t = 1 / (2 tau) and weights t and 1: equation (6)
    f"bound of tau {tau:g}": Arm(align=1 / (2 * tau), uniform=1.0, t=1 / (2 * tau)) for tau in (0.25, 0.1)
}
ARMS = {**WEIGHTED, **CONTRASTED, **BOUNDS}
SEEDS = range(3)
STUDY = Study("hypersphere", measure)
RUNS = Arms(STUDY, ARMS, SEEDS)
settings, known = RUNS.settings, RUNS.known


def main() -> None:
    RUNS.complete("hypersphere.plane", __doc__)


if __name__ == "__main__":
    main()
