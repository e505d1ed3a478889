"""Exercises of lesson 09: the five proofs, and no mutant that the inputs miss."""

from minilip.course.checks.blip import EXERCISES
from tests.proofs import proved

test_exercise, test_no_mutant_passes_unnoticed = proved(EXERCISES)
