"""Arms of a study with the same seeds: their settings, what is known, and the command that measures the rest."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import pytest

from minilip.studies import runs, store
from minilip.studies.runs import Arms, command
from minilip.studies.store import Study


class Arm(NamedTuple):
    width: int = 1


CALLS: list[tuple[int, int, str]] = []


def make(arm: dict[str, Any], seed: int, part: str) -> dict[str, Any]:
    CALLS.append((arm["width"], seed, part))
    return {"score": 10 * arm["width"] + seed}


@pytest.fixture()
def arms(monkeypatch, tmp_path):
    CALLS.clear()
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    monkeypatch.setattr(runs.torch, "set_num_threads", lambda n: CALLS.append(("threads", n, "")))
    return Arms(Study("arms", make), {"narrow": Arm(), "wide": Arm(2)}, range(2))


def ask(monkeypatch, arms, *words):
    monkeypatch.setattr(sys, "argv", ["study", *words])
    return arms.complete("a.b", "text")


def test_what_is_missing_is_measured_once_and_then_known_by_arm(monkeypatch, arms):
    with pytest.raises(LookupError, match="2 of 2"):
        arms.known()
    assert ask(monkeypatch, arms, "--arms", "wide") == "test"
    assert CALLS == [("threads", 1, ""), (2, 0, "test"), (2, 1, "test")]
    ask(monkeypatch, arms)
    assert CALLS[3:] == [("threads", 1, ""), (1, 0, "test"), (1, 1, "test")]
    assert arms.known() == {"narrow": [{"score": 10}, {"score": 11}], "wide": [{"score": 20}, {"score": 21}]}


def test_parts_are_kept_apart(monkeypatch, arms):
    assert ask(monkeypatch, arms, "--part", "val", "--arms", "narrow") == "val"
    assert CALLS[1:] == [(1, 0, "val"), (1, 1, "val")]
    assert arms.settings("wide", 3, "val") == {"arm": {"width": 2}, "seed": 3, "part": "val"}
    with pytest.raises(LookupError):
        arms.known()


def test_a_command_says_what_its_module_says(capsys):
    with pytest.raises(SystemExit):
        command("a.b", "What this measures,\n    in two lines.").parse_args(["--help"])
    said = capsys.readouterr().out
    assert "python -m minilip.studies.a.b" in said and "What this measures,\n    in two lines." in said
