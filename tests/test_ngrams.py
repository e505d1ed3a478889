"""Words as bags of n-grams: what the numbers are, and that a word nobody saw has a vector near its kin."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from minilip.nn.ngrams import BagOfNGrams, NGrams, ngrams
from minilip.nn.text import BagOfWords
from minilip.nn.tokenizer import PAD


def test_a_word_is_itself_and_its_parts():
    assert ngrams("cats", (3,)) == ["<cats>", "<ca", "cat", "ats", "ts>"]
    assert ngrams("cats", (4, 5)) == ["<cats>", "<cat", "cats", "ats>", "<cats", "cats>"]
    assert ngrams("a", (3, 4)) == ["<a>"]  # an n-gram as long as the word is the word, and counts once


def test_numbers_are_padded_and_never_pad():
    tokenize = NGrams(buckets=50, sizes=(3,))
    rows = tokenize(["cats", "a", ""])
    assert rows.dtype == torch.int64 and rows.shape == (3, 5)
    assert (rows != PAD).sum(dim=1).tolist() == [5, 1, 0]
    assert int(rows[rows != PAD].min()) >= 1 and int(rows.max()) < len(tokenize) == 50
    assert tokenize("").tolist() == [[PAD]]
    assert tokenize("The CATS!").tolist() == tokenize("the cats").tolist()


def test_no_word_is_unknown():
    assert NGrams().unknown("a quagga [MASK] 3") == []


def test_numbers_do_not_change_from_run_to_run():
    code = "from minilip.nn.ngrams import NGrams; print(NGrams()('zebra').tolist())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {f"{NGrams()('zebra').tolist()}\n"}


def test_the_tower_is_the_bag_of_words_over_the_same_numbers():
    torch.manual_seed(0)
    slow, tokenize = BagOfWords(300, 16), NGrams(300)
    fast = BagOfNGrams(300, 16)
    fast.load_state_dict(slow.state_dict())
    tokens = tokenize(["a red fox", "zebra", "", "the firefighter and the fire engine"])
    tokens = tokens[:, torch.randperm(tokens.shape[1])]  # gaps are no matter
    torch.testing.assert_close(fast(tokens), slow(tokens))
    gradients = [torch.autograd.grad(t(tokens).square().sum(), list(t.parameters())) for t in (fast, slow)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_an_unseen_word_starts_near_words_that_share_its_letters():
    torch.manual_seed(0)
    tower, tokenize = BagOfNGrams(8192, 64), NGrams()
    with torch.no_grad():
        x = F.normalize(tower.embed(tokenize("firefighters")).mean(dim=1), dim=1)
        kin, other = (tower.embed(tokenize(w)).mean(dim=1) for w in ("firefighter", "umbrella"))
    assert float(F.cosine_similarity(x, kin)) > 0.7 > 0.3 > float(F.cosine_similarity(x, other))


@pytest.mark.parametrize(
    "call",
    [
        lambda: NGrams(buckets=1),
        lambda: NGrams(sizes=()),
        lambda: NGrams(sizes=(0,)),
        lambda: NGrams(sizes=3),
        lambda: ngrams(3, (3,)),
        lambda: ngrams("cat", ()),
        lambda: NGrams()([]),
        lambda: NGrams()([3]),
        lambda: BagOfNGrams(10)(torch.full((1, 2), 10)),
        lambda: BagOfNGrams(10)(torch.zeros(1, 2)),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match="expected .* got"):
        call()
