r"""Five eyes, one language model that has never seen a picture, one linear map between them.

Letters: B pictures, D_I width of a feature, k soft prompts, D_L width of a word's vector, V words.

What it is trained on, and the eyes, stand in `bed.py`.

Settings (steps, rates, width) were chosen on one seed and other scenes than those reported.
`python -m minilip.studies.limber.scenes` measures what `measured/limber-scenes.jsonl` lacks.

Source: Merullo et al. 2023 (arXiv 2209.15162), section 3 for the four degrees of linguistic supervision; test bed,
sizes and the control by pixels are ours. Lesson 08.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip.data.reading import agreement
from minilip.data.scenes import Latents
from minilip.evaluation import encode, linear_probe
from minilip.limber import LimBeR, LinearPrompt, caption_log_probabilities, frozen_hash, ridge_map
from minilip.nn.language import LanguageModel
from minilip.nn.tokenizer import PAD
from minilip.studies.limber.bed import (
    ATTRIBUTES,
    DIM,
    END,
    EYE_STEPS,
    EYES,
    LANGUAGE_STEPS,
    PROMPTS,
    TOKENIZER,
    scenes,
    standardised,
    tokens_of,
    train_eye,
    train_language,
)
from minilip.studies.runs import command
from minilip.studies.store import Study
from minilip.training import fit

MAP_BATCH, MAP_STEPS, MAP_LR = 64, 300, 1e-2
SEEDS = range(3)


# ---- the map ---------------------------------------------------------------------------------------------------------


def captions(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What the map learns from: pictures, and a sentence about each."""
    images, latents = scenes(generator, MAP_BATCH)
    return images, tokens_of(latents)


def learn_map(
    eye: nn.Module, language: LanguageModel, seed: int, steps: int = MAP_STEPS, prompts: int = 1, **options: Any
) -> LimBeR:
    """A linear map between an eye and the language model; nothing else learns."""
    torch.manual_seed(seed)
    device = language.position.device
    model = LimBeR(eye, LinearPrompt(int(eye.dim), DIM, prompts), language, END).to(device)  # type: ignore[arg-type]
    fit(model, captions, steps, lr=MAP_LR, weight_decay=0.0, seed=seed, **options)
    return model


def closed_form(eye: nn.Module, language: LanguageModel, count: int = 4000, ridge: float = 1e-2) -> LimBeR:
    """The map that puts pooled features nearest to the vectors of the caption's own words: least squares, no training.

    One soft prompt stands for each word of a caption and its end.
    """
    device = language.position.device
    images, latents = scenes(torch.Generator(device).manual_seed(2000), count)
    words = language.embed(tokens_of(latents))  # (B, L, D_L)
    p, b = ridge_map(encode(eye, images), words.flatten(1), ridge)  # (L D_L, D_I), (L D_L,)
    model = LimBeR(eye, LinearPrompt(p.shape[1], DIM, words.shape[1]), language, END).to(device)
    with torch.no_grad():
        model.prompt.linear.weight.copy_(p)
        model.prompt.linear.bias.copy_(b)
    return model


# ---- examination -----------------------------------------------------------------------------------------------------


def write(model: LimBeR, images: Tensor) -> list[str]:
    """A caption for each picture, greedily, from "a" on."""
    out = model.caption(images, TOKENIZER("a")[0, :1].to(images.device), 6)  # (B, 7)
    ended = (out == END).cumsum(dim=1) > 0
    return TOKENIZER.decode(out.masked_fill(ended, PAD))


def answers(model: LimBeR, images: Tensor, name: str) -> Tensor:
    """The word that follows the soft prompts and "what colour is it". -> (B,)"""
    question = TOKENIZER(f"what {name} is it")[0, :4].to(images.device)
    return model.caption(images, question, 1)[:, -1]


@torch.no_grad()
def nats(model: LimBeR, images: Tensor, tokens: Tensor) -> Tensor:
    """What each word of the true captions costs on average. -> (L,)"""
    return -caption_log_probabilities(model.logits(images, tokens), tokens, END).mean(dim=0)


def examine(model: LimBeR, images: Tensor, latents: Latents) -> dict[str, Any]:
    """Fresh scenes, captioned and asked about.

    Returns:
        "caption" and "answer": {attribute: share that is right}, "all" (colour and shape; see `agreement`) and
        "everything" (size too); "nats" of each attribute's word and of the whole caption; "shuffled": the caption's
        nats beside another picture.
    """
    tokens = tokens_of(latents)
    right = agreement(write(model, images), latents)
    said = {name: right[name].float().mean().item() for name in (*ATTRIBUTES, "all")}
    said["everything"] = (right["all"] & right["size"]).float().mean().item()
    told = {}
    for name, names in ATTRIBUTES.items():
        vocabulary = torch.tensor([TOKENIZER(word)[0, 0] for word in names])
        true = vocabulary[getattr(latents, name)[:, 0].cpu()]
        told[name] = (answers(model, images, name).cpu() == true).float().mean().item()
    cost, other = nats(model, images, tokens), nats(model, images.roll(1, dims=0), tokens)
    words = dict(zip(ATTRIBUTES, cost[1:4].tolist(), strict=True))
    return {
        "caption": _rounded(said),
        "answer": _rounded(told),
        "nats": _rounded({**words, "caption": float(cost.sum())}),
        "shuffled": round(float(other.sum()), 4),
    }


