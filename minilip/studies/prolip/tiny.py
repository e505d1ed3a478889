"""A ProLIP that trains in a second: captions and pictures are rows of codes, towers have one hidden layer.

Letters: A attributes (4: size, colour, shape, place), B batch, D embedding dimension (16).
A code is 0 where an attribute is not named, -1 where a mask stands for it, else its value counted from 1.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check
from minilip.prolip import inclusion_loss, ppcl_loss, uncertainty, vib_loss

VALUES = torch.tensor([2, 8, 3, 4])  # (A,) sizes, colours, shapes, places
MASK = -1
EVERY = torch.cartesian_prod(*(torch.arange(k + 1) for k in VALUES.tolist()))  # (540, A) all captions there are
FITS = torch.where(EVERY > 0, 1, VALUES).prod(dim=1)  # (540,) how many scenes each of them fits, 1 to 192
NAMED = (EVERY > 0).sum(dim=1)  # (540,) how many attributes each of them names


def bag(codes: Tensor) -> Tensor:
    """One column for each value of each attribute, one that counts masks. (B, A) -> (B, 18)"""
    values = [
        F.one_hot(c.clamp(min=0), k + 1)[:, 1:] for c, k in zip(codes.unbind(dim=1), VALUES.tolist(), strict=True)
    ]
    return torch.cat([*values, (codes == MASK).sum(dim=1, keepdim=True)], dim=1).float()


class Tower(nn.Module):
    """(B, 18) -> unit means (B, D), log-variances (B, D)"""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(18, 64), nn.GELU())
        self.mean, self.logvar = nn.Linear(64, dim, bias=False), nn.Linear(64, dim)
        nn.init.constant_(self.logvar.bias, math.log(0.06 / dim))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)  # (B, 64)
        return F.normalize(self.mean(h), dim=1), self.logvar(h)


def train(
    less: Callable[[Tensor], Tensor] | None,
    steps: int,
    seed: int = 0,
    alpha: float = 0.1,
    batch: int = 128,
    ppcl: Callable[..., Tensor] = ppcl_loss,
    vib: Callable[..., Tensor] = vib_loss,
) -> Tower:
    """Train a picture and a caption tower on pairs, and return the caption tower.

    Args:
        less: masks captions, (B, A) codes -> (B, A) codes, drawing from torch's own generator; or None: no inclusion.
        steps: of Adam.
        seed: of everything that is drawn. The generator is afterwards as it was before.
        alpha: weight of the inclusion loss.
        batch: pairs a step.
        ppcl, vib: the two other losses, called as the library's.

    Raises:
        ValueError: no steps, a batch of 1.
    """
    _check.count("steps", steps)
    _check.count("batch", batch, least=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image, text = Tower(), Tower()
        s, b = nn.Parameter(torch.tensor(1 / 0.07).log()), nn.Parameter(-torch.tensor(batch - 1.0).log())
        optimiser = torch.optim.Adam([*image.parameters(), *text.parameters(), s, b], lr=3e-3)
        for _ in range(steps):
            scenes = 1 + (torch.rand(batch, 4) * VALUES).long()  # (B, A)
            captions = torch.where(torch.rand(batch, 4) < 0.6, scenes, 0)  # (B, A)
            pictures = bag(scenes) + 0.3 * torch.randn(batch, 18)
            general = captions if less is None else less(captions)  # (B, A)
            v, (mu, logvar) = image(pictures), text(bag(torch.cat([captions, general])))
            t, masked = (mu[:batch], logvar[:batch]), (mu[batch:], logvar[batch:])
            loss = ppcl(*v, *t, s.exp(), b) + 1e-4 * (vib(*v) + vib(*t))
            if less is not None:
                loss = loss + alpha * inclusion_loss(*t, *masked)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return text


@torch.no_grad()
def width(text: Tower, codes: Tensor) -> Tensor:
    """S of each caption. (B, A) -> (B,)"""
    return uncertainty(text(bag(codes))[1])
