"""Files that somebody else has packed: found in a mirror folder, fetched by HTTPS or apt, and what is in them.

`MINILIP_MIRROR` names a folder in which a file of the right name is looked for first; it is verified like any other.
"""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from minilip._files import replacing
from minilip.data.fetch import UNDELIVERED, File, MissingData, download, verify

DEBIAN = "https://deb.debian.org/debian/pool/main"  # serves DEBIAN/PATH


class Debian(NamedTuple):
    """A package of Debian's archive."""

    name: str
    version: str
    path: str  # in the archive's pool, without the file's name
    file: File

    def __str__(self) -> str:
        return f"{self.name}={self.version}"

    @property
    def filename(self) -> str:
        return f"{self.name}_{self.version.partition(':')[2] or self.version}_all.deb"


def mirrored(filename: str) -> Path | None:
    """A file of this name in the folder $MINILIP_MIRROR, if both are there."""
    folder = os.environ.get("MINILIP_MIRROR")
    path = Path(folder).expanduser() / filename if folder else None
    return path if path is not None and path.is_file() else None


def fetch_debian(package: Debian, root: Path, command: str) -> Path:
    """The package's file, verified, in `root / "packages"`: from the mirror, by HTTPS, or by `apt-get download`.

    Raises:
        MissingData: no source delivered it.
    """
    target, refusals = root / "packages" / package.filename, []
    for source in (_mirror, _https, _apt):
        try:
            source(package, target)
            return target
        except UNDELIVERED as error:
            refusals.append(f"  {source.__doc__} {error}")
    advice = f"With a network connection, `{command}` fetches it."
    raise MissingData("\n".join([f"missing from {root}: {package.filename}", *refusals, advice]))


def _mirror(package: Debian, target: Path) -> None:
    """from MINILIP_MIRROR:"""
    if (path := mirrored(package.filename)) is None:
        raise OSError("not there")
    _keep(path, package, target)


def _https(package: Debian, target: Path) -> None:
    """by HTTPS:"""
    with tqdm(total=package.file.size, unit="B", unit_scale=True, desc=package.name) as bar:
        download(f"{DEBIAN}/{package.path}/{package.filename}", target, package.file, bar)


def _apt(package: Debian, target: Path) -> None:
    """by apt-get download:"""
    if (apt := shutil.which("apt-get")) is None:
        raise OSError("apt-get is not installed")
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [apt, "download", str(package)], cwd=folder, capture_output=True, encoding="utf-8", errors="replace"
        )
        if run.returncode or not (packed := list(Path(folder).glob("*.deb"))):
            raise OSError(f"{package}: {' '.join(run.stderr.split())[:200]}")
        _keep(packed[0], package, target)


def _keep(path: Path, package: Debian, target: Path) -> None:
    with replacing(target) as part:
        shutil.copyfile(path, part)
        verify(part, package.filename, package.file)


def unpack_debian(path: Path) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the plain files of a .deb: an `ar` archive around a tar archive.

    Members are read, never written to disk under the names they bring.

    Raises:
        OSError: it is no .deb, or is cut short.
    """
    content = path.read_bytes()
    if not content.startswith(b"!<arch>\n"):
        raise OSError(f"{path}: expected a .deb, got no ar archive")
    at = 8
    while at + 60 <= len(content):
        name, size = content[at : at + 16].decode("ascii").strip().rstrip("/"), int(content[at + 48 : at + 58])
        if at + 60 + size > len(content):
            raise OSError(f"{path}: cut short in {name}")
        if name.startswith("data.tar"):
            yield from unpack_tar(content[at + 60 : at + 60 + size])
            return
        at += 60 + size + size % 2  # a member begins at an even byte
    raise OSError(f"{path}: expected a member data.tar, got none")


def unpack_tar(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the plain files of a tar archive, packed in any way that tarfile knows.

    Raises:
        OSError: it is no tar archive, or is cut short.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                if member.isfile() and (file := archive.extractfile(member)) is not None:
                    yield member.name, file.read()
    except (tarfile.TarError, EOFError) as error:
        raise OSError(f"no tar archive that can be read ({error})") from error
