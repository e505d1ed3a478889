"""The digest of a computation: it changes with all code that is called and with no word, place or Python."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minilip
from minilip.studies.digest import digest, fingerprint

ROOT = Path(minilip.__file__).parent
MADE = {
    "robustness": "minilip.studies.lie.robustness.measure",
    "orbits": "minilip.studies.lie.route.measure",
    "two": "minilip.studies.lie.scale.two_generators",
    "protoclip": "minilip.studies.protoclip.emoji.measure",
    "anchors": "minilip.studies.protoclip.emoji.anchors",
    "prolip": "minilip.studies.prolip.scenes.measure",
    "emoji": "minilip.studies.prolip.emoji.measure",
}


# ---- the course's own studies --------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(ROOT, tmp_path / "minilip", ignore=shutil.ignore_patterns("__pycache__", "*.jsonl")))


@pytest.fixture(scope="module")
def before():
    return {study: digest(name, ROOT) for study, name in MADE.items()}


def definition(path, name):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(node for node in ast.walk(tree) if getattr(node, "name", None) == name)


def compute(path, name):
    """Give a function one more statement that computes."""
    body = [s for s in definition(path, name).body if not isinstance(getattr(s, "value", None), ast.Constant)]
    lines = path.read_text(encoding="utf-8").splitlines()
    lines.insert(body[0].lineno - 1, " " * body[0].col_offset + "one = 1")
    path.write_text("\n".join(lines), encoding="utf-8")


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def changed(root, before):
    return {study for study, name in MADE.items() if digest(name, root) != before[study]}


@pytest.mark.parametrize(
    ("file", "name", "studies"),
    [
        ("studies/lie/orbits.py", "_reach", {"orbits", "two"}),
        ("studies/lie/orbits.py", "standardise", {"orbits", "two"}),
        ("studies/lie/orbits.py", "contrast", {"orbits", "two"}),  # a method of a class that is called
        ("studies/lie/readers.py", "follow", {"robustness"}),
        ("studies/lie/readers.py", "lessons", {"robustness", "orbits"}),
        ("studies/lie/learners.py", "shuffled", {"robustness"}),  # by way of a table of controls
        ("studies/prolip/generality.py", "hidden", {"prolip"}),
        ("studies/protoclip/examination.py", "see", {"protoclip"}),
        ("studies/protoclip/task.py", "pairs", {"protoclip", "anchors"}),
        ("studies/heads.py", "forward", {"protoclip", "emoji"}),
        ("prolip/uncertainty.py", "uncertainty", {"prolip", "emoji"}),
        ("data/poses.py", "_usable", {"robustness", "orbits", "two"}),
        ("nn/vision.py", "forward", set()),  # tested by an oracle
        ("clip.py", "clip_loss", set()),
        ("training/loop.py", "fit", set()),
        ("data/scenes.py", "render", set()),
        ("studies/lie/robustness.py", "known", set()),  # reads entries, makes none
        ("studies/store.py", "stored", set()),
    ],
)
def test_a_function_that_is_called_changes_the_digests_of_its_callers(copy, before, file, name, studies):
    compute(copy / file, name)
    assert changed(copy, before) == studies


@pytest.mark.parametrize(
    ("file", "old", "new", "studies"),
    [
        ("data/poses.py", "TYPICAL = 20.0", "TYPICAL = 21.0", {"robustness", "orbits", "two"}),
        ("data/emoji.py", 'UNSEEN_ARTIST = "openmoji"', 'UNSEEN_ARTIST = "noto"', {"protoclip", "anchors", "emoji"}),
        ("data/scenes.py", "(0.24, 0.30)", "(0.25, 0.30)", {"prolip"}),  # drawn: the code is tested, radii are chosen
        ("studies/lie/route.py", "POINTS = (2, 4,", "POINTS = (2, 5,", {"orbits"}),
    ],
)
def test_a_constant_changes_the_digests_of_what_is_made_with_it(copy, before, file, old, new, studies):
    replace(copy / file, old, new)
    assert changed(copy, before) == studies


def test_what_a_file_is_called_and_where_it_lies_changes_nothing(copy, before):
    shutil.move(copy / "studies/lie/readers.py", copy / "studies/reading.py")
    for path in (copy / "studies").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("minilip.studies.lie.readers", "minilip.studies.reading"), encoding="utf-8")
    assert changed(copy, before) == set()


def test_what_a_function_is_called_counts(copy, before):
    for path in (copy / "studies/lie").glob("*.py"):
        path.write_text(path.read_text(encoding="utf-8").replace("angle_error", "error_of_angle"), encoding="utf-8")
    assert "robustness" in changed(copy, before)


def test_the_digest_of_a_function_is_that_of_its_source(before):
    from minilip.studies.lie import route, scale

    assert fingerprint(route.measure) == before["orbits"] and fingerprint(scale.two_generators) == before["two"]


def test_a_command_has_the_digest_of_its_module():
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        "from minilip.studies import store\n"
        "store.Study.complete = lambda self, settings: print(store.fingerprint(self.make))\n"
        "sys.argv = ['x']; runpy.run_module('minilip.studies.prolip.emoji', run_name='__main__', alter_sys=True)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [digest(MADE["emoji"], ROOT)]


# ---- a small library, one change at a time -------------------------------------------------------------------------

CODE = {
    "study.py": '''
"""A study."""
import math as m
from collections.abc import Iterable
from minilip import _check, part
from minilip.part import helper as help_me, LIMIT
from minilip.training import fit

SCALE, OTHER = 2.0, 3.0
TABLE = {"a": help_me}

class Base:
    def run(self, x):
        return part.inner(x)

class Thing(Base):
    size: int = 3

def unused(x):
    return x

def make(x: float, values: Iterable[float] = ()) -> dict[str, float]:
    """What it does."""
    if x < 0:
        raise ValueError(f"expected x >= 0, got {x}")
    _check.count("x", x)
    total: float = sum(LIMIT * v for v in values)
    fit(Thing(), x, label=f"run {x}")  # a comment
    print("done")
    return {"value": m.sqrt(total) * SCALE, "text": f"{x:.2f} of {1 + 1}"}
''',
    "part.py": """
