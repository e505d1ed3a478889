r"""MAE, the masked autoencoder: see a quarter of a picture, paint the rest. No views, no negatives.

He, Chen, Xie, Li, Dollar and Girshick 2022 (arXiv 2111.06377), derived in lesson 05.

Letters: B batch, H = W image size, P patches of a picture, N = 3 patch^2 numbers of a patch, K patches kept,
D encoder dimension, E decoder dimension, x patches, y predicted patches, m mask.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from minilip import _check
from minilip.nn.transformer import Block
from minilip.nn.vision import check_images

EPS = 1e-6  # under the square root, where a patch of one colour would divide by zero


def patchify(images: Tensor, patch: int) -> Tensor:
    """Cut pictures into square patches, row by row: (B, 3, H, H) -> (B, P, N), the three colours of a pixel together.

    Raises:
        ValueError: not a batch of square pictures whose sides `patch` divides.

    Source: He et al. 2022, section 3; lesson 05.
    """
    _check.count("patch", patch)
    check_images(images)
    if images.shape[2] != images.shape[3] or images.shape[2] % patch:
        wanted = f"square pictures with sides that are a multiple of {patch}"
        _check.fail("images", wanted, f"{images.shape[2]} x {images.shape[3]}")
    return rearrange(images, "b c (h p) (w q) -> b (h w) (p q c)", p=patch, q=patch)  # (B, P, N)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """Put the patches of square pictures together again, the inverse of `patchify`: (B, P, N) -> (B, 3, H, H)

    Raises:
        ValueError: not of shape (B, P, 3 patch^2) with P a square number.

    Source: He et al. 2022, section 3; lesson 05.
    """
    _check.count("patch", patch)
    _check.tensor("patches", patches, floating=True)
    side = math.isqrt(patches.shape[1]) if patches.dim() == 3 and len(patches) else 0
    if side == 0 or patches.shape[1] != side**2 or patches.shape[2] != 3 * patch**2:
        _check.fail("patches", f"shape (B, P, {3 * patch**2}) with P a square number", tuple(patches.shape))
    _check.finite("patches", patches)
    return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=side, p=patch, q=patch)  # (B, 3, H, H)


def random_masking(noise: Tensor, keep: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Keep the K patches of each picture with the lowest noise, and say how to undo the reordering.

    $$ r_i = \text{rank of } \epsilon_i \text{ among } \epsilon_1, \dots, \epsilon_P, \quad 0 \le r_i < P,
       \qquad m_i = [\, r_i \ge K \,] $$

    Args:
        noise: epsilon (B, P); uniform noise makes all choices of K patches equally likely.
        keep: K, from 1 to P - 1.

    Returns:
        kept (B, K), the indices of the patches to keep; mask (B, P), 1 where a patch is removed and 0 where it is
        kept; restore (B, P), the ranks r: of a row with the kept patches first, in the order of `kept`, and the removed
        ones after them, entry r_i is patch i.

    Raises:
        ValueError: noise is not (B, P) finite numbers, or no patch would be kept or none removed.

    Source: He et al. 2022, section 3, "Simple implementation"; lesson 05.
    """
    _check.embeddings("noise", noise)
    _check.count("keep", keep)
    if keep >= noise.shape[1]:
        _check.fail("keep", f"fewer than all {noise.shape[1]} patches", keep)
    order = noise.argsort(dim=1)  # (B, P)
    restore = order.argsort(dim=1)  # (B, P), r
    return order[:, :keep], (restore >= keep).to(noise.dtype), restore


@_check.full_precision
def mae_loss(prediction: Tensor, patches: Tensor, mask: Tensor, normalize: bool = True) -> Tensor:
    r"""Mean squared error of the patches that were removed; nothing is asked about those that were seen.

    $$ \mathcal L = \frac{\sum_{b,i} m_{bi} \, \frac1N \lVert y_{bi} - t_{bi} \rVert^2}{\sum_{b,i} m_{bi}}, \qquad
       t_{bi} = \frac{x_{bi} - \bar x_{bi}}{\sqrt{\operatorname{Var}(x_{bi}) + 10^{-6}}} \ \text{ or } \ x_{bi} $$

    Args:
        prediction: y (B, P, N).
        patches: x (B, P, N), the picture as it is.
        mask: m (B, P), 1 where a patch was removed and 0 where it was seen.
        normalize: compare with each patch less its own mean, over its own standard deviation (unbiased, from N - 1).
            That leaves out how bright a patch is and asks for its structure; a patch of one colour has the target 0.

    Returns:
        A scalar >= 0. With normalize, answering 0 everywhere costs at most (N - 1) / N.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, a mask not of 0 and 1 or without any 1.

    Source: He et al. 2022, section 3, "Reconstruction target"; lesson 05.
    """
    for name, x in (("prediction", prediction), ("patches", patches)):
        _check.tensor(name, x, floating=True)
    _check.tensor("mask", mask)
    if patches.dim() != 3 or patches.shape[2] < 2:
        _check.fail("patches", "shape (B, P, N), N >= 2", tuple(patches.shape))
    for name, x, shape in (("prediction", prediction, patches.shape), ("mask", mask, patches.shape[:2])):
        if x.shape != shape:
            _check.fail(name, f"shape {tuple(shape)}", tuple(x.shape))
    _check.finite("prediction", prediction)
    _check.finite("patches", patches)
    if not bool(((mask == 0) | (mask == 1)).all()) or not bool(mask.any()):
        _check.fail("mask", "only 0 and 1, with at least one 1", f"values {mask.unique().tolist()[:5]}")
    target = patches
    if normalize:
        mean, deviation = _moments(patches)
        target = (patches - mean) / deviation  # (B, P, N), t
    error = (prediction - target).square().mean(dim=2)  # (B, P)
    return (mask * error).sum() / mask.sum()


