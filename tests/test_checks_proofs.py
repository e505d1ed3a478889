"""Checks that never lie: extreme inputs, gradients of numbers, two slips at once, odd attempts, and the proofs."""

import dataclasses
import io
import math
import random
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from minilip.course.checks import Exercise, Misconception, Prediction, both, judge, prove
from minilip.course.checks import _slips as slips
from minilip.course.checks.__main__ import main
from minilip.course.checks._mutate import survivors

# ---- a sample exercise: the free energy of each row, tau log sum exp(x / tau) ----------------------------------------


def energy(scores: Tensor, temperature: float) -> Tensor:
    return temperature * torch.logsumexp(scores / temperature, dim=1)  # (B,)


def loop(scores, temperature):
    return torch.stack([temperature * torch.stack([s / temperature for s in row]).logsumexp(0) for row in scores])


def naive(scores, temperature):
    return temperature * (scores / temperature).exp().sum(1).log()


def one_maximum(scores, temperature):
    return scores.max() + naive(scores - scores.max(), temperature)


ENERGY = Exercise(
    library=energy,
    reference=loop,
    inputs=lambda g: [(torch.randn(b, k, generator=g), t) for b, k, t in ((5, 3, 0.5), (2, 4, 1.7), (4, 4, 3.0))],
    extreme=lambda g: [(torch.randn(3, 4, generator=g) + torch.tensor([[100.0], [-100.0], [0.0]]), 0.9)],
    stability="Some function never forms the large number.",
    gradients=("scores", "temperature"),
    right=(lambda s, t: s.amax(1) + naive(s - s.amax(1, keepdim=True), t),),
    naive=(naive, one_maximum),
    hints=("Which function?", "logsumexp.", "temperature * logsumexp(scores / temperature)."),
    misconceptions=(
        Misconception("multiplies by the temperature", slips.inverted(1), "A low temperature gives the maximum."),
        Misconception("sign turned", slips.negated, "Your energy falls.", says=lambda e, s, t: (e < s.amax(1)).any()),
        Misconception("over the columns", lambda s, t: energy(s.T, t), "One number a row."),
    ),
)


def replace(**changes):
    return dataclasses.replace(ENERGY, **changes)


def wrong(exercise):
    return [(a.proof, a.what) for a in prove(exercise) if a.wrong]


def test_the_sample_exercise_is_proven():
    assert not [a for a in prove(ENERGY) if a.wrong]
    assert {a.proof for a in prove(ENERGY)} == {"naive", "right", "cut", "in place", "named"}


# ---- extreme inputs come last ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", [naive, one_maximum])
def test_an_unstable_answer_is_told_so(attempt):
    report = judge(ENERGY, attempt)
    assert report.mistake == "wrong on extreme numbers" and report.message.startswith("Right on ordinary numbers, but")
    assert ENERGY.stability in report.message and "not finite" in report.message


def test_a_wrong_formula_gets_its_name_however_unstable():
    assert judge(ENERGY, lambda s, t: -naive(s, t)).mistake == "sign turned"
    assert judge(ENERGY, lambda s, t: (s * t).exp().sum(1).log() / t).mistake == "multiplies by the temperature"


def test_an_error_on_extreme_inputs_only_is_shown_with_what_it_says():
    def cautious(scores, temperature):
        if scores.abs().max() > 50:
            raise OverflowError("too large")
        return energy(scores, temperature)

    report = judge(ENERGY, cautious)
    assert "Right on ordinary numbers" in report.message and "OverflowError: too large" in report.message


def test_an_unstable_gradient_is_found():
    def root(x):
        return torch.linalg.vector_norm(x, dim=1).square()

    exercise = Exercise(
        root,
        root,
        lambda g: [(torch.randn(3, 2, generator=g),)],
        ("a", "b", "c"),
        (),
        ("x",),
        extreme=lambda g: [(torch.zeros(2, 4),)],
    )
    report = judge(exercise, lambda x: x.square().sum(1).sqrt().square())
    assert (
        report.mistake == "wrong on extreme numbers" and "gradient with respect to `x` is not finite" in report.message
    )


# ---- numbers that learn ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cut", [float, lambda t: t.detach() if isinstance(t, Tensor) else t, lambda t: torch.as_tensor(t).item()]
)
def test_the_gradient_of_a_number_is_compared(cut):
    report = judge(ENERGY, lambda s, t: energy(s, cut(t)))
    assert report.mistake == "detached" and "`temperature`" in report.message and "`scores`" not in report.message


