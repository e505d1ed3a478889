"""The repository agrees with itself: notebooks with sources, links with files, environments with each other."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook
from packaging.version import Version

from tools import build, constraints, sources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest there

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
COURSE = build.Course(ROOT)
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")
PIN = re.compile(r'([a-z0-9-]+)==([0-9][0-9a-z.]*)(?: ; python_version >= "(3\.\d+)")?')
KNOWN_GOOD = [x for x in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not x.startswith("#")]
TYPED = [line for line in KNOWN_GOOD if line.split("==")[0] in ("torch", "numpy", "matplotlib", "pillow")]
DESIGN = [f"{number:02}" for number in range(1, 14)]  # the lessons of the course, written or planned


@pytest.mark.parametrize("command", ["ruff check", "ruff format --check", "mypy"])
def test_lint(command):
    other = [line for line in TYPED if not installed(line)] if command == "mypy" else []
    if other:
        pytest.skip(f"mypy judges our calls by their types, known good are {', '.join(other)}; `make lint` runs it")
    tool = [sys.executable, "-m", *command.split()]
    run = subprocess.run(tool, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def installed(pin: str) -> bool:
    """Whether a line of constraints.txt is the version that is here."""
    name, number, _ = PIN.fullmatch(pin).groups()
    return Version(version(name)).public == number


def test_notebooks_and_pages_agree_with_their_sources():
    assert build.differences(ROOT) == []


@pytest.mark.parametrize("path", [path for path in COURSE.notebooks if not path.startswith("exercises/")])
def test_notebooks_show_no_unexpected_error(path):
    cells = build.code_cells(nbformat.read(ROOT / path, as_version=4))
    failed = [c.source for c in cells if any(o.output_type == "error" for o in c.outputs)]
    allowed = [c.source for c in cells if "raises-exception" in c.metadata.get("tags", [])]
    assert [source for source in failed if source not in allowed] == []


def test_lessons_are_committed_at_full_budget():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert "budget quick" not in path.read_text("utf-8"), path.name


def test_code_in_cells_fits_the_page():
    wide = []
    for path in sorted((ROOT / "course").glob("*/*.py")):
        for cell in sources.read(path):
            if cell.cell_type == "code":
                wide += [f"{cell.where}: {line}" for line in cell.source.splitlines() if len(line) > 120]
    assert wide == []


def test_kernels_run_small_and_only_solutions_are_strict(tmp_path):
    shutil.copy(ROOT / "conftest.py", tmp_path)
    folders = {"notebooks": None, "solutions": "1", "exercises": None}
    for folder, strict in folders.items():
        (tmp_path / folder).mkdir()
        wanted = {"MINILIP_STRICT": strict, "MINILIP_BUDGET": "quick", "OMP_NUM_THREADS": "1"}
        cell = new_code_cell(
            f"import os, pathlib\nassert all(os.environ.get(k) == v for k, v in {wanted}.items()), os.environ\n"
            "pathlib.Path('ran').touch()"
        )
        nbformat.write(new_notebook(cells=[cell]), tmp_path / folder / "a.ipynb")
    names = ("MINILIP_STRICT", "MINILIP_BUDGET", "OMP_NUM_THREADS")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    tool = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "--rootdir=.", "-q"]
    run = subprocess.run([*tool, *folders], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    assert all((tmp_path / folder / "ran").exists() for folder in folders)


# --- Links -----------------------------------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """The text of every page a reader may open, by path."""
    found = {name: (ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md", "RESULTS.md")}
    for path in filter(lambda path: (ROOT / path).exists(), COURSE.notebooks):
        cells = nbformat.read(ROOT / path, as_version=4).cells
        found[path] = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return found


def test_relative_links_resolve():
    broken = []
    for page, text in pages().items():
        for target in LINK.findall(text):
            if not target.startswith(("http://", "https://")) and not (ROOT / page).parent.joinpath(target).exists():
                broken.append(f"{page}: {target}")
    assert broken == []


def test_badges_lead_to_their_notebooks():
    colab = PROJECT["project"]["urls"]["Repository"].replace("github.com", "colab.research.google.com/github")
    texts = pages()
    for path in texts.keys() & COURSE.notebooks.keys():
        assert f"({colab}/blob/main/{path})" in texts[path]
    for page, text in texts.items():
        for target in re.findall(r"\((https://colab\.research\.google\.com/github/[^)]+)\)", text):
            notebook = target.removeprefix(f"{colab}/blob/main/")
            assert notebook in COURSE.notebooks, f"{page}: {target}"


def test_paths_named_in_prose_exist():
    """`notebooks/07_clip.ipynb`, `minilip/_check.py`: a path in backticks that names a file of ours is there."""
    named = re.compile(r"`((?:course|notebooks|exercises|solutions|minilip|tests|benchmarks|tools)/[\w./]*)`")
    missing = []
    for page, text in pages().items():
        for target in named.findall(text):
            if "NN_" not in target and not (ROOT / target).exists():
                missing.append(f"{page}: {target}")
    assert missing == []


def test_every_lesson_is_written_or_planned_and_not_both():
    planned = re.findall(r"\b\d\d\b", re.search(r"^Planned: .+$", pages()["README.md"], re.M)[0])
    written = [
        lesson.number for lesson in COURSE.lessons if re.fullmatch(r"\d\d", lesson.number) and lesson.number != "00"
    ]
    assert sorted(planned + written) == DESIGN


# --- Exercises -------------------------------------------------------------------------------------------------------


def test_every_exercise_is_asked_once_and_known():
    from minilip.course import checks

    asked = []
    for lesson in COURSE.lessons:
        names = re.findall(r'\bcheck\(\s*"([^"]+)"', "\n".join(sources.code(lesson.solutions)))
        asked += [(name, lesson.name) for name in names]
    assert sorted(asked) == sorted((name, lesson) for name, (lesson, _) in checks.catalogue().items())


# --- Environments ----------------------------------------------------------------------------------------------------


def requirements(lines: list[str], bound: str = ">=") -> dict[str, str]:
    """name -> version after the bound; refuses any other bound."""
    found = {}
    for line in lines:
        match = re.fullmatch(rf"([\w-]+){bound}([\d.]+)", line)
        assert match, f"{line}: expected name{bound}version and no other bound"
        name = match[1].replace("_", "-").lower()
        assert name not in found, f"{name} is named twice"
        found[name] = match[2]
    return found


EXTRAS = {name: list(lines) for name, lines in PROJECT["project"]["optional-dependencies"].items()}


def test_environment_and_pyproject_name_the_same_packages():
    project = PROJECT["project"]
    listed = re.findall(r"^ +- ([^\s:]+)$", (ROOT / "environment.yml").read_text("utf-8"), re.M)
    conda = requirements([line for line in listed if line not in ("conda-forge", "pip")])
    conda["torch"] = conda.pop("pytorch")  # its name there
    assert conda.pop("python") == project["requires-python"].removeprefix(">=")
    assert conda == requirements(project["dependencies"] + EXTRAS["course"])


def test_bounds_are_lower_and_only_lint_is_exact():
    assert "minilip[lint]" in EXTRAS["test"]
    assert requirements([line for line in EXTRAS["test"] if line != "minilip[lint]"])
    assert {"ruff", "mypy"} <= requirements(EXTRAS["lint"], "==").keys()


def test_known_good_versions_are_complete_and_within_the_bounds():
    good = {PIN.fullmatch(line)[1]: PIN.fullmatch(line)[2] for line in KNOWN_GOOD}
    assert list(good) == sorted(good) and len(good) == len(KNOWN_GOOD)
    asked = requirements(PROJECT["project"]["dependencies"] + EXTRAS["course"] + EXTRAS["test"][:-1])
    exact = requirements(EXTRAS["lint"], "==")
    assert [name for name in asked if Version(good[name]) < Version(asked[name])] == []
    assert {name: good[name] for name in exact} == exact
    assert not any(name.startswith(("nvidia", "cuda", "triton", "minilip")) for name in good)


def test_known_good_versions_are_those_installed():
    pins = {PIN.fullmatch(line)[1]: line for line in constraints.pins()}
    direct = requirements(PROJECT["project"]["dependencies"] + EXTRAS["course"]) | requirements(EXTRAS["lint"], "==")
    assert direct.keys() | {"traitlets"} <= pins.keys()  # traitlets: what a package of ours needs
    assert all(installed(line) for line in pins.values())
    assert "python_version" not in pins["ruff"] and "minilip" not in pins


def test_version_is_the_library_s():
    import minilip

    assert re.fullmatch(r"\d+\.\d+\.\d+", minilip.__version__)
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "minilip.__version__"}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == minilip.__version__ and citation["license"] == PROJECT["project"]["license"]
    assert citation["repository-code"] == PROJECT["project"]["urls"]["Repository"]
    assert f"## {minilip.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_a_wheel_would_hold_every_file():
    setuptools, library = PROJECT["tool"]["setuptools"], ROOT / "minilip"
    assert setuptools["packages"]["find"] == {"include": ["minilip*"]}  # folders with an __init__.py
    files = [path for path in library.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".part", ".tmp")]
    packed = {path for pattern in setuptools["package-data"]["minilip"] for path in library.glob(pattern)}
    packed |= {path for path in files if path.suffix == ".py" and (path.parent / "__init__.py").exists()}
    assert library / "py.typed" in packed and set(files) - packed == set()


def test_targets_that_are_named_exist():
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    texts = [(ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md", ".ci/run", "Makefile")]
    named = {name for text in texts for name in re.findall(r"(?:`|^ {4}|lane \w+ )make ([a-z-]+)", text, re.M)}
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))
    for job in workflow["jobs"].values():
        lines = [line for step in job["steps"] for line in step.get("run", "").splitlines() if line.startswith("make ")]
        named |= {word for line in lines for word in line.split()[1:] if "=" not in word}
    assert {"lab", "test", "test-lowest", "lint"} <= named <= made
    assert made <= {line.split()[1] for line in help_lines()}


def help_lines() -> list[str]:
    """What `make help` prints: every target with its ## comment."""
    found = re.findall(r"^([a-z-]+):.*## (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    return [f"make {name} {says}" for name, says in found]


def test_hooks_call_tools_of_the_lint_extra_or_ours():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    for hook in hooks[0]["hooks"]:
        assert hook["entry"].startswith((".venv/bin/ruff ", ".venv/bin/python -m tools.build ")), hook["id"]
