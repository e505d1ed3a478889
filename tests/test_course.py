"""setup, budget, same, show and claim: in a plain script and in a notebook."""

import json
import random
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
import torch

from minilip import course
from minilip.course import CLAIMS, UNTESTABLE, budget, claim, quick, same, session, setup, show, showing


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
