"""Captions whose generality is known: counted by brute force; what hides a thing: counted pixel by pixel."""

import itertools
from copy import copy

import numpy as np
import pytest
import torch

from minilip.data.scenes import ATTRIBUTES, BACKGROUND_RGB, BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Scenes
from minilip.nn.tokenizer import MASK, PAD
from minilip.studies.prolip.generality import KINDS, MASKINGS, Captions, boxes, codes_of, discs, hidden, masked, nested

VALUES = {"size": SIZES, "colour": COLOURS, "shape": SHAPES, "place": PLACES, "background": BACKGROUNDS}


@pytest.fixture(scope="module")
def captions():
    return Captions(Scenes())


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def with_held(captions, held):
    other = copy(captions)
    other.held = torch.full((2160,), held)
    return other


@pytest.fixture(scope="module")
def kinds():
    """One scene of each of the 576 kinds, in no order, as the world draws them."""
    z = Scenes().sample(6000, torch.Generator().manual_seed(1))
    first = {tuple(code): i for i, code in reversed(list(enumerate(codes_of(z).tolist())))}
    assert len(first) == 576
    return z[torch.tensor(list(first.values()))]


# ---- the table of captions ---------------------------------------------------------------------------------------


def test_a_row_of_codes_is_a_number_of_mixed_radix(captions):
    assert tuple(VALUES) == ATTRIBUTES and KINDS.tolist() == [len(v) for v in VALUES.values()]
    every = list(itertools.product(*(range(len(v) + 1) for v in VALUES.values())))
    assert captions.codes.tolist() == [list(code) for code in every] and len(every) == 2160
    radix = tuple(len(v) + 1 for v in VALUES.values())
    order = torch.randperm(2160, generator=torch.Generator().manual_seed(0))
    expected = np.ravel_multi_index(tuple(captions.codes[order].T.numpy()), radix)
    assert captions.row(captions.codes[order]).tolist() == expected.tolist() == order.tolist()


def test_codes_are_what_there_is_to_name():
    z = Scenes().sample(60, torch.Generator().manual_seed(3))
    for code, text in zip(codes_of(z).tolist(), Scenes().caption(z, detail=5), strict=True):
        size, colour, shape, place, background = (VALUES[a][c - 1] for a, c in zip(ATTRIBUTES, code, strict=True))
        article = "an" if size[0] in "aeiou" else "a"
        assert text == f"{article} {size} {colour} {shape} {place} on a {background} background"


def test_every_text_is_what_the_world_says_of_a_scene_that_it_fits(captions, kinds):
    seen = set()
    for named in itertools.product([0, 1], repeat=5):
        names = tuple(a for a, yes in zip(ATTRIBUTES, named, strict=True) if yes)
        rows = captions.row(codes_of(kinds) * torch.tensor(named)).tolist()
        assert [captions.texts[r] for r in rows] == Scenes().caption(kinds, attributes=names)
        seen |= set(rows)
    assert len(seen) == len(captions.texts) == len(set(captions.texts)) == 2160
    assert captions.texts[0] == "a shape"


def test_fits_counts_the_kinds_of_scene(captions, kinds):
    truth, codes = codes_of(kinds), captions.codes  # (576, A), (2160, A)
    fit = ((codes[:, None] == 0) | (codes[:, None] == truth)).all(dim=2)  # (2160, 576)
    assert torch.equal(captions.fits, fit.sum(dim=1))
    assert int(captions.fits.min()) == 1 and int(captions.fits[0]) == 576
    assert torch.equal(captions.full, (captions.fits == 1).nonzero()[:, 0]) and len(captions.full) == 576


def test_tokens_are_the_texts_and_words_their_lengths(captions):
    assert captions.tokenizer.decode(captions.tokens) == captions.texts
    assert captions.words.tolist() == [len(text.split()) for text in captions.texts]
    assert int(captions.words.max()) == captions.tokens.shape[1]  # none is cut, none is longer than need be


def test_a_share_is_held_out_and_never_a_shape(captions):
    for named in range(1, 6):  # of every generality as many as of all, within three standard deviations
        chosen = captions.held[(captions.codes > 0).sum(dim=1) == named]
        assert abs(int(chosen.sum()) - 0.15 * len(chosen)) < 3 * (len(chosen) * 0.15 * 0.85) ** 0.5
    assert not bool(captions.held[0]) and torch.equal(captions.held, Captions(Scenes(), seed=0).held)
    assert not torch.equal(captions.held, Captions(Scenes(), seed=1).held)
    assert int(Captions(Scenes(), held=1.0).held.sum()) == 2159
    assert not bool(Captions(Scenes(), held=0.0).held.any())


