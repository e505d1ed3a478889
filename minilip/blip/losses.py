r"""The three losses of BLIP, the draw of its negatives and the average that its targets come from: pure functions.

Letters: B batch, Q queue, D embedding dimension, L words and the end, V words of the vocabulary, tau temperature.

Source: Li et al. 2022 (arXiv 2201.12086); ALBEF, Li et al. 2021 (arXiv 2107.07651); lesson 09.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check

FLOOR = 1e-4  # added to the probability of each negative, so that none is out of the question


@_check.full_precision
def momentum_targets(
    queries: Tensor, keys: Tensor, temperature: float | Tensor, alpha: float, same: Tensor | None = None
) -> Tensor:
    r"""What a query should find: its own key, and a little all that slow towers hold for like it.

    $$ q_{ij} = \alpha\, \frac{\exp(\bar x_i^\top \bar y_j / \tau)}{\sum_k \exp(\bar x_i^\top \bar y_k / \tau)}
       + (1 - \alpha)\, \frac{m_{ij}}{\sum_k m_{ik}} $$

    Args:
        queries: (B, D) of the momentum towers, one modality.
        keys: (B + Q, D) of the momentum towers, the other modality: the batch, in the same order, then the queue.
        temperature: tau > 0.
        alpha: the share of the momentum towers, from 0 (labels alone) to 1.
        same: m (B, B + Q) bool, what belongs together; default: i to i alone.

    Returns:
        (B, B + Q), rows that sum to 1, without a gradient.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, tau <= 0, alpha out of range, a query without
            a key of its own.

    Source: Li et al. 2021 (ALBEF), momentum distillation; in BLIP alpha is 0.4; lesson 09.
    """
    _pair(queries, keys)
    _check.positive("temperature", temperature)
    if not 0 <= _check.number("alpha", alpha) <= 1:
        _check.fail("alpha", "a share from 0 to 1", alpha)
    b, n = len(queries), len(keys)
    same = torch.eye(b, n, dtype=torch.bool, device=queries.device) if same is None else _table("same", same, b, n)
    if not bool(same.any(dim=1).all()):
        _check.fail("same", "a key of its own for every query", f"{int((~same.any(dim=1)).sum())} queries without")
    with torch.no_grad():
        label = same.to(queries.dtype) / same.sum(dim=1, keepdim=True)  # (B, B + Q)
        return alpha * (queries @ keys.T / temperature).softmax(dim=1) + (1 - alpha) * label


@_check.full_precision
def itc_loss(
    image: Tensor,
    text: Tensor,
    image_keys: Tensor,
    text_keys: Tensor,
    image_targets: Tensor,
    text_targets: Tensor,
    temperature: float | Tensor,
) -> Tensor:
    r"""Contrast: each image finds its caption among the batch and a queue, each caption its image.

    $$ \mathcal L_{ITC} = -\frac1{2B} \sum_{i=1}^B \sum_{j=1}^{B+Q} \Big[
       q^v_{ij} \log \frac{\exp(v_i^\top \bar t_j / \tau)}{\sum_k \exp(v_i^\top \bar t_k / \tau)} +
       q^t_{ij} \log \frac{\exp(t_i^\top \bar v_j / \tau)}{\sum_k \exp(t_i^\top \bar v_k / \tau)} \Big] $$

    Args:
        image, text: v and t (B, D), unit vectors in BLIP, taken as they are.
        image_keys, text_keys: (B + Q, D) of the momentum towers: the batch, then the queue.
        image_targets: q^v (B, B + Q), what image i should find among the text keys; rows sum to 1.
        text_targets: q^t (B, B + Q), what caption i should find among the image keys.
        temperature: tau > 0, a float or one element.

    Returns:
        The mean over B and both directions in nats: log(B + Q) when all logits are equal.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, rows that do not sum to 1, tau <= 0.

    Source: Li et al. 2021 (ALBEF), image-text contrastive learning; lesson 09.
    """
    _check.paired("image", image, "text", text)
    _pair(image, image_keys)
    _check.paired("image_keys", image_keys, "text_keys", text_keys)
    _check.positive("temperature", temperature)
    for name, q in (("image_targets", image_targets), ("text_targets", text_targets)):
        _check.embeddings(name, q)
        if q.shape != (len(image), len(image_keys)) or not bool(((q.sum(dim=1) - 1).abs() < 1e-3).all()):
            _check.fail(name, f"({len(image)}, {len(image_keys)}) rows that sum to 1", f"{tuple(q.shape)}")
    to_text = F.cross_entropy(image @ text_keys.T / temperature, image_targets)
    to_image = F.cross_entropy(text @ image_keys.T / temperature, text_targets)
    return (to_text + to_image) / 2


@torch.no_grad()
def hard_negatives(similarity: Tensor, generator: torch.Generator | None = None, same: Tensor | None = None) -> Tensor:
    r"""For each row a wrong column, the likelier the more similar it is.

    $$ P(j \mid i) \propto \operatorname{softmax}_j(S_{ij}) + 10^{-4}, \qquad P(j \mid i) = 0
       \text{ where } j \text{ belongs to } i $$

    Args:
        similarity: S (B, B), the logits of contrast: cosines divided by tau.
        generator: what is drawn from, on the device of S; None for torch's own.
        same: (B, B) bool, what belongs together and is never drawn; default: the diagonal.

    Returns:
        (B,) int64

    Raises:
        ValueError: not (B, B) finite numbers, B < 2, or a row to which all columns belong.

    Source: the released code of ALBEF and BLIP; lesson 09.
    """
    _check.embeddings("similarity", similarity, least=2)
    b = len(similarity)
    if similarity.shape[1] != b:
        _check.fail("similarity", "shape (B, B)", tuple(similarity.shape))
    own = torch.eye(b, dtype=torch.bool, device=similarity.device)
    own = own if same is None else own | _table("same", same, b, b)
    if bool(own.all(dim=1).any()):
        _check.fail("same", "a wrong column in each row", "a row without")
    if generator is not None:
        _check.generator("generator", generator, similarity.device)
    weight = (similarity.float().softmax(dim=1) + FLOOR).masked_fill(own, 0)  # (B, B)
    return torch.multinomial(weight, 1, generator=generator).squeeze(1)  # (B,)


@_check.full_precision
def itm_loss(positive: Tensor, negative_image: Tensor, negative_text: Tensor) -> Tensor:
    r"""Match: do these two belong together? One right pair and two hard wrong ones for each item of the batch.

    $$ \mathcal L_{ITM} = -\frac1{3B} \sum_{i=1}^B \big[ \log \sigma(m_i) + \log \sigma(-m^v_i) +
       \log \sigma(-m^t_i) \big] $$

    Args:
        positive: m (B,) log-odds that image i and caption i belong together.
        negative_image: m^v (B,), of caption i with a wrong image.
        negative_text: m^t (B,), of image i with a wrong caption.

    Returns:
        The mean over 3 B questions in nats: log 3 - 2/3 log 2 = 0.6365 for the best constant answer, log-odds -log 2.

    Raises:
        ValueError: not three (B,) of finite numbers.

    Source: Li et al. 2022, section 3.2; lesson 09.
    """
    for name, m in (("positive", positive), ("negative_image", negative_image), ("negative_text", negative_text)):
        _check.tensor(name, m, dims=1, floating=True)
        _check.finite(name, m)
        if m.shape != positive.shape or len(m) == 0:
            _check.fail(name, f"shape ({max(1, len(positive))},)", tuple(m.shape))
    right = -F.logsigmoid(positive)  # (B,)
    return torch.cat([right, -F.logsigmoid(-negative_image), -F.logsigmoid(-negative_text)]).mean()


@_check.full_precision
def lm_loss(logits: Tensor, targets: Tensor, lengths: Tensor, smoothing: float = 0.1) -> Tensor:
    r"""Describe: the next word, given the picture and the words before it.

    $$ \mathcal L_{LM} = -\frac1{\sum_i l_i} \sum_{i=1}^B \sum_{n=1}^{l_i} \Big[ (1 - \epsilon) \log p_{in}(w_{in}) +
       \frac{\epsilon}{V} \sum_{w=1}^V \log p_{in}(w) \Big] $$

    Args:
        logits: (B, L, V); position n has read the words before n alone.
        targets: w (B, L) int64, the words themselves and the end; what stands behind the end does not matter.
        lengths: l (B,) int64 in 1 ... L, the end counted.
        smoothing: epsilon in [0, 1), the share spread over the vocabulary.

    Returns:
        Nats a word.

    Raises:
        ValueError: shapes that do not fit, words or lengths out of range, numbers that are not finite.

    Source: Li et al. 2022, section 3.2, epsilon = 0.1; lesson 09.
    """
    _check.sequences("logits", logits)
    b, n, v = logits.shape
    if not isinstance(targets, Tensor) or targets.shape != (b, n) or targets.dtype != torch.int64:
        _check.fail("targets", f"int64 of shape ({b}, {n})", _check.described(targets))
    _check.labels("lengths", lengths, b, n + 1)
    if int(lengths.min()) < 1:
        _check.fail("lengths", "at least 1, the end", int(lengths.min()))
    if not 0 <= _check.number("smoothing", smoothing) < 1:
        _check.fail("smoothing", "a share of at least 0 and below 1", smoothing)
    real = torch.arange(n, device=logits.device) < lengths[:, None]  # (B, L) by length: padding may equal the end
    _check.labels("targets", targets[real], None, v)
    return F.cross_entropy(logits[real], targets[real], label_smoothing=smoothing)


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    r"""Move a copy of a module a little towards the module: an average over its past.

    $$ \bar\theta \leftarrow \mu\, \bar\theta + (1 - \mu)\, \theta $$

    Args:
        slow: changed in place; its buffers become those of `fast`.
        fast: of the same shape; not changed.
        momentum: mu in [0, 1].

    Raises:
        ValueError: mu out of range, or modules of other parameters.

    Source: He et al. 2020 (MoCo), eq. 2; mu = 0.995 in BLIP; lesson 09.
    """
    if not 0 <= _check.number("momentum", momentum) <= 1:
        _check.fail("momentum", "a number from 0 to 1", momentum)
    shapes = [[p.shape for p in module.parameters()] for module in (slow, fast)]
    if shapes[0] != shapes[1]:
        _check.fail("slow", "the parameters of fast", f"{len(shapes[0])} against {len(shapes[1])}")
    for average, p in zip(slow.parameters(), fast.parameters(), strict=True):
        average.lerp_(p, 1 - momentum)
    for old, new in zip(slow.buffers(), fast.buffers(), strict=True):
        old.copy_(new)


def _pair(queries: Tensor, keys: Tensor) -> None:
    _check.embeddings("queries", queries)
    _check.embeddings("keys", keys)
    if keys.shape[1] != queries.shape[1] or len(keys) < len(queries):
        _check.fail("keys", f"the {len(queries)} of the batch and more, of width {queries.shape[1]}", tuple(keys.shape))


def _table(name: str, x: Tensor, rows: int, columns: int) -> Tensor:
    if not isinstance(x, Tensor) or x.dtype != torch.bool or x.shape != (rows, columns):
        _check.fail(name, f"bool of shape ({rows}, {columns})", _check.described(x))
    return x
