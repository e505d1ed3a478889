"""Checks: a sample exercise, every mistake named, every correct variant accepted, and what a learner sees of it."""

import dataclasses
import functools
import json
import os
import sys
import types

import numpy as np
import pytest
import torch
from torch import Tensor

from minilip import course
from minilip.course import checks, compare, record
from minilip.course.checks import Exercise, Invariance, Misconception, Prediction, Report, assert_exercise, judge

# ---- a sample exercise: the entropy of each row of a matrix of logits ------------------------------------------------


def entropy(logits, temperature):
    log_p = torch.log_softmax(logits / temperature, dim=1)  # (B, K)
    return -(log_p.exp() * log_p).sum(dim=1)  # (B,)


def loop(logits, temperature):
    rows = []
    for row in logits:
        log_total = torch.logsumexp(row / temperature, dim=0)
        total = torch.zeros((), dtype=row.dtype)
        for score in row:
            log_p = score / temperature - log_total
            total = total - log_p.exp() * log_p
        rows.append(total)
    return torch.stack(rows)


def inputs(generator):
    ordinary = [(torch.randn(b, k, generator=generator), t) for b, k, t in ((5, 3, 0.5), (2, 7, 1.7), (4, 4, 3.0))]
    extreme = torch.randn(3, 5, generator=generator)
    extreme[:, 0] += 900
    return [*ordinary, (extreme, 0.5)]


def log_of_softmax(logits, temperature):
    p = torch.softmax(logits / temperature, dim=1)
    return -(p * p.log()).sum(dim=1)


def wrong_axis(logits, temperature):
    log_p = torch.log_softmax(logits / temperature, dim=0)
    return -(log_p.exp() * log_p).sum(dim=1)


ENTROPY = Exercise(
    library=entropy,
    reference=loop,
    inputs=inputs,
    hints=("Which function forms log p?", "log_softmax.", "Sum -p log p over dim 1."),
    misconceptions=(
        Misconception("multiplies by the temperature", lambda s, t: entropy(s * t, 1), "A low temperature sharpens."),
        Misconception("softmax over the wrong axis", wrong_axis, "Your rows do not sum to one."),
        Misconception("log of softmax", log_of_softmax, "Right, until a logit is far below the others."),
        Misconception("mean over rows", lambda s, t: entropy(s, t).mean(), "You returned one number."),
    ),
    gradients=("logits",),
    invariances=(Invariance("not shift-invariant", lambda s, t: (s + 50, t), "Adding 50 to all logits changes it."),),
)
SUNRISE = Prediction(
    answer=0.69315,
    hints=("How many outcomes?", "Two equal ones.", "log 2."),
    misconceptions=(Misconception("bits", 1.0, "That is in bits; nats are asked for."),),
)


def replace(**changes):
    return dataclasses.replace(ENTROPY, **changes)


def with_mistake(name, wrong):
    return replace(misconceptions=(*ENTROPY.misconceptions, Misconception(name, wrong, f"You did this: {name}.")))


# ---- correct variants ------------------------------------------------------------------------------------------------


def einsum(logits, temperature):
    log_p = torch.log_softmax(logits / temperature, dim=1)
    return -torch.einsum("bk,bk->b", log_p.exp(), log_p)


def double(logits, temperature):
    return entropy(logits.double(), temperature)


def brain_float(logits, temperature):
    return entropy((logits - logits.amax(dim=1, keepdim=True)).bfloat16(), temperature)


def distribution(logits, temperature):
    return torch.distributions.Categorical(logits=logits / temperature).entropy()


def draws_random_numbers(logits, temperature):
    torch.rand(3)
    return entropy(logits, temperature)


def test_the_sample_exercise_is_proven():
    assert_exercise(ENTROPY, correct=[einsum, double, brain_float, distribution, draws_random_numbers])
    assert_exercise(SUNRISE, correct=[0.693, np.float32(0.693), torch.tensor(0.6931)])


