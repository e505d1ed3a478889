"""The book: the executed notebooks as pages, with the equations, the mistakes and the library of the whole course."""
