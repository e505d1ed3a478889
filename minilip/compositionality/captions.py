"""Questions about a picture with one true caption and false ones made of the same world: probes in the manner of ARO.

Letters: B scenes, N of them that a question can be asked of, F false captions of each.

Source: Yuksekgonul et al. 2023 (arXiv 2210.01936); lesson 10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from minilip import _check
from minilip.data.latents import COLOURS, OPPOSITE, SHAPES, SIZES, Latents
from minilip.data.scenes import Scenes

VALUES = {"size": len(SIZES), "colour": len(COLOURS), "shape": len(SHAPES)}
NAMED = ("colour", "shape")  # what captions name of each object where nothing else is asked for
_WORLD = Scenes(objects=2)


class Probe(NamedTuple):
    """A question to each of N scenes: which of these captions is true?"""

    scenes: Tensor  # (N,) which of the B scenes
    true: list[str]  # N
    false: list[list[str]]  # N rows of F


def exchange(latents: Latents, *names: str) -> Latents:
    """Scenes whose two objects have exchanged some attributes: `exchange(latents, "colour")`.

    Args:
        latents: of B scenes of two objects.
        names: of "size", "colour" and "shape".

    Raises:
        ValueError: the scenes have one object, or a name is unknown.
    """
    _two(latents)
    for name in names:
        _check.choice("attribute", name, tuple(VALUES))
    return latents.with_(**{name: getattr(latents, name).flip(1) for name in names})


def order_probe(
    latents: Latents, generator: torch.Generator, shuffles: int = 4, named: tuple[str, ...] = NAMED
) -> Probe:
    """The words of the caption in another order, by lot: a bag of words scores all F + 1 the same.

    Args:
        latents: of B scenes of two objects.
        generator: source of the orders.
        shuffles: F.
        named: what the captions say of an object, of "size", "colour" and "shape".

    Returns:
        All scenes; F shuffles of each, none of which is the caption itself. Two of them may be alike.

    Raises:
        ValueError: the scenes have one object, or an argument is out of range.
    """
    _two(latents)
    _check.count("shuffles", shuffles)
    _check.generator("generator", generator)
    true = _captions(latents, named)
    false = [[_shuffled(caption, generator) for _ in range(shuffles)] for caption in true]
    return Probe(torch.arange(len(latents), device=latents.shape.device), true, false)


def attribute_probe(latents: Latents, name: str = "colour", named: tuple[str, ...] = NAMED) -> Probe:
    """One attribute exchanged between the objects: the same words, bound otherwise.

    Args:
        latents: of B scenes of two objects.
        name: the attribute that is exchanged, one of `named`.
        named: what the captions say of an object.

    Returns:
        The scenes whose objects differ in this attribute and in another one of `named`: elsewhere the exchange would
        change nothing, or exchange the objects whole. F = 1.

    Raises:
        ValueError: the scenes have one object, no other attribute is named, or no scene can be asked.
    """
    _two(latents)
    _check.choice("name", name, tuple(named))
    rest = [_differ(latents, other) for other in named if other != name]
    if not rest:
        _check.fail("named", f"another attribute besides {name}", named)
    return _probe(latents, _differ(latents, name) & torch.stack(rest).any(dim=0), exchange(latents, name), named)


def relation_probe(latents: Latents, how: str = "opposite", named: tuple[str, ...] = NAMED) -> Probe:
    """The relation turned round: by the opposite word, or by the two objects in exchanged places of the sentence.

    Args:
        latents: of B scenes of two objects.
        how: "opposite" ("left of" becomes "right of": another word), or "objects" (the same words).
        named: what the captions say of an object.

    Returns:
        The scenes whose objects differ in what is named. F = 1.

    Raises:
        ValueError: the scenes have one object, an argument is unknown, or no scene can be asked.
    """
    _two(latents)
    _check.choice("how", how, ("opposite", "objects"))
    if how == "objects":
        false = exchange(latents, *VALUES)
    else:
        opposite = torch.tensor(OPPOSITE, device=latents.relation.device)
        false = latents.with_(relation=opposite[latents.relation])
    differ = torch.stack([_differ(latents, each) for each in named or ("colour",)]).any(dim=0)  # (B,)
    return _probe(latents, differ, false, named)


def replaced_probe(
    latents: Latents, generator: torch.Generator, name: str = "colour", named: tuple[str, ...] = NAMED
) -> Probe:
    """One object's attribute replaced by a value that neither object has: the easy question, for control.

    Args:
        latents: of B scenes of two objects.
        generator: draws the object and the value.
        name: "colour" or "shape"; there is no third size.
        named: what the captions say of an object, `name` among it.

    Returns:
        All scenes. F = 1.

    Raises:
        ValueError: the scenes have one object, or an argument is unknown.
    """
    _two(latents)
    _check.generator("generator", generator)
    _check.choice("name", name, [each for each in named if each != "size"])
    values = getattr(latents, name)  # (B, 2)
    n, device = len(latents), values.device
    lot = torch.rand(n, VALUES[name], generator=generator, device=device)
    new = lot.scatter(1, values, -1.0).argmax(dim=1)  # (B,) any value but the two that are there
    which = torch.randint(2, (n, 1), generator=generator, device=device)
    false = latents.with_(**{name: values.scatter(1, which, new[:, None])})
    return _probe(latents, torch.ones(n, dtype=torch.bool, device=device), false, named)


PROBES: dict[str, Callable[[Latents, torch.Generator], Probe]] = {  # those that the lesson asks of every model
    "order": lambda latents, generator: order_probe(latents, generator),
    "attribute": lambda latents, generator: attribute_probe(latents),
    "objects": lambda latents, generator: relation_probe(latents, "objects"),
    "relation": lambda latents, generator: relation_probe(latents),
    "replaced": lambda latents, generator: replaced_probe(latents, generator),
}


def _probe(latents: Latents, asked: Tensor, false: Latents, named: tuple[str, ...]) -> Probe:
    scenes = asked.nonzero()[:, 0]  # (N,)
    if len(scenes) == 0:
        _check.fail("latents", "a scene whose objects differ in what is exchanged", f"none among {len(latents)}")
    return Probe(scenes, _captions(latents[scenes], named), [[c] for c in _captions(false[scenes], named)])


def _captions(latents: Latents, named: tuple[str, ...]) -> list[str]:
    for name in named:
        _check.choice("named", name, tuple(VALUES))
    return _WORLD.caption(latents, attributes=tuple(named))


def _shuffled(caption: str, generator: torch.Generator) -> str:
    words = caption.split()
    while True:
        order = torch.randperm(len(words), generator=generator, device=generator.device).tolist()
        if (found := " ".join(words[i] for i in order)) != caption:
            return found


def _differ(latents: Latents, name: str) -> Tensor:
    first, second = getattr(latents, name).unbind(1)
    return first != second  # (B,)


def _two(latents: Latents) -> None:
    if not isinstance(latents, Latents) or latents.shape.dim() != 2 or latents.shape.shape[1] != 2 or not len(latents):
        came = tuple(latents.shape.shape) if isinstance(latents, Latents) else type(latents).__name__
        _check.fail("latents", "those of scenes of two objects", came)
