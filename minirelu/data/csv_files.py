"""CSV files: one header line, then rows of numbers; separated by commas, semicolons, tabs or bars; gzipped or not.

- `read_csv(path)`: the columns of a file of the user's own.
- `contents(path)`: its bytes, unpacked.
- `columns(name, text, note, ...)`: the columns in such bytes.

polars splits the lines; everything is read as text first, so that a cell which is not a number can be shown as it stands.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .table import Columns, nearest

if TYPE_CHECKING:
    from polars import DataFrame

SEPARATORS = ",;\t|"
MISSING = {"", "na", "n/a", "#n/a", "null", "none", "?", "-", "."}


def read_csv(path: str) -> Columns:
    """The columns of the file at `path`. Raises `DataError` for a file that is missing, empty, ragged, or not numbers."""
    if not os.path.isfile(path):
        folder, name = os.path.split(path)
        known = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
        what = "is a folder" if os.path.isdir(path) else "does not exist" + nearest(name, known)
        raise DataError(f"the file {path} {what}; give the path of a CSV file")
    name = os.path.basename(path)
    found = columns(name, contents(path), name)
    rows, inputs = found.values.shape[0], len(found.names) - 1
    return found._replace(note=f"{name}: {rows:,} rows, {inputs} input{'s' * (inputs != 1)}")


def contents(path: str) -> bytes:
    """The bytes of a file, unpacked if it is gzipped."""
    import gzip
    import zlib

    try:
        with open(path, "rb") as file:
            raw = file.read()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, zlib.error, OSError) as error:
        reason = getattr(error, "strerror", None) or f"its compression is broken ({error}); download or copy it again"
        raise DataError(f"{path} cannot be read: {reason}") from error


def columns(name: str, text: bytes, note: str, *, header: bool = True, target: str | None = None) -> Columns:
    """The columns in `text`. Without a `header` they are x1, x2, … and, last, y."""
    cells = _cells(name, text)
    if header:
        names = _header(name, cells)
        cells = cells[1:]
    else:
        names = [*(f"x{i + 1}" for i in range(cells.width - 1)), "y"]
    cells.columns = names
    while cells.height and not any(cell is not None for cell in cells.row(-1)):
        cells = cells[:-1]  # blank lines at the end
    return Columns(name, tuple(names), _numbers(name, cells), note, target)


def _cells(name: str, text: bytes) -> DataFrame:
    """All cells, the header's too, as text without blanks around it; an empty cell is None."""
    try:
        import polars as pl
    except ImportError as error:
        raise DataError(f"reading {name} needs polars; install it with pip install 'minirelu[lab]'") from error
    text = text.removeprefix(b"\xef\xbb\xbf")
    first = text.split(b"\n", 1)[0].decode("utf-8", "replace")
    separator = max(SEPARATORS, key=first.count)
    try:
        cells = pl.read_csv(io.BytesIO(text), has_header=False, infer_schema=False, separator=separator)
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{name} is empty; give a file with a header line and rows of numbers") from error
    except pl.exceptions.ComputeError as error:
        raise DataError(f"{name} cannot be read: {_what_is_wrong(text, separator, error)}") from error
    return cells.with_columns(pl.all().str.strip_chars().replace("", None))


def _what_is_wrong(text: bytes, separator: str, error: Exception) -> str:
    """A sentence for the bytes that polars could not split."""
    import csv

    try:
        rows = csv.reader(io.StringIO(text.decode("utf-8"), newline=""), delimiter=separator)
        width = len(next(rows))
        for row in rows:
            if len(row) > width:
                cells = f"line {rows.line_num} has {len(row)} cells and the header {width}"
                return f"{cells}; put quotes around a cell that contains {separator!r}"
    except UnicodeDecodeError as wrong:
        line = text[: wrong.start].count(b"\n") + 1
        return f"line {line} is not UTF-8 text; save the file as UTF-8"
    except csv.Error as wrong:
        return str(wrong)
    return " ".join(str(error).split())


def _header(name: str, cells: DataFrame) -> list[str]:
    header = [cell or "" for cell in cells.row(0)]
    if "" in header:
        raise DataError(f"{name}: column {header.index('') + 1} has no name in the header line; give it one")
    twice = [cell for i, cell in enumerate(header) if cell in header[:i]]
    if twice:
        raise DataError(f"{name}: two columns are called {twice[0]!r}; rename one of them")
    if all(_is_number(cell) for cell in header):
        raise DataError(f"{name} has no header: its first line holds only numbers; add a line with the names of the columns")
    return header


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(name: str, cells: DataFrame) -> Any:
    """The cells as float64 (N, K). Raises `DataError` for the first cell, in the order of reading, that is no number."""
    import numpy as np
    import polars as pl

    values = np.empty((cells.height, cells.width))
    first: tuple[int, int] | None = None
    for k, column in enumerate(cells):
        numbers = column.cast(pl.Float64, strict=False)
        if numbers.null_count():
            row = int(numbers.is_null().arg_max() or 0)
            first = min(first, (row, k)) if first else (row, k)
        values[:, k] = numbers.fill_null(0.0).to_numpy()
    if first is not None:
        raise DataError(_not_a_number(name, cells, *first))
    return values


def _not_a_number(name: str, cells: DataFrame, row: int, k: int) -> str:
    column, cell = cells.columns[k], cells[row, k]
    place = f"in row {row + 1} (the header not counted)"
    if (cell or "").lower() in MISSING:
        what = f"is {cell!r}" if cell else "is empty"
        return f"{name}: column {column!r} {what} {place}; fill it in or delete the row"
    if _is_number((cell or "").replace(",", ".")):
        return f"{name}: column {column!r} is {cell!r} {place}; write decimals with a point and thousands without a mark"
    return (
        f"{name}: column {column!r} holds text, {cell!r} {place}; a net takes numbers: delete the column, or make a "
        "column of 0 and 1 of each of its values"
    )