def test_without_gradients_numbers_and_arrays_pass_too():
    def mean(logits, temperature):
        return entropy(logits, temperature).mean()

    total = replace(library=mean, reference=lambda *a: loop(*a).mean(), gradients=(), misconceptions=())
    for right in (
        lambda s, t: mean(s, t).item(),
        lambda s, t: mean(s, t).numpy(),
        lambda s, t: np.float64(mean(s, t)),
        lambda s, t: mean(s, t).half(),
        lambda s, t: mean(s, t)[None],
    ):
        assert judge(total, right).status == "PASS"
    rows = replace(gradients=())
    for form in (Tensor.tolist, list, tuple, Tensor.numpy, lambda r: list(r.numpy())):
        assert judge(rows, lambda s, t, form=form: form(entropy(s, t))).status == "PASS"
    report = judge(rows, lambda s, t: entropy(s, t).tolist()[1:])
    assert report.status == "FAIL" and "expected shape" in report.message


def test_a_list_of_tensors_keeps_its_gradient():
    assert judge(ENTROPY, lambda s, t: list(entropy(s, t))).status == "PASS"
    assert judge(ENTROPY, lambda s, t: [float(x) for x in entropy(s, t)]).mistake == "detached"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_function_that_moves_to_the_gpu_passes():
    assert judge(ENTROPY, lambda s, t: entropy(s.cuda(), t)).status == "PASS"
    assert judge(ENTROPY, lambda s, t: wrong_axis(s.cuda(), t)).mistake == "softmax over the wrong axis"


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "name"),
    [
        (lambda s, t: entropy(s.double() * t, 1), "multiplies"),
        (lambda s, t: wrong_axis(s.bfloat16().float(), t), None),
        (lambda s, t: wrong_axis(s.double(), t).float(), "softmax over the wrong axis"),
        (lambda s, t: -sum((p := torch.softmax(s / t, 1))[:, i] * p[:, i].log() for i in range(s.shape[1])), "log of"),
        (lambda s, t: sum(entropy(s, t)) / len(s), "mean over rows"),
    ],
)
def test_a_mistake_is_named_however_it_is_written(attempt, name):
    report = judge(ENTROPY, attempt)
    assert report.status == "FAIL" and report.use is entropy
    assert (report.mistake or "None").startswith(str(name))


def test_a_mistake_may_be_named_by_where_it_raises():
    def mismatched(logits, temperature):  # right for square matrices only
        return wrong_axis(logits, temperature) + torch.zeros(logits.shape[1])

    report = judge(with_mistake("sizes swapped", mismatched), lambda s, t: mismatched(s.double(), t))
    assert report.mistake == "sizes swapped" and "RuntimeError" not in report.message


def test_an_attempt_that_always_raises_matches_no_mistake_that_always_raises():
    def hopeless(logits, temperature):
        raise RuntimeError("one")

    def another(logits, temperature):
        raise RuntimeError("two")

    report = judge(with_mistake("hopeless", hopeless), another)
    assert report.mistake is None and report.message.startswith("RuntimeError: two")


def test_not_finite_at_extreme_inputs_only():
    def hard_max(logits, temperature):  # unlike log(softmax), never NaN but infinite
        return torch.where(logits.amax(1) > 100, torch.inf, entropy(logits, temperature))

    assert judge(ENTROPY, hard_max).mistake == "log of softmax"
    report = judge(replace(misconceptions=()), hard_max)
    assert report.mistake is None and "not finite" in report.message and "inf" in report.message


def test_nothing_returned():
    report = judge(ENTROPY, lambda s, t: None)
    assert (report.status, report.mistake) == ("FAIL", "returns nothing") and "`return`" in report.message


def test_an_exception_is_reported_with_its_line():
    def attempt(logits, temperature):
        scaled = logits / temperature
        return [scaled][7]

    report = judge(ENTROPY, attempt)
    line = attempt.__code__.co_firstlineno + 2
    assert report.status == "FAIL" and report.message.startswith("IndexError: ")
    assert f"line {line}: return [scaled][7]" in report.message
    assert "float32 (2, 7)" in report.message and "temperature 1.7" in report.message
    assert f"line {line}" in judge(ENTROPY, torch.no_grad()(attempt)).message
    assert f"line {line}" in judge(ENTROPY, functools.partial(attempt)).message


def test_an_attempt_with_the_wrong_arguments_is_told_the_right_ones():
    message = judge(ENTROPY, lambda logits: logits).message
    assert "TypeError" in message and "(logits, temperature)" in message