def test_a_number_is_passed_with_and_without_dimensions():
    seen = set()

    def attempt(scores, temperature):
        if isinstance(temperature, Tensor):
            assert temperature.requires_grad
            seen.add(tuple(temperature.shape))
        return energy(scores, temperature)

    assert judge(ENERGY, attempt).status == "PASS" and seen == {(), (1,)}


def test_what_goes_wrong_only_when_arguments_learn_is_told():
    report = judge(ENERGY, lambda s, t: energy(s, t) if isinstance(t, float) else s.numpy())
    assert report.status == "FAIL" and "`scores` and `temperature` can learn" in report.message
    report = judge(ENERGY, lambda s, t: energy(s, t) * (1 if isinstance(t, float) else 2))
    assert report.status == "FAIL" and "another one comes" in report.message


def test_a_flat_step_is_no_cut_graph():
    flat = dataclasses.replace(ENERGY, extreme=None, gradients=("temperature",), misconceptions=())
    report = judge(flat, lambda s, t: energy(s, float(t)) + 0 * torch.as_tensor(t))
    assert report.mistake is None and "is 0" in report.message


# ---- in place --------------------------------------------------------------------------------------------------------


def test_a_change_in_place_is_seen_even_where_it_leaves_the_numbers():
    def touches(scores, temperature):
        scores.clamp_(min=-1e9)
        return energy(scores, temperature)

    def learns(scores, temperature):
        if isinstance(temperature, Tensor):
            temperature.clamp_(min=1e-3)
        return energy(scores, temperature)

    for attempt, name in ((touches, "scores"), (learns, "temperature")):
        report = judge(ENERGY, attempt)
        assert report.mistake == "changes its input in place" and f"`{name}`" in report.message
        assert "leaf" not in report.message


def test_a_wrong_result_and_a_change_in_place_are_both_told():
    def attempt(scores, temperature):
        scores += 1
        return energy(scores, temperature).sin()

    assert "It also changes `scores` in place" in judge(ENERGY, attempt).message


# ---- two slips at once -----------------------------------------------------------------------------------------------


def test_two_slips_at_once_are_recognised():
    report = judge(ENERGY, lambda s, t: -energy(s, 1 / t))
    assert report.mistake == "multiplies by the temperature, and sign turned"
    assert report.message.startswith("Two slips at once: multiplies by the temperature; sign turned.")


def test_a_pair_may_be_declared():
    columns, scaled = ENERGY.misconceptions[2], Misconception("scaled", lambda s, t: energy(s / t, t), "Divided twice.")
    pair = both(columns, scaled, lambda s, t: energy(s.T / t, t))
    exercise = replace(misconceptions=(columns, scaled, pair))
    assert judge(exercise, lambda s, t: energy((s / t).T, t)).mistake == "over the columns, and scaled"


# ---- evidence --------------------------------------------------------------------------------------------------------


def test_the_smallest_input_is_shown_with_its_numbers():
    lines = judge(ENERGY, lambda s, t: energy(s, t).sin()).message.splitlines()
    assert lines[1].startswith("  input    scores [[") and "temperature 1.7" in lines[1]
    assert [line.split()[0] for line in lines[2:]] == ["expected", "got", "largest"]


def test_equal_looking_numbers_come_with_their_difference():
    total = replace(library=lambda s, t: energy(s, t).sum(), reference=lambda s, t: loop(s, t).sum(), gradients=())
    message = judge(total, lambda s, t: energy(s, t).sum() * 1.0003).message
    assert "difference" in message.splitlines()[-1]


def test_what_is_said_of_the_arguments_holds():
    report = judge(ENERGY, lambda s, t: energy(s, t) * 2)
    assert "Yours is the expected result times 2." in report.message


def test_the_order_of_the_keys_does_not_matter():
    def sizes(x):
        return {"rows": x.sum(1), "columns": x.sum(0)}

    exercise = Exercise(
        sizes, sizes, lambda g: [(torch.randn(2, 3, generator=g),)], ("a", "b", "c"), (), gradients=("x",)
    )
    assert judge(exercise, lambda x: {"columns": x.sum(0), "rows": x.sum(1)}).status == "PASS"
    assert judge(exercise, lambda x: {"columns": x.sum(0)}).status == "FAIL"


