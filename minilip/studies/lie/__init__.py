"""Lesson 06: emoji that turn."""
