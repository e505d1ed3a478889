"""Scenes: anti-aliased shapes drawn in batches on the training device, with every latent known and a caption for each.

Letters: B scenes, O objects in a scene (1 or 2), H = W image size in pixels.
Coordinates run from -1 (left, bottom) to 1 (right, top); sizes are in the same unit, angles in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from minilip import _check

SHAPES = ("circle", "square", "triangle")
SIZES = ("small", "large")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "cyan")
BACKGROUNDS = ("black", "grey", "brown")
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = (1, 0, 3, 2)
PLACES = ("at the bottom left", "at the bottom right", "at the top left", "at the top right")
DETAILS = (  # what each level of caption detail names, from "a shape" on
    (),
    ("shape",),
    ("colour", "shape"),
    ("size", "colour", "shape"),
    ("size", "colour", "shape", "place"),
    ("size", "colour", "shape", "place", "background"),
)
ATTRIBUTES = DETAILS[-1]

_RGB = torch.tensor(
    [
        [0.90, 0.12, 0.14],  # red
        [0.10, 0.65, 0.20],  # green
        [0.16, 0.30, 0.92],  # blue
        [0.98, 0.88, 0.12],  # yellow
        [0.55, 0.15, 0.70],  # purple
        [1.00, 0.55, 0.05],  # orange
        [1.00, 1.00, 1.00],  # white
        [0.20, 0.85, 0.90],  # cyan
    ]
)
_BACKGROUND_RGB = torch.tensor([[0.0, 0.0, 0.0], [0.35, 0.35, 0.35], [0.30, 0.18, 0.08]])
_OCCLUDER_RGB = {"grey": (0.5, 0.5, 0.5), "white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
_RADII = ((0.24, 0.30), (0.40, 0.48))  # of a circle of equal area, for small and large
# Distance from the centre to the sides, so that all shapes of one radius cover the same area:
# pi r^2 = (2 a)^2 for the square, = 3 sqrt(3) a^2 for the triangle.
_APOTHEM = (1.0, math.sqrt(math.pi) / 2, math.sqrt(math.pi / (3 * math.sqrt(3))))
_REACH = (1.0, math.sqrt(math.pi / 2), 2 * _APOTHEM[2])  # farthest corner, for radius 1
_CHUNK = 128  # images drawn at a time: the working set stays inside a core's cache, 2.6 times faster than 512


@dataclass(frozen=True)
class Latents:
    """The causes of B scenes. Whole numbers index the name tuples of this module; a relation of -1 means one object."""

    shape: Tensor  # (B, O) index into SHAPES
    colour: Tensor  # (B, O) index into COLOURS
    size: Tensor  # (B, O) index into SIZES
    radius: Tensor  # (B, O) radius of the circle of equal area
    position: Tensor  # (B, O, 2) centre, x then y
    angle: Tensor  # (B, O) rotation, counter-clockwise, radians
    background: Tensor  # (B,) index into BACKGROUNDS
    relation: Tensor  # (B,) index into RELATIONS: the first object is ... the second
    blur: Tensor  # (B,) standard deviation in units of the half-width (0 = sharp)
    occluder: Tensor  # (B, 3) centre x, y and half-side of a square drawn over the scene (0 = none)

    def __len__(self) -> int:
        return self.shape.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Latents:
        return Latents(*(getattr(self, f.name)[index] for f in fields(self)))

    def with_(self, **changes: Tensor) -> Latents:
        """A copy with some latents set by hand: `latents.with_(angle=torch.zeros(8, 1))`."""
        for name, value in changes.items():
            _check.choice("latent", name, [f.name for f in fields(self)])
            if value.shape != getattr(self, name).shape:
                _check.fail(name, f"shape {tuple(getattr(self, name).shape)}", tuple(value.shape))
        return replace(self, **changes)

    def place(self) -> Tensor:
        """Quadrant of the first object, an index into PLACES. (B,)"""
        x, y = self.position[:, 0].unbind(1)
        return (x > 0).long() + 2 * (y > 0).long()


class Scenes:
    """An endless, seeded world of captioned pictures.

    Args:
        size: image height and width in pixels, at least 8.
        objects: 1, or 2 in one of RELATIONS.
        blur: share of scenes blurred, each with a standard deviation uniform in (0.03, 0.3) of the half-width.
        occlusion: share of scenes partly hidden by a square placed over the first object.
        backgrounds: names of the backgrounds in use.
        noise: standard deviation of Gaussian pixel noise added by `render`.

    Raises:
        ValueError: an argument is out of range or a name unknown.

    Example:
        >>> world, g = Scenes(size=32), torch.Generator().manual_seed(0)
        >>> latents = world.sample(4, g)
        >>> images, captions = world.render(latents), world.caption(latents, detail=3)
    """

    def __init__(
        self,
        size: int = 32,
        objects: int = 1,
        blur: float = 0.0,
        occlusion: float = 0.0,
        backgrounds: tuple[str, ...] = BACKGROUNDS,
        noise: float = 0.0,
    ):
        _check.count("size", size, 8)
        if objects not in (1, 2):
            _check.fail("objects", "1 or 2", repr(objects))
        for name, share in (("blur", blur), ("occlusion", occlusion)):
            if not 0 <= share <= 1:
                _check.fail(name, "a share between 0 and 1", share)
        if not (math.isfinite(noise) and noise >= 0):
            _check.fail("noise", "a finite standard deviation of at least 0", noise)
        if not backgrounds:
            _check.fail("backgrounds", f"at least one of {', '.join(BACKGROUNDS)}", "none")
        for name in backgrounds:
            _check.choice("background", name, BACKGROUNDS)
        self.size, self.objects, self.noise = size, objects, noise
        self.blur, self.occlusion = blur, occlusion
        self.backgrounds = tuple(backgrounds)

    def sample(self, n: int, generator: torch.Generator) -> Latents:
        """Draw the latents of n scenes on the generator's device, every named attribute uniform and independent.

        Two objects stand either side of the axis of their relation, and never share both colour and shape.
        """
        _check.count("n", n)
        g, o, device = generator, self.objects, generator.device

        def integers(high: int, *shape: int) -> Tensor:
            return torch.randint(high, shape, generator=g, device=device)

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(shape, generator=g, device=device)

        shape, colour, size = integers(3, n, o), integers(8, n, o), integers(2, n, o)
        radii = torch.tensor(_RADII, device=device)[size]  # (n, o, 2)
        radius = radii[..., 0] + (radii[..., 1] - radii[..., 0]) * uniform(0, 1, n, o)  # (n, o)
        relation = torch.full((n,), -1, device=device)
        if o == 2:
            # Step from the first object's (colour, shape) code to another code: all ordered pairs equally likely.
            code = (colour[:, 0] * 3 + shape[:, 0] + 1 + integers(23, n)) % 24
            colour[:, 1], shape[:, 1] = code // 3, code % 3
            radius = 0.62 * radius  # two must fit side by side
            relation = integers(4, n)
            along, across = uniform(0.42, 0.6, n, 2), uniform(-0.35, 0.35, n, 2)  # distances from the middle
            along[:, 0] *= -1  # the first object is left of, or below, the second
            flip = ((relation == 1) | (relation == 2)).float()[:, None]
            along = along * (1 - 2 * flip)
            horizontal = (relation < 2)[:, None]
            position = torch.stack(
                [torch.where(horizontal, along, across), torch.where(horizontal, across, along)], dim=-1
            )  # (n, 2, 2)
        else:
            room = (1 - torch.tensor(_REACH, device=device)[shape] * radius).unsqueeze(-1)  # (n, 1, 1)
            side = 2.0 * integers(2, n, 1, 2) - 1
            position = side * (0.08 + (room - 0.08) * uniform(0, 1, n, 1, 2))  # (n, 1, 2) never on a quadrant's border
        pool = torch.tensor([BACKGROUNDS.index(name) for name in self.backgrounds], device=device)
        blurred = (uniform(0, 1, n) < self.blur).float()
        hidden = (uniform(0, 1, n) < self.occlusion).float()
        half = uniform(0.12, 0.45, n) * hidden
        return Latents(
            shape=shape,
            colour=colour,
            size=size,
            radius=radius,
            position=position,
            angle=uniform(0, 2 * math.pi, n, o),
            background=pool[integers(len(pool), n)],
            relation=relation,
            blur=uniform(0.03, 0.3, n) * blurred,
            occluder=torch.cat([position[:, 0] + uniform(-0.15, 0.15, n, 2), half[:, None]], dim=1),
        )

    def render(
        self, latents: Latents, generator: torch.Generator | None = None, occluder_colour: str = "grey"
    ) -> Tensor:
        """Draw scenes. -> (B, 3, H, W) float32 in [0, 1]

        A pixel's colour is background + cover * (colour - background), where cover = clamp(1/2 - d, 0, 1) and d is the
        signed distance from the pixel's centre to the outline, in pixels: an edge is as sharp as a pixel allows.

        Args:
            latents: from `sample`, or set by hand.
            generator: needed only when the world has pixel noise.
            occluder_colour: "grey", "white" or "black".
        """
        _check.choice("occluder_colour", occluder_colour, tuple(_OCCLUDER_RGB))
        if self.noise and generator is None:
            _check.fail("generator", "a torch.Generator, because this world has pixel noise", "None")
        device, n = latents.shape.device, len(latents)
        images = torch.empty(n, 3, self.size, self.size, device=device)
        step = _CHUNK if device.type == "cpu" else max(n, 1)
        for start in range(0, n, step):
            part = slice(start, start + step)
            images[part] = self._draw(latents[part], occluder_colour)
        if self.noise:
            noise = torch.randn(images.shape, generator=generator, device=device)
            images = (images + self.noise * noise).clamp_(0, 1)
        return images

    def _draw(self, z: Latents, occluder_colour: str) -> Tensor:
        device, n, h = z.shape.device, len(z), self.size
        axis = (torch.arange(h, device=device) + 0.5) * (2 / h) - 1  # (W,) pixel centres
        x, y = axis[None, None, :], -axis[None, :, None]  # (1, 1, W), (1, H, 1)
        image = _BACKGROUND_RGB.to(device)[z.background][:, :, None, None].expand(n, 3, h, h)
        for o in range(z.shape.shape[1]):
            cover = torch.empty(n, h, h, device=device)
            for k in range(len(SHAPES)):
                rows = (z.shape[:, o] == k).nonzero().squeeze(1)
                if len(rows):
                    centre, turn = z.position[rows, o], z.angle[rows, o]
                    d = _distance(k, x, y, centre, z.radius[rows, o], turn)  # (R, H, W)
                    cover[rows] = d.mul_(-h / 2).add_(0.5).clamp_(0, 1)
            colour = _RGB.to(device)[z.colour[:, o]][:, :, None, None]  # (n, 3, 1, 1)
            image = torch.lerp(image, colour, cover[:, None])  # (n, 3, H, W)
        if bool((z.occluder[:, 2] > 0).any()):
            cx, cy, half = (v[:, None, None] for v in z.occluder.unbind(1))
            d = torch.maximum((x - cx).abs(), (y - cy).abs()) - half
            cover = (0.5 - d * h / 2).clamp_(0, 1) * (half > 0)
            grey = torch.tensor(_OCCLUDER_RGB[occluder_colour], device=device)[None, :, None, None]
            image = torch.lerp(image, grey.expand_as(image), cover[:, None])
        if bool((z.blur > 0).any()):
            image = _blur(image, z.blur * h / 2)
        return image

    def caption(
        self, latents: Latents, detail: int | None = None, attributes: tuple[str, ...] | None = None
    ) -> list[str]:
        """Describe scenes in words: `detail=3` -> "a small red circle"; two objects -> "... left of a blue square".

        Args:
            detail: 0 ("a shape") to 5 (everything); DETAILS lists what each level names. Default 3.
            attributes: instead of a level, any subset of ATTRIBUTES, for captions of a chosen generality.
        """
        if attributes is None:
            detail = 3 if detail is None else detail
            if isinstance(detail, bool) or detail not in range(len(DETAILS)):
                _check.fail("detail", f"a whole number from 0 to {len(DETAILS) - 1}", repr(detail))
            attributes = DETAILS[detail]
        elif detail is not None:
            _check.fail("caption", "either detail or attributes", "both")
        for name in attributes:
            _check.choice("attribute", name, ATTRIBUTES)
        wanted = set(attributes)
        columns = [t.tolist() for t in (latents.size, latents.colour, latents.shape)]
        phrases = []  # one list of B phrases for each object
        for o in range(latents.shape.shape[1]):
            phrases.append(
                [_phrase(wanted, *(row[o] for row in rows)) for rows in zip(*columns, strict=True)],
            )
        tails = [""] * len(latents)
        if "place" in wanted and len(phrases) == 1:
            tails = [f" {PLACES[p]}" for p in latents.place().tolist()]
        if "background" in wanted:
            grounds = latents.background.tolist()
            tails = [t + f" on a {BACKGROUNDS[b]} background" for t, b in zip(tails, grounds, strict=True)]
        if len(phrases) == 1:
            return [p + t for p, t in zip(phrases[0], tails, strict=True)]
        relations = latents.relation.tolist()
        return [
            f"{a} {RELATIONS[r]} {b}{t}" for a, b, r, t in zip(phrases[0], phrases[1], relations, tails, strict=True)
        ]


def _phrase(wanted: set[str], size: int, colour: int, shape: int) -> str:
    words = [SIZES[size]] if "size" in wanted else []
    words += [COLOURS[colour]] if "colour" in wanted else []
    words.append(SHAPES[shape] if "shape" in wanted else "shape")
    return ("an " if words[0][0] in "aeiou" else "a ") + " ".join(words)


def _distance(kind: int, x: Tensor, y: Tensor, centre: Tensor, radius: Tensor, angle: Tensor) -> Tensor:
    """Signed distance to a shape's outline, negative inside; outside a corner, to the nearer side's line. (R, H, W)"""
    cx, cy = centre[:, 0, None, None], centre[:, 1, None, None]
    if kind == 0:
        return ((x - cx).square() + (y - cy).square()).sqrt_().sub_(radius[:, None, None])
    # A convex polygon is the largest of its sides' signed distances, and each is affine in (x, y).
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    u = c * (x - cx) + s * (y - cy)  # (R, H, W) coordinates in the shape's own frame
    v = c * (y - cy) - s * (x - cx)
    apothem = (_APOTHEM[kind] * radius)[:, None, None]
    if kind == 1:
        return torch.maximum(u.abs_(), v.abs_()).sub_(apothem)
    # Triangle with one side at the bottom; the other two mirror each other, so |u| folds them into one.
    return torch.maximum(-v, v.mul(0.5).add_(u.abs_(), alpha=math.sqrt(3) / 2)).sub_(apothem)


def _blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, each image with its own standard deviation in pixels. (B, 3, H, W), (B,) -> (B, 3, H, W)"""
    reach = max(1, math.ceil(3 * float(sigma.max())))
    offset = torch.arange(-reach, reach + 1, device=image.device)
    sigma = sigma.clamp(min=1e-3)[:, None]  # (B, 1)
    weight = torch.exp(-0.5 * (offset / sigma).square()) * (offset.abs() <= 3 * sigma)  # (B, 2 reach + 1)
    weight = (weight / weight.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)  # (3B, .)
    b, _, h, w = image.shape
    flat = torch.nn.functional.pad(image.reshape(1, 3 * b, h, w), [reach] * 4, mode="replicate")
    flat = torch.nn.functional.conv2d(flat, weight[:, None, None, :], groups=3 * b)
    return torch.nn.functional.conv2d(flat, weight[:, None, :, None], groups=3 * b).reshape(b, 3, h, w)
