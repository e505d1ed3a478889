r"""What SimCLR keeps of every latent of a scene, before and after training, for several sets of augmentations.

Letters: B pictures a step, N scenes of the examination.

The interventions act on latents and the scene is drawn again, so that it is known exactly what they change. One arm
changes pixels instead, as SimCLR does. One trains `StructuredSimCLR`, whose spaces keep a style each.

Settings were chosen with seed 0 and other scenes than those of the examination: steps, batch, learning rate (0.002 to
0.01), temperature (0.2 to 0.5) and dimension (4 to 16).
`python -m minilip.studies.simclr.content` measures what `measured/simclr-content.jsonl` lacks.

Source: von Kügelgen et al. 2021 (arXiv 2106.04619); Eastwood et al. 2023 (arXiv 2311.08815); lesson 03.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minilip.data.scenes import Latents
from minilip.evaluation import encode, latents_r2
from minilip.nn import ConvNet
from minilip.nn.augment import simclr_view
from minilip.simclr import SimCLR, StructuredSimCLR
from minilip.studies.runs import command
from minilip.studies.simclr.worlds import CONTENT, STYLES, WORLD, causes, intervene, sample
from minilip.studies.store import Study
from minilip.training import fit

WIDTH, DIM, TEMPERATURE, LR, BATCH, STEPS = 16, 8, 0.3, 3e-3, 64, 2000
EXAMINED = (1000, 1000)  # N to fit the regression on, N to read it from
KEPT = ("colour", "background", "position")  # the styles that have a space of their own in the structured arm


class Arm(NamedTuple):
    """Which styles the two views of a picture do not share.

    styles: drawn anew for each view.
    keep: probability with which each of them is left alone.
    pixels: the views are SimCLR's crops and colours of the one picture instead.
    structured: a space for each of KEPT beside that for content.
    """

    styles: tuple[str, ...] = STYLES
    keep: float = 0.0
    pixels: bool = False
    structured: bool = False
    steps: int = STEPS
    batch: int = BATCH


ARMS = {
    "all styles": Arm(),
    "all styles, twice as long": Arm(steps=2 * STEPS),
    "all styles, kept at times": Arm(keep=0.25),
    "colour and background": Arm(("colour", "background")),
    "crops and colours": Arm((), pixels=True),
    "structured": Arm(structured=True, steps=700, batch=48),
}


def build(arm: Arm, seed: int) -> nn.Module:
    """The model of an arm."""
    torch.manual_seed(seed)
    if arm.structured:
        return StructuredSimCLR(ConvNet(WIDTH), len(KEPT), DIM, temperature=TEMPERATURE)
    return SimCLR(ConvNet(WIDTH), DIM, temperature=TEMPERATURE)


def views(arm: Arm, generator: torch.Generator) -> tuple[Tensor, ...]:
    """The views of B scenes that an arm compares, (B, 3, 32, 32) each."""
    z = sample(arm.batch, generator)
    if arm.pixels:
        x = WORLD.render(z)
        return simclr_view(x, generator), simclr_view(x, generator)
    if not arm.structured:
        return tuple(WORLD.render(intervene(z, arm.styles, generator, arm.keep)) for _ in range(2))
    shared = [intervene(z, [s for s in arm.styles if s != kept], generator) for kept in KEPT]
    return tuple(WORLD.render(each) for each in (z, intervene(z, arm.styles, generator), *shared))


def train(arm: Arm, seed: int, device: str | torch.device = "cpu", progress: bool = True) -> tuple[nn.Module, Any]:
    """One arm with one seed."""
    model = build(arm, seed).to(device)
    label = f"{'structured' if arm.structured else 'SimCLR'}, seed {seed}"
    return model, fit(model, lambda g: views(arm, g), arm.steps, lr=LR, seed=seed, label=label, progress=progress)


def examine(
    features: Callable[[Tensor], Tensor], seed: int = 0, kernel: bool = True, examined: tuple[int, int] = EXAMINED
) -> dict[str, float]:
    """R2 of every latent from the features of scenes that were not trained on."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    drawn = [sample(n, generator) for n in examined]
    x, x_test = (encode(features, WORLD.render(z)) for z in drawn)
    found = latents_r2(x, causes(drawn[0]), x_test, causes(drawn[1]), kernel)
    return {name: round(r2, 4) for name, r2 in found.items()}


def floor(seed: int = 0, examined: tuple[int, int] = EXAMINED) -> dict[str, float]:
    """R2 of every latent from the true content: what style content alone gives away."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    drawn = [sample(n, generator) for n in examined]

    def content(z: Latents) -> Tensor:
        return torch.cat([causes(z)[name] for name in CONTENT], dim=1)  # (N, 4)

    return latents_r2(content(drawn[0]), causes(drawn[0]), content(drawn[1]), causes(drawn[1]))


def spaces(model: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
    """What of a model is examined, by name: h, and z or each of its spaces."""
    if isinstance(model, StructuredSimCLR):
        project = model.project
        names = ("content", *KEPT)
        found = {name: (lambda x, i=i: project(x)[i]) for i, name in enumerate(names)}
        return {"h": model, **found}
    return {"h": model, "z": model.project}  # type: ignore[dict-item]


def measure(arm: dict[str, Any], seed: int, examined: tuple[int, int] = EXAMINED) -> dict[str, Any]:
    """Train an arm, `Arm(**arm)`, and examine it before and after.

    Returns:
        "before", "after": {space: {latent: R2 by kernel ridge}}; "linear": the same after training, by ridge; "loss" of
        the last 50 steps in nats; "seconds" of training.
    """
    chosen = Arm(**{**arm, "styles": tuple(arm.get("styles", STYLES))})
    fresh = build(chosen, seed).eval()
    before = {name: examine(f, seed, examined=examined) for name, f in spaces(fresh).items()}
    model, history = train(chosen, seed)
    after = {name: examine(f, seed, examined=examined) for name, f in spaces(model).items()}
    linear = {name: examine(f, seed, kernel=False, examined=examined) for name, f in spaces(model).items()}
    return {
        "before": before,
        "after": after,
        "linear": linear,
        "loss": round(sum(history.loss[-50:]) / len(history.loss[-50:]), 4),
        "seconds": round(history.seconds[-1], 1),
    }


SEEDS = range(3)
STUDY = Study("simclr-content", measure)


def settings(name: str, seed: int) -> dict[str, Any]:
    arm = ARMS[name]._asdict()
    return {"arm": {**arm, "styles": list(arm["styles"])}, "seed": seed}


def known() -> dict[str, list[dict[str, Any]]]:
    """What has been measured with this code: {name of an arm: [what `measure` returns, for each seed]}.

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    return {name: STUDY.recall([settings(name, seed) for seed in SEEDS]) for name in ARMS}


def main() -> None:
    parser = command("simclr.content", __doc__)
    parser.add_argument("--arms", nargs="+", metavar="ARM", choices=list(ARMS), default=list(ARMS))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    STUDY.complete(settings(name, seed) for name in chosen.arms for seed in SEEDS)


if __name__ == "__main__":
    main()
