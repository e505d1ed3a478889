"""The small causal language model: the past alone, the chain rule of probability, words or vectors."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from minilip.nn.language import LanguageModel
from minilip.nn.tokenizer import PAD
from minilip.training import fit
from tests.helpers import seeded


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LanguageModel(5, 4, 8, 2, 2).double().eval()


def test_no_word_sees_what_follows_it(model):
    a = torch.tensor([[1, 2, 3, 4]])
    for place in range(1, 4):
        b = a.clone()
        b[0, place:] = 1
        same = (model(a) == model(b)).all(dim=2)[0] | torch.isclose(model(a), model(b)).all(dim=2)[0]
        assert same[:place].all() and not same[place]


def test_probabilities_of_all_continuations_add_up_to_one(model):
    """exp of the summed log-probabilities over all 5^3 continuations of one word."""
    rows = torch.tensor([[1, *rest] for rest in itertools.product(range(5), repeat=3)])
    log_p = model(rows[:, :-1]).log_softmax(dim=2).gather(2, rows[:, 1:, None]).sum(dim=(1, 2))
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0, dtype=torch.double))


def test_vectors_of_words_are_words(model):
    tokens = torch.tensor([[1, 2, 3], [4, 4, 1]])
    torch.testing.assert_close(model(model.embed(tokens)), model(tokens))


def test_loss_is_the_mean_over_words_that_follow_and_are_not_padding(model):
    rows = torch.tensor([[1, 2, 3, 4], [2, 1, PAD, PAD]])
    log_p = model(rows).log_softmax(dim=2)
    by_hand = -(log_p[0, 0, 2] + log_p[0, 1, 3] + log_p[0, 2, 4] + log_p[1, 0, 1]) / 4
    torch.testing.assert_close(model.loss(rows)[0], by_hand, rtol=1e-5, atol=1e-6)


def test_gradient_with_respect_to_a_soft_prompt(model):
    x = torch.randn(1, 3, 8, dtype=torch.double, generator=seeded(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model(x).log_softmax(dim=2), (x,))


def test_it_learns_to_repeat():
    """In texts "a b a b" the third word is the first: only what stands before tells."""

    def texts(generator):
        words = torch.randint(1, 5, (48, 2), generator=generator)
        return torch.cat([words, words], dim=1)

    torch.manual_seed(0)
    model = LanguageModel(5, 4, 16, 2, 2)
    fit(model, texts, 160, lr=1e-2, progress=False)
    rows = texts(seeded(9))
    assert (model(rows[:, :-1])[:, 1:].argmax(dim=2) == rows[:, 2:]).float().mean() > 0.95
    assert (
        F.cross_entropy(model(rows[:, :1])[:, 0], rows[:, 1]) > 1.2
    )  # and knows no more of the second than log 4 = 1.39


@pytest.mark.parametrize(
    "x, match",
    [
        (torch.ones(1, 5, dtype=torch.int64), "at most 4"),
        (torch.full((1, 2), 5), "0 to 4"),
        (torch.zeros(1, 2, 7), "vectors of 8"),
        (torch.zeros(2, 8), "shape"),
    ],
)
def test_bad_input(model, x, match):
    with pytest.raises(ValueError, match=match):
        model(x)
