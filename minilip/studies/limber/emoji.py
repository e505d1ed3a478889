r"""Emoji described by SmolLM2 through one linear map from EfficientNet-Lite0, neither of which learns.

Letters: C concepts, K concepts in a split, B batch, k soft prompts, D_I = 128 components, D_L = 576, L tokens.

Three artists are trained on, the fourth is kept for the examination; so are a fifth of the concepts, by whole families
of subgroups. A caption is "a" and the label. The writer's numbers are bfloat16: its weights have four
bits. One seed: a run takes a quarter of an hour on two cores.

The rate was chosen on the part "val", in a few dozen steps. `python -m minilip.studies.limber.emoji` measures what
`measured/limber-emoji.jsonl` lacks.

Source: Merullo et al. 2023 (arXiv 2209.15162); test bed, sizes and baselines are ours. Lesson 08.
"""

from collections import Counter
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor, nn

from minilip import _check
from minilip.data.concepts import SPLITS, read_concepts, split_of
from minilip.data.emoji import ARTISTS, SEEN_ARTISTS, UNSEEN_ARTIST, EmojiPairs
from minilip.data.pretrained import emoji_features, language_model, sentence_embeddings
from minilip.data.pretrained.smollm import CausalLM
from minilip.limber import LimBeR, LinearPrompt, frozen_hash
from minilip.nn.tokenizer import words
from minilip.studies.runs import Arms
from minilip.studies.store import Study
from minilip.training import History, fit

START = "a"  # every caption is "a" and the label
STEPS, BATCH, LR, PROMPTS, LENGTH = 300, 16, 2e-2, 2, 6
COMPONENTS = 128  # of the 1,280 features; a projection is linear, so that the whole map is
SEEN = [ARTISTS.index(artist) for artist in SEEN_ARTISTS]
QUESTIONS = {  # what is described: concepts never met by an artist who is known, and the reverse
    "new concepts": SEEN_ARTISTS[0],
    "new artist": UNSEEN_ARTIST,
}
EYES = ("EfficientNet", "untrained")


class Arm(NamedTuple):
    """What is trained: a map from an eye, one of EYES, to k prompts."""

    eye: str = "EfficientNet"
    prompts: int = PROMPTS
    steps: int = STEPS
    lr: float = LR


@lru_cache(maxsize=1)
def _emoji() -> tuple[EmojiPairs, list[str]]:
    data = EmojiPairs()
    return data, split_of(read_concepts(data.root))


@lru_cache(maxsize=1)
def _writer() -> CausalLM:
    return language_model().bfloat16()


class Task:
    """Features of drawings and captions of a split.

    Attributes:
        x: (4, C, COMPONENTS) principal components of the features, as wide as each other and of length about 1, so that
            the map's weights and its bias learn at one rate.
        near: (4, C, 1280) the features themselves.
        train, held: (K,) concepts; labels: of all C.
        tokens: (C, L) captions, ended.
    """

    def __init__(self, eye: str, writer: CausalLM, part: str = "test"):
        _check.choice("eye", eye, EYES)
        _check.choice("part", part, SPLITS[2:])
        data, parts = _emoji()
        self.train, self.held = (torch.tensor([p == name for p in parts]).nonzero()[:, 0] for name in ("train", part))
        self.labels = data.labels
        x = emoji_features(seed=0 if eye == "untrained" else None)  # (4, C, 1280)
        self.near = x
        known = x[SEEN][:, self.train].flatten(0, 1)
        pca = PCA(COMPONENTS, whiten=True, random_state=0).fit(known.numpy())
        self.x = (
            torch.from_numpy(pca.transform(x.flatten(0, 1).numpy())).float().unflatten(0, x.shape[:2]) / COMPONENTS**0.5
        )
        self.tokens = writer.tokens([f"{START} {label}" for label in data.labels])

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """BATCH different concepts, each by one of the artists of the training, and their captions."""
        concepts = self.train[torch.randperm(len(self.train), generator=generator)[:BATCH]]
        artists = torch.tensor(SEEN)[torch.randint(len(SEEN), (len(concepts),), generator=generator)]
        tokens = self.tokens[concepts]
        longest = int((tokens == tokens[0, -1]).int().argmax(dim=1).max()) + 1  # of these captions, to the first end
        return self.x[artists, concepts], tokens[:, :longest]


def f1(told: str, true: str) -> float:
    """The harmonic mean of precision and recall of a caption's words, as bags.

    >>> round(f1("red apple pie", "red apple"), 2)
    0.8
    """
    a, b = Counter(words(told)), Counter(words(true))
    both = sum((a & b).values())
    return 2 * both / (a.total() + b.total()) if both else 0.0


def scores(told: list[str], true: list[str]) -> dict[str, list[float]]:
    """The "F1" of words and "cosine" by MiniLM of each caption, both without the start."""
    close = (sentence_embeddings([t or "nothing" for t in told]) * sentence_embeddings(true)).sum(dim=1)
    pairs = zip(told, true, strict=True)
    return {"F1": [round(f1(a, b), 3) for a, b in pairs], "cosine": [round(c, 3) for c in close.tolist()]}


def bare(caption: str) -> str:
    """A caption without its start.

    >>> bare("a red apple")
    'red apple'
    """
    return caption.removeprefix(START).strip()


