r"""What prototypes bring to CLIP on emoji, and what the controls bring, seed by seed.

`python -m minilip.studies.protoclip.emoji` measures what `measured/protoclip.jsonl` and `protoclip-anchors.jsonl` lack:
22 arms on a split by lot and 14 of them on one by families, with five seeds (three where it learns from pixels); and on
both splits what nobody trained. Half a minute each on a core, three minutes from pixels; about an hour and a half.

Every arm sees as many pairs as every other. Source: Chen et al. 2022 (arXiv 2206.10996), claims and method; test bed,
sizes and controls are ours. Lesson 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from scipy.stats import t as student  # comes with scikit-learn
from torch import Tensor

from minilip import _check
from minilip.data.pretrained import label_embeddings
from minilip.evaluation import encode
from minilip.nn import ConvNet
from minilip.studies.protoclip.arms import ARMS, Arm, arms, build, seeds, train
from minilip.studies.protoclip.examination import examine, glance, probe, read, see
from minilip.studies.protoclip.task import RUNS, SEEN, UNSEEN, Task
from minilip.studies.runs import command
from minilip.studies.store import Study

__all__ = [  # what a lesson or a test reads of this study
    "ANCHORS",
    "ARMS",
    "RUNS",
    "SEEN",
    "STUDY",
    "Arm",
    "Task",
    "arms",
    "compare",
    "known",
    "measure",
    "reach",
    "read",
    "see",
    "seeds",
    "train",
]


def majority(y: Tensor, y_test: Tensor) -> float:
    """Accuracy of always naming the class that training has most of."""
    return float((y_test == y.mode().values).float().mean())


def measure(arm: dict[str, Any], split: str, seed: int, part: str = "test") -> dict[str, Any]:
    """Train an arm, `Arm(**arm)`, and examine it.

    Returns:
        what `examine` says; "seconds" of training; "curve": for each number that `glance` saw, and for the seconds, a
        list of [step, value].
    """
    chosen = Arm(**arm)
    task = Task(split, seed, chosen.images, chosen.opaque, part)
    curve: dict[str, list[list[float]]] = {}

    def note(step: int, seen: dict[str, float]) -> None:
        for name, value in seen.items():
            curve.setdefault(name, []).append([step, round(value, 4)])

    note(0, glance(build(chosen, task, seed), task))
    model, history = train(chosen, task, seed)
    for step, seconds, seen in history.watched:
        note(step, {"seconds": seconds, **seen})
    result = {name: round(value, 5) for name, value in examine(model, task).items()}
    return {**result, "seconds": round(history.seconds[-1], 2), "curve": curve}


def anchors(split: str, seed: int, part: str = "test") -> dict[str, Any]:
    """The group probe of what nobody trained here: raw features, random networks, MiniLM on labels, the majority."""
    out: dict[str, Any] = {}
    for images in ("trained", "untrained", "pixels"):
        task = Task(split, seed, images, part=part)
        y = task.group

        def features(artists: Sequence[int], concepts: Tensor, task: Task = task) -> tuple[Tensor, Tensor]:
            x, c = task.pictures(artists, concepts)
            if task.x.dim() > 3:  # a random ConvNet that knows the pictures' mean and variance
                torch.manual_seed(seed)
                tower = ConvNet().train()
                tower(task.pictures(SEEN, task.train)[0][::4])
                x = encode(tower.eval(), x)
            return x, task.group[c]

        tests = {f"held, {name}": features(a, task.held) for name, a in (("seen", SEEN), ("unseen", [UNSEEN]))}
        out[images] = probe(*features(SEEN, task.train), tests)
    words = label_embeddings()
    out["MiniLM"] = probe(words[task.train], y[task.train], {"held": (words[task.held], y[task.held])})
    out["majority"] = majority(y[task.train], y[task.held])
    return out


# ---- what is measured ------------------------------------------------------------------------------------------------

STUDY, ANCHORS = Study("protoclip", measure), Study("protoclip-anchors", anchors)
ANCHOR_SEEDS = range(5)


def settings(name: str, split: str, seed: int) -> dict[str, Any]:
    """Of an arm, what differs from plain CLIP."""
    plain = Arm()._asdict()
    arm = {field: value for field, value in ARMS[name]._asdict().items() if value != plain[field]}
    return {"arm": arm, "split": split, "seed": seed}


def plan(split: str) -> list[tuple[str, int]]:
    """The arms and seeds that are measured on a split."""
    return [(name, seed) for name in arms(split) for seed in seeds(name)]


def known() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What has been measured with this code: {split: {name of an arm, or "anchors": [a result for each seed]}}.

    Raises:
        LookupError: entries are missing, as they are after a change of the code.
    """
    rows = [(split, name, seed) for split in RUNS for name, seed in plan(split)]
    results = STUDY.recall([settings(name, split, seed) for split, name, seed in rows])
    found: dict[str, dict[str, list[dict[str, Any]]]] = {split: {} for split in RUNS}
    for (split, name, _), result in zip(rows, results, strict=True):
        found[split].setdefault(name, []).append(result)
    for split in RUNS:
        found[split]["anchors"] = ANCHORS.recall([{"split": split, "seed": seed} for seed in ANCHOR_SEEDS])
    return found


def compare(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """The mean of a - b over runs with the same seeds, and its 95 % interval by Student's t: (mean, low, high)."""
    if len(a) != len(b) or len(a) < 2:
        _check.fail("a and b", "results of the same two seeds or more", f"{len(a)} and {len(b)}")
    d = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)  # (seeds,)
    mean, half = float(d.mean()), float(d.std() / len(d) ** 0.5 * student.ppf(0.975, len(d) - 1))
    return mean, mean - half, mean + half


def reach(curve: list[list[float]], score: float) -> float:
    """The first step of a curve at which it is at least `score`; infinity if it never is."""
    return next((step for step, value in curve if value >= score), float("inf"))


def main() -> None:
    parser = command("protoclip.emoji", __doc__)
    parser.add_argument("--splits", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--arms", nargs="+", metavar="ARM", choices=[*ARMS, "anchors"], default=[*ARMS, "anchors"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if "anchors" in chosen.arms:
        ANCHORS.complete({"split": split, "seed": seed} for split, seed in product(chosen.splits, ANCHOR_SEEDS))
    STUDY.complete(
        settings(name, split, seed) for split in chosen.splits for name, seed in plan(split) if name in chosen.arms
    )


if __name__ == "__main__":
    main()
