"""What `make browser` types into exercises; the browser itself is not started here."""

import pytest

from minilip.course import checks
from tools.browser import tasks
from tools.browser.__main__ import main

LESSONS = sorted(path.stem for path in (tasks.ROOT / "exercises").glob("*.ipynb"))


@pytest.mark.parametrize("lesson", LESSONS[::4])
def test_a_lesson_has_an_exercise_to_get_wrong_and_right(lesson):
    asked = tasks.task(lesson)
    assert asked is not None and asked.wrong != asked.right
    assert asked.mistake in [m.name for m in checks.find(asked.check)[1].misconceptions]
    assert f'check("{asked.check}"' in tasks.sources("exercises", lesson)[asked.cell]


def test_the_last_cell_of_every_exercise_notebook_shows_progress():
    for lesson in LESSONS:
        assert "progress()" in tasks.sources("exercises", lesson)[-1], lesson


def test_an_unknown_lesson_is_named(capsys):
    pytest.importorskip("playwright")
    assert main(["99"]) == 2 and "no lesson 99" in capsys.readouterr().out