def _moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation of each patch: (B, P, N) -> (B, P, 1) each"""
    return patches.mean(dim=2, keepdim=True), (patches.var(dim=2, keepdim=True) + EPS).sqrt()


def sincos_positions(grid: int, dim: int) -> Tensor:
    r"""Fixed positions of the patches of a grid: sines and cosines of column and row at D/4 wavelengths.

    $$ p = [\sin(c\,\omega), \cos(c\,\omega), \sin(r\,\omega), \cos(r\,\omega)], \qquad
       \omega_i = 10000^{-4 i / D}, \quad i = 0, \dots, D/4 - 1 $$

    Args:
        grid: patches along a side; column c and row r run from 0 to grid - 1.
        dim: D, a multiple of 4.

    Returns:
        (grid^2, D) float32, row by row.

    Raises:
        ValueError: grid < 1, or dim not a multiple of 4.

    Source: Vaswani et al. 2017, section 3.5, for two dimensions as in the released code of He et al. 2022; lesson 05.
    """
    _check.count("grid", grid)
    _check.count("dim", dim)
    if dim % 4:
        _check.fail("dim", "a multiple of 4", dim)
    omega = 10000 ** -torch.linspace(0, 1, dim // 4 + 1, dtype=torch.double)[:-1]  # (D/4,)
    angle = torch.arange(grid)[:, None] * omega  # (grid, D/4)
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)  # (grid, D/2)
    column, row = wave.repeat(grid, 1), wave.repeat_interleave(grid, dim=0)  # (grid^2, D/2) each
    return torch.cat([column, row], dim=1).float()  # (grid^2, D)


class MAE(nn.Module):
    r"""An encoder that is shown the kept patches only, and a small decoder that paints the others from what it says.

    $$ z = f([\mathrm{CLS}], \{ W x_i + p_i : m_i = 0 \}), \qquad
       y = g(\{ V z_i + q_i : m_i = 0 \} \cup \{ e + q_i : m_i = 1 \}) $$

    with fixed positions p and q, and one learned vector e, the mask token, for every patch that the encoder never saw.
    At a mask of 0.75 the encoder works on a quarter of the tokens. The decoder is thrown away after training.

    Args:
        size: H = W of the pictures in pixels.
        patch: side of a patch in pixels, a divisor of `size`.
        dim, depth, heads: D, blocks and attention heads of the encoder f.
        decoder_dim, decoder_depth: E and blocks of the decoder g, with as many heads.
        mask: part of the patches that are removed; K = floor(P (1 - mask)) are kept, at least 1 and not all.
        normalize: whether `mae_loss` compares with normalised patches.

    Source: He et al. 2022, figure 1 and appendix A.1; lesson 05.
    """

    position: Tensor
    decoder_position: Tensor

    def __init__(
        self,
        size: int = 32,
        patch: int = 4,
        dim: int = 96,
        depth: int = 3,
        heads: int = 4,
        decoder_dim: int = 64,
        decoder_depth: int = 1,
        mask: float = 0.75,
        normalize: bool = True,
    ):
        super().__init__()
        for name, value in (("size", size), ("patch", patch), ("depth", depth), ("heads", heads), ("dim", dim)):
            _check.count(name, value)
        _check.count("decoder_dim", decoder_dim)
        _check.count("decoder_depth", decoder_depth)
        if size % patch or dim % heads or decoder_dim % heads:
            wanted = "multiples of patch, heads and heads"
            _check.fail("size, dim and decoder_dim", wanted, f"{size}/{patch}, {dim}/{heads} and {decoder_dim}/{heads}")
        self.size, self.patch, self.dim, self.normalize = size, patch, dim, normalize
        grid, numbers = size // patch, 3 * patch**2
        self.keep = int(grid**2 * (1 - _check.number("mask", mask)))  # K
        if not 1 <= self.keep < grid**2:
            _check.fail("mask", f"a part that keeps and removes at least one of {grid**2} patches", mask)

        self.embed = nn.Linear(numbers, dim)  # W
        self.cls = nn.Parameter(0.02 * torch.randn(dim))
        self.register_buffer("position", sincos_positions(grid, dim), persistent=False)  # p
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)

        self.decoder_embed = nn.Linear(dim, decoder_dim)  # V
        self.mask_token = nn.Parameter(0.02 * torch.randn(decoder_dim))  # e
        self.register_buffer("decoder_position", sincos_positions(grid, decoder_dim), persistent=False)  # q
        self.decoder_blocks = nn.Sequential(*(Block(decoder_dim, heads) for _ in range(decoder_depth)))
        self.decoder_norm = nn.LayerNorm(decoder_dim)
        self.paint = nn.Linear(decoder_dim, numbers)

        for module in self.modules():  # as in the paper; PyTorch's own start has smaller weights
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """What later tasks use: the state of [CLS] after the whole picture, nothing masked. (B, 3, H, W) -> (B, D)"""
        return self.tokens(images)[:, 0]  # (B, D)

    def tokens(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """z, of [CLS] and then of each patch, or of each of the patches `kept` (B, K) when only they are shown.

        (B, 3, H, W) -> (B, 1 + P, D) or (B, 1 + K, D). [CLS] has the position 0.
        """
        check_images(images, self.size)
        x, position = patchify(images, self.patch), self.position  # (B, P, N), (P, D)
        if kept is not None:
            self._refuse(kept, len(x))
            x, position = x.take_along_dim(kept[:, :, None], dim=1), position[kept]  # (B, K, N), (B, K, D)
        x = self.embed(x) + position  # (B, K, D)
        x = torch.cat([self.cls.expand(len(x), 1, -1), x], dim=1)  # (B, 1 + K, D)
        return self.norm(self.blocks(x))

    def _refuse(self, kept: Tensor, b: int) -> None:
        if not isinstance(kept, Tensor) or kept.dim() != 2 or kept.dtype != torch.int64 or len(kept) != b:
            _check.fail("kept", f"int64 of shape ({b}, K)", _check.described(kept))
        _check.labels("kept", kept.flatten(), None, len(self.position))

    def predict(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, P, N), what the decoder paints for every patch, and the mask (B, P), for noise (B, P)."""
        check_images(images, self.size)
        _check.tensor("noise", noise)
        if tuple(noise.shape) != (len(images), len(self.position)):
            _check.fail("noise", f"shape ({len(images)}, {len(self.position)})", tuple(noise.shape))
        kept, mask, restore = random_masking(noise, self.keep)
        z = self.decoder_embed(self.tokens(images, kept))  # (B, 1 + K, E)
        cls, seen = z[:, :1], z[:, 1:]  # (B, 1, E), (B, K, E)
        unseen = self.mask_token.expand(len(z), mask.shape[1] - self.keep, -1)  # (B, P - K, E)
        y = torch.cat([seen, unseen], dim=1).take_along_dim(restore[:, :, None], dim=1)  # (B, P, E)
        y = torch.cat([cls, y + self.decoder_position], dim=1)  # (B, 1 + P, E)
        y = self.decoder_norm(self.decoder_blocks(y)[:, 1:])  # (B, P, E)
        return self.paint(y), mask  # (B, P, N), (B, P)

    @torch.no_grad()
    def reconstruct(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """For a figure: the pictures with the removed patches painted in, (B, 3, H, W), and the mask, (B, P).

        A model of normalised patches knows neither their means nor their deviations, so each painted patch borrows
        those of the true one: it shows what structure was guessed, and owes its colour and contrast to the answer.
        """
        x = patchify(images, self.patch)  # (B, P, N)
        _check.generator("generator", generator)
        noise = torch.rand(x.shape[:2], generator=generator, device=generator.device)
        y, mask = self.predict(images, noise)
        if self.normalize:
            mean, deviation = _moments(x)
            y = mean + deviation * y
        painted = torch.where(mask[:, :, None] == 1, y.to(x.dtype), x)  # (B, P, N)
        return unpatchify(painted, self.patch), mask  # (B, 3, H, W), (B, P)

    def loss(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Pictures (B, 3, H, W) -> the loss of a new random mask for each.

        The mask is the model's own randomness, as dropout's is: it comes from torch's global generator of the device,
        which `fit` seeds and keeps in its checkpoints.
        """
        patches = patchify(images, self.patch)  # (B, P, N)
        prediction, mask = self.predict(images, torch.rand(patches.shape[:2], device=images.device))
        return mae_loss(prediction, patches, mask, self.normalize), {}
