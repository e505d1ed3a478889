"""The mistakes that the checks recognise, all of them, by the idea behind them.

A mistake in a function belongs to the first idea that its name speaks of, else to the first that its message speaks
of, else to the last, so that none is missing, whatever lessons are added. A wrong prediction is of a kind of its own.
"""

import re
from dataclasses import dataclass, field

from minilip.course.checks import Prediction, catalogue


@dataclass(frozen=True)
class Idea:
    title: str
    says: str
    pattern: str  # of the names that speak of it
    messages: bool = True  # whether a message with these words does too


EXPECTED = Idea(
    "Expectations that do not come true",
    "Asked to predict, before the cell runs: what one may well expect, and what speaks against it.",
    r"",
)
LAST = Idea(
    "What one exercise alone is about",
    "Mistakes that belong to one definition and come up nowhere else.",
    r"",
)
IDEAS = (
    Idea(
        "Gradients: where they flow and where they stop",
        "A target that is held still gets no gradient, a learned scale gets one, and the chain rule leaves a factor "
        "behind.",
        r"gradient|detach|derivative|chain rule|ascent|no slope|held still|cut off|frozen",
    ),
    Idea(
        "Temperature and scale",
        "Scores are divided by a temperature, every one of them and once. A low temperature makes a choice sharper. "
        "A logit scale is its inverse, and a network learns its logarithm.",
        r"temperature|logit.?scale|\btau\b|\bscale\b",
    ),
    Idea(
        "Units: nats, bits, radians, shares",
        "The course counts information in nats and angles in radians. A number in another unit is right and fits "
        "nothing that is compared with it.",
        r"\bbits?\b|\bnats?\b|log2|degrees|\bturns\b|per ?cent|radians",
    ),
    Idea(
        "Logarithms, exponentials, softmax",
        "A softmax takes logits, a cross-entropy takes logits too, and a logarithm of a sum is no sum of logarithms. "
        "Say of each number whether it is a logarithm before you pass it on.",
        r"softmax|logarithm|\blog(its?|s)?\b|exponential|\bexp\b|cross.entropy|sigmoid|probabilit",
    ),
    Idea(
        "Who chooses among whom",
        "A table of scores has two directions. Along rows one side chooses, down columns the other, and a symmetric "
        "loss has both.",
        r"direction|\brows?\b|columns?|transposed?|\bboth\b|\baxis\b|choose|competes?|one side|other side|across",
    ),
    Idea(
        "The positive, the negatives, the labels",
        "A question has one right answer and several impostors. Who counts among the candidates, and who is told to be "
        "right?",
        r"positives?|negatives?|impostors?|candidates?|\blabels?\b|\btargets?\b|diagonal|\bpairs?\b|partner|counterpart",
    ),
    Idea(
        "Means and sums",
        "Sum or mean, over what, and divided by how many? A loss that grows with the batch changes the learning rate "
        "with it.",
        r"\bmeans?\b|\bsums?\b|summed|averag|divided|\bcounts?\b|batch|times too|too often|total",
    ),
    Idea(
        "Variances, standard deviations, samples",
        "A Gaussian has a mean and a variance; a network says the logarithm of the variance; noise is multiplied by "
        "its root.",
        r"varianc|deviation|logvar|\bnoise\b|samples?|\bprior\b|gaussian|\bwid(th|er|est)\b",
    ),
    Idea(
        "Lengths, norms, directions",
        "Cosine, product and distance are three things. A length is a root; where a loss takes vectors as they are, "
        "the model makes them unit vectors.",
        r"normalis|\blengths?\b|\bnorms?\b|\bunit\b|cosine|distance|squared?s?\b|\broot\b|orthonormal|centred",
    ),
    Idea(
        "Signs and orders",
        "A loss falls, a gradient points upwards, chosen minus true, and $XY$ is not $YX$.",
        r"\bsign|\bminus\b|negated|ascent|turned|upside|backwards|order|swapped|exchanged|revers|clockwise|wrong way"
        r"|outwards|transpos|the other way|inverse",
    ),
    Idea(
        "Matrices are not tables of numbers",
        "A product of matrices, a power, an exponential are not those of the entries.",
        r"\bentry\b|entries|matri|product|eigen|identity|generator|\bseries\b|symmetric|skew|\bbasis\b|subspace|project",
    ),
    Idea(
        "Ranks, ties, thresholds",
        "Where order decides, equal numbers need a rule, and the place of a thing is not the thing at the place.",
        r"\branks?\b|sorted|argsort|\bties?\b|threshold|\bplaces?\b|index|nearest|largest|smallest|first|\btop\b|argm",
        messages=False,
    ),
    Idea(
        "Something left out, or put in twice",
        "Every term of the formula is there for something; the lesson says for what.",
        r"left out|forgotten|missing|\bonly\b|alone|ignored|dropped|twice|doubled|halved|half|added|no |not |without"
        r"|too (many|few)|one more|off by|instead|for all",
        messages=False,
    ),
    EXPECTED,
    LAST,
)


@dataclass
class Mistake:
    name: str
    message: str
    exercises: list[str] = field(default_factory=list)  # "clip.clip_loss", those that know it


def idea(name: str, message: str) -> Idea:
    for one in IDEAS[:-2]:
        if re.search(one.pattern, name, re.I):
            return one
    said = (one for one in IDEAS[:-2] if one.messages and re.search(one.pattern, message, re.I))
    return next(said, LAST)


def mistakes() -> dict[str, list[Mistake]]:
    """Title of an idea -> its mistakes by name. What several exercises say in the same words stands once."""
    found: dict[tuple[str, str, str], Mistake] = {}
    for exercise, (_, known) in catalogue().items():
        for one in known.misconceptions:
            title = (EXPECTED if isinstance(known, Prediction) else idea(one.name, one.message)).title
            mistake = found.setdefault((title, one.name, one.message), Mistake(one.name, one.message))
            mistake.exercises.append(exercise)
    grouped: dict[str, list[Mistake]] = {one.title: [] for one in IDEAS}
    for (title, _, _), mistake in found.items():
        grouped[title].append(mistake)
    return {title: sorted(each, key=lambda m: m.name.lower()) for title, each in grouped.items() if each}
