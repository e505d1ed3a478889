r"""CapFilt: captions written and filtered, so that a model cleans what the next one learns from.

Letters: N pictures with a caption from the web each, L words, M pairs that are kept.

Source: Li et al. 2022 (arXiv 2201.12086), section 3.3; lesson 09.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from minilip import _check
from minilip.blip.model import BLIP
from minilip.nn.modes import evaluating
from minilip.nn.text import check_tokens


class Kept(NamedTuple):
    """Pairs that the filter let through."""

    picture: Tensor  # (M,) int64, which of the N pictures
    tokens: Tensor  # (M, L)
    written: Tensor  # (M,) bool: by the captioner, not from the web


@torch.no_grad()
def match_score(model: BLIP, images: Tensor, tokens: Tensor, batch: int = 256) -> Tensor:
    """What `model.match` says of many pairs, `batch` at a time, in eval mode. (N, 3, H, W), (N, L) -> (N,) log-odds"""
    _check.pictures("images", images)
    check_tokens(tokens, len(model.tokenizer))
    batch = _check.count("batch", batch)
    if len(tokens) != len(images):
        _check.fail("tokens", f"a row for each of {len(images)} images", len(tokens))
    with evaluating(model):
        return torch.cat([model.match(x, t) for x, t in zip(images.split(batch), tokens.split(batch), strict=True)])


@torch.no_grad()
def capfilt(
    captioner: BLIP,
    judge: BLIP,
    images: Tensor,
    tokens: Tensor,
    generator: torch.Generator,
    top_p: float = 0.9,
    threshold: float = 0.0,
    batch: int = 256,
) -> Kept:
    r"""Write a caption for each picture, then keep what the matcher believes, of the written and of the web's.

    $$ D' = \{(I, T) \in D_{web} : m(I, T) > \theta\} \cup \{(I, \hat T) : m(I, \hat T) > \theta\},
       \qquad \hat T \sim P(\cdot \mid I) $$

    Args:
        captioner: writes, by nucleus sampling.
        judge: its matching head filters.
        images: (N, 3, H, W).
        tokens: (N, L), the captions from the web, in the tokenizer of both models.
        generator: what the nucleus is drawn from.
        top_p: of the nucleus; 0.9 in the paper.
        threshold: theta, log-odds; 0 keeps what is more likely than not.
        batch: pictures at a time.

    Returns:
        The web's pairs that are kept, then the written ones; a picture can be in both, or in neither.

    Raises:
        ValueError: arguments that do not fit, or a top_p out of range.

    Source: Li et al. 2022, section 3.3 and figure 3; lesson 09.
    """
    _check.pictures("images", images)
    _check.generator("generator", generator, images.device)
    _check.number("threshold", threshold)
    batch = _check.count("batch", batch)
    web = match_score(judge, images, tokens, batch) > threshold  # (N,)
    sentences = [s for part in images.split(batch) for s in captioner.caption(part, top_p, generator)]
    said = captioner.tokenizer([s or "[UNK]" for s in sentences], images.device)  # (N, L)
    good = match_score(judge, images, said, batch) > threshold  # (N,)
    picture = torch.cat([web.nonzero()[:, 0], good.nonzero()[:, 0]])  # (M,)
    written = torch.arange(len(picture), device=images.device) >= web.sum()
    return Kept(picture, torch.cat([tokens[web], said[good]]), written)
