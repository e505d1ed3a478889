"""Data with known answers (scenes, Gaussians) and real data (emoji), each in its own file."""

import os
import sys
from pathlib import Path


class NoHome(OSError):
    """There is no folder to keep things in: an account without a home, and no MINILIP_HOME."""


def home() -> Path:
    """The folder for downloads and caches, an absolute path: $MINILIP_HOME, else `minilip` in the user's cache folder.

    That is $LOCALAPPDATA on Windows, ~/Library/Caches on macOS, and $XDG_CACHE_HOME or ~/.cache elsewhere. A variable
    that is empty counts as unset; XDG_CACHE_HOME and LOCALAPPDATA do so where they are no absolute path, as the XDG
    specification asks. Nothing is made or written here.

    Raises:
        NoHome: an OSError, so that who can live without what is kept treats it as a disk that cannot be written to.
    """
    try:
        if chosen := os.environ.get("MINILIP_HOME"):
            return Path(os.path.abspath(Path(chosen).expanduser()))
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "minilip"
        windows = sys.platform == "win32"
        caches = Path(os.environ.get("LOCALAPPDATA" if windows else "XDG_CACHE_HOME") or ".")
        if not caches.is_absolute():  # the account is asked last: a container may have none
            caches = Path.home() / "AppData" / "Local" if windows else Path.home() / ".cache"
        return caches / "minilip"
    except RuntimeError as error:
        raise NoHome(f"no home folder ({error}): set MINILIP_HOME to a folder to keep downloads in") from None
