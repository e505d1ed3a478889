"""Long measurements: found by exactly what made them, never lost, never mixed up."""

import json
import os
import subprocess
import sys
import warnings

import pytest

from minilip.studies import store
from minilip.studies.digest import fingerprint
from minilip.studies.store import Study, entries, key, recall, stored


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("MINILIP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")
    return tmp_path


def counted():
    calls = []

    def make(seed):
        calls.append(seed)
        return {"value": seed * 0.1, "list": [1, 2]}

    return make, calls


def test_an_entry_is_made_once_for_its_settings_and_its_code(home):
    make, calls = counted()
    first = stored("study", {"seed": 3}, "code", make)
    assert stored("study", {"seed": 3}, "code", make) == first == {"value": 3 * 0.1, "list": [1, 2]}
    assert calls == [3]
    stored("study", {"seed": 4}, "code", make)
    stored("study", {"seed": 3}, "other code", make)
    stored("another study", {"seed": 3}, "code", make)
    assert calls == [3, 4, 3, 3]
    assert len(entries("study")) == 3


def test_the_courses_entries_are_found_and_left_alone(home):
    make, calls = counted()
    stored("study", {"seed": 1}, "code", make, store.SHIPPED)
    shipped = (store.SHIPPED / "study.jsonl").read_bytes()
    stored("study", {"seed": 1}, "code", make)
    stored("study", {"seed": 2}, "code", make)
    assert calls == [1, 2]
    assert (store.SHIPPED / "study.jsonl").read_bytes() == shipped
    assert [e["settings"]["seed"] for e in entries("study").values()] == [1, 2]


def test_a_half_written_line_loses_itself_alone(home):
    make, calls = counted()
    stored("study", {"seed": 1}, "code", make)
    path = home / "home" / "measured" / "study.jsonl"
    path.write_text(path.read_text() + '{"key": "12", "resu')
    assert stored("study", {"seed": 1}, "code", make)["value"] == 0.1
    stored("study", {"seed": 2}, "code", make)
    assert stored("study", {"seed": 2}, "code", make)["value"] == 0.2
    assert calls == [1, 2]


@pytest.mark.parametrize(
    "line", ["3", "[]", "{}", '{"key": "12"}', '{"key": "12", "settings": {}}', "null", "\ufeff", "x"]
)
def test_an_odd_line_loses_itself_alone(home, line):
    make, calls = counted()
    stored("study", {"seed": 1}, "code", make)
    path = home / "home" / "measured" / "study.jsonl"
    path.write_bytes(line.encode() + b"\n\xff\xfe\n" + path.read_bytes() + line.encode())
    assert [e["settings"]["seed"] for e in entries("study").values()] == [1]
    assert stored("study", {"seed": 1}, "code", make)["value"] == 0.1 and calls == [1]


def test_of_two_entries_with_one_key_the_last_counts(home):
    make, _ = counted()
    stored("study", {"seed": 1}, "code", make)
    path = home / "home" / "measured" / "study.jsonl"
    entry = json.loads(path.read_text())
    path.write_text(path.read_text() + json.dumps({**entry, "result": {"value": 7}}) + "\n")
    assert recall("study", [{"seed": 1}], "code", "m") == [{"value": 7}]


def test_what_is_handed_out_is_a_copy(home):
    make, _ = counted()
    stored("study", {"seed": 1}, "code", make)["list"].append(3)
    recall("study", [{"seed": 1}], "code", "m")[0]["list"].append(4)
    next(iter(entries("study").values()))["result"]["list"].append(5)
    assert recall("study", [{"seed": 1}], "code", "m")[0]["list"] == [1, 2]


def test_a_file_is_read_once_until_it_changes(home, monkeypatch):
    make, _ = counted()
    read = []
    monkeypatch.setattr(store.json, "loads", lambda text, loads=json.loads: read.append(text) or loads(text))
    for seed in range(5):
        stored("study", {"seed": seed}, "code", make)
    read.clear()
    for _ in range(3):
        recall("study", [{"seed": 2}], "code", "m")
    assert len(list(filter(None, read))) == 5 + 3  # the lines of the file once, and what was asked for
    stored("study", {"seed": 9}, "code", make)
    assert recall("study", [{"seed": 9}], "code", "m")[0]["value"] == 9 * 0.1  # written since


# ---- where results cannot be kept ------------------------------------------------------------------------------------


def unwritable(home):
    (home / "home").write_text("no folder")  # not even root can write into it


