"""The paper's four sets, from files in the folder that the variable MINIRELU_DATA names (docs/data.md: where to get them).

Where a checksum is known it is verified; where it is not, the shape is. The note says which file was used, and whether it
is what the paper used.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ..errors import DataError
from .csv_files import columns, contents
from .table import Columns


class File(NamedTuple):
    """A file a set may come in, `name` or `name`.gz; `sha256` is that of the CSV inside."""

    name: str
    rows: int
    inputs: int
    what: str
    sha256: str | None = None
    header: bool = True


# The first that is there is used. Files with a checksum are those described in docs/data.md, made from UCI's.
FILES = {
    "airfoil": (
        File(
            "airfoil.csv", 1503, 5, "UCI Airfoil Self-Noise, complete",
            "402ade94987b5c9b83a40c4769e63956b60ceaf31e28303fcebed297d74ff650",
        ),
        File("airfoil_self_noise.dat", 1503, 5, "UCI Airfoil Self-Noise, complete", header=False),
    ),
    "real_estate": (
        File(
            "real_estate.csv", 414, 6, "UCI Real Estate Valuation, complete",
            "8badabacd49c2982960506ca2659242c71c88620d61d51bf0b61246feefc6e93",
        ),
    ),
    "superconductivity": (
        File("superconductivity.csv", 21263, 81, "UCI Superconductivty Data, complete"),
        File(
            "superconductivity_sample.csv", 6803, 81, "a random sample, 32 % of the 21,263 rows of UCI Superconductivty Data",
            "5c7828e6a31f5a4acde210b93eacf829349baaea07e7f56a9f613119ea83c3d1",
        ),
    ),
    "facebook": (
        File("Features_Variant_5.csv", 199030, 53, "UCI Facebook Comment Volume, variant 5", header=False),
        File(
            "facebook.csv", 40949, 53,
            "variant 1 of UCI Facebook Comment Volume (the first author's loader uses variant 5, 199,030 rows)",
            "3639813ab22c2073a823fab327c1159932de4c14af4e29796e28738ee7db00ca",
        ),
    ),
}  # fmt: skip


def read_uci(name: str) -> Columns:
    """The set `name`. Raises `DataError` if the folder or the file is missing, or if it is not the file expected."""
    folder = os.environ.get("MINIRELU_DATA")
    if not folder:
        raise DataError(
            f"{name} is read from the folder that the variable MINIRELU_DATA names, which is not set; docs/data.md says "
            "where to get the files"
        )
    for file in FILES[name]:
        for path in (os.path.join(folder, file.name), os.path.join(folder, f"{file.name}.gz")):
            if os.path.isfile(path):
                return _read(name, file, path)
    names = " or ".join(f"{file.name}[.gz]" for file in FILES[name])
    missing = "" if os.path.isdir(folder) else ", which does not exist"
    raise DataError(f"{name} was looked for as {names} in MINIRELU_DATA={folder}{missing}; docs/data.md says where to get it")


def _read(name: str, file: File, path: str) -> Columns:
    text = contents(path)
    checked = "no checksum is known"
    if file.sha256 is not None:
        _verify(path, text, file.sha256)
        checked = "checksum verified"
    note = f"{name}: {file.what}; {file.rows:,} rows, {file.inputs} inputs, {checked}"
    found = columns(os.path.basename(path), text, note, header=file.header)
    if found.values.shape != (file.rows, file.inputs + 1):
        rows, width = found.values.shape
        raise DataError(
            f"{path} has {rows:,} rows and {width} columns, expected {file.rows:,} and {file.inputs + 1}; is it the file that "
            "docs/data.md describes?"
        )
    return found._replace(target=found.names[-1])


def _verify(path: str, text: bytes, expected: str) -> None:
    from hashlib import sha256

    found = sha256(text).hexdigest()
    if found != expected:
        raise DataError(
            f"{path} is not the file expected: the SHA-256 of the CSV is {found[:12]}…, not {expected[:12]}…. Get it again "
            "(docs/data.md), or use it as a file of your own with its path and a target: --data PATH --target NAME"
        )
