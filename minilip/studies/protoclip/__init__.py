"""Lesson 11: groups on a line, prototypes on emoji."""
