"""cached: an array is made once, made again whenever its file is not what it should be, and never lost."""

import os
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from minilip.data import cache as module
from minilip.data.cache import cached

GOOD = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def once(tmp_path):
    """Reads or makes the array; `once.made` counts."""

    class Once:
        made, path = 0, tmp_path / "deep" / "x.npz"

        def __call__(self):
            found = cached(self.path, (2, 3), self.make, "features", np.floating)
            assert np.array_equal(found, GOOD)
            return found

        def make(self):
            self.made += 1
            return GOOD

    return Once()


def test_it_is_made_once_and_read_as_it_was(once):
    assert all(once().dtype == np.float32 for _ in range(3))
    assert once.made == 1 and [file.name for file in once.path.parent.iterdir()] == ["x.npz"]


def write(path, **arrays):
    with path.open("wb") as out:
        np.savez_compressed(out, **arrays)


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def turn_bits(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"features.npy") + 60] ^= 255
    path.write_bytes(content)


def wrong_checksum(path):
    """Every byte can be read, but some are not those that were written."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("features.npy", "w") as member:
        np.lib.format.write_array(member, GOOD)
    content = bytearray(path.read_bytes())
    content[content.index(GOOD.tobytes())] ^= 1
    path.write_bytes(content)


def longer_than_it_says(path):
    with zipfile.ZipFile(path, "w") as archive, archive.open("features.npy", "w") as member:
        np.lib.format.write_array(member, GOOD)
        member.write(b"more")


def no_array(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", b"not an array")


DAMAGES = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "bits turned": turn_bits,
    "wrong checksum": wrong_checksum,
    "longer than it says": longer_than_it_says,
    "no zip": lambda path: path.write_bytes(b"<html>please log in</html>"),
    "no array": no_array,
    "another name": lambda path: write(path, images=GOOD),
    "another shape": lambda path: write(path, features=GOOD.T),
    "no dimension": lambda path: write(path, features=GOOD[0, 0]),
    "another kind": lambda path: write(path, features=GOOD.astype(int)),
    "text": lambda path: write(path, features=GOOD.astype(str)),
    "objects": lambda path: write(path, features=GOOD.astype(object)),
    "a single array": lambda path: np.save(path.open("wb"), GOOD),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_again_and_says_so(once, capsys, damage):
    once()
    DAMAGES[damage](once.path)
    once()
    assert once.made == 2 and f"{once.path} is damaged (" in capsys.readouterr().out
    once()
    assert once.made == 2 and capsys.readouterr().out == ""


def test_a_bomb_of_zeros_is_not_unpacked(once):
    once()
    write(once.path, features=np.zeros((8, 1 << 20), np.float32))  # 32 MB
    tracemalloc.start()
    once()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert once.made == 2 and peak < 8 << 20


def test_objects_are_never_unpickled(once, tmp_path):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "has run"),)

    once()
    write(once.path, features=np.array([[Runs()] * 3] * 2, dtype=object))
    once()
    assert once.made == 2 and not (tmp_path / "has run").exists()


def test_what_cannot_be_kept_is_returned_with_a_warning(once, tmp_path):
    (tmp_path / "deep").write_text("not a folder")
    for made in (1, 2):
        with pytest.warns(UserWarning, match=r"x.npz could not be kept \(.*: it will be made again"):
            once()
        assert once.made == made
    assert (tmp_path / "deep").read_text() == "not a folder"


def test_a_full_disk_costs_the_file_and_not_the_array(once, monkeypatch):
    def full(out, **arrays):
        out.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "savez_compressed", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        once()
    assert list(once.path.parent.iterdir()) == []


def test_a_folder_in_the_place_of_the_file(once, capsys):
    once.path.mkdir(parents=True)
    with pytest.warns(UserWarning, match="could not be kept"):
        once()
    assert once.made == 1 and "is damaged" in capsys.readouterr().out


def test_threads_do_not_meet(once):
    found, threads = [], [threading.Thread(target=lambda: found.append(once())) for _ in range(8)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 8 and [file.name for file in once.path.parent.iterdir()] == ["x.npz"]


def test_processes_do_not_meet(once):
    script = textwrap.dedent(f"""
        import time, numpy as np
        from pathlib import Path
        from minilip.data.cache import cached
        def make():
            time.sleep(0.2)
            return np.arange(6, dtype=np.float32).reshape(2, 3)
        for _ in range(3):
            assert cached(Path({str(once.path)!r}), (2, 3), make, "features", np.floating).sum() == 15
    """)
    command = [sys.executable, "-W", "error", "-c", script]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [worker.communicate(timeout=60)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    once()
    assert once.made == 0 and [file.name for file in once.path.parent.iterdir()] == ["x.npz"]
