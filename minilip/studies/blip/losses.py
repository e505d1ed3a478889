r"""Which of BLIP's three losses does what: each taken away in turn, on scenes of two objects.

Letters: B batch, N scenes.

All arms of a seed start from the same eye, which has had 300 steps under labels of single objects, and see the same
batches. Examined are fresh scenes that no training saw: colour and shape of both objects and their relation in the
captions, the matcher against captions that are wrong in one thing, retrieval by each head and by both. Settings were
chosen on the part "val" with one seed: the eye (from random weights the captioner had learned no shape after 600
steps), the twins of a batch (without them the matcher had learned no relation after 600 steps), the learning rate.
`python -m minilip.studies.blip.losses` measures what `measured/blip.jsonl` lacks.

Source: Li et al. 2022 (arXiv 2201.12086); test bed, sizes and controls are ours. Lesson 09.
"""

from typing import Any, NamedTuple

from minilip.blip import BLIP
from minilip.studies.blip.examination import examine
from minilip.studies.blip.task import LR, batch, start
from minilip.studies.runs import Arms
from minilip.studies.store import Study
from minilip.training import History, fit

STEPS = 900


class Arm(NamedTuple):
    """What is trained: weights of contrast, match and describe; steps under labels before."""

    itc: float = 1.0
    itm: float = 1.0
    lm: float = 1.0
    steps: int = STEPS
    warm: int = 300


def train(arm: Arm, seed: int, progress: bool = True) -> tuple[BLIP, History]:
    """One arm with one seed."""
    model = start(seed, (arm.itc, arm.itm, arm.lm), arm.warm)
    return model, fit(model, batch, arm.steps, lr=LR, seed=seed, label=f"BLIP, seed {seed}", progress=progress)


def measure(arm: dict[str, Any], seed: int, part: str = "test") -> dict[str, Any]:
    """Train an arm, `Arm(**arm)`, and examine it.

    Returns:
        what `examine` finds; "loss": the mean of each loss over every tenth of the steps; "seconds" of training.
    """
    model, history = train(Arm(**arm), seed)
    tenth = max(1, len(history.loss) // 10)
    curves = {
        name: [round(sum(x[i : i + tenth]) / len(x[i : i + tenth]), 4) for i in range(0, len(x), tenth)]
        for name, x in history.metrics.items()
    }
    return {**examine(model, part), "loss": curves, "seconds": round(history.seconds[-1], 1)}


ARMS = {
    "ITC": Arm(itm=0.0, lm=0.0),
    "ITC + ITM": Arm(lm=0.0),
    "ITC + LM": Arm(itm=0.0),
    "ITC + ITM + LM": Arm(),
    "all, longer": Arm(steps=1500),
}
STUDY = Study("blip", measure)
RUNS = Arms(STUDY, ARMS, range(3))
settings, known = RUNS.settings, RUNS.known


def main() -> None:
    RUNS.complete("blip.losses", __doc__)


if __name__ == "__main__":
    main()
