"""SugarCrepe's text: 7,511 pairs of a human caption and a false one, written by a language model to fool another.

Letters: N pairs.

The captions are of photographs of COCO, which are not needed here: what can be said of a benchmark without looking at
its pictures is the point. None of it is part of this repository: seven files are fetched, verified, and kept
(`minilip.data.home()`).

Source: Hsieh et al. 2023 (arXiv 2306.14610), github.com/RAIVNLab/sugar-crepe, MIT licence; lesson 10.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from minilip import _check
from minilip._files import replacing
from minilip.data import home
from minilip.data.archives import mirrored, unpack_tar
from minilip.data.fetch import UNDELIVERED, File, MissingData, download, intact, verify

COMMIT = "0047054b243992f0fad63d6f64f7544862daf846"
RAW = f"https://raw.githubusercontent.com/RAIVNLab/sugar-crepe/{COMMIT}/data"  # serves RAW/NAME.json
MIRROR = "sugarcrepe-text.tar.xz"  # in the folder MINILIP_MIRROR, with data/NAME.json in it
COMMAND = "python -m minilip.data.sugarcrepe"
CREDIT = "SugarCrepe by Cheng-Yu Hsieh and others, MIT licence; captions of COCO"
FILES = {
    "add_att": File(158863, "012d88d729693d193760e6f3393b06a1cf874380a9db0062e937201199fe044d"),
    "add_obj": File(484593, "1b9d76b93139a937b8dc1ada92a4f05ecc821bb3c291d752428bafadd4bb0682"),
    "replace_att": File(176843, "9fe55fd4c0a9ad1f85d486d9f6d0215b41f867eb025026e7f7b5ce44352545ee"),
    "replace_obj": File(361126, "9d299600639947e9d15281a9ded1382b376cf4ea088a8d08a1314bfe76e81898"),
    "replace_rel": File(312629, "356bcc2fc4c6aed3f4d9fd50acc58489bb1fe70c28791f9368d4cbf9ea39cdc9"),
    "swap_att": File(154665, "7a7ce04e5c4c80412b48c6f0c1347fb1a2f5d54c0be6aa429b64d390e442f8d0"),
    "swap_obj": File(57569, "073cdb8e253d053614e80710834d9773b09dbc1dd0a412f6f9492262caa1dcad"),
}
CATEGORIES = tuple(FILES)


class Pair(NamedTuple):
    """A caption that a person wrote of a photograph, and one that is false of it."""

    category: str
    photograph: str  # its file's name in COCO's val2017
    true: str
    false: str


def sugarcrepe(root: str | Path | None = None, download: bool = True) -> list[Pair]:
    """All 7,511 pairs, category by category, letters and blanks as they are.

    Args:
        root: cache folder; None is `minilip.data.home()`.
        download: fetch what the cache lacks, once (1.7 MB). False looks only in the cache and in MINILIP_MIRROR.

    Raises:
        MissingData: not in the cache and not to be had.
    """
    folder = (home() if root is None else Path(root).expanduser()) / "sugarcrepe"
    if missing := _missing(folder):
        refusals = []
        for source in (_from_mirror, _by_https) if download else (_from_mirror,):
            try:
                source(folder, missing)
                print(CREDIT)
                break
            except UNDELIVERED as error:
                refusals.append(f"  {source.__doc__} {error}")
        if missing := _missing(folder):
            advice = f"With a network connection, `{COMMAND}` fetches it; or put {MIRROR} into a folder MINILIP_MIRROR."
            raise MissingData("\n".join([f"missing from {folder}: {', '.join(missing)}", *refusals, advice]))
    return [pair for name in CATEGORIES for pair in read_pairs(name, (folder / f"{name}.json").read_bytes())]


def read_pairs(category: str, content: bytes) -> list[Pair]:
    """The pairs of one of the seven files.

    Raises:
        ValueError: it is another kind of file, or the category is unknown.
    """
    _check.choice("category", category, CATEGORIES)
    try:
        rows = json.loads(content)
        return [Pair(category, r["filename"], r["caption"], r["negative_caption"]) for r in rows.values()]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{category}: expected a file of SugarCrepe, got another ({error!r})") from error


def _missing(folder: Path) -> list[str]:
    return [name for name, file in FILES.items() if not intact(folder / f"{name}.json", file)]


def _from_mirror(folder: Path, names: list[str]) -> None:
    """from MINILIP_MIRROR:"""
    if (path := mirrored(MIRROR)) is None:
        raise OSError(f"{MIRROR} is not there")
    found = {Path(name).name: content for name, content in unpack_tar(path.read_bytes())}
    for name in names:
        with replacing(folder / f"{name}.json") as part:
            part.write_bytes(found[f"{name}.json"])
            verify(part, name, FILES[name])


def _by_https(folder: Path, names: list[str]) -> None:
    """by HTTPS:"""
    with tqdm(total=sum(FILES[name].size for name in names), unit="B", unit_scale=True, desc="SugarCrepe") as bar:
        for name in names:
            download(f"{RAW}/{name}.json", folder / f"{name}.json", FILES[name], bar)


def main() -> None:
    try:
        pairs = sugarcrepe()
    except MissingData as error:
        raise SystemExit(str(error)) from None
    print(f"{len(pairs):,} pairs in {len(CATEGORIES)} categories")


if __name__ == "__main__":
    main()
