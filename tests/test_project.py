"""The repository agrees with itself: notebooks with sources, links with files, environments with each other."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools import build, sources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest there

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
COURSE = build.Course(ROOT)
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")
DESIGN = [f"{number:02}" for number in range(1, 14)]  # the lessons of the course, written or planned


@pytest.mark.parametrize("command", ["ruff check", "ruff format --check", "mypy"])
def test_lint(command):
    tool = [sys.executable, "-m", *command.split()]
    run = subprocess.run(tool, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


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
    for folder, strict in {"notebooks": None, "solutions": "1", "exercises": None}.items():
        (tmp_path / folder).mkdir()
        wanted = {"MINILIP_STRICT": strict, "MINILIP_BUDGET": "quick", "OMP_NUM_THREADS": "1"}
        cell = new_code_cell(f"import os\nassert all(os.environ.get(k) == v for k, v in {wanted}.items()), os.environ")
        nbformat.write(new_notebook(cells=[cell]), tmp_path / folder / "a.ipynb")
    names = ("MINILIP_STRICT", "MINILIP_BUDGET", "OMP_NUM_THREADS")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    tool = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "--rootdir=.", "-q"]
    run = subprocess.run(
        [*tool, "notebooks", "solutions", "exercises"], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert "3 passed" in run.stdout, run.stdout


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


def requirements(lines: list[str]) -> dict[str, str]:
    """name -> lower bound; refuses any other bound."""
    found = {}
    for line in lines:
        match = re.fullmatch(r"([\w-]+)>=([\d.]+)", line)
        assert match, f"{line}: expected name>=version, and no upper bound"
        name = match[1].replace("_", "-").lower()
        assert name not in found, f"{name} is named twice"
        found[name] = match[2]
    return found


def test_environment_and_pyproject_name_the_same_packages():
    project = PROJECT["project"]
    listed = re.findall(r"^ +- ([^\s:]+)$", (ROOT / "environment.yml").read_text("utf-8"), re.M)
    conda = requirements([line for line in listed if line not in ("conda-forge", "pip")])
    conda["torch"] = conda.pop("pytorch")  # its name there
    assert conda.pop("python") == project["requires-python"].removeprefix(">=")
    assert conda == requirements(project["dependencies"] + project["optional-dependencies"]["course"])


def test_test_extra_has_lower_bounds_only():
    assert requirements(PROJECT["project"]["optional-dependencies"]["test"])


def test_version_is_the_library_s():
    import minilip

    assert re.fullmatch(r"\d+\.\d+\.\d+", minilip.__version__)
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "minilip.__version__"}
