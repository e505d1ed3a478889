r"""ProtoCLIP: an image must find not only its caption, but also the group of captions that its caption is in.

Chen et al. 2022 (arXiv 2206.10996), derived in lesson 11. What finds the groups is `kmeans`.

Letters: N items of an episode, B of them in a batch, D dimensions, K groups and prototypes, h feature, C centroids,
y index of a group, q targets, s logit scale, tau_y temperature of the targets.
"""

import math
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check
from minilip.clip import CLIP, clip_loss
from minilip.nn.gather import gather
from minilip.nn.modes import evaluating
from minilip.nn.tokenizer import Tokenizer
from minilip.nn.vectors import unit
from minilip.protoclip.clustering import group_means, kmeans


@_check.full_precision
def back_translate(features: Tensor, labels: Tensor, k: int) -> Tensor:
    r"""Prototypical back translation: the groups that one modality forms, each as its mean in the other.

    $$ \tilde C_k = \frac{1}{|\{n : y_n = k\}|} \sum_{n : y_n = k} h_n $$

    Labels y of captions and features h of their images make prototypes that lie among images, however far from them
    the captions are; and the other way round.

    Args:
        features: h (N, D), of the modality that learns.
        labels: y (N,) int64 in 0 ... K - 1, of the one that teaches.
        k: K.

    Returns:
        (K, D), shorter than 1 where features are unit vectors; zero for a group without items.

    Raises:
        ValueError: not (N, D) features of finite numbers, labels that do not fit.

    Source: Chen et al. 2022, figure 4; lesson 11.
    """
    _check.embeddings("features", features)
    _check.count("k", k)
    _check.labels("labels", labels, len(features), k)
    return group_means(features, labels, k)[0]  # (K, D)


@_check.full_precision
def soft_targets(centroids: Tensor, labels: Tensor, temperature: float) -> Tensor:
    r"""How far each group counts as right: the item's own, and a little those that are like it.

    $$ q_{ik} = \frac{\exp(C_{y_i}^\top C_k / \tau_y)}{\sum_l \exp(C_{y_i}^\top C_l / \tau_y)} $$

    As tau_y -> 0 all goes to the C_k that reaches furthest along C_{y_i}: to y_i among centroids of one length. Of a
    wide group the centroid is short, and a longer neighbour can get more than the item's own group.

    Args:
        centroids: C (K, D) of the modality that teaches, taken as they are: not made unit vectors in the released code.
        labels: y (B,) int64 in 0 ... K - 1.
        temperature: tau_y > 0; 0.01 in the released recipe.

    Returns:
        q (B, K), rows that sum to 1.

    Raises:
        ValueError: not (K, D) centroids of finite numbers, labels that do not fit, temperature <= 0.

    Source: Chen et al. 2022; lesson 11.
    """
    _check.embeddings("centroids", centroids)
    _check.labels("labels", labels, None, len(centroids))
    _check.positive("temperature", temperature)
    return (centroids[labels] @ centroids.T / temperature).softmax(dim=1)  # (B, K)