def test_a_rounding_of_float32_is_no_mistake():
    exercise = Exercise(
        lambda n: sum(1 / k for k in range(1, n + 1)),
        lambda n: sum(1 / k for k in range(1, n + 1)),
        lambda _: [(10,), (5000,)],
        ("a", "b", "c"),
        (),
        tolerance=1e-9,
    )
    assert judge(exercise, lambda n: (1 / torch.arange(1, n + 1)).flip(0).cumsum(0)[-1].item()).status == "PASS"


def test_numbers_that_cancel_are_given_their_slack():
    exact = Exercise(
        lambda x: 0 * x.sum(), lambda x: 0 * x.sum(), lambda g: [(torch.randn(64, generator=g),)], ("a", "b", "c"), ()
    )

    def cancelling(x):
        return ((1000 + x) - 1000 - x).sum()

    assert judge(exact, cancelling).status == "FAIL"
    assert judge(dataclasses.replace(exact, scale=lambda x: 1000), cancelling).status == "PASS"


# ---- attempts that are hard to hold ----------------------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Odd:
    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None

    def __repr__(self):
        raise RuntimeError("no words")


def raising(error):
    def attempt(*_):
        raise error

    return attempt


def recursion(*args):
    return recursion(*args)


ODD = {
    "sparse": lambda s, t: energy(s, t).detach().round().to_sparse(),
    "meta": lambda s, t: torch.empty(len(s), device="meta"),
    "whole": lambda s, t: 10**400,
    "many whole": lambda s, t: [10**30] * len(s),
    "complex": lambda s, t: energy(s, t).to(torch.complex64),
    "one complex": lambda s, t: torch.tensor(1j),
    "quantised": lambda s, t: torch.quantize_per_tensor(energy(s, t).detach(), 0.1, 0, torch.qint8),
    "unprintable": raising(Unprintable()),
    "group": raising(Unprintable("a", Unprintable())),
    "odd": lambda s, t: Odd(),
    "list of odd": lambda s, t: [Odd() for _ in s],
    "generator": lambda s, t: (x for x in energy(s, t)),
    "set": lambda s, t: {1, 2},
    "string": lambda s, t: "energy",
    "bytes": lambda s, t: b"energy",
    "ragged": lambda s, t: [[1.0], [1.0, 2.0]],
    "object array": lambda s, t: np.array([None, "x"], dtype=object),
    "class": lambda s, t: Exercise,
    "nested": lambda s, t: [[[]]],
    "recursion": recursion,
    "exit": lambda s, t: sys.exit(0),
    "builtin exit": raising(SystemExit("bye")),
    "generator exit": raising(GeneratorExit()),
    "input": lambda s, t: input("temperature? "),
    "warning": lambda s, t: warnings.warn("careful", stacklevel=1),
    "wrong arguments": lambda: 0,
    "not a function of numbers": print,
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_attempt_gets_a_verdict(name, capsys):
    for exercise in (ENERGY, replace(gradients=()), replace(gradients=(), view=lambda e, s, t: e * 2)):
        report = judge(exercise, ODD[name])
        assert report.status == "FAIL" and report.message and report.use is energy


@pytest.mark.parametrize("value", [Odd(), 10**60, torch.empty(2, device="meta"), {1: Odd()}, 1j, b"x", object])
def test_an_odd_prediction_gets_a_verdict(value):
    assert judge(Prediction(0.5, ("a", "b", "c"), (Misconception("half", 2.0, "Twice."),)), value).status == "FAIL"


def test_a_sparse_right_answer_passes():
    exercise = Exercise(
        torch.diag, lambda x: torch.diag(x), lambda g: [(torch.randn(3, generator=g),)], ("a", "b", "c"), ()
    )
    assert judge(exercise, lambda x: torch.diag(x).to_sparse()).status == "PASS"


def test_stopping_by_hand_is_not_caught():
    with pytest.raises(KeyboardInterrupt):
        judge(ENERGY, raising(KeyboardInterrupt()))


def test_what_an_attempt_prints_is_limited(capsys):
    def talks(scores, temperature):
        for _ in range(1000):
            print("x" * 1000)
            print("y" * 1000, file=sys.stderr)
        return energy(scores, temperature)

    assert judge(ENERGY, talks).status == "PASS"
    out, err = capsys.readouterr()
    assert 0 < len(out) < 3000 and not err and "not shown" in out
    assert judge(ENERGY, lambda s, t: print("debug") or energy(s, t)).status == "PASS"
    assert "debug" in capsys.readouterr().out


def test_global_state_is_put_back():
    def state():
        draws = torch.rand(2).tolist(), np.random.rand(), random.random()
        options = str(vars(torch._tensor_str.PRINT_OPTS))
        return (draws, torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), options,
                torch.are_deterministic_algorithms_enabled(), input, sys.stdout)  # fmt: skip

    def meddles(scores, temperature):
        torch.set_default_dtype(torch.double)
        torch.manual_seed(7)
        np.random.seed(7)
        random.seed(7)
        torch.set_grad_enabled(False)
        torch.set_num_threads(3)
        torch.set_printoptions(precision=1)
        torch.use_deterministic_algorithms(True)
        sys.stdout = io.StringIO()
        return energy(scores, temperature)

    def seed():
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)

    seed()
    before = state()
    seed()
    assert judge(ENERGY, meddles).mistake == "detached"
    assert state() == before


