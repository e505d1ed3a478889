r"""Does a representation learned from some turned drawings know the others when they turn? The protocol, with controls.

A base (MAE, VICReg, SimCLR) is trained on the poses that training shows, alone or with the Lie operator on pairs of
poses of one drawing, or with the operator replaced by something that cannot be a rotation; then it is read.

`python -m minilip.studies.lie.robustness` measures what `measured/robustness.jsonl` lacks of 63 entries: three bases
under their controls with three seeds, one to three minutes each on a core, about two hours in all.

Letters: C concepts. Source: Ibrahim, Bouchacourt and Morcos 2022, of which the code is not public. Lesson 06.
"""

from __future__ import annotations

from itertools import product
from typing import Any, TypedDict

import torch
from torch import Tensor

from minilip.data.poses import PosedEmoji
from minilip.studies.lie.learners import BASES, Learner, controls, inferred, pairs, shuffled
from minilip.studies.lie.readers import angle_error, embed, examinations, follow, read
from minilip.studies.runs import command
from minilip.studies.store import Study
from minilip.training import fit

STEPS, TUNE, SEEDS = 350, 150, (0, 1, 2)


Result = TypedDict(
    "Result",
    {
        "hits": dict[str, dict[str, str]],  # reader -> cell -> `counts` of the pictures named right
        "examined": dict[str, str],  # cell -> `counts` of the pictures
        "pose share": float,  # share of the features' variance that is pose
        "angle error": float,  # see `angle_error`
        "r": float | None,  # |correlation| of t with the angle over pairs of unknown drawings; None unless inferred
        "gaps": list[list[float]],  # per coordinate |g z - z^g|^2 and |z - z^g|^2 along the training, or empty
        "seconds": float,  # of training
    },
)


def measure(base: str, control: str, seed: int, steps: int, tune: int, split: str = "test") -> Result:
    """Train one entry and examine it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = PosedEmoji(split, seed=seed)
    torch.manual_seed(seed)
    learner = Learner(base, control).to(device)
    history = fit(
        learner, pairs(data, 128, device), steps, weight_decay=0.0, seed=seed, label=f"{base}, {control}, {seed}"
    )
    tower = learner.tower.eval()
    right, examined = read(tower, data, seed, tune), examinations(data)
    z = embed(tower, data)  # (N, T, D)
    gaps = [history.metrics.get(name, []) for name in ("gap with operator", "gap without")]
    return {
        "hits": {
            reader: {cell: counts(data, examined[cell][0], hit) for cell, hit in by.items()}
            for reader, by in right.items()
        },
        "examined": {cell: counts(data, rows, torch.ones(len(rows))) for cell, (rows, _) in examined.items()},
        "pose share": float((z - z.mean(1, keepdim=True)).square().mean() / (z - z.mean((0, 1))).square().mean()),
        "angle error": angle_error(z, data),
        "r": follow(learner.operator, z, data)[2] if learner.control.t in (inferred, shuffled) else None,
        "gaps": [[round(sum(part) / len(part), 4) for part in _tenths(gap)] for gap in gaps],
        "seconds": round(history.seconds[-1], 1),
    }


# ---- counts of pictures ----------------------------------------------------------------------------------------------

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # at most 3 x 8 pictures of a concept are examined


def counts(data: PosedEmoji, rows: Tensor, hits: Tensor) -> str:
    """How many of the pictures in these rows are hits, for each concept: one digit of DIGITS. -> C characters"""
    numbers = torch.zeros(len(data.labels), dtype=torch.int64).index_add_(0, data.concept[rows], hits.long())  # (C,)
    return "".join(DIGITS[n] for n in numbers.tolist())


def decode(text: str) -> Tensor:
    """What `counts` has written. -> (C,) int64"""
    return torch.tensor([DIGITS.index(digit) for digit in text])


def shares(result: Result) -> dict[str, object]:
    """A result with the share of right answers in place of counts."""
    examined = {cell: int(decode(text).sum()) for cell, text in result["examined"].items()}
    hits = {
        reader: {cell: int(decode(text).sum()) / examined[cell] for cell, text in by.items()}
        for reader, by in result["hits"].items()
    }
    return {**result, "hits": hits, "examined": examined}


def _tenths(values: list[float]) -> list[list[float]]:
    step = max(1, len(values) // 35)
    return [values[i : i + step] for i in range(0, len(values), step)]


STUDY = Study("robustness", measure, shares)


def settings(base: str, control: str, seed: int) -> dict[str, Any]:
    return {"base": base, "control": control, "seed": seed, "steps": STEPS, "tune": TUNE}


def known() -> dict[tuple[str, str, int], Result]:
    """What has been measured with this code: {(base, control, seed): a result}.

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    every = [(base, control, seed) for seed in SEEDS for base in BASES for control in controls(base)]
    return dict(zip(every, STUDY.recall([settings(*entry) for entry in every]), strict=True))


def main() -> None:
    parser = command("lie.robustness", __doc__)
    parser.add_argument("--bases", nargs="+", choices=BASES, default=list(BASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    chosen = parser.parse_args()
    every = product(chosen.seeds, chosen.bases)
    STUDY.complete(settings(base, control, seed) for seed, base in every for control in controls(base))


if __name__ == "__main__":
    main()
