"""CLIP: images and captions in one space.

Radford et al. 2021 (arXiv 2103.00020), derived in lesson 07. The sigmoid loss: Zhai et al. 2023 (arXiv 2303.15343).

Letters: B batch, D embedding dimension, s logit scale (1 / temperature), b logit bias.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check
from minilip.nn.gather import gather
from minilip.nn.modes import evaluating
from minilip.nn.tokenizer import Tokenizer, fill
from minilip.nn.vectors import unit
from minilip.tiled import symmetric_info_nce_tiled


@_check.full_precision
def clip_loss(image: Tensor, text: Tensor, logit_scale: float | Tensor, tile: int | None = None) -> Tensor:
    r"""InfoNCE in both directions: each image finds its caption, each caption its image.

    $$ \mathcal L = \tfrac12 \big[ \mathrm{CE}(s\, V T^\top, I) + \mathrm{CE}(s\, T V^\top, I) \big] $$

    Args:
        image: V (B, D), unit vectors in CLIP, taken as they are. B >= 2.
        text: T (B, D); caption i belongs to image i.
        logit_scale: s > 0, the multiplier itself (exp of the learned parameter), a float or one element.
        tile: None for the lines below; a whole number for the same value and gradient with only `tile` rows of the
            B x B table in memory at one time. `tile=len(image)` is one buffer and three matrix
            products: the fastest from a batch of about 500 on; below, the plain lines are.

    Returns:
        The mean over both directions in nats: log B when all logits are equal.

    Raises:
        ValueError: shapes differ, a batch of 1, numbers that are not finite, logit_scale <= 0, tile < 1.

    Source: Radford et al. 2021, figure 3; lesson 07.
    """
    _check.paired("image", image, "text", text)
    _check.positive("logit_scale", logit_scale)
    if tile is not None:
        return symmetric_info_nce_tiled(image, text, logit_scale, tile)
    logits = logit_scale * image @ text.T  # (B, B)
    pairs = torch.arange(len(logits), device=logits.device)  # (B,)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


@_check.full_precision
def siglip_loss(image: Tensor, text: Tensor, logit_scale: float | Tensor, logit_bias: float | Tensor) -> Tensor:
    r"""Every image-caption pair of the batch is its own yes-or-no question: do these two belong together?

    $$ \mathcal L = -\frac1B \sum_{i,j} \log \sigma\big( y_{ij} (s\, v_i^\top t_j + b) \big),
       \qquad y_{ij} = +1 \text{ if } i = j \text{ else } -1 $$

    The sum runs over B^2 pairs and is divided by B, so that the positive pairs keep their weight as B grows.

    Args:
        image: (B, D), unit vectors in SigLIP, taken as they are. B >= 2.
        text: (B, D); caption i belongs to image i.
        logit_scale: s > 0, a float or one element.
        logit_bias: b, a float or one element; -log(B - 1) starts at the base rate of one pair in B.

    Returns:
        Nats per image.

    Raises:
        ValueError: shapes differ, a batch of 1, numbers that are not finite, logit_scale <= 0.

    Source: Zhai et al. 2023, eq. 1; lesson 07.
    """
    _check.paired("image", image, "text", text)
    _check.positive("logit_scale", logit_scale)
    _check.number("logit_bias", logit_bias)
    logits = logit_scale * image @ text.T + logit_bias  # (B, B)
    return pairwise_sigmoid(logits)


def pairwise_sigmoid(logits: Tensor) -> Tensor:
    r"""The yes-or-no questions of `siglip_loss`, asked of a whole table of logits.

    $$ \mathcal L = -\frac1B \sum_{i,j} \log \sigma(y_{ij} L_{ij}),
       \qquad y_{ij} = +1 \text{ if } i = j \text{ else } -1 $$

    Args:
        logits: L (B, B), taken as they are; the pairs that belong together are on the diagonal.

    Returns:
        Nats per image.

    Raises:
        ValueError: not (B, B) finite numbers.

    Source: Zhai et al. 2023, eq. 1; lessons 07 and 12.
    """
    _check.embeddings("logits", logits)
    if logits.shape[0] != logits.shape[1]:
        _check.fail("logits", "shape (B, B)", tuple(logits.shape))
    sign = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1  # (B, B) y
    return -F.logsigmoid(sign * logits).sum() / len(logits)


class CLIP(nn.Module):
    r"""Two towers, two linear maps into one space, one learned temperature.

    $$ v = W_i f(x) / \lVert W_i f(x) \rVert, \qquad t = W_t g(y) / \lVert W_t g(y) \rVert, \qquad s = e^{t_0} $$

    Args:
        image_tower: (B, 3, H, W) -> (B, D_i), with `.dim`.
        text_tower: (B, L) tokens -> (B, D_t), with `.dim`.
        tokenizer: turns sentences into the text tower's tokens.
        dim: D, the shared embedding dimension.
        hidden: None for the paper's linear maps; a width for two-layer MLPs (an ablation of lesson 07).

    The scale starts at 1 / 0.07 and is kept in [1, 100], as in the paper, section 2.5.

    Source: Radford et al. 2021, figure 3; lesson 07.
    """

    def __init__(
        self,
        image_tower: nn.Module,
        text_tower: nn.Module,
        tokenizer: Tokenizer,
        dim: int = 64,
        hidden: int | None = None,
    ):
        super().__init__()
        _check.count("dim", dim)
        self.image_tower, self.text_tower, self.tokenizer = image_tower, text_tower, tokenizer
        self.image_map = _projection(_check.width("image_tower", image_tower), dim, hidden)  # W_i
        self.text_map = _projection(_check.width("text_tower", text_tower), dim, hidden)  # W_t
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # t_0

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> unit vectors (B, D)"""
        return unit(self.image_map(self.image_tower(images)))  # (B, D)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, L) -> unit vectors (B, D)"""
        return unit(self.text_map(self.text_tower(tokens)))  # (B, D)

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """(images, tokens) -> the symmetric InfoNCE of the batch, and the logit scale."""
        image, text, scale = self._sides(batch)
        return clip_loss(image, text, scale), {"logit scale": scale.detach()}

    def _sides(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What a loss compares: V and T of all processes, (B, D) each, and s."""
        images, tokens = batch
        with torch.no_grad():
            self.logit_scale.clamp_(0, math.log(100))  # here rather than after the step, so that any loop keeps it
        return gather(self.encode_image(images)), gather(self.encode_text(tokens)), self.logit_scale.exp()


class SigLIP(CLIP):
    r"""CLIP's towers and maps under the sigmoid loss, with one learned bias more.

    $$ \mathcal L = \texttt{siglip\_loss}(v, t, s, b), \qquad b = -\log(B - 1) \text{ at the start} $$

    Of B^2 pairs B belong together. With this b a pair of cosine 0 gets the probability 1 / B, the base rate, so that
    training need not begin by learning that most answers are no. The paper starts at s = 10 and b = -10, the base rate
    of B = 22,000.

    Args:
        image_tower, text_tower, tokenizer, dim, hidden: as in `CLIP`.
        batch: B of the training to come, over all processes; at least 2.

    Source: Zhai et al. 2023, section 3.2; lesson 07.
    """

    def __init__(
        self,
        image_tower: nn.Module,
        text_tower: nn.Module,
        tokenizer: Tokenizer,
        dim: int = 64,
        hidden: int | None = None,
        batch: int = 256,
    ):
        super().__init__(image_tower, text_tower, tokenizer, dim, hidden)
        _check.count("batch", batch, least=2)
        self.logit_bias = nn.Parameter(torch.tensor(-math.log(batch - 1)))  # b

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """(images, tokens) -> the sigmoid loss of all pairs of the batch, the logit scale and the bias."""
        image, text, scale = self._sides(batch)
        loss = siglip_loss(image, text, scale, self.logit_bias)
        return loss, {"logit scale": scale.detach(), "logit bias": self.logit_bias.detach()}


def _projection(before: int, after: int, hidden: int | None) -> nn.Module:
    if hidden is None:
        return nn.Linear(before, after, bias=False)
    _check.count("hidden", hidden)
    return nn.Sequential(nn.Linear(before, hidden), nn.GELU(), nn.Linear(hidden, after, bias=False))


@torch.no_grad()
def zero_shot_classifier(model: CLIP, names: Sequence[str], templates: str | Sequence[str] = "a {}") -> Tensor:
    """A linear classifier made of words: each class is the mean direction of its prompts.

    Order matters: normalise each prompt's embedding, average them, normalise again. Without the first step a long
    embedding outvotes the others, without the last one a class whose prompts disagree scores lower.

    Args:
        model: has `encode_text` and `tokenizer`.
        names: C class names.
        templates: one or more sentences with `{}` where the name goes.

    Returns:
        W (C, D), unit rows; `images @ W.T` are the scores.

    Raises:
        ValueError: no name, a template without `{}`, or a prompt with a word that the model has never seen.

    Source: Radford et al. 2021, section 3.1.4; lesson 07.
    """
    prompts = fill(templates, names)  # C rows of one prompt a template
    for sentence in (sentence for row in prompts for sentence in row):
        if unknown := model.tokenizer.unknown(sentence):
            _check.fail(f"prompt {sentence!r}", "words that the model was trained on", ", ".join(unknown))
    device = model.logit_scale.device
    with evaluating(model):
        rows = [model.encode_text(model.tokenizer(row, device)).mean(dim=0) for row in prompts]  # C of (D,)
    return unit(torch.stack(rows))  # (C, D)
