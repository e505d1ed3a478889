"""LimBeR: against transformers' own loss, scikit-learn's ridge and closed forms; what is frozen stays so."""

import copy

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional as F

from minilip.limber import (
    FeatureMap,
    LimBeR,
    LinearPrompt,
    caption_log_probabilities,
    caption_loss,
    caption_mask,
    freeze,
    frozen_hash,
    ridge_map,
)
from minilip.nn import ConvNet
from minilip.nn.language import LanguageModel
from minilip.training import fit
from tests.helpers import seeded

END = 2
TOKENS = torch.tensor([[5, 6, 7, END], [5, END, END, END], [3, 4, END, 6]])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.double)


def small(prompts=1, features=6, end=END):
    torch.manual_seed(0)
    return LimBeR(nn.Identity(), LinearPrompt(features, 8, prompts), LanguageModel(9, 10, 8, 1, 2), end).double()


# ---- the map ---------------------------------------------------------------------------------------------------------


def test_every_feature_becomes_a_prompt_by_the_same_matrix():
    prompt, h = LinearPrompt(6, 4).double(), normal(3, 5, 6)
    got = prompt(h)
    for b in range(3):
        for i in range(5):
            torch.testing.assert_close(got[b, i], prompt.linear.weight @ h[b, i] + prompt.linear.bias)


def test_a_pooled_feature_becomes_k_prompts():
    prompt, h = LinearPrompt(6, 4, 3).double(), normal(2, 6)
    torch.testing.assert_close(
        prompt(h), torch.stack([F.linear(x, prompt.linear.weight, prompt.linear.bias).view(3, 4) for x in h])
    )
    assert sum(p.numel() for p in prompt.parameters()) == 6 * 12 + 12


def test_feature_map_is_what_the_tower_averages():
    tower, images = freeze(ConvNet(4)), torch.rand(2, 3, 32, 32, generator=seeded())
    h = FeatureMap(tower)(images)
    assert h.shape == (2, 16, 16)
    torch.testing.assert_close(h.mean(dim=1), tower(images))
    torch.testing.assert_close(h[0, 5], tower.layers(images)[0, :, 1, 1])


@pytest.mark.parametrize("ridge", [1e-6, 0.1, 10.0])
def test_ridge_is_scikit_learn_s(ridge):
    x, y = normal(40, 6), normal(40, 3, seed=1)
    p, b = ridge_map(x, y, ridge)
    oracle = Ridge(alpha=40 * ridge).fit(x.numpy(), y.numpy())
    torch.testing.assert_close(p, torch.from_numpy(oracle.coef_))
    torch.testing.assert_close(b, torch.from_numpy(oracle.intercept_))


def test_ridge_finds_a_linear_map_that_is_there():
    x, true = normal(50, 4), normal(3, 4, seed=1)
    p, b = ridge_map(x, x @ true.T + 2, 1e-12)
    torch.testing.assert_close(p, true, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(b, torch.full((3,), 2.0, dtype=torch.double), rtol=1e-6, atol=1e-6)


# ---- the loss --------------------------------------------------------------------------------------------------------


def test_targets_are_counted_by_place():
    assert caption_mask(TOKENS, END).tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert caption_mask(TOKENS, 8).all()  # no end at all


def test_loss_in_loops():
    logits = normal(3, 4, 9)
    total, count = 0.0, 0
    for row, tokens in zip(logits.tolist(), TOKENS.tolist(), strict=True):
        for scores, t in zip(row, tokens, strict=True):
            total -= scores[t] - torch.tensor(scores, dtype=torch.double).logsumexp(0).item()
            count += 1
            if t == END:
                break
    torch.testing.assert_close(caption_loss(logits, TOKENS, END).item(), total / count)


def test_loss_is_cross_entropy_with_an_ignored_index():
    logits = normal(3, 4, 9).requires_grad_()
    labels = TOKENS.masked_fill(~caption_mask(TOKENS, END), -100)
    oracle = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    ours = caption_loss(logits, TOKENS, END)
    torch.testing.assert_close(ours, oracle)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in (ours, oracle)))
    assert torch.autograd.gradcheck(lambda x: caption_loss(x, TOKENS, END), (logits,))


def test_what_follows_the_first_end_changes_nothing():
    logits, other = normal(3, 4, 9), TOKENS.clone()
    other[1, 2:], other[2, 3] = 7, 0
    a, b = (caption_log_probabilities(logits, t, END) for t in (TOKENS, other))
    assert torch.equal(a, b) and (a[1, 2:] == 0).all()