def test_an_input_changed_in_place():
    def attempt(logits, temperature):
        logits /= temperature
        return entropy(logits, 1)

    report = judge(ENTROPY, attempt)
    assert report.mistake == "changes its input in place" and "`logits`" in report.message
    assert judge(with_mistake("divides in place", attempt), attempt).mistake == "divides in place"

    def wrong_too(logits, temperature):
        logits *= temperature
        return entropy(logits, 1)

    assert judge(ENTROPY, wrong_too).mistake == "multiplies by the temperature"
    cut = Misconception("cut", lambda s, t: entropy(s.detach(), t), "The graph is cut.")  # changes nothing in place
    assert judge(replace(misconceptions=(cut,)), attempt).mistake == "changes its input in place"


def test_a_gradient_that_is_cut():
    def attempt(logits, temperature):
        return entropy(logits.detach(), temperature)

    report = judge(ENTROPY, attempt)
    assert report.mistake == "detached" and "`logits`" in report.message and "(2, 7)" in report.message
    assert judge(ENTROPY, torch.no_grad()(entropy)).mistake == "detached"
    assert judge(with_mistake("cut", attempt), attempt).mistake == "cut"
    assert judge(ENTROPY, lambda s, t: wrong_axis(s.detach(), t)).mistake == "softmax over the wrong axis"
    assert judge(replace(gradients=()), attempt).status == "PASS"


def test_a_wrong_gradient_is_named_where_the_value_is_right():
    def half(logits, temperature):
        return (entropy(logits, temperature) + entropy(logits.detach(), temperature)) / 2

    report = judge(ENTROPY, half)
    assert report.mistake is None and "gradient with respect to `logits`" in report.message
    cut = Misconception("cut", lambda s, t: entropy(s.detach(), t), "The graph is cut.")
    halved = Misconception("half the gradient", half, "Half of the graph is cut.")
    both = replace(misconceptions=(cut, halved))
    assert judge(both, lambda s, t: half(s.double(), t)).mistake == "half the gradient"


def test_a_gradient_that_is_not_finite_is_named():
    def norm(x):
        return torch.linalg.vector_norm(x, dim=1).square()

    naive = Misconception("root at zero", lambda x: x.square().sum(1).sqrt().square(), "The root has no slope at 0.")
    exercise = Exercise(
        norm, norm, lambda g: [(torch.randn(3, 2, generator=g),), (torch.zeros(2, 4),)], ("",) * 3, (naive,), ("x",)
    )
    assert judge(exercise, lambda x: (x * x).sum(1).sqrt() ** 2).mistake == "root at zero"


def test_whole_numbers_where_fractions_are_expected():
    report = judge(ENTROPY, lambda s, t: entropy(s, t).round().long())
    assert report.mistake is None and "Expected floating-point numbers, got int ones." in report.message


def test_masks_empty_results_and_whole_inputs():
    exercise = Exercise(
        lambda mask, index: (~mask, index[mask].float()),
        lambda mask, index: (torch.tensor([not m for m in mask], dtype=torch.bool), index[mask].double()),
        lambda g: [(torch.rand(n, generator=g) > 0.5, torch.arange(n)) for n in (0, 5)],
        ("",) * 3,
        (),
    )
    assert judge(exercise, exercise.library).status == "PASS"
    assert "got int ones" in judge(exercise, lambda mask, index: (~mask, index[mask])).message
    assert "Expected bool numbers" in judge(exercise, lambda mask, index: (1 - mask.int(), index[mask].float())).message
    in_place = judge(exercise, lambda mask, index: (mask.logical_not_(), index[~mask].float()))
    assert in_place.mistake == "changes its input in place" and "`mask`" in in_place.message


def test_an_invariance_that_fails():
    def shifted(logits, temperature):  # right unless all logits are large
        return entropy(logits, temperature) + (logits.amin(dim=1) > 40)

    report = judge(ENTROPY, shifted)
    assert (report.mistake, report.message.splitlines()[0]) == (
        "not shift-invariant",
        "Adding 50 to all logits changes it.",
    )
    assert judge(with_mistake("special case", shifted), shifted).mistake == "special case"


