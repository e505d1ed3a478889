"""Lesson 05b: how much of a picture to hide, and what is learned from it."""
