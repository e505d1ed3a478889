"""One process and one thread at a time, where several might write one growing file."""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PATIENCE = 60  # seconds for which another process may hold a file that does not grow


@contextmanager
def alone(part: Path) -> Iterator[None]:
    """Wait until no other process or thread is at this part of a file; NAME.lock beside it says that somebody is.

    The lock is the operating system's: it dies with its process, and what a killed one leaves is taken over.

    Raises:
        OSError: another one holds it, and the part has not grown for PATIENCE seconds.
    """
    path = part.with_suffix(".lock")
    size, since = -1, time.monotonic()
    while (lock := _lock(path)) is None:
        if (now := _size(part)) != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            raise OSError(f"{part} is held by another process that brings nothing")
        time.sleep(0.1)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows deletes nothing that is open, and there it does no harm
            path.unlink()
        os.close(lock)


def _lock(path: Path) -> int | None:
    """An open file that nobody else has locked, or None."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if sys.platform == "win32":
            msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who had it before has deleted it: a lock on a file without a name keeps nobody out.
        if os.path.samestat(os.fstat(lock), os.stat(path)):
            return lock
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK, errno.ENOENT):
            return lock  # a file system without locks; a wrong sha256 would still be noticed
    os.close(lock)
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