def test_an_invariance_is_one_of_the_result_and_not_of_its_gradient():
    def unit(x):
        return torch.nn.functional.normalize(x, dim=1)

    def loop_unit(x):
        return torch.stack([row / row.square().sum().sqrt() for row in x])

    exercise = Exercise(
        unit,
        loop_unit,
        lambda g: [(torch.randn(b, 4, generator=g),) for b in (2, 5)],
        ("first", "second", "third"),
        (
            Misconception("over the batch", lambda x: x / x.norm(dim=0), "Each row has its own length."),
            Misconception("L1", lambda x: x / x.abs().sum(1, keepdim=True), "That is another length."),
            Misconception("square", lambda x: x / x.square().sum(1, keepdim=True), "A root is missing."),
        ),
        gradients=("x",),
        invariances=(Invariance("not scale-invariant", lambda x: (3 * x,), "Only the direction counts."),),
    )
    assert_exercise(exercise)
    assert judge(exercise, lambda x: x / (x.norm(dim=1, keepdim=True).clamp(max=4.0))).mistake == "not scale-invariant"


RELATIONS = [
    (lambda w, x, t: -w, "with its sign turned"),
    (lambda w, x, t: w.T, "the transpose"),
    (lambda w, x, t: w.mean(), "the mean"),
    (lambda w, x, t: w.sum(), "the sum"),
    (lambda w, x, t: w**2, "the square of"),
    (lambda w, x, t: w.abs().sqrt() * w.sign(), None),
    (lambda w, x, t: w.exp(), "the exponential"),
    (lambda w, x, t: 2 * w, "times 2"),
    (lambda w, x, t: w / 2, "divided by 2"),
    (lambda w, x, t: w / len(x), "divided by x.shape[0]"),
    (lambda w, x, t: w * x.shape[1], "times x.shape[1]"),
    (lambda w, x, t: w * t, "times t"),
    (lambda w, x, t: w - np.log(len(x)), "minus log(x.shape[0])"),
    (lambda w, x, t: w + 0.1, None),
]


@pytest.mark.parametrize(("change", "words"), RELATIONS)
def test_an_unknown_mistake_is_related_to_the_right_result(change, words):
    def right(x, t):
        return (x @ x.T + torch.arange(len(x))) / t  # (B, B), not symmetric

    exercise = Exercise(
        right, right, lambda g: [(torch.randn(b, 3 * b, generator=g), b / 7) for b in (3, 4)], ("",) * 3, ()
    )
    report = judge(exercise, lambda x, t: change(right(x, t), x, t))
    assert report.status == "FAIL" and report.mistake is None
    assert words in report.message if words else "Yours is" not in report.message
    assert "expected [" in report.message and "got " in report.message


def test_several_results_are_compared_one_by_one():
    def extremes(x):
        return x.amax(1), x.argmax(1)

    exercise = Exercise(
        extremes, extremes, lambda g: [(torch.randn(b, 5, generator=g),) for b in (2, 6)], ("",) * 3, ()
    )
    assert judge(exercise, lambda x: list(x.max(1))).status == "PASS"
    assert "in       result[1]" in judge(exercise, lambda x: (x.amax(1), x.argmin(1))).message
    assert "a tuple of 2" in judge(exercise, lambda x: x.amax(1)).message
    assert (
        "Expected int numbers, got floating-point ones"
        in judge(exercise, lambda x: (x.amax(1), x.argmax(1).float())).message
    )
    assert judge(exercise, lambda x: (x.amax(1), ...)).status == "TODO"


def test_text_and_whole_numbers_are_compared_exactly():
    exercise = Exercise(
        lambda s: {"words": s.split(), "length": len(s) * 100_000},
        lambda s: {"words": s.split(), "length": len(s) * 100_000},
        lambda g: [("a red circle",), ("a dog",)],
        ("",) * 3,
        (),
    )
    assert judge(exercise, exercise.library).status == "PASS"
    assert judge(exercise, lambda s: {"words": s.split(), "length": len(s) * 100_000 + 1}).status == "FAIL"
    assert judge(exercise, lambda s: {"words": s.split("r"), "length": len(s) * 100_000}).status == "FAIL"
    assert judge(exercise, lambda s: {"words": s.upper().split(), "length": len(s) * 100_000}).status == "FAIL"


