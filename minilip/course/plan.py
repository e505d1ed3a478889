"""What the exercises ask, and which of them is worth doing next."""

import functools
import json
from pathlib import Path
from typing import Any

from minilip.course import checks
from minilip.course.record import Rows

Asked = dict[str, Any]  # number, title, kind, minutes, difficulty, checks, rubric


@functools.cache
def asked() -> dict[str, list[Asked]]:
    """The exercises of each lesson, in their order, as the builder has read them from the course."""
    return json.loads(Path(__file__).with_name("exercises.json").read_text("utf-8"))


def suggestion(rows: Rows, lesson: str = "") -> str:
    """The next exercise worth doing and why; empty where every check has passed.

    First comes what was tried and not solved, since the thought is fresh; then the easiest that is left of the lesson
    in hand; then that of the first lesson which is begun and not done; then the first of the course.

    Args:
        rows: what has been recorded.
        lesson: the one that the notebook has set up.
    """
    there = checks.catalogue()
    left = {
        name: [e for e in exercises if any(_open(c, rows) for c in e["checks"] if c in there)]
        for name, exercises in asked().items()
    }
    left = {name: exercises for name, exercises in left.items() if exercises}
    if not left:
        return ""
    tried = {
        name: found
        for name, exercises in left.items()
        if (found := [e for e in exercises if any(_status(c, rows) == "FAIL" for c in e["checks"])])
    }
    begun = [name for name in left if len(left[name]) < sum(bool(e["checks"]) for e in asked()[name])]
    if tried:
        where = lesson if lesson in tried else next(iter(tried))
        exercise = tried[where][0]
        names = [c for c in exercise["checks"] if _status(c, rows) == "FAIL"]
        hints = sum(len(there[c][1].hints) - rows[c]["hints"] for c in names)
        why = (
            f"you have tried it, and {hints} hint{'s are' if hints != 1 else ' is'} left"
            if hints
            else "you have tried it"
        )
    else:
        where = lesson if lesson in left else (begun or list(left))[0]
        exercise = min(left[where], key=lambda e: e["difficulty"])
        alone = len(left[where]) == 1
        why = "the last one of its lesson" if alone else f"the easiest of the {len(left[where])} left in lesson {where}"
        if where not in begun and where != lesson:
            why = "the easiest of the first lesson that is not begun" if begun or rows else "the course begins here"
    facts = f"{exercise['kind']}, {exercise['minutes']} min, difficulty {exercise['difficulty']} of 5"
    return f"next: {exercise['number']} {exercise['title']} ({facts}): {why}"


def _status(check: str, rows: Rows) -> str:
    return rows.get(check, {}).get("status", "TODO")


def _open(check: str, rows: Rows) -> bool:
    return _status(check, rows) != "PASS"
