"""Captions read back give the latents they were written from."""

import pytest
import torch

from minilip.data.latents import OPPOSITE, RELATIONS
from minilip.data.reading import agreement, read
from minilip.data.scenes import Scenes


def drawn(objects):
    return Scenes(16, objects).sample(200, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("objects", [1, 2])
@pytest.mark.parametrize("detail", range(6))
def test_a_caption_says_what_it_was_written_from(objects, detail):
    latents = drawn(objects)
    said = read(Scenes(16, objects).caption(latents, detail), objects)
    for name, least in (("shape", 1), ("colour", 2), ("size", 3)):
        true = getattr(latents, name)
        assert torch.equal(said[name], true if detail >= least else torch.full_like(true, -1))
    assert torch.equal(said["relation"], latents.relation)


@pytest.mark.parametrize("objects", [1, 2])
def test_true_captions_agree_and_others_do_not(objects):
    latents = drawn(objects)
    captions = Scenes(16, objects).caption(latents)
    right = agreement(captions, latents)
    assert all(bool(x.all()) for x in right.values())
    wrong = agreement([*captions[1:], captions[0]], latents)
    assert 0 < float(wrong["shape"].float().mean()) < 0.6
    assert float(wrong["all"].float().mean()) < 0.15
    assert not bool(agreement(["nothing of note"] * 200, latents)["all"].any())


def test_either_order_of_two_objects_says_the_same():
    latents = drawn(2)
    swapped = latents.with_(
        **{name: getattr(latents, name).flip(1) for name in ("shape", "colour", "size", "radius")},
        relation=torch.tensor(OPPOSITE)[latents.relation],
    )
    captions = Scenes(16, 2).caption(swapped)
    assert all(bool(x.all()) for x in agreement(captions, latents).values())
    mirrored = [
        c.replace(RELATIONS[r], RELATIONS[OPPOSITE[r]]) for c, r in zip(captions, swapped.relation, strict=True)
    ]
    right = agreement(mirrored, latents)
    assert bool(right["colour"].all()) and not bool(right["relation"].any()) and not bool(right["all"].any())


def test_a_relation_of_other_objects_is_no_merit():
    latents = drawn(2)
    circle = "a red circle left of a red square"
    right = agreement([circle] * 200, latents)
    expected = [
        {(c[0], s[0], r, c[1], s[1]), (c[1], s[1], OPPOSITE[r], c[0], s[0])} & {(0, 0, 0, 0, 1)}
        for c, s, r in zip(latents.colour.tolist(), latents.shape.tolist(), latents.relation.tolist(), strict=True)
    ]
    assert right["all"].tolist() == [bool(e) for e in expected]


def test_bad_input_is_refused():
    for call in (lambda: read("a circle"), lambda: read([]), lambda: read(["a circle"], 3)):
        with pytest.raises(ValueError, match="expected .* got"):
            call()
    with pytest.raises(ValueError, match="one for each of 200"):
        agreement(["a circle"], drawn(1))
