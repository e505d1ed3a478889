"""minilip grade: only what was judged and passed counts, whatever the notebook does."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell as code
from nbformat.v4 import new_markdown_cell as text
from nbformat.v4 import new_notebook

from minilip.clip import clip_loss
from minilip.course import checks, cli, grade
from minilip.course.grade import remote, wire
from minilip.course.grade.__main__ import main, table
from minilip.course.grade.scores import plain

ROOT = Path(__file__).resolve().parents[1]
START = "from minilip.course import *\nsetup('07_clip')"
STUB = "def my_clip_loss(image, text, logit_scale):\n    raise NotImplementedError\n"
SOLVED = """
import torch, torch.nn.functional as F
def my_clip_loss(image, text, logit_scale):
    logits = logit_scale * image @ text.T
    pairs = torch.arange(len(logits))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
"""
CHECK = "my_clip_loss = check('clip.clip_loss', my_clip_loss).use"


def graded(*sources, lesson="07_clip", timeout=grade.TIMEOUT):
    """The rows of a notebook of code cells, by check."""
    cells = [grade.Cell(number, source) for number, source in enumerate(sources, 1)]
    return {row.check: row for row in grade.grade(cells, lesson, timeout)}


# ---- nothing solved, nothing scored ----------------------------------------------------------------------------------

FRAMES = """
import sys
def my_clip_loss(*a):
    frame = sys._getframe()
    while frame:
        for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
            for found in (value, getattr(value, "exercise", None)):
                if hasattr(found, "reference") and hasattr(found, "library"):
                    return found.library(*a)
        frame = frame.f_back
"""
PATCHED = """
from minilip.course import checks, exercises, grade
yes = lambda e, a: checks.Report("PASS", None, a, "")
checks.judge = exercises.checks.judge = checks._judge.judge = yes
checks.find("clip.clip_loss")[1].__dict__.update(reference=my_clip_loss, tolerance=1e9)
"""
LIBRARY = """
from minilip.clip import clip_loss
from minilip.course.checks import find
def my_clip_loss(*arguments):
    return 1 * clip_loss(*arguments)
