"""Sentences word by word: against an enumeration of what they can be, and transformers' own filter."""

import math

import pytest
import torch
from torch.nn import functional as F

from minilip.nn.generation import generate, nucleus, with_end
from minilip.nn.tokenizer import PAD

END, V = 3, 6
TABLE = torch.randn(V, V, generator=torch.Generator().manual_seed(0))
TABLE[:, PAD] = -torch.inf


def follows(rows):
    return TABLE[rows[:, -1]]


def test_greedy_takes_the_likeliest_word_until_the_end():
    start = torch.tensor([[4], [5], [1]])
    got = generate(follows, start, 7, END)
    assert got.shape == (3, 8)
    for row, first in zip(got.tolist(), start[:, 0].tolist(), strict=True):
        expected = [first]
        while len(expected) < 8 and expected[-1] != END:
            expected.append(int(TABLE[expected[-1]].argmax()))
        assert row == expected + [PAD] * (8 - len(expected))


def test_words_are_drawn_as_often_as_their_probability_says():
    start = torch.full((20000, 1), 4)
    got = generate(follows, start, 1, END, top_p=1.0, temperature=2.0, generator=torch.Generator().manual_seed(1))
    share = F.one_hot(got[:, 1], V).double().mean(dim=0)
    expected = (TABLE[4].double() / 2).softmax(dim=0)
    assert (share - expected).abs().max() < 4 * math.sqrt(0.25 / 20000)


def test_the_nucleus_is_the_smallest_set_that_holds_enough():
    logits = torch.randn(50, 9, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    for top_p in (0.1, 0.5, 0.9):
        for row, kept in zip(logits.softmax(1), nucleus(logits, top_p).isfinite(), strict=True):
            order = row.argsort(descending=True).tolist()
            need = next(n for n in range(1, 10) if row[order[:n]].sum() >= top_p)
            assert set(kept.nonzero().flatten().tolist()) == set(order[:need])
    assert torch.equal(nucleus(logits, 1.0), logits)


def test_nucleus_agrees_with_transformers():
    warpers = pytest.importorskip("transformers.generation.logits_process")
    logits = torch.randn(20, 30, generator=torch.Generator().manual_seed(3))
    oracle = warpers.TopPLogitsWarper(0.8)(None, logits)
    assert torch.equal(nucleus(logits, 0.8), oracle)


def test_what_lies_outside_the_nucleus_is_never_drawn():
    start = torch.full((500, 1), 4)
    got = generate(follows, start, 1, END, top_p=0.5, generator=torch.Generator().manual_seed(1))[:, 1]
    inside = nucleus(TABLE[[4]].clamp_min(-1e9), 0.5).isfinite()[0]
    assert bool(inside[got].all()) and not bool(inside.all())


def test_the_end_stands_behind_the_last_word():
    tokens = torch.tensor([[4, 5, 4], [4, PAD, PAD], [PAD, PAD, PAD]])
    assert with_end(tokens, END).tolist() == [[4, 5, 4, 3], [4, 3, 0, 0], [3, 0, 0, 0]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: with_end(torch.tensor([[4, 0, 5]]), END),
        lambda: with_end(torch.tensor([[4.0]]), END),
        lambda: with_end(torch.tensor([[4]]), PAD),
        lambda: nucleus(torch.zeros(2, 3), 0.0),
        lambda: nucleus(torch.full((2, 3), torch.nan), 0.5),
        lambda: generate(follows, torch.tensor([[4]]), 0, END),
        lambda: generate(follows, torch.tensor([[4]]), 2, END, top_p=0.5),
        lambda: generate(follows, torch.tensor([4]), 2, END),
        lambda: generate(follows, torch.tensor([[4]]), 2, END, temperature=0.0),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match="expected .* got"):
        call()
