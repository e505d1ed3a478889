# Every target is a line or two that can be copied into any shell (on Windows, .venv\Scripts stands for .venv/bin).
PYTHON ?= python3
WORKERS ?= 2
LESSON ?=

.PHONY: lab data test course notebooks bench lint

lab: .venv/lab-ready data  ## set up, fetch the emoji, open the course
	.venv/bin/jupyter lab notebooks/00_start.ipynb

data: .venv/lab-ready  ## fetch the real data, once, into the user's cache
	.venv/bin/python -m minilip.data.emoji

test: .venv/test-ready data  ## library, exercises, builder, and every notebook at the small budget
	.venv/bin/python -m pytest -n $(WORKERS) --dist loadscope

course: .venv/lab-ready data  ## execute everything at full budget, rewrite RESULTS.md
	.venv/bin/python -m tools.build $(LESSON)

notebooks: .venv/lab-ready data  ## rebuild: execute only what has other code than before
	.venv/bin/python -m tools.build --changed $(LESSON)

bench: .venv/test-ready  ## minilip and its peers side by side
	.venv/bin/python -m benchmarks

lint: .venv/test-ready
	.venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy

# A stamp says that everything before it succeeded: a set-up that was killed starts again, a finished one does not.
.venv/lab-ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --editable ".[course]"
	touch $@

.venv/test-ready: .venv/lab-ready
	.venv/bin/python -m pip install --editable ".[course,test]"
	touch $@
