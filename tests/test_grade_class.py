"""minilip grade for a class: attacks do not score, honest work does, and nothing is lost on the way."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell as code
from nbformat.v4 import new_notebook

from minilip.course import checks, grade
from minilip.course.grade import sandbox
from minilip.course.grade.__main__ import main
from minilip.course.grade.scores import COLUMNS, Scores, figure, summary
from minilip.course.grade.submissions import Submission, find

ROOT = Path(__file__).resolve().parents[1]
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="confinement is Linux's")
START = "from minilip.course import *\nimport torch\nsetup('07_clip')"
CHECK = "\ncheck('clip.clip_loss', my_clip_loss)"
SOLVED = """
def my_clip_loss(image, text, logit_scale):
    logits = logit_scale * image @ text.T
    pairs = torch.arange(len(logits))
    ce = torch.nn.functional.cross_entropy
    return (ce(logits, pairs) + ce(logits.T, pairs)) / 2
"""
HONEST = [START, SOLVED + CHECK]


def notebook(path, *sources, outputs=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [code(source) for source in sources]
    cells[0]["outputs"] = list(outputs)
    nbformat.write(new_notebook(cells=cells), path)
    return path


def rows(path):
    return list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))


def graded(*sources, timeout=20.0, **more):
    cells = [grade.Cell(n, source) for n, source in enumerate(sources, 1)]
    return {row.check: row for row in grade.grade(cells, "07_clip", timeout, **more)}


# ---- attacks: none of them scores ------------------------------------------------------------------------------------

LOSS = "def my_clip_loss(image, text, logit_scale):\n"
ATTACKS = {
    "redefines check": "check = lambda name, attempt: print('PASS', name)\n" + LOSS + "    return 0" + CHECK,
    "patches minilip": "import minilip.clip as c, minilip.course.checks as k\n"
    "k.judge = k._judge.judge = lambda e, a, s=0: k.Report('PASS', None, a, '')\nc.clip_loss = lambda *a: 0\n"
    + LOSS
    + "    return c.clip_loss(image, text, logit_scale)"
    + CHECK,
    "patches torch": "torch.allclose = torch.equal = lambda *a, **k: True\ntorch.Tensor.__eq__ = lambda *a: True\n"
    "torch.Tensor.isfinite = lambda self: torch.ones(())\n" + LOSS + "    return torch.zeros(())" + CHECK,
    "prints PASS": "print('PASS  clip.clip_loss')\nprint('7 of 7 passed')\n" + LOSS + "    return image.sum()" + CHECK,
    "the library's own": "from minilip.clip import clip_loss\n"
    + LOSS
    + "    return clip_loss(image, text, logit_scale)"
    + CHECK,
    "what a check handed out": "given = check('clip.clip_loss', None).use\ncheck('clip.clip_loss', given)\n"
    + LOSS
    + "    return given(image, text, logit_scale)"
    + CHECK,
    "the library's source": "import inspect, minilip.clip, re\nsource = inspect.getsource(minilip.clip.clip_loss)\n"
    "space = dict(vars(minilip.clip))\n"
    "exec(re.sub(r'r\"\"\".*?\"\"\"', '', source.replace('@_check.full_precision', ''), flags=re.S), space)\n"
    "my_clip_loss = space['clip_loss']" + CHECK,
    "the reference's code": "import types\nfrom minilip.course import checks\n"
    "f = checks.find('clip.clip_loss')[1].reference\n"
    "my_clip_loss = types.FunctionType(f.__code__.replace(co_name='mine'), f.__globals__, 'mine')" + CHECK,
    "a table of the inputs": "from minilip.course.checks import make_cases, find\n"
    "seen = [(c.args, c.truth.output) for c in make_cases(find('clip.clip_loss')[1]).plain]\n"
    + LOSS
    + "    for (a, b, s), loss in seen:\n"
    "        if a.shape == image.shape and torch.allclose(a, image.to(a.dtype)):\n"
    "            return torch.as_tensor(loss).to(image) + 0 * (image.sum() + text.sum() + logit_scale)\n"
    "    return image.sum()" + CHECK,
    "writes a lot": "for _ in range(50):\n    print('x' * 1_000_000)\n" + LOSS + "    return image.sum()" + CHECK,
    "sends a lot": LOSS + "    return 'x' * 50_000_000" + CHECK,
    "never ends": LOSS + "    while True:\n        try:\n            while True: pass\n"
    "        except BaseException: pass" + CHECK,
    "ends its process": LOSS + "    import os\n    os.kill(os.getpid(), 9)" + CHECK,
}
ON_LINUX = {
    "reads solutions": f"import json\ncells = json.load(open({str(ROOT / 'solutions/07_clip.ipynb')!r}))['cells']\n"
    "for cell in cells:\n    if 'def my_clip_loss' in ''.join(cell['source']):\n"
    "        exec(''.join(cell['source']))",
    "reads the source of the course": f"source = open({str(ROOT / 'course/07_clip/exercises.py')!r}).read()\n"
    "exec(source[source.index('def my_clip_loss'):].split('###')[0])" + CHECK,
    "a fork bomb": "import os\n" + LOSS + "    while True:\n        os.fork()" + CHECK,
    "a fork bomb of the shell": "!sh -c ':(){ :|:& };:'\n%%bash\nsleep 1000 &",
    "kills its judge": "import os, signal\n" + LOSS + "    os.kill(os.getppid(), signal.SIGKILL)" + CHECK,
    "eats memory": "kept = []\n" + LOSS + "    while True:\n        kept.append(bytearray(10**8))" + CHECK,
}
PATCHES = ("redefines check", "patches minilip", "patches torch")  # nothing after them is what it was
DEADLY = ("never ends", "ends its process")
TOGETHER = {  # cells of one notebook, whose process outlives them
    "deceit": [name for name in ATTACKS if name not in PATCHES + DEADLY],
    **{name: [name] for name in PATCHES},
    "no end": list(DEADLY),
}
if sys.platform.startswith("linux"):
    TOGETHER["confined"] = list(ON_LINUX)


@pytest.mark.parametrize("group", TOGETHER)
def test_an_attack_does_not_score(group):
    names = TOGETHER[group]
    sources = [START, *((ATTACKS | ON_LINUX)[name] for name in names), "first_step = 'down'"]
    cells = [grade.Cell(n, source) for n, source in enumerate(sources, 1)]
    grading = grade._Grading(cells, "07_clip", 8.0, sandbox.MEMORY, 7)
    while not grading.done:
        grading.run()
    by_cell = {
        name: [v for (w, _), v in grading.verdicts.items() if w == f"cell {n}"] for n, name in enumerate(names, 2)
    }
    assert [name for name, found in by_cell.items() if any(status == "PASS" for status, *_ in found)] == []
    for name in ("the library's own", "the library's source", "what a check handed out", "the reference's code"):
        if name in names:
            assert by_cell[name][-1][1] == "calls the library's own function", name
    rows = grading.by_check
    assert rows["clip.clip_loss"].status != "PASS"
    assert rows["clip.first_step"].status == "PASS"  # what is honest counts all the same


@LINUX
def test_nothing_is_written_outside_and_nobody_is_called(tmp_path):
    aim = tmp_path / "here"
    attempts = f"""
