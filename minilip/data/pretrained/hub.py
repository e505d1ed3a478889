"""Any model of open_clip behind the interface of `minilip.clip.CLIP`: real weights for whoever can reach a model hub.

Letters: B batch, D embedding dimension, H x W size of a picture, L tokens.

Source: Ilharco et al. 2021, OpenCLIP (github.com/mlfoundations/open_clip); Cherti et al. 2023 (arXiv 2212.07143);
lesson 07.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from minilip import _check
from minilip.data.fetch import MissingData

ONLY_NUMBERS = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # what makes torch.load refuse a pickle, whoever calls it


class HubTokenizer:
    """Sentences to the tokens of an open_clip model. Its words are made of parts, so that none is unknown."""

    def __init__(self, tokenize: Callable[[list[str]], Tensor]):
        self._tokenize = tokenize

    def __call__(self, sentences: str | Sequence[str], device: torch.device | str | None = None) -> Tensor:
        """-> (B, L) int64"""
        rows = [sentences] if isinstance(sentences, str) else list(sentences)
        if not rows:
            _check.fail("sentences", "at least one sentence", "none")
        return self._tokenize(rows).to(device)

    def unknown(self, sentence: str) -> list[str]:
        return []


class OpenCLIP(nn.Module):
    """A model of open_clip that is asked as `CLIP` is: pictures in [0, 1] of any size in, unit vectors out.

    Args:
        model: from `open_clip.create_model`.
        tokenize: its tokenizer, a list of sentences -> (B, L).
        preprocess: size, mean, std, interpolation, resize_mode and fill_color, as open_clip states them of the model.
    """

    def __init__(self, model: nn.Module, tokenize: Callable[[list[str]], Tensor], preprocess: dict[str, Any]):
        super().__init__()
        self.model, self.tokenizer, self.preprocess = model, HubTokenizer(tokenize), preprocess

    @property
    def logit_scale(self) -> Tensor:
        """t_0, the logarithm of the scale s."""
        return self.model.logit_scale  # type: ignore[return-value]

    def prepare(self, images: Tensor) -> Tensor:
        """The model's own resize, crop and normalisation. (B, 3, H, W) in [0, 1] -> (B, 3, size, size)"""
        if images.dim() != 4 or images.shape[1] != 3 or not images.is_floating_point():
            came = f"{images.dtype} {tuple(images.shape)}"
            _check.fail("images", "a floating-point tensor of shape (B, 3, H, W)", came)
        p = self.preprocess
        size = (p["size"],) * 2 if isinstance(p["size"], int) else tuple(p["size"])
        ratios = [after / before for after, before in zip(size, images.shape[2:], strict=True)]
        if p["resize_mode"] == "squash":
            to = list(size)
        elif p["resize_mode"] == "longest":
            to = [round(before * min(ratios)) for before in images.shape[2:]]
        elif size[0] == size[1]:
            to = [size[0]]  # of the shorter side; torchvision rounds the other
        else:
            to = [round(before * max(ratios)) for before in images.shape[2:]]
        # Bicubic interpolation overshoots; in a picture of whole numbers, which the models were trained on, it cannot.
        x = TF.resize(images, to, InterpolationMode(p["interpolation"]), antialias=True).clamp(0, 1)
        fill = p["fill_color"] / 255
        x = TF.center_crop(x - fill, list(size)) + fill  # what is added around is 0, so that 0 must mean `fill`
        return TF.normalize(x, p["mean"], p["std"])

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> unit vectors (B, D)"""
        return F.normalize(self.model.encode_image(self.prepare(images)).float(), dim=1)  # type: ignore[operator]

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, L) -> unit vectors (B, D)"""
        return F.normalize(self.model.encode_text(tokens).float(), dim=1)  # type: ignore[operator]


def open_clip(name: str, weights: str | None) -> OpenCLIP:
    """A model of open_clip, in `eval` mode, ready for zero-shot, retrieval and probes.

        model = open_clip("ViT-B-32", "laion2b_s34b_b79k")
        W = zero_shot_classifier(model, ["cat", "dog"], "a photo of a {}")

    Args:
        name: an architecture, one of `open_clip.list_models()`.
        weights: a tag of `open_clip.list_pretrained()`, fetched once (600 MB for ViT-B-32) from a model hub; None for
            random weights, drawn from torch's seed.

    Raises:
        ValueError: there is no such model, or no such weights of it.
        MissingData: open_clip is not installed, or the hub cannot be reached; the message says what is missing.
    """
    try:
        import open_clip as library
    except ImportError:
        raise MissingData("Models of open_clip: `pip install open_clip_torch` installs what reads them.") from None
    models = library.list_models()
    if name not in models:
        near = get_close_matches(str(name), models) or ["ViT-B-32"]
        _check.fail("name", f"a model that open_clip knows, such as {', '.join(near)}", repr(name))
    if weights is not None:
        # A tag and never a path: a file of anybody's could run code of theirs.
        _check.choice("weights", weights, library.list_pretrained_tags_by_model(name))
    try:
        with _careful():
            model = library.create_model(name, pretrained=weights)
            tokenize = library.get_tokenizer(name)
    except Exception as error:
        wanted = f"weights {weights!r} of {name}" if weights else f"parts of {name}"
        raise MissingData(
            f"missing: {wanted}, which open_clip fetches from a model hub\n  {' '.join(str(error).split())[:200]}\n"
            "With a connection to the hub the same call fetches them once and keeps them."
        ) from error
    return OpenCLIP(model, tokenize, library.get_model_preprocess_cfg(model)).eval()


@contextmanager
def _careful() -> Iterator[None]:
    """No code in a file of weights is run, whatever the versions. And no line for each of a dozen attempts at the hub:
    what failed is said once, by the error."""
    quiet, pickles = logging.root.manager.disable, os.environ.get(ONLY_NUMBERS)
    logging.disable(logging.ERROR)
    os.environ[ONLY_NUMBERS] = "1"
    try:
        yield
    finally:
        logging.disable(quiet)
        if pickles is None:
            del os.environ[ONLY_NUMBERS]
        else:
            os.environ[ONLY_NUMBERS] = pickles