@_check.full_precision
def prototype_loss(features: Tensor, prototypes: Tensor, targets: Tensor, logit_scale: float | Tensor) -> Tensor:
    r"""Cross-entropy of choosing an item's group among K prototypes.

    $$ \mathcal L = -\frac1B \sum_{i=1}^B \sum_{k=1}^K q_{ik} \log
       \frac{\exp(s\, h_i^\top \tilde C_k)}{\sum_l \exp(s\, h_i^\top \tilde C_l)} $$

    Args:
        features: h (B, D), of the modality that learns; unit vectors in ProtoCLIP, taken as they are.
        prototypes: (K, D), from `back_translate`, or the other modality's centroids.
        targets: y (B,) int64 in 0 ... K - 1, where q is one-hot; or q (B, K) itself, from `soft_targets`.
        logit_scale: s > 0, the multiplier itself, a float or one element.

    Returns:
        The mean over the B items in nats: log K when all logits are equal, the entropy of q at best.

    Raises:
        ValueError: shapes or targets that do not fit, numbers that are not finite, logit_scale <= 0.

    Source: Chen et al. 2022; lesson 11.
    """
    _check.embeddings("features", features)
    _check.embeddings("prototypes", prototypes)
    if prototypes.shape[1] != features.shape[1]:
        _check.fail("prototypes", f"shape (K, {features.shape[1]})", tuple(prototypes.shape))
    _check.positive("logit_scale", logit_scale)
    b, k = len(features), len(prototypes)
    _check.tensor("targets", targets)
    if targets.dim() != 2:
        _check.labels("targets", targets, b, k)
    elif targets.shape != (b, k) or not targets.is_floating_point():
        _check.fail("targets", f"({b},) labels or ({b}, {k}) rows that sum to 1", _check.described(targets))
    elif not bool((targets >= 0).all() and ((targets.sum(dim=1) - 1).abs() < 1e-3).all()):
        came = f"sums from {targets.sum(dim=1).min():g} to {targets.sum(dim=1).max():g}, least {targets.min():g}"
        _check.fail("targets", f"({b}, {k}) rows that sum to 1, of numbers from 0", came)
    return F.cross_entropy(logit_scale * features @ prototypes.T, targets)  # (B, K) logits


