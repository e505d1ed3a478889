"""Two objects and what can be said of them: batches, captions that are true, and captions that are wrong in one thing.

Letters: B batch, N scenes, G captions.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from minilip.blip import BLIP, Eye, Labelled
from minilip.data.scenes import COLOURS, OPPOSITE, SHAPES, Latents, Scenes
from minilip.nn.tokenizer import Tokenizer
from minilip.training import fit

SIZE, BATCH, LR = 32, 64, 3e-3
TWINS = 32  # of a batch's scenes that show the objects of another one again, in a relation of their own
WARM = 300  # steps under labels, of the eye's convolutions alone
SEEDS = {"val": 1_000, "test": 2_000}  # of the scenes that are examined; training draws from the seeds of the runs
FOILS = ("colours swapped", "shapes swapped", "relation turned", "one colour", "one shape")
WORLD, SINGLE = Scenes(SIZE, objects=2), Scenes(SIZE)


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """Of all words that captions of two objects use."""
    return Tokenizer(captions(WORLD.sample(2000, torch.Generator().manual_seed(0))))


def captions(latents: Latents) -> list[str]:
    return WORLD.caption(latents, detail=2)


def album(generator: torch.Generator, n: int = BATCH, twins: int = TWINS) -> Latents:
    """n fresh scenes; the last `twins` of them show the objects of the first ones once more, elsewhere."""
    latents = WORLD.sample(n, generator)
    if not twins:
        return latents
    again = {
        name: torch.cat([x[:-twins], x[:twins]]) for name, x in (("colour", latents.colour), ("shape", latents.shape))
    }
    return latents.with_(**again)


def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Fresh scenes and their captions."""
    latents = album(generator)
    return WORLD.render(latents), tokenizer()(captions(latents), generator.device)


def labelled(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Single objects, as small as one of two is, with the labels of colour and shape. -> (B, 3, H, W), (B, 2)"""
    latents = SINGLE.sample(BATCH, generator)
    latents = latents.with_(radius=0.62 * latents.radius)
    return SINGLE.render(latents), torch.cat([latents.colour, latents.shape], dim=1)


@lru_cache(maxsize=3)
def warm_eye(seed: int, steps: int = WARM) -> dict[str, Tensor]:
    """The state of an eye after its time under labels."""
    torch.manual_seed(seed)
    eye = Eye(SIZE)
    fit(Labelled(eye, (len(COLOURS), len(SHAPES))), labelled, steps, lr=LR, seed=seed, progress=False)
    return eye.state_dict()


def start(seed: int, weights: tuple[float, float, float] = (1.0, 1.0, 1.0), warm: int = WARM) -> BLIP:
    """A model whose eye, and its slow copy, have had their time under labels."""
    torch.manual_seed(seed)
    model = BLIP(tokenizer(), SIZE, weights=weights)
    if warm:
        for eye in (model.eye, model.slow[0]):
            eye.load_state_dict(warm_eye(seed, warm))
    return model


# ---- what is true, and what is not -----------------------------------------------------------------------------------


def turned(latents: Latents) -> Latents:
    """The same scenes from the other object's point of view: "A left of B" becomes "B right of A"."""
    opposite = torch.tensor(OPPOSITE, device=latents.relation.device)
    return Latents(
        **{f: getattr(latents, f).flip(1) for f in ("shape", "colour", "size", "radius", "position", "angle")},
        background=latents.background,
        relation=opposite[latents.relation],
        blur=latents.blur,
        occluder=latents.occluder,
    )


def code(latents: Latents) -> Tensor:
    """A number for what a caption of detail 2 says. (N,)"""
    first, second = (3 * latents.colour + latents.shape).unbind(1)
    return (first * 24 + second) * 4 + latents.relation


def true_of(latents: Latents, said: Latents) -> Tensor:
    """Whether caption j, of scene j of `said`, is true of scene i: word for word, or told from the other end. (N, G)"""
    return (code(latents)[:, None] == code(said)) | (code(turned(latents))[:, None] == code(said))


def foils(latents: Latents, generator: torch.Generator) -> dict[str, tuple[Tensor, Latents]]:
    """Captions that differ from the truth in one thing. -> {of FOILS: (index of the scenes (M,), what is said of them)}

    Left out are scenes in which the change says the same again, as a swap of two equal colours does.
    """
    n, device = len(latents), latents.shape.device
    which = torch.randint(2, (n,), generator=generator, device=device)  # the object whose value is changed

    def other(x: Tensor, high: int) -> Tensor:
        new = (x + torch.randint(1, high, x.shape, generator=generator, device=device)) % high
        here = torch.stack([which == 0, which == 1], dim=1)  # (N, 2)
        return torch.where(here, new, x)

    opposite = torch.tensor(OPPOSITE, device=device)
    changed = (
        latents.with_(colour=latents.colour.flip(1)),
        latents.with_(shape=latents.shape.flip(1)),
        latents.with_(relation=opposite[latents.relation]),
        latents.with_(colour=other(latents.colour, len(COLOURS))),
        latents.with_(shape=other(latents.shape, len(SHAPES))),
    )
    found = {}
    for name, said in zip(FOILS, changed, strict=True):
        wrong = (code(said) != code(latents)) & (code(said) != code(turned(latents)))
        index = wrong.nonzero()[:, 0]
        found[name] = (index, said[index])
    return found
