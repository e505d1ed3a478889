"""Every public function refuses wrong arguments with a ValueError, whatever is wrong, and none is left out."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.surface import ELSEWHERE, cases, public

CASES = cases()
ANY_ROWS = {"mi_lower_bound": {"loss"}, "interval": {"values"}}  # of any type that counts


def wrong_tensors(x: Tensor) -> dict[str, object]:
    wrong: dict[str, object] = {"a list": x.tolist(), "None": None, "a string": "x", "a number": 1.5}
    wrong["an array"] = x.numpy()
    wrong["empty"] = x[:0]
    wrong["one dimension more"] = x[None]
    wrong["a single number"] = x.flatten()[0]
    wrong["complex"] = torch.complex(x.float(), x.float())
    if x.is_floating_point():
        wrong["whole numbers"] = x.long()
        wrong["bool"] = x > 0
        for name, value in (("NaN", math.nan), ("infinite", math.inf)):
            wrong[name] = x.clone()
            wrong[name].view(-1)[-1] = value
    elif x.dtype != torch.bool:
        wrong["fractions"] = x + 0.5
        wrong["negative"] = x - 100
        wrong["too large"] = x + 1000
    else:
        wrong["fractions"] = x + 0.5
    return wrong


def wrong_values(x: object) -> dict[str, object]:
    if isinstance(x, Tensor):
        return wrong_tensors(x)
    if isinstance(x, torch.Generator):
        return {"None": None, "a seed": 3}
    if isinstance(x, bool):
        return {}
    if isinstance(x, int):
        return {
            "a fraction": 2.5,
            "a string": "3",
            "below 0": -1,
            "a list": [3],
            "a tensor": torch.ones(2),
            "bool": True,
        }
    if isinstance(x, float):
        return {"NaN": math.nan, "infinite": math.inf, "a string": "x", "a list": [1.0], "two": torch.ones(2)}
    if isinstance(x, str):
        return {"a number": 3, "None": None, "unknown": "\0"}
    if isinstance(x, (list, tuple)):
        return {"a number": 3, "empty": type(x)()}
    return {}


# What is right although it looks wrong.
ANY_NUMBERS = {"whole numbers", "bool"}  # read as what they are worth
ANY_CLASSES = {"negative", "too large"}  # a class may have any number
RIGHT = {
    **{(name, "scores"): ANY_NUMBERS for name in ("probe_hits", "probe_accuracy")},
    **{(name, "hits"): ANY_NUMBERS for name in ("group_accuracy", "worst_group", "worst_group_interval")},
    ("visual_gpt_score", "log_p_given_image"): {"one dimension more"},  # of any shape
    ("visual_gpt_score", "log_p"): {"a single number"},
    **{(name, "similarity"): ANY_NUMBERS for name in ("ranks", "retrieval", "accuracy")},
    **{(name, "confidence"): ANY_NUMBERS for name in ("risk_coverage", "aurc")},
    **{("partial_spearman", x): ANY_NUMBERS for x in ("x", "y", "given")},
    **{(name, y): ANY_CLASSES for name in ("linear_probe", "few_shot", "knn") for y in ("y", "y_test")},
    ("linear_predictions", "y"): ANY_CLASSES,
    **{(f"adjust_{name}", "factor"): ANY_NUMBERS for name in ("brightness", "contrast", "saturation")},
    ("adjust_hue", "shift"): {"whole numbers"},
    ("gaussian_blur", "sigma"): {"bool"},
    ("crop", "box"): ANY_NUMBERS,
    ("mae_loss", "mask"): ANY_NUMBERS,
    ("search", "times"): ANY_NUMBERS,
    ("encode", "inputs"): {*ANY_NUMBERS, "one dimension more", "NaN", "infinite"},  # what the encoder makes of them
    ("unit", "x"): {"empty", "NaN", "infinite"},  # the losses, which read what it returns, look at every number
    ("MAE.tokens", "kept"): {"None"},  # the whole picture
    ("MovingScenes.sample", "identity"): {"None"},  # drawn by lot
    ("mfcc", "spectrum"): {"one dimension more"},
    ("with_end", "tokens"): {"too large"},  # neither knows how many words there are
    ("generate", "start"): {"too large"},
    ("hard_negatives", "generator"): {"None"},
    ("caption_mask", "tokens"): {"too large"},
    ("words", "sentence"): {"unknown"},
    ("Tokenizer.unknown", "sentence"): {"unknown"},
    ("NGrams.unknown", "sentence"): {"unknown"},
    ("ngrams", "word"): {"unknown"},
    ("Tokenizer.decode", "tokens"): {"empty"},
}
# Inside a model or a loss, which has looked at every number on its way in.
INNER = {"Block.forward", "gather", "symmetric_info_nce_tiled", "nt_xent_tiled"}
WRONG = [
    (name, argument, what, value)
    for name, case in CASES.items()
    for argument, x in case.given.items()
    if argument not in case.free and argument not in ANY_ROWS.get(name, ())
    for what, value in wrong_values(x).items()
    if name not in INNER and what not in RIGHT.get((name, argument), ())
]


def test_no_public_function_is_missing():
    assert sorted(set(public()) - set(CASES)) == [] and sorted(set(CASES) - set(public())) == []
    assert len(CASES) > 100 and all(ELSEWHERE.values())


@pytest.mark.parametrize("name", CASES)
def test_the_arguments_of_the_table_are_right(name):
    CASES[name]()


@pytest.mark.parametrize("name, argument, what, value", WRONG, ids=[f"{n}-{a}-{w}" for n, a, w, _ in WRONG])
def test_what_is_wrong_is_refused_with_a_value_error(name, argument, what, value):
    with pytest.raises(ValueError, match="expected .*got "):
        CASES[name](**{argument: value})


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if any(type(x) is int for x in c.given.values())])
def test_whole_numbers_of_numpy_count(name):
    CASES[name](**{k: np.int64(x) for k, x in CASES[name].given.items() if type(x) is int})