class ProtoCLIP(CLIP):
    r"""CLIP with a head on each side, which learns the groups that the other side falls into.

    $$ \mathcal L = \mathcal L_{CLIP}
       + \tfrac w2 \big[ \mathcal L(\text{image}, y_{\text{text}}) + \mathcal L(\text{text}, y_{\text{image}}) \big]
       + \tfrac e2 \big[ \mathcal L(\text{image}, y_{\text{ext}}) + \mathcal L(\text{text}, y_{\text{ext}}) \big] $$

    `fit(model, Episodes(model, ...), steps)` trains it. On a batch of pairs alone it is CLIP. The heads read what CLIP
    makes unit vectors of.

    Args:
        image_tower, text_tower, tokenizer, dim: as in `CLIP`.
        k: K, groups on each side.
        projected: width of the space in which groups are found.
        hidden: width of the heads' middle layer.
        weight: w of the groups, at least 0.
        external: e of an external teacher's groups, at least 0. Their targets are one-hot.
        temperature: tau_y of the soft targets; None for one-hot.
        translate: whether groups are translated back; if not, an image's prototypes are the captions' centroids.

    Source: Chen et al. 2022, figure 3, and the released code; lesson 11.
    """

    def __init__(
        self,
        image_tower: nn.Module,
        text_tower: nn.Module,
        tokenizer: Tokenizer,
        dim: int = 64,
        k: int = 48,
        projected: int = 64,
        hidden: int = 256,
        weight: float = 1.0,
        external: float = 1.0,
        temperature: float | None = 0.01,
        translate: bool = True,
    ):
        super().__init__(image_tower, text_tower, tokenizer, dim)
        for name, width in (("k", k), ("projected", projected), ("hidden", hidden)):
            _check.count(name, width)
        for name, w in (("weight", weight), ("external", external)):
            if _check.number(name, w) < 0:
                _check.fail(name, "a weight of at least 0", w)
        if temperature is not None:
            _check.positive("temperature", temperature)
        self.k, self.weight, self.external = k, weight, external
        self.temperature, self.translate = temperature, translate
        self.image_head = nn.Sequential(
            nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, projected)
        )
        self.text_head = deepcopy(self.image_head)  # a copy, as in the released code: one start for both
        self.prototype_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # log s, apart from the pairs' scale
        self.groups: dict[str, Tensor] = {}  # of the current episode: what `episode` finds
        self.place: dict[str, Any] = {}  # in it: what `Episodes` keeps

    def project(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) and (B, L) -> unit vectors (B, projected) of each: what is grouped"""
        return self._embed(images, tokens)[2:]

    @torch.no_grad()
    def episode(
        self, pairs: Iterable[tuple[Tensor, Tensor]], generator: torch.Generator, teacher: Tensor | None = None
    ) -> None:
        """Extract, cluster, translate back: `groups` are new labels and prototypes, until the next episode.

        Of their rows, 0 is the images, 1 the captions, 2 the teacher: "labels" (2 or 3, N), "centroids" (2, K, D),
        "prototypes" (2, K, D) that images and captions choose among, and "external" likewise for the teacher's groups.

        Args:
            pairs: batches (images, tokens), N >= K items in all.
            generator: source of all randomness.
            teacher: (N, any width), what an external teacher makes of the same items.

        Raises:
            ValueError: N < K, a teacher that does not fit, numbers that are not finite.
        """
        with evaluating(self):
            parts = [self.project(images, tokens) for images, tokens in pairs]
        h = [torch.cat(side) for side in zip(*parts, strict=True)]  # images, captions: (N, D) each
        if teacher is not None and len(teacher) != len(h[0]):
            _check.fail("teacher", f"a row for each of {len(h[0])} items", len(teacher))
        spaces = h if teacher is None else [*h, teacher]
        centroids, labels = zip(*(kmeans(x, self.k, generator) for x in spaces), strict=True)  # (K, ...), (N,) each

        def translated(a: Tensor, b: Tensor) -> Tensor:
            return torch.stack([back_translate(x, y, self.k) for x, y in zip(h, (a, b), strict=True)])  # (2, K, D)

        groups = {"labels": torch.stack(labels), "centroids": torch.stack(centroids[:2])}
        groups["prototypes"] = translated(labels[1], labels[0]) if self.translate else groups["centroids"].flip(0)
        if teacher is not None:  # whose centroids are in a space of their own: nothing to compare with untranslated
            groups["external"] = translated(labels[2], labels[2])
        self.groups = groups

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """(images, tokens), or with their positions in the episode, (images, tokens, (B,)); a term left out is NaN."""
        images, tokens, *positions = batch
        if positions and not self.groups:
            _check.fail("batch", "images and tokens alone before there are groups", f"{len(batch)} parts")
        with torch.no_grad():
            self.logit_scale.clamp_(0, math.log(100))
            self.prototype_scale.clamp_(0, math.log(100))
        s = self.prototype_scale.exp()
        v, t, *h = self._embed(images, tokens)
        loss = clip_loss(gather(v), gather(t), self.logit_scale.exp())
        terms: dict[str, float | Tensor] = {"clip": loss.detach(), "prototype": math.nan, "external": math.nan}
        if positions:

            def choose(prototypes: Tensor, *targets: Tensor) -> Tensor:
                sides = zip(h, prototypes, targets, strict=True)
                return torch.stack([prototype_loss(x, c, q, s) for x, c, q in sides]).mean()

            y = self.groups["labels"][:, positions[0]]  # (2 or 3, B)
            image, text = (self._targets(self.groups["centroids"][i], y[i]) for i in (0, 1))
            prototype = choose(self.groups["prototypes"], text, image)  # each side learns from the other
            loss, terms["prototype"] = loss + self.weight * prototype, prototype.detach()
            if "external" in self.groups:
                external = choose(self.groups["external"], y[2], y[2])
                loss, terms["external"] = loss + self.external * external, external.detach()
        terms |= {"logit scale": self.logit_scale.exp().detach(), "prototype scale": s.detach()}
        return loss, terms

    def _targets(self, centroids: Tensor, labels: Tensor) -> Tensor:
        return labels if self.temperature is None else soft_targets(centroids, labels, self.temperature)

    def _embed(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        image, text = self.image_map(self.image_tower(images)), self.text_map(self.text_tower(tokens))  # (B, dim) each
        return unit(image), unit(text), unit(self.image_head(image)), unit(self.text_head(text))

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint holds besides the weights, so that a resumed run goes on in the middle of an episode."""
        return {"groups": self.groups, "place": dict(self.place)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.groups, self.place = state["groups"], dict(state["place"])
