"""Exercises of lesson 07: the five proofs."""

import pytest

from minilip.course.checks import prove
from minilip.course.checks.clip import EXERCISES


@pytest.mark.parametrize("name", EXERCISES)
def test_exercise(name):
    assert not [a for a in prove(EXERCISES[name]) if a.wrong]