def test_tables_move_together(captions):
    away = copy(captions).to(torch.device("meta"))
    tables = {n: x for n, x in vars(away).items() if isinstance(x, torch.Tensor)}
    assert set(tables) == {"codes", "tokens", "fits", "words", "held", "full"}
    assert {x.device.type for x in tables.values()} == {"meta"}


def test_some_names_what_it_may_and_nothing_that_is_held(captions, generator):
    codes = codes_of(Scenes().sample(4000, generator))
    rows = captions.some(codes, 0.6, generator)
    named = captions.codes[rows]  # (4000, A)
    assert not bool(captions.held[rows].any())
    assert bool(((named == 0) | (named == codes)).all())
    # What is held out is so at random: what is left is named as often as asked, each on its own.
    assert (named > 0).double().mean(dim=0).tolist() == pytest.approx([0.6] * 5, abs=0.06)
    together = np.corrcoef((named > 0).double().T.numpy())
    assert np.abs(together - np.eye(5)).max() < 0.1
    assert captions.held[captions.row(codes)].any()  # the test could fail


def test_some_of_an_open_table_is_a_coin_for_each_attribute(captions, generator):
    open_ = with_held(captions, False)
    codes = codes_of(Scenes().sample(6000, generator))
    named = open_.codes[open_.some(codes, 0.25, generator)] > 0
    assert named.double().mean(dim=0).tolist() == pytest.approx([0.25] * 5, abs=0.03)
    assert torch.equal(open_.some(codes, 1.0, generator), open_.row(codes))
    assert not bool(open_.some(codes, 0.0, generator).any())


def test_where_nothing_else_may_be_said_it_is_a_shape(captions, generator):
    rows = captions.some(captions.codes, 1.0, generator)
    assert torch.equal(rows, torch.where(captions.held, 0, torch.arange(2160)))
    closed = with_held(captions, True)
    assert not bool(closed.some(closed.codes, 0.9, generator).any())


# ---- more general copies -----------------------------------------------------------------------------------------


def test_masked_attributes_make_captions_that_fit_all_the_same_scenes(captions, kinds, generator):
    rows = torch.arange(2160).repeat(3)
    tokens = masked(captions, rows, "attributes", generator)
    number = {tuple(t): i for i, t in enumerate(captions.tokens.tolist())}
    general = torch.tensor([number[tuple(t)] for t in tokens.tolist()])  # each is a caption of the table
    assert not bool(captions.held[general].any())
    truth = codes_of(kinds)
    fit = ((captions.codes[:, None] == 0) | (captions.codes[:, None] == truth)).all(dim=2)  # (2160, 576)
    assert not bool((fit[rows] & ~fit[general]).any())
    kept = (captions.codes[general] > 0).sum() / (captions.codes[rows] > 0).sum()
    assert float(kept) == pytest.approx(0.5, abs=0.04)
    assert float((captions.fits[general] > captions.fits[rows]).double().mean()) > 0.7


def test_masked_words_are_some_of_the_words_in_their_order(captions, generator):
    rows = torch.arange(2160)
    out = masked(captions, rows, "words", generator)
    assert out.shape == captions.tokens.shape and out.dtype == captions.tokens.dtype
    kept, alone = 0, 0
    for before, after in zip(captions.tokens.tolist(), out.tolist(), strict=True):
        words, left = [t for t in before if t != PAD], [t for t in after if t != PAD]
        assert left and after == left + [PAD] * (len(after) - len(left))
        rest = iter(words)
        assert all(word in rest for word in left)  # a subsequence
        kept, alone = kept + len(left), alone + (left == words[:1])
    assert kept / int(captions.words.sum()) == pytest.approx(0.25, abs=0.03)  # a little more: none is left empty
    assert alone < 800
    last = captions.tokens.gather(1, captions.words[:, None] - 1)
    assert 0.2 < float((out == last).any(dim=1).double().mean()) < 0.35  # the last word has the same chance


