"""A file is written whole or not at all, by however many at a time, and nothing is left beside it."""

import os
import threading
import time
from multiprocessing import get_context

import pytest

from minilip import _files
from minilip._files import replacing, write


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["a\r\nb · é\n", b"\x00\xff", "", b""])
def test_content_comes_back_as_it_was(tmp_path, content):
    write(tmp_path / "new" / "folder" / "file", content)
    write(str(tmp_path / "new" / "folder" / "file"), content)  # over an old one, and by a plain string
    wanted = content.encode() if isinstance(content, str) else content
    assert (tmp_path / "new" / "folder" / "file").read_bytes() == wanted
    assert names(tmp_path / "new" / "folder") == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "file"
    write(target, "old")
    with pytest.raises(error), replacing(target) as part:
        part.write_text("half")
        assert target.read_text() == "old"
        raise error
    assert target.read_text() == "old" and names(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_at_the_end_leaves_the_old_file_too(tmp_path, monkeypatch, step):
    target = tmp_path / "file"
    write(target, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space"):
        write(target, "new")
    assert target.read_text() == "old" and names(tmp_path) == ["file"]


def test_content_reaches_the_disk_before_the_name_does(tmp_path, monkeypatch):
    steps = []
    for step in ("fsync", "replace"):
        real = getattr(os, step)
        monkeypatch.setattr(os, step, lambda *a, step=step, real=real: (steps.append(step), real(*a)))
    write(tmp_path / "file", "new")
    assert steps == ["fsync", "replace"]


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path):
    write(tmp_path / "file", "old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "old"


def test_text_that_cannot_be_encoded_loses_nothing(tmp_path):
    write(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path / "file", "\ud800")
    assert (tmp_path / "file").read_text() == "old" and names(tmp_path) == ["file"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    write(tmp_path / "real" / "file", "old")
    try:
        (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    except OSError:
        pytest.skip("this machine makes no links")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "file").read_text() == "new"
    assert names(tmp_path) == ["link", "real"] and names(tmp_path / "real") == ["file"]


def test_two_blocks_at_once_have_two_files_and_the_last_to_end_wins(tmp_path):
    target = tmp_path / "file"
    with replacing(target) as first:
        with replacing(target) as second:
            first.write_text("first")
            second.write_text("second")
        assert target.read_text() == "second"
    assert target.read_text() == "first" and names(tmp_path) == ["file"]


LONG = 100_000


def _many(path, letter):
    for _ in range(20):
        write(path, letter * LONG)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_reader_always_finds_one_writer_s_whole_file(tmp_path, kind):
    target = tmp_path / "file"
    write(target, "x" * LONG)
    start = threading.Thread if kind == "threads" else get_context("spawn").Process
    writers = [start(target=_many, args=(target, letter)) for letter in "abc"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        content = target.read_text()
        assert content == content[0] * LONG
        seen.add(content[0])
    for writer in writers:
        writer.join()
    assert names(tmp_path) == ["file"] and seen


def test_what_a_killed_process_left_is_deleted_after_a_day(tmp_path):
    old, new, other = (tmp_path / f"file.{digit * 32}.part" for digit in "abg")
    resumed, stranger = tmp_path / "file.part", tmp_path / f"file2.{'a' * 32}.part"
    for path in (old, new, other, resumed, stranger):
        path.write_text("half")
        if path is not new:
            os.utime(path, (time.time() - _files.ABANDONED - 60,) * 2)
    write(tmp_path / "file", "whole")
    assert set(names(tmp_path)) == {"file", new.name, other.name, resumed.name, stranger.name}
