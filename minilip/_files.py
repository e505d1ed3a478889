"""Write a file whole or not at all: whoever reads it finds what was there before or all of what is new."""

import glob
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ABANDONED = 24 * 3600  # seconds without a byte, after which a half-written file belongs to a process that was killed


@contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """A fresh file name beside `target`, which replaces it in one step when the block ends well and else is deleted.

        with replacing(path) as part:
            torch.save(state, part)

    The name is shared with no other process or thread, so several may write one file at a time: the last to end wins.
    Missing folders are made. A link stays a link, and what it leads to is replaced. What a killed process left beside
    `target` is deleted after a day.

    Raises:
        FileNotFoundError: the block wrote no file.
        OSError: the folder cannot be written to, or the disk is full; `target` is as it was.
    """
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        # Without this a power failure can keep the new name and lose the content.
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    for left in target.parent.glob(f"{glob.escape(target.name)}.{'[0-9a-f]' * 32}.part"):
        if _idle(left) > ABANDONED:
            left.unlink(missing_ok=True)


def write(target: str | Path, content: str | bytes) -> None:
    """Replace a file by this content, text as UTF-8 with its line ends as they are.

    Raises:
        OSError: as `replacing`.
        UnicodeEncodeError: the text cannot be encoded; `target` is as it was.
    """
    with replacing(target) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def _idle(path: Path) -> float:
    """Seconds since the last byte; 0 for what is no longer there."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
