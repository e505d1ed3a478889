# Every target is a line or two that can be copied into any shell (on Windows, .venv\Scripts stands for .venv/bin).
PYTHON ?= python3
WORKERS ?= 2
LESSON ?=
# The lowest versions have wheels up to Python 3.12; the first of these that runs is taken.
LOWEST_PYTHON ?= $(shell for p in python3.10 python3.11 python3.12 python3; do \
	$$p -c "import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))" 2>/dev/null && echo $$p && break; done)

.PHONY: lab help data test test-lowest course notebooks book book-check browser bench lint constraints

lab: .venv/lab-ready data  ## set up, fetch emoji and speech, open the course
	.venv/bin/jupyter lab notebooks/00_start.ipynb

help:  ## what there is to make
	@awk -F ":.*## " '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

data: .venv/lab-ready  ## fetch the real data, once, into the user's cache
	.venv/bin/python -m minilip.data.emoji
	.venv/bin/python -m minilip.data.speech
	.venv/bin/python -m minilip.data.transfer

test: .venv/test-ready data  ## library, exercises, builder, and every notebook at the small budget
	.venv/bin/python -m pytest -n $(WORKERS) --dist loadscope

test-lowest: .venv-lowest/test-ready  ## library and lesson 07 with the lowest versions of pyproject.toml
	.venv-lowest/bin/python -m minilip.data.emoji
	.venv-lowest/bin/python -m minilip.data.speech
	.venv-lowest/bin/python -m minilip.data.transfer
	.venv-lowest/bin/python -m pytest -n $(WORKERS) --dist loadscope tests notebooks/07_clip.ipynb solutions/07_clip.ipynb

course: .venv/lab-ready data  ## execute everything at full budget, rewrite RESULTS.md
	.venv/bin/python -m tools.build $(LESSON)

notebooks: .venv/lab-ready data  ## rebuild: execute only what has other code than before
	.venv/bin/python -m tools.build --changed $(LESSON)

book: .venv/book-ready  ## the course as web pages, out of the committed notebooks: book/_build/html
	.venv/bin/python -m tools.book

book-check: .venv/book-ready  ## build it and read every page in a browser: links, formulas, console
	.venv/bin/python -m pip install --quiet --editable ".[browser]"
	.venv/bin/python -m tools.book --check

browser: .venv/book-ready data  ## use it as a learner does: run lessons, move panels, solve exercises (LESSON="03 07": some)
	.venv/bin/python -m pip install --quiet --editable ".[browser]"
	.venv/bin/python -m tools.browser --pictures build/browser $(LESSON)
	$(if $(LESSON),,.venv/bin/python -m tools.book --check)

bench: .venv/test-ready  ## minilip and its peers side by side
	.venv/bin/python -m benchmarks

lint: .venv/test-ready  ## style, types and the direction of imports
	.venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy && .venv/bin/lint-imports

constraints: .venv/test-ready  ## write the versions that make test has passed with into constraints.txt
	.venv/bin/python -m tools.constraints

# A stamp says that everything before it succeeded: a set-up that was killed starts again, a finished one does not.
.venv/lab-ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --editable ".[course]"
	touch $@

.venv/test-ready: .venv/lab-ready
	.venv/bin/python -m pip install --editable ".[course,test]"
	touch $@

.venv/book-ready: .venv/lab-ready
	.venv/bin/python -m pip install --editable ".[course,book]"
	touch $@

.venv-lowest/test-ready: pyproject.toml
	$(if $(LOWEST_PYTHON),,$(error the lowest versions need Python 3.10, 3.11 or 3.12 on the PATH))
	$(LOWEST_PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install uv
	.venv-lowest/bin/uv pip install --python .venv-lowest/bin/python --resolution lowest-direct --editable ".[course,test]"
	touch $@
