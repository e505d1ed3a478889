r"""LimBeR: one linear map from what a frozen eye sees to where the words of a frozen language model stand.

Merullo, Castricato, Eickhoff and Pavlick 2023 (arXiv 2209.15162), derived in lesson 08.

Letters: B pictures, K features of a picture, D_I width of a feature, k soft prompts, D_L width of a word's vector,
L tokens of a caption, V words in the vocabulary, P the map.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from minilip import _check
from minilip.nn.generation import generate
from minilip.nn.modes import evaluating
from minilip.nn.text import check_tokens
from minilip.nn.vision import ConvNet

M = TypeVar("M", bound=nn.Module)


# ---- the map ---------------------------------------------------------------------------------------------------------


class FeatureMap(nn.Module):
    """What a ConvNet sees, place by place: its feature map before the mean. (B, 3, H, W) -> (B, H W / 64, D_I)

    Source: Merullo et al. 2023, section 3: CLIP's 12 x 12 x 3072 map before its pooling is k = 144 features.
    """

    def __init__(self, tower: ConvNet):
        super().__init__()
        if not isinstance(tower, ConvNet):
            _check.fail("tower", "a ConvNet", type(tower).__name__)
        self.tower, self.dim = tower, tower.dim

    def forward(self, images: Tensor) -> Tensor:
        _check.pictures("images", images)
        x = self.tower.layers(images.contiguous(memory_format=torch.channels_last))  # (B, D_I, H / 8, W / 8)
        return rearrange(x, "b d h w -> b (h w) d")  # (B, K, D_I)


class LinearPrompt(nn.Module):
    r"""One linear layer from features to soft prompts, the only thing that LimBeR trains.

    $$ p_i = P\,h_i + b, \qquad P \in \mathbb R^{D_L \times D_I} $$

    Args:
        features: D_I.
        dim: D_L.
        prompts: soft prompts made of each feature: 1 for a feature map, k for one pooled vector, where P is
            (k D_L, D_I).

    Source: Merullo et al. 2023, section 3; lesson 08.
    """

    def __init__(self, features: int, dim: int, prompts: int = 1):
        super().__init__()
        for name, value in (("features", features), ("dim", dim), ("prompts", prompts)):
            _check.count(name, value)
        self.features, self.dim, self.prompts = features, dim, prompts
        self.linear = nn.Linear(features, prompts * dim)

    def forward(self, h: Tensor) -> Tensor:
        """(B, K, D_I) -> (B, K k, D_L), or pooled features (B, D_I) -> (B, k, D_L)"""
        (_check.sequences if isinstance(h, Tensor) and h.dim() == 3 else _check.embeddings)("h", h)
        if h.shape[-1] != self.features:
            _check.fail("h", f"features of {self.features}", tuple(h.shape))
        x = self.linear(h if h.dim() == 3 else h[:, None])  # (B, K, k D_L)
        return rearrange(x, "b n (k d) -> b (n k) d", k=self.prompts)


def ridge_map(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    r"""The linear map that comes nearest to y in squares, in closed form.

    $$ \min_{P, b} \frac1N \sum_n \lVert P x_n + b - y_n \rVert^2 + \lambda \lVert P \rVert^2
       \;\Rightarrow\; P = C_{yx} (C_{xx} + \lambda I)^{-1}, \quad b = \bar y - P \bar x $$

    Args:
        x: (N, D_I).
        y: (N, D), row n of both about the same picture.
        ridge: lambda > 0, in the units of x squared; scikit-learn's `Ridge(alpha=N * ridge)`.

    Returns:
        P (D, D_I) and b (D,)

    Raises:
        ValueError: the numbers of rows differ, numbers that are not finite, lambda <= 0.

    Source: Hoerl and Kennard 1970; lesson 08.
    """
    _check.embeddings("x", x, 1)
    _check.embeddings("y", y, 1)
    if len(x) != len(y):
        _check.fail("y", f"one row for each of {len(x)} of x", len(y))
    _check.positive("ridge", ridge)
    a, b = x - x.mean(dim=0), y - y.mean(dim=0)  # (N, D_I), (N, D)
    c_xx, c_xy = a.T @ a / len(x), a.T @ b / len(x)  # (D_I, D_I), (D_I, D)
    p = torch.linalg.solve(c_xx + ridge * torch.eye(len(c_xx), dtype=x.dtype, device=x.device), c_xy).T  # (D, D_I)
    return p, y.mean(dim=0) - p @ x.mean(dim=0)


# ---- the loss --------------------------------------------------------------------------------------------------------


def caption_mask(tokens: Tensor, end: int) -> Tensor:
    """Which tokens are learned: all up to the first end, and that end too. (B, L) -> (B, L) bool

    By place and not by value: where padding has the number of the end, as in many released tokenizers, leaving out
    every padding token would leave out the end, and no caption would ever learn to stop.

    >>> caption_mask(torch.tensor([[5, 6, 2, 2], [5, 2, 2, 2]]), end=2).long().tolist()
    [[1, 1, 1, 0], [1, 1, 0, 0]]

    Raises:
        ValueError: tokens are not int64 (B, L).

    Source: Merullo et al. 2023, released code; lesson 08.
    """
    check_tokens(tokens, torch.iinfo(torch.int64).max)
    is_end = tokens == _check.count("end", end, least=0)  # (B, L)
    return is_end.cumsum(dim=1) - is_end.long() == 0  # no end stands before


@_check.full_precision
def caption_log_probabilities(logits: Tensor, tokens: Tensor, end: int) -> Tensor:
    r"""log p of each token of a caption given what stands before it, 0 behind the first end. -> (B, L)

    $$ \log p(t_j \mid i_1 \dots i_k, t_1 \dots t_{j-1}) $$

    A row's sum is the caption's log-likelihood.

    Args:
        logits: (B, L, V); row j is what the model expects at place j.
        tokens: (B, L) int64 in 0 ... V - 1.
        end: the number of the end token.

    Raises:
        ValueError: shapes that do not belong together, numbers that are not finite.

    Source: lesson 08.
    """
    _check.sequences("logits", logits)
    check_tokens(tokens, logits.shape[2])
    if tokens.shape != logits.shape[:2]:
        _check.fail("tokens", f"shape {tuple(logits.shape[:2])}", tuple(tokens.shape))
    log_p = -F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none")  # (B L,)
    return log_p.unflatten(0, tokens.shape) * caption_mask(tokens, end)


def caption_loss(logits: Tensor, tokens: Tensor, end: int) -> Tensor:
    r"""Cross-entropy of captions, the mean over all tokens that are learned.

    $$ \mathcal L = -\frac{\sum_n \sum_{j \le m_n} \log p(t_j \mid i_1 \dots i_k, t_1 \dots t_{j-1})}{\sum_n m_n} $$

    with m_n the length of caption n, its first end included.

    Args:
        logits, tokens, end: as `caption_log_probabilities`.

    Returns:
        Nats a token.

    Source: Merullo et al. 2023, section 3; lesson 08.
    """
    return -caption_log_probabilities(logits, tokens, end).sum() / caption_mask(tokens, end).sum()


# ---- what is frozen --------------------------------------------------------------------------------------------------


def freeze(module: M) -> M:
    """The same module, whose parameters learn nothing more and whose statistics stand still as long as it is in `eval`.

    Gradients still pass through it to what feeds it.
    """
    if not isinstance(module, nn.Module):
        _check.fail("module", "an nn.Module", type(module).__name__)
    return module.requires_grad_(False).eval()


def frozen_hash(module: nn.Module) -> str:
    """A digest of every parameter and buffer, to compare before and after training: 64 hexadecimal digits.

    A parameter that requires no gradient can still move, by weight decay or by hand; a batch normalisation's running
    mean is no parameter at all.
    """
    if not isinstance(module, nn.Module):
        _check.fail("module", "an nn.Module", type(module).__name__)
    digest = sha256()
    for name, value in sorted(module.state_dict().items()):
        x = value.detach().cpu().contiguous()
        digest.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
        digest.update(x.reshape(-1).view(torch.uint8).numpy().tobytes() if x.numel() else b"")
    return digest.hexdigest()


# ---- the model -------------------------------------------------------------------------------------------------------


class LimBeR(nn.Module):
    r"""A frozen eye, one linear map, a frozen language model.

    $$ \mathcal L(P) = -\frac1{\sum_n m_n} \sum_n \sum_{j=1}^{m_n}
       \log p\big(t_j \mid P h_1, \dots, P h_K, t_1, \dots, t_{j-1}\big) $$

    Args:
        eye: pictures -> features (B, K, D_I) or (B, D_I); `nn.Identity()` where a batch brings features.
        prompt: of features -> soft prompts (B, k, D_L).
        language: vectors (B, L, D_L) -> logits (B, L, V), with `.embed` for the vectors of words, `.vocabulary` and
            `.dim`.
        end: the number of the end token.

    Eye and language model are frozen where they are, and stay in `eval` while the model trains.

    Source: Merullo et al. 2023; lesson 08.
    """

    def __init__(self, eye: nn.Module, prompt: LinearPrompt, language: nn.Module, end: int):
        super().__init__()
        if _check.width("language", language) != _check.width("prompt", prompt):
            _check.fail("prompt", f"soft prompts of {language.dim}, as the words of the language model", prompt.dim)
        self.eye, self.prompt, self.language = freeze(eye), prompt, freeze(language)
        self.end = _check.count("end", end, least=0)

    def train(self, mode: bool = True) -> LimBeR:
        super().train(mode)
        self.eye.eval()
        self.language.eval()
        return self

    def soft_prompts(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), or what else the eye takes -> (B, k, D_L)"""
        with torch.no_grad():
            h = self.eye(images)  # (B, K, D_I) or (B, D_I)
        return self.prompt(h)  # (B, k, D_L)

    def logits(self, images: Tensor, tokens: Tensor) -> Tensor:
        """What is expected at each place of a caption, given the picture and the words before. -> (B, L, V)"""
        check_tokens(tokens, self.language.vocabulary)  # type: ignore[arg-type]
        p = self.soft_prompts(images)  # (B, k, D_L)
        if len(tokens) != len(p):
            _check.fail("tokens", f"a caption for each of {len(p)} pictures", len(tokens))
        words = self.language.embed(tokens[:, :-1])  # type: ignore[operator]  # (B, L - 1, D_L)
        out = self.language(torch.cat([p, words.to(p.dtype)], dim=1))  # (B, k + L - 1, V)
        return out[:, p.shape[1] - 1 :]  # (B, L, V) the last soft prompt expects the first word

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """(images, tokens) -> `caption_loss`."""
        images, tokens = batch
        return caption_loss(self.logits(images, tokens), tokens, self.end), {}

    @torch.no_grad()
    def log_likelihood(self, images: Tensor, tokens: Tensor) -> Tensor:
        """log p(caption | picture) in nats, its end included. (B, 3, H, W), (B, L) -> (B,)"""
        return caption_log_probabilities(self.logits(images, tokens), tokens, self.end).sum(dim=1)

    @torch.no_grad()
    def caption(
        self,
        images: Tensor,
        start: Tensor,
        length: int,
        top_p: float | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Write a sentence for each picture. -> (B, L0 + length), `start` in front

        Args:
            images: as `soft_prompts`.
            start: (L0,) int64, the words that every sentence begins with, such as "a picture of".
            length, top_p, temperature, generator: as `minilip.nn.generation.generate`.
        """
        if not isinstance(start, Tensor) or start.dim() != 1 or start.dtype != torch.int64 or not len(start):
            _check.fail("start", "int64 of shape (L0,), at least one", _check.described(start))
        check_tokens(start[None], self.language.vocabulary)  # type: ignore[arg-type]
        with evaluating(self):
            p = self.soft_prompts(images)  # (B, k, D_L)

            def next_word(rows: Tensor) -> Tensor:
                words = self.language.embed(rows).to(p.dtype)  # type: ignore[operator]  # (B, L, D_L)
                return self.language(torch.cat([p, words], dim=1))[:, -1].float()  # (B, V)

            rows = start.to(p.device).expand(len(p), -1)  # (B, L0)
            return generate(next_word, rows, length, self.end, top_p, temperature, generator)
