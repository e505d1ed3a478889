r"""VICReg with each term taken away, and VICReg beside SimCLR at several batch sizes, on drawings never trained with.

Letters: B batch, D embedding dimension, A artists, K held-out concepts.

Every run sees the same number of pictures, so a small batch takes more steps. The learning rate follows the square root
of the batch, as is usual with Adam; at B = 128 it was chosen on the part "val" with one seed (3e-3 against 1e-2). There
is no weight decay: what shrinks, the loss has shrunk. `python -m minilip.studies.vicreg.terms` measures what
`measured/vicreg.jsonl` lacks, in a quarter of a minute an entry.

Source: Bardes et al. 2022 (arXiv 2105.04906); test bed, sizes and controls are ours. Lesson 05.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip import _check
from minilip.data.concepts import SPLITS
from minilip.data.emoji import ARTISTS, SEEN_ARTISTS, EmojiPairs
from minilip.evaluation import covariance_spectrum, effective_rank, encode, retrieval
from minilip.nn import ConvNet
from minilip.nn.augment import simclr_view
from minilip.simclr import SimCLR
from minilip.studies.runs import Arms
from minilip.studies.store import Study
from minilip.training import History, fit
from minilip.vicreg import VICReg, vicreg_terms

PICTURES, BATCH, LR = 19_200, 128, 3e-3
WIDTH, DIM, SPACE = 16, 128, 64  # of the tower; D of VICReg's expander and of SimCLR's head
STRENGTH, AREA = 0.25, (0.4, 1.0)  # of the views
SEEN = [ARTISTS.index(a) for a in SEEN_ARTISTS]


class Arm(NamedTuple):
    """What is trained.

    method: "vicreg" or "simclr"; batch: B; invariance, variance, covariance: VICReg's weights.
    pictures: how many are seen, with repetition; 0 leaves the model untrained.
    """

    method: str = "vicreg"
    batch: int = BATCH
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    pictures: int = PICTURES


# ---- data --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=3)
def drawings(split: str) -> Tensor:
    """(A, K, 3, 32, 32) in [0, 1], by the three artists that are trained on. Splits share no concept."""
    data = EmojiPairs(artists=SEEN_ARTISTS, split=split)
    return F.avg_pool2d(data.images.float() / 255, 2).unflatten(0, (len(SEEN_ARTISTS), -1))


def view(x: Tensor, generator: torch.Generator) -> Tensor:
    """A random view of each picture, (B, 3, 32, 32)."""
    return simclr_view(x, generator, STRENGTH, AREA)


def views(x: Tensor, batch: int) -> Callable[[torch.Generator], tuple[Tensor, Tensor]]:
    """Batches for `fit`: two views of each of `batch` drawings of x (A, K, ...)."""
    flat = x.flatten(0, 1)  # (A K, 3, 32, 32)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(flat), (batch,), generator=generator, device=generator.device)
        return view(flat[rows], generator), view(flat[rows], generator)

    return draw


# ---- models ------------------------------------------------------------------------------------------------------


def build(arm: Arm, seed: int) -> VICReg | SimCLR:
    _check.choice("method", arm.method, ("vicreg", "simclr"))
    torch.manual_seed(seed)
    if arm.method == "simclr":
        return SimCLR(ConvNet(WIDTH), SPACE)
    return VICReg(ConvNet(WIDTH), DIM, arm.invariance, arm.variance, arm.covariance)


def train(arm: Arm, seed: int, x: Tensor, progress: bool = True) -> tuple[VICReg | SimCLR, History]:
    """One arm with one seed, on drawings x (A, K, ...); on the device of x."""
    model = build(arm, seed).to(x.device)
    if arm.pictures == 0:
        return model.eval(), History()
    lr, steps = LR * (arm.batch / BATCH) ** 0.5, max(1, arm.pictures // arm.batch)
    label = f"{arm.method}, B = {arm.batch}, seed {seed}"
    history = fit(model, views(x, arm.batch), steps, lr=lr, weight_decay=0.0, seed=seed, label=label, progress=progress)
    return model, history


# ---- examination -------------------------------------------------------------------------------------------------


def space(model: VICReg | SimCLR) -> Callable[[Tensor], Tensor]:
    """z, what the loss compares."""
    return model.project if isinstance(model, SimCLR) else model.expand


@torch.no_grad()
def examine(model: VICReg | SimCLR, x: Tensor) -> dict[str, Any]:
    """What h and z know of drawings x (A, K, ...) that were not trained with.

    Returns:
        "view": R@1 of the same drawing from another view of it, among all A K, by cosines of h about their mean;
        "artists": R@10 of the same concept by another artist, among K; "h", "z": spectra, in descending order;
        "rank h", "rank z": effective ranks; "terms": VICReg's three, unweighted, of two views under z.
    """
    model.eval()
    generator = torch.Generator(x.device).manual_seed(3)
    flat, (a, k) = x.flatten(0, 1), x.shape[:2]
    one, two = view(flat, generator), view(flat, generator)
    h, seen = encode(model, flat), encode(model, one)  # (A K, dim) each
    z1, z2 = encode(space(model), one), encode(space(model), two)  # (A K, D) each

    def directions(h: Tensor) -> Tensor:
        return F.normalize(h - h.mean(dim=0), dim=-1)

    own = torch.arange(a * k, device=x.device)
    found = retrieval(directions(seen) @ directions(h).T, own, at=(1,))["R@1"]
    by = [directions(part) for part in h.unflatten(0, (a, k))]
    pairs = [(i, j) for i in range(a) for j in range(a) if i != j]
    across = [retrieval(by[i] @ by[j].T, own[:k], at=(10,))["R@10"] for i, j in pairs]
    return {
        "view": round(found, 4),
        "artists": round(sum(across) / len(across), 4),
        "h": [float(f"{v:.4g}") for v in covariance_spectrum(h).tolist()],
        "z": [float(f"{v:.4g}") for v in covariance_spectrum(z1).tolist()],
        "rank h": round(effective_rank(h), 3),
        "rank z": round(effective_rank(z1), 3),
        "terms": [float(f"{v:.4g}") for v in torch.stack(vicreg_terms(z1, z2)).tolist()],
    }


def measure(arm: dict[str, Any], seed: int, part: str = "test") -> dict[str, Any]:
    """Train an arm, `Arm(**arm)`, and examine it; what `examine` returns, with the "seconds" of training."""
    _check.choice("part", part, SPLITS[2:])
    model, history = train(Arm(**arm), seed, drawings("train"))
    return examine(model, drawings(part)) | {"seconds": round(history.seconds[-1], 1) if history.seconds else 0.0}


# ---- what is measured --------------------------------------------------------------------------------------------

BATCHES = (16, 64, 256)
ARMS = {
    "untrained": Arm(pictures=0),
    "VICReg": Arm(),
    "no invariance": Arm(invariance=0.0),
    "no variance": Arm(variance=0.0),
    "no covariance": Arm(covariance=0.0),
    "SimCLR": Arm("simclr"),
    **{f"VICReg, B = {b}": Arm(batch=b) for b in BATCHES},
    **{f"SimCLR, B = {b}": Arm("simclr", b) for b in BATCHES},
}
SEEDS = range(3)
STUDY = Study("vicreg", measure, lambda result: {k: v for k, v in result.items() if k != "seconds"})
RUNS = Arms(STUDY, ARMS, SEEDS)
settings, known = RUNS.settings, RUNS.known


def main() -> None:
    RUNS.complete("vicreg.terms", __doc__)


if __name__ == "__main__":
    main()
