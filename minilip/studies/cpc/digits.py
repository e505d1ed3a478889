r"""Digits of a speaker who was never heard: what CPC, labels, and no learning at all make of them.

Letters: N recordings, T frames, F bands, B batch.

A linear head is trained on the digits of five of the six speakers of the Free Spoken Digit Dataset and examined on the
sixth; each is held out in turn. CPC never sees a digit's label. It hears either all six speakers, so that one training
serves all six examinations, or only the five, so that the sixth is new to it altogether. It knows who speaks:
candidates come from one speaker at a time, so that a voice tells nothing about which code is real. Contexts and codes
are of two versions of each recording (`other_mouth`). All vectors are means over five equal parts of a recording.

Steps, batches of one speaker, two versions and the probe's strength were chosen with seed 0 on the digits of two
speakers (george, nicolas) who are among the six that are reported.
`python -m minilip.studies.cpc.digits` measures what `measured/cpc-digits.jsonl` lacks.

Source: Oord et al. 2018 (arXiv 1807.03748), table 1, for the rows; test bed, sizes and controls are ours. Lesson 02.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from minilip import _check
from minilip.cpc import CPC
from minilip.data.speech import SPEAKERS, Digits
from minilip.nn.modes import evaluating
from minilip.nn.sequence import SpectrumEncoder, Utterance, frames_of, padded, segment_means
from minilip.nn.sound import log_mel, mfcc, other_mouth
from minilip.studies.runs import Rows
from minilip.studies.store import Study
from minilip.training import finetune, fit

STEPS, BATCH, LR, AHEAD, WIDTH, DIM, CONTEXT = 1000, 32, 2e-3, 8, 64, 64, 96
HEARD, READ = 56, 72  # frames of a recording that CPC is trained on, and that are read
PARTS, STRENGTH = 5, 0.01  # of a recording; inverse penalty of the linear probe
TUNE = {"steps": 150, "lr": 2e-3, "batch": 64, "augment": other_mouth}
ROWS = ("log-mel", "MFCC", "random", "CPC", "CPC, five speakers")
EVERYBODY = tuple(range(len(SPEAKERS)))


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    data = Digits()
    spectra = [log_mel(data[i]) for i in range(len(data))]
    return padded([s - s.mean() for s in spectra], READ), data.digit, data.speaker, data.take


def batches(speakers: tuple[int, ...]) -> Callable[[torch.Generator], tuple[Tensor, Tensor]]:
    """Two versions of BATCH recordings of one of these speakers: (B, HEARD, F) twice."""
    x, _, speaker, _ = _digits()
    rows = [(speaker == s).nonzero()[:, 0] for s in speakers]

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        hers = rows[int(torch.randint(len(rows), (1,), generator=generator))]
        heard = x[hers[torch.randperm(len(hers), generator=generator)[:BATCH]], :HEARD]
        return other_mouth(heard, generator), other_mouth(heard, generator)

    return batch


def build(seed: int) -> CPC:
    """A model before training: the row "random"."""
    torch.manual_seed(seed)
    return CPC(SpectrumEncoder(width=WIDTH, dim=DIM), CONTEXT, AHEAD)


def train(speakers: tuple[int, ...], seed: int, steps: int = STEPS, progress: bool = True) -> CPC:
    """CPC on the recordings of these speakers, without their digits."""
    model, batch = build(seed), batches(speakers)
    fit(model, batch, steps, lr=LR, weight_decay=0.01, seed=seed, every=steps, label="CPC", progress=progress)
    return model


def read(what: str, x: Tensor, model: nn.Module | None = None) -> Tensor:
    """One vector for each recording. (N, READ, F) -> (N, PARTS D)"""
    if model is None:
        return segment_means(mfcc(x) if what == "MFCC" else x, frames_of(x), PARTS)
    with torch.no_grad(), evaluating(Utterance(model, PARTS)) as reader:
        return torch.cat([reader(part) for part in x.split(500)])


def measure(row: str, seed: int, steps: int = STEPS) -> dict[str, list[str]]:
    """One row of the table with one seed, each speaker held out in turn; `steps` of CPC, where there are any.

    Returns:
        "digit": for each held-out speaker, which of 500 recordings a linear head on frozen vectors names rightly, a
        string of 0 and 1; "tuned": the same after fine-tuning, of "random" and "CPC" (empty otherwise), so that
        "random" is supervised training from scratch; "speaker": the five others told apart on takes no head saw.
    """
    _check.choice("row", row, ROWS)
    x, digit, speaker, take = _digits()
    model = {"random": lambda: build(seed), "CPC": lambda: train(EVERYBODY, seed, steps, False)}.get(
        row, lambda: None
    )()
    found: dict[str, list[str]] = {"digit": [], "tuned": [], "speaker": []}
    for held in EVERYBODY:
        if row == "CPC, five speakers":
            model = train(tuple(s for s in EVERYBODY if s != held), seed, steps, False)
        v = read(row, x, model)
        others, hers = speaker != held, speaker == held
        found["digit"].append(_hits(v[others], digit[others], v[hers], digit[hers]))
        fresh = take < 5  # the official test split
        some = others & ~fresh, others & fresh
        found["speaker"].append(_hits(v[some[0]], speaker[some[0]], v[some[1]], speaker[some[1]]))
        if model is not None and row in ("random", "CPC"):
            tune = {**TUNE, "seed": seed, "progress": False}
            said = finetune(Utterance(model, PARTS), x[others], digit[others], x[hers], **tune)  # type: ignore[arg-type]
            found["tuned"].append(_written(said == digit[hers]))
    return found


def _hits(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> str:
    """Which test examples logistic regression on standardised features names rightly."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000)).fit(x.numpy(), y.numpy())
    return _written(torch.from_numpy(probe.predict(x_test.numpy())) == y_test)


def _written(hits: Tensor) -> str:
    return "".join("1" if hit else "0" for hit in hits.tolist())


def shares(strings: list[str]) -> list[float]:
    """The share of 1 in each."""
    return [s.count("1") / len(s) for s in strings]


SEEDS = {"log-mel": 1, "MFCC": 1, "random": 3, "CPC": 3, "CPC, five speakers": 1}
STUDY = Study("cpc-digits", measure)


def settings(row: str, seed: int) -> dict[str, Any]:
    return {"row": row, "seed": seed, "steps": STEPS if "CPC" in row else 0}


TABLE = Rows(STUDY, SEEDS, settings)

if __name__ == "__main__":
    TABLE.complete("cpc.digits", __doc__)
