"""The builder, on toy courses in temporary folders."""

import base64
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_output
from PIL import Image

from tools import build
from tools.execute import clean, smaller
from tools.sources import BuildError, strip_solutions

START = """\
# %% [markdown]
# # 00 · Start here
#
# <!-- map -->
# <!-- /map -->
"""

LESSON = """\
# %% [markdown]
# # 03 · Toy: one claim
#
# **You derive** that $p(x|c)$
# is 1.
#
# **You train** nothing.

# %%
# copy this comment as it is
from IPython.display import display
print("on the screen"); print(object())

# %%
row = {"id": "one", "says": "|x| is 1", "source": "eq. 1", "measured": "1.0", "holds": True, "note": "3 seeds"}
table = {"text/markdown": "a table", "application/vnd.minilip.claims+json": {"lesson": "03_toy", "rows": [row]}}
display(table, raw=True)

# %% tags=["raises-exception"]
1 / 0
"""

EXERCISES = """\
# %% [markdown]
# # 03 · Toy: exercises

# %%
import os
from types import SimpleNamespace

def check(name, attempt):
    try:
        good = (attempt(2) if callable(attempt) else attempt) == 4
    except NotImplementedError:
        good = False
    assert good or not os.environ.get("MINILIP_STRICT")
    return SimpleNamespace(use=attempt)

# %%
# Exercise 3.1 · implement · 10 min · difficulty 2 of 5
# Twice a number.
def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION
double = check("toy.double", double).use
# hint("toy.double")

# %%
# Exercise 3.2 · predict · 5 min · difficulty 1 of 5
# What is twice two?
### BEGIN SOLUTION
answer = 4
### END SOLUTION

# %%
answer = check("toy.answer", answer).use
# hint("toy.answer")

# %%
# Exercise 3.3 · explore · 20 min · difficulty 3 of 5
# Try another number.

# %% [markdown]
# **Rubric** one point for trying.
"""