def blind() -> dict[str, float]:
    """Nats of each word for a writer that knows the language and sees nothing: attributes are uniform."""
    costs = {name: math.log(len(names)) for name, names in ATTRIBUTES.items()}
    return {**costs, "caption": sum(costs.values())}


def probe(tower: nn.Module, device: torch.device) -> dict[str, float]:
    """What a linear probe finds of each attribute in the pooled features: trained on 2,000 scenes, tested on 1,000."""
    eye = standardised(tower, True, device)
    (x, known), (x_test, asked) = (scenes(torch.Generator(device).manual_seed(s), n) for s, n in ((3, 2000), (4, 1000)))
    h, h_test = encode(eye, x), encode(eye, x_test)
    labels = {name: (getattr(known, name)[:, 0], getattr(asked, name)[:, 0]) for name in ATTRIBUTES}
    return _rounded({name: linear_probe(h, y, h_test, y_test) for name, (y, y_test) in labels.items()})


def reads(language: LanguageModel, device: torch.device, count: int = 500) -> dict[str, float]:
    """How often the language model answers rightly about a sentence, which is all that it was ever given."""
    _, latents = scenes(torch.Generator(device).manual_seed(5), count)
    told = F.pad(tokens_of(latents), (1, 0), value=END)  # (B, L)
    found = {}
    for name, names in ATTRIBUTES.items():
        question = TOKENIZER(f"what {name} is it")[0, :4].to(device).expand(count, -1)
        with torch.no_grad():
            word = language(torch.cat([told, question], dim=1))[:, -1].argmax(dim=1).cpu()  # (B,)
        vocabulary = torch.tensor([TOKENIZER(each)[0, 0] for each in names])
        found[name] = float((word == vocabulary[getattr(latents, name)[:, 0].cpu()]).float().mean())
    return _rounded(found)


def measure(seed: int, scale: float = 1.0, count: int = 2000) -> dict[str, Any]:
    """One language model, all eyes, all maps, examined on fresh scenes.

    Args:
        seed: of everything; scale: of the numbers of steps; count: of scenes in the examination.

    Returns:
        "reads": of the language model; {eye: {"map", "pooled", "closed form": `examine`, "probe": ...}}; "prompts":
        {k: `examine`} of CLIP's pooled features; "frozen": whether language model and eyes are what they were.
    """
    device = torch.device("cpu")
    steps = {name: max(1, round(scale * n)) for name, n in (("l", LANGUAGE_STEPS), ("e", EYE_STEPS), ("m", MAP_STEPS))}
    language = train_language(seed, device, steps["l"])
    before, untouched = frozen_hash(language), True
    images, latents = scenes(torch.Generator(device).manual_seed(10_000 + seed), count)
    found: dict[str, Any] = {"reads": reads(language, device)}
    for name in EYES:
        tower = train_eye(name, seed, device, steps["e"])
        mapped, pooled = standardised(tower, False, device), standardised(tower, True, device)
        seen = frozen_hash(mapped), frozen_hash(pooled)
        row = {"probe": probe(tower, device)}
        for kind, eye, prompts in (("map", mapped, 1), ("pooled", pooled, PROMPTS)):
            model = learn_map(eye, language, seed, steps["m"], prompts, label=f"{name}, {kind}")
            row[kind] = examine(model, images, latents)
        row["closed form"] = examine(closed_form(pooled, language), images, latents)
        found[name] = row
        if name == "CLIP":
            found["prompts"] = {
                str(k): examine(learn_map(pooled, language, seed, steps["m"], k, label=f"k = {k}"), images, latents)
                for k in (1, 2)
            }
        untouched &= (frozen_hash(mapped), frozen_hash(pooled)) == seen
    return {**found, "frozen": untouched and frozen_hash(language) == before}


def _rounded(numbers: dict[str, float]) -> dict[str, float]:
    return {name: round(x, 4) for name, x in numbers.items()}


# ---- what is measured ------------------------------------------------------------------------------------------------

STUDY = Study("limber-scenes", measure)


def settings() -> list[dict[str, Any]]:
    return [{"seed": seed} for seed in SEEDS]


def known() -> list[dict[str, Any]]:
    """What `measure` returned, for each seed."""
    return STUDY.recall(settings())


def main() -> None:
    command("limber.scenes", __doc__).parse_args()
    torch.set_num_threads(1)
    STUDY.complete(settings())


if __name__ == "__main__":
    main()
