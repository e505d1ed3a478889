"""Lesson 07: text towers that can read words they never saw."""
