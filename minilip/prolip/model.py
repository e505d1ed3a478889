r"""ProLIP: every picture and every caption is a Gaussian, as wide as what it leaves open.

Chun et al. 2025 (arXiv 2410.18857), derived in lesson 12. The distance: Chun 2024, PCME++ (arXiv 2305.18171).
What it means for one embedding to be inside another is the subject of `inclusion.py`.

Letters: B batch, M masked pairs of it, D embedding dimension, mu mean, v variance, logvar = log v, s logit scale,
b logit bias.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check
from minilip.clip import pairwise_sigmoid
from minilip.nn.gather import gather
from minilip.nn.tokenizer import Tokenizer
from minilip.nn.vectors import unit
from minilip.prolip.inclusion import inclusion_loss


@_check.full_precision
def csd(mu1: Tensor, logvar1: Tensor, mu2: Tensor, logvar2: Tensor) -> Tensor:
    r"""Closed-form sampled distance: the squared distance to expect between a sample of each and a sample of each.

    $$ d_{ij} = \mathbb E \lVert z_i - z_j \rVert^2
              = \lVert \mu_i - \mu_j \rVert^2 + \sum_{d=1}^D (v_{id} + v_{jd}), \qquad z \sim N(\mu, v) $$

    Args:
        mu1, logvar1: (B1, D), means and log-variances on one side.
        mu2, logvar2: (B2, D), on the other.

    Returns:
        (B1, B2), squared units of the means, of every Gaussian to every other.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite.

    Source: Chun 2024, the closed-form sampled distance; lesson 12.
    """
    _check.paired("mu1", mu1, "logvar1", logvar1, least=1)
    _check.paired("mu2", mu2, "logvar2", logvar2, least=1)
    if mu1.shape[1] != mu2.shape[1]:
        _check.fail("mu2", f"shape (B, {mu1.shape[1]})", tuple(mu2.shape))
    own1 = (mu1.square() + logvar1.exp()).sum(dim=1)  # (B1,) E|z|^2
    own2 = (mu2.square() + logvar2.exp()).sum(dim=1)  # (B2,)
    return own1[:, None] + own2 - 2 * mu1 @ mu2.T  # (B1, B2)


@_check.full_precision
def ppcl_loss(
    mu1: Tensor,
    logvar1: Tensor,
    mu2: Tensor,
    logvar2: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor,
) -> Tensor:
    r"""Probabilistic pairwise contrastive loss: SigLIP with the distance to expect in place of the cosine.

    $$ \mathcal L = -\frac1B \sum_{i,j} \log \sigma\big( y_{ij} (s (1 - \tfrac12 d_{ij}) + b) \big),
       \qquad y_{ij} = +1 \text{ if } i = j \text{ else } -1 $$

    For means of length 1, 1 - d/2 is their cosine minus half of all variances: with no variance left this is
    `siglip_loss(mu1, mu2, s, b)`.

    Args:
        mu1, logvar1: (B, D), unit vectors in ProLIP, and log-variances. B >= 2.
        mu2, logvar2: (B, D); row i belongs to row i of the other side.
        logit_scale: s > 0, a float or one element.
        logit_bias: b, a float or one element.

    Returns:
        Nats per image.

    Raises:
        ValueError: shapes differ, a batch of 1, numbers that are not finite, logit_scale <= 0.

    Source: Chun et al. 2025, the PPCL; lesson 12.
    """
    _check.paired("mu1", mu1, "mu2", mu2)
    _check.positive("logit_scale", logit_scale)
    _check.number("logit_bias", logit_bias)
    logits = logit_scale * (1 - csd(mu1, logvar1, mu2, logvar2) / 2) + logit_bias  # (B, B)
    return pairwise_sigmoid(logits)


@_check.full_precision
def vib_loss(mu: Tensor, logvar: Tensor) -> Tensor:
    r"""Variational information bottleneck: what a code costs beyond the standard normal.

    $$ \mathcal L = \frac1B \sum_{i=1}^B \mathrm{KL}\big( N(\mu_i, v_i) \,\Vert\, N(0, I) \big)
       = \frac1{2B} \sum_{i,d} \big( \mu_{id}^2 + v_{id} - 1 - \log v_{id} \big) $$

    Args:
        mu, logvar: (B, D).

    Returns:
        Nats a Gaussian, summed over its D dimensions; 0 where it is the standard normal. The released code of ProLIP
        averages over them instead, which is this divided by D: its weight counts for D times less than the same here.

    Raises:
        ValueError: shapes differ, numbers that are not finite.

    Source: Alemi et al. 2017 (arXiv 1612.00410); lesson 12.
    """
    _check.paired("mu", mu, "logvar", logvar, least=1)
    return (mu.square() + logvar.expm1() - logvar).sum(dim=1).mean() / 2


def reparametrise(mu: Tensor, logvar: Tensor, generator: torch.Generator) -> Tensor:
    r"""One sample of each Gaussian, with gradients to its mean and its variance.

    $$ z = \mu + \sqrt v\, n, \qquad n \sim N(0, I) $$

    Args:
        mu, logvar: (B, D), on the generator's device.
        generator: source of all randomness.

    Returns:
        (B, D)

    Raises:
        ValueError: shapes differ, numbers that are not finite.

    Source: Kingma and Welling 2014 (arXiv 1312.6114), section 2.4; lesson 12.
    """
    _check.paired("mu", mu, "logvar", logvar, least=1)
    _check.generator("generator", generator, mu.device)
    noise = torch.randn(mu.shape, dtype=mu.dtype, device=mu.device, generator=generator)  # (B, D)
    return mu + (logvar / 2).exp() * noise


class ProLIP(nn.Module):
    r"""CLIP with a Gaussian where it has a vector: two towers, a mean and a log-variance from each.

    $$ \mathcal L = \mathcal L_{PPCL} + \alpha \big[ \mathcal L(\text{image} \subset \text{text})
       + \mathcal L(\text{image} \subset \text{masked image}) + \mathcal L(\text{text} \subset \text{masked text}) \big]
       + \beta \big[ \mathcal L_{VIB}(\text{image}) + \mathcal L_{VIB}(\text{text}) \big] $$

    Args:
        image_tower: (B, 3, H, W) -> (B, D_i), with `.dim`; or -> (B, 2, D_i) from [CLS] and [UNC] (`readouts=2`).
        text_tower: (B, L) tokens -> (B, D_t) or (B, 2, D_t), with `.dim`.
        tokenizer: turns sentences into the text tower's tokens.
        dim: D, the shared embedding dimension.
        batch: B of the training to come; b starts at -log(B - 1), the odds of one pair in B.
        alpha: weight of the inclusion losses.
        beta: weight of the bottleneck.

    Means have length 1. Log-variances are whatever the head says, as in the paper.

    Source: Chun et al. 2025, section 3; lesson 12.
    """

    def __init__(
        self,
        image_tower: nn.Module,
        text_tower: nn.Module,
        tokenizer: Tokenizer,
        dim: int = 64,
        batch: int = 256,
        alpha: float = 0.02,
        beta: float = 1e-4,
    ):
        super().__init__()
        _check.count("dim", dim)
        _check.count("batch", batch, least=2)
        self.image_tower, self.text_tower, self.tokenizer = image_tower, text_tower, tokenizer
        self.alpha, self.beta = alpha, beta
        self.image_mean, self.image_logvar = _heads(_check.width("image_tower", image_tower), dim)
        self.text_mean, self.text_logvar = _heads(_check.width("text_tower", text_tower), dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # log s
        self.logit_bias = nn.Parameter(torch.tensor(-math.log(batch - 1)))  # b

    def image_gaussian(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> unit means (B, D), log-variances (B, D)"""
        return _gaussian(self.image_tower(images), self.image_mean, self.image_logvar)

    def text_gaussian(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) -> unit means (B, D), log-variances (B, D)"""
        return _gaussian(self.text_tower(tokens), self.text_mean, self.text_logvar)

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> unit means (B, D)"""
        return self.image_gaussian(images)[0]

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, L) -> unit means (B, D)"""
        return self.text_gaussian(tokens)[0]

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """(images, tokens), or with masked copies of the first M of each, (images, tokens, images, tokens)."""
        if len(batch) not in (2, 4) or len(batch[0]) != len(batch[1]) or max(map(len, batch)) > len(batch[0]):
            _check.fail("batch", "B images, B tokens and none or up to B masked of each", [len(x) for x in batch])
        images, tokens, *masked = batch
        with torch.no_grad():
            self.logit_scale.clamp_(0, math.log(100))
        s, n = self.logit_scale.exp(), len(images)
        # One pass for whole and masked: in two, batch normalisation would tell the tower which is which.
        v = self.image_gaussian(torch.cat([images, *masked[:1]]))  # (B + M, D) mean, log-variance
        t = self.text_gaussian(torch.cat([tokens, *masked[1:]]))  # (B + M, D)
        image, text = (v[0][:n], v[1][:n]), (t[0][:n], t[1][:n])  # (B, D)

        ppcl = ppcl_loss(gather(image[0]), gather(image[1]), gather(text[0]), gather(text[1]), s, self.logit_bias)
        inclusions = {"image in text": inclusion_loss(*image, *text)}
        if masked:
            inclusions["image in masked"] = _whole_in_masked(*v, n)
            inclusions["text in masked"] = _whole_in_masked(*t, n)
        vib = vib_loss(*image) + vib_loss(*text)
        loss = ppcl + self.alpha * torch.stack(list(inclusions.values())).sum() + self.beta * vib
        return loss, {k: x.detach() for k, x in {"ppcl": ppcl, **inclusions, "vib": vib, "logit scale": s}.items()}


def _heads(before: int, dim: int) -> tuple[nn.Linear, nn.Linear]:
    logvar = nn.Linear(before, dim)
    # At the start D variances make 0.06 a side: less than one logit of s (0.06 + 0.06) / 2, or they outvote the cosine.
    nn.init.constant_(logvar.bias, math.log(0.06 / dim))
    return nn.Linear(before, dim, bias=False), logvar


# A log-variance of -7 in bfloat16 moves in steps of 1/32: too coarse for an order of variances, as for cosines.
_linear = _check.full_precision(F.linear)


def _gaussian(features: Tensor, mean: nn.Linear, logvar: nn.Linear) -> tuple[Tensor, Tensor]:
    cls, unc = features.unbind(dim=1) if features.dim() == 3 else (features, features)  # (B, D_i) each
    return unit(mean(cls)), _linear(unc, logvar.weight, logvar.bias)  # (B, D) each


def _whole_in_masked(mu: Tensor, logvar: Tensor, n: int) -> Tensor:
    m = len(mu) - n
    return inclusion_loss(mu[:m], logvar[:m], mu[n:], logvar[n:])  # row i of the masked is row i of the batch