def test_masked_tokens_stand_where_the_words_stood(captions, generator):
    out = masked(captions, torch.arange(2160), "tokens", generator)
    real, gone = captions.tokens != PAD, out == MASK
    assert torch.equal(out[~gone], captions.tokens[~gone])
    assert not bool((gone & ~real).any()) and not bool((captions.tokens == MASK).any())
    share = gone.sum(dim=0) / real.sum(dim=0)  # (L,) at each place
    assert share[:6].tolist() == pytest.approx([0.75] * 6, abs=0.05)


@pytest.mark.parametrize("masking", MASKINGS)
def test_masking_is_seeded_and_leaves_the_table_alone(captions, masking):
    before = captions.tokens.clone()
    a, b, c = (masked(captions, captions.full, masking, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c) and torch.equal(captions.tokens, before)


def test_an_unknown_masking_is_refused(captions, generator):
    with pytest.raises(ValueError, match="masking: expected one of attributes, words, tokens"):
        masked(captions, captions.full, "letters", generator)


# ---- what hides ----------------------------------------------------------------------------------------------------


def test_a_box_is_one_rectangle_of_one_colour(generator):
    images = torch.rand(600, 3, 32, 32, generator=generator)
    before = images.clone()
    out = boxes(images, generator)
    assert torch.equal(images, before)
    changed = (out != images).any(dim=1)  # (M, H, W)
    rows, columns = changed.any(dim=2), changed.any(dim=1)  # (M, H), (M, W)
    assert torch.equal(changed, rows[:, :, None] & columns[:, None, :])  # all of the rectangle
    for side in (rows, columns):
        assert int((side.long().diff(dim=1) != 0).sum(dim=1).max()) <= 2  # in one piece
    for picture, box in zip(out, changed, strict=True):
        assert float((picture[:, box] - picture[:, box][:, :1]).abs().max()) == 0
    height, width = rows.sum(dim=1), columns.sum(dim=1)
    assert 7 <= min(int(height.min()), int(width.min())) <= 9 and 27 <= max(int(height.max()), int(width.max())) <= 29
    assert abs(np.corrcoef(height.numpy(), width.numpy())[0, 1]) < 0.15  # no squares, and no two boxes alike
    assert bool(changed.any(dim=0).all()) and not bool(changed.all(dim=0).any())  # anywhere, nowhere always
    colours = torch.stack([p[:, b][:, 0] for p, b in zip(out, changed, strict=True)])
    assert colours.mean(dim=0).tolist() == pytest.approx([0.5] * 3, abs=0.06)
    assert torch.equal(boxes(images, torch.Generator().manual_seed(4)), boxes(images, torch.Generator().manual_seed(4)))


def test_nested_covers_are_less_and_more_of_one(generator):
    images = torch.rand(400, 3, 32, 32, generator=generator)
    before = images.clone()
    less, more = nested(images, generator)
    assert torch.equal(images, before)
    small, large = ((x != images).any(dim=1) for x in (less, more))  # (M, H, W)
    assert not bool((small & ~large).any()) and torch.equal(less.movedim(1, 3)[small], more.movedim(1, 3)[small])
    for cover in (small, large):
        rows, columns = cover.any(dim=2), cover.any(dim=1)
        assert torch.equal(cover, rows[:, :, None] & columns[:, None, :])  # a rectangle
    height, width = large.any(dim=2).sum(dim=1), large.any(dim=1).sum(dim=1)
    assert 7 <= int(torch.minimum(height, width).min()) <= 9 and 27 <= int(torch.maximum(height, width).max()) <= 29
    none = ~small.flatten(1).any(dim=1)
    assert 0.43 < float(none.double().mean()) < 0.6  # half, and a few that are less than a pixel
    side = (small.sum(dim=(1, 2)) / large.sum(dim=(1, 2))).sqrt()[~none]  # of the inner one, from 0 to 1
    assert side.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist() == pytest.approx([0.25, 0.5, 0.75], abs=0.1)


def test_nested_covers_are_plain_or_coarsely_patterned():
    images, grains = torch.full((60, 3, 32, 32), 2.0), []
    for seed in range(6):
        _, more = nested(images, torch.Generator().manual_seed(seed))
        assert float(more[more != 2].min()) >= 0 and float(more[more != 2].max()) <= 1
        cover = (more != 2).all(dim=1)  # (M, H, W)
        within = cover[:, :, 1:] & cover[:, :, :-1]  # (M, H, W - 1)
        edge = within & (more.diff(dim=3) != 0).any(dim=1)
        assert 0.3 < float(edge.flatten(1).any(dim=1).double().mean()) < 0.7  # one colour, or a pattern
        at = edge.any(dim=1).any(dim=0).nonzero()[:, 0] + 1
        grains.append(int(np.gcd.reduce(at.numpy())))
        assert at.tolist() == list(range(grains[-1], 32, grains[-1]))[: len(at)]
    assert set(grains) == {2, 4, 8}  # 16, 8 or 4 in a row


def test_a_disc_is_the_loop_and_leaves_the_outside_untouched(generator):
    images = torch.rand(4, 3, 16, 16, generator=generator)
    centre = torch.tensor([[0.5, 0.5], [-0.3, 0.2], [0.0, -0.9], [0.1, 0.1]])
    radius = torch.tensor([0.3, 0.6, 0.45, 0.0])
    out = discs(images, centre, radius)
    for b, i, j in itertools.product(range(4), range(16), range(16)):
        x, y = (j + 0.5) / 8 - 1, 1 - (i + 0.5) / 8  # y points up
        inside = (x - float(centre[b, 0])) ** 2 + (y - float(centre[b, 1])) ** 2 < float(radius[b]) ** 2
        expected = [float((i // 2 + j // 2) % 2)] * 3 if inside else images[b, :, i, j].tolist()
        assert out[b, :, i, j].tolist() == expected
    assert torch.equal(out[3], images[3])
    assert {0.0, 1.0} == set(discs(images, torch.zeros(4, 2), torch.full((4,), 2.0)).flatten().tolist())


def test_the_hidden_share_is_the_count_of_pixels(generator):
    world = Scenes()
    z = world.sample(24, generator)
    clean = world.render(z)
    cover = torch.zeros(24, 32, 32, dtype=torch.bool)
    for b, (i, j, h, w) in enumerate(torch.randint(4, 20, (24, 4), generator=generator).tolist()):
        cover[b, i : i + h, j : j + w] = True
    magenta = torch.tensor([1.0, 0.0, 1.0])[:, None, None]  # no object and no background has this colour
    share = hidden(z, clean, torch.where(cover[:, None], magenta, clean))
    for b in range(24):
        thing = gone = 0
        ground = BACKGROUND_RGB[z.background[b]].tolist()
        for i, j in itertools.product(range(32), range(32)):
            if max(abs(a - c) for a, c in zip(clean[b, :, i, j].tolist(), ground, strict=True)) > 0.1:
                thing, gone = thing + 1, gone + bool(cover[b, i, j])
        assert thing > 30 and float(share[b]) == pytest.approx(gone / thing, abs=1e-6)
    assert 0.2 < float(share.mean()) < 0.8 and share.unique().numel() > 12  # neither all nor nothing


def test_no_cover_hides_nothing_and_a_full_one_all(generator):
    world = Scenes()
    z = world.sample(300, generator)
    clean = world.render(z)
    assert hidden(z, clean, clean).tolist() == [0] * 300
    assert hidden(z, clean, torch.tensor([1.0, 0.0, 1.0])[:, None, None].expand_as(clean)).tolist() == [1] * 300
    # A square over the middle of a thing, as wide as it is: where the world draws it is where it hides.
    over = torch.cat([z.position[:, 0], torch.full((300, 1), 0.8)], dim=1)
    share = hidden(z, clean, world.render(z.with_(occluder=over)))  # the edge of white on black can be as grey as it
    assert float(share.min()) > 0.9 and float(share.mean()) > 0.995
    beside = torch.cat([-z.position[:, 0].sign(), torch.full((300, 1), 0.1)], dim=1)
    assert float(hidden(z, clean, world.render(z.with_(occluder=beside))).max()) == 0


def test_a_disc_over_a_thing_hides_all_of_it_where_the_world_has_put_it(generator):
    """A mirrored axis would miss the thing. White is left out: a white square of the disc does not change it."""
    world = Scenes()
    z = world.sample(300, generator)
    z = z[z.colour[:, 0] != COLOURS.index("white")]
    clean = world.render(z)
    share = hidden(z, clean, discs(clean, z.position[:, 0], torch.full((len(z),), 0.85)))
    assert share.tolist() == [1] * len(z)
