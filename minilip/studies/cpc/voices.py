r"""Six voices, five languages, 491 prompts: what CPC keeps of a voice, and how its candidates decide it.

Letters: N recordings, T frames, F bands, B batch.

CPC hears 295 of the 491 prompts in all six voices and is told nothing. Candidates are codes of recordings of any voice,
of one voice at a time, or of the same recording. All that is reported is on the 147 prompts that neither CPC nor a head
has heard: the voice, the language, and the prompt, which is looked for in the other of the two Italian voices.

Sizes, steps and the probes' strength were chosen on prompts of the part "val" with seed 0.
`python -m minilip.studies.cpc.voices` measures what `measured/cpc-voices.jsonl` lacks.

Source: Oord et al. 2018 (arXiv 1807.03748), table 1, for the rows; test bed, sizes and controls are ours. Lesson 02.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from minilip import _check
from minilip.cpc import CPC
from minilip.data.speech import RATE, VOICE_NAMES, Voices
from minilip.nn.modes import evaluating
from minilip.nn.sequence import SpectrumEncoder, Utterance, frames_of, padded, segment_means
from minilip.nn.sound import log_mel, mfcc
from minilip.studies.runs import Rows
from minilip.studies.store import Study
from minilip.training import finetune, fit

STEPS, BATCH, LR, AHEAD, WIDTH, DIM, CONTEXT = 500, 32, 3e-3, 12, 64, 64, 96
READ, HEARD = 200, 96  # frames of a recording that are read, and of each piece that CPC is trained on
STRENGTH = 0.1  # inverse penalty of the linear probes
TUNE = {"steps": 100, "lr": 2e-3, "batch": 64}
CANDIDATES = {"any voice": "batch", "one voice": "batch", "one recording": "sequence"}
ROWS = ("log-mel", "MFCC", "random", *CANDIDATES)
ITALIAN = [i for i, name in enumerate(VOICE_NAMES) if "Italian" in name]


class Task(NamedTuple):
    """Recordings as spectra, and their labels.

    x: (N, READ, F), each less its own mean, so that loudness counts for nothing; padded by zeros.
    voice, language, prompt, split: (N,); split is 0 train, 1 val, 2 test, by prompt.
    """

    x: Tensor
    voice: Tensor
    language: Tensor
    prompt: Tensor
    split: Tensor


@lru_cache(maxsize=1)
def task() -> Task:
    """All six voices; 2 s of each recording."""
    data = Voices()
    spectra = [log_mel(data[i][: 2 * RATE]) for i in range(len(data))]
    x = padded([s - s.mean() for s in spectra], READ)
    return Task(x, data.voice, data.language, data.prompt, data.split[data.prompt])


def batches(row: str) -> Callable[[torch.Generator], Tensor]:
    """Pieces of HEARD frames of BATCH recordings, of one voice at a time if the row says so. -> (B, HEARD, F)"""
    data = task()
    frames = frames_of(data.x)
    long = (data.split == 0) & (frames >= HEARD)
    every = long.nonzero()[:, 0]
    rows = [(long & (data.voice == v)).nonzero()[:, 0] for v in data.voice.unique()] if row == "one voice" else [every]

    def batch(generator: torch.Generator) -> Tensor:
        some = rows[int(torch.randint(len(rows), (1,), generator=generator))]
        some = some[torch.randperm(len(some), generator=generator)[:BATCH]]
        first = (torch.rand(len(some), generator=generator) * (frames[some] - HEARD + 1)).long()
        return data.x[some[:, None], first[:, None] + torch.arange(HEARD)]  # (B, HEARD, F)

    return batch


def train(row: str, seed: int, steps: int = STEPS, progress: bool = True) -> CPC:
    """CPC with the candidates of a row; before training for "random"."""
    torch.manual_seed(seed)
    model = CPC(SpectrumEncoder(width=WIDTH, dim=DIM), CONTEXT, AHEAD, CANDIDATES.get(row, "batch"))
    if row in CANDIDATES:
        fit(model, batches(row), steps, lr=LR, weight_decay=0.01, seed=seed, every=steps, label=row, progress=progress)
    return model


def read(x: Tensor, what: str | CPC, parts: int = 0) -> Tensor:
    """One vector for each recording: the means of `parts` equal parts, or mean and deviation over all of it.

    Of a model, codes and contexts are read side by side.

    (N, READ, F) -> (N, parts D) or (N, 2 D)
    """
    found = []
    for some in x.split(500):
        if isinstance(what, str):
            codes = mfcc(some) if what == "MFCC" else some
        else:
            with torch.no_grad(), evaluating(what):
                codes = torch.cat([what.encode(some), what(some)], dim=2)  # (n, T / 2, DIM + CONTEXT)
        lengths = (frames_of(some) * codes.shape[1] // some.shape[1]).clamp(min=1)
        mean = segment_means(codes, lengths, max(parts, 1))
        if not parts:
            deviation = (segment_means(codes.square(), lengths, 1) - mean.square()).clamp(min=1e-9).sqrt()
            mean = torch.cat([mean, deviation], dim=1)
        found.append(mean)
    return torch.cat(found)


def measure(row: str, seed: int, steps: int = STEPS, part: str = "test") -> dict[str, Any]:
    """One row of the table with one seed.

    Returns:
        Which unseen recordings are named rightly, strings of 0 and 1: "voice" (of 6) and "language" (of 5) by a linear
        head on frozen vectors, "tuned" the voice after fine-tuning (of "random", which is supervised training from
        scratch, and "any voice"; empty otherwise), "prompt" of each of the two Italian voices the nearest neighbour in
        the other.
    """
    _check.choice("row", row, ROWS)
    _check.choice("part", part, ("val", "test"))
    data = task()
    known, fresh = data.split == 0, data.split == (1 if part == "val" else 2)
    model: str | CPC = row if row in ROWS[:2] else train(row, seed, steps, progress=False)
    v = read(data.x, model)
    found = {name: _hits(v, getattr(data, name), known, fresh) for name in ("voice", "language")}
    found["tuned"] = ""
    if isinstance(model, CPC) and row in ("random", "any voice"):
        tune = {**TUNE, "seed": seed, "progress": False}
        said = finetune(Utterance(model, 1), data.x[known], data.voice[known], data.x[fresh], **tune)  # type: ignore[arg-type]
        found["tuned"] = _written(said == data.voice[fresh])
    v = read(data.x, model, parts=5)
    v = nn.functional.normalize((v - v[known].mean(0)) / v[known].std(0).clamp(min=1e-6), dim=1)
    carlo, menardi = (v[fresh & (data.voice == i)] for i in ITALIAN)  # (P, D) each, the same prompts
    found["prompt"] = "".join(
        _written((a @ b.T).argmax(1) == torch.arange(len(a))) for a, b in ((carlo, menardi), (menardi, carlo))
    )
    return found


def _hits(x: Tensor, y: Tensor, known: Tensor, fresh: Tensor) -> str:
    """Which fresh examples logistic regression on standardised features names rightly."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000))
    said = probe.fit(x[known].numpy(), y[known].numpy()).predict(x[fresh].numpy())
    return _written(torch.from_numpy(said) == y[fresh])


def _written(hits: Tensor) -> str:
    return "".join("1" if hit else "0" for hit in hits.tolist())


SEEDS = {"log-mel": 1, "MFCC": 1, "random": 3, "any voice": 3, "one voice": 3, "one recording": 3}
STUDY = Study("cpc-voices", measure)


def settings(row: str, seed: int, part: str = "test") -> dict[str, Any]:
    return {"row": row, "seed": seed, "steps": STEPS if row in CANDIDATES else 0, "part": part}


TABLE = Rows(STUDY, SEEDS, settings)

if __name__ == "__main__":
    TABLE.complete("cpc.voices", __doc__)
