"""Real captions: is a tag that many emoji share more uncertain than a label that one of them has?

`python -m minilip.studies.prolip.emoji` measures what `measured/prolip-emoji.jsonl` lacks of six entries: ProLIP with
and without inclusion, with three seeds, a minute or two each on a core.

Letters: B batch, M masked copies, T tags, C concepts, L tokens. Source: ours; lesson 12.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from minilip.data.emoji import ARTISTS, SEEN_ARTISTS, UNSEEN_ARTIST, EmojiPairs
from minilip.data.pretrained import emoji_features
from minilip.evaluation import accuracy
from minilip.nn import TextTransformer
from minilip.nn.tokenizer import Tokenizer
from minilip.prolip import ProLIP
from minilip.prolip.uncertainty import partial_spearman, uncertainty
from minilip.studies.heads import Head
from minilip.studies.prolip.examination import auroc, gaussians, rank_correlation
from minilip.studies.runs import command
from minilip.studies.store import Study
from minilip.training import fit

SEEDS = (0, 1, 2)
STEPS, BATCH, SHARE = 500, 256, 1 / 4
ARMS = {"ProLIP": 0.02, "no inclusion": 0.0}  # weight of the inclusion losses


class Sentences:
    """Captions of concepts: some of their label and tags, in a random order; and parts of such captions.

    Attributes:
        phrases: for each concept of a split its label and then its tags.
        tags: T, those of the training concepts, and `shared` (T,), how many concepts have each.
    """

    def __init__(self) -> None:
        self.train, self.test = (EmojiPairs(split=split, size=64) for split in ("train", "test"))
        data = self.train
        self.phrases = {c: [data.labels[c], *data.tags[c]] for c in range(len(data.labels))}
        known = data.concepts.tolist()
        counts = Counter(tag for c in known for tag in set(data.tags[c]))
        self.tags = sorted(counts)
        self.shared = torch.tensor([counts[tag] for tag in self.tags])  # (T,)
        longest = max(known, key=lambda c: len(" ".join(self.phrases[c]).split()))
        length = len(Tokenizer([" ".join(self.phrases[longest])])([""])[0])
        self.tokenizer = Tokenizer([" ".join(self.phrases[c]) for c in known], length=length)

    def some(self, phrases: list[str], generator: torch.Generator) -> list[str]:
        """Each phrase with probability 1/2, at least one, in a random order."""
        order = torch.randperm(len(phrases), generator=generator).tolist()
        kept = [phrases[i] for i in order if torch.rand(1, generator=generator) < 0.5]
        return kept or [phrases[order[0]]]


def train(arm: str, seed: int, steps: int, sentences: Sentences, progress: bool = True) -> ProLIP:
    """ProLIP on frozen features of three artists; a masked copy of a caption is some of its phrases."""
    features = emoji_features().float()  # (4, C, 1280)
    known = sentences.train.concepts
    seen = torch.tensor([ARTISTS.index(a) for a in SEEN_ARTISTS])
    tokenizer = sentences.tokenizer
    torch.manual_seed(seed)
    text = TextTransformer(len(tokenizer), tokenizer.length, depth=1, readouts=2)
    model = ProLIP(Head(), text, tokenizer, batch=BATCH, alpha=ARMS[arm])

    def draw(generator: torch.Generator) -> tuple[Tensor, ...]:
        concepts = known[torch.randint(len(known), (BATCH,), generator=generator)]  # (B,)
        artist = seen[torch.randint(len(seen), (BATCH,), generator=generator)]
        x = features[artist, concepts]  # (B, 1280)
        whole = [sentences.some(sentences.phrases[c], generator) for c in concepts.tolist()]
        if not ARMS[arm]:
            return x, tokenizer([" ".join(w) for w in whole])
        m = int(BATCH * SHARE)
        parts = [sentences.some(w, generator) for w in whole[:m]]
        gone = torch.rand(m, features.shape[2], generator=generator) < 0.5
        return (
            *(x, tokenizer([" ".join(w) for w in whole])),
            *(x[:m].masked_fill(gone, 0), tokenizer([" ".join(p) for p in parts])),
        )

    fit(model, draw, steps, lr=1e-3, seed=seed, label=f"emoji, {arm}, seed {seed}", progress=progress)
    return model


def examine(model: ProLIP, sentences: Sentences) -> dict[str, Any]:
    """Labels against their tags, shared tags against rare ones, and whether emoji are still found."""
    tokenizer = sentences.tokenizer
    s = uncertainty(gaussians(model, tokenizer(sentences.tags))[1])  # (T,)
    words = torch.tensor([len(tag.split()) for tag in sentences.tags])
    single = words == 1
    out: dict[str, Any] = {
        "shared": rank_correlation(s, sentences.shared),
        "shared, given words": partial_spearman(s, sentences.shared, words),
        "shared, one word": rank_correlation(s[single], sentences.shared[single]),
        "rare against shared by 15": auroc(s[sentences.shared >= 15], s[sentences.shared == 1]),
        "tags": len(s),
    }
    for split, data in (("train", sentences.train), ("test", sentences.test)):
        rows = [
            (data.labels[c], tag) for c in data.concepts.tolist() for tag in data.tags[c] if not tokenizer.unknown(tag)
        ]
        rows = [(label, tag) for label, tag in rows if not tokenizer.unknown(label) and tag != label]
        label, tag = (uncertainty(gaussians(model, tokenizer(list(side)))[1]) for side in zip(*rows, strict=True))
        out[f"label below tag, {split}"] = float((label < tag).double().mean())
        same = torch.tensor([len(a.split()) == len(b.split()) for a, b in rows])
        out[f"label below tag, as many words, {split}"] = float((label < tag)[same].double().mean())
        out[f"pairs, {split}"] = len(rows)
    x = emoji_features().float()[ARTISTS.index(UNSEEN_ARTIST), sentences.train.concepts]
    names = gaussians(model, tokenizer([sentences.train.labels[c] for c in sentences.train.concepts.tolist()]))[0]
    with torch.no_grad():
        scores = model.encode_image(x) @ names.T
    out["R@1, unseen artist"] = accuracy(scores, torch.arange(len(scores)))
    common = sentences.shared.argsort(descending=True)[:8].tolist()
    rank = s.argsort().argsort().double() / (len(s) - 1)
    out["common"] = {sentences.tags[i]: [int(sentences.shared[i]), round(float(rank[i]), 3)] for i in common}
    return out


def measure(arm: str, seed: int, steps: int) -> dict[str, Any]:
    """One arm with one seed."""
    sentences = Sentences()
    return examine(train(arm, seed, steps, sentences), sentences)


STUDY = Study("prolip-emoji", measure)


def settings(arm: str, seed: int) -> dict[str, Any]:
    return {"arm": arm, "seed": seed, "steps": STEPS}


def known() -> dict[str, list[dict[str, Any]]]:
    """Arm -> a result for each seed.

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    return {arm: STUDY.recall([settings(arm, seed) for seed in SEEDS]) for arm in ARMS}


def main() -> None:
    parser = command("prolip.emoji", __doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    chosen = parser.parse_args()
    STUDY.complete(settings(arm, seed) for seed in chosen.seeds for arm in ARMS)


if __name__ == "__main__":
    main()
