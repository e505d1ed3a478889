"""Tokenizer and prompt templates."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minilip.nn.tokenizer import MASK, PAD, UNK, Tokenizer, fill, words


def test_words():
    assert words("A man’s hat, (red)!") == ["a", "man's", "hat", "red"]
    assert words("a grey [MASK] cat") == ["a", "grey", "[MASK]", "cat"]
    assert words("café 3") == ["café", "3"]


def test_numbers_pad_unknown_mask():
    tok = Tokenizer(["a red circle", "a blue circle"])
    rows = tok(["a red circle", "green [MASK]", ""])
    assert rows.shape == (3, 3) and rows.dtype == torch.int64
    assert rows[1].tolist() == [UNK, MASK, PAD]
    assert rows[2].tolist() == [PAD, PAD, PAD]
    assert tok.decode(rows[:1]) == ["a red circle"]
    assert tok.unknown("a green circle") == ["green"]


def test_numbering_ignores_the_order_of_sentences():
    lines = ["a red circle", "a blue square", "the red square"]
    assert Tokenizer(lines).vocabulary == Tokenizer(lines[::-1]).vocabulary


def test_rare_words_and_long_sentences():
    tok = Tokenizer(["a a b", "a b c"], length=2, least=2)
    assert tok.vocabulary[3:] == ["a", "b"]
    assert tok("a b a b").shape == (1, 2)


@given(st.lists(st.text(alphabet="abc ", min_size=1, max_size=12), min_size=1, max_size=5))
def test_decode_undoes_encode(lines):
    if not any(words(s) for s in lines):
        with pytest.raises(ValueError, match="at least one word"):
            Tokenizer(lines)
        return
    tok = Tokenizer(lines)
    assert tok.decode(tok(lines)) == [" ".join(words(s)) for s in lines]


def test_fill():
    assert fill("a photo of a {}", ["cat", "apple"]) == [["a photo of a cat"], ["a photo of an apple"]]
    assert fill(["{}", "the {}"], ["cat"]) == [["cat", "the cat"]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: Tokenizer([]),
        lambda: Tokenizer(["a"], length=0),
        lambda: Tokenizer(["a"], least=0),
        lambda: Tokenizer(["a"])([]),
        lambda: Tokenizer(["a"]).decode(torch.tensor([[99]])),
        lambda: Tokenizer(["a"]).decode(torch.zeros(2, 2)),
        lambda: words(3),
        lambda: fill("no slot", ["cat"]),
        lambda: fill("{} and {}", ["cat"]),
        lambda: fill("a {}", []),
        lambda: fill("a {}", [" "]),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match="expected .* got"):
        call()
