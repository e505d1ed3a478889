"""What ProLIP learns on Scenes, where the ambiguity of every caption and picture is known, and what its rivals learn.

`python -m minilip.studies.prolip.scenes` measures what `measured/prolip.jsonl` lacks of 21 entries: seven arms with
three seeds, four minutes each on two cores, about an hour and a half. A run that was stopped goes on from its
checkpoint.

Letters as in `generality`; D embedding dimension, S summed variance. Source: ours; lesson 12.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from minilip.clip import CLIP, SigLIP
from minilip.data import home
from minilip.data.scenes import Scenes
from minilip.nn import BagOfWords, ConvNet, TextTransformer
from minilip.prolip import ProLIP
from minilip.studies.digest import fingerprint
from minilip.studies.prolip.examination import generality, inclusion_tests, pictures, zero_shot
from minilip.studies.prolip.generality import Captions, boxes, codes_of, masked, nested
from minilip.studies.prolip.uses import prompts, retrieval, selective, traversal
from minilip.studies.runs import command
from minilip.studies.store import Study
from minilip.training import History, fit

SEEDS = (0, 1, 2)
START, STEPS, BATCH, NAMED, LR = 700, 900, 256, 0.6, 2e-3
BLUR, OCCLUSION = 0.15, 0.15  # of the pictures that are trained on


@dataclass(frozen=True)
class Masking:
    """How ProLIP is shown that one thing is inside another.

    Args:
        captions: the recipe of `generality.masked` for more general copies of captions; None is without inclusion.
        weight: of the inclusion losses.
        graded: a masked picture covers more of the same than the picture does, in place of something that is whole.
        share: of a batch that has masked copies.
    """

    captions: str | None = None
    weight: float = 0.0
    graded: bool = False
    share: float = 1 / 8


PROBABILISTIC = {
    "ProLIP": Masking("attributes", 0.02),
    "words deleted": Masking("words", 0.02),
    "[MASK] tokens": Masking("tokens", 0.02),
    "no inclusion": Masking(),
    "graded": Masking("attributes", 0.02, graded=True, share=1 / 4),
}
ARMS = ("CLIP", "SigLIP", *PROBABILISTIC)


def spoilt_world() -> Scenes:
    return Scenes(blur=BLUR, occlusion=OCCLUSION)


def build(arm: str, captions: Captions, seed: int) -> CLIP | ProLIP:
    """The same two towers under another loss."""
    torch.manual_seed(seed)
    tokenizer = captions.tokenizer
    readouts = 2 if arm in PROBABILISTIC else 1
    towers = ConvNet(), TextTransformer(len(tokenizer), tokenizer.length, depth=1, readouts=readouts)
    if arm == "CLIP":
        return CLIP(*towers, tokenizer)
    if arm == "SigLIP":
        return SigLIP(*towers, tokenizer, batch=BATCH)
    return ProLIP(*towers, tokenizer, batch=BATCH, alpha=PROBABILISTIC[arm].weight)


def start(captions: Captions, seed: int, steps: int, **more: Any) -> nn.Module:
    """The image tower that every arm starts from: lesson 07's CLIP, which has learned to tell shapes apart.

    Captions that leave out what they like teach a shape slowly: without this a tower needs thousands of steps.
    """
    torch.manual_seed(seed)
    tokenizer, world = captions.tokenizer, spoilt_world()
    model = CLIP(ConvNet(), BagOfWords(len(tokenizer), 64), tokenizer).to(captions.tokens.device)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = world.sample(BATCH // 2, generator)
        return world.render(z), tokenizer(world.caption(z), generator.device)

    fit(model, draw, steps, lr=3e-3, seed=seed, label=f"image tower, seed {seed}", **more)
    return model.image_tower


def batches(captions: Captions, masking: Masking) -> Callable[[torch.Generator], tuple[Tensor, ...]]:
    """Pictures, some of them blurred or partly hidden, and captions that name 3 of 5 attributes on average.

    With a masking: also the first pictures under a box, and more general copies of their captions; where it is graded,
    these pictures themselves are partly covered, and what is masked covers more of the same.
    """
    world, m = spoilt_world(), int(BATCH * masking.share)

    def draw(generator: torch.Generator) -> tuple[Tensor, ...]:
        z = world.sample(BATCH, generator)
        images, rows = world.render(z), captions.some(codes_of(z), NAMED, generator)
        if masking.captions is None:
            return images, captions.tokens[rows]
        general = masked(captions, rows[:m], masking.captions, generator)  # (M, L)
        if not masking.graded:
            return images, captions.tokens[rows], boxes(images[:m], generator), general
        less, more = nested(images[:m], generator)
        return torch.cat([less, images[m:]]), captions.tokens[rows], more, general

    return draw


def train(
    arm: str, captions: Captions, seed: int, steps: int, tower: nn.Module, **more: Any
) -> tuple[CLIP | ProLIP, History]:
    """One run from a trained image tower, which stays as it is; `more` goes to `fit`."""
    model = build(arm, captions, seed).to(captions.tokens.device)
    model.image_tower.load_state_dict(tower.state_dict())
    draw = batches(captions, PROBABILISTIC.get(arm, Masking()))
    return model, fit(model, draw, steps, lr=LR, seed=seed, label=f"{arm}, seed {seed}", **more)


def trained(arm: str, captions: Captions, seed: int, first: int, steps: int) -> tuple[CLIP | ProLIP, History]:
    """A run from its own checkpoint, where it went on after an interruption or is already at its end."""
    code = fingerprint(start) + fingerprint(train)

    def file(name: str) -> Path:
        return home() / "measured" / f"prolip-{code}-{name.replace(' ', '-')}-{seed}.pt"

    tower = start(captions, seed, first, checkpoint=file(f"start-{first}"), every=first)
    return train(arm, captions, seed, steps, tower, checkpoint=file(f"{arm}-{steps}"), every=100)


# ---- what is measured ------------------------------------------------------------------------------------------------

Result = TypedDict(
    "Result",
    {
        "seconds": float,  # of training
        "zero-shot": dict[str, float],  # what the functions of `examination` and `uses` return, each for one model
        "selective": dict[str, Any],
        "retrieval": dict[str, float],
        "prompts": dict[str, float],
        "prompts, half of them wrong": dict[str, float],
        "traversal": dict[str, Any],
        "captions": dict[str, Any],  # this and what follows is there for a model with variances
        "pictures": dict[str, Any],
        "inclusion": dict[str, Any],
    },
    total=False,
)


def examine(model: CLIP | ProLIP, captions: Captions) -> Result:
    """Everything that the model has an answer to."""
    out: Result = {
        "zero-shot": zero_shot(model, captions),
        "selective": selective(model, captions),
        "retrieval": retrieval(model, captions),
        "prompts": prompts(model, captions, strangers=0),
        "prompts, half of them wrong": prompts(model, captions, strangers=3),
        "traversal": traversal(model, captions),
    }
    if isinstance(model, ProLIP):
        out |= {
            "captions": generality(model, captions),
            "pictures": pictures(model),
            "inclusion": inclusion_tests(model, captions),
        }
    return out


def measure(arm: str, seed: int, first: int, steps: int) -> Result:
    """One arm with one seed."""
    captions = Captions(Scenes())
    model, history = trained(arm, captions, seed, first, steps)
    return {"seconds": round(history.seconds[-1], 1), **examine(model, captions)}


STUDY = Study("prolip", measure)


def settings(arm: str, seed: int) -> dict[str, Any]:
    return {"arm": arm, "seed": seed, "first": START, "steps": STEPS}


def known() -> dict[str, list[Result]]:
    """Arm -> a result for each seed.

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    results = STUDY.recall([settings(arm, seed) for arm in ARMS for seed in SEEDS])
    return {arm: results[i * len(SEEDS) : (i + 1) * len(SEEDS)] for i, arm in enumerate(ARMS)}


def main() -> None:
    parser = command("prolip.scenes", __doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    chosen = parser.parse_args()
    STUDY.complete(settings(arm, seed) for seed in chosen.seeds for arm in ARMS)


if __name__ == "__main__":
    main()