def test_a_result_that_cannot_be_kept_is_returned_and_the_warning_comes_before_the_work(home):
    unwritable(home)
    seen = []

    def make(seed):
        seen.append([str(w.message) for w in caught])
        return {"value": seed}

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert stored("study", {"seed": 3}, "code", make) == {"value": 3}
    assert len(seen[0]) == 1 and "cannot be written to" in seen[0][0] and "will not be kept" in seen[0][0]
    assert len(caught) == 2 and "could not be kept" in str(caught[1].message)
    assert {w.filename for w in caught} == {__file__}


def test_a_folder_that_is_lost_on_the_way_costs_no_result(home):
    def make(seed):
        measured = home / "home" / "measured"
        measured.rename(home / "gone")
        measured.write_text("no folder any more")
        return {"value": seed}

    with pytest.warns(UserWarning, match=r"the result of \{'seed': 3\} could not be kept"):
        assert stored("study", {"seed": 3}, "code", make) == {"value": 3}


def test_a_result_that_is_not_json_is_returned_with_a_warning(home):
    with pytest.warns(UserWarning, match="could not be kept"):
        assert stored("study", {"seed": 3}, "code", lambda seed: {"value": {seed}}) == {"value": {3}}
    assert entries("study") == {}


def test_a_full_disk_costs_no_result(home, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return False

        def write(self, data):
            return len(data) // 2

    plain = type(home).open
    full = lambda self, mode="r", *more, **named: Full() if named.get("buffering") == 0 else plain(self, mode, *more)  # noqa: E731
    monkeypatch.setattr(type(home), "open", full)
    with pytest.warns(UserWarning, match="the disk is full"):
        assert stored("study", {"seed": 3}, "code", lambda seed: {"value": seed}) == {"value": 3}


def test_nothing_is_left_where_nothing_was_measured(home):
    def broken(seed):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stored("study", {"seed": 1}, "code", broken)
    assert list((home / "home" / "measured").iterdir()) == []


WRITER = """
import sys
from minilip.studies.store import stored
for i in range(60):
    stored("study", {"seed": i, "who": sys.argv[1]}, "code", lambda seed, who: {"value": [who] * 20000})
"""


def test_what_several_processes_add_at_once_stays_whole(home):
    env = {**os.environ, "MINILIP_HOME": str(home / "home")}
    runs = [subprocess.Popen([sys.executable, "-c", WRITER, who], env=env) for who in "abc"]
    assert [run.wait() for run in runs] == [0, 0, 0]
    found = [(e["settings"]["who"], e["settings"]["seed"], e["result"]["value"]) for e in entries("study").values()]
    assert sorted((who, seed) for who, seed, _ in found) == [(who, seed) for who in "abc" for seed in range(60)]
    assert all(value == [who] * 20000 for who, _, value in found)


# ---- a study ---------------------------------------------------------------------------------------------------------


def double(seed):
    return {"value": 2 * seed}


def test_a_study_completes_what_is_missing_and_recalls_it(home):
    study = Study("study", double)
    with pytest.raises(LookupError, match=rf"2 of 2 entries .*python -m {__name__}"):
        study.recall([{"seed": 1}, {"seed": 2}])
    stored("study", {"seed": 2}, fingerprint(double), lambda seed: {"value": "kept"}, store.SHIPPED)
    study.complete([{"seed": 1}, {"seed": 2}])
    assert study.recall([{"seed": 1}, {"seed": 2}]) == [{"value": 2}, {"value": "kept"}]
    assert len((store.SHIPPED / "study.jsonl").read_text().split("\n\n")) == 2


def test_a_failed_measurement_stores_nothing(home):
    def broken(seed):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        stored("study", {"seed": 1}, "code", broken)
    assert entries("study") == {}


def test_recall_says_what_is_missing_and_who_measures_it(home):
    make, _ = counted()
    stored("study", {"seed": 1}, "code", make)
    assert recall("study", [{"seed": 1}], "code", "minilip.thing")[0]["value"] == 0.1
    with pytest.raises(LookupError, match=r"1 of 2 entries .*python -m minilip.thing"):
        recall("study", [{"seed": 1}, {"seed": 2}], "code", "minilip.thing")


def test_the_key_does_not_depend_on_the_order_of_settings():
    assert key({"a": 1, "b": 2}, "c") == key({"b": 2, "a": 1}, "c")


def test_shipped_entries_are_whole():
    for path in store.SHIPPED.glob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        keys = [json.loads(line)["key"] for line in lines]
        assert lines and len(set(keys)) == len(keys), path
