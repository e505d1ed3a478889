"""fetch: against a local server that can break off, ignore Range or lie, and against a stand-in for `npm pack`."""

import hashlib
import io
import os
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minilip.data import fetch as module
from minilip.data.fetch import File, MissingData, Package, fetch, replacing

BIG = os.urandom(200_000)
SMALL = b'{"licence": "MIT"}'


def pin(content: bytes) -> File:
    return File(len(content), hashlib.sha256(content).hexdigest())


PACKAGE = Package("@scope/art", "1.2.3", {"big.json": pin(BIG), "en/small.json": pin(SMALL)})


class Server:
    """Serves `files` by URL path; breaks off after `cuts.pop(0)` bytes of a reply; keeps the requests it saw."""

    def __init__(self):
        self.files, self.cuts, self.ranges, self.seen = {}, [], True, []
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                world.seen.append((self.path, asked))
                if self.path not in world.files:
                    return self.send_error(404)
                body = world.files[self.path]
                start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and world.ranges else 0
                self.send_response(206 if asked and world.ranges else 200)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                self.wfile.write(body[start:][: world.cuts.pop(0) if world.cuts else None])

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def publish(self, package: Package, contents: dict[str, bytes]) -> None:
        self.files |= {f"/{package}/{path}": content for path, content in contents.items()}


@pytest.fixture
def server(monkeypatch):
    world = Server()
    world.publish(PACKAGE, {"big.json": BIG, "en/small.json": SMALL})
    monkeypatch.setattr(module, "CDN", world.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module.shutil, "which", lambda name: None)  # no npm unless a test brings one
    yield world
    world.http.shutdown()
    world.http.server_close()


def contents(root: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in root.rglob("*") if file.is_file()}


GOOD = {"big.json": BIG, "small.json": SMALL}


def test_plain_download_then_nothing_more(server, tmp_path):
    assert fetch([PACKAGE], tmp_path) is True
    assert contents(tmp_path) == GOOD
    assert (PACKAGE.folder(tmp_path) / "en/small.json").read_bytes() == SMALL
    assert [asked for _, asked in server.seen] == [None, None]
    assert fetch([PACKAGE], tmp_path) is False
    assert len(server.seen) == 2


def test_a_download_that_breaks_off_resumes_where_it_stopped(server, tmp_path):
    server.cuts = [70_000, 50_000]
    fetch([PACKAGE], tmp_path)
    assert [asked for _, asked in server.seen] == [None, "bytes=70000-", "bytes=120000-", None]
    assert contents(tmp_path) == GOOD


def test_a_later_run_resumes_an_interrupted_one(server, tmp_path):
    server.cuts = [70_000, 0]
    with pytest.raises(MissingData, match="broke off at 70000 of 200000 bytes"):
        fetch([PACKAGE], tmp_path)
    assert contents(tmp_path) == {"big.json.part": BIG[:70_000]}
    server.seen.clear()
    fetch([PACKAGE], tmp_path)
    assert server.seen[0][1] == "bytes=70000-"
    assert contents(tmp_path) == GOOD


def test_ctrl_c_keeps_what_has_come(server, tmp_path, monkeypatch):
    def interrupted(url, part, *rest):
        part.write_bytes(BIG[:1000])
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch([PACKAGE], tmp_path)
    assert contents(tmp_path) == {"big.json.part": BIG[:1000]}


def test_a_server_without_range_restarts_the_file(server, tmp_path):
    server.ranges, server.cuts = False, [70_000]
    fetch([PACKAGE], tmp_path)
    assert [asked for _, asked in server.seen] == [None, "bytes=70000-", None]
    assert contents(tmp_path) == GOOD


@pytest.mark.parametrize("lie", [BIG[:-1] + b"?", BIG + b"more", BIG * 3], ids=["altered", "longer", "far longer"])
def test_wrong_bytes_are_refused_and_nothing_is_left(server, tmp_path, lie):
    server.publish(PACKAGE, {"big.json": lie})
    with pytest.raises(MissingData) as error:
        fetch([PACKAGE], tmp_path)
    assert f"@scope/art@1.2.3/big.json: expected sha256 {pin(BIG).sha256}, got " in str(error.value)
    assert contents(tmp_path) == {}


