r"""BLIP: one model that contrasts, matches and describes.

Li et al. 2022 (arXiv 2201.12086), derived in lesson 09.

Letters: B batch, Q queue, L words, P places of the picture, D features, E embedding dimension, tau temperature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilip import _check
from minilip.blip.losses import follow, hard_negatives, itc_loss, itm_loss, lm_loss, momentum_targets
from minilip.blip.towers import Eye, Reader
from minilip.nn.gather import gather
from minilip.nn.generation import generate, with_end
from minilip.nn.modes import evaluating
from minilip.nn.text import check_tokens
from minilip.nn.tokenizer import MASK, PAD, UNK, Tokenizer
from minilip.nn.vectors import unit

Picture = list[tuple[Tensor, Tensor]]  # each layer's keys and values


class BLIP(nn.Module):
    r"""An eye, a reader for three roles, and slow copies of both that the targets of contrast come from.

    $$ \mathcal L = w_1 \mathcal L_{ITC} + w_2 \mathcal L_{ITM} + w_3 \mathcal L_{LM} $$

    Args:
        tokenizer: of the captions. Behind its numbers stand [END], [CLS], [ENC] and [DEC].
        size: height and width of the pictures.
        dim, depth, heads: D, layers of the reader, heads of both.
        embedding: E.
        queue: Q, the keys of past batches that contrast keeps.
        momentum: mu of the slow copies.
        alpha: their share in the targets, reached after `ramp` steps.
        weights: of the three losses; one of weight 0 is not computed.

    Source: Li et al. 2022, figure 2; lesson 09.
    """

    step: Tensor
    filled: Tensor
    image_queue: Tensor
    text_queue: Tensor
    token_queue: Tensor

    def __init__(
        self,
        tokenizer: Tokenizer,
        size: int = 32,
        dim: int = 64,
        depth: int = 2,
        heads: int = 4,
        embedding: int = 64,
        queue: int = 256,
        momentum: float = 0.99,
        alpha: float = 0.4,
        ramp: int = 200,
        weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ):
        super().__init__()
        for name, value, least in (("embedding", embedding, 1), ("queue", queue, 0), ("ramp", ramp, 1)):
            _check.count(name, value, least)
        if len(weights) != 3 or min(_check.number("weights", w) for w in weights) < 0 or not sum(weights):
            _check.fail("weights", "three of at least 0, not all 0", weights)
        self.tokenizer, self.momentum, self.alpha, self.ramp, self.weights = tokenizer, momentum, alpha, ramp, weights
        self.end, self.cls, self.enc, self.dec = (len(tokenizer) + i for i in range(4))
        self.eye = Eye(size, dim, heads)
        self.reader = Reader(len(tokenizer) + 4, tokenizer.length + 1, dim, depth, heads)
        self.image_map, self.text_map = (nn.Linear(dim, embedding, bias=False) for _ in range(2))
        self.match_head = nn.Linear(dim, 1)
        self.word_head = nn.Linear(dim, len(tokenizer) + 1)  # the words and the end
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # log 1 / tau
        self.slow = deepcopy(nn.ModuleList([self.eye, self.reader, self.image_map, self.text_map]))
        self.slow.requires_grad_(False)
        self.queue = queue
        for name in ("step", "filled"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        for name in ("image_queue", "text_queue"):
            self.register_buffer(name, torch.zeros(queue, embedding))
        self.register_buffer("token_queue", torch.zeros(queue, tokenizer.length, dtype=torch.int64))

    # ---- the three roles ---------------------------------------------------------------------------------------------

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> unit vectors (B, E)"""
        return unit(self.image_map(self.eye(images)[:, 0]))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Words alone, read at [CLS]. (B, L) -> unit vectors (B, E)"""
        return unit(self.text_map(self.reader(self._led(tokens, self.cls))[0][:, 0]))

    def match(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Words beside a picture, read at [ENC]: log-odds that caption i belongs to picture i. -> (B,)"""
        return self.match_seen(self.reader.look(self.eye(images)), tokens)

    def match_seen(self, picture: Picture, tokens: Tensor) -> Tensor:
        """As `match`, of pictures that the reader has looked at already. -> (B,)"""
        return self.match_head(self.reader(self._led(tokens, self.enc), picture)[0][:, 0]).squeeze(1)

    def log_likelihood(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Words about a picture, behind [DEC]: log P(t_i | i) in nats, summed over the words and the end. -> (B,)"""
        targets = with_end(tokens, self.end)  # (B, L + 1)
        log_p = self._next(self.reader.look(self.eye(images)), tokens).log_softmax(dim=2)  # (B, L + 1, V)
        each = log_p.gather(2, targets.clamp(max=self.end)[..., None]).squeeze(2)  # (B, L + 1)
        return (each * (targets != PAD)).sum(dim=1)

    @torch.no_grad()
    def caption(
        self, images: Tensor, top_p: float | None = None, generator: torch.Generator | None = None
    ) -> list[str]:
        """Write a caption a picture: the likeliest word each time, or one drawn from the nucleus of `top_p`."""
        with evaluating(self):
            picture = self.reader.look(self.eye(images))

            def next_word(tokens: Tensor) -> Tensor:
                logits = self.word_head(self.reader(tokens, picture, writes=True)[0][:, -1])  # (B, V)
                return logits.index_fill(1, torch.tensor([PAD, UNK, MASK], device=logits.device), -torch.inf)

            start = torch.full((len(images), 1), self.dec, device=images.device)
            written = generate(next_word, start, self.tokenizer.length + 1, self.end, top_p, generator=generator)
        return self.tokenizer.decode(written[:, 1:].masked_fill(written[:, 1:] == self.end, PAD))

    @torch.no_grad()
    def attention(self, images: Tensor, tokens: Tensor, writes: bool = False) -> Tensor:
        """Where each token looks, a layer and a head at a time. -> (layers, B, h, 1 + L, side, side)

        What goes to the token of the whole picture is left out: the places of a word add up to less than 1.
        """
        led = self._led(tokens, self.dec if writes else self.enc)
        with evaluating(self):
            _, seen = self.reader(led, self.reader.look(self.eye(images)), writes)
        return torch.stack(seen)[..., 1:].unflatten(4, (self.eye.side, self.eye.side))

    # ---- training ----------------------------------------------------------------------------------------------------

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """(images, tokens) -> the weighted sum of the three losses, and each of them."""
        images, tokens = batch
        with torch.no_grad():
            self.logit_scale.clamp_(math.log(2), math.log(100))
        places = self.eye(images)  # (B, P, D)
        image, text = unit(self.image_map(places[:, 0])), self.encode_text(tokens)  # (B, E)
        same = (tokens[:, None] == tokens).all(dim=2)  # (B, B) captions of the same words
        picture = self.reader.look(places)
        losses = {"ITC": self._contrast(images, tokens, image, text)}
        if self.weights[1]:
            losses["ITM"] = self._hard(picture, tokens, self.logit_scale.exp() * image @ text.T, same)
        if self.weights[2]:
            targets = with_end(tokens, self.end)
            lengths = (targets != PAD).sum(dim=1)
            losses["LM"] = lm_loss(self._next(picture, tokens), targets, lengths)
        weights = dict(zip(("ITC", "ITM", "LM"), self.weights, strict=True))
        total = torch.stack([weights[name] * x for name, x in losses.items()]).sum()
        return total, {name: x.detach() for name, x in losses.items()}

    def _contrast(self, images: Tensor, tokens: Tensor, image: Tensor, text: Tensor) -> Tensor:
        """ITC: queries of the fast towers against keys of the slow ones, this batch's and the queue's."""
        eye, reader, image_map, text_map = self.slow
        if self.training:
            for slow, fast in zip(self.slow, (self.eye, self.reader, self.image_map, self.text_map), strict=True):
                follow(slow, fast, self.momentum)
        with torch.no_grad():
            v = unit(image_map(eye(images)[:, 0]))  # (B, E)
            t = unit(text_map(reader(self._led(tokens, self.cls))[0][:, 0]))
            n = int(self.filled)  # Q, once the queue is full
            new = gather(v), gather(t), gather(tokens)  # of all processes; B below counts them all
            image_keys, text_keys = torch.cat([new[0], self.image_queue[:n]]), torch.cat([new[1], self.text_queue[:n]])
            same = (tokens[:, None] == torch.cat([new[2], self.token_queue[:n]])).all(dim=2)  # (B, B + Q)
            tau, alpha = 1 / self.logit_scale.exp(), self.alpha * min(1.0, int(self.step) / self.ramp)
            to_text = momentum_targets(v, text_keys, tau, alpha, same)  # (B, B + Q)
            to_image = momentum_targets(t, image_keys, tau, alpha, same)
        loss = itc_loss(image, text, image_keys, text_keys, to_text, to_image, 1 / self.logit_scale.exp())
        if self.training:
            self._enqueue(*new)
        return loss

    def _enqueue(self, v: Tensor, t: Tensor, tokens: Tensor) -> None:
        """The newest keys come first, the oldest fall out; B need not divide Q."""
        self.image_queue = torch.cat([v, self.image_queue])[: self.queue]
        self.text_queue = torch.cat([t, self.text_queue])[: self.queue]
        self.token_queue = torch.cat([tokens, self.token_queue])[: self.queue]
        self.filled = (self.filled + len(v)).clamp(max=self.queue)
        self.step += 1

    def _hard(self, picture: Picture, tokens: Tensor, similarity: Tensor, same: Tensor) -> Tensor:
        """ITM: each caption with its picture and with a hard wrong one, and each picture with a hard wrong caption."""
        wrong_image = hard_negatives(similarity.detach().T, same=same)  # (B,) for each caption
        wrong_text = hard_negatives(similarity.detach(), same=same)  # (B,) for each picture
        own = torch.arange(len(tokens), device=tokens.device)
        seen, read = torch.cat([own, wrong_image, own]), torch.cat([own, own, wrong_text])  # (3 B,)
        log_odds = self.match_seen([(k[seen], v[seen]) for k, v in picture], tokens[read])  # (3 B,)
        return itm_loss(*log_odds.chunk(3))

    def _next(self, picture: Picture, tokens: Tensor) -> Tensor:
        """(B, 1 + L, V) logits of the word behind [DEC] and behind each word."""
        return self.word_head(self.reader(self._led(tokens, self.dec), picture, writes=True)[0])

    def _led(self, tokens: Tensor, role: int) -> Tensor:
        """The role's token in front of each row. (B, L) -> (B, 1 + L)"""
        check_tokens(tokens, len(self.tokenizer))
        return F.pad(tokens, (1, 0), value=role)