import os, socket, subprocess, tempfile, threading
told = []
def tried(what):
    try: what()
    except OSError as error: told.append(type(error).__name__)
    else: told.append("done")
tried(lambda: open({str(aim)!r}, "w"))
tried(lambda: os.mkdir({str(aim)!r}))
tried(lambda: os.unlink({str(ROOT / "README.md")!r}))
tried(lambda: open("/dev/shm/minilip", "w"))
tried(lambda: socket.create_connection(("127.0.0.1", 22)))
tried(lambda: subprocess.Popen(["sleep", "1"]))
tried(lambda: open(f"/proc/{{os.getppid()}}/environ").read())
tried(lambda: os.kill(os.getppid(), 0))
tried(lambda: open("mine.txt", "w").write("x"))
tried(lambda: tempfile.NamedTemporaryFile().close())
thread = threading.Thread(target=lambda: tried(lambda: open({str(aim)!r}, "w")))
thread.start(); thread.join()
def lowest_loss(*_):
    raise RuntimeError(" ".join(told))
check("clip.loss_floor", lowest_loss)
"""
    told = graded(START, attempts)["clip.loss_floor"].detail
    words = told.removeprefix("RuntimeError: ").partition(" (")[0].split()
    assert words == ["PermissionError"] * 8 + ["done", "done", "PermissionError"], told
    assert not aim.exists() and (ROOT / "README.md").exists()


@LINUX
def test_what_confines_is_in_force():
    from minilip.course.grade.remote import Process

    with Process() as process:
        assert process.held == ["memory", "files", "calls"]


def test_the_filter_lets_threads_be_made_and_jumps_to_lines_that_are_there():
    for machine in sandbox.ARCHITECTURES:
        lines = sandbox._program(machine, 7)
        for at, (opcode, yes, no, _) in enumerate(lines):
            if opcode not in (sandbox.LOAD, sandbox.RETURN):
                assert at + 1 + max(yes, no) < len(lines)
        assert lines[-1][0] == sandbox.RETURN

        def verdict(number, first=0, lines=lines, machine=machine):
            at, value = 0, 0
            shown = {sandbox.ARCHITECTURE: sandbox.ARCHITECTURES[machine], sandbox.NUMBER: number, sandbox.FIRST: first}
            while True:
                opcode, yes, no, k = lines[at]
                if opcode == sandbox.RETURN:
                    return k
                if opcode == sandbox.LOAD:
                    value, at = shown[k], at + 1
                    continue
                test = {sandbox.EQUAL: value == k, sandbox.ABOVE: value >= k, sandbox.ANY_BIT: bool(value & k)}
                at += 1 + (yes if test[opcode] else no)

        column = list(sandbox.ARCHITECTURES).index(machine)
        refused = sandbox.ERROR | sandbox.EPERM
        for numbers in sandbox.CALLS.values():
            assert numbers[column] is None or verdict(numbers[column]) == refused
        for numbers in sandbox.TO_ITSELF.values():
            assert [verdict(numbers[column], p) for p in (7, 0, 8)] == [sandbox.ALLOW] * 2 + [refused]
        assert verdict(sandbox.CLONE[column], sandbox.THREAD | 3) == sandbox.ALLOW
        assert verdict(sandbox.CLONE[column], 17) == refused
        assert verdict(sandbox.CLONE3) == sandbox.ERROR | sandbox.ENOSYS
        assert verdict(0 if machine == "x86_64" else 63) == sandbox.ALLOW  # read


# ---- fresh inputs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2026])
def test_right_answers_pass_and_mistakes_are_named_on_any_inputs(seed):
    wrong = []
    for name, (_, exercise) in checks.catalogue().items():
        if isinstance(exercise, checks.Exercise):
            wrong += [name for f in exercise.right[:1] if checks.judge(exercise, f, seed).status != "PASS"]
            m = exercise.misconceptions[seed % len(exercise.misconceptions)]
            if checks.judge(exercise, exercise.wrong(m), seed).mistake != m.name:
                wrong.append(f"{name}: {m.name}")
    assert wrong == []


def test_inputs_are_those_of_the_seed():
    exercise = checks.find("clip.clip_loss")[1]
    one, same, other = (checks.make_cases(exercise, seed).plain[0].args[0] for seed in (5, 5, 6))
    assert one.equal(same) and not one.equal(other)


# ---- a class ---------------------------------------------------------------------------------------------------------


def a_class(folder):
    """nbgrader's folders, with an archive, a broken file and a stranger among them."""
    notebook(folder / "ada" / "07" / "07_clip.ipynb", *HONEST)
    wrong = SOLVED.replace("logit_scale * image", "image").replace("/ 2", "/ 2 + 0 * logit_scale")
    notebook(folder / "bob" / "07" / "07_clip.ipynb", START, wrong + CHECK)
    notebook(folder / "cleo" / "07" / "07_clip.ipynb", START, wrong + CHECK)
    (folder / "dan" / "07").mkdir(parents=True)
    (folder / "dan" / "07" / "07_clip.ipynb").write_text("{not json")
    with zipfile.ZipFile(folder / "eve.zip", "w") as archive:
        archive.write(notebook(folder.parent / "x.ipynb", *HONEST), "work/07_clip.ipynb")
    (folder / "fay.zip").write_bytes(b"no archive")
    notebook(folder / ".ipynb_checkpoints" / "07_clip.ipynb", *HONEST)
    return folder


