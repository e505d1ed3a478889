r"""How far to crop and how much to recolour: SimCLR's figure 5 in nine cells, on emoji.

Letters: B pictures a step.

Each cell trains SimCLR on drawings by three artists with crops of at least a certain area and colour jitter of a
certain strength, and asks two questions of h: whether a drawing finds the same concept by another artist among the
concepts held out, and what a linear classifier makes of animal silhouettes, which have no colours.
`python -m minilip.studies.simclr.views` measures what `measured/simclr-views.jsonl` lacks.

Source: Chen et al. 2020 (arXiv 2002.05709), figure 5 and section 3.1; lesson 03.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minilip.data.emoji import ARTISTS, SEEN_ARTISTS
from minilip.evaluation import encode, linear_predictions
from minilip.nn import ConvNet
from minilip.nn.augment import simclr_view
from minilip.simclr import SimCLR
from minilip.studies.runs import command
from minilip.studies.simclr.transfer import DIM, LR, TEMPERATURE, WIDTH, across_artists, drawings, task
from minilip.studies.store import Study
from minilip.training import fit

STEPS, BATCH = 150, 64
AREAS = (1.0, 0.5, 0.2)  # least area of a crop; 1 for none
STRENGTHS = (0.0, 0.5, 1.0)  # of the colour jitter; with 0 no picture loses its colours either


def train(area: float, strength: float, seed: int, steps: int = STEPS, progress: bool = True) -> tuple[SimCLR, float]:
    """One cell with one seed -> the model, and how often a partner is the nearest in the last 20 steps."""
    x = drawings("train")[1]
    seen = torch.tensor([ARTISTS.index(a) for a in SEEN_ARTISTS])

    def batches(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        concepts = torch.randperm(x.shape[1], generator=generator)[:BATCH]
        artists = seen[torch.randint(len(seen), (len(concepts),), generator=generator)]
        pictures, grey = x[artists, concepts], 0.2 if strength > 0 else 0.0
        one, two = (simclr_view(pictures, generator, strength, (area, 1.0), grey=grey) for _ in range(2))
        return one, two

    torch.manual_seed(seed)
    model = SimCLR(ConvNet(WIDTH), DIM, temperature=TEMPERATURE)
    label = f"crop {area:g}, colour {strength:g}, seed {seed}"
    history = fit(model, batches, steps, lr=LR, seed=seed, label=label, progress=progress)
    return model, sum(history.metrics["accuracy"][-20:]) / len(history.metrics["accuracy"][-20:])


def measure(area: float, strength: float, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """Train a cell and ask it.

    Returns:
        "across artists": R@10; "animals": accuracy of a linear classifier; "partner": share of partners found in
        training.
    """
    model, partner = train(area, strength, seed, steps)
    t = task("animals")
    found = linear_predictions(encode(model, t.x), t.y, encode(model, t.x_test), strength=0.1)
    return {
        "across artists": round(across_artists(model), 4),
        "animals": round(float((found == t.y_test).float().mean()), 4),
        "partner": round(partner, 4),
    }


SEEDS = range(3)
STUDY = Study("simclr-views", measure)


def settings(area: float, strength: float, seed: int) -> dict[str, Any]:
    return {"area": area, "strength": strength, "seed": seed}


def known() -> dict[tuple[float, float], list[dict[str, Any]]]:
    """What has been measured with this code: {(area, strength): [what `measure` returns, for each seed]}.

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    return {(a, s): STUDY.recall([settings(a, s, seed) for seed in SEEDS]) for a in AREAS for s in STRENGTHS}


def main() -> None:
    command("simclr.views", __doc__).parse_args()
    torch.set_num_threads(1)
    STUDY.complete(settings(a, s, seed) for a in AREAS for s in STRENGTHS for seed in SEEDS)


if __name__ == "__main__":
    main()
