"""Lesson 08: which frozen eyes a frozen language model can read through one linear map."""
