"""Towers: shapes, what they ignore, what they refuse."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minilip.nn import BagOfWords, ConvNet, ResNet, TextTransformer, ViT
from minilip.nn.tokenizer import PAD

IMAGE = [lambda: ConvNet(4), lambda: ResNet(4), lambda: ViT(32, 8, 16, 2, 2)]
TEXT = [lambda: BagOfWords(20, 16), lambda: TextTransformer(20, 6, 16, 2, 2)]


@pytest.mark.parametrize("make", IMAGE)
def test_image_towers(make):
    torch.manual_seed(0)
    tower = make().eval()
    x = torch.rand(5, 3, 32, 32)
    z = tower(x)
    assert z.shape == (5, tower.dim)
    torch.testing.assert_close(tower(x[2:3])[0], z[2], atol=1e-5, rtol=1e-4)
    z.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tower.parameters())


@pytest.mark.parametrize("make", TEXT)
def test_text_towers_ignore_padding(make):
    torch.manual_seed(0)
    tower = make().eval()
    short = torch.tensor([[3, 4, 5]])
    padded = torch.tensor([[3, 4, 5, PAD, PAD, PAD]])
    torch.testing.assert_close(tower(short), tower(padded))
    assert tower(torch.full((2, 3), PAD)).isfinite().all()


def test_only_the_transformer_sees_word_order():
    torch.manual_seed(0)
    a, b = torch.tensor([[3, 4, 5]]), torch.tensor([[5, 4, 3]])
    bag, transformer = BagOfWords(20, 16).eval(), TextTransformer(20, 6, 16, 2, 2).eval()
    torch.testing.assert_close(bag(a), bag(b))
    assert (transformer(a) - transformer(b)).abs().max() > 1e-4


def test_vit_sees_where_a_patch_is():
    torch.manual_seed(0)
    tower = ViT(32, 8, 16, 2, 2).eval()
    x = torch.rand(1, 3, 32, 32)
    assert (tower(x) - tower(x.roll(8, dims=3))).abs().max() > 1e-4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=0, max_size=5))
def test_image_towers_refuse_other_shapes(shape):
    if len(shape) == 4 and shape[1] == 3:
        return
    for make in IMAGE:
        with pytest.raises(ValueError, match="expected .* got"):
            make()(torch.zeros(shape))


@pytest.mark.parametrize("make", TEXT)
@pytest.mark.parametrize("bad", [torch.zeros(2, 3), torch.tensor([[20]]), torch.tensor([[-1]]), torch.tensor([1, 2])])
def test_text_towers_refuse(make, bad):
    with pytest.raises(ValueError, match="expected .* got"):
        make()(bad)


def test_other_refusals():
    for call in (
        lambda: ViT(30, 8),
        lambda: ViT(32, 8, 30, 2, 4),
        lambda: ViT(32, 8, 16, 1, 2)(torch.zeros(1, 3, 64, 64)),
        lambda: TextTransformer(20, 6, 16, 1, 2)(torch.ones(1, 7, dtype=torch.int64)),
        lambda: TextTransformer(20, 6, 15, 1, 2),
        lambda: ConvNet(0),
    ):
        with pytest.raises(ValueError, match="expected .* got"):
            call()
