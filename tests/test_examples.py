"""Code that a reader copies runs: examples in docstrings, and the Python blocks of the pages."""

import doctest
import importlib
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
WITH_EXAMPLES = [path for path in sorted((ROOT / "minilip").rglob("*.py")) if ">>> " in path.read_text("utf-8")]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
BLOCKS = [
    (name, code)
    for name in ("README.md", "CONTRIBUTING.md")
    for code in BLOCK.findall((ROOT / name).read_text("utf-8"))
]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_in_docstrings(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried > 0 and failed == 0


@pytest.mark.parametrize(("page", "code"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_python_on_the_pages(page, code):
    names = {}
    exec(compile(code, page, "exec"), names)
    losses = [value for name, value in names.items() if name == "loss"]
    assert all(loss.shape == () and torch.isfinite(loss) for loss in losses)


def test_readers_find_examples():
    assert "README.md" in dict(BLOCKS) and len(WITH_EXAMPLES) >= 5
