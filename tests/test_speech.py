"""Speech: small archives made here for what can go wrong, the real recordings for what must be right."""

import io
import lzma
import os
import subprocess
import tarfile
import wave

import numpy as np
import pytest
import torch

from minilip.data import archives, speech
from minilip.data.archives import Debian, fetch_debian, mirrored, unpack_debian, unpack_tar
from minilip.data.fetch import MissingData
from minilip.data.speech import PROMPTS, RATE, SPEAKERS, VOICES, Digits, Voices, content_digest, read_wave
from tests.test_fetch import Server, pin


def wav(samples, rate=RATE, channels=1):
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, dtype="<i2").tobytes())
    return out.getvalue()


def tar(files, mode="w:xz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def deb(files):
    """An ar archive of three members, the second of odd length."""
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": tar(files)}
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content)
        parts.append(b"\n" * (len(content) % 2))
    return b"".join(parts)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    monkeypatch.delenv("MINILIP_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def world(monkeypatch, tmp_path):
    """Two voices with prompts of their own, one in common; served by HTTP."""
    server = Server()
    made = []
    for i, voice in enumerate(VOICES[:2]):
        files = {
            f"./usr/share/asterisk/sounds/v{i}/{name}.wav": wav([i, n]) for n, name in enumerate(("a", f"b{i}", "d/c"))
        }
        content = deb({**files, "./usr/share/doc/x/copyright": b"free"})
        package = Debian(f"sounds-{i}", "1:2.0-1", "main/s", pin(content))
        server.files[f"/{package.path}/{package.filename}"] = content
        made.append(voice._replace(package=package))
    monkeypatch.setattr(speech, "VOICES", tuple(made))
    monkeypatch.setattr(speech, "PROMPTS", 2)
    monkeypatch.setattr(speech, "VOICE_SAMPLES", 8)
    monkeypatch.setattr(archives, "DEBIAN", server.url)
    monkeypatch.setattr(archives.shutil, "which", lambda name: None)
    server.root, server.packages = tmp_path / "home", [v.package for v in made]
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_voices_are_fetched_credited_and_kept(world, capsys):
    data = Voices(world.root)
    assert data.prompt_names == ["a", "d/c"] and len(data) == 4  # what both say, in order
    assert [(data[i] * 32768).tolist() for i in range(4)] == [[0, 0], [0, 2], [1, 0], [1, 2]]
    assert data.voice.tolist() == [0, 0, 1, 1] and data.prompt.tolist() == [0, 1, 0, 1]
    assert data.speaker.tolist() == [0] * 4 and data.language.tolist() == [0, 0, 1, 1]
    assert data.lengths.tolist() == [2] * 4
    printed = capsys.readouterr().out
    assert printed.count("sounds-0: Allison Smith") == 1
    asked = len(world.seen)
    again = Voices(world.root, download=False)
    assert torch.equal(again[3], data[3]) and len(world.seen) == asked and capsys.readouterr().out == ""


def test_a_name_in_the_pool_has_no_epoch(world):
    assert world.packages[0].filename == "sounds-0_2.0-1_all.deb" and str(world.packages[0]) == "sounds-0=1:2.0-1"


def test_an_altered_package_is_refused_and_nothing_of_it_kept(world):
    path = next(iter(world.files))
    world.files[path] = world.files[path][:-1] + b"x"
    with pytest.raises(
        MissingData, match=r"by HTTPS: (.|\n)*sha256(.|\n)*by apt-get download: apt-get is not installed"
    ):
        Voices(world.root)
    assert not list(world.root.rglob("*.deb"))


def test_offline_says_what_is_missing_and_what_gets_it(world, tmp_path, monkeypatch):
    with pytest.raises(MissingData, match=r"the voices(.|\n)*`python -m minilip.data.speech` fetches it"):
        Voices(tmp_path / "empty", download=False)
    assert world.seen == []
    with pytest.raises(MissingData, match=r"spoken digits(.|\n)*MINILIP_MIRROR"):
        Digits(tmp_path / "empty", download=False)
    monkeypatch.setattr(archives, "DEBIAN", "http://127.0.0.1:9")
    with pytest.raises(
        MissingData, match=r"missing from (.|\n)*by HTTPS(.|\n)*`python -m minilip.data.speech` fetches it"
    ):
        Voices(tmp_path / "empty")


def test_a_mirror_is_asked_first_and_verified(world, tmp_path, monkeypatch):
    folder = tmp_path / "mirror"
    folder.mkdir()
    package = world.packages[0]
    (folder / package.filename).write_bytes(world.files[f"/{package.path}/{package.filename}"])
    monkeypatch.setenv("MINILIP_MIRROR", str(folder))
    assert mirrored(package.filename) == folder / package.filename and mirrored("other") is None
    fetch_debian(package, world.root, "x")
    assert world.seen == []
    (folder / package.filename).write_bytes(b"something else")
    fetch_debian(package, tmp_path / "other", "x")
    assert len(world.seen) == 1  # refused, so fetched


def test_apt_is_the_last_resort(world, tmp_path, monkeypatch):
    package = world.packages[0]
    content = world.files.pop(f"/{package.path}/{package.filename}")

    def apt(command, cwd, **_):
        assert command == ["/bin/apt-get", "download", str(package)]
        with open(os.path.join(cwd, "any name.deb"), "wb") as out:
            out.write(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(archives.shutil, "which", lambda name: "/bin/apt-get")
    monkeypatch.setattr(archives.subprocess, "run", apt)
    assert fetch_debian(package, world.root, "x").read_bytes() == content


def test_what_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "x.deb"
    for content, says in ((b"text", "no ar archive"), (b"!<arch>\n", "no ar archive|got none")):
        path.write_bytes(content)
        with pytest.raises(OSError, match=says):
            list(unpack_debian(path))
    path.write_bytes(deb({"a": b"b"})[:-40])
    with pytest.raises(OSError):
        list(unpack_debian(path))
    with pytest.raises(OSError, match="no tar archive"):
        list(unpack_tar(b"nothing"))
    assert list(unpack_tar(tar({"a": b"1"}, "w:gz"))) == [("a", b"1")]


@pytest.mark.parametrize("content", [wav([1], rate=16000), wav([1, 2], channels=2), b"RIFF", lzma.compress(b"x")])
def test_another_kind_of_sound_is_refused(content):
    with pytest.raises(OSError, match="expected"):
        read_wave(content)


def test_samples_are_read_as_they_were_written():
    assert read_wave(wav([-32768, 0, 32767])).tolist() == [-32768, 0, 32767]


@pytest.fixture
def digits(monkeypatch, tmp_path):
    """All 3,000 names with three samples each, in a mirror."""
    names = [(d, s, t) for d in range(10) for s in SPEAKERS for t in range(speech.TAKES)]
    files = {f"recordings/{d}_{s}_{t}.wav": wav([d, SPEAKERS.index(s), t]) for d, s, t in names}
    (tmp_path / speech.DIGITS_MIRROR).write_bytes(tar({**files, "recordings/": b"", "README.md": b"words"}))
    monkeypatch.setenv("MINILIP_MIRROR", str(tmp_path))
    plain = {name.removeprefix("recordings/"): content for name, content in files.items()}
    monkeypatch.setattr(speech, "DIGITS_CONTENT", content_digest(plain))
    monkeypatch.setattr(speech, "DIGIT_SAMPLES", 9000)
    return tmp_path


def test_digits_know_what_was_said_by_whom_and_when(digits):
    data = Digits(digits / "home")
    said = torch.stack([data[i] * 32768 for i in range(len(data))]).long()
    assert torch.equal(said, torch.stack([data.digit, data.speaker, data.take], dim=1)) and len(data) == 3000


def test_digits_are_verified_by_content_and_not_by_how_they_are_packed(digits, monkeypatch):
    data = Digits(digits / "home")
    path = digits / speech.DIGITS_MIRROR
    files = dict(unpack_tar(path.read_bytes()))
    path.write_bytes(tar({f"master/{name}": files[name] for name in reversed(files)}, "w:gz"))
    assert torch.equal(Digits(digits / "other")[7], data[7])
    files["recordings/3_theo_4.wav"] = wav([1])
    path.write_bytes(tar(files))
    with pytest.raises(MissingData, match="expected content of sha256"):
        Digits(digits / "third", download=False)


# ---- the real recordings ---------------------------------------------------------------------------------------------


def test_the_real_voices():
    data = Voices()
    assert len(data) == len(VOICES) * PROMPTS == 2946
    assert 140 < int(data.lengths.sum()) / RATE / 60 < 143
    assert data.speaker_names == ["Allison", "June", "Carlo", "Menardi", "Topal"]
    assert data.language_names == ["English", "Spanish", "French", "Italian", "Russian"]
    assert {"digits/7", "letters/a"} <= set(data.prompt_names) and len(set(data.prompt_names)) == PROMPTS
    counts = torch.bincount(data.split)
    assert counts.sum() == PROMPTS and 0.28 < counts[2] / PROMPTS < 0.32
    assert all(0.01 < float(data[i].abs().max()) <= 1 for i in range(0, len(data), 300))


def test_the_real_digits():
    try:
        data = Digits()
    except MissingData as error:
        pytest.skip(str(error))
    assert len(data) == 3000 and 21 < int(data.lengths.sum()) / RATE / 60 < 23
    assert torch.bincount(data.digit).tolist() == [300] * 10 and torch.bincount(data.speaker).tolist() == [500] * 6
