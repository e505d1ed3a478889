"""Every test and every notebook runs small and on one thread; solutions/ must pass their own checks."""

import os

import pytest

os.environ.setdefault("MINILIP_BUDGET", "quick")
os.environ.setdefault("MINILIP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """nbval starts a notebook's kernel right after this, with this environment."""
    if item.path.parent.name == "solutions":
        os.environ["MINILIP_STRICT"] = "1"
    else:
        os.environ.pop("MINILIP_STRICT", None)