def test_a_view_lets_several_results_be_right():
    def axis(x):
        return torch.linalg.svd(x, full_matrices=False)[2][0]

    sign_free = Exercise(
        axis,
        axis,
        lambda g: [(torch.randn(6, d, generator=g),) for d in (2, 3)],
        ("",) * 3,
        (Misconception("last", lambda x: torch.linalg.svd(x)[2][-1], "That is the least."),),
        view=lambda v, x: v.outer(v),
    )
    assert judge(sign_free, lambda x: -axis(x)).status == "PASS"
    assert judge(sign_free, lambda x: -torch.linalg.svd(x)[2][-1]).mistake == "last"
    assert judge(sign_free, lambda x: None).mistake == "returns nothing"
    assert judge(sign_free, lambda x: "no vector").status == "FAIL"


def test_generators_and_modules_are_given_fresh():
    def sample(layer, n, generator):
        return layer(torch.randn(n, 2, generator=generator).to(layer.weight))

    exercise = Exercise(
        sample,
        lambda layer, n, generator: sample(layer.float(), n, generator),
        lambda g: [(torch.nn.Linear(2, 3), n, torch.Generator().manual_seed(n)) for n in (2, 5)],
        ("",) * 3,
        (),
    )
    for _ in range(2):
        assert judge(exercise, sample).status == "PASS"


def test_a_clone_of_a_generator_draws_the_same():
    generator = torch.Generator().manual_seed(5)
    torch.rand(2, generator=generator)
    copied = compare.clone([generator])[0]
    assert copied is not generator
    assert torch.equal(torch.rand(3, generator=copied), torch.rand(3, generator=generator))


def test_checking_leaves_the_random_numbers_of_the_notebook_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    judge(ENTROPY, draws_random_numbers)
    assert torch.equal(torch.rand(4), expected)


# ---- nothing written yet ---------------------------------------------------------------------------------------------


def stub(logits, temperature):
    raise NotImplementedError


def stub_with_words(logits, temperature):
    raise NotImplementedError("later")


def half_written(logits, temperature):
    log_p = ...
    return -(log_p.exp() * log_p).sum()


@pytest.mark.parametrize("attempt", [stub, stub_with_words, half_written, lambda s, t: ..., None, ...])
def test_what_is_not_written_yet_is_to_do(attempt):
    report = judge(ENTROPY, attempt)
    assert (report.status, report.mistake, report.use) == ("TODO", None, entropy)


def test_a_library_that_lacks_an_operation_is_not_a_stub():
    library = {}  # in a file of its own, as torch is
    exec(compile("def inverse(x): raise NotImplementedError('no inverse of halves')", "library.py", "exec"), library)
    report = judge(ENTROPY, lambda s, t: library["inverse"](s.half()))
    assert report.status == "FAIL" and "NotImplementedError: no inverse of halves" in report.message


def test_a_value_in_place_of_a_function():
    assert "Expected a function, got float32 (2,)" in judge(ENTROPY, torch.zeros(2)).message


# ---- predictions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "right", "wrong"),
    [
        (0.5, [0.5, 0.501, torch.tensor(0.5)], [0.6, "0.5", (0.5,), float("nan")]),
        (64, [64, 64.0], [65, 0]),
        ("Rises", ["rises", " Rises "], ["falls", 3]),
        (True, [True, np.bool_(True)], [False]),
        ((1, "a"), [(1, "A"), [1, "a"]], [(1, "b"), (1,), (2, "a")]),
        (torch.tensor([1.0, 2.0]), [np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])], [torch.tensor([2.0, 1.0]), 1.0]),
    ],
)
def test_a_prediction_is_a_value(answer, right, wrong):
    exercise = Prediction(answer, ("a", "b", "c"), ())
    assert all(judge(exercise, value).status == "PASS" for value in right)
    assert all(judge(exercise, value).status == "FAIL" for value in wrong)
    assert judge(exercise, ...).status == judge(exercise, None).status == "TODO"
    assert judge(exercise, wrong[0]).use is answer


def test_a_wrong_prediction_is_named_and_never_told_the_answer():
    known, unknown = judge(SUNRISE, 1), judge(SUNRISE, 0.4)
    assert (known.mistake, known.message) == ("bits", "That is in bits; nats are asked for.")
    assert unknown.mistake is None and "0.4" in unknown.message and "0.69" not in unknown.message


# ---- assert_exercise rejects exercises that prove nothing ------------------------------------------------------------


