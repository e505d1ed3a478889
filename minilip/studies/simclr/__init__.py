"""Lesson 03: what SimCLR keeps, what it takes to keep it, and where it can be carried."""
