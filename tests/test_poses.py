"""Emoji on a turntable: who plays which role, what training may see, and pictures that are what they say."""

import pytest
import torch

from minilip.data.emoji import ARTISTS, EmojiPairs, render
from minilip.data.poses import PosedEmoji


@pytest.fixture(scope="module")
def data():
    return PosedEmoji("test", concepts=12, poses=18, size=16)


def test_every_drawing_has_one_role(data):
    assert bool((data.unknown.int() + data.varied.int() + data.typical.int() == 1).all())
    by_concept = [x.unflatten(0, (12, 4)).sum(dim=1) for x in (data.unknown, data.varied, data.typical)]
    assert by_concept[0].tolist() == [1] * 12
    mixed = data.mixed.unflatten(0, (12, 4))
    assert bool((mixed == mixed[:, :1]).all()) and int(mixed[:, 0].sum()) == 6
    assert by_concept[1].tolist() == [2 if m else 0 for m in mixed[:, 0]]
    assert by_concept[2].tolist() == [1 if m else 3 for m in mixed[:, 0]]


def test_roles_change_with_the_seed_and_only_with_it(data):
    again, other = (PosedEmoji("test", concepts=12, poses=18, size=16, seed=s) for s in (0, 1))
    assert torch.equal(again.images, data.images) and torch.equal(again.unknown, data.unknown)
    assert other.labels == data.labels and not torch.equal(other.unknown, data.unknown)


def test_splits_share_no_concept(data):
    val = PosedEmoji("val", concepts=12, poses=18, size=16)
    assert not set(val.labels) & set(data.labels)


def test_angles_lie_on_each_drawings_own_ring(data):
    assert data.angles.shape == (48, 18)
    assert bool((data.angles >= -180).all()) and bool((data.angles < 180).all())
    steps = (data.angles.roll(-1, dims=1) - data.angles) % 360
    assert torch.allclose(steps, torch.full_like(steps, 20.0), atol=1e-3)
    assert len({round(float(a), 3) for a in data.angles[:, 0]}) > 40


def test_training_shows_what_its_roles_allow(data):
    assert bool(data.trained[data.varied].all()) and not bool(data.trained[data.unknown].any())
    assert torch.equal(data.trained[data.typical], data.upright[data.typical])
    assert torch.equal(data.upright, data.angles.abs() <= 20)
    assert int(data.upright.sum(dim=1).min()) >= 2


def test_pictures_are_the_drawing_at_that_angle(data):
    emoji = EmojiPairs(size=32)
    for row, pose in ((0, 0), (17, 5), (46, 11)):
        source = emoji.row(data.labels[data.concept[row]], ARTISTS[data.artist[row]])
        assert torch.equal(data.images[row, pose], render(emoji.svg(source), 16, float(data.angles[row, pose])))


def test_what_looks_alike_when_turned_is_left_out(data):
    emoji = EmojiPairs(size=32)
    for label in data.labels:
        for artist in ARTISTS:
            x = emoji.images[emoji.row(label, artist)].float() / 255
            for k in (1, 2, 3):
                assert float((x - torch.rot90(x, k, (1, 2))).square().mean().sqrt()) > 0.12


def test_a_damaged_cache_is_drawn_again(data, tmp_path, capsys, monkeypatch):
    from minilip.data import poses

    written = []
    real = poses.render_poses
    monkeypatch.setattr(poses, "render_poses", lambda *a: written.append(1) or real(*a))
    emoji = EmojiPairs(size=32)
    emoji.root = tmp_path
    rows = torch.tensor([0, 1])
    angles = torch.zeros(2, 18)
    whole = EmojiPairs(size=32)
    monkeypatch.setattr(emoji, "svg", whole.svg)
    first = poses._draw(emoji, rows, angles, 16)
    assert len(written) == 2
    assert torch.equal(poses._draw(emoji, rows, angles, 16), first) and len(written) == 2
    (cache,) = (tmp_path / "emoji").glob("poses-*.npz")
    cache.write_bytes(cache.read_bytes()[:100])
    assert torch.equal(poses._draw(emoji, rows, angles, 16), first) and len(written) == 4
    assert "is damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "train"}, "split: expected one of val, test"),
        ({"concepts": 2}, "concepts"),
        ({"concepts": 13}, "an even number"),
        ({"concepts": 400}, "at most 300"),
        ({"poses": 12}, "poses: expected a whole number of at least 18"),
        ({"size": 4}, "size"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PosedEmoji(**{"concepts": 12, "poses": 18, **arguments})
