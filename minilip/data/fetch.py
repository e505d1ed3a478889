"""Fetch pinned files of public packages: every byte verified, resumable, and safe to run twice at once.

Two sources, tried in this order: a public CDN by HTTPS, then `npm pack`. Neither is trusted: a file reaches its
place only if its sha256 is the pinned one, and by one atomic rename, so that whoever finds it there finds it whole.

While it grows a file is called NAME.part, whoever fetches it: a run that is killed leaves it to the next. NAME.lock
says that somebody is at it; the lock is the operating system's and dies with its process.
"""

import errno
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm.auto import tqdm

from minilip._files import replacing
from minilip.data.locks import alone

CDN = "https://cdn.jsdelivr.net/npm"  # serves CDN/NAME@VERSION/PATH
TIMEOUT = 20  # seconds without a byte
WAITS = (1, 4)  # seconds before another attempt, where the last one brought nothing
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
BUSY = (408, 425, 429, 500, 502, 503, 504)  # what a server says that may do better in a moment
NPM_OPTIONS = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]


class MissingData(RuntimeError):
    """Data is not in the cache and could not be fetched; the message names it and the command that gets it."""


class WrongReply(OSError):
    """A server answered with something else than the file: nothing of it is kept, and it is not asked again."""


class WrongRest(WrongReply):
    """Asked for the rest of a file, a server answered with another part of it."""


# What a source may fail with; anything else is a fault of ours.
UNDELIVERED = (OSError, HTTPException, tarfile.TarError, KeyError, EOFError, ValueError, zlib.error)


class File(NamedTuple):
    size: int  # bytes
    sha256: str


class Package(NamedTuple):
    """The files wanted from one npm package, by their path in it."""

    name: str
    version: str
    files: dict[str, File]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def folder(self, root: Path) -> Path:
        return root / "packages" / str(self).lstrip("@").replace("/", "-").replace("@", "-")


def fetch(packages: Sequence[Package], root: Path, download: bool = True, command: str = "make data") -> bool:
    """Make sure that `package.folder(root)` holds every pinned file of each package, unaltered.

    Args:
        packages: what is wanted.
        root: cache folder; a file that is there and has the right sha256 is not fetched again.
        download: False looks only in the cache.
        command: what a reader should type to get the data, for the error.
    Returns:
        True if something was fetched, False if all was there.
    Raises:
        MissingData: a file is missing or altered, and `download` is False or no source delivered it.
    """
    missing, refusals = incomplete(packages, root), []
    if not missing:
        return False
    for source in (_from_cdn, _from_npm) if download else ():
        if not missing:
            break
        total = sum(package.files[path].size for package, paths in missing for path in paths)
        with tqdm(total=total, unit="B", unit_scale=True, desc="download") as bar:
            try:
                for package, paths in missing:
                    source(package, paths, root, bar)
            except UNDELIVERED as error:
                refusals.append(f"  {source.__doc__} {error}")
        missing = incomplete(packages, root)
    if missing:
        names = "; ".join(f"{package} ({', '.join(paths)})" for package, paths in missing)
        advice = f"With a network connection, `{command}` fetches it."
        raise MissingData("\n".join([f"missing from {root}: {names}", *refusals, advice]))
    return True


def incomplete(packages: Sequence[Package], root: Path) -> list[tuple[Package, list[str]]]:
    """The packages with files that are absent or altered, and which."""
    pairs = [(p, [path for path, file in p.files.items() if not intact(p.folder(root) / path, file)]) for p in packages]
    return [(package, paths) for package, paths in pairs if paths]


def intact(path: Path, file: File) -> bool:
    """Whether a file is there and is, to the last byte, the one that is pinned."""
    return path.is_file() and path.stat().st_size == file.size and _sha256(path) == file.sha256


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def verify(part: Path, name: str, file: File) -> None:
    """Refuse with an OSError what has not the pinned sha256."""
    if (came := _sha256(part)) != file.sha256:
        raise OSError(f"refused {name}: expected sha256 {file.sha256}, got {came}")


def _from_cdn(package: Package, paths: list[str], root: Path, bar: tqdm) -> None:
    """by HTTPS:"""
    for path in paths:
        download(f"{CDN}/{package}/{path}", package.folder(root) / path, package.files[path], bar)


def download(url: str, target: Path, file: File, bar: tqdm) -> None:
    """Fetch one pinned file by HTTPS, going on where an interrupted download stopped.

    Raises:
        OSError: it could not be had, or is another file; nothing is at `target` then that was not there before.
    """
    part = target.with_name(f"{target.name}.part")
    before = bar.n
    target.parent.mkdir(parents=True, exist_ok=True)
    with alone(part):
        if intact(target, file):  # another process has fetched it in the meantime
            bar.update(file.size)
            return
        for resumed in (part.exists(), False):
            _fill(url, part, file.size, bar, before)
            try:
                verify(part, url, file)
            except OSError:
                part.unlink()
                if not resumed:
                    raise
            else:
                os.replace(part, target)
                return


def read_url(url: str, limit: int) -> bytes:
    """What an address answers by HTTPS, where its length is known to nobody: an archive that is packed when asked for.

    Raises:
        OSError: no answer, a web page, or more than `limit` bytes.
    """
    with build_opener(_NeverToHTTP).open(Request(url, headers={"User-Agent": "minilip"}), timeout=TIMEOUT) as reply:
        if reply.headers.get_content_type() == "text/html":
            raise WrongReply(f"{url}: refused: expected a file, got a web page (behind a login?)")
        content: bytes = reply.read(limit + 1)
    if len(content) > limit:
        raise WrongReply(f"{url}: refused: expected at most {limit} bytes, got more")
    return content


