"""Long measurements: found by exactly what made them, never lost, never mixed up."""

import json

import pytest

from minilip.studies import store
from minilip.studies.store import entries, fingerprint, key, recall, stored


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


def with_words(x):
    """One docstring."""
    # one comment
    return x + 1  # and another


def without_words(x):
    return x + 1


def other_code(x):
    return x + 2


def test_words_do_not_change_the_fingerprint_and_code_does():
    codes = [code_of(f) for f in (with_words, without_words, other_code)]
    assert codes[0] == codes[1] != codes[2]
    assert fingerprint(with_words) == fingerprint(with_words) != fingerprint(other_code)
    assert fingerprint(with_words, 1) != fingerprint(with_words, 2)


def code_of(f):
    """Without its name, so that only the rest can differ."""
    return store._code(f).replace(f.__name__, "f")


def test_a_string_that_is_no_docstring_counts():
    def one():
        return "red"

    def two():
        return "blue"

    assert code_of(one) != code_of(two)


def test_a_string_on_a_line_of_its_own_counts():
    def one():
        return {
            "red": 1,
        }

    def two():
        return {
            "blue": 1,
        }

    assert code_of(one) != code_of(two)


def test_what_is_inside_a_loop_counts():
    def one(x):
        for _ in range(3):
            x += 1
            x *= 2
        return x

    def two(x):
        for _ in range(3):
            x += 1
        x *= 2
        return x

    assert code_of(one) != code_of(two)


def formatted(x):
    """The same code has the same fingerprint under every Python, though 3.12 takes f-strings apart differently."""
    return f"{x:.2f} of {1 + 1}"


def test_the_fingerprint_is_the_same_under_every_python():
    assert fingerprint(formatted) == "26fed63e0d0d"


def test_values_do_not_run_into_each_other():
    assert fingerprint(1, 23) != fingerprint(12, 3)


def test_the_key_does_not_depend_on_the_order_of_settings():
    assert key({"a": 1, "b": 2}, "c") == key({"b": 2, "a": 1}, "c")


def test_shipped_entries_are_whole():
    for path in store.SHIPPED.glob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        keys = [json.loads(line)["key"] for line in lines]
        assert lines and len(set(keys)) == len(keys), path
