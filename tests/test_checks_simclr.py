"""Exercises of lesson 03: the five proofs, and no mutant that the inputs miss."""

import pytest

from minilip.course.checks import Exercise, prove
from minilip.course.checks._mutate import survivors
from minilip.course.checks.simclr import EXERCISES


@pytest.mark.parametrize("name", EXERCISES)
def test_exercise(name):
    assert not [a for a in prove(EXERCISES[name]) if a.wrong]


@pytest.mark.parametrize("name", [name for name, e in EXERCISES.items() if isinstance(e, Exercise)])
def test_no_mutant_passes_unnoticed(name):
    made, passed = survivors(EXERCISES[name])
    assert made and not [s for s in passed if s.differs]
