"""What a notebook starts from, in a plain script and in a notebook; switches; what a check hands out."""

import functools
import json
import pickle
import random
import subprocess
import sys
import warnings
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
import torch

from minilip import course
from minilip.course import (
    CLAIMS,
    UNTESTABLE,
    budget,
    check,
    checks,
    claim,
    exercises,
    progress,
    quick,
    record,
    same,
    session,
    setup,
    show,
    showing,
    switches,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MINILIP_BUDGET", "cpu")
    monkeypatch.setenv("MINILIP_HOME", str(tmp_path))
    monkeypatch.setattr(session, "claims", {"lesson": "", "rows": {}})
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_names_a_lesson_relies_on():
    names = ["UNTESTABLE", "budget", "check", "claim", "hint", "progress", "quick", "same", "setup", "show"]
    assert course.__all__ == names


# ---- setup -----------------------------------------------------------------------------------------------------------


def test_setup_seeds_prints_one_line_and_names_the_device(capsys):
    def drawn():
        device = setup("07_clip")
        return device, torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    assert drawn() == drawn()
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    for part in ("minilip 0.", f"torch {torch.__version__}", "thread", "budget cpu"):
        assert part in first
    assert drawn()[0].type == ("cuda" if torch.cuda.is_available() else "cpu")
    setup("07_clip", seed=1)
    assert torch.rand(3).tolist() != drawn()[1]


def test_setup_sets_the_threads_asked_for(monkeypatch, capsys):
    monkeypatch.setenv("MINILIP_THREADS", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    setup("07_clip")
    assert torch.get_num_threads() == 2 and "2 threads" in capsys.readouterr().out
    torch.set_num_threads(1)
    monkeypatch.delenv("MINILIP_THREADS")
    setup("07_clip")  # OMP_NUM_THREADS has already been heard by torch
    assert "1 thread ·" in capsys.readouterr().out


def test_output_that_cannot_be_encoded_is_replaced(monkeypatch, tmp_path):
    script = """
from minilip.course import *
setup("07_clip")
same("τ", 1.0, 1.0)
claim("a", "says", "source", "1.2 ± 0.1", True)
check("clip.first_step", "up"), hint("clip.first_step"), progress()
"""
    for encoding in ("ascii", "cp932", "cp1252"):
        monkeypatch.setenv("PYTHONIOENCODING", encoding)
        run = subprocess.run([sys.executable, "-c", script], capture_output=True)
        assert run.returncode == 0, run.stderr
        assert b"FAIL  clip.first_step" in run.stdout and b"Hint " in run.stdout
    assert "·" in run.stdout.decode("cp1252")  # what can be encoded stays


# ---- switches --------------------------------------------------------------------------------------------------------


def test_setup_refuses_a_switch_before_it_changes_anything(monkeypatch):
    monkeypatch.setenv("MINILIP_STRICT", "true")
    torch.manual_seed(5)
    with pytest.raises(ValueError, match="MINILIP_STRICT: expected one of 0, 1, got 'true'"):
        setup("07_clip")
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1)) and session.claims["lesson"] == ""


