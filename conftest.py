"""Every test and every notebook runs small and on one thread; solutions/ must pass their own checks."""

import os
from typing import Any

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


def pytest_terminal_summary(terminalreporter: Any) -> None:  # the type has a public name since pytest 8.2 only
    """Say which optional data the tests had to do without: a skipped test is one letter among thousands."""
    from minilip.data.fetch import MissingData
    from minilip.data.speech import Digits

    try:
        Digits(download=False)
    except MissingData as error:
        terminalreporter.write_line(f"Without the spoken digits, what needs them was skipped. {error}")
