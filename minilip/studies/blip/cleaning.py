r"""CapFilt where the noise is known: what the filter catches, what the captioner adds, whether training gains by it.

Letters: N pictures, L words, M pairs that are kept.

The web of this study is N scenes with one caption each, of which a known share is wrong: half of the wrong ones are
captions of other pictures, half are wrong in one thing only. As in the paper a model is trained on all of it; copies of
it are tuned on a few clean pairs, one as the captioner (describe), one as the filter (contrast and match); a new model
learns from what is kept. A control learns from the true pairs of the web alone, which nobody could pick in practice.
Settings were chosen on the part "val" with one seed.
`python -m minilip.studies.blip.cleaning` measures what `measured/blip-cleaning.jsonl` lacks.

Source: Li et al. 2022 (arXiv 2201.12086), section 3.3; test bed, sizes and controls are ours. Lesson 09.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minilip.blip import BLIP, Kept, capfilt
from minilip.data.reading import agreement
from minilip.data.scenes import Latents
from minilip.studies.blip.examination import describes, matches
from minilip.studies.blip.task import BATCH, FOILS, LR, WORLD, album, captions, foils, start
from minilip.studies.runs import command
from minilip.studies.store import Study
from minilip.training import fit

WEB, CLEAN, STEPS, TUNED, WRONG = 4096, 512, 450, 100, 0.4
ARMS = ("web", "CapFilt", "true pairs alone")


class Web(NamedTuple):
    """Pictures with captions, some of which are wrong."""

    latents: Latents
    images: Tensor  # (N, 3, H, W)
    captions: list[str]
    true: Tensor  # (N,) bool
    kind: Tensor  # (N,) 0 right, 1 another picture's caption, 2 wrong in one thing


def web(generator: torch.Generator, n: int = WEB, wrong: float = WRONG) -> Web:
    """n scenes, a share of whose captions is wrong."""
    latents = album(generator, n, n // 4)
    said = captions(latents)
    kind = torch.zeros(n, dtype=torch.int64)
    order = torch.randperm(n, generator=generator)
    far, near = order[: int(n * wrong) // 2], order[int(n * wrong) // 2 : int(n * wrong)]
    others = captions(WORLD.sample(len(far), generator))
    for i, caption in zip(far.tolist(), others, strict=True):
        said[i] = caption
    kind[far] = 1
    changed = foils(latents[near], generator)
    for place, i in enumerate(near.tolist()):
        for name in FOILS[place % len(FOILS) :] + FOILS:  # the first kind that changes this scene's meaning
            index, foil = changed[name]
            at = (index == place).nonzero()
            if len(at):
                said[i] = captions(foil[at[0]])[0]
                kind[i] = 2
                break
    true = agreement(said, latents)["all"]
    return Web(latents, WORLD.render(latents), said, true, kind.masked_fill(true, 0))


def pairs(images: Tensor, tokens: Tensor) -> Callable[[torch.Generator], tuple[Tensor, Tensor]]:
    """Batches drawn from a fixed set of pairs."""

    def batches(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(images), (BATCH,), generator=generator)
        return images[index], tokens[index]

    return batches


def tuned(model: BLIP, weights: tuple[float, float, float], clean: Any, steps: int, seed: int) -> BLIP:
    """A copy, trained further on clean pairs for the roles that it is to play."""
    copy = deepcopy(model)
    copy.weights = weights
    fit(copy, clean, steps, lr=LR / 3, seed=seed, progress=False)
    return copy


def filtered(kept: Kept, source: Web, tokenizer: Any) -> dict[str, float]:
    """Precision and recall of the filter on the web's pairs; what it lets through of each kind; the written ones."""
    from_web = torch.zeros(len(source.true), dtype=torch.bool)
    from_web[kept.picture[~kept.written]] = True
    written = kept.picture[kept.written]
    found = {
        "precision": float(source.true[from_web].float().mean()),
        "recall": float(from_web[source.true].float().mean()),
        "kept of others' captions": float(from_web[source.kind == 1].float().mean()),
        "kept of wrong in one thing": float(from_web[source.kind == 2].float().mean()),
        "true before": float(source.true.float().mean()),
        "written and kept": len(written) / len(source.true),
    }
    if len(written):
        said = tokenizer.decode(kept.tokens[kept.written])
        found["true of written and kept"] = float(agreement(said, source.latents[written])["all"].float().mean())
    return {name: round(value, 4) for name, value in found.items()}


def measure(
    seed: int,
    part: str = "test",
    steps: int = STEPS,
    tuning: int = TUNED,
    n: int = WEB,
    clean: int = CLEAN,
    threshold: float = 0.0,
) -> dict[str, Any]:
    """Train on the web, clean it, train on what is kept; all from one eye and with as many steps.

    Returns:
        "filter": see `filtered`, with the "pairs" that are kept; of each arm "said" and "matched" as in `examination`;
        "seconds" of all of it on this machine.
    """
    generator = torch.Generator().manual_seed(seed)
    source = web(generator, n)
    good = album(generator, clean, clean // 4)
    model = start(seed)
    tokens = model.tokenizer(source.captions)
    seconds = fit(model, pairs(source.images, tokens), steps, lr=LR, seed=seed, progress=False).seconds[-1]
    few = pairs(WORLD.render(good), model.tokenizer(captions(good)))
    captioner, judge = (tuned(model, w, few, tuning, seed) for w in ((0.0, 0.0, 1.0), (1.0, 1.0, 0.0)))
    kept = capfilt(captioner, judge, source.images, tokens, generator, threshold=threshold)
    sets = {
        "CapFilt": (kept.picture, kept.tokens),
        "true pairs alone": (source.true.nonzero()[:, 0], tokens[source.true]),
    }
    models = {"web": model}
    for name, (picture, said) in sets.items():
        models[name] = start(seed)
        fit(models[name], pairs(source.images[picture], said), steps, lr=LR, seed=seed, progress=False)
    found = {name: {"said": describes(m, part)["greedy"], "matched": matches(m, part)} for name, m in models.items()}
    caught = {**filtered(kept, source, model.tokenizer), "pairs": len(kept.picture) / n}
    return {"filter": caught, "arms": found, "seconds": round(seconds, 1)}


STUDY = Study("blip-cleaning", measure)
SETTINGS = [{"seed": seed} for seed in range(3)]


def known() -> list[dict[str, Any]]:
    """What has been measured with this code, for each seed.

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    return STUDY.recall(SETTINGS)


def main() -> None:
    command("blip.cleaning", __doc__).parse_args()
    torch.set_num_threads(1)
    STUDY.complete(SETTINGS)


if __name__ == "__main__":
    main()