@pytest.mark.parametrize(("value", "strict"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_strictness_is_on_or_off(monkeypatch, value, strict):
    monkeypatch.delenv("MINILIP_STRICT", raising=False)
    if value is not None:
        monkeypatch.setenv("MINILIP_STRICT", value)
    assert switches.strict() is strict


@pytest.mark.parametrize("value", ["true", "True", "yes", "on", "1 ", " 1", "01", "2", "-1", "١"])
def test_strictness_does_not_fail_open(monkeypatch, value):
    monkeypatch.setenv("MINILIP_STRICT", value)
    for call in (lambda: check("clip.first_step", "down"), progress):
        with pytest.raises(ValueError, match="MINILIP_STRICT: expected one of 0, 1, got"):
            call()


@pytest.mark.parametrize("value", ["abc", "0", "-2", "1.5", "2 ", "1_0", "²"])
def test_threads_are_a_whole_number(monkeypatch, value):
    monkeypatch.setenv("MINILIP_THREADS", value)
    with pytest.raises(ValueError, match="MINILIP_THREADS: expected a whole number of at least 1, got"):
        setup("07_clip")


def test_an_unknown_switch_is_reported_once_with_the_near_name(monkeypatch):
    monkeypatch.setattr(switches, "_told", set())
    for name in ("MINILIP_STRIKT", "minilip_budget"):
        monkeypatch.setenv(name, "1")
    with pytest.warns(UserWarning) as told:
        switches.strict(), switches.mode()
    texts = sorted(str(warning.message) for warning in told)
    assert [text.split()[0] for text in texts] == ["MINILIP_STRIKT", "minilip_budget"]
    assert "did you mean MINILIP_STRICT?" in texts[0] and "did you mean MINILIP_BUDGET?" in texts[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        switches.strict()


# ---- budget ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "values"),
    [("cpu", (300, 300, "a", 300)), ("gpu", (300, 3000, "a", 3000)), ("quick", (2, 2, "a", 7))],
)
def test_budget_modes(monkeypatch, mode, values):
    monkeypatch.setenv("MINILIP_BUDGET", mode)
    assert (budget(300), budget(300, 3000), budget("a"), budget(cpu=300, gpu=3000, quick=7)) == values
    assert budget(1) == 1 and quick() == (mode == "quick")


def test_without_a_mode_the_device_decides(monkeypatch):
    monkeypatch.delenv("MINILIP_BUDGET")
    for gpu, expected in ((True, 9), (False, 3)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert budget(3, 9) == expected


def test_an_unknown_mode_is_refused(monkeypatch):
    monkeypatch.setenv("MINILIP_BUDGET", "fast")
    with pytest.raises(ValueError, match="MINILIP_BUDGET: expected one of quick, cpu, gpu, got 'fast'"):
        budget(3)


# ---- same ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1.0, torch.tensor(1.000001)),
        (torch.arange(5.0), np.arange(5)),
        ((1.0, torch.ones(2, 2)), (torch.tensor(1.0), torch.ones(2, 2, requires_grad=True))),
        (1e-9, 0.0),
        (torch.tensor([torch.inf, 1.0]), torch.tensor([torch.inf, 1.0])),
        (1000.0, 1000.001),
    ],
)
def test_same_prints_both_sides_where_they_agree(left, right, capsys):
    same("(2)", left, right)
    printed = capsys.readouterr().out
    assert printed.startswith("(2)  left ") and " right " in printed and "relative difference" in printed


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1.0, 1.0001),
        (1000.0, 1000.1),
        (torch.ones(3), torch.ones(4)),
        (torch.ones(3), 1.0),
        ((1.0, 2.0), (1.0,)),
        ((1.0, 2.0), (1.0, 3.0)),
        ((2.0, 1.0), (3.0, 1.0)),
        (torch.nan, torch.nan),
        (torch.tensor([torch.inf]), torch.tensor([-torch.inf])),
        ("a", "a"),
        ((), ()),
    ],
)
def test_same_refuses_sides_that_differ(left, right):
    with pytest.raises(AssertionError, match=r"^\(2\): "):
        same("(2)", left, right)


def test_the_tolerance_of_same_is_the_callers():
    same("(2)", 1.0, 1.01, tolerance=0.02)
    with pytest.raises(AssertionError, match="1e-03 is allowed"):
        same("(2)", 1.0, 1.01, tolerance=1e-3)


# ---- show and claim --------------------------------------------------------------------------------------------------


def test_show_prints_the_source_with_its_docstring(capsys):
    show(course.quick)
    printed = capsys.readouterr().out
    assert printed.startswith("def quick() -> bool:") and '"""Whether this run only' in printed


def test_show_dedents_a_method(capsys):
    show(Path.exists)
    assert capsys.readouterr().out.startswith("def exists(")


@pytest.fixture
def displays(monkeypatch):
    """What a notebook would receive: (bundle, display id, whether it updates)."""
    shown = []
    monkeypatch.setattr(showing, "emit", lambda bundle, display_id, update: shown.append((bundle, display_id, update)))
    return shown


def row(name="sharpens", holds=True, **changes):
    return dict(id=name, says="a | b", source="eq. 2", measured="1.2 ± 0.1 nats", holds=holds, note="3 seeds") | changes


def test_claims_are_one_display_that_grows(displays, capsys):
    setup("07_clip")
    claim(**row())
    claim(**row("widens", holds=np.bool_(False)))
    claim(**row("stays", holds=torch.tensor(True)))
    claim(**row("unknown", holds=None))
    claim(**row("beyond", holds=UNTESTABLE))
    assert [update for *_, update in displays] == [False, True, True, True, True]
    assert {name for _, name, _ in displays} == {"claims-07_clip"}
    last = displays[-1][0]
    data = json.loads(json.dumps(last[CLAIMS]))
    assert data["lesson"] == "07_clip" and data["rows"][0] == row()
    assert [(r["id"], r["holds"]) for r in data["rows"]] == [
        ("sharpens", True),
        ("widens", False),
        ("stays", True),
        ("unknown", None),
        ("beyond", UNTESTABLE),
    ]
    table = last["text/markdown"].splitlines()
    assert len(table) == 7 and "a \\| b" in table[2] and {line.count(" | ") for line in table} == {4}
    verdicts = ["holds", "does not hold", "holds", "not judged", "not testable here"]
    assert [line.split("**")[1] for line in table[2:]] == verdicts
    with pytest.raises(ValueError, match="holds: expected one of not testable here"):
        claim(**row(holds="holds"))
    assert len(displays[0][0][CLAIMS]["rows"]) == 1  # earlier bundles are not rewritten