def test_a_class_has_a_row_a_student_and_exercise(tmp_path, capsys):
    folder, out = a_class(tmp_path / "submitted"), tmp_path / "scores.csv"
    assert main([str(folder), "--out", str(out), "--jobs", "2", "--seed", "3"]) == 2  # two could not be read
    found = rows(out)
    assert tuple(found[0]) == COLUMNS
    by = {(row["student"], row["check"]): row for row in found}
    assert {row["student"] for row in found} == {"ada", "bob", "cleo", "dan", "eve", "fay"}
    assert [by[s, "clip.clip_loss"]["status"] for s in ("ada", "bob", "cleo", "eve")] == [
        "PASS",
        "FAIL",
        "FAIL",
        "PASS",
    ]
    mistake = by["bob", "clip.clip_loss"]["mistake"]
    assert mistake and mistake in [m.name for m in checks.find("clip.clip_loss")[1].misconceptions]
    assert [by[s, ""]["status"] for s in ("dan", "fay")] == ["could not be read"] * 2
    person = by["ada", ""]
    assert person["status"] == "for a person" and "A good answer" in person["detail"] and person["exercise"] == "7.8"
    assert len([row for row in found if row["student"] == "ada"]) == 8
    assert {row["seed"] for row in found if row["check"]} == {"3"}
    printed = capsys.readouterr().out
    assert f"2 × {mistake} (7.1)" in printed and "07_clip 7.1: 2 of 4 passed" in printed
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"

    # The same again grades nothing anew, but a notebook that has changed.
    notebook(folder / "bob" / "07" / "07_clip.ipynb", *HONEST)
    assert main([str(folder), "--out", str(out), "--jobs", "2"]) == 2
    assert capsys.readouterr().out.count("graded before") == 3
    again = {(row["student"], row["check"]): row for row in rows(out)}
    assert again["bob", "clip.clip_loss"]["status"] == "PASS" and again["ada", ""] == person


