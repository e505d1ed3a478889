"""progress.json: nothing that can be read is lost, whatever happened to the file and whoever else writes it."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from minilip.course import checks, progress, record

GOOD = {f"clip.{name}": {"status": "PASS", "hints": 1} for name in ("clip_loss", "logit_gradient", "recall_at")}
TEXT = json.dumps(GOOD)


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("MINILIP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINILIP_BUDGET", "cpu")
    monkeypatch.delenv("MINILIP_STRICT", raising=False)
    monkeypatch.setattr(record, "_session", [])
    monkeypatch.setattr(record, "_said", set())
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def on_disk(home):
    return json.loads((home / "progress.json").read_text("utf-8"))


def aside(home):
    return sorted(path.name for path in home.glob("progress.json.bad*"))


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT[:-1].encode() + b",}",
        TEXT.replace("}, ", ",},\n\t").encode(),
        json.dumps(GOOD | {"clip.other": {"status": "TODO"}}).encode(),
        json.dumps(GOOD | {"clip.other": {"status": "FAIL", "hints": "two", "more": 1}}).encode(),
    ],
)
def test_what_can_be_read_whole_is_kept_whole(home, content, capsys):
    (home / "progress.json").write_bytes(content)
    record.keep("infonce.candidates", status="PASS")
    assert on_disk(home).items() >= (GOOD | {"infonce.candidates": {"status": "PASS", "hints": 0}}).items()
    assert aside(home) == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (TEXT.encode()[:-30], 2),
        (json.dumps(GOOD | {"clip.other": 3}).encode(), 3),
        (json.dumps(GOOD | {"clip.other": {"status": "solved"}}).encode(), 3),
        (json.dumps(GOOD | {"clip.other": {"status": ["PASS"]}}).encode(), 3),
        (TEXT.encode() + b"\xff\xfe", 3),
        (b"\x00" * 50, 0),
        (b"", 0),
        (b"[" * 100_000, 0),
    ],
)
def test_what_cannot_be_read_whole_is_put_aside_and_never_overwritten(home, content, kept, capsys):
    (home / "progress.json").write_bytes(content)
    (home / "progress.json.bad").write_text("an older one")
    assert sum(row["status"] == "PASS" for row in record.rows().values()) == kept
    record.keep("infonce.candidates", hints=2)
    assert len(on_disk(home)) == kept + 1 and on_disk(home)["infonce.candidates"] == {"status": "TODO", "hints": 2}
    assert (home / "progress.json.bad").read_text() == "an older one"
    assert (home / "progress.json.bad.2").read_bytes() == content
    assert "progress.json.bad.2" in capsys.readouterr().out
    record.keep("infonce.candidates", hints=3)
    assert len(aside(home)) == 2 and capsys.readouterr().out == ""


def test_solved_is_solved_and_hints_stay_used():
    for status, hints, expected in (
        (None, 2, ("TODO", 2)),
        ("FAIL", 0, ("FAIL", 2)),
        (None, 1, ("FAIL", 2)),
        ("TODO", 0, ("TODO", 2)),
        ("PASS", 0, ("PASS", 2)),
        ("FAIL", 3, ("PASS", 3)),
    ):
        record.keep("clip.clip_loss", status, hints)
        assert tuple(record.rows()["clip.clip_loss"].values()) == expected


WRITER = """
import sys, time
from minilip.course import record
print("ready", flush=True); sys.stdin.readline()
for i in range(int(sys.argv[1]), 60, 3): record.keep(f"clip.{i}", status="PASS")
"""


def test_three_kernels_and_their_threads_lose_nothing(home):
    start = [sys.executable, "-c", WRITER]
    runs = [subprocess.Popen([*start, k], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for k in "012"]
    for run in runs:
        run.stdout.readline()
    for run in runs:
        run.stdin.write("\n")
        run.stdin.flush()
    threads = [threading.Thread(target=record.keep, args=(f"lie.{i}",), kwargs={"hints": i}) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.wait() for run in runs] == [0, 0, 0]
    for run in runs:
        run.communicate()
    assert len(on_disk(home)) == 80
    assert {path.name for path in home.iterdir()} == {"progress.json", "progress.lock"}


def test_a_lock_that_is_never_given_back_is_not_waited_for(home, monkeypatch):
    monkeypatch.setattr(record, "PATIENCE", 0.2)
    with record._locked(home / "progress.json"):
        start = time.monotonic()
        record.keep("clip.clip_loss", status="PASS")
        assert 0.15 < time.monotonic() - start < 5
    assert on_disk(home)["clip.clip_loss"]["status"] == "PASS"


def test_a_reader_waits_for_the_lock(home, monkeypatch):
    monkeypatch.setattr(record, "PATIENCE", 0.2)
    with record._locked(home / "progress.json"):
        start = time.monotonic()
        record.rows()
        assert time.monotonic() - start > 0.15


@pytest.mark.parametrize("error", [RuntimeError("no home folder"), OSError("read-only"), ValueError("null byte")])
def test_without_a_home_the_session_remembers_and_says_so_once(monkeypatch, capsys, error):
    def nowhere() -> Path:
        raise error

    monkeypatch.setattr(record, "home", nowhere)
    record.keep("clip.clip_loss", status="PASS")
    record.keep("clip.recall_at", hints=1)
    progress()
    printed = capsys.readouterr().out
    assert printed.count(f"progress is kept for this session only: {error}") == 1
    assert f"1 of {len(checks.catalogue())} solved" in printed


def test_what_the_session_remembers_is_written_once_it_can_be(home, monkeypatch, capsys):
    (home / "progress.json").write_text(TEXT)
    whole = os.replace

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    record.keep("clip.class_vectors", status="PASS")
    assert on_disk(home) == GOOD and set(record.rows()) == {*GOOD, "clip.class_vectors"}
    monkeypatch.setattr(os, "replace", whole)
    record.keep("clip.clip_loss", status="FAIL", hints=3)
    assert on_disk(home)["clip.class_vectors"]["status"] == "PASS"
    assert on_disk(home)["clip.clip_loss"] == {"status": "PASS", "hints": 3}
    assert not list(home.glob("*.part")) and capsys.readouterr().out.count("session only") == 1
