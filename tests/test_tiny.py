"""The ProLIP that trains in a second."""

import pytest
import torch
from scipy.stats import spearmanr

from minilip.studies.prolip import tiny


def drop_one(codes):
    largest = torch.where(codes > 0, torch.rand(codes.shape), -1.0).argmax(dim=1, keepdim=True)
    return codes.scatter(1, largest, 0)


def test_what_fits_and_what_is_named():
    assert tiny.EVERY.shape == (540, 4) and tiny.FITS.max() == 192 and tiny.FITS.min() == 1
    assert tiny.FITS[tiny.NAMED == 0].tolist() == [192] and set(tiny.FITS[tiny.NAMED == 4].tolist()) == {1}


def test_a_bag_counts_values_and_masks():
    bag = tiny.bag(torch.tensor([[1, 8, 0, tiny.MASK], [0, 0, 0, 0]]))
    assert bag.shape == (2, 18) and bag.sum(dim=1).tolist() == [3, 0]
    assert bag[0].nonzero()[:, 0].tolist() == [0, 9, 17]


def test_training_is_reproducible_and_leaves_the_generator_alone():
    before = torch.get_rng_state()
    first, second = (tiny.width(tiny.train(drop_one, 3, seed=1), tiny.EVERY) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first, tiny.width(tiny.train(drop_one, 3, seed=2), tiny.EVERY))


def test_the_losses_that_are_given_are_used():
    calls = []

    def ppcl(*args):
        calls.append(len(args))
        return sum(x.sum() for x in args)

    tiny.train(None, 2, ppcl=ppcl, vib=lambda mu, logvar: 0 * mu.sum())
    assert calls == [6, 6]


def test_smaller_captions_become_wider():
    S = tiny.width(tiny.train(drop_one, 150, alpha=1.0), tiny.EVERY)
    assert spearmanr(S, -tiny.NAMED).statistic > 0.5


def test_no_steps_and_no_batch_are_refused():
    with pytest.raises(ValueError, match="steps"):
        tiny.train(None, 0)
    with pytest.raises(ValueError, match="batch"):
        tiny.train(None, 1, batch=1)
