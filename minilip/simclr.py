r"""SimCLR: two views of one picture find each other among all the other views of the batch.

Chen, Kornblith, Norouzi and Hinton 2020 (arXiv 2002.05709), derived in lesson 03. The views: `augment.simclr_view`.

Letters: B pictures and so 2B views, D embedding dimension, h representation, z embedding, tau temperature.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilip import _check
from minilip.nn.gather import gather
from minilip.nn.vectors import unit
from minilip.tiled import nt_xent_tiled


@_check.full_precision
def nt_xent(z1: Tensor, z2: Tensor, temperature: float | Tensor, *, tile: int | None = None) -> Tensor:
    r"""Normalised temperature-scaled cross-entropy: each of 2B views finds its partner among the 2B - 1 others.

    $$ \mathcal L = -\frac1{2B} \sum_{i=1}^{2B} \log
       \frac{\exp(z_i^\top z_{p(i)} / \tau)}{\sum_{j \ne i} \exp(z_i^\top z_j / \tau)},
       \qquad z = [z_1; z_2], \quad p(i) = i \pm B $$

    Args:
        z1: (B, D), the first views; unit vectors in SimCLR, taken as they are. B >= 2.
        z2: (B, D), the second views; row i of both shows picture i.
        temperature: tau > 0, a float or a tensor with one element (which may be learned).
        tile: None for the lines below; a whole number for the same value and gradient with only `tile` rows of the
            2B x 2B table in memory at one time. `tile=2 * len(z1)` is the fastest: one buffer, two matrix products.

    Returns:
        The mean over the 2B views in nats: log(2B - 1) when all logits are equal. The released code returns twice this.

    Raises:
        ValueError: shapes differ, a batch of 1, numbers that are not finite, temperature <= 0, tile < 1.

    Source: Chen et al. 2020, eq. 1 and algorithm 1; lesson 03.
    """
    _check.paired("z1", z1, "z2", z2)
    _check.positive("temperature", temperature)
    z = torch.cat([z1, z2])  # (2B, D)
    if tile is not None:
        return nt_xent_tiled(z, 1 / temperature, tile)
    logits = z @ z.T / temperature  # (2B, 2B)
    logits.fill_diagonal_(-math.inf)  # no view is its own partner, nor its own negative
    partners = torch.arange(len(z), device=z.device).roll(len(z1))  # (2B,) B ... 2B - 1, 0 ... B - 1
    return F.cross_entropy(logits, partners)


class SimCLR(nn.Module):
    r"""A tower whose output is kept, and a projection head that is thrown away after training.

    $$ h = f(x), \qquad z = g(h) / \lVert g(h) \rVert, \qquad
       g = \mathrm{BN} \circ W_2 \circ \mathrm{ReLU} \circ \mathrm{BN} \circ W_1 $$

    The head may drop what differs between the views, such as colour; h is read before it and keeps more.

    Args:
        tower: f, (B, 3, H, W) -> (B, tower.dim).
        dim: D, of the space in which views are compared.
        hidden: width of the head's middle layer; None for that of the tower, as in the paper.
        temperature: tau > 0.

    Source: Chen et al. 2020, figure 2 and section 4.2, with the released code's BatchNorm in both layers of the head;
    lesson 03.
    """

    def __init__(self, tower: nn.Module, dim: int = 64, hidden: int | None = None, temperature: float = 0.2):
        super().__init__()
        before = _check.width("tower", tower)
        hidden = before if hidden is None else hidden
        _check.count("dim", dim)
        _check.count("hidden", hidden)
        _check.positive("temperature", temperature)
        self.tower, self.temperature = tower, temperature
        last = nn.BatchNorm1d(dim)
        last.register_parameter("bias", None)  # one shift for all would only draw all directions together
        self.head = nn.Sequential(  # g; the shift that BatchNorm takes away needs no bias before it
            nn.Linear(before, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, dim, bias=False),
            last,
        )

    def forward(self, images: Tensor) -> Tensor:
        """h, what later tasks use: (B, 3, H, W) -> (B, tower.dim)"""
        return self.tower(images)  # (B, tower.dim)

    def project(self, images: Tensor) -> Tensor:
        """z, what the loss compares: (B, 3, H, W) -> unit vectors (B, D)"""
        return unit(self.head(self.tower(images)))  # (B, D)

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """(x1, x2), two views of the same B pictures -> NT-Xent, and how often the partner is the nearest of all."""
        x1, x2 = batch
        _check.views(x1, x2)
        # One pass over 2B pictures: both views share the means and variances of every BatchNorm, as in the paper.
        z1, z2 = self.project(torch.cat([x1, x2])).chunk(2)  # (B, D) each
        z1, z2 = gather(z1), gather(z2)
        return nt_xent(z1, z2, self.temperature), {"accuracy": _accuracy(z1, z2)}


class StructuredSimCLR(nn.Module):
    r"""SimCLR with M more embedding spaces, each of which keeps one style that content throws away.

    View m of a picture shares style m with the first view and nothing else of the styles; view 0 shares none. Space 0
    is compared on view 0 and can only hold content; space m is compared, beside space 0, on view m, and style m helps:

    $$ \mathcal L = \ell\big(z_0(x), z_0(x_0)\big)
       + \frac1M \sum_{m=1}^{M} \ell\big([z_0, z_m]\,(x), [z_0, z_m]\,(x_m)\big), \qquad \ell = \text{NT-Xent} $$

    A product of joined vectors is a sum of products, so that space m need only say what space 0 does not.

    Args:
        tower: f, (B, 3, H, W) -> (B, tower.dim).
        styles: M >= 1, how many styles are told apart.
        dim: of each space.
        hidden: width of each head's middle layer; None for that of the tower.
        temperature: tau > 0.

    Source: the M + 1 spaces and the shared draws of Eastwood et al. 2023 (arXiv 2311.08815), with NT-Xent for their
    alignment and entropy; lesson 03.
    """

    def __init__(
        self, tower: nn.Module, styles: int, dim: int = 8, hidden: int | None = None, temperature: float = 0.2
    ):
        super().__init__()
        _check.count("styles", styles)
        self.heads = nn.ModuleList(SimCLR(tower, dim, hidden, temperature).head for _ in range(styles + 1))
        self.tower, self.temperature = tower, temperature

    def forward(self, images: Tensor) -> Tensor:
        """h, as in SimCLR: (B, 3, H, W) -> (B, tower.dim)"""
        return self.tower(images)  # (B, tower.dim)

    def project(self, images: Tensor) -> Tensor:
        """z_0 ... z_M, content first: (B, 3, H, W) -> unit vectors (M + 1, B, D)"""
        h = self.tower(images)  # (B, tower.dim)
        return torch.stack([unit(head(h)) for head in self.heads])  # (M + 1, B, D)

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """(x, x_0, x_1, ..., x_M) -> the loss, and that of content and of the mean style alone."""
        if not isinstance(batch, (tuple, list)) or len(batch) != len(self.heads) + 1:
            came = len(batch) if isinstance(batch, (tuple, list)) else type(batch).__name__
            _check.fail("batch", f"{len(self.heads) + 1} views: the first, one for content, one a style", came)
        for view in batch[1:]:
            _check.views(batch[0], view)
        z = torch.stack(self.project(torch.cat(list(batch))).chunk(len(batch), dim=1))  # (M + 2, M + 1, B, D)
        z = torch.stack([torch.stack([gather(space) for space in view]) for view in z])
        content = nt_xent(z[0, 0], z[1, 0], self.temperature)
        styles = [
            nt_xent(torch.cat([z[0, 0], z[0, m]], 1), torch.cat([z[m + 1, 0], z[m + 1, m]], 1), self.temperature)
            for m in range(1, len(self.heads))
        ]
        style = torch.stack(styles).mean()
        return content + style, {"content": content, "style": style}


@torch.no_grad()
def _accuracy(z1: Tensor, z2: Tensor) -> Tensor:
    """The part of the 2B views whose nearest other view is the partner; chance is 1 / (2B - 1)."""
    z = torch.cat([z1, z2])  # (2B, D)
    nearest = (z @ z.T).fill_diagonal_(-math.inf).argmax(dim=1)  # (2B,)
    return (nearest == torch.arange(len(z), device=z.device).roll(len(z1))).float().mean()
