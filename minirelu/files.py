"""Files that appear whole or not at all.

- `write_atomically(path, write)`: write beside `path`, then rename.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import IO


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
