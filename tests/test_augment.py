"""Augmentations change what they should and keep what they must."""

import math

import pytest
import torch
import torchvision.transforms.functional as V

from minilip.nn import augment
from minilip.nn.adjust import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    crop,
    gaussian_blur,
    greyscale,
)
from minilip.nn.augment import colour_jitter, move, random_resized_crop, recolour, simclr_view
from tests.helpers import seeded


def picture(b=1):
    x = torch.ones(b, 3, 32, 32)
    x[:, 0, 8:16, 12:24] = 0.2
    x[:, 1, 20:28, 4:8] = 0.5
    return x


def test_no_change_is_no_change():
    x = picture(3)
    still = move(x, seeded(), degrees=0, zoom=(1, 1), shift=0, flip=False)
    torch.testing.assert_close(still, x, atol=1e-5, rtol=0)
    torch.testing.assert_close(recolour(x, seeded(), strength=0), x)


def test_flip_is_a_mirror_for_about_half():
    x = picture(200)
    y = move(x, seeded(), degrees=0, zoom=(1, 1), shift=0)
    mirrored = (y - x.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-4
    kept = (y - x).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert bool((mirrored | kept).all()) and 70 < mirrored.sum() < 130


def test_zoom_changes_the_area_by_its_square():
    x = picture(50)
    small = move(x, seeded(), degrees=180, zoom=(0.5, 0.5), shift=0)
    ratio = (1 - small).sum(dim=(1, 2, 3)) / (1 - x).sum(dim=(1, 2, 3))
    torch.testing.assert_close(ratio, torch.full((50,), 0.25), atol=0.04, rtol=0)


def test_each_picture_moves_on_its_own_and_the_seed_decides():
    x = picture(2)
    a, b = move(x, seeded(1)), move(x, seeded(1))
    assert torch.equal(a, b) and not torch.equal(a[0], a[1])


def test_white_stays_white_and_colours_change():
    x = picture(20)
    y = recolour(x, seeded())
    torch.testing.assert_close(y[:, :, 0, 0], torch.ones(20, 3))
    assert (y[:, :, 10, 15] - x[:, :, 10, 15]).abs().amax(dim=1).min() > 0.005
    assert y.min() >= 0 and y.max() <= 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: move(torch.zeros(3, 32, 32), seeded()),
        lambda: recolour(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), seeded()),
        lambda: move(picture(), seeded(), zoom=(0, 1)),
        lambda: move(picture(), seeded(), shift=-1),
        lambda: recolour(picture(), seeded(), strength=1),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match=r"expected .* got"):
        call()


# ---- SimCLR's changes at fixed amounts: torchvision, picture by picture ----------------------------------------------


def colourful(b, height=16, width=16):
    """Noise, and a corner with what a hue has to cope with: no colour, two channels alike, pure colours."""
    x = torch.rand(b, 3, height, width, generator=seeded(b))
    corner = [(0, 0, 0), (1, 1, 1), (0.4, 0.4, 0.4), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0.7, 0.7, 0.2), (0.1, 0.6, 0.6)]
    x[:, :, 0, : len(corner)] = torch.tensor(corner).T
    return x


@pytest.mark.parametrize(
    "ours, theirs, amounts",
    [
        (adjust_brightness, V.adjust_brightness, [0.0, 0.3, 1.0, 1.8, 4.0]),
        (adjust_contrast, V.adjust_contrast, [0.0, 0.3, 1.0, 1.8, 4.0]),
        (adjust_saturation, V.adjust_saturation, [0.0, 0.3, 1.0, 1.8, 4.0]),
        (adjust_hue, V.adjust_hue, [-0.5, -0.21, 0.0, 0.07, 1 / 3, 0.5]),
        (lambda x, amount: greyscale(x), lambda x, amount: V.rgb_to_grayscale(x, 3), [0.0]),
        (lambda x, sigma: gaussian_blur(x, sigma, 2), lambda x, s: V.gaussian_blur(x, 5, s), [0.1, 0.7, 2.0]),
        (lambda x, sigma: gaussian_blur(x, sigma, 5), lambda x, s: V.gaussian_blur(x, 11, s), [0.1, 0.7, 2.0]),
    ],
)
def test_each_picture_gets_its_amount_of_what_torchvision_does(ours, theirs, amounts):
    x = colourful(len(amounts), 16, 20)
    want = torch.stack([theirs(picture, amount) for picture, amount in zip(x, amounts, strict=True)])
    torch.testing.assert_close(ours(x, torch.tensor(amounts)), want, atol=2e-6, rtol=0)


