"""The course in a browser, used as a learner uses it."""
