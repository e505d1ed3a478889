"""Lesson 05: what each term of VICReg prevents, and what the batch is for."""
