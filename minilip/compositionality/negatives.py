r"""Hard negatives: false captions of the same words in the batch, so that the loss has a reason to read their order.

Letters: B batch, D embedding dimension, H hard captions, s logit scale (1 / temperature), p a probability.

Source: Yuksekgonul et al. 2023 (arXiv 2210.01936) and the released code; lesson 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip import _check
from minilip.clip import CLIP
from minilip.compositionality.captions import NAMED, VALUES, exchange
from minilip.data.latents import OPPOSITE, Latents
from minilip.data.scenes import Scenes
from minilip.nn.gather import gather


@_check.full_precision
def negclip_loss(image: Tensor, text: Tensor, hard_text: Tensor, logit_scale: float | Tensor) -> Tensor:
    r"""CLIP's loss with more captions to choose among, which belong to no picture.

    $$ \mathcal L = \tfrac12 \big[ \mathrm{CE}(s\, V [T; T']^\top, I) + \mathrm{CE}(s\, T V^\top, I) \big] $$

    A hard caption is a column of the first table only: it is true of no picture here, so it has no question to ask.

    Args:
        image: V (B, D), unit vectors in NegCLIP, taken as they are. B >= 2.
        text: T (B, D); caption i belongs to image i.
        hard_text: T' (H, D), H >= 1.
        logit_scale: s > 0, the multiplier itself, a float or one element.

    Returns:
        The mean over both directions in nats: (log(B + H) + log B) / 2 when all logits are equal.

    Raises:
        ValueError: shapes differ, a batch of 1, numbers that are not finite, logit_scale <= 0.

    Source: Yuksekgonul et al. 2023; lesson 10.
    """
    _check.paired("image", image, "text", text)
    _check.embeddings("hard_text", hard_text)
    if hard_text.shape[1] != image.shape[1]:
        _check.fail("hard_text", f"shape (H, {image.shape[1]})", tuple(hard_text.shape))
    _check.positive("logit_scale", logit_scale)
    logits = logit_scale * image @ torch.cat([text, hard_text]).T  # (B, B + H)
    b = len(image)
    pairs = torch.arange(b, device=logits.device)  # (B,)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits[:, :b].T, pairs)) / 2


class NegCLIP(CLIP):
    r"""CLIP, trained with false captions beside the true ones. Towers, maps and temperature are CLIP's.

    $$ \mathcal L = \texttt{negclip\_loss}(v, t, t', s) $$

    Args:
        image_tower, text_tower, tokenizer, dim, hidden: as in `CLIP`.

    Source: Yuksekgonul et al. 2023; lesson 10.
    """

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """(images, tokens, tokens of H hard captions) -> the loss of the batch, and the logit scale."""
        if len(batch) != 3:
            _check.fail("batch", "images, tokens and hard tokens", f"{len(batch)} parts")
        images, tokens, hard = batch
        with torch.no_grad():
            self.logit_scale.clamp_(0, math.log(100))
        scale = self.logit_scale.exp()
        text = self.encode_text(torch.cat([tokens, hard]))  # (B + H, D) in one pass
        image, true, false = self.encode_image(images), text[: len(tokens)], text[len(tokens) :]
        return negclip_loss(gather(image), gather(true), gather(false), scale), {"logit scale": scale.detach()}


def hard_captions(latents: Latents, generator: torch.Generator, named: tuple[str, ...] = NAMED) -> list[str]:
    """A false caption for each scene: by lot colours or shapes exchanged, or the objects, or the relation turned.

    Of the exchanges that change nothing in a scene (two red objects) the next one is taken; turning the relation always
    changes something.

    Args:
        latents: of B scenes of two objects.
        generator: draws which.
        named: what the captions say of an object, of "size", "colour" and "shape".

    Returns:
        B captions

    Raises:
        ValueError: the scenes have one object, or a name is unknown.

    Source: after Yuksekgonul et al. 2023, who exchange words of a sentence; lesson 10.
    """
    _check.generator("generator", generator)
    opposite = torch.tensor(OPPOSITE, device=generator.device)
    ways = [exchange(latents, name) for name in named]
    ways += [exchange(latents, *VALUES), latents.with_(relation=opposite[latents.relation])]
    world = Scenes(objects=2)
    said = [world.caption(each, attributes=tuple(named)) for each in (latents, *ways)]
    first = torch.randint(len(ways), (len(latents),), generator=generator, device=generator.device).tolist()
    order = [[said[1 + k][i] for k in (*range(f, len(ways)), *range(f))] for i, f in enumerate(first)]
    return [next(c for c in row if c != true) for row, true in zip(order, said[0], strict=True)]


def indistinct_floor(batch: int, share: float) -> float:
    r"""The least InfoNCE loss of a critic that takes each other pair of the batch for the true one with probability p.

    $$ \mathbb E \log (1 + n), \qquad n \sim \mathrm{Binomial}(B - 1, p) $$

    With p the chance of the same caption again it is the floor of lesson 07. With p the chance of the same *words* it
    is the floor of a bag of words, and the difference of the two is all that a batch can pay for reading their order.

    Args:
        batch: B, at least 1.
        share: p in [0, 1].

    Returns:
        nats

    Raises:
        ValueError: batch below 1, share outside [0, 1].

    Source: ours; lesson 10.
    """
    n, p = _check.count("batch", batch) - 1, _check.number("share", share)
    if not 0 <= p <= 1:
        _check.fail("share", "a probability from 0 to 1", p)
    if p in (0, 1):
        return math.log1p(n * p)
    total = 0.0
    for k in range(1, n + 1):
        log_choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        total += math.exp(log_choose + k * math.log(p) + (n - k) * math.log1p(-p)) * math.log1p(k)
    return total
