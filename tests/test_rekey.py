"""Entries get new keys when a measurement has proved that the code still measures the same, and only then."""

import json
import math
import subprocess
import sys

import pytest

from minilip.studies import rekey as module
from minilip.studies import store
from minilip.studies.digest import fingerprint
from minilip.studies.rekey import STUDIES, compare, measured_by, rekey
from minilip.studies.store import Study, key

CALLS = []


def make(seed):
    CALLS.append(seed)
    return {"score": 10.0 + seed, "seconds": 3.0, "curve": {"loss": [[0, 1.5], [1, 0.5]], "seconds": [[0, 0.1]]}}


def other(seed):
    return {**make(seed), "score": 10.5 + seed}


def old(seed, seconds=9.0, **changes):
    return {**make(seed), "seconds": seconds, **changes}


@pytest.fixture
def write(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    monkeypatch.setenv("MINILIP_HOME", str(tmp_path / "home"))

    def write(*results, code="old code"):
        lines = [
            json.dumps({"key": key({"seed": seed}, code), "settings": {"seed": seed}, "result": result})
            for seed, result in results
        ]
        with (tmp_path / "study.jsonl").open("a", encoding="utf-8") as out:
            out.write("\n" + "\n\n".join(lines) + "\n")
        CALLS.clear()
        return tmp_path / "study.jsonl"

    return write


def results(path):
    return [json.loads(line)["result"] for line in path.read_text().splitlines() if line]


def test_all_entries_move_when_the_cheapest_agrees_and_results_stay_as_they_are(write):
    path = write((0, old(0)), (1, old(1, seconds=2.0)), (2, old(2)))
    before = results(path)
    study = Study("study", make)
    proof = rekey(study)
    assert CALLS == [1] and proof.entries == 3 and proof.settings == {"seed": 1}
    assert (proof.largest, proof.differ, proof.numbers) == (0.0, 0, 7)
    assert results(path) == before == study.recall([{"seed": seed} for seed in range(3)])
    assert rekey(study) is None and CALLS == [1]


@pytest.mark.parametrize(
    "changes",
    [
        {"score": 11.5},  # more than 2 % of 11
        {"score": math.nan},
        {"score": "11"},
        {"curve": {"loss": [[0, 1.5], [1, 0.55]], "seconds": []}},
        {"curve": {"loss": [[0, 1.5]], "seconds": []}},
        {"more": 1},
    ],
)
def test_nothing_moves_when_it_does_not_agree(write, changes):
    path = write((1, old(1, **changes)), (2, old(2, seconds=99.0)))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="study: expected"):
        rekey(Study("study", make))
    assert path.read_bytes() == before


def test_the_largest_difference_is_reported(write):
    write((1, old(1, score=11.1)))
    proof = rekey(Study("study", make))
    assert proof.differ == 1 and proof.where == "/score" and proof.largest == pytest.approx(0.1 / 11.1)
    write((3, old(3, score=13.1)))
    with pytest.raises(ValueError, match="within 0.001"):
        rekey(Study("study", make), tolerance=0.001)


def test_numbers_that_are_the_same_nan_agree():
    study = Study("study", make)
    assert compare(study, {"a": math.nan, "b": [1, "x"]}, {"a": math.nan, "b": [1, "x"]}) == {
        "/a": 0,
        "/b/0": 0,
        "/b/1": 0,
    }
    assert compare(study, {"a": 1, "b": 0.1}, {"a": math.inf, "b": 0.3}) == {"/a": math.inf, "/b": pytest.approx(0.2)}


def test_a_study_says_which_numbers_are_compared(write):
    write((1, {**old(1), "hits": "0A"}))
    study = Study("study", lambda seed: 0, lambda result: {"score": result["score"]})
    assert compare(study, {"score": 1, "hits": "0A"}, {"score": 1, "hits": "0B"}) == {"/score": 0}


def test_the_measurement_can_be_chosen(write):
    write((1, old(1, seconds=1.0)), (2, old(2)))
    assert rekey(Study("study", make), settings={"seed": 2}).settings == {"seed": 2} and CALLS == [2]
    write((5, old(5)))
    with pytest.raises(LookupError, match=r"none of 1 old entries has the settings \{'seed': 9\}"):
        rekey(Study("study", make), settings={"seed": 9})


def test_what_the_old_code_makes_here_can_stand_for_the_stored_result(write):
    """Of any settings, for a proof that is cheaper than any entry."""
    write((1, old(1, score=99.0)))
    study = Study("study", make)
    with pytest.raises(ValueError, match="nothing was moved"):
        rekey(study, 1e-6, {"seed": 7}, other(7))
    assert rekey(study, 1e-6, {"seed": 7}, make(7)).entries == 1


def test_entries_of_this_code_and_older_ones_of_the_same_settings_stay(write):
    path = write((1, old(1, score=11.01)), code=fingerprint(make))
    write((1, old(1, score=50.0)), code="older")
    write((2, old(2, score=60.0)), code="older")
    write((2, old(2)), code="old")
    proof = rekey(Study("study", make))
    assert proof.entries == 1 and CALLS == [2]
    known = {
        line["key"]: line["result"]["score"] for line in map(json.loads, filter(None, path.read_text().split("\n")))
    }
    assert known[key({"seed": 1}, fingerprint(make))] == 11.01 and known[key({"seed": 1}, "older")] == 50
    assert known[key({"seed": 2}, fingerprint(make))] == 12 and known[key({"seed": 2}, "older")] == 60


def test_every_study_has_its_place():
    from importlib import import_module

    for name, (where, what) in STUDIES.items():
        assert getattr(import_module(where), what).name == name
    assert {path.stem for path in store.SHIPPED.glob("*.jsonl")} == set(STUDIES)


def test_the_code_of_a_revision_measures_in_a_process_of_its_own(monkeypatch, tmp_path):
    package = tmp_path / "minilip"
    (package / "studies").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "thing.py").write_text("def make(seed):\n    print('noise')\n    return {'value': seed + 1}\n")

    def git(*words):
        name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *name, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    (package / "thing.py").write_text("def make(seed):\n    return {'value': seed + 2}\n")
    monkeypatch.setattr(module, "__file__", str(package / "studies" / "rekey.py"))
    assert measured_by("HEAD", "minilip.thing", "make", {"seed": 3}) == {"value": 4}


def test_the_command_says_what_it_does():
    run = [sys.executable, "-m", "minilip.studies.rekey"]
    out = subprocess.run([*run, "--help"], capture_output=True, text=True, check=True).stdout
    assert "measures the cheapest entry again" in out and "--since" in out
    refused = subprocess.run([*run, "unknown"], capture_output=True, text=True)
    assert refused.returncode == 2 and "protoclip-anchors" in refused.stderr