def test_the_loss_is_that_of_transformers():
    """Labels -100 at the prompts and behind the first end, as the released code puts them."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=9, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2
    )
    llama = transformers.LlamaForCausalLM(config).double().eval()

    class Writer(nn.Module):
        dim, vocabulary = 8, 9

        def __init__(self):
            super().__init__()
            self.model, self.embed = llama, llama.get_input_embeddings()

        def forward(self, x):
            return self.model(inputs_embeds=x).logits

    model, h = LimBeR(nn.Identity(), LinearPrompt(6, 8).double(), Writer(), END), normal(3, 5, 6)
    x = torch.cat([model.prompt(h), llama.get_input_embeddings()(TOKENS)], dim=1)
    labels = TOKENS.masked_fill(~caption_mask(TOKENS, END), -100)
    oracle = llama(inputs_embeds=x, labels=F.pad(labels, (5, 0), value=-100)).loss
    torch.testing.assert_close(model.loss((h, TOKENS))[0].float(), oracle.float(), rtol=1e-5, atol=1e-6)


# ---- the model -------------------------------------------------------------------------------------------------------


def test_log_likelihood_sums_what_the_loss_averages():
    model, h = small(), normal(3, 5, 6)
    total = model.log_likelihood(h, TOKENS)
    torch.testing.assert_close(model.loss((h, TOKENS))[0], -total.sum() / caption_mask(TOKENS, END).sum())


def test_gradient_reaches_the_map_through_the_frozen_model_and_no_further():
    model, h = small(), normal(2, 3, 6)
    weight = model.prompt.linear.weight

    def loss(p):
        out = torch.func.functional_call(model.prompt, {"linear.weight": p}, (h,))
        words = model.language.embed(TOKENS[:2, :-1])
        return caption_loss(model.language(torch.cat([out, words], dim=1))[:, 2:], TOKENS[:2], END)

    assert torch.autograd.gradcheck(loss, (weight.detach().clone().requires_grad_(),))
    model.loss((h, TOKENS[:2]))[0].backward()
    torch.testing.assert_close(weight.grad, torch.autograd.grad(loss(weight), weight)[0])
    assert all(p.grad is None for p in model.language.parameters())


def test_an_eye_that_learns_by_batch_normalisation_stands_still_in_training():
    eye = FeatureMap(ConvNet(4))
    with torch.no_grad():
        eye.train()(torch.rand(8, 3, 16, 16, generator=seeded()))
    torch.manual_seed(0)
    language = LanguageModel(9, 10, 8, 1, 2)
    model = LimBeR(eye, LinearPrompt(16, 8), language, END)
    before, start = (frozen_hash(eye), frozen_hash(language)), copy.deepcopy(model.prompt.state_dict())

    def batches(g):
        return torch.rand(3, 3, 16, 16, generator=g), TOKENS

    history = fit(model, batches, 8, lr=1e-2, progress=False)
    assert (frozen_hash(eye), frozen_hash(language)) == before
    assert not torch.equal(model.prompt.linear.weight, start["linear.weight"])
    assert history.loss[-1] < history.loss[0]


def test_the_digest_sees_parameters_buffers_and_modes_of_number():
    net = ConvNet(2)
    first = frozen_hash(net)
    assert frozen_hash(copy.deepcopy(net)) == first and frozen_hash(freeze(net)) == first
    moved = copy.deepcopy(net)
    moved.layers[1].running_mean[0] += 1e-6
    assert frozen_hash(moved) != first
    with torch.no_grad():
        net.layers[0].weight[0, 0, 0, 0] += 1e-6
    assert frozen_hash(net) != first and frozen_hash(copy.deepcopy(net).bfloat16()) != frozen_hash(net)


def test_captions_are_those_of_the_likeliest_word_each_time():
    model, h, start = small(), normal(3, 5, 6), torch.tensor([3, 4])
    got = model.caption(h, start, 4)
    assert got.shape == (3, 6) and (got[:, :2] == start).all()
    for b in range(3):
        rows = [3, 4]
        while len(rows) < 6 and (len(rows) == 2 or rows[-1] != END):
            words = model.language.embed(torch.tensor([rows]))
            rows.append(int(model.language(torch.cat([model.prompt(h[[b]]), words], dim=1))[0, -1].argmax()))
        assert got[b].tolist() == rows + [0] * (6 - len(rows))


def test_modes_are_restored_and_frozen_parts_stay_in_eval():
    model = small()
    model.train()
    assert model.prompt.training and not model.language.training and not model.eye.training
    model.caption(normal(1, 2, 6), torch.tensor([3]), 2)
    assert model.prompt.training and not any(p.requires_grad for p in model.language.parameters())


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: LimBeR(nn.Identity(), LinearPrompt(6, 4), LanguageModel(9, 10, 8, 1, 2), END), "soft prompts of 8"),
        (lambda: LinearPrompt(6, 4)(torch.zeros(2, 5)), "features of 6"),
        (lambda: FeatureMap(nn.Identity()), "a ConvNet"),
        (lambda: small().loss((normal(2, 3, 6), TOKENS)), "a caption for each of 2"),
        (lambda: caption_loss(normal(3, 5, 9), TOKENS, END), "shape"),
        (lambda: ridge_map(normal(3, 2), normal(4, 2), 1.0), "one row for each"),
        (lambda: ridge_map(normal(3, 2), normal(3, 2), 0.0), "above 0"),
        (lambda: small().caption(normal(1, 2, 6), torch.zeros(0, dtype=torch.int64), 2), "at least one"),
        (lambda: frozen_hash("model"), "an nn.Module"),
        (lambda: freeze(None), "an nn.Module"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
