"""fetch: against a local server that can break off, ignore Range or lie, and against a stand-in for `npm pack`."""

import errno
import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minilip.data import fetch as module
from minilip.data import locks
from minilip.data.fetch import File, MissingData, Package, WrongReply, fetch
from minilip.data.locks import alone

BIG = os.urandom(200_000)
SMALL = b'{"licence": "MIT"}'


def pin(content: bytes) -> File:
    return File(len(content), hashlib.sha256(content).hexdigest())


PACKAGE = Package("@scope/art", "1.2.3", {"big.json": pin(BIG), "en/small.json": pin(SMALL)})


class Server:
    """Serves `files` by URL path and keeps the requests it saw.

    Breaks off after `cuts.pop(0)` bytes of a reply; `odd.pop(0)`, where it is not None, answers in its stead:
    (status, headers, body). Waits `pause` seconds between pieces.
    """

    def __init__(self):
        self.files, self.cuts, self.odd, self.ranges, self.seen, self.pause = {}, [], [], True, [], 0.0
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                world.seen.append((self.path, asked))
                if world.odd and (answer := world.odd.pop(0)) is not None:
                    return self.reply(*answer)
                if self.path not in world.files:
                    return self.send_error(404)
                body = world.files[self.path]
                start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and world.ranges else 0
                headers = {"Content-Length": len(body) - start}
                cut = world.cuts.pop(0) if world.cuts else None
                self.reply(206 if asked and world.ranges else 200, headers, body[start:][:cut])

            def reply(self, status, headers, body):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, str(value))
                self.end_headers()
                for i in range(0, len(body), 1 << 16):
                    try:
                        self.wfile.write(body[i : i + (1 << 16)])
                    except OSError:
                        return
                    if world.pause:
                        time.sleep(world.pause)

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
    monkeypatch.setattr(module, "WAITS", ())
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


def test_wrong_bytes_are_refused_and_nothing_is_left(server, tmp_path):
    server.publish(PACKAGE, {"big.json": BIG[:-1] + b"?"})
    with pytest.raises(MissingData) as error:
        fetch([PACKAGE], tmp_path)
    assert f"@scope/art@1.2.3/big.json: expected sha256 {pin(BIG).sha256}, got " in str(error.value)
    assert contents(tmp_path) == {}


# ---- replies that are not the file -----------------------------------------------------------------------------------

