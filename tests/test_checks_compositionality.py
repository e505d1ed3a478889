"""Exercises of lesson 10: the five proofs, and no mutant that the inputs miss."""

from minilip.course.checks.compositionality import EXERCISES
from tests.proofs import proved

test_exercise, test_no_mutant_passes_unnoticed = proved(EXERCISES)