def duplicated(exercise):
    return dataclasses.replace(exercise, misconceptions=(*exercise.misconceptions, exercise.misconceptions[0]))


@pytest.mark.parametrize(
    "weak",
    [
        replace(misconceptions=ENTROPY.misconceptions[:2]),
        replace(hints=("one", "two")),
        replace(hints=("one", "two", " ")),
        duplicated(ENTROPY),
        with_mistake("not a mistake", entropy),
        with_mistake("hidden behind another", lambda s, t: wrong_axis(s.double(), t)),
        replace(library=wrong_axis),
        replace(reference=lambda logits, temperature: loop(logits.detach(), temperature)),
        replace(tolerance=1e3),
        dataclasses.replace(SUNRISE, misconceptions=()),
        dataclasses.replace(SUNRISE, tolerance=1.0),
    ],
)
def test_a_weak_exercise_is_refused(weak):
    with pytest.raises(AssertionError):
        assert_exercise(weak)


def test_a_correct_variant_that_is_wrong_is_refused():
    with pytest.raises(AssertionError, match="correct variant 2"):
        assert_exercise(ENTROPY, correct=[wrong_axis])


def test_a_reference_that_raises_is_not_blamed_on_the_learner():
    with pytest.raises(ZeroDivisionError):
        judge(replace(reference=lambda logits, temperature: 1 / 0), entropy)


# ---- check, hint, progress -------------------------------------------------------------------------------------------


@pytest.fixture
def learner(monkeypatch, tmp_path):
    """A course of one lesson with two exercises, an empty home, a full budget."""
    sample = types.ModuleType("minilip.course.checks.sample")
    sample.LESSON = "07_sample"
    sample.EXERCISES = {"row_entropy": ENTROPY, "sunrise": SUNRISE}
    monkeypatch.setitem(sys.modules, "minilip.course.checks.sample", sample)
    monkeypatch.setattr(checks, "_modules", lambda: ["sample"])
    monkeypatch.setattr(record, "_session", [])
    monkeypatch.setattr(record, "_said", set())
    monkeypatch.setenv("MINILIP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINILIP_BUDGET", "cpu")
    monkeypatch.delenv("MINILIP_STRICT", raising=False)
    return tmp_path / "home" / "progress.json"


def test_check_prints_its_verdict_and_returns_what_to_use(learner, capsys):
    report = course.check("sample.row_entropy", einsum)
    assert report == Report("PASS", None, einsum, "") and capsys.readouterr().out == "PASS  sample.row_entropy\n"

    assert course.check("sample.row_entropy", stub).use is entropy
    todo = capsys.readouterr().out
    assert todo.startswith("TODO  sample.row_entropy\n") and "goes on with the library's version" in todo

    report = course.check("sample.row_entropy", wrong_axis)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["FAIL  sample.row_entropy · softmax over the wrong axis", "Your rows do not sum to one."]
    assert [line.split()[0] for line in lines[2:5]] == ["input", "expected", "got"]
    assert 'hint("sample.row_entropy")' in lines[-1] and report.use is entropy

    assert course.check("sample.sunrise", 1).use == SUNRISE.answer
    assert "goes on with the right answer" in capsys.readouterr().out


def test_check_raises_in_strict_mode_only(learner, monkeypatch):
    def raises(logits, temperature):
        raise OSError("no disk")

    for attempt in (raises, stub, 3, "x", int, torch.nn.Linear, object()):
        assert course.check("sample.row_entropy", attempt).status in ("FAIL", "TODO")
    monkeypatch.setenv("MINILIP_STRICT", "1")
    for attempt in (raises, stub, wrong_axis):
        with pytest.raises(AssertionError, match=r"sample\.row_entropy"):
            course.check("sample.row_entropy", attempt)
    assert course.check("sample.row_entropy", einsum).status == "PASS"


@pytest.mark.parametrize("call", [lambda n: course.check(n, None), course.hint])
@pytest.mark.parametrize("name", ["sample.row_entrpy", "smaple.row_entropy", "row_entropy", "_compare.row_entropy"])
def test_an_unknown_name_lists_the_nearest(learner, call, name):
    with pytest.raises(ValueError, match=r"did you mean 'sample\.row_entropy'"):
        call(name)