def test_a_claim_made_again_replaces_its_row_and_the_first_reopens_the_table(displays, capsys):
    setup("07_clip")
    claim(**row())
    claim(**row("widens"))
    claim(**row("widens", holds=False))
    claim(**row(measured="3 nats"))
    assert [update for *_, update in displays] == [False, True, True, False]
    assert [(r["id"], r["holds"], r["measured"]) for r in displays[-1][0][CLAIMS]["rows"]] == [
        ("sharpens", True, "3 nats"),
        ("widens", False, "1.2 ± 0.1 nats"),
    ]
    setup("07_clip")
    claim(**row("widens"))
    assert len(displays[-1][0][CLAIMS]["rows"]) == 1 and not displays[-1][2]


def test_a_quick_run_judges_no_claim(monkeypatch, capsys):
    monkeypatch.setenv("MINILIP_BUDGET", "quick")
    claim(**row())
    assert capsys.readouterr().out == "sharpens: not judged · 1.2 ± 0.1 nats\n"


# ---- what a check hands out is not the learner's ---------------------------------------------------------------------


@pytest.fixture
def unsolved(monkeypatch):
    monkeypatch.delenv("MINILIP_STRICT", raising=False)
    monkeypatch.setattr(record, "_session", [])
    return lambda: {name for name, row in record.rows().items() if row["status"] == "PASS"}


def wrapped(function):
    @functools.wraps(function)
    def inner(*arguments):
        return function(*arguments)

    return inner


@pytest.mark.parametrize("disguise", [lambda f: f, functools.partial, wrapped, lambda f: wrapped(functools.partial(f))])
@pytest.mark.parametrize("name", ["clip.clip_loss", "clip.recall_at"])
def test_the_same_line_again_solves_nothing(unsolved, capsys, name, disguise):
    f = check(name, lambda *arguments: torch.zeros(())).use
    capsys.readouterr()
    for _ in range(2):
        report = check(name, disguise(f))
        assert report.status == "TODO" and capsys.readouterr().out.startswith(
            f"TODO  {name}\nThis is the library's ver"
        )
    assert callable(report.use) and unsolved() == set()
    assert check(name, disguise(checks.find(name)[1].reference)).status == "TODO"
    assert record.rows()[name]["status"] == "FAIL"  # as it stood


def test_a_prediction_handed_out_is_not_the_learners_and_the_same_value_typed_is(unsolved, monkeypatch):
    guess = check("clip.first_step", "up").use
    assert guess == "down" and f"{guess!r}" == "'down'" and check("clip.first_step", guess).status == "TODO"
    assert unsolved() == set()
    assert check("clip.first_step", "down").status == "PASS" and unsolved() == {"clip.first_step"}
    assert check("clip.first_step", guess).status == "TODO" and unsolved() == {"clip.first_step"}
    monkeypatch.setenv("MINILIP_STRICT", "1")
    with pytest.raises(AssertionError, match="library's answer"):
        check("clip.first_step", guess)


@pytest.mark.parametrize("name", [n for n, (_, e) in checks.catalogue().items() if isinstance(e, checks.Prediction)])
def test_every_answer_handed_out_is_known_again_and_does_what_it_should(unsolved, name):
    answer = checks.find(name)[1].answer
    given = check(name, None).use
    assert given == answer and isinstance(given, type(answer)) and repr(given) == repr(answer)
    assert check(name, given).status == check(name, pickle.loads(pickle.dumps(given))).status == "TODO"
    assert check(name, type(answer)(answer)).status == "PASS"


@pytest.mark.parametrize("answer", [3, 2.5, "x", (1, 2), [1], torch.arange(3), np.arange(3)])
def test_values_of_all_kinds_are_marked(answer):
    prediction = checks.Prediction(answer, ("a", "b", "c"), ())
    given = exercises.hand_out(answer)
    assert exercises.handed_out(prediction, given) and not exercises.handed_out(prediction, answer)
    assert repr(given) == repr(answer)


def test_a_whole_number_handed_out_is_one_for_torch():
    given = exercises.hand_out(149)
    assert torch.zeros(given).shape == (149,) and torch.zeros(4 * given, given).shape == (596, 149)


# ---- in a notebook ---------------------------------------------------------------------------------------------------


def test_in_a_notebook():
    cells = [
        "from minilip.course import *\ndevice = setup('07_clip')",
        "claim('a', 'says', 'source', '1', True, 'note')",
        "show(budget)",
        "claim('b', 'says', 'source', '2', False, 'note')",
        "from minilip.course.checks import Report\nReport('PASS', None, None, '')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    root = Path(__file__).parents[1]
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(root)}}, kernel_name="python3").execute()
    outputs = [cell.outputs for cell in notebook.cells]
    assert [len(o) for o in outputs] == [1, 1, 1, 0, 0]  # one table; a report as the last value shows nothing
    assert [r["id"] for r in outputs[1][0].data[CLAIMS]["rows"]] == ["a", "b"]
    assert "text/markdown" in outputs[1][0].data and "a: holds" not in outputs[1][0].data["text/markdown"]
    assert outputs[2][0].data["text/markdown"].startswith("````python\ndef budget(")
