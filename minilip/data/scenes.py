"""Scenes: anti-aliased shapes drawn in batches on the training device, with every latent known and a caption for each.

Letters: B scenes, O objects in a scene (1 or 2), H = W image size in pixels.
Coordinates run from -1 (left, bottom) to 1 (right, top); sizes are in the same unit, angles in radians.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minilip import _check
from minilip.data.drawing import BACKGROUND_RGB, OCCLUDER_RGB, REACH, draw
from minilip.data.latents import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    DETAILS,
    OPPOSITE,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    Latents,
)

__all__ = [
    "ATTRIBUTES",
    "BACKGROUNDS",
    "BACKGROUND_RGB",
    "COLOURS",
    "DETAILS",
    "OPPOSITE",
    "PLACES",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "Latents",
    "Scenes",
]

_RADII = ((0.24, 0.30), (0.40, 0.48))  # of a circle of equal area, for small and large
_CHUNK = 128  # images drawn at a time: the working set stays inside a core's cache, 2.6 times faster than 512


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
        _check.count("objects", objects)
        if objects > 2:
            _check.fail("objects", "1 or 2", repr(objects))
        for name, share in (("blur", blur), ("occlusion", occlusion)):
            if not 0 <= _check.number(name, share) <= 1:
                _check.fail(name, "a share between 0 and 1", share)
        if _check.number("noise", noise) < 0:
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
        _check.generator("generator", generator)
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
            room = (1 - torch.tensor(REACH, device=device)[shape] * radius).unsqueeze(-1)  # (n, 1, 1)
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
        _check.choice("occluder_colour", occluder_colour, tuple(OCCLUDER_RGB))
        if self.noise and generator is None:
            _check.fail("generator", "a torch.Generator, because this world has pixel noise", "None")
        if generator is not None:
            _check.generator("generator", generator)
        device, n = latents.shape.device, len(latents)
        images = torch.empty(n, 3, self.size, self.size, device=device)
        step = _CHUNK if device.type == "cpu" else max(n, 1)
        for start in range(0, n, step):
            part = slice(start, start + step)
            images[part] = draw(latents[part], self.size, occluder_colour)
        if self.noise:
            noise = torch.randn(images.shape, generator=generator, device=device)
            images = (images + self.noise * noise).clamp_(0, 1)
        return images

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
            _check.count("detail", detail, least=0)
            if detail >= len(DETAILS):
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
