"""Fetch pinned files of public packages: every byte verified, resumable, and safe to run twice at once.

Two sources, tried in this order: a public CDN by HTTPS, then `npm pack`. Neither is trusted: a file reaches its
place only if its sha256 is the pinned one, and by one atomic rename, so that whoever finds it there finds it whole.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

CDN = "https://cdn.jsdelivr.net/npm"  # serves CDN/NAME@VERSION/PATH
TIMEOUT = 20  # seconds without a byte
NPM_OPTIONS = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]


class MissingData(RuntimeError):
    """Data is not in the cache and could not be fetched; the message names it and the command that gets it."""


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
            except (OSError, HTTPException, tarfile.TarError, KeyError, EOFError, zlib.error) as error:
                refusals.append(f"  {source.__doc__} {error}")
        missing = incomplete(packages, root)
    if missing:
        names = "; ".join(f"{package} ({', '.join(paths)})" for package, paths in missing)
        advice = f"With a network connection, `{command}` fetches it."
        raise MissingData("\n".join([f"missing from {root}: {names}", *refusals, advice]))
    return True


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A fresh file name beside `target` that replaces it in one step when the block ends well, else is deleted."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def incomplete(packages: Sequence[Package], root: Path) -> list[tuple[Package, list[str]]]:
    """The packages with files that are absent or altered, and which."""
    pairs = [
        (p, [path for path, file in p.files.items() if not _intact(p.folder(root) / path, file)]) for p in packages
    ]
    return [(package, paths) for package, paths in pairs if paths]


def _intact(path: Path, file: File) -> bool:
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
        _download(f"{CDN}/{package}/{path}", package.folder(root) / path, package.files[path], bar)


def _download(url: str, target: Path, file: File, bar: tqdm) -> None:
    """Fetch one file, going on where an interrupted download stopped."""
    left = target.with_name(f"{target.name}.part")
    before = bar.n
    with replacing(target) as part:
        part.touch()
        # Two processes may find the same leftover: the rename lets one have it, the other starts afresh.
        with suppress(FileNotFoundError):
            os.replace(left, part)
        try:
            reached, cause = -1, None
            while (have := part.stat().st_size) < file.size:
                if have <= reached:  # the last attempt brought nothing
                    raise OSError(f"{url}: {cause or f'broke off at {have} of {file.size} bytes'}")
                reached, cause = have, None
                try:
                    _append(url, part, file.size, bar, before)
                except (OSError, HTTPException) as error:
                    cause = error
        except BaseException:  # Ctrl-C too: the next run resumes here
            if part.stat().st_size:
                os.replace(part, left)
            raise
        verify(part, url, file)


def _append(url: str, part: Path, size: int, bar: tqdm, before: float) -> None:
    have = part.stat().st_size
    headers = {"User-Agent": "minilip"} | ({"Range": f"bytes={have}-"} if have else {})
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as reply:
        # 206 is the rest of the file; anything else is the whole of it, from a server that knows no Range.
        mode = "ab" if reply.status == 206 else "wb"
        with part.open(mode) as out:
            while out.tell() <= size and (block := reply.read(1 << 16)):
                out.write(block)
                bar.update(before + out.tell() - bar.n)


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
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            for path in paths:
                member, file = archive.extractfile(f"package/{path}"), package.files[path]
                if member is None:
                    raise OSError(f"{package}: {path} is not a plain file")
                with replacing(package.folder(root) / path) as part:
                    part.write_bytes(member.read(file.size + 1))
                    verify(part, f"{package} {path}", file)
                bar.update(file.size)