PAGE = b"<html>please log in</html>"
SIZE = len(BIG)
WRONG = {  # status, headers, body
    "login page": (200, {"Content-Length": len(PAGE), "Content-Type": "text/html"}, PAGE),
    "login page of unknown length": (200, {"Content-Type": "text/html; charset=utf-8"}, PAGE),
    "login page that does not say so": (200, {"Content-Length": len(PAGE)}, PAGE),
    "login page of the right length": (200, {"Content-Length": SIZE, "Content-Type": "text/html"}, BIG),
    "longer": (200, {"Content-Length": SIZE + 4}, BIG + b"more"),
    "no content": (204, {}, b""),
    "a part that nobody asked for": (206, {"Content-Length": 10}, BIG[:10]),
    "packed in an unknown way": (200, {"Content-Encoding": "br", "Content-Length": SIZE}, BIG),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_reply_is_kept_neither_as_the_file_nor_as_its_beginning(server, tmp_path, name):
    server.odd = [WRONG[name]]
    with pytest.raises(MissingData, match="big.json: refused: expected "):
        fetch([PACKAGE], tmp_path)
    assert contents(tmp_path) == {} and len(server.seen) == 1
    assert fetch([PACKAGE], tmp_path) is True
    assert contents(tmp_path) == GOOD


@pytest.mark.parametrize("name", [name for name in WRONG if "nobody" not in name])
def test_a_wrong_reply_costs_nothing_of_what_has_come(server, tmp_path, name):
    server.cuts, server.odd = [70_000], [None, WRONG[name]]
    with pytest.raises(MissingData, match="big.json: refused: expected "):
        fetch([PACKAGE], tmp_path)
    assert contents(tmp_path) == {"big.json.part": BIG[:70_000]}
    server.seen.clear()
    fetch([PACKAGE], tmp_path)
    assert server.seen[0][1] == "bytes=70000-" and contents(tmp_path) == GOOD


def test_a_spoilt_beginning_is_thrown_away_and_the_file_fetched_in_the_same_run(server, tmp_path):
    part = PACKAGE.folder(tmp_path) / "big.json.part"
    for spoilt in (PAGE, BIG + b"more", b"x" * SIZE):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(spoilt)
        (PACKAGE.folder(tmp_path) / "big.json").unlink(missing_ok=True)
        assert fetch([PACKAGE], tmp_path) is True
        assert contents(tmp_path) == GOOD


REST = BIG[70_000:]


@pytest.mark.parametrize(
    "answer",
    [
        (206, {"Content-Length": len(REST), "Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"}, REST),
        (206, {"Content-Length": len(REST), "Content-Range": f"bytes 70000-{SIZE - 1}/{SIZE + 5}"}, REST),
        (206, {"Content-Length": 10}, REST[:10]),
        (206, {"Content-Encoding": "gzip"}, gzip.compress(REST)),
        (416, {"Content-Range": f"bytes */{SIZE}", "Content-Length": 0}, b""),
    ],
    ids=["another part", "of another file", "another length", "packed", "no such part"],
)
def test_a_rest_that_is_not_the_rest_makes_it_begin_again(server, tmp_path, answer):
    server.cuts, server.odd = [70_000], [None, answer]
    fetch([PACKAGE], tmp_path)
    assert [asked for path, asked in server.seen if "big" in path] == [None, "bytes=70000-", None]
    assert contents(tmp_path) == GOOD


@pytest.mark.parametrize("total", [SIZE, "*"])
def test_a_rest_that_says_where_it_belongs_is_taken(server, tmp_path, total):
    headers = {"Content-Length": len(REST), "Content-Range": f"bytes 70000-{SIZE - 1}/{total}"}
    server.cuts, server.odd = [70_000], [None, (206, headers, REST)]
    fetch([PACKAGE], tmp_path)
    assert len(server.seen) == 3 and contents(tmp_path) == GOOD


@pytest.mark.parametrize("pack", [("gzip", gzip.compress), ("deflate", zlib.compress)], ids=["gzip", "deflate"])
def test_what_is_packed_on_its_way_is_unpacked(server, tmp_path, pack):
    packed = pack[1](BIG)
    server.odd = [(200, {"Content-Encoding": pack[0], "Content-Length": len(packed)}, packed)]
    fetch([PACKAGE], tmp_path)
    assert contents(tmp_path) == GOOD


def test_a_packed_reply_without_end_is_no_bomb(server, tmp_path):
    server.odd = [(200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(100 * SIZE)))]
    with pytest.raises(MissingData, match="expected sha256"):
        fetch([PACKAGE], tmp_path)
    assert contents(tmp_path) == {}


def test_a_redirect_leads_to_the_file_but_never_from_https_to_http(server, tmp_path):
    server.files["/elsewhere"] = BIG
    server.odd = [(302, {"Location": f"{server.url}/elsewhere"}, b"")]
    fetch([PACKAGE], tmp_path)
    assert contents(tmp_path) == GOOD
    handler, safe = module._NeverToHTTP(), Request("https://cdn.example.org/file")
    for url in ("http://cdn.example.org/file", "HTTP://other.example.org", "ftp://cdn.example.org/file"):
        with pytest.raises(WrongReply, match=f"expected HTTPS, was sent to {url}"):
            handler.redirect_request(safe, None, 302, "", {}, url)
    assert handler.redirect_request(safe, None, 302, "", {}, "https://b.example.org/").host == "b.example.org"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_after_a_while(server, tmp_path, monkeypatch, status):
    slept = []
    monkeypatch.setattr(module, "WAITS", (1, 4))
    monkeypatch.setattr(module.time, "sleep", slept.append)
    busy = (status, {"Content-Length": 0}, b"")
    server.odd = [busy, busy]
    fetch([PACKAGE], tmp_path)
    assert slept == [1, 4] and contents(tmp_path) == GOOD
    server.odd, slept[:] = [busy] * 3, []
    with pytest.raises(MissingData, match=f"big.json: HTTP Error {status}"):
        fetch([PACKAGE], tmp_path / "other")
    assert slept == [1, 4]


