"""Data with known answers (scenes, Gaussians) and real data (emoji), each in its own file."""

import os
import sys
from pathlib import Path


def home() -> Path:
    """The folder for downloads and caches: $MINILIP_HOME, else `minilip` in the user's cache folder."""
    if chosen := os.environ.get("MINILIP_HOME"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "minilip"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "minilip"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "minilip"