# ---- the proofs find what they are for -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"naive": ()}, ("naive", "none")),
        ({"naive": (energy,)}, ("naive", "naive 0")),
        ({"extreme": None}, ("naive", "naive 0")),
        ({"library": naive}, ("right", "library, as it is")),
        ({"right": (naive,)}, ("right", "right 0, as it is")),
        ({"reference": lambda scores, temperature: loop(scores, float(temperature))}, ("cut", "temperature")),
        ({"hints": ("one", "one", "two")}, ("named", "its texts")),
        ({"misconceptions": (Misconception("none", energy, "Nothing is wrong."),)}, ("named", "none")),
        (
            {"misconceptions": (*ENERGY.misconceptions, Misconception("again", lambda s, t: -energy(s, t), "Same."))},
            ("named", "again"),
        ),
        (
            {"misconceptions": (Misconception("sign", slips.negated, "Positive.", says=lambda e, *_: (e > 0).all()),)},
            ("named", "sign: what it says"),
        ),
    ],
)
def test_a_weak_exercise_is_found_out(changes, found):
    assert found in wrong(replace(**changes))


def test_a_wrong_answer_of_a_prediction_is_found_out():
    hidden = Prediction(1.0, ("a", "b", "c"), (Misconception("near", 1.001, "Too near."),))
    assert ("named", "near") in wrong(hidden)


def test_a_mutant_that_inputs_cannot_tell_is_listed():
    def mean_distance(x, y):
        return (x - y).abs().sum(dim=1).mean()

    def exercise(y):
        return Exercise(
            mean_distance, mean_distance, lambda g: [(torch.rand(3, 2, generator=g) + 1, y)], ("a", "b", "c"), ()
        )

    made, weak = survivors(exercise(torch.zeros(3, 2)))
    assert made > 10 and any("x - y -> x + y" in s.where for s in weak)
    _, strong = survivors(exercise(torch.ones(3, 2) / 3))
    assert not any("x - y -> x + y" in s.where for s in strong)


def test_the_table_counts_attempts_and_wrong_verdicts(capsys):
    assert main(["clip.first_step"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 exercises, 4 attempts, 0 wrong verdicts"


def test_the_makers_do_what_they_say():
    def f(a, b):
        return a - 2 * b

    x, y = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.5])
    for slip, expected in (
        (slips.negated, -f(x, y)),
        (slips.percent, 100 * f(x, y)),
        (slips.in_bits, f(x, y) / math.log(2)),
        (slips.per_batch, 2 * f(x, y)),
        (slips.averaged, f(x, y) / 2),
        (slips.times(lambda a, b: b), f(x, y) * y),
        (slips.plus(1), f(x, y) + 1),
        (slips.then(torch.exp), f(x, y).exp()),
        (slips.swapped(0, 1), f(y, x)),
        (slips.inverted(1), f(x, 1 / y)),
        (slips.exponentiated(1), f(x, y.exp())),
        (slips.left_out(0, 1.0), f(1.0, y)),
        (slips.normalised(0), f(x / 5, y)),
        (slips.given(lambda a, b: (a, a)), f(x, x)),
    ):
        assert torch.allclose(slip(f)(x, y), expected)
    table = torch.arange(6.0).view(2, 3)
    assert torch.equal(slips.transposed()(lambda a: a.softmax(1))(table), table.softmax(0))
    z = torch.ones(2, requires_grad=True)
    assert not slips.detached(0)(f)(z, y).requires_grad