def describe(model: LimBeR, task: Task, concepts: Tensor, artist: int) -> list[str]:
    """What the writer says of an artist's drawings of these concepts, greedily."""
    writer: CausalLM = model.language  # type: ignore[assignment]
    start = writer.tokens(START, ended=False)[0]
    told = [model.caption(x, start, LENGTH) for x in task.x[artist, concepts].split(64)]
    return [bare(caption) for rows in told for caption in writer.decode(rows)]


def nearest(task: Task, concepts: Tensor, artist: int) -> list[str]:
    """The label of the training drawing whose features, all of them, point most nearly the same way."""
    known = F.normalize(task.near[SEEN][:, task.train].flatten(0, 1), dim=1)  # (3 K, 1280)
    best = (F.normalize(task.near[artist, concepts], dim=1) @ known.T).argmax(dim=1) % len(task.train)
    return [task.labels[c] for c in task.train[best].tolist()]


def blind(task: Task) -> dict[str, str]:
    """The one training label that scores best as a caption of all training concepts, by each score."""
    known = [task.labels[c] for c in task.train.tolist()]
    t = sentence_embeddings(known)
    mean_f1 = [sum(f1(a, b) for b in known) for a in known]
    return {"F1": known[mean_f1.index(max(mean_f1))], "cosine": known[int((t @ t.mean(dim=0)).argmax())]}


@torch.no_grad()
def cost(model: LimBeR, task: Task, concepts: Tensor, artist: int, shift: int = 0) -> float:
    """Nats of a true caption, on average, beside its own drawing or, shifted, beside another's."""
    x = task.x[artist, concepts.roll(shift)]
    parts = zip(x.split(64), task.tokens[concepts].split(64), strict=True)
    return -float(torch.cat([model.log_likelihood(a, b) for a, b in parts]).mean())


def learn(arm: Arm, task: Task, writer: CausalLM, seed: int, **options: Any) -> tuple[LimBeR, History]:
    """The map of an arm, and how it was trained; the writer stays as it is."""
    torch.manual_seed(seed)
    model = LimBeR(nn.Identity(), LinearPrompt(task.x.shape[-1], writer.dim, arm.prompts), writer, writer.end)
    with torch.no_grad():  # start where the words of labels stand, not farther off than words are from each other
        near = writer.embed(task.tokens[task.train][:, 1:3]).float().flatten(0, 1)
        model.prompt.linear.weight.normal_(std=float(near.std()))
        model.prompt.linear.bias.copy_(near.mean(dim=0).repeat(arm.prompts))
    options = {"weight_decay": 0.0, "seed": seed, "bf16": False, "label": f"map from {arm.eye}", **options}
    return model, fit(model, task.batch, arm.steps, lr=arm.lr, **options)


def measure(arm: dict[str, Any], seed: int, part: str = "test") -> dict[str, Any]:
    """Train a map, `Arm(**arm)`, and let the writer describe the held-out concepts through it.

    Returns:
        {question of QUESTIONS: {"true": labels; "concepts": their numbers; "told", "nearest": captions; "scores":
        {"LimBeR", "nearest", "blind", "another's": {"F1", "cosine": a number a concept}}; "nats" of the true captions;
        "shuffled": beside another drawing}}; "blind": its captions; "no picture": what the writer says by itself;
        "frozen": whether its numbers are what they were; "loss" of the first and of the last 20 steps, nats a token.
    """
    chosen = Arm(**arm)
    writer = _writer()
    before = frozen_hash(writer)
    task = Task(chosen.eye, writer, part)
    model, history = learn(chosen, task, writer, seed)
    constant = blind(task)
    found: dict[str, Any] = {"blind": constant, "loss": [_mean(history.loss[:20]), _mean(history.loss[-20:])]}
    for question, artist in QUESTIONS.items():
        concepts, by = task.held if question == "new concepts" else task.train[::6], ARTISTS.index(artist)
        true, half = [task.labels[c] for c in concepts.tolist()], len(concepts) // 2  # neighbours in the list are kin
        told, near = describe(model, task, concepts, by), nearest(task, concepts, by)
        found[question] = {
            "true": true,
            "concepts": concepts.tolist(),
            "told": told,
            "nearest": near,
            "scores": {
                "LimBeR": scores(told, true),
                "nearest": scores(near, true),
                "blind": {score: scores([label] * len(true), true)[score] for score, label in constant.items()},
                "another's": scores(told[half:] + told[:half], true),
            },
            "nats": round(cost(model, task, concepts, by), 3),
            "shuffled": round(cost(model, task, concepts, by, half), 3),
        }
    start = writer.tokens(START, ended=False)
    with torch.no_grad():
        for _ in range(LENGTH):
            start = torch.cat([start, writer(start)[:, -1].argmax(dim=1, keepdim=True)], dim=1)
    return {**found, "no picture": bare(writer.decode(start)[0]), "frozen": frozen_hash(writer) == before}


def _mean(losses: list[float]) -> float:
    return round(sum(losses) / len(losses), 3)


# ---- what is measured ------------------------------------------------------------------------------------------------

# Arm("untrained") is the control by random weights, for whoever has half an hour more.
ARMS = {"800 steps": Arm(steps=800)}
STUDY = Study("limber-emoji", measure)
RUNS = Arms(STUDY, ARMS, range(1))
settings, known = RUNS.settings, RUNS.known


def main() -> None:
    RUNS.complete("limber.emoji", __doc__)


if __name__ == "__main__":
    main()
