"""Files that appear whole or not at all.

- `write_atomically(path, write)`: write beside `path`, then rename.
- `write_arrays(path, arrays)`, `read_arrays(path)`: .npz files that may be lost or damaged, and are then made again.
- `check_place(path, needed)`: whether a folder can be written, and has room.
"""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from .errors import StoreError

_PIECE = 1 << 22  # bytes written at a time


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Call `write(file)` on a new file beside `path`, then rename it to `path`, which is thus never half-written.

    If `write` fails, the disk is full or the program is interrupted, an older file at `path` is still there untouched.
    """
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{name}.{os.urandom(8).hex()}.part")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_arrays(path: str | os.PathLike[str], arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz file, whole or not at all."""
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray] | None:
    """The arrays of an .npz file; None if there is no such file, or it cannot be read."""
    try:
        with np.load(io.BytesIO(Path(path).read_bytes())) as found:
            return dict(found)
    except (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):  # a damaged file can be all
        return None


def check_place(path: str | os.PathLike[str], needed: int) -> None:
    """Make the folder and write as many bytes as will be needed: the only test that no quota or mount can fool.

    Raises `StoreError` where that fails.
    """
    probe = os.path.join(path, f".room.{os.urandom(4).hex()}")
    try:
        os.makedirs(path, exist_ok=True)
        try:
            with open(probe, "xb") as file:
                for written in range(0, needed, _PIECE):
                    file.write(os.urandom(min(_PIECE, needed - written)))
                file.flush()
                os.fsync(file.fileno())
        finally:
            if os.path.exists(probe):
                os.unlink(probe)
    except OSError as error:
        raise StoreError(
            f"the results cannot be written to {path}: {error.strerror} ({needed / 1e6:.0f} MB are needed); nothing was "
            "computed; make room or give another folder: --out DIR"
        ) from error