LIMIT = 5
DEEP = 7

def inner(x):
    return deeper(x) + 1

def deeper(x, DEEP=DEEP):
    return x * DEEP

def helper(x):
    return x
""",
    "_check.py": "def count(name, value):\n    return value\n",
    "training.py": "def fit(model, x, label):\n    return model.run(x)\n",
    "__init__.py": "",
}


@pytest.fixture
def small(tmp_path):
    """Writes the library with some texts replaced, and returns its digest."""
    number = iter(range(100))

    def write(file=None, *changes):
        root = tmp_path / str(next(number)) / "minilip"
        root.mkdir(parents=True)
        for name, text in CODE.items():
            for old, new in changes if name == file else ():
                assert old in text, old
                text = text.replace(old, new)
            (root / name).write_text(text, encoding="utf-8")
        return digest("minilip.study.make", root)

    return write


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("study.py", "SCALE, OTHER = 2.0", "SCALE, OTHER = 2.5"),
        ("study.py", "* SCALE", "* OTHER"),  # the other half of one statement
        ("study.py", "SCALE, OTHER = 2.0, 3.0", "SCALE, OTHER = OTHER, 3.0"),
        ("study.py", "class Thing(Base)", "class Thing"),
        ("study.py", "size: int = 3", "size: int = 4"),
        ("study.py", "x < 0", "x < 1"),
        ("study.py", "raise ValueError(f", "raise TypeError(f"),
        ("study.py", "m.sqrt", "m.exp"),
        ("study.py", "import math as m", "import cmath as m"),
        ("study.py", ".2f", ".3f"),
        ("study.py", "1 + 1", "1 + 2"),
        ("study.py", "of {", "or {"),
        ("study.py", "values: Iterable[float] = ()", "values: Iterable[float] = (1,)"),
        ("study.py", "LIMIT * v for v", "v for v"),
        ("study.py", "part.inner(x)", "part.helper(x)"),
        ("part.py", "LIMIT = 5", "LIMIT = 6"),
        ("part.py", "return x * DEEP", "return x + DEEP"),
        ("part.py", "DEEP = 7", "DEEP = 8"),  # read as a default, though a parameter has its name
        ("part.py", "return deeper(x) + 1", "return deeper(x)"),
    ],
)
def test_what_computes_counts(small, file, old, new):
    assert small(file, (old, new)) != small()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("study.py", '"""What it does."""', '"""Something else."""'),
        ("study.py", "# a comment", "# another one"),
        ("study.py", "expected x >= 0, got {x}", "x is {x:.3f}, and should not be below 0"),
        ("study.py", '_check.count("x", x)', '_check.count("the x", x, least=1)'),
        ("study.py", '    _check.count("x", x)\n', "    assert x < 7\n"),
        (
            "study.py",
            '    _check.count("x", x)\n',
            '    for n in "x":\n        if x > 7:\n            _check.fail(n, x)\n',
        ),
        ("study.py", "run {x}", "a long run of {x}"),
        ("study.py", 'print("done")', 'print("well done")'),
        ("study.py", "x: float, values: Iterable[float]", "x, values: list[float]"),
        ("study.py", "total: float =", "total ="),
        ("study.py", "def unused(x):\n    return x\n", ""),
        ("study.py", "import math as m", "import math as m\nimport sys"),
        ("study.py", "SCALE", "FACTOR"),
        ("study.py", "SCALE, OTHER = 2.0, 3.0", "SCALE, OTHER = 2.0, 4.0"),
        ("study.py", "SCALE, OTHER = 2.0, 3.0", "SCALE = 2.0\nOTHER = 3.0"),
        ("study.py", "helper as help_me, LIMIT", "helper, LIMIT"),
        ("study.py", "m.sqrt(total)", "(m.sqrt(\n        total))"),
        ("study.py", 'TABLE = {"a": help_me}', 'TABLE = {"b": help_me}'),  # no one reads it
        ("part.py", "def helper(x):\n    return x\n", "def helper(x):\n    return 2 * x\n"),
        ("training.py", "return model.run(x)", "return model.run(x + 1)"),
        ("_check.py", "return value", "return 2 * value"),
    ],
)
def test_words_do_not_count(small, file, old, new):
    changes = [(old, new)]
    if old.startswith("helper as"):
        changes.append(("help_me", "helper"))
    assert small(file, *changes) == small()


def test_a_name_is_what_it_means(small):
    """Two functions that are called the same, in two places, are told apart; a local name is no constant."""
    swapped = [("def inner(x):\n    return deeper(x) + 1", "def inner(x):\n    return helper(x) + 1")]
    assert small("part.py", *swapped) != small()
    assert small("study.py", ("for v in values", "for LIMIT in values"), ("LIMIT * v", "LIMIT * LIMIT")) != small()
    local = [("total: float = sum", "SCALE = 2.0\n    total = sum")]
    assert small("study.py", *local) != small()
    with_other = [*local, ("SCALE, OTHER = 2.0", "SCALE, OTHER = 9.0")]
    assert small("study.py", *local) == small("study.py", *with_other)  # the constant is not what is read


def test_a_name_that_a_function_declares_global_is_the_constant(small):
    declared = [("    total: float = sum", "    if x:\n        global SCALE\n        SCALE = x\n    total = sum")]
    assert small("study.py", *declared) != small("study.py", *declared, ("SCALE, OTHER = 2.0", "SCALE, OTHER = 9.0"))


def test_functions_that_call_each_other_have_a_digest(small):
    loop = [("return x * DEEP", "return x * inner(x - 1) if x else DEEP")]
    assert small("part.py", *loop) != small()
    assert small("part.py", *loop) == small("part.py", *loop)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("part.inner(x)", "getattr(part, 'inner')(x)"), "part: a module that is handed on as a value"),
        (("part.inner(x)", "part.absent(x)"), "part.absent: no such name at the top of minilip.part"),
    ],
)
def test_what_cannot_be_followed_is_refused(small, change, message):
    with pytest.raises(LookupError, match=message):
        small("study.py", change)


def test_the_digest_is_the_same_under_every_python(small):
    """3.12 takes f-strings apart differently, and every version adds fields to its trees: this number stays."""
    assert small() == "1d8c86bcc3e2"


def own(x):
    return other(x) + 1


def other(x):
    return x


def test_a_function_of_your_own_module_has_a_digest_too():
    assert fingerprint(own) != fingerprint(other) and len(fingerprint(own)) == 12
