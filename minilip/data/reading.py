"""Captions read back: which attributes a sentence names, and whether they are those of the scene.

Letters: B scenes, O objects in a scene (1 or 2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from minilip import _check
from minilip.data.latents import COLOURS, OPPOSITE, RELATIONS, SHAPES, SIZES, Latents

_NAMES = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}
_PHRASE = (
    rf"an? (?:(?P<size{{0}}>{'|'.join(SIZES)}) )?(?:(?P<colour{{0}}>{'|'.join(COLOURS)}) )?"
    rf"(?P<shape{{0}}>{'|'.join(SHAPES)}|shape)"
)
_ONE = re.compile(_PHRASE.format(0) + r"(?: .*)?")
_TWO = re.compile(f"{_PHRASE.format(0)} (?P<relation>{'|'.join(RELATIONS)}) {_PHRASE.format(1)}(?: .*)?")


def read(captions: Sequence[str], objects: int = 1) -> dict[str, Tensor]:
    """What captions in the words of `Scenes.caption` say.

    >>> {name: x.tolist() for name, x in read(["a red circle left of a small square"], objects=2).items()}
    {'size': [[-1, 0]], 'colour': [[0, -1]], 'shape': [[0, 1]], 'relation': [0]}

    Args:
        captions: B sentences; upper case and doubled blanks do not matter.
        objects: O, 1 or 2.

    Returns:
        size, colour and shape, each (B, O), and relation (B,): int64 indices into the names of `minilip.data.scenes`,
        -1 for what is not said. A sentence of another form says nothing.

    Raises:
        ValueError: captions is one string, or objects is neither 1 nor 2.
    """
    if not isinstance(captions, Sequence) or isinstance(captions, str) or not captions:
        _check.fail("captions", "a list of at least one string", repr(captions)[:60])
    for caption in captions:
        if not isinstance(caption, str):
            _check.fail("caption", "a string", repr(caption))
    if _check.count("objects", objects) > 2:
        _check.fail("objects", "1 or 2", objects)
    found: dict[str, list[list[int]]] = {name: [] for name in _NAMES}
    relations = []
    for caption in captions:
        told = (_ONE if objects == 1 else _TWO).fullmatch(" ".join(caption.lower().split()))
        said = told.groupdict() if told else {}
        for name, names in _NAMES.items():
            words = [said.get(f"{name}{o}") for o in range(objects)]
            found[name].append([names.index(w) if w in names else -1 for w in words])
        relation = said.get("relation")
        relations.append(-1 if relation is None else RELATIONS.index(relation))
    return {**{name: torch.tensor(rows) for name, rows in found.items()}, "relation": torch.tensor(relations)}


def agreement(captions: Sequence[str], latents: Latents) -> dict[str, Tensor]:
    """Which parts of each caption are true of its scene.

    A part is right if it is said and true of every object. "A left of B" and "B right of A" say the same: a caption is
    read in the order in which more of what it says of the objects is right, then in which its relation is.

    Args:
        captions: B sentences.
        latents: of the B scenes they are about.

    Returns:
        "size", "colour", "shape", "relation" (of two objects) and "all", each (B,) bool; "all" is colour and shape, and
        the relation of two objects.

    Raises:
        ValueError: there is not one caption a scene.

    Source: exact attributes as the judge of a caption; lessons 08 to 10.
    """
    count, objects = latents.shape.shape
    said = read(captions, objects)
    if len(captions) != count:
        _check.fail("captions", f"one for each of {count} scenes", len(captions))
    orders, scores = [], []
    for swapped in (False, True)[:objects]:
        right, score = {}, torch.zeros(count, dtype=torch.int64)
        for name in _NAMES:
            true = getattr(latents, name).cpu()
            same = said[name] == (true.flip(1) if swapped else true)  # (B, O)
            right[name] = same.all(dim=1)
            score += 2 * same.sum(dim=1)
        right["all"] = right["colour"] & right["shape"]
        if objects == 2:
            true = latents.relation.cpu()
            right["relation"] = said["relation"] == (torch.tensor(OPPOSITE)[true] if swapped else true)  # (B,)
            right["all"] = right["all"] & right["relation"]
            score += right["relation"]
        orders.append(right)
        scores.append(score)
    if objects == 1:
        return orders[0]
    second = scores[1] > scores[0]  # (B,)
    return {name: torch.where(second, orders[1][name], orders[0][name]) for name in orders[0]}
