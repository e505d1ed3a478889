"""Scenes: what is drawn is what the latents and the caption say."""

import itertools
import math

import matplotlib.path
import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st

from minilip.data import drawing
from minilip.data.scenes import BACKGROUNDS, COLOURS, DETAILS, OPPOSITE, PLACES, RELATIONS, SHAPES, SIZES, Scenes
from tests.helpers import seeded


def one(shape=0, radius=0.4, position=(0.0, 0.0), angle=0.0, background=0, colour=6):
    """A single white object with chosen latents."""
    z = Scenes().sample(1, seeded())
    return z.with_(
        shape=torch.tensor([[shape]]),
        colour=torch.tensor([[colour]]),
        radius=torch.tensor([[radius]]),
        position=torch.tensor([[position]]),
        angle=torch.tensor([[angle]]),
        background=torch.tensor([background]),
    )


def outline(shape, radius, position, angle, corners=720):
    """Corners of the shape, from its area alone: pi r^2."""
    sides = {0: corners, 1: 4, 2: 3}[shape]
    reach = radius * math.sqrt(2 * math.pi / (sides * math.sin(2 * math.pi / sides)))
    first = {0: 0.0, 1: math.pi / 4, 2: math.pi / 2}[shape] + angle
    turn = first + 2 * math.pi * np.arange(sides) / sides
    return np.stack([position[0] + reach * np.cos(turn), position[1] + reach * np.sin(turn)], axis=1)


@pytest.mark.parametrize("shape", range(3))
@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
def test_drawing_equals_a_supersampled_polygon(shape, angle):
    size, fine, position = 48, 16, (0.13, -0.21)
    z = one(shape, 0.42, position, angle)
    drawn = Scenes(size).render(z)[0, 0].numpy()
    axis = (np.arange(size * fine) + 0.5) * 2 / (size * fine) - 1
    x, y = np.meshgrid(axis, -axis)
    inside = matplotlib.path.Path(outline(shape, 0.42, position, angle)).contains_points(np.c_[x.ravel(), y.ravel()])
    expected = inside.reshape(size, fine, size, fine).mean(axis=(1, 3))
    assert np.abs(drawn - expected).mean() < 0.004
    assert np.abs(drawn - expected).max() < 0.35  # only a corner's pixel may differ visibly


def test_all_shapes_of_one_radius_cover_the_same_area():
    for shape in range(3):
        area = Scenes(128).render(one(shape, 0.4))[0, 0].mean() * 4
        assert area == pytest.approx(math.pi * 0.4**2, rel=0.01)


def test_same_seed_same_pictures_and_captions():
    world = Scenes(objects=2, blur=0.5, occlusion=0.5, noise=0.1)
    a, b = world.sample(20, seeded(3)), world.sample(20, seeded(3))
    assert torch.equal(world.render(a, seeded(1)), world.render(b, seeded(1)))
    assert world.caption(a) == world.caption(b)
    assert world.caption(a) != world.caption(world.sample(20, seeded(4)))