def test_a_crop_is_what_torchvision_crops_and_resizes():
    boxes = [(0, 0, 20, 16), (3, 2, 10, 8), (0, 6, 7, 10), (13, 0, 7, 16)]  # left, top, width, height in pixels
    x = colourful(len(boxes), 16, 20)
    y = crop(x, torch.tensor(boxes) / torch.tensor([20, 16, 20, 16]))
    for picture, ours, (left, top, width, height) in zip(x, y, boxes, strict=True):
        theirs = V.resized_crop(picture, top, left, height, width, [16, 20])
        # At an inner edge of the box they repeat its last pixel, and we blend with the pixel beyond.
        down, across = math.ceil(8 / height) if height < 16 else 0, math.ceil(10 / width) if width < 20 else 0
        inside = (slice(None), slice(down, 16 - down), slice(across, 20 - across))
        torch.testing.assert_close(ours[inside], theirs[inside], atol=1e-5, rtol=0)
    mirrored = crop(x, torch.tensor([[1, 0, -1, 1]]).expand(4, 4))
    torch.testing.assert_close(mirrored, x.flip(3), atol=1e-5, rtol=0)


# ---- and at random ---------------------------------------------------------------------------------------------------


def boxes_of(crops):
    """left, top, width, height, each (B,), read off crops of a picture whose colours are its coordinates."""
    h, w = crops.shape[2:]
    column, row = crops[:, 0].mean(dim=1), crops[:, 1].mean(dim=2)  # (B, W), (B, H)
    width = (column[:, 3 * w // 4] - column[:, w // 4]) * 2
    height = (row[:, 3 * h // 4] - row[:, h // 4]) * 2
    return column[:, w // 4] - width * (1 / 4 + 1 / 2 / w), row[:, h // 4] - height * (1 / 4 + 1 / 2 / h), width, height


def coordinates(b, h=32, w=32):
    x, y = (torch.arange(w) + 0.5) / w, (torch.arange(h) + 0.5) / h
    return torch.stack([x.expand(h, w), y[:, None].expand(h, w), torch.zeros(h, w)]).expand(b, 3, h, w)


@pytest.mark.parametrize("h, w", [(32, 32), (24, 48)])
@pytest.mark.parametrize(
    "area, aspect", [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.25, 0.5), (0.5, 1.0)), ((0.9, 1), (0.5, 3))]
)
def test_boxes_fit_in_and_have_the_areas_and_aspects_asked_for(area, aspect, h, w):
    n = 2000
    left, top, width, height = boxes_of(random_resized_crop(coordinates(n, h, w), seeded(), area, aspect))
    mirrored = width < 0
    left, width = torch.where(mirrored, left + width, left), width.abs()
    assert 0.45 < mirrored.float().mean() < 0.55
    for start, length in ((left, width), (top, height)):
        assert start.min() > -1e-4 and (start + length).max() < 1 + 1e-4
        room = length < 0.9  # else the place is a small number divided by a small number
        place = start[room] / (1 - length[room])
        assert len(place) < 50 or abs(place.mean() - 0.5) < 0.15
    size, ratio = width * height, width / height
    assert size.min() > area[0] - 1e-3 and size.max() < area[1] + 1e-3
    assert abs(size.mean() - sum(area) / 2) < 0.03 * (area[1] - area[0])  # uniform, large boxes included
    assert ratio.min() > aspect[0] - 1e-3 and ratio.max() < aspect[1] + 1e-3


def test_all_of_the_picture_is_the_picture():
    x = colourful(100)
    torch.testing.assert_close(random_resized_crop(x, seeded(), area=(1, 1), flip=False), x, atol=1e-5, rtol=0)


def test_jitter_changes_as_many_as_asked_by_as_much_as_asked():
    n = 4000
    grey = torch.full((n, 3, 2, 2), 0.4)
    factors = colour_jitter(grey, seeded(), 0.5, 0.0, 0.0, 0.0, probability=0.7)[:, 0, 0, 0] / 0.4
    changed = factors[(factors - 1).abs() > 1e-3]
    assert abs(len(changed) / n - 0.7) < 0.03
    assert 0.499 < changed.min() < 0.51 and 1.49 < changed.max() < 1.501 and abs(changed.mean() - 1) < 0.02
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(n, 3, 2, 2)
    turned = colour_jitter(red, seeded(), 0, 0, 0, hue=0.1, probability=1)[:, :, 0, 0]  # to orange or to pink
    torch.testing.assert_close(turned[:, 0], torch.ones(n))
    for channel in (turned[:, 1], turned[:, 2]):
        assert 0.58 < channel.max() <= 0.6 + 1e-5 and 0.45 < (channel > 0).float().mean() < 0.55


def test_jitter_leaves_the_others_alone():
    x = colourful(400)
    y = colour_jitter(x, seeded(), 1.0, 1.0, 1.0, 0.5, probability=0.25)
    assert abs(((y - x).abs().amax(dim=(1, 2, 3)) < 1e-5).float().mean() - 0.75) < 0.06


def test_jitter_in_all_orders(monkeypatch):
    order = []
    for name in ("adjust_brightness", "adjust_contrast", "adjust_saturation", "adjust_hue"):
        monkeypatch.setattr(augment, name, lambda x, amount, name=name: order.append(name) or x)
    source, seen = seeded(), set()
    for _ in range(300):
        order.clear()
        colour_jitter(picture(), source)
        seen.add(tuple(order))
    assert len(seen) == 24 and all(len(set(names)) == 4 for names in seen)


def test_a_view_is_drawn_anew_for_each_picture_and_call_and_the_seed_decides():
    x = picture(1).expand(6, 3, 32, 32)
    source = seeded(1)
    first, second = simclr_view(x, source), simclr_view(x, source)
    assert torch.equal(first, simclr_view(x, seeded(1)))
    every = torch.cat([first, second]).flatten(1)
    assert torch.pdist(every).min() > 0.1
    assert first.shape == x.shape and first.min() >= 0 and first.max() <= 1 + 1e-6


STILL = {"strength": 0, "area": (1, 1), "flip": False, "grey": 0}


@pytest.mark.parametrize("size, blur, part", [(32, None, 0), (48, None, 0.5), (32, 0.5, 0.5), (48, 0, 0), (48, 1, 1)])
def test_small_pictures_are_not_blurred_unless_asked(size, blur, part):
    x = colourful(400, size, size)
    y = simclr_view(x, seeded(), **STILL, blur=blur)
    # A sigma below 1/4 pixel does not show: 1 in 13 of those blurred.
    assert abs(((y - x).abs().amax(dim=(1, 2, 3)) > 1e-3).float().mean() - 12 / 13 * part) < 0.08
    assert (y.std() < x.std() - 0.01) == (part > 0)


def test_a_point_is_blurred_as_far_as_a_twentieth_of_the_picture():
    x = torch.zeros(50, 3, 100, 100)
    x[:, :, 50, 50] = 1
    y = simclr_view(x, seeded(), **STILL, blur=1).amax(dim=(0, 1))  # (100, 100)
    rows, columns = (y > 1e-6).nonzero().unbind(dim=1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (45, 55, 45, 55)


@pytest.mark.parametrize("grey", [0.0, 0.2, 1.0])
def test_as_many_views_are_grey_as_asked(grey):
    x = colourful(1000, 8, 8)
    y = simclr_view(x, seeded(), **{**STILL, "grey": grey})
    assert abs(((y - y[:, :1]).abs().amax(dim=(1, 2, 3)) < 1e-6).float().mean() - grey) < 0.04


ONE = torch.ones(1)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: crop(picture(), torch.ones(1, 3)), r"box: expected shape \(1, 4\)"),
        (lambda: adjust_brightness(picture(), -ONE), "factor: expected 0 to"),
        (lambda: adjust_contrast(picture(), math.nan * ONE), "factor: expected 0 to"),
        (lambda: adjust_saturation(picture(2), ONE), r"factor: expected shape \(2,\)"),
        (lambda: adjust_hue(picture(), 0.6 * ONE), "shift: expected -0.5 to 0.5, got 0.6"),
        (lambda: gaussian_blur(picture(), 0 * ONE, 1), "sigma: expected"),
        (lambda: gaussian_blur(picture(), ONE, 0), "radius: expected a whole number"),
        (lambda: greyscale(torch.zeros(2, 1, 8, 8)), "images: expected"),
        (lambda: random_resized_crop(picture(), seeded(), area=(0, 1)), "area: expected"),
        (lambda: random_resized_crop(picture(), seeded(), area=(0.5, 1.1)), "area: expected"),
        (lambda: random_resized_crop(picture(), seeded(), aspect=(1.1, 2)), "aspect: expected"),
        (lambda: colour_jitter(picture(), seeded(), hue=0.6), "hue: expected 0 to 0.5"),
        (lambda: colour_jitter(picture(), seeded(), contrast=-0.1), "contrast: expected 0 to"),
        (lambda: colour_jitter(picture(), seeded(), probability=1.1), "probability: expected 0 to 1"),
        (lambda: simclr_view(picture(), seeded(), strength=3), "strength: expected 0 to 2.5"),
        (lambda: simclr_view(picture(), seeded(), grey=-1), "grey: expected 0 to 1"),
        (lambda: simclr_view(picture(), seeded(), blur=2), "blur: expected 0 to 1"),
        (lambda: simclr_view(picture()[0], seeded()), "images: expected"),
    ],
)
def test_bad_amounts_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
