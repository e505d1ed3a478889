r"""How much of a picture to hide: linear probe and fine-tuning of MAE on handwritten digits, at several mask ratios.

Letters: B batch, N examples, P patches of a picture (16 here, of 2 x 2 pixels).

The 8 x 8 digits of scikit-learn: 1,000 to train on, 300 to choose settings by, 497 for the examination. Small pictures
of few patches, so that many runs fit on a laptop. Settings (the size of the network, learning rates of 3e-3 and 5e-3,
numbers of steps) were chosen on "val" with one seed. `python -m minilip.studies.mae.digits` measures what
`measured/mae.jsonl` lacks, in half a minute an entry.

Source: He et al. 2022 (arXiv 2111.06377), figure 5 and table 1; test bed, sizes and controls are ours. Lesson 05b.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from minilip import _check
from minilip.evaluation import encode, linear_probe
from minilip.mae import MAE, mae_loss, patchify
from minilip.nn.augment import move
from minilip.studies.runs import Arms
from minilip.studies.store import Study
from minilip.training import History, finetune, fit

STEPS, BATCH, LR = 1200, 64, 5e-3
TUNING_STEPS, TUNING_LR = 200, 3e-3
SIZE, PATCH, DIM, DEPTH, HEADS = 8, 2, 32, 2, 4
DECODER_DIM, DECODER_DEPTH = 32, 1
PARTS = {"train": (0, 1000), "val": (1000, 1300), "test": (1300, 1797)}
FEW = 10  # labels of each digit, where labels are few


class Arm(NamedTuple):
    """What is trained.

    mask: part of the patches that are removed; normalize: targets are normalised patches.
    everywhere: the loss asks about the patches that were seen, too.
    steps: 0 leaves the model untrained.
    """

    mask: float = 0.75
    normalize: bool = True
    everywhere: bool = False
    steps: int = STEPS


# ---- data --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=3)
def digits(part: str) -> tuple[Tensor, Tensor]:
    """(N, 3, 8, 8) in [0, 1], three equal channels; (N,) the digits."""
    _check.choice("part", part, tuple(PARTS))
    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=torch.Generator().manual_seed(0))[slice(*PARTS[part])]
    x = torch.tensor(bunch.images / 16, dtype=torch.float32)[order, None].expand(-1, 3, -1, -1).contiguous()
    return x, torch.tensor(bunch.target)[order]


def few(y: Tensor, seed: int) -> Tensor:
    """FEW rows of each class, by lot. (10 FEW,)"""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    return torch.cat([order[y[order] == c][:FEW] for c in range(10)])


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Turned, zoomed and shifted a little; never mirrored, which would be another digit."""
    return move(x, generator, degrees=10, zoom=(0.9, 1.1), shift=0.08, flip=False, fill=0.0)


# ---- models ------------------------------------------------------------------------------------------------------


