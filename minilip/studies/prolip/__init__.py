"""Lesson 12: captions and pictures of known ambiguity."""
