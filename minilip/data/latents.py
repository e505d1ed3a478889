"""The causes of a scene, and their names.

Letters: B scenes, O objects in a scene (1 or 2).
Coordinates run from -1 (left, bottom) to 1 (right, top); sizes are in the same unit, angles in radians.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

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
            old = getattr(self, name)
            _check.tensor(name, value, floating=old.is_floating_point())
            if value.shape != old.shape:
                _check.fail(name, f"shape {tuple(old.shape)}", tuple(value.shape))
            _check.finite(name, value)
        return replace(self, **changes)

    def place(self) -> Tensor:
        """Quadrant of the first object, an index into PLACES. (B,)"""
        x, y = self.position[:, 0].unbind(1)
        return (x > 0).long() + 2 * (y > 0).long()