@LINUX
def test_a_grading_that_is_killed_goes_on(tmp_path):
    folder, out = tmp_path / "class", tmp_path / "scores.csv"
    for name in ("a", "b"):
        notebook(folder / f"{name}_07_clip.ipynb", *HONEST)
    endless = notebook(folder / "c_07_clip.ipynb", START, "while True: pass")
    tool = [sys.executable, "-m", "minilip.course.grade", str(folder), "--out", str(out), "--jobs", "1"]
    run = subprocess.Popen(
        [*tool, "--timeout", "600"], env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True
    )
    until = time.monotonic() + 120
    while time.monotonic() < until and not (out.exists() and len({row["student"] for row in rows(out)}) == 2):
        time.sleep(0.2)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    kept = rows(out)
    assert {row["student"] for row in kept} == {"a_07_clip", "b_07_clip"}
    notebook(endless, START)
    assert main([str(folder), "--out", str(out), "--jobs", "1"]) == 1
    assert rows(out)[: len(kept)] == kept and {row["student"] for row in rows(out)} == {f"{n}_07_clip" for n in "abc"}


def test_a_file_of_another_kind_is_left_alone(tmp_path, capsys):
    out = tmp_path / "scores.csv"
    out.write_text("name,grade\nada,1\n")
    assert main([str(notebook(tmp_path / "07_clip.ipynb", START)), "--out", str(out)]) == 2
    assert out.read_text() == "name,grade\nada,1\n" and "expected the columns" in capsys.readouterr().out
    assert main([str(tmp_path / "empty")]) == 2


def test_a_notebook_of_50_mb_is_read(tmp_path):
    output = nbformat.v4.new_output("stream", text="x" * 50_000_000)
    path = notebook(tmp_path / "07_clip.ipynb", *HONEST, outputs=[output])
    assert path.stat().st_size > 50_000_000
    assert len(grade.read(Submission("x", path).read(), str(path))) == 2
    with path.open("ab") as file:
        file.write(b" " * 60_000_000)
    with pytest.raises(grade.Unreadable, match="larger than"):
        Submission("x", path).read()


def test_students_are_found_in_the_folders_of_each_platform(tmp_path):
    for name in (
        "nb/ada/07/07_clip.ipynb",
        "otter/bob_07_clip.ipynb",
        "moodle/Cleo D_12_assignsubmission_file_/my work.ipynb",
        "gradescope/submission_12/07_clip.ipynb",
        "gradescope/submission_12/.ipynb_checkpoints/07_clip-checkpoint.ipynb",
    ):
        notebook(tmp_path / name, START)
    found = {s.student for folder in tmp_path.iterdir() for s in find([folder])}
    assert found == {"ada", "bob_07_clip", "Cleo D", "submission_12"}
    assert [s.student for s in find([tmp_path / "otter/bob_07_clip.ipynb"])] == ["bob_07_clip"]


def test_the_figure_has_a_bar_a_verdict_and_a_mistake():
    def line(student, status, mistake=""):
        facts = {"student": student, "lesson": "07_clip", "exercise": "7.1", "check": "clip.clip_loss"}
        return {**facts, "status": status, "mistake": mistake}

    lines = [line("a", "PASS"), line("b", "FAIL", "one direction only"), line("c", "FAIL", "one direction only")]
    left, right = figure(lines).axes
    assert [bar.get_width() for bar in left.patches] == [1, 2, 0, 0]
    assert [bar.get_width() for bar in right.patches] == [2]
    assert "2 × one direction only (7.1)" in summary(lines)
    assert "1 of 3 passed" in summary(lines)
    assert Scores(None).lines() == []


def test_spreadsheets_take_no_formula_for_one(tmp_path):
    out = tmp_path / "scores.csv"
    wrong = LOSS + "    raise ValueError('=HYPERLINK(1)')" + CHECK
    main([str(notebook(tmp_path / "07_clip.ipynb", START, wrong)), "--out", str(out)])
    assert not [value for row in rows(out) for value in row.values() if value.startswith(("=", "+", "-", "@"))]
    assert json.dumps(rows(out))