class Everywhere(MAE):
    """MAE whose loss asks about every patch, seen or not."""

    def loss(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        patches = patchify(images, self.patch)  # (B, P, N)
        prediction, mask = self.predict(images, torch.rand(patches.shape[:2], device=images.device))
        return mae_loss(prediction, patches, torch.ones_like(mask), self.normalize), {}


class Mean(nn.Module):
    """The mean of the patches' states, as features: (B, 3, H, W) -> (B, D). [CLS] is what MAE itself returns."""

    def __init__(self, mae: MAE):
        super().__init__()
        self.mae, self.dim = mae, mae.dim

    def forward(self, images: Tensor) -> Tensor:
        return self.mae.tokens(images)[:, 1:].mean(dim=1)  # (B, D)


def build(arm: Arm, seed: int) -> MAE:
    torch.manual_seed(seed)
    kind = Everywhere if arm.everywhere else MAE
    return kind(SIZE, PATCH, DIM, DEPTH, HEADS, DECODER_DIM, DECODER_DEPTH, arm.mask, arm.normalize)


def train(arm: Arm, seed: int, x: Tensor, progress: bool = True) -> tuple[MAE, History]:
    """One arm with one seed on pictures x, without labels."""
    model = build(arm, seed).to(x.device)
    if arm.steps == 0:
        return model.eval(), History()

    def batch(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(x), (BATCH,), generator=generator, device=generator.device)
        return augment(x[rows], generator)

    label = f"mask {arm.mask}, seed {seed}"
    return model, fit(model, batch, arm.steps, lr=LR, seed=seed, label=label, progress=progress)


# ---- examination -------------------------------------------------------------------------------------------------


@torch.no_grad()
def errors(model: MAE, x: Tensor) -> tuple[float, float]:
    """`mae_loss` of the patches that were hidden, and of those that were seen, of pictures x."""
    generator = torch.Generator(x.device).manual_seed(3)
    patches = patchify(x, model.patch)  # (N, P, 3 patch^2)
    y, mask = model.predict(x, torch.rand(patches.shape[:2], generator=generator, device=x.device))
    hidden, seen = (mae_loss(y, patches, m, model.normalize) for m in (mask, 1 - mask))
    return float(hidden), float(seen)


def measure(arm: dict[str, Any], seed: int, part: str = "test") -> dict[str, Any]:
    """Train an arm, `Arm(**arm)`, without labels, then probe it and fine-tune it.

    Returns:
        "hidden", "seen": mean squared errors on the examined pictures; accuracies "probe" (mean of the patches),
        "probe [CLS]" and "fine-tuned" (mean of the patches), each [with 10 labels a class, with all 1,000 labels].
    """
    _check.choice("part", part, ("val", "test"))
    (x, y), (x_test, y_test) = digits("train"), digits(part)
    model, _ = train(Arm(**arm), seed, x)
    hidden, seen = errors(model, x_test)
    rows = [few(y, seed), torch.arange(len(y))]
    pooled = Mean(model)
    found: dict[str, list[float]] = {}
    for name, f in (("probe", pooled), ("probe [CLS]", model)):
        a, b = encode(f, x), encode(f, x_test)
        found[name] = [round(linear_probe(a[r], y[r], b, y_test), 4) for r in rows]
    how: dict[str, Any] = {"lr": TUNING_LR, "batch": BATCH, "augment": augment, "seed": seed}
    guesses = [finetune(pooled, x[r], y[r], x_test, TUNING_STEPS, **how) for r in rows]
    found["fine-tuned"] = [round(float((guess == y_test).float().mean()), 4) for guess in guesses]
    return {"hidden": round(hidden, 4), "seen": round(seen, 4), **found}


def scratch(seed: int, part: str = "test") -> list[float]:
    """Accuracy from scratch with labels, in as many steps as an arm has for masking and fine-tuning together.

    Returns:
        [with 10 labels a class, with all 1,000 labels].
    """
    _check.choice("part", part, ("val", "test"))
    (x, y), (x_test, y_test) = digits("train"), digits(part)
    start = Mean(build(Arm(steps=0), seed))
    how: dict[str, Any] = {"lr": TUNING_LR, "batch": BATCH, "augment": augment, "seed": seed}
    steps = STEPS + TUNING_STEPS
    guesses = [finetune(start, x[r], y[r], x_test, steps, **how) for r in (few(y, seed), torch.arange(len(y)))]
    return [round(float((guess == y_test).float().mean()), 4) for guess in guesses]


# ---- what is measured --------------------------------------------------------------------------------------------

MASKS = (0.25, 0.5, 0.75, 0.9)  # of 16 patches 4, 8, 12 and 15 are removed
ARMS = {
    "untrained": Arm(steps=0),
    **{f"mask {mask}": Arm(mask) for mask in MASKS},
    "plain pixels": Arm(normalize=False),
    "loss everywhere": Arm(everywhere=True),
}
SEEDS = range(3)
STUDY = Study("mae", measure)
SCRATCH = Study("mae-scratch", scratch)
RUNS = Arms(STUDY, ARMS, SEEDS)
settings, known = RUNS.settings, RUNS.known


def known_scratch(part: str = "test") -> list[list[float]]:
    """What `scratch` returns, for each seed.

    Raises:
        LookupError: as `known`.
    """
    return SCRATCH.recall([{"seed": seed, "part": part} for seed in SEEDS])


def main() -> None:
    part = RUNS.complete("mae.digits", __doc__)
    SCRATCH.complete({"seed": seed, "part": part} for seed in SEEDS)


if __name__ == "__main__":
    main()
