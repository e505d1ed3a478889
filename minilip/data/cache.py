"""Arrays that take minutes to make, made once."""

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minilip._files import replacing


def cached(
    cache: Path,
    shape: tuple[int, ...],
    make: Callable[[], np.ndarray],
    name: str = "images",
    kind: type[np.generic] = np.uint8,
) -> np.ndarray:
    """An array of this shape and kind, from a file; made now, and kept if it can be, where there is none.

    A file that is damaged in any way, or holds another array, is made again and says so. Where an array cannot be kept
    (a folder that is shared and read-only, a full disk), it is returned with a warning.

    Args:
        cache: the file, an .npz that is never unpickled.
        shape, kind: of the array, as np.issubdtype knows kinds.
        make: makes it.
        name: of the array in the file.
    """
    try:
        return _read(cache, shape, name, kind)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except Exception as error:  # whatever is wrong with a file, what it holds can be made
        print(f"{cache} is damaged ({error}): making it again")
    found = make()
    arrays: dict[str, Any] = {name: found}
    try:
        with replacing(cache) as part, part.open("wb") as out:
            np.savez_compressed(out, **arrays)
    except OSError as error:
        warnings.warn(f"{cache} could not be kept ({error}): it will be made again", stacklevel=2)
    return found


def _read(cache: Path, shape: tuple[int, ...], name: str, kind: type[np.generic]) -> np.ndarray:
    # What the array claims to be is looked at first: a few bytes of zip can hold gigabytes of zeros.
    with zipfile.ZipFile(cache) as archive:
        with archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            came, _, dtype = header(member)
        if came != shape or not np.issubdtype(dtype, kind):
            raise ValueError(f"expected {shape} {kind.__name__}, got {came} {dtype}")
        with archive.open(f"{name}.npy") as member:
            found: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
            if member.read(1):  # to ask for more is also what makes the checksum be looked at
                raise ValueError(f"expected the end after {found.nbytes} bytes, got more")
    return found