def test_a_batch_is_drawn_as_its_scenes_one_by_one():
    world = Scenes(blur=0.5, occlusion=0.5)
    z = world.sample(300, seeded())
    together = world.render(z)
    for i in (0, 127, 128, 299):
        torch.testing.assert_close(together[i], world.render(z[i : i + 1])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("objects", [1, 2])
def test_pictures_are_in_range_and_objects_inside(objects):
    world = Scenes(64, objects=objects, backgrounds=("black",))
    z = world.sample(500, seeded())
    x = world.render(z)
    assert x.shape == (500, 3, 64, 64) and x.dtype == torch.float32
    assert x.min() >= 0 and x.max() <= 1
    assert x.amax(dim=(1, 2, 3)).min() > 0.5
    border = torch.cat([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], dim=2)
    assert (border > 0.5).float().mean() < 0.01


def test_the_pixel_at_the_centre_has_the_named_colour_and_the_corner_the_background():
    world = Scenes(64)
    for colour in range(len(COLOURS)):
        for background in range(len(BACKGROUNDS)):
            x = world.render(one(0, 0.3, (0.2, 0.2), background=background, colour=colour))[0]
            torch.testing.assert_close(x[:, 25, 38], drawing.RGB[colour])
            torch.testing.assert_close(x[:, -1, 0], drawing.BACKGROUND_RGB[background])


def test_colours_can_be_told_apart_from_each_other_and_from_the_grounds():
    rgb = torch.cat([drawing.RGB, drawing.BACKGROUND_RGB])
    assert torch.cdist(rgb, rgb).fill_diagonal_(9).min() > 0.25


def test_captions_name_the_latents():
    world = Scenes()
    z = world.sample(200, seeded())
    for i, caption in enumerate(world.caption(z, detail=5)):
        expected = (
            f"{SIZES[z.size[i, 0]]} {COLOURS[z.colour[i, 0]]} {SHAPES[z.shape[i, 0]]} "
            f"{PLACES[z.place()[i]]} on a {BACKGROUNDS[z.background[i]]} background"
        )
        assert caption == f"a {expected}"
    x, y = z.position[:, 0].unbind(1)
    assert all(("right" in PLACES[p]) == (x[i] > 0) for i, p in enumerate(z.place()))
    assert all(("top" in PLACES[p]) == (y[i] > 0) for i, p in enumerate(z.place()))


def test_details_go_from_general_to_specific():
    z = one(0, colour=5)
    lines = [Scenes().caption(z, detail=d)[0] for d in range(len(DETAILS))]
    assert lines[:3] == ["a shape", "a circle", "an orange circle"]
    for short, long in itertools.pairwise(lines[1:]):
        assert set(short.split()) - {"a", "an"} <= set(long.split())
    assert Scenes().caption(z, attributes=("colour",)) == ["an orange shape"]


def test_relations_hold_in_the_picture_and_objects_differ():
    world = Scenes(objects=2)
    z = world.sample(1000, seeded())
    dx, dy = (z.position[:, 0] - z.position[:, 1]).unbind(1)
    truth = torch.stack([dx < 0, dx > 0, dy > 0, dy < 0], dim=1)  # RELATIONS in order
    assert truth[torch.arange(1000), z.relation].all()
    dominant = torch.where(z.relation < 2, dx.abs() - dy.abs(), dy.abs() - dx.abs())
    assert (dominant > 0).all()
    assert ((z.shape[:, 0] != z.shape[:, 1]) | (z.colour[:, 0] != z.colour[:, 1])).all()
    gap = (z.position[:, 0] - z.position[:, 1]).norm(dim=1)
    assert (gap > z.radius.sum(dim=1)).all()
    assert world.caption(z)[0].count(RELATIONS[z.relation[0]]) == 1
    assert [RELATIONS[OPPOSITE[i]] for i in range(4)] == ["right of", "left of", "below", "above"]


def test_every_attribute_is_uniform():
    z = Scenes(objects=2).sample(24_000, seeded())
    for values, kinds in ((z.shape, 3), (z.colour, 8), (z.size, 2), (z.relation, 4), (z.background, 3)):
        share = torch.bincount(values.flatten(), minlength=kinds) / values.numel()
        assert (share - 1 / kinds).abs().max() < 0.02


@pytest.mark.parametrize("shape, period", [(1, math.pi / 2), (2, 2 * math.pi / 3)])
def test_rotation_by_a_symmetry_changes_nothing(shape, period):
    x, y = (Scenes(64).render(one(shape, 0.4, angle=a)) for a in (0.3, 0.3 + period))
    torch.testing.assert_close(x, y, atol=1e-3, rtol=0)


def test_rotation_is_counter_clockwise():
    x, y = (Scenes(64).render(one(2, 0.4, angle=a))[0] for a in (0.2, 0.2 + math.pi / 2))
    torch.testing.assert_close(y, torch.rot90(x, 1, (1, 2)), atol=1e-3, rtol=0)


def test_blur_equals_scipy():
    z = one(1, 0.4, (0.2, 0.1), 0.5)
    sharp = Scenes(48).render(z)[0, 0].numpy()
    blurred = Scenes(48).render(z.with_(blur=torch.tensor([0.1])))[0, 0].numpy()
    expected = scipy.ndimage.gaussian_filter(sharp, 0.1 * 24, mode="nearest", truncate=3)
    assert np.abs(blurred - expected).max() < 1e-5


def test_occluder_hides_what_is_behind_it():
    z = one(0, 0.3).with_(occluder=torch.tensor([[0.0, 0.0, 0.4]]))
    x = Scenes(64).render(z, occluder_colour="white")
    torch.testing.assert_close(x[0, :, 32, 32], torch.ones(3))
    hidden = Scenes(64).render(z.with_(colour=torch.tensor([[0]])), occluder_colour="white")
    torch.testing.assert_close(x, hidden)


def test_shares_of_blur_and_occlusion():
    z = Scenes(blur=0.25, occlusion=0.75).sample(4000, seeded())
    assert (z.blur > 0).float().mean() == pytest.approx(0.25, abs=0.03)
    assert (z.occluder[:, 2] > 0).float().mean() == pytest.approx(0.75, abs=0.03)


@given(st.sampled_from(["size", "objects", "blur", "occlusion", "noise", "backgrounds"]), st.floats())
def test_bad_worlds_are_refused(name, value):
    bad = {
        "size": 7,
        "objects": 3,
        "backgrounds": ("pink",),
        "noise": -1.0 if math.isfinite(value) else value,
        "blur": value if not 0 <= value <= 1 else 1.5,
        "occlusion": value if not 0 <= value <= 1 else -0.1,
    }[name]
    with pytest.raises(ValueError, match="expected .* got"):
        Scenes(**{name: bad})


def test_bad_calls_are_refused():
    world = Scenes(noise=0.1)
    z = world.sample(2, seeded())
    for call in (
        lambda: world.sample(0, seeded()),
        lambda: world.render(z),
        lambda: world.render(z, seeded(), occluder_colour="pink"),
        lambda: world.caption(z, detail=6),
        lambda: world.caption(z, detail=True),
        lambda: world.caption(z, attributes=("taste",)),
        lambda: world.caption(z, detail=1, attributes=("shape",)),
        lambda: z.with_(angle=torch.zeros(3, 1)),
        lambda: z.with_(taste=torch.zeros(2)),
        lambda: Scenes(backgrounds=()),
    ):
        with pytest.raises(ValueError, match="expected .* got"):
            call()