def test_a_name_unlike_any_other(learner):
    with pytest.raises(ValueError, match=r"no exercise 'zzz'$"):
        course.hint("zzz")


def test_hints_come_in_order_then_the_solution(learner, capsys):
    printed = []
    for _ in range(5):
        course.hint("sample.row_entropy")
        printed.append(capsys.readouterr().out.strip())
    assert printed[:3] == [f"Hint {i + 1} of 3: {ENTROPY.hints[i]}" for i in range(3)]
    assert printed[3] == printed[4] and "solutions/07_sample.ipynb" in printed[3]


def test_progress_is_kept(learner, capsys):
    course.check("sample.row_entropy", wrong_axis)
    course.hint("sample.row_entropy")
    assert json.loads(learner.read_text()) == {"sample.row_entropy": {"status": "FAIL", "hints": 1}}
    course.check("sample.row_entropy", einsum)
    course.check("sample.row_entropy", stub)  # a fresh copy of the exercise does not unsolve it
    capsys.readouterr()
    course.progress()
    solved, untouched, total = capsys.readouterr().out.splitlines()
    assert solved.split() == ["07_sample", "sample.row_entropy", "PASS", "1", "of", "3", "hints"]
    assert untouched.split() == ["07_sample", "sample.sunrise", "TODO", "0", "of", "3", "hints"]
    assert total == "1 of 2 solved" and {p.name for p in learner.parent.iterdir()} == {"progress.json", "progress.lock"}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 3}', "\x00"])
def test_a_corrupted_file_costs_one_warning(learner, capsys, text):
    learner.parent.mkdir()
    learner.write_text(text)
    course.check("sample.sunrise", 0.693)
    assert capsys.readouterr().out.count("could not be read whole") == 1
    assert json.loads(learner.read_text()) == {"sample.sunrise": {"status": "PASS", "hints": 0}}
    course.progress()
    assert "could not be read" not in capsys.readouterr().out


def test_without_a_writable_home_progress_lasts_for_the_session(learner, capsys):
    learner.parent.write_text("a file where the folder should be")
    for expected in ENTROPY.hints:
        course.hint("sample.row_entropy")
        assert expected in capsys.readouterr().out
    assert course.check("sample.row_entropy", einsum).status == "PASS"
    course.progress()
    assert "1 of 2 solved" in capsys.readouterr().out


def test_a_full_disk_loses_neither_the_old_file_nor_the_session(learner, monkeypatch, capsys):
    course.hint("sample.row_entropy")
    kept = learner.read_text()

    def full(source, target):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    course.hint("sample.row_entropy")
    assert "no space left" in capsys.readouterr().out and learner.read_text() == kept
    course.hint("sample.row_entropy")
    assert "Hint 3 of 3" in capsys.readouterr().out


@pytest.mark.parametrize(("variable", "value"), [("MINILIP_BUDGET", "quick"), ("MINILIP_STRICT", "1")])
def test_automated_runs_leave_the_record_alone(learner, monkeypatch, capsys, variable, value):
    monkeypatch.setenv(variable, value)
    course.check("sample.row_entropy", einsum)
    course.hint("sample.row_entropy")
    course.hint("sample.row_entropy")
    assert not learner.exists() and "Hint 2 of 3" in capsys.readouterr().out


def test_all_exercises_of_the_course_are_listed():
    listed = checks.catalogue()
    assert [lesson for lesson, _ in listed.values()] == sorted(lesson for lesson, _ in listed.values())
    assert all(checks.find(name) == found for name, found in listed.items())


# ---- comparing -------------------------------------------------------------------------------------------------------


def test_gap_is_relative_and_never_forgives_nan():
    assert compare.gap(torch.tensor([1.0, 100.0]), torch.tensor([1.0, 101.0])) == pytest.approx(1 / 101)
    assert compare.gap(torch.tensor(0.0), torch.tensor(1e-9)) == pytest.approx(1e-7)
    assert compare.gap(torch.tensor([torch.inf, 1.0]), torch.tensor([torch.inf, 1.0])) == 0
    for value in (torch.nan, torch.inf):
        assert not compare.gap(torch.tensor(value), torch.tensor(1.0)) <= 1e9
    assert not compare.gap(torch.tensor(torch.nan), torch.tensor(torch.nan)) <= 1e9
