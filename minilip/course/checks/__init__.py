"""Exercises that know the mistakes: references, misconceptions and hints, one module a lesson.

`minilip/course/checks/clip.py` holds what `check("clip.zero_shot", ...)` looks for: `LESSON = "07_clip"` and
`EXERCISES: dict[str, Exercise | Prediction]`.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any

from ._exercise import Exercise, Invariance, Misconception, Prediction, Report, Slip, both
from ._judge import judge
from ._observe import make_cases
from ._prove import PROOFS, prove

__all__ = [
    "PROOFS",
    "Exercise",
    "Invariance",
    "Misconception",
    "Prediction",
    "Report",
    "Slip",
    "assert_exercise",
    "both",
    "catalogue",
    "find",
    "judge",
    "prove",
]


def catalogue() -> dict[str, tuple[str, Exercise | Prediction]]:
    """Every exercise of the course, in the order of the lessons: "clip.zero_shot" -> (lesson, exercise)."""
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in _modules()}
    return {
        f"{name}.{key}": (module.LESSON, exercise)
        for name, module in sorted(modules.items(), key=lambda item: item[1].LESSON)
        for key, exercise in module.EXERCISES.items()
    }


def find(name: str) -> tuple[str, Exercise | Prediction]:
    """The lesson of an exercise such as "clip.zero_shot", and the exercise.

    Raises:
        ValueError: there is no such exercise; the nearest names are listed.
    """
    module_name, _, key = str(name).partition(".")
    if module_name in _modules():
        module = importlib.import_module(f"{__name__}.{module_name}")
        if key in module.EXERCISES:
            return module.LESSON, module.EXERCISES[key]
    near = difflib.get_close_matches(str(name), catalogue(), n=3, cutoff=0.4)
    raise ValueError(f"no exercise {name!r}" + (f"; did you mean {' or '.join(map(repr, near))}?" if near else ""))


def _modules() -> list[str]:
    return [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]


def assert_exercise(exercise: Exercise | Prediction, correct: Sequence[Any] = ()) -> None:
    """Prove an exercise (for tests): each misconception fails under its own name, everything correct passes.

    Args:
        correct: right variants written differently (loop, einsum, float64, ...).
    """
    wrongs = exercise.misconceptions
    least = 3 if isinstance(exercise, Exercise) else 1
    assert len(wrongs) >= least, f"expected at least {least} misconceptions, got {len(wrongs)}"
    assert len(exercise.hints) == 3, f"expected 3 hints, got {len(exercise.hints)}"
    for texts in (exercise.hints, [m.name for m in wrongs], [m.message for m in wrongs]):
        assert all(t.strip() for t in texts) and len(set(texts)) == len(texts), f"empty or repeated: {texts}"
    right = (exercise.library, exercise.reference) if isinstance(exercise, Exercise) else (exercise.answer,)
    for i, attempt in enumerate((*right, *correct)):
        report = judge(exercise, attempt)
        assert report.status == "PASS" and report.use is attempt, f"correct variant {i}: {report}"
    for m in wrongs:
        report = judge(exercise, exercise.wrong(m) if isinstance(exercise, Exercise) else m.wrong)
        assert (report.status, report.mistake) == ("FAIL", m.name), f"misconception {m.name!r}: {report}"
        assert report.message.startswith(m.message), f"misconception {m.name!r}: {report}"
    if isinstance(exercise, Exercise):
        for name in exercise.gradients:
            reached = any(case.truth.gradients[name].any() for case in make_cases(exercise).plain)
            assert reached, f"the reference has no gradient with respect to {name}: comparing it proves nothing"
