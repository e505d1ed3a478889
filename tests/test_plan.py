"""Which exercise is worth doing next, and why."""

import pytest

from minilip.course import checks, plan


def row(status, hints=0):
    return {"status": status, "hints": hints}


def solved(lesson, but=()):
    return {c: row("PASS") for e in plan.asked()[lesson] for c in e["checks"] if e["number"] not in but}


EVERYTHING = {c: row("PASS") for exercises in plan.asked().values() for e in exercises for c in e["checks"]}
FIRST = next(iter(plan.asked()))


def test_a_fresh_learner_begins_at_the_beginning():
    assert "the course begins here" in plan.suggestion({})
    assert plan.suggestion({}).startswith(f"next: {FIRST.partition('_')[0].lstrip('0')}.")


def test_what_was_tried_comes_first_in_the_lesson_at_hand_if_there():
    rows = {"infonce.candidates": row("FAIL", 3), "clip.clip_loss": row("FAIL", 1)}
    assert plan.suggestion(rows, "07_clip").startswith("next: 7.1 The loss (implement, 15 min, difficulty 2 of 5)")
    assert plan.suggestion(rows, "07_clip").endswith("you have tried it, and 2 hints are left")
    assert plan.suggestion(rows, "06_lie").startswith("next: 1.") and "hint" not in plan.suggestion(rows, "06_lie")


def test_then_the_easiest_of_the_lesson_at_hand_then_of_one_that_is_begun():
    easiest = min((e for e in plan.asked()["07_clip"] if e["checks"]), key=lambda e: e["difficulty"])
    assert plan.suggestion({}, "07_clip").startswith(f"next: {easiest['number']} ")
    begun = {"clip.clip_loss": row("PASS")}
    assert plan.suggestion(begun).startswith("next: 7.")
    assert plan.suggestion(solved("07_clip", but=["7.6"])).startswith("next: 7.6 ")
    assert "the last one of its lesson" in plan.suggestion(solved("07_clip", but=["7.6"]))
    done = plan.suggestion(solved("07_clip"))
    assert done.startswith("next: 1.") and "not begun" in done


@pytest.mark.parametrize("lesson", ["", "07_clip", "no_such"])
def test_when_all_is_solved_there_is_nothing_to_say(lesson):
    assert plan.suggestion(EVERYTHING, lesson) == ""


def test_every_check_is_in_the_plan_with_a_title_and_every_explore_exercise_with_a_rubric():
    assert sorted(EVERYTHING) == sorted(checks.catalogue())
    for exercises in plan.asked().values():
        for e in exercises:
            assert e["title"] and 1 <= e["difficulty"] <= 5 and e["minutes"] > 0
            assert bool(e["rubric"]) == (e["kind"] == "explore"), e["number"]