def test_where_another_attempt_cannot_help_there_is_none(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WAITS", (1, 4))
    monkeypatch.setattr(module.time, "sleep", lambda _: pytest.fail("it waits"))
    server.files.clear()
    with pytest.raises(MissingData, match="404"):
        fetch([PACKAGE], tmp_path)
    monkeypatch.setattr(module, "CDN", "http://127.0.0.1:9")
    with pytest.raises(MissingData, match="by HTTPS"):
        fetch([PACKAGE], tmp_path)


def test_a_disk_without_room_is_named_before_anything_is_asked(server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 150_000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(MissingData, match=r"expected 0.2 MB of free space, got 0.1"):
        fetch([PACKAGE], tmp_path)
    assert server.seen == [] and contents(tmp_path) == {}


def test_a_disk_that_fills_up_ends_the_attempt_and_keeps_what_has_come(server, tmp_path, monkeypatch):
    original, asked = module._append, []

    def full(url, part, *rest):
        asked.append(1)
        part.write_bytes(BIG[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_append", full)
    with pytest.raises(MissingData, match=r"No space left on device(.|\n)*`make data` fetches it"):
        fetch([PACKAGE], tmp_path)
    assert asked == [1] and contents(tmp_path) == {"big.json.part": BIG[:1000]}
    monkeypatch.setattr(module, "_append", original)
    fetch([PACKAGE], tmp_path)
    assert contents(tmp_path) == GOOD


# ---- other processes -------------------------------------------------------------------------------------------------


def downloader(server, root):
    script = textwrap.dedent(f"""
        from pathlib import Path
        from minilip.data import fetch as m
        m.CDN, m.shutil.which = {server.url!r}, lambda name: None
        pins = {{path: m.File(*pin) for path, pin in { ({k: tuple(v) for k, v in PACKAGE.files.items()})!r}.items()}}
        print(m.fetch([m.Package({PACKAGE.name!r}, {PACKAGE.version!r}, pins)], Path({str(root)!r})))
    """)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", script], **pipes)


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)])
def test_a_killed_download_goes_on_where_it_was_and_leaves_no_litter(server, tmp_path, how):
    server.pause = 0.3
    part = PACKAGE.folder(tmp_path) / "big.json.part"
    process = downloader(server, tmp_path)
    wait_for(lambda: part.exists() and part.stat().st_size > 65_000)
    process.send_signal(how)
    process.communicate()
    have, server.pause = part.stat().st_size, 0
    assert 65_000 < have < SIZE
    server.seen.clear()
    assert fetch([PACKAGE], tmp_path) is True
    assert server.seen[0][1] == f"bytes={have}-" and contents(tmp_path) == GOOD


def test_two_processes_fetch_a_file_once(server, tmp_path):
    server.pause = 0.2
    both = [downloader(server, tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(path.rsplit("/")[-1] for path, _ in server.seen) == ["big.json", "small.json"]
    assert contents(tmp_path) == GOOD


def test_threads_of_one_process_fetch_a_file_once(server, tmp_path):
    server.pause, found = 0.05, []
    threads = [threading.Thread(target=lambda: found.append(fetch([PACKAGE], tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4 and len(server.seen) == 2 and contents(tmp_path) == GOOD


def test_a_lock_that_a_killed_process_left_keeps_nobody_out(server, tmp_path):
    folder = PACKAGE.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "big.json.lock").write_text("")
    fetch([PACKAGE], tmp_path)
    assert contents(tmp_path) == GOOD


def test_who_holds_a_file_and_brings_nothing_is_not_waited_for(server, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.3)
    part = PACKAGE.folder(tmp_path) / "big.json.part"
    part.parent.mkdir(parents=True)
    with alone(part):
        with pytest.raises(MissingData, match="is held by another process that brings nothing"):
            fetch([PACKAGE], tmp_path)
        assert server.seen == []
    fetch([PACKAGE], tmp_path)
    assert contents(tmp_path) == GOOD


def test_a_folder_without_locks_is_no_reason_to_fail(server, tmp_path, monkeypatch):
    if sys.platform == "win32":
        pytest.skip("locks of another kind")

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    fetch([PACKAGE], tmp_path)
    assert contents(tmp_path) == GOOD


def test_one_at_a_time(tmp_path):
    at_it, most = [], []

    def work():
        for _ in range(20):
            with alone(tmp_path / "x.part"):
                at_it.append(1)
                most.append(len(at_it))
                time.sleep(0.0005)
                at_it.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 60 and max(most) == 1 and not list(tmp_path.iterdir())


# ---- the cache -------------------------------------------------------------------------------------------------------


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


def test_what_the_cdn_had_begun_is_no_litter(server, tmp_path, monkeypatch):
    server.cuts = [70_000, 0]
    npm_that_packs({"package/big.json": BIG, "package/en/small.json": SMALL}, monkeypatch)
    assert fetch([PACKAGE], tmp_path) is True
    assert contents(tmp_path) == GOOD


def test_npm_that_packs_nothing_is_reported(server, tmp_path, monkeypatch):
    server.files.clear()
    monkeypatch.setattr(module.shutil, "which", lambda name: "/somewhere/npm")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, "", ""))
    with pytest.raises(MissingData, match="by npm pack: @scope/art@1.2.3: npm packed nothing"):
        fetch([PACKAGE], tmp_path)


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