def _fill(url: str, part: Path, size: int, bar: tqdm, before: float) -> None:
    """Ask until there are `size` bytes, as long as each attempt brings some; then a few times more."""
    have, waits = _size(part), list(WAITS)
    while have < size:
        if (free := shutil.disk_usage(part.parent).free) < size - have:
            raise OSError(f"{part.parent}: expected {(size - have) / 1e6:.1f} MB of free space, got {free / 1e6:.1f}")
        cause: Exception | str = f"broke off at {have} of {size} bytes"
        try:
            _append(url, part, size, bar, before)
        except (OSError, HTTPException) as error:
            if isinstance(error, WrongRest) or (isinstance(error, HTTPError) and error.code == 416 and have):
                part.unlink()  # the whole file may still be had
                have = 0
                continue
            if isinstance(error, WrongReply) or getattr(error, "errno", None) in FULL:
                raise OSError(f"{url}: {error}") from error
            cause = error
        came, have = _size(part) - have, _size(part)
        if came > 0:
            waits = list(WAITS)
        elif waits and _passing(cause):
            time.sleep(waits.pop(0))
        else:
            raise OSError(f"{url}: {cause}")


def _passing(cause: Exception | str) -> bool:
    """Whether a later attempt may fare better; without a network it does not."""
    if isinstance(cause, HTTPError):
        return cause.code in BUSY
    why = cause.reason if isinstance(cause, URLError) else cause
    return isinstance(why, (str, TimeoutError, ConnectionResetError, ConnectionAbortedError, HTTPException))


def _append(url: str, part: Path, size: int, bar: tqdm, before: float) -> None:
    have = _size(part)
    headers = {"User-Agent": "minilip"} | ({"Range": f"bytes={have}-"} if have else {})
    with build_opener(_NeverToHTTP).open(Request(url, headers=headers), timeout=TIMEOUT) as reply:
        encoding = _encoding(reply)
        start = _start(reply, have, size, encoded=encoding is not None)
        unpack = None if encoding is None else zlib.decompressobj(wbits=47)  # gzip or zlib, as its header says
        with part.open("ab" if start else "wb") as out:
            while out.tell() < size and (block := reply.read(1 << 16)):
                room = size - out.tell()
                out.write(block[:room] if unpack is None else unpack.decompress(block, room))
                bar.update(before + out.tell() - bar.n)


def _start(reply: HTTPResponse, have: int, size: int, encoded: bool) -> int:
    """Where in the file a reply begins: at `have` or at 0.

    Raises:
        WrongReply: it cannot be the file, or the rest of it.
    """
    kind, length = reply.headers.get_content_type(), reply.headers.get("Content-Length")
    stated = reply.headers.get("Content-Range")
    if reply.status not in (200, 206) or (reply.status == 206 and not have):
        raise WrongReply(f"refused: expected the file or its rest, got status {reply.status}")
    if "Content-Type" in reply.headers and kind == "text/html":
        raise WrongReply("refused: expected a file, got a web page (behind a login?)")
    start = have if reply.status == 206 else 0  # a server that knows no Range sends the whole
    refused = WrongRest if start else WrongReply
    if encoded and start:
        raise refused("refused: expected the rest as it is, got it packed")
    if length is not None and not encoded and length.strip() != str(size - start):
        raise refused(f"refused: expected {size - start} bytes, got {length} of {kind}")
    if start and stated and stated.split() not in (["bytes", f"{start}-{size - 1}/{n}"] for n in (size, "*")):
        raise refused(f"refused: expected bytes {start}-{size - 1}/{size}, got {stated}")
    return start


def _encoding(reply: HTTPResponse) -> str | None:
    """How a reply is packed on its way, although we ask for it as it is."""
    encoding = reply.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "deflate", ""):
        raise WrongReply(f"refused: expected the file as it is, got {encoding}")
    return None if encoding in ("identity", "") else encoding


class _NeverToHTTP(HTTPRedirectHandler):
    """Follow a redirect, but not from HTTPS to where anybody on the way could read and answer."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if req.full_url.lower().startswith("https:") and not newurl.lower().startswith("https:"):
            raise WrongReply(f"refused: expected HTTPS, was sent to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _from_npm(package: Package, paths: list[str], root: Path, bar: tqdm) -> None:
    """by npm pack:"""
    if (npm := shutil.which("npm")) is None:
        raise OSError("npm is not installed")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", str(package), *NPM_OPTIONS]
        run = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace")
        if run.returncode:
            raise OSError(f"{package}: {' '.join(run.stderr.replace('npm error', '').split())[:200]}")
        # Members are read by name into files we name: no path from the archive is ever followed.
        if not (packed := list(Path(folder).glob("*.tgz"))):
            raise OSError(f"{package}: npm packed nothing")
        with tarfile.open(packed[0]) as archive:
            for path in paths:
                member, file = archive.extractfile(f"package/{path}"), package.files[path]
                if member is None:
                    raise OSError(f"{package}: {path} is not a plain file")
                with replacing(package.folder(root) / path) as part:
                    part.write_bytes(member.read(file.size + 1))
                    verify(part, f"{package} {path}", file)
                target = package.folder(root) / path
                target.with_name(f"{target.name}.part").unlink(missing_ok=True)  # what the CDN had brought of it
                bar.update(file.size)
