r"""What a model scores on a probe, ties counted openly, and a score without the prior of the language.

Letters: N questions, F false captions of each, T captions, I images, alpha the share of the prior that is taken away.

Source: Yuksekgonul et al. 2023 (arXiv 2210.01936); Lin et al. 2024 (arXiv 2306.01879); lesson 10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minilip import _check
from minilip.compositionality.captions import Probe
from minilip.nn.modes import evaluating

TIES = ("wrong", "lot", "right")


@torch.no_grad()
def probe_scores(
    model: Any, images: Tensor, probe: Probe, score: Callable[[Tensor, Tensor], Tensor] | None = None, batch: int = 256
) -> Tensor:
    """How well each caption of a probe fits its picture, the true caption first. -> (N, 1 + F)

    Args:
        model: has `tokenizer`, and `encode_image` and `encode_text`, whose cosine is the score: CLIP and its kin,
            ProLIP (the means), any model of `minilip.data.pretrained.open_clip`.
        images: (B, ...) of all the scenes that the probe was made of: pictures, or what else the model reads.
        probe: of `minilip.compositionality`.
        score: (images (n, ...), tokens (n, L)) -> (n,), of a model that reads both at once, such as a matcher.
        batch: questions at a time.

    Raises:
        ValueError: images are not floating-point, the probe asks of others than these, or a score is not one a pair.
    """
    _check.tensor("images", images, floating=True)
    if images.dim() < 2 or images.numel() == 0:
        _check.fail("images", "shape (B, ...)", tuple(images.shape))
    _check.finite("images", images)
    _check.count("batch", batch)
    if not isinstance(probe, Probe) or int(probe.scenes.max()) >= len(images):
        came = f"scene {int(probe.scenes.max())}" if isinstance(probe, Probe) else type(probe).__name__
        _check.fail("probe", f"a Probe of these {len(images)} images", came)
    columns = list(zip(*([t, *f] for t, f in zip(probe.true, probe.false, strict=True)), strict=True))  # 1 + F of N
    rows = []
    with evaluating(model):
        for start in range(0, len(probe.true), batch):
            part = images[probe.scenes[start : start + batch]]
            tokens = [model.tokenizer(list(c[start : start + batch]), images.device) for c in columns]
            if score is None:
                v = model.encode_image(part)  # (n, D)
                found = [(v * model.encode_text(t)).sum(dim=1) for t in tokens]
            else:
                found = [score(part, t) for t in tokens]
            if any(x.shape != (len(part),) for x in found):
                _check.fail("score", f"one for each of {len(part)} pairs", [tuple(x.shape) for x in found])
            rows.append(torch.stack([x.float() for x in found], dim=1))  # (n, 1 + F)
    return torch.cat(rows)


def probe_hits(scores: Tensor, ties: str = "lot") -> Tensor:
    r"""Of each question whether the true caption has the best score; with m false ones beside it, what a tie is worth.

    $$ h = \mathbb 1[s_0 = \max_f s_f] \cdot
       \begin{cases} \mathbb 1[m = 0] & \text{wrong} \\ 1 / (1 + m) & \text{lot} \\ 1 & \text{right} \end{cases} $$

    By lot, a scorer that says nothing gets exactly chance, 1 / (1 + F): of a tie one is drawn. `argmax` over
    [false, true] is "wrong", `argmax` over [true, false, ...] is "right", for it returns the first of the largest: a
    constant scorer gets 0 and 1.

    Args:
        scores: (N, 1 + F), the true caption first.
        ties: "lot", "wrong" or "right".

    Returns:
        (N,) float, in [0, 1]

    Raises:
        ValueError: scores are not (N, 1 + F) with N, F >= 1, or not finite; `ties` is unknown.

    Source: the evaluation code of Yuksekgonul et al. 2023, both conventions; lesson 10.
    """
    _check.choice("ties", ties, TIES)
    _check.tensor("scores", scores, dims=2)
    if scores.shape[0] < 1 or scores.shape[1] < 2:
        _check.fail("scores", "shape (N, 1 + F), N and F at least 1", tuple(scores.shape))
    _check.finite("scores", scores)
    best = scores[:, 0] >= scores[:, 1:].amax(dim=1)  # (N,)
    beside = (scores[:, 1:] == scores[:, :1]).sum(dim=1)  # (N,) m
    worth = {"lot": 1 / (1 + beside), "wrong": (beside == 0).float(), "right": torch.ones_like(best).float()}[ties]
    return best * worth


def probe_accuracy(scores: Tensor, ties: str = "lot") -> float:
    """The mean of `probe_hits`: chance is 1 / (1 + F).

    >>> constant = torch.zeros(10, 5)  # four false captions
    >>> [round(probe_accuracy(constant, ties), 3) for ties in ("lot", "wrong", "right")]
    [0.2, 0.0, 1.0]
    """
    return float(probe_hits(scores, ties).double().mean())


def log_prior(log_p: Tensor) -> Tensor:
    r"""How likely a caption is whatever the picture: the mean of its likelihood over pictures, not of its logarithm.

    $$ \log p(t) = \log \sum_i p(i)\, p(t \mid i) \approx \log \frac1I \sum_i e^{\log p(t \mid i)} $$

    Args:
        log_p: (T, I) log p(t | i) of every caption with every one of I pictures drawn at random.

    Returns:
        (T,)

    Raises:
        ValueError: not (T, I) finite floating-point numbers.

    Source: Lin et al. 2024; lesson 10.
    """
    _check.embeddings("log_p", log_p)
    return log_p.logsumexp(dim=1) - math.log(log_p.shape[1])  # (T,)


def visual_gpt_score(log_p_given_image: Tensor, log_p: Tensor, alpha: float = 1.0) -> Tensor:
    r"""How well a caption fits a picture, with a share of what the language alone says taken away.

    $$ \log \frac{p(t \mid i)}{p(t)^\alpha} = \log p(t \mid i) - \alpha \log p(t) $$

    alpha = 0 is the likelihood, alpha = 1 the pointwise mutual information of picture and caption, which is what a
    contrastive critic tends to.

    Args:
        log_p_given_image: log p(t | i), of any shape.
        log_p: log p(t), of a shape that broadcasts to it.
        alpha: at least 0.

    Returns:
        of the shape of `log_p_given_image`

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, alpha below 0.

    Source: Lin et al. 2024; lesson 10.
    """
    for name, x in (("log_p_given_image", log_p_given_image), ("log_p", log_p)):
        _check.tensor(name, x, floating=True)
        if x.numel() == 0:
            _check.fail(name, "at least one number", "none")
        _check.finite(name, x)
    if _check.number("alpha", alpha) < 0:
        _check.fail("alpha", "a number of at least 0", alpha)
    try:
        shape = torch.broadcast_shapes(log_p_given_image.shape, log_p.shape)
    except RuntimeError:
        shape = None
    if shape != log_p_given_image.shape:
        _check.fail("log_p", f"a shape that broadcasts to {tuple(log_p_given_image.shape)}", tuple(log_p.shape))
    return log_p_given_image - alpha * log_p
