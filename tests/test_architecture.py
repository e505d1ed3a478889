"""Imports point one way, no private name crosses a file, no file is longer than one can hold in the head."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "minilip").rglob("*.py"))
LONGEST = 300  # lines
TOO_LONG: set[str] = set()
FOREIGN = {  # what other packages offer under such names alone
    "minilip/course/checks/_guard.py: torch._tensor_str",  # how a learner's printing was set, to be put back
    "minilip/course/checks/_observe.py: x._version",  # counts changes in place, also those that leave the numbers alone
    "minilip/course/checks/_observe.py: torch.utils._python_dispatch",  # sees the tensors that an attempt makes
    "minilip/course/grade/learner.py: x._version",
    "minilip/course/grade/learner.py: os._exit",  # documented, in spite of its name
}
SHARED = {"minilip._check", "minilip._files"}  # the library's own, for all of it and for tools/
PUBLIC = {"_asdict", "_fields", "_make", "_replace"}  # of a NamedTuple, whose fields may have any name without _


def contracts(root: Path) -> subprocess.CompletedProcess:
    """import-linter's contracts of pyproject.toml, on the minilip/ that lies under `root`."""
    run = "import sys; from importlinter.cli import lint_imports_command as run; sys.argv[0] = 'lint-imports'; run()"
    env = {**os.environ, "PYTHONPATH": str(root), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", run, "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, encoding="utf-8")


def test_imports_point_one_way():
    run = contracts(ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    "path, line, broken",
    [
        ("nn/vision.py", "from minilip.clip import CLIP", "one way"),
        ("data/scenes.py", "import minilip.evaluation", "one way"),
        ("clip.py", "from minilip.training import fit", "one way"),
        ("evaluation/probes.py", "from minilip.studies.store import recall", "one way"),
        ("studies/store.py", "from minilip.course import claim", "one way"),
        ("mae.py", "from minilip.simclr import nt_xent", "one way"),
        ("_check.py", "from minilip.nn.vectors import unit", "one way"),
        ("flava.py", "", "one way"),  # a module without a place
        ("protoclip/clustering.py", "if TYPE_CHECKING:\n    from minilip.protoclip.model import ProtoCLIP", "No cycle"),
        ("data/latents.py", "def f():\n    from minilip.data.scenes import Scenes", "No cycle"),
        ("clip.py", "from tools.build import table", "built and tested"),
        ("training/loop.py", "import pytest", "built and tested"),
    ],
)
def test_what_points_the_other_way_is_found(tmp_path, path, line, broken):
    shutil.copytree(ROOT / "minilip", tmp_path / "minilip", ignore=shutil.ignore_patterns("*.jsonl", "__pycache__"))
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    with (tmp_path / "minilip" / path).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    run = contracts(tmp_path)
    assert run.returncode == 1, run.stdout + run.stderr
    assert [name for name in run.stdout.splitlines() if name.endswith("BROKEN") and broken in name], run.stdout


# --- Private names ---------------------------------------------------------------------------------------------------


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in PUBLIC


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def absolute(module: str, node: ast.ImportFrom) -> str:
    """The module that an import in `module` takes names from, relative or not."""
    package = (ROOT / module.replace(".", "/")).is_dir()
    above = module.split(".")[: len(module.split(".")) - node.level + package] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def crossings(source: str, module: str) -> list[str]:
    """Private names and modules of others that the source of `module` imports or reaches into.

    A private module belongs to the package that it lies in. A private attribute belongs to the file that gives it: by a
    definition, by an assignment, or as a method or field of a class there.
    """
    found, own = [], set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.id if isinstance(node, ast.Name) else node.attr)
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = absolute(module, node)
            names = [f"{start}.{alias.name}" for alias in node.names if start != "__future__"]
        elif isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
            found.append(ast.unparse(node))
        for name in names:
            parts = name.split(".")
            for i, part in enumerate(parts):
                parent, whole = ".".join(parts[:i]), ".".join(parts[: i + 1])
                inside = (ROOT / whole.replace(".", "/")).with_suffix(".py").exists() and within(module, parent)
                if private(part) and whole not in SHARED and not inside:
                    found.append(whole)
    return found


def test_no_private_name_crosses_a_file():
    found = set()
    for path in [*FILES, *sorted((ROOT / "tools").rglob("*.py"))]:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found |= {f"{path.relative_to(ROOT).as_posix()}: {name}" for name in crossings(path.read_text("utf-8"), module)}
    assert found == FOREIGN


@pytest.mark.parametrize(
    "source, found",
    [
        ("from minilip.simclr import _accuracy", ["minilip.simclr._accuracy"]),
        ("from minilip import simclr\nsimclr._accuracy(1)", ["simclr._accuracy"]),
        ("def f():\n    import minilip.simclr as s\n    return s._accuracy", ["s._accuracy"]),
        ("from minilip.course.checks import _judge", ["minilip.course.checks._judge"]),
        ("from minilip.course.checks._judge import judge", ["minilip.course.checks._judge"]),
        ("def f(model):\n    return model._embed(1)", ["model._embed"]),
        ("import torch._dynamo", ["torch._dynamo"]),
        ("from minilip import _check\n_check.fail('', '', '')", []),
        ("from minilip import _check\n_check._widen(1)", ["_check._widen"]),
        ("from minilip._files import replacing", []),
        ("class A:\n    def _f(self): ...\n    def g(self):\n        self._x = 1\n        self._f(), self._x", []),
        ("from .simclr import _accuracy", ["minilip.simclr._accuracy"]),
        ("from . import _check, _files", []),
        ("pair._replace(x=1).__len__()", []),
    ],
)
def test_a_private_name_that_crosses_is_found(source, found):
    assert crossings(source, "minilip.clip") == found


def test_a_private_module_is_its_package_s():
    for line in ("from minilip.course.checks._judge import judge", "from ._judge import judge"):
        assert crossings(line, "minilip.course.checks._prove") == []
        assert crossings(line, "minilip.course.checks") == []
    assert crossings("from minilip.course.checks._judge import judge", "minilip.course") != []
    assert crossings("from .checks._judge import judge", "minilip.course") != []


# --- Length ----------------------------------------------------------------------------------------------------------


def test_no_file_is_too_long():
    """But for the content of checks, which is a list: a module a lesson, its wrong answers and what is said of them."""
    long = set()
    for path in [*FILES, *sorted((ROOT / "tools").rglob("*.py"))]:
        content = path.parent.name == "checks" and not path.name.startswith("_")
        if not content and len(path.read_text("utf-8").splitlines()) > LONGEST:
            long.add(path.relative_to(ROOT).as_posix())
    assert long - TOO_LONG == set()