@pytest.fixture
def course(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/owner/repo"\n')
    (tmp_path / "README.md").write_text("# Toy\n\n<!-- map -->\n<!-- /map -->\n\nafter the map\n")
    add(tmp_path, "00_start", lesson=START)
    add(tmp_path, "03_toy", lesson=LESSON, exercises=EXERCISES)
    return tmp_path


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy course, built once at full budget for all the tests that only look."""
    root = tmp_path_factory.mktemp("once")
    course.__wrapped__(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MINILIP_BUDGET", raising=False)
        patch.setattr(build, "device", lambda: "cpu")
        build.build(root, [])
    return root


@pytest.fixture
def built(once: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(once, tmp_path / "course"))


def add(root: Path, name: str, **sources: str) -> None:
    folder = root / "course" / name
    folder.mkdir(parents=True, exist_ok=True)
    for stem, text in sources.items():
        (folder / f"{stem}.py").write_text(text, "utf-8")


def notebook(root: Path, path: str) -> nbformat.NotebookNode:
    return nbformat.read(root / path, as_version=4)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def refused(root: Path) -> str:
    with pytest.raises(BuildError) as error:
        build.build(root, [])
    assert not (root / "notebooks").exists()  # nothing is executed or written before all sources are read
    return str(error.value)


# --- What a build leaves ---------------------------------------------------------------------------------------------


def test_a_lesson_in_two_sittings(course):
    add(
        course,
        "03b_more",
        lesson=LESSON.replace("03 ·", "03b ·"),
        exercises=EXERCISES.replace("Exercise 3.", "Exercise 3b.").replace("03 ·", "03b ·"),
    )
    lessons = build.Course(course).lessons
    assert [lesson.number for lesson in lessons] == ["00", "03", "03b"] and len(lessons[2].minutes) == 3


def test_build_agrees_with_itself(built):
    assert build.differences(built) == []
    before = files(built)
    build.build(built, [])  # MINILIP_BUDGET is set in tests: no new time is recorded
    assert files(built) == before


def test_outputs_and_counts_are_kept_for_lessons_and_solutions(once):
    for path in ("notebooks/03_toy.ipynb", "solutions/03_toy.ipynb"):
        assert None not in [cell.execution_count for cell in build.code_cells(notebook(once, path))]
    outputs = [cell.outputs for cell in build.code_cells(notebook(once, "notebooks/03_toy.ipynb"))]
    assert outputs[1][0].text == "on the screen\n<object object>\n"
    assert outputs[3][0].traceback == ["ZeroDivisionError: division by zero"]


def test_exercises_have_stubs_and_no_outputs(once):
    code = build.code_cells(notebook(once, "exercises/03_toy.ipynb"))
    assert all(cell.execution_count is None and cell.outputs == [] for cell in code)
    assert "def double(x):\n    raise NotImplementedError\ndouble = check" in code[2].source
    assert code[3].source.endswith("\nanswer = ...")
    assert not any("SOLUTION" in cell.source for cell in code)


def test_metadata_is_fixed(once):
    for folder in build.FOLDERS:
        made = notebook(once, f"{folder}/03_toy.ipynb")
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        assert made.metadata == {"kernelspec": kernel, "language_info": {"name": "python"}}
        assert all(set(cell.metadata) <= {"tags", "jupyter"} for cell in made.cells)
        assert len({cell.id for cell in made.cells}) == len(made.cells)


def test_comments_that_look_like_magics_stay_comments(once):
    assert build.code_cells(notebook(once, "notebooks/03_toy.ipynb"))[1].source.startswith("# copy this comment")


def test_header_has_badge_time_and_plan(once):
    seconds = json.loads((once / "course/times.json").read_text())["03_toy"]
    assert seconds["cpu"] > 0 and seconds["gpu"] is None
    colab = "https://colab.research.google.com/github/owner/repo/blob/main/"
    lesson, exercises = (notebook(once, f"{folder}/03_toy.ipynb").cells[0].source for folder in build.FOLDERS[:2])
    assert (
        lesson.startswith("# 03 · Toy: one claim\n\n[![Open in Colab]") and f"({colab}notebooks/03_toy.ipynb)" in lesson
    )
    assert f"Run time: {seconds['cpu']} s on 2 CPU cores, not measured yet on a GPU." in lesson
    assert f"({colab}exercises/03_toy.ipynb) 3 exercises, about 35 minutes." in exercises


def test_install_cell_comes_first_and_does_nothing_here(once):
    for folder in build.FOLDERS:
        first = build.code_cells(notebook(once, f"{folder}/03_toy.ipynb"))[0]
        assert '"minilip @ git+https://github.com/owner/repo"' in first.source
        assert first.outputs == []


def test_maps_in_readme_and_start_page(once):
    readme = (once / "README.md").read_text("utf-8")
    start = notebook(once, "notebooks/00_start.ipynb").cells[0].source
    assert readme.startswith("# Toy\n\n<!-- map -->\n\n| lesson |") and readme.endswith(
        "<!-- /map -->\n\nafter the map\n"
    )
    assert "| [03 · Toy: one claim](notebooks/03_toy.ipynb) | that $p(x\\|c)$ is 1. | nothing. |" in readme
    assert "[3, 35 min](exercises/03_toy.ipynb)" in readme
    assert "(../notebooks/03_toy.ipynb)" in start and "00 · " not in readme


def test_results_come_from_the_claims(once):
    results = (once / "RESULTS.md").read_text("utf-8")
    assert "1 claims: 1 hold, 0 do not, 0 are not testable here, 0 not judged." in results
    assert "| \\|x\\| is 1 | eq. 1 | 1.0 | yes | 3 seeds |" in results


# --- What a build changes --------------------------------------------------------------------------------------------


def test_prose_is_refreshed_without_execution(built, monkeypatch):
    monkeypatch.setattr(build, "execute", lambda *_: pytest.fail("executed"))
    before = build.code_cells(notebook(built, "notebooks/03_toy.ipynb"))
    add(built, "03_toy", lesson=LESSON.replace("nothing.", "very little."))
    assert build.differences(built) == [
        "notebooks/00_start.ipynb: differs from its source",
        "notebooks/03_toy.ipynb: differs from its source",
        "README.md: differs from what is generated",
    ]
    build.build(built, [], changed=True)
    assert build.differences(built) == []
    after = notebook(built, "notebooks/03_toy.ipynb")
    assert build.code_cells(after) == before and "very little" in after.cells[0].source


def test_changed_code_is_executed_and_only_that(built):
    solution = files(built)["solutions/03_toy.ipynb"]
    add(built, "03_toy", lesson=LESSON.replace("on the screen", "on the wall"))
    build.build(built, [], changed=True)
    assert "on the wall" in build.code_cells(notebook(built, "notebooks/03_toy.ipynb"))[1].outputs[0].text
    assert files(built)["solutions/03_toy.ipynb"] == solution and build.differences(built) == []


def test_code_that_was_not_chosen_stays_as_committed(built, capsys):
    committed = files(built)["notebooks/03_toy.ipynb"]
    add(built, "03_toy", lesson=LESSON.replace("on the screen", "on the wall"))
    build.build(built, ["00"])
    assert files(built)["notebooks/03_toy.ipynb"] == committed
    assert "notebooks/03_toy.ipynb: its code changed and was not executed" in capsys.readouterr().out
    assert build.differences(built) == ["notebooks/03_toy.ipynb: differs from its source"]


def test_notebooks_without_a_source_are_deleted(built):
    shutil.copy(built / "notebooks/03_toy.ipynb", built / "notebooks/02_old.ipynb")
    (built / "course/03_toy/exercises.py").unlink()
    assert set(build.differences(built)) >= {
        "notebooks/02_old.ipynb: has no source",
        "exercises/03_toy.ipynb: has no source",
        "solutions/03_toy.ipynb: has no source",
    }
    build.build(built, ["00"])
    assert not any((built / folder / "03_toy.ipynb").exists() for folder in ("exercises", "solutions"))
    assert not (built / "notebooks/02_old.ipynb").exists() and build.differences(built) == []


@pytest.mark.parametrize("path", ["notebooks/03_toy.ipynb", "exercises/03_toy.ipynb", "solutions/03_toy.ipynb"])
def test_check_finds_an_edited_notebook(built, path):
    edited = notebook(built, path)
    edited.cells[-1].source += " "
    nbformat.write(edited, built / path)
    assert build.differences(built) == [f"{path}: differs from its source"]


def test_check_finds_edited_pages_but_leaves_the_words_of_the_readme_free(built):
    for path, old in {"README.md": "| nothing. |", "RESULTS.md": "3 seeds"}.items():
        (built / path).write_text((built / path).read_text("utf-8").replace(old, "edited"), "utf-8")
    (built / "README.md").write_text((built / "README.md").read_text("utf-8") + "more words\n", "utf-8")
    assert build.differences(built) == [
        "README.md: differs from what is generated",
        "RESULTS.md: differs from what is generated",
    ]


def test_check_finds_missing_and_unexecuted_notebooks_and_an_output_in_an_exercise(built):
    (built / "solutions/03_toy.ipynb").unlink()
    lesson, exercise = notebook(built, "notebooks/03_toy.ipynb"), notebook(built, "exercises/03_toy.ipynb")
    build.code_cells(lesson)[2].execution_count = None
    build.code_cells(exercise)[0].outputs = [new_output("stream", text="left over")]
    nbformat.write(lesson, built / "notebooks/03_toy.ipynb")
    nbformat.write(exercise, built / "exercises/03_toy.ipynb")
    assert build.differences(built) == [
        "notebooks/03_toy.ipynb: has cells that were not executed",
        "exercises/03_toy.ipynb: differs from its source",
        "solutions/03_toy.ipynb: missing",
    ]


def test_command_line(built, capsys):
    assert build.main(["--check"], built) == 0
    add(built, "03_toy", lesson=LESSON.replace("nothing.", "very little."))
    assert build.main(["--check"], built) == 1
    assert "notebooks/03_toy.ipynb: differs" in capsys.readouterr().out
    assert build.main(["99"], built) == 1
    assert "no lesson starts with 99" in capsys.readouterr().err


# --- What a build refuses --------------------------------------------------------------------------------------------

REFUSED_EXERCISES = {
    "BEGIN SOLUTION' without": ("    return 2 * x\n    ### END SOLUTION\n", "    return 2 * x\n"),
    "nested or unbalanced": ("    return 2 * x\n", "    ### BEGIN SOLUTION\n    return 2 * x\n"),
    "marker '### END SOLUTION'": ("    ### BEGIN SOLUTION\n", ""),
    "misspelt": ("    ### BEGIN SOLUTION", "    # begin solution"),
    "not complete Python": ("answer = 4\n###", "answer = (4\n###"),
    "no check": ('double = check("toy.double", double).use\n', ""),
    "a check without a hint, or the reverse: toy.double": ('# hint("toy.double")\n', ""),
    "comment the hint out": ('# hint("toy.double")', 'hint("toy.double")'),
    "no solution markers": ("### BEGIN SOLUTION\nanswer = 4\n### END SOLUTION", "answer = 4"),
    "needs a markdown cell with its Rubric": ("Rubric", "Points"),
    "expected exercise 3.1 with a header": (" · 10 min", ""),
    "expected exercise 3.2 with a header": ("Exercise 3.2", "Exercise 3.4"),
    "an exercise without a header": ("# Exercise 3.1 · implement · 10 min · difficulty 2 of 5\n", ""),
    "unknown tag nbval-ignore": ("# %%\nanswer = check", '# %% tags=["nbval-ignore"]\nanswer = check'),
    "begin with a markdown cell that starts with '# 03 · Title'": ("# # 03 · Toy", "# # Toy"),
    "belong in code cells": ("# **Rubric** one", "# ### BEGIN SOLUTION\n# **Rubric** one"),
}


@pytest.mark.parametrize("message", REFUSED_EXERCISES)
def test_refuses_exercises(course, message):
    old, new = REFUSED_EXERCISES[message]
    assert EXERCISES.count(old) >= 1
    add(course, "03_toy", exercises=EXERCISES.replace(old, new, 1))
    said = refused(course)
    assert message in said and "course/03_toy" in said


REFUSED_LESSONS = {
    "unknown tag hide": ('# %% tags=["raises-exception"]', '# %% tags=["hide"]'),
    "unknown tag title": ("# %%\n# copy", "# %% nbval-skip\n# copy"),
    "no paragraph starts with '**You train** '": ("**You train**", "**Train**"),
    "solution markers belong in code cells of exercises.py": (
        "1 / 0\n",
        "### BEGIN SOLUTION\n1 / 0\n### END SOLUTION\n",
    ),
    "starts with '# 03 · Title'": ("# # 03 · Toy", "# # 04 · Toy"),
}


@pytest.mark.parametrize("message", REFUSED_LESSONS)
def test_refuses_lessons(course, message):
    old, new = REFUSED_LESSONS[message]
    add(course, "03_toy", lesson=LESSON.replace(old, new))
    said = refused(course)
    assert message in said and "course/03_toy" in said


def test_refuses_a_cell_that_fails_and_leaves_the_committed_notebook(built):
    before = files(built)["notebooks/03_toy.ipynb"]
    add(built, "03_toy", lesson=LESSON.replace(' tags=["raises-exception"]', ""))
    with pytest.raises(BuildError, match=r"notebooks/03_toy.ipynb(.|\n)*ZeroDivisionError"):
        build.build(built, ["03"])
    assert files(built)["notebooks/03_toy.ipynb"] == before


def test_refuses_a_solution_that_fails_its_check(built):
    add(built, "03_toy", exercises=EXERCISES.replace("return 2 * x", "return 3 * x"))
    with pytest.raises(BuildError, match="solutions/03_toy.ipynb"):
        build.build(built, ["03"])


def test_refuses_a_large_notebook(built, monkeypatch):
    monkeypatch.setattr(build, "LARGEST_NOTEBOOK", 1000)
    with pytest.raises(BuildError, match=r"03_toy.ipynb: 0.00 MB, more than"):
        build.build(built, ["03"])


def test_a_killed_write_leaves_the_old_file(tmp_path, monkeypatch):
    build.write(tmp_path / "page.md", "old")
    monkeypatch.setattr(build.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build.write(tmp_path / "page.md", "new")
    assert (tmp_path / "page.md").read_text() == "old"


def test_refuses_pages_without_their_places(course):
    (course / "README.md").write_text("no map\n")
    with pytest.raises(BuildError, match="README.md"):
        build.Course(course).pages()
    (course / "pyproject.toml").write_text("")
    with pytest.raises(BuildError, match="Repository"):
        build.Course(course)


# --- Parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solution", "stub"),
    [
        ("a = 1\nb, (c, d) = f(x=2)\na = 3", "a = ...\nb = ...\nc = ...\nd = ..."),
        ("n: int = 1\nm = [k for k in range(3)][0]", "n = ...\nm = ..."),
        ("def f(x):\n    y = 1\n\nclass C:\n    z = 2", "f = ...\nC = ..."),
        ("print(1)\nx[0] = 2", "..."),
    ],
)
def test_top_level_stubs(solution, stub):
    cell = nbformat.NotebookNode(source=f"before\n### BEGIN SOLUTION\n{solution}\n### END SOLUTION\nafter", where="")
    assert strip_solutions(cell).source == f"before\n{stub}\nafter"


def test_indented_stubs_keep_their_indentation():
    source = "class A:\n    def f(self):\n        ### BEGIN SOLUTION\n        return 1\n        ### END SOLUTION\n"
    cell = nbformat.NotebookNode(source=source + "    g = 2", where="")
    assert strip_solutions(cell).source == "class A:\n    def f(self):\n        raise NotImplementedError\n    g = 2"


def tiny_png():
    buffer = io.BytesIO()
    Image.new("1", (8, 8)).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


def test_clean_outputs():
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}}
    outputs = clean(
        [
            new_output("display_data", widget | {"text/plain": "  0%|"}),
            new_output("stream", name="stderr", text="a note\n\r 10%|#"),
            new_output("stream", name="stderr", text="\r100%|##########|\n"),
            new_output("stream", name="stdout", text="1\r2\n"),
            new_output("display_data", widget | {"text/plain": "<Panel at 0x7f00>", "image/png": tiny_png()}),
            new_output("stream", name="stdout", text="\n"),
        ],
        "here",
        Path("/nowhere"),
    )
    assert [output.output_type for output in outputs] == ["stream", "stream", "display_data"]
    assert (outputs[0].text, outputs[1].text) == ("a note\n", "2\n")
    assert outputs[2].data == {"text/plain": "<Panel>", "image/png": tiny_png()}


def test_figures_get_a_palette_where_that_is_smaller():
    figure, axes = plt.subplots()
    axes.plot([0, 1, 0, 2])
    soft = io.BytesIO()
    figure.savefig(soft, format="png")
    plt.close(figure)
    before, least = base64.b64encode(soft.getvalue()).decode(), tiny_png()
    after = smaller(before)
    assert len(after) < 0.7 * len(before)
    assert smaller(least) == least
    with Image.open(soft) as a, Image.open(io.BytesIO(base64.b64decode(after))) as b:
        gap = np.abs(np.asarray(a.convert("RGB"), float) - np.asarray(b.convert("RGB"), float))
    assert gap.max() < 40 and gap.mean() < 1


def test_clean_refuses_warnings_and_paths():
    with pytest.raises(BuildError, match="here: a learner would see this warning"):
        clean([new_output("stream", name="stderr", text="x.py:1: UserWarning: no\n")], "here", Path("/nowhere"))
    with pytest.raises(BuildError, match="here: the output names a folder"):
        clean([new_output("display_data", {"text/plain": "/nowhere/file"})], "here", Path("/nowhere"))


def test_it_runs_as_a_file_and_as_a_module():
    root = Path(build.__file__).parents[1]
    for command in ([str(root / "tools" / "build.py")], ["-m", "tools.build"]):
        run = subprocess.run([sys.executable, *command, "--help"], cwd=root, capture_output=True, text=True)
        assert run.returncode == 0 and "--check" in run.stdout, run.stderr
