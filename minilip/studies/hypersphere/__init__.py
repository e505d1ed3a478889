"""Lesson 04: alignment, uniformity and what a probe reads."""
