r"""CPC: predict the codes of what comes next, among codes of what does not, and forget the rest.

Oord, Li and Vinyals 2018 (arXiv 1807.03748), derived in lesson 02; on pictures Henaff et al. 2020 (arXiv 1905.09272).

Letters: B sequences, T times, K steps ahead, D length of a code z, H length of a context c, N candidates; of a picture
R rows and C columns of patches with side P.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check
from minilip.nn.gather import gather

CANDIDATES = ("batch", "sequence", "all")


@_check.full_precision
def cpc_loss(
    z: Tensor, c: Tensor, predictors: Sequence[nn.Module] | nn.ModuleList, candidates: str = "batch"
) -> Tensor:
    r"""InfoNCE over future steps: context c_t picks the code z_{t+k} of its own future among N codes.

    $$ \mathcal L = -\frac1K \sum_{k=1}^K \frac1{B (T - k)} \sum_{b, t} \log
       \frac{\exp(z_{b,t+k}^\top W_k c_{b,t})}{\sum_{z' \in X} \exp(z'^\top W_k c_{b,t})} $$

    Whatever the set X of candidates, the positive is in it exactly once.

    Args:
        z: (B, T, D) codes, taken as they are.
        c: (B, T, H) contexts; c_t has seen z_1 ... z_t and nothing later.
        predictors: K modules W_1 ... W_K, each (..., H) -> (..., D); step k needs T > K.
        candidates: X, the codes that are compared. "batch": of all B sequences at time t + k, N = B. "sequence": of
            this sequence at its times k+1 ... T, N = T - k. "all": of all sequences at these, N = B (T - k).

    Returns:
        The mean over steps, sequences and times in nats; log N at equal scores ("batch").

    Raises:
        ValueError: shapes that do not fit, too few times or candidates, numbers that are not finite.

    Source: Oord et al. 2018, eq. 3 and 4; lesson 02.
    """
    _check.sequences("z", z)
    _check.sequences("c", c)
    if z.shape[:2] != c.shape[:2]:
        _check.fail("c", f"{z.shape[0]} sequences of {z.shape[1]} times, as in z", tuple(c.shape))
    _check.choice("candidates", candidates, CANDIDATES)
    if not isinstance(predictors, (Sequence, nn.ModuleList)) or len(predictors) == 0:
        _check.fail("predictors", "one module for each step ahead", _check.described(predictors))
    times = z.shape[1] - len(predictors)
    if times < 1 + (candidates == "sequence") or (candidates == "batch" and len(z) < 2):
        wanted = f"B >= {1 + (candidates == 'batch')}, T > {len(predictors) + (candidates == 'sequence')}"
        _check.fail("z", f"{wanted} for two candidates or more", f"shape {tuple(z.shape)}")
    losses = []
    for k, predict in enumerate(predictors, start=1):
        guess, future = predict(c[:, :-k]), z[:, k:]  # (B, T - k, D) both
        if guess.shape != future.shape:
            _check.fail(f"predictors[{k - 1}]", f"a result of shape {tuple(future.shape)}", tuple(guess.shape))
        if candidates == "all":
            guess, future = guess.reshape(1, -1, z.shape[2]), future.reshape(1, -1, z.shape[2])
        if candidates == "batch":
            guess, future = guess.transpose(0, 1), future.transpose(0, 1)  # (T - k, B, D)
        scores = guess @ future.mT  # (sets, N, N): row, whose context; column, whose code
        own = torch.arange(scores.shape[1], device=z.device).repeat(len(scores))
        losses.append(F.cross_entropy(scores.flatten(0, 1), own))
    return torch.stack(losses).mean()


class CPC(nn.Module):
    r"""An encoder of each moment, a recurrent network over the codes, and a linear map W_k for each step ahead.

    $$ z_t = g_{\mathrm{enc}}(x_t), \qquad c_t = g_{\mathrm{ar}}(z_1 \ldots z_t), \qquad
       f_k(x_{t+k}, c_t) = \exp(z_{t+k}^\top W_k c_t) $$

    Args:
        encoder: g_enc, (B, T', ...) -> (B, T, D), with D in `.dim`; see `minilip.nn.sequence`.
        context: H, of the GRU g_ar.
        ahead: K.
        candidates: as for `cpc_loss`.

    Source: Oord et al. 2018, section 2.2; lesson 02.
    """

    def __init__(self, encoder: nn.Module, context: int = 128, ahead: int = 4, candidates: str = "batch"):
        super().__init__()
        dim = _check.width("encoder", encoder)
        context, ahead = _check.count("context", context), _check.count("ahead", ahead)
        _check.choice("candidates", candidates, CANDIDATES)
        self.encoder, self.candidates, self.dim = encoder, candidates, context
        self.recurrent = nn.GRU(dim, context, batch_first=True)
        self.predictors = nn.ModuleList(nn.Linear(context, dim, bias=False) for _ in range(ahead))

    def encode(self, x: Tensor) -> Tensor:
        """z, of each moment by itself: (B, T', ...) -> (B, T, D)"""
        return self.encoder(x)

    def forward(self, x: Tensor) -> Tensor:
        """c, of each moment and all before it: (B, T', ...) -> (B, T, H)"""
        return self.recurrent(self.encoder(x))[0]

    def loss(self, batch: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sequences x (B, T', ...) -> the loss, and how often the last step ahead is picked from the batch.

        A pair (x, y) of sequences that differ only in what should be forgotten: contexts are of x, codes of y.
        """
        x, y = batch if isinstance(batch, (tuple, list)) else (batch, None)
        z = self.encoder(x)  # (B, T, D)
        c = self.recurrent(z)[0]  # (B, T, H)
        z, c = gather(z if y is None else self.encoder(y)), gather(c)
        return cpc_loss(z, c, self.predictors, self.candidates), {"accuracy": self._accuracy(z, c)}

    @torch.no_grad()
    def _accuracy(self, z: Tensor, c: Tensor) -> Tensor:
        """The part of the B sequences whose code K steps ahead is picked from those of the batch, at the last time."""
        guess = self.predictors[-1](c[:, -1 - len(self.predictors)])  # (B, D)
        picked = (guess @ z[:, -1].T).argmax(dim=1)
        return (picked == torch.arange(len(z), device=z.device)).float().mean()


def overlapping_patches(images: Tensor, patch: int, stride: int) -> Tensor:
    """A grid of square patches, from the top left, each overlapping its neighbours by patch - stride pixels.

    Args:
        images: (B, 3, H, W).
        patch: P; stride: pixels from a patch to the next, at most P. (H - P) and (W - P) are multiples of it.

    Returns:
        (B, R, C, 3, P, P)

    Raises:
        ValueError: patches that do not fit the picture.

    Source: Henaff et al. 2020, section 3.1; lesson 02.
    """
    _check.pictures("images", images)
    _check.count("patch", patch)
    _check.count("stride", stride)
    high, wide = images.shape[2:]
    if stride > patch or patch > min(high, wide) or (high - patch) % stride or (wide - patch) % stride:
        _check.fail("patch and stride", f"patches that tile {high} x {wide} pixels, stride <= patch", (patch, stride))
    grid = images.unfold(2, patch, stride).unfold(3, patch, stride)  # (B, 3, R, C, P, P)
    return grid.permute(0, 2, 3, 1, 4, 5).contiguous()  # (B, R, C, 3, P, P)


class PatchCPC(nn.Module):
    r"""CPC on pictures: from the rows of patches above, predict the codes of the rows below.

    $$ c_{ij} = g_{\mathrm{ar}}(z_{uv},\ u \le i), \qquad f_k = \exp(z_{i+k,j}^\top W_k c_{ij}) $$

    g_ar is a stack of convolutions that see this row and the one above, and the columns beside: nothing below.

    Args:
        tower: of a patch, (n, 3, P, P) -> (n, D), with D in `.dim`.
        patch: P; stride: pixels between patches.
        context: H.
        ahead: K rows below; K less than R.

    Source: Henaff et al. 2020, section 3.1; sizes and the plain convolutions are ours. Lesson 02.
    """

    def __init__(self, tower: nn.Module, patch: int = 8, stride: int = 4, context: int = 128, ahead: int = 3):
        super().__init__()
        self.dim = _check.width("tower", tower)
        for name, value in (("patch", patch), ("stride", stride), ("context", context), ("ahead", ahead)):
            _check.count(name, value)
        self.tower, self.patch, self.stride = tower, patch, stride
        self.above = nn.ModuleList([nn.Conv2d(self.dim, context, (2, 3)), nn.Conv2d(context, context, (2, 3))])
        self.predictors = nn.ModuleList(nn.Linear(context, self.dim, bias=False) for _ in range(ahead))

    def encode(self, images: Tensor) -> Tensor:
        """z of every patch by itself: (B, 3, H, W) -> (B, R, C, D)"""
        grid = overlapping_patches(images, self.patch, self.stride)  # (B, R, C, 3, P, P)
        return self.tower(grid.flatten(0, 2)).unflatten(0, grid.shape[:3])  # (B, R, C, D)

    def context(self, z: Tensor) -> Tensor:
        """c of every patch, which nothing below it reaches: (B, R, C, D) -> (B, R, C, H)"""
        _check.tensor("z", z, 4, floating=True)
        _check.sequences("z", z.flatten(0, 1))
        x = z.permute(0, 3, 1, 2)  # (B, D, R, C)
        for i, layer in enumerate(self.above):
            x = layer(F.pad(F.relu(x) if i else x, (1, 1, 1, 0)))  # (B, H, R, C) zeros left, right and above
        return x.permute(0, 2, 3, 1)  # (B, R, C, H)

    def forward(self, images: Tensor) -> Tensor:
        """The mean code of a picture's patches, what later tasks use: (B, 3, H, W) -> (B, D)"""
        return self.encode(images).mean(dim=(1, 2))  # (B, D)

    def loss(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 3, H, W) -> the loss: the columns of all pictures are B C sequences, read downwards."""
        z = gather(self.encode(images))  # (B, R, C, D)
        c = self.context(z)  # (B, R, C, H)
        z, c = (x.transpose(1, 2).flatten(0, 1) for x in (z, c))  # (B C, R, D) and (B C, R, H)
        return cpc_loss(z, c, self.predictors), {}
