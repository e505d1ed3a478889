"""Which emoji there are: the pinned packages, the table of concepts that all four artists draw, and its splits.

C concepts in the table. `minilip.data.emoji` draws them.
"""

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minilip.data.fetch import File, Package


def _drawings(name: str, version: str, icons: File, chars: File, info: File) -> Package:
    files = {"icons.json": icons, "chars.json": chars, "info.json": info}  # drawings, code point -> name, licence
    return Package(f"@iconify-json/{name}", version, files)


ARTWORK = {
    "noto": _drawings(
        "noto",
        "1.2.9",
        icons=File(25233364, "9eac6ef4e7ec122b6f0e7ac281d61008afdbc720d0ce861e398b939daaa347c6"),
        chars=File(189666, "91485653ca890bff640f2a6c2d7be62d625a90527b6b4d816b41593675bf5c8f"),
        info=File(543, "ecc8c96b156cdd30d682a8518f662a2693f1b0e63b14e89c5e8d4e7990b8cb9c"),
    ),
    "twemoji": _drawings(
        "twemoji",
        "1.2.5",
        icons=File(10187099, "5d5d820790565b764f2728675d487c9ee4c1fc83916d8567d5aca8ba7527c242"),
        chars=File(199063, "8e6a83d5a3ac185b2446154b9c4ee07c983bd4a5b2a21aa4b9ff04af9831eefe"),
        info=File(484, "9a7a0a6533a8a43588a463bfa88282620e560eeb2c1f1980ce30ada153358642"),
    ),
    "openmoji": _drawings(
        "openmoji",
        "1.2.29",
        icons=File(9079991, "7075331faab544067dbff4236471dd378bb5410aa05799a8a343c9ebf5c5984c"),
        chars=File(215789, "8583c4c65723c22c043a50a27038c43d3d12de336ad409872b23356f4c3e3825"),
        info=File(535, "d94b474119ad0a9d21f3290bfbcc84b4afaeff0d88b2f6f04cced3e949212d9d"),
    ),
    "fluent-emoji-flat": _drawings(
        "fluent-emoji-flat",
        "1.2.6",
        icons=File(8958092, "f5f4cf457c0db2ad5a2e42e033e02e0c87d10e43d0164cfffb3bb84914970a63"),
        chars=File(122756, "7f084c5a95807edb4702a7c9f6f18e74d59026d1c34ceb8cae85df0b9a9f0a10"),
        info=File(545, "9cd2f13e7039b1d1eeeef92af63b07701ba1b242aadc3c0957eae9c98dca7771"),
    ),
}
WORDS = Package(
    "emojibase-data",
    "17.0.0",
    {
        "en/data.json": File(775157, "ed014f1049bd370c5794f815850156196ac382850f51c3e9f6a9e83553fb3f01"),
        "meta/groups.json": File(3860, "3ce4f0a8e5890ed9d746b12e0056b170340928c1936be35cf92bb3e6d83a71e1"),
    },
)

SPLITS = ("all", "train", "val", "test")
SEED = 0
# Subgroups that draw nearly the same move together: across subgroups, these hold the nearest pairs of pictures
# (cat face and grinning cat, full moon and yellow circle, red heart and heart suit, neutral face and confused face).
KIN = {  # how a subgroup's name begins -> its family
    "face-": "faces",
    "person": "people",
    "hand": "hands",
    "cat-face": "animal-mammal",
    "monkey-face": "animal-mammal",
    "geometric": "sky-weather",
    "game": "heart",
    "av-symbol": "arrow",
    "event": "plant-other",
}


class Concepts(NamedTuple):
    labels: list[str]  # C captions, all different
    tags: list[tuple[str, ...]]
    codepoints: list[str]  # hexadecimal, joined by "-"
    group: Tensor  # (C,) int64, into group_names
    subgroup: Tensor  # (C,) int64, into subgroup_names
    group_names: list[str]
    subgroup_names: list[str]


def read_concepts(root: Path) -> Concepts:
    """The concepts that every artist draws, in Unicode's order, from the fetched packages under `root`."""
    drawn = set.intersection(*(set(_json(package, "chars.json", root)) for package in ARTWORK.values()))
    # The 26 regional indicators are the only entries without a group.
    entries = [e for e in _json(WORDS, "en/data.json", root) if "group" in e and _codepoint(e) in drawn]
    entries.sort(key=lambda e: e["order"])
    names = _json(WORDS, "meta/groups.json", root)
    group, group_names = _number([e["group"] for e in entries], names["groups"])
    subgroup, subgroup_names = _number([e["subgroup"] for e in entries], names["subgroups"])
    return Concepts(
        labels=[e["label"] for e in entries],
        tags=[tuple(e["tags"]) for e in entries],
        codepoints=[_codepoint(e) for e in entries],
        group=group,
        subgroup=subgroup,
        group_names=group_names,
        subgroup_names=subgroup_names,
    )


def read_vectors(artist: str, codepoints: list[str], root: Path) -> list[str]:
    """One artist's drawings of the code points, each an `<svg>` element."""
    names, icons = (_json(ARTWORK[artist], path, root) for path in ("chars.json", "icons.json"))
    head = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    vectors = []
    for codepoint in codepoints:
        icon = icons["icons"][names[codepoint]]
        width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
        vectors.append(f'<svg {head} viewBox="0 0 {width} {height}">{icon["body"]}</svg>')
    return vectors


def read_credit(artist: str, root: Path) -> str:
    info = _json(ARTWORK[artist], "info.json", root)
    return f"{artist}: {info['name']} by {info['author']['name']}, {info['license']['title']}, {info['author']['url']}"


def split_of(concepts: Concepts) -> list[str]:
    """The split of each concept: in each group, families of subgroups in a seeded order, cut at 70 and 80 %.

    A family goes where its middle falls, so one that holds more than 60 % of its group is always in "train".
    """
    subgroups = [concepts.subgroup_names[s] for s in concepts.subgroup]
    family = [next((kin for stem, kin in KIN.items() if name.startswith(stem)), name) for name in subgroups]
    size = Counter(family)
    # A family of several groups counts with the one that most of it is in: the largest count is written last.
    shares = Counter(zip(family, concepts.group.tolist(), strict=True)).most_common()
    group_of = {name: group for (name, group), _ in reversed(shares)}
    split = {}
    for group in range(len(concepts.group_names)):
        # A hash, not a random generator: the same order under every version of every library.
        kin = sorted((name for name, own in group_of.items() if own == group), key=_shuffled)
        total, before = sum(size[name] for name in kin), 0
        for name in kin:
            middle = (before + size[name] / 2) / total
            split[name] = "train" if middle < 0.7 else "val" if middle < 0.8 else "test"
            before += size[name]
    return [split[name] for name in family]


def _shuffled(name: str) -> str:
    return sha256(f"{SEED} {name}".encode()).hexdigest()


def _codepoint(entry: dict[str, Any]) -> str:
    # U+FE0F asks for the coloured form; the artists' tables leave it out.
    return entry["hexcode"].lower().replace("-fe0f", "")


def _number(ids: list[int], names: dict[str, str]) -> tuple[Tensor, list[str]]:
    """Number consecutively, since some groups have no concept here: (C,) int64, and the names in use."""
    used = sorted(set(ids))
    return torch.tensor([used.index(i) for i in ids]), [names[str(i)] for i in used]


def _json(package: Package, path: str, root: Path) -> Any:
    return json.loads((package.folder(root) / path).read_text(encoding="utf-8"))