def test_a_file_altered_in_the_cache_is_fetched_again(server, tmp_path):
    fetch([PACKAGE], tmp_path)
    (PACKAGE.folder(tmp_path) / "big.json").write_bytes(BIG[::-1])
    server.seen.clear()
    assert fetch([PACKAGE], tmp_path) is True
    assert [path for path, _ in server.seen] == ["/@scope/art@1.2.3/big.json"]
    assert contents(tmp_path) == GOOD


def test_offline_is_one_error_that_says_what_is_missing_and_how_to_get_it(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CDN", "http://127.0.0.1:9")  # nobody listens on the discard port
    with pytest.raises(MissingData) as error:
        fetch([PACKAGE], tmp_path, command="make art")
    lines = str(error.value).splitlines()
    assert lines[0] == f"missing from {tmp_path}: @scope/art@1.2.3 (big.json, en/small.json)"
    assert lines[1].startswith("  by HTTPS: http://127.0.0.1:9/@scope/art@1.2.3/big.json: ")
    assert lines[2:] == ["  by npm pack: npm is not installed", "With a network connection, `make art` fetches it."]
    assert contents(tmp_path) == {}


def test_without_download_nothing_is_asked(server, tmp_path):
    with pytest.raises(MissingData, match=r"missing from .*@scope/art@1.2.3 \(big.json"):
        fetch([PACKAGE], tmp_path, download=False)
    assert server.seen == []
    fetch([PACKAGE], tmp_path)
    assert fetch([PACKAGE], tmp_path, download=False) is False


def npm_that_packs(members: dict[str, bytes], monkeypatch) -> None:
    def run(command, cwd, **_):
        assert command[1:3] == ["pack", "@scope/art@1.2.3"]
        with tarfile.open(Path(cwd) / "scope-art-1.2.3.tgz", "w:gz") as archive:
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.shutil, "which", lambda name: "/somewhere/npm")
    monkeypatch.setattr(module.subprocess, "run", run)


def test_npm_brings_what_the_cdn_did_not(server, tmp_path, monkeypatch):
    del server.files["/@scope/art@1.2.3/en/small.json"]
    members = {"package/big.json": BIG, "package/en/small.json": SMALL, "../../escaped.json": b"no", "package/x": b"no"}
    npm_that_packs(members, monkeypatch)
    assert fetch([PACKAGE], tmp_path / "cache") is True
    assert contents(tmp_path) == GOOD


@pytest.mark.parametrize("members", [{"package/big.json": b"wrong"}, {}], ids=["altered", "absent"])
def test_npm_is_trusted_no_more_than_the_cdn(server, tmp_path, monkeypatch, members):
    server.files.clear()
    npm_that_packs(members, monkeypatch)
    with pytest.raises(MissingData, match=r"by HTTPS: .*404.*\n  by npm pack: .*big.json"):
        fetch([PACKAGE], tmp_path)
    assert contents(tmp_path) == {}


def test_npm_failing_is_reported(server, tmp_path, monkeypatch):
    server.files.clear()
    monkeypatch.setattr(module.shutil, "which", lambda name: "/somewhere/npm")
    failed = subprocess.CompletedProcess([], 1, "", "npm error network\nunreachable")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(MissingData, match=r"by npm pack: @scope/art@1\.2\.3: network unreachable"):
        fetch([PACKAGE], tmp_path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, len(BIG)), max_size=6), st.booleans())
def test_however_the_line_breaks_a_file_in_place_is_whole(server, cuts, ranges):
    server.cuts, server.ranges = list(cuts), ranges
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for _ in range(len(cuts) + 1):  # as often as a patient learner runs the cell
            try:
                fetch([PACKAGE], root)
                break
            except MissingData:
                placed = {name: content for name, content in contents(root).items() if not name.endswith(".part")}
                assert placed.items() <= GOOD.items()
        assert contents(root) == GOOD


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path):
    target = tmp_path / "deep" / "file"
    with replacing(target) as part:
        part.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(target) as part:
        part.write_text("half of the n")
        raise ZeroDivisionError
    assert contents(tmp_path) == {"file": b"old"}


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    target = tmp_path / "file"
    with replacing(target) as first, replacing(target) as second:
        first.write_text("first")
        second.write_text("second")
        assert not target.exists()
    assert contents(tmp_path) == {"file": b"first"}  # the outer block ends last
