"""Augmentations change what they should and keep what they must."""

import pytest
import torch

from minilip.augment import move, recolour


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def picture(b=1):
    x = torch.ones(b, 3, 32, 32)
    x[:, 0, 8:16, 12:24] = 0.2
    x[:, 1, 20:28, 4:8] = 0.5
    return x


def test_no_change_is_no_change():
    x = picture(3)
    still = move(x, generator(), degrees=0, zoom=(1, 1), shift=0, flip=False)
    torch.testing.assert_close(still, x, atol=1e-5, rtol=0)
    torch.testing.assert_close(recolour(x, generator(), strength=0), x)


def test_flip_is_a_mirror_for_about_half():
    x = picture(200)
    y = move(x, generator(), degrees=0, zoom=(1, 1), shift=0)
    mirrored = (y - x.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-4
    kept = (y - x).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert bool((mirrored | kept).all()) and 70 < mirrored.sum() < 130


def test_zoom_changes_the_area_by_its_square():
    x = picture(50)
    small = move(x, generator(), degrees=180, zoom=(0.5, 0.5), shift=0)
    ratio = (1 - small).sum(dim=(1, 2, 3)) / (1 - x).sum(dim=(1, 2, 3))
    torch.testing.assert_close(ratio, torch.full((50,), 0.25), atol=0.04, rtol=0)


def test_each_picture_moves_on_its_own_and_the_seed_decides():
    x = picture(2)
    a, b = move(x, generator(1)), move(x, generator(1))
    assert torch.equal(a, b) and not torch.equal(a[0], a[1])


def test_white_stays_white_and_colours_change():
    x = picture(20)
    y = recolour(x, generator())
    torch.testing.assert_close(y[:, :, 0, 0], torch.ones(20, 3))
    assert (y[:, :, 10, 15] - x[:, :, 10, 15]).abs().amax(dim=1).min() > 0.005
    assert y.min() >= 0 and y.max() <= 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: move(torch.zeros(3, 32, 32), generator()),
        lambda: recolour(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), generator()),
        lambda: move(picture(), generator(), zoom=(0, 1)),
        lambda: move(picture(), generator(), shift=-1),
        lambda: recolour(picture(), generator(), strength=1),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match=r"expected .* got"):
        call()