my_siglip_loss = find("clip.siglip_loss")[1].library
check("clip.siglip_loss", my_siglip_loss)
"""
UNSOLVED = {
    "a cell deleted, one in markdown": [code(START), text(SOLVED + CHECK)],
    "tags": [
        code(START),
        code(STUB + CHECK, metadata={"tags": ["raises-exception"]}),
        code("first_step = check('clip.first_step', ...).use", metadata={"tags": ["skip-execution"]}),
        code(CHECK),  # judges the library's version, which it has handed out
    ],
    "environment and own check": [
        code("import os; os.environ['MINILIP_STRICT'] = '0'"),
        code(START),
        code(STUB + CHECK),
        code("class R: use = print\ncheck = lambda name, attempt: print('PASS ', name) or R"),
        code("my_siglip_loss = check('clip.siglip_loss', 'down').use"),
    ],
    "patched judge": [code(START), code(STUB + PATCHED), code(CHECK)],
    "the library's": [code(START), code(LIBRARY + CHECK)],
    "frames": [code(START), code(FRAMES + CHECK)],
}


@pytest.mark.parametrize("case", UNSOLVED)
def test_what_was_not_solved_does_not_score(case, tmp_path, capsys):
    path = tmp_path / "07_clip.ipynb"
    nbformat.write(new_notebook(cells=UNSOLVED[case]), path)
    assert main([str(path)]) == 1
    printed = capsys.readouterr().out
    assert "0 of 7 passed" in printed and "clip.clip_loss" in printed


# ---- what comes out --------------------------------------------------------------------------------------------------


def test_a_lesson_solved_passes_in_any_locale_under_any_kernel_name(tmp_path):
    notebook = json.loads((ROOT / "solutions/07_clip.ipynb").read_text("utf-8"))
    notebook["metadata"] = {"kernelspec": {"name": "conda-env-x-py", "display_name": "x", "language": "python"}}
    notebook["nbformat_minor"] = 0
    for cell in notebook["cells"]:
        cell.pop("id", None)
    path = tmp_path / "näme.ipynb"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(notebook, ensure_ascii=False).encode())
    narrow = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    tool = [sys.executable, "-m", "minilip.course.grade", "näme.ipynb", "--csv", "marks.csv"]
    paths = {"PYTHONPATH": str(ROOT), "MINILIP_STRICT": "yes"}  # the grader's switches do not reach the learner
    run = subprocess.run(tool, cwd=tmp_path, env={**os.environ, **narrow, **paths}, capture_output=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert b"7 of 7 passed" in run.stdout and b"for a person" in run.stdout
    rows = list(csv.DictReader((tmp_path / "marks.csv").read_text("utf-8-sig").splitlines()))
    assert [row["status"] for row in rows] == ["PASS"] * 7 + ["for a person"]
    assert {row["exercise"] for row in rows} == {f"7.{n}" for n in range(1, 9)} and rows[0]["check"] == "clip.clip_loss"


def test_mistakes_errors_and_syntax_each_have_their_row():
    rows = graded(
        "%pip install nothing-of-this-name\n!pip install nothing-of-this-name\n%matplotlib inline\n" + START,
        SOLVED + CHECK,
        "raise RuntimeError('the rest of this cell')",
        "def logit_gradient(logits):\n    return logits +\nlogit_gradient = check('clip.logit_gradient', 0).use",
        "first_step = check('clip.first_step', 'up').use",
        "first_step = check('clip.first_step', first_step).use",
        "def lowest_loss(batch, captions):\n    return math.log(batch)",  # math is not imported, the check deleted
        "def my_class_vectors(prompts):\n    prompts.mul_(2)\n    return torch.nn.functional.normalize(prompts, dim=2)",
        "def my_siglip_loss(image, text, logit_scale, logit_bias):\n"
        "    logits = logit_scale * image @ text.T + logit_bias\n"
        "    signs = 2 * torch.eye(len(logits)) - 1\n"
        "    return -torch.nn.functional.logsigmoid(signs * logits.detach()).sum() / len(logits)\n"
        "check('clip.siglip_loss', my_siglip_loss)\ncheck('infonce.candidates', 149)\nimport sys\nsys.exit(0)",
    )
    assert rows["clip.clip_loss"].status == "PASS"
    assert rows["clip.logit_gradient"].status == "could not run"
    assert "SyntaxError" in rows["clip.logit_gradient"].detail and "cell 4" in rows["clip.logit_gradient"].detail
    known = [m.name for m in checks.find("clip.first_step")[1].misconceptions]
    assert rows["clip.first_step"].status == "FAIL" and rows["clip.first_step"].detail in known
    assert rows["clip.loss_floor"].status == "FAIL"
    assert "NameError" in rows["clip.loss_floor"].detail and "cell 7, line 2" in rows["clip.loss_floor"].detail
    assert rows["clip.class_vectors"].status == "FAIL"
    assert (rows["clip.recall_at"].status, rows["clip.recall_at"].detail) == ("TODO", "nothing was handed in")
    assert (rows["clip.siglip_loss"].status, rows["clip.siglip_loss"].detail) == ("FAIL", "detached")
    assert "infonce.candidates" not in rows and rows[""].status == "for a person"


def test_what_never_ends_costs_its_own_row_only():
    rows = graded(
        START,
        "def my_clip_loss(image, text, logit_scale):\n    while True: pass\n" + CHECK,
        "import os\ndef logit_gradient(logits):\n    os._exit(3)\ncheck('clip.logit_gradient', logit_gradient)",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass\nfirst_step = 'down'",
        "first_step = check('clip.first_step', 'down').use",
        timeout=6,
    )
    assert (rows["clip.clip_loss"].status, rows["clip.clip_loss"].detail) == ("FAIL", "took longer than 6 s")
    assert rows["clip.logit_gradient"].status == "FAIL" and "exit 3" in rows["clip.logit_gradient"].detail
    assert rows["clip.first_step"].status == "PASS" and rows["clip.siglip_loss"].status == "TODO"


def test_a_notebook_as_a_whole_has_a_limit(monkeypatch):
    monkeypatch.setattr(grade, "WHOLE", 0)
    rows = graded(START, SOLVED + CHECK)
    assert rows["clip.clip_loss"].status == "could not run" and "longer than 0 s" in rows["clip.clip_loss"].detail


def test_a_solved_function_stays_solved_and_the_last_prediction_counts():
    rows = graded(
        START,
        SOLVED + CHECK + "\ncheck('clip.clip_loss', lambda *a: a[0].sum())",
        "for guess in ('stays', 'down', 'up'):\n    check('clip.first_step', guess)",
        "kept = check('clip.loss_floor', None).use\nassert kept(2, 2) > 0, 'the notebook goes on with the library'",
        "def lowest_loss(batch, captions):\n    return check('clip.loss_floor', kept)",
    )
    assert rows["clip.clip_loss"].status == "PASS" and rows["clip.first_step"].status == "FAIL"
    assert rows["clip.loss_floor"].status == "FAIL" and "RuntimeError" in rows["clip.loss_floor"].detail


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not json", "expected a notebook"),
        (b"[1, 2]", "no cells"),
        (b'{"cells": 3}', "no cells"),
        (b'{"worksheets": []}', "format 3"),
        (b"[" * 100_000, "expected a notebook"),
        (b'{"cells": []}', "--lesson"),
        (None, "No such file"),
    ],
)
def test_what_is_no_notebook_is_refused(content, words, tmp_path, capsys):
    path = tmp_path / "a.ipynb"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path)]) == 2
    assert words in capsys.readouterr().out


def test_wrong_commands_are_refused(capsys):
    for wrong in (["x.ipynb", "--timeout", "0"], ["x.ipynb", "--timeout", "nan"], ["x.ipynb", "--lesson", "99"], []):
        with pytest.raises(SystemExit) as stopped:
            main(wrong)
        assert stopped.value.code == 2
    assert cli.main([]) == 2 and cli.main(["grad"]) == 2 and cli.main(["--help"]) == 0
    assert cli.main(["grade", "missing.ipynb"]) == 2


@pytest.mark.parametrize("source", ["x = 1", ["x = ", "1"]])
def test_only_code_cells_are_read(source, tmp_path):
    cells = [
        {"cell_type": "markdown", "source": "y"},
        {"cell_type": "raw", "source": "z"},
        {"cell_type": "code", "source": source, "metadata": {"tags": ["skip-execution"]}},
        3,
    ]
    path = tmp_path / "a.ipynb"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text(json.dumps({"cells": cells, "nbformat": 4}), encoding)
        assert grade.read(path.read_bytes(), str(path)) == [grade.Cell(3, "x = 1")]


def test_the_lesson_is_named_set_up_or_checked():
    def found(name, *sources):
        return grade.lesson_of(name, [grade.Cell(1, source) for source in sources], grade.lessons())

    assert found("07_clip (2) smith.ipynb", "setup('01_infonce')") == "07_clip"
    assert found("mine.ipynb", 'device = setup( "06_lie", seed=1)', "check('clip.clip_loss', f)") == "06_lie"
    assert found("mine.ipynb", "f = check('clip.clip_loss', f)") == "07_clip"
    for sources in ([], ["setup('x')"], ["setup('06_lie'); setup('07_clip')"]):
        with pytest.raises(grade.Unreadable, match="--lesson"):
            found("mine.ipynb", *sources)


def test_the_table_of_what_is_asked_is_that_of_the_library():
    for lesson in set(grade.lessons().values()):
        asked = [row.check for row in grade.rows_of(lesson) if row.check]
        assert sorted(asked) == sorted(name for name, its in grade.lessons().items() if its == lesson)


def test_a_learners_words_cannot_draw_rows(capsys):
    words = "x\n  7.2  clip.logit_gradient  PASS\x1b[2J" + "y" * 500
    row = {"exercise": "7.1", "check": "clip.clip_loss", "status": "FAIL", "detail": words}
    assert len(table([row]).splitlines()) == 1 and len(plain(words)) == 200
    assert "\x1b" not in table([row])


# ---- across the pipe -------------------------------------------------------------------------------------------------

VALUES = [
    *(None, ..., True, 3, -2.5, "ä", (1, (2.0, "x")), [1, [2]], {"a": 1, (1, 2): torch.ones(2)}),
    *(torch.randn(2, 3, dtype=d) for d in (torch.float16, torch.bfloat16, torch.float64, torch.complex64)),
    *(torch.zeros(0, 3), torch.tensor(7), torch.arange(4).view(2, 2).T, torch.tensor([True, False])),
    *(np.arange(6.0).reshape(2, 3).T, np.float32(1.5), np.int64(3), torch.Generator().manual_seed(3)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: str(type(v).__name__))
def test_values_arrive_as_they_were_sent(value):
    back = wire.unpack(json.loads(json.dumps(wire.pack(value))))
    assert type(back) is type(value)
    if isinstance(value, torch.Tensor):
        assert back.dtype == value.dtype and torch.equal(back, value)
    elif isinstance(value, np.ndarray):
        assert back.dtype == value.dtype and np.array_equal(back, value)
    elif isinstance(value, torch.Generator):
        assert torch.equal(back.get_state(), value.get_state())
    else:
        assert repr(back) == repr(value)


@pytest.mark.parametrize(
    "value", [object(), torch.eye(2).to_sparse(), torch.ones(2, device="meta"), 10**6000], ids=range(4)
)
def test_what_is_no_data_is_only_named(value):
    assert list(wire.pack(value)) == ["thing"]
    assert not isinstance(wire.unpack(wire.pack(value)), int | torch.Tensor)


@pytest.mark.parametrize("data", [[1], {}, {"pickle": "x"}, {"array": "", "dtype": "O", "shape": []}, {"live": 0}])
def test_what_pack_does_not_make_is_refused(data):
    with pytest.raises((ValueError, LookupError, StopIteration)):
        wire.unpack(data)


class Here(remote.Process):
    """A learner's process without the process: both sides of the protocol in this one."""

    def __init__(self, attempt):
        from minilip.course.grade.learner import Learner

        super().__init__()
        self.learner, self.attempt, self.calls = Learner.__new__(Learner), attempt, []

    def ask(self, message):
        sent = json.loads(json.dumps(message))
        return json.loads(json.dumps(self.learner.call("clip.clip_loss", self.attempt, sent, self.calls)))


