"""Eval mode inside a block; after it each module is in its own mode again, whatever ended the block."""

import pytest
import torch
from torch import nn

from minilip.clip import CLIP, zero_shot_classifier
from minilip.nn import BagOfWords, ConvNet
from minilip.nn.modes import evaluating
from minilip.nn.tokenizer import Tokenizer
from minilip.protoclip import ProtoCLIP


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


@pytest.fixture
def model():
    """In training, but for one frozen layer with a part that trains."""
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)), nn.BatchNorm1d(2))
    net[1].eval()
    net[1][1].train()
    return net


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, GeneratorExit])
def test_every_module_has_its_own_mode_again(model, error):
    before = modes(model)
    assert set(before.values()) == {True, False}
    try:
        with evaluating(model) as inside:
            assert inside is model and not any(modes(model).values())
            if error:
                raise error
    except BaseException as caught:
        assert type(caught) is error
    assert modes(model) == before


def test_a_block_inside_a_block(model):
    before = modes(model)
    with evaluating(model):
        with evaluating(model[1]):
            pass
        assert not any(modes(model).values())
    assert modes(model) == before


def test_a_shared_module_is_restored_once_and_right():
    shared = nn.Dropout()
    net = nn.ModuleList([shared, nn.Sequential(shared)]).train()
    with evaluating(net):
        assert not shared.training
    assert shared.training and net.training


class Interrupted(BagOfWords):
    """Ctrl-C in the middle of reading."""

    def forward(self, tokens):
        raise KeyboardInterrupt


def test_methods_that_look_at_data_leave_all_modes_alone_when_interrupted():
    tokenizer = Tokenizer(["a red circle"])
    for text_tower in (BagOfWords(len(tokenizer), 8), Interrupted(len(tokenizer), 8)):
        clip, proto = (
            CLIP(ConvNet(4), text_tower, tokenizer, dim=6),
            ProtoCLIP(ConvNet(4), text_tower, tokenizer, dim=6, k=2, projected=4, hidden=4),
        )
        pairs = [(torch.rand(4, 3, 16, 16), tokenizer(["a red circle"] * 4))]
        for model, look in (
            (clip, lambda m: zero_shot_classifier(m, ["red circle"])),
            (proto, lambda m, pairs=pairs: m.episode(pairs, torch.Generator().manual_seed(0))),
        ):
            model.train()
            model.image_tower.layers[1].eval()  # a frozen normalisation
            before = modes(model)
            if isinstance(text_tower, Interrupted):
                with pytest.raises(KeyboardInterrupt):
                    look(model)
            else:
                look(model)
            assert modes(model) == before and not before["image_tower.layers.1"]