def test_gradients_come_back_exactly():
    args = [torch.randn(4, 3), torch.randn(4, 3), torch.tensor(2.0)]

    def gradients(function):
        given = [x.clone().requires_grad_() for x in args]
        return torch.autograd.grad(function(*given), given, allow_unused=True)

    far = remote.Remote(Here(lambda v, t, s: (v @ t.T * s).logsumexp(dim=1).sum()))
    near = gradients(far.process.attempt)
    assert all(map(torch.equal, gradients(far), near)) and not far.library
    assert gradients(remote.Remote(Here(lambda v, t, s: v.exp().sum())))[1:] == (None, None)
    cut = remote.Remote(Here(lambda v, t, s: {"loss": v.detach().sum()}))(args[0].clone().requires_grad_(), *args[1:])
    assert not cut["loss"].requires_grad
    through = remote.Remote(Here(lambda *a: clip_loss(*a)))
    through(torch.eye(2), torch.eye(2), 1.0)
    assert through.library


def test_changes_to_arguments_and_errors_come_back():
    def change(x, items):
        x.mul_(2)
        items.append(3)

    x, y, items = torch.ones(2), torch.ones(2), [1]
    remote.Remote(Here(lambda x, items, y: (change(x, items), y.mul_(1))))(x, items, y)
    assert x.tolist() == [2, 2] and items == [1, 3] and y._version == 1
    learns = torch.ones(2, requires_grad=True).clone()
    remote.Remote(Here(lambda x: x.add_(1).sum()))(learns)
    assert learns.tolist() == [2, 2]
    kept = torch.ones(2)
    remote.Remote(Here(lambda x: x + 1))(kept)
    assert kept._version == 0
    for error in (KeyError("a"), ValueError("b"), torch.linalg.LinAlgError("c"), NotImplementedError(), SystemExit(2)):

        def fails(error=error):
            raise error

        with pytest.raises(Exception, match=".*") as caught:
            remote.Remote(Here(fails))()
        assert type(caught.value).__name__ == type(error).__name__ and str(caught.value) == str(error)


@pytest.mark.skipif(sys.platform == "win32", reason="there the parent's number stays when it is gone")
def test_the_learner_s_process_ends_with_the_one_that_grades(tmp_path):
    """A grader that is killed leaves no endless loop behind."""
    child = "import sys; from minilip.course.grade.learner import end_with; import os, threading, time\n"
    child += "threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()\nprint('on', flush=True)\n"
    child += "while True: pass"
    parent = "import os, subprocess, sys\n"
    parent += f"made = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
    parent += "made.stdout.readline(); print(made.pid, flush=True); os.kill(os.getpid(), 9)"
    run = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True)
    number, until = int(run.stdout), time.monotonic() + 60
    while time.monotonic() < until:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    os.kill(number, 9)
    pytest.fail("it runs on")
