"""Data from files and from OpenML: what is read, and the sentence for each kind of defect."""

import gzip
import hashlib
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minirelu import data
from minirelu.data import uci
from minirelu.data.csv_files import columns
from minirelu.errors import DataError

pytest.importorskip("polars", reason="CSV files are read with polars")

ROWS = [[f"{i}", f"{i * i / 7}", f"{-i}e-3"] for i in range(12)]


def text(header=("age", "income", "price"), rows=ROWS, separator=",", end="\n"):
    return "".join(separator.join(cells) + end for cells in (header, *rows))


def changed(row, column, cell):
    """ROWS with another cell in place (row counted from 1, as people count)."""
    rows = [list(r) for r in ROWS]
    rows[row - 1][column] = cell
    return rows


@pytest.fixture
def file(tmp_path):
    """A function that writes bytes or text to my.csv and gives its path."""

    def write(content, name="my.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def sentence(path, target="price"):
    with pytest.raises(DataError) as error:
        data.load(path, target=target)
    return str(error.value)


# ---------------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_and_line_ends(file, separator, end):
    path = file(text(separator=separator, end=end) + end + end)  # blank lines at the end are nothing
    table = data.read(path, target="income")
    assert (table.inputs, table.target, table.note) == (("age", "price"), "income", "my.csv: 12 rows, 2 inputs")
    expected = np.array(ROWS, dtype=float)
    assert_array_equal(table.X, expected[:, [0, 2]])
    assert_array_equal(table.y, expected[:, [1]])


def test_gzip_byte_order_mark_blanks_and_quotes(file):
    plain = data.read(file(text()), target="price")
    header = ('"age"', " income ", '"price"')
    spaced = "\ufeff" + text(header, [[f" {a}", f'"{b}"', f"{c} "] for a, b, c in ROWS])
    for other in (file(gzip.compress(text().encode()), "my.csv.gz"), file(spaced, "other.csv")):
        table = data.read(Path(other), target="price")
        assert table.inputs == ("age", "income")
        assert_array_equal(table.X, plain.X)
        assert_array_equal(table.y, plain.y)


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2), min_size=1, max_size=5))
def test_numbers_come_back_bit_for_bit(rows):
    body = "".join(f"{a!r},{b!r}\n" for a, b in rows)
    assert_array_equal(columns("x", b"a,b\n" + body.encode(), "").values, np.array(rows))


# -------------------------------------------------------------------------------------------------------- defects


def test_target_that_is_not_there(file):
    path = file(text())
    assert sentence(path, "prise") == "my.csv has no column 'prise' (did you mean 'price'?); it has age, income, price"
    assert "did you mean 'price'" in sentence(path, "PRICE")
    assert sentence(path, "zzzz") == "my.csv has no column 'zzzz'; it has age, income, price"
    assert sentence(path, None).startswith("say which column of my.csv is to be predicted (--target NAME); it has age")
    wide = file(text([f"c{i}" for i in range(30)], [[f"{i + k}" for k in range(30)] for i in range(12)]), "wide.csv")
    assert sentence(wide, "zzzz").endswith("it has c0, c1, c2, c3, c4, c5, c6, c7, … (30 in all)")


def test_text_columns(file):
    said = sentence(file(text(rows=changed(3, 1, "Oslo"))))
    assert said.startswith("my.csv: column 'income' holds text, 'Oslo' in row 3 (the header not counted); a net takes numbers")
    assert "a column of 0 and 1" in said
    said = sentence(file(text(rows=changed(12, 0, "1,5"), separator=";")))
    assert said.startswith("my.csv: column 'age' is '1,5' in row 12 (the header not counted); write decimals with a point")


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("", "is empty"),
        ("NA", "is 'NA'"),
        ("?", "is '?'"),
        ("nan", "is nan"),
        ("NaN", "is nan"),
        ("inf", "is inf"),
        ("-inf", "is -inf"),
    ],
)
def test_missing_and_infinite_cells_are_named(file, cell, shown):
    said = sentence(file(text(rows=changed(7, 1, cell))))
    assert said == f"my.csv: column 'income' {shown} in row 7 (the header not counted); fill it in or delete the row"


def test_the_first_of_several_cells_is_named(file):
    rows = changed(5, 2, "inf")
    rows[8][0] = "nan"
    said = sentence(file(text(rows=rows)))
    assert "column 'price' is inf in row 5 (the header not counted), and 1 more cell is not finite;" in said
    rows[1][2], rows[1][1] = "x", "y"
    assert "column 'income' holds text, 'y' in row 2" in sentence(file(text(rows=rows)))


@pytest.mark.parametrize("value", [5.0, 1e9])
def test_constant_target(file, value):
    rows = [[a, b, repr(value)] for a, b, _ in ROWS]
    assert f"the target 'price' is {value:g} in all 12 rows, so there is nothing to learn" in sentence(file(text(rows=rows)))
    rows[0][2] = repr(np.nextafter(value, np.inf).item())  # a difference in the last digit is no target either
    assert "nothing to learn" in sentence(file(text(rows=rows)))


def test_too_few_rows_and_columns(file):
    assert sentence(file(text(rows=ROWS[:9]))) == "my.csv has 9 rows of data; a study needs at least 10"
    assert sentence(file(text(rows=[]))) == "my.csv has 0 rows of data; a study needs at least 10"
    assert data.load(file(text(rows=ROWS[:10])), target="price")[0].shape == (10, 2)
    assert "no column besides the target 'price'" in sentence(file(text(["price"], [[r[0]] for r in ROWS])))


def test_headers(file):
    assert "has no header: its first line holds only numbers" in sentence(file(text(ROWS[0], ROWS[1:])))
    assert "two columns are called 'age'; rename one" in sentence(file(text(("age", "age", "price"))))
    assert "column 2 has no name in the header line" in sentence(file(text(("age", "", "price"))))


def test_files_that_are_no_tables(file, tmp_path):
    assert sentence(file("")) == "my.csv is empty; give a file with a header line and rows of numbers"
    assert sentence(file(text(rows=[*ROWS, ["1", "2", "3", "4"]]))).startswith(
        "my.csv cannot be read: line 14 has 4 cells and the header 3"
    )
    assert "is empty in row 13" in sentence(file(text(rows=[*ROWS, ["1", "2"]])))
    assert "line 1 is not UTF-8 text" in sentence(file("âge,price\n".encode("latin-1")))
    packed = gzip.compress(text().encode())
    assert "its compression is broken" in sentence(file(packed[: len(packed) // 2], "my.csv.gz"))
    assert sentence(str(tmp_path)).endswith("is a folder; give the path of a CSV file")
    assert "does not exist (did you mean 'my.csv'?); give the path" in sentence(str(tmp_path / "mi.csv"))


def test_without_polars_the_sentence_says_what_to_install(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    assert sentence(file(text())) == "reading my.csv needs polars; install it with pip install 'minirelu[lab]'"


# ---------------------------------------------------------------------------------------------------- the paper's sets


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """MINIRELU_DATA with a small "airfoil" of 12 rows and 2 inputs, whose checksum the code expects."""
    content = text(("a", "b", "level")).encode()
    small = uci.File("airfoil.csv", 12, 2, "UCI Airfoil", hashlib.sha256(content).hexdigest())
    bare = uci.File("airfoil_self_noise.dat", 12, 2, "UCI Airfoil", header=False)
    monkeypatch.setitem(uci.FILES, "airfoil", (small, bare))
    monkeypatch.setenv("MINIRELU_DATA", str(tmp_path))
    (tmp_path / "airfoil.csv").write_bytes(content)
    return tmp_path


def test_a_file_of_the_folder_is_verified_and_noted(folder):
    table = data.read("airfoil")
    assert table.note == "airfoil: UCI Airfoil; 12 rows, 2 inputs, checksum verified"
    assert (table.inputs, table.target) == (("a", "b"), "level")
    packed = gzip.compress((folder / "airfoil.csv").read_bytes())
    (folder / "airfoil.csv").unlink()
    (folder / "airfoil.csv.gz").write_bytes(packed)
    assert_array_equal(data.read("airfoil").X, table.X)
    assert data.read("airfoil", target="a").inputs == ("b", "level")


def test_ucis_own_file_without_a_header(folder):
    (folder / "airfoil.csv").unlink()
    (folder / "airfoil_self_noise.dat").write_text(text(ROWS[0], ROWS[1:], separator="\t"))
    table = data.read("airfoil")
    assert table.note.endswith("no checksum is known")
    assert (table.inputs, table.target, table.X.shape) == (("x1", "x2"), "y", (12, 2))
    (folder / "airfoil_self_noise.dat").write_text(text(ROWS[0], ROWS[2:], separator="\t"))
    with pytest.raises(DataError, match=r"has 11 rows and 3 columns, expected 12 and 3; is it the file that docs/data.md"):
        data.read("airfoil")


def test_a_wrong_checksum_is_refused(folder):
    content = (folder / "airfoil.csv").read_bytes()
    (folder / "airfoil.csv").write_bytes(content.replace(b"11,", b"12,"))
    with pytest.raises(DataError, match=r"airfoil.csv is not the file expected: the SHA-256 .* Get it again \(docs/data.md\)"):
        data.read("airfoil")


def test_a_folder_or_file_that_is_missing(folder, monkeypatch):
    with pytest.raises(DataError, match=r"real_estate was looked for as real_estate.csv\[.gz\] in MINIRELU_DATA="):
        data.load("real_estate")
    monkeypatch.setenv("MINIRELU_DATA", str(folder / "nowhere"))
    with pytest.raises(DataError, match=r"nowhere, which does not exist; docs/data.md says where to get it"):
        data.load("airfoil")
    monkeypatch.delenv("MINIRELU_DATA")
    with pytest.raises(DataError, match=r"the variable MINIRELU_DATA names, which is not set; docs/data.md says"):
        data.load("airfoil")


def test_the_page_names_every_file_and_checksum():
    page = (Path(__file__).parent.parent / "docs/data.md").read_text()
    for name, files in uci.FILES.items():
        assert f"`{name}`" in page
        for file in files:
            assert f"`{file.name}`" in page
            assert f"{file.rows:,}" in page or str(file.rows) in page
            assert file.sha256 is None or f"`{file.sha256[:12]}…`" in page


needs_folder = pytest.mark.skipif(not os.environ.get("MINIRELU_DATA"), reason="MINIRELU_DATA is not set")


@needs_folder
@pytest.mark.parametrize(
    ("name", "shape", "low", "high", "mean"),
    [
        ("airfoil", (1503, 5), 103.38, 140.987, 124.835943),
        ("real_estate", (414, 6), 7.6, 117.5, 37.980193),
        ("superconductivity", (6803, 81), 0.000325, 143, 34.225768),
        ("facebook", (40949, 53), 0, 1305, 7.322889),
    ],
)
def test_the_papers_sets(name, shape, low, high, mean):
    """Shapes and ranges as published; the mean to the digits given."""
    X, y = data.load(name, standardise=False)
    assert X.shape == shape
    assert (y.min(), y.max()) == (low, high)
    assert abs(y.mean() - mean) < 5e-7
    assert "checksum verified" in data.read(name).note


# --------------------------------------------------------------------------------------------------------- OpenML


@pytest.fixture
def answer(monkeypatch):
    """A function that lets fetch_openml give this bunch, or raise this error; what it was asked is returned."""
    datasets = pytest.importorskip("sklearn.datasets")
    asked = {}

    def give(result):
        def fetch(**options):
            asked.update(options)
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(datasets, "fetch_openml", fetch)
        return asked

    return give


def bunch(**changes):
    numbers = np.arange(36.0).reshape(12, 3)
    fields = {
        "data": numbers[:, :2],
        "target": numbers[:, 2] ** 2,
        "feature_names": ["a", "b"],
        "target_names": ["price"],
        "categories": {},
        "details": {"id": "7", "version": "2", "name": "houses"},
    }
    return types.SimpleNamespace(**{**fields, **changes})


def test_openml_by_name_and_number(answer):
    asked = answer(bunch())
    table = data.read("openml:houses")
    assert (asked["name"], asked["as_frame"], asked.get("data_id")) == ("houses", False, None)
    assert table.note == "openml:houses: houses version 2 (number 7), 12 rows, 2 inputs"
    assert_array_equal(table.y[:, 0], np.arange(2.0, 36, 3) ** 2)
    assert data.read("openml:7", target="a").inputs == ("b", "price")
    assert asked["data_id"] == 7


def test_openml_defects(answer):
    data_with_nan = np.ones((12, 2))
    data_with_nan[3, 1] = np.nan
    for result, target, said in [
        (bunch(categories={"city": ["Oslo", "Rome"]}), None, "column 'city' holds categories (Oslo, Rome, …), not numbers"),
        (bunch(categories={"price": ["low"]}), None, "the target 'price' holds categories"),
        (bunch(target=np.array(["x"] * 12, dtype=object)), None, "the target 'price' is not a number"),
        (bunch(data=data_with_nan), None, "openml:houses: column 'b' is nan in row 4"),
        (bunch(), "prize", "openml:houses has no column 'prize' (did you mean 'price'?)"),
        (bunch(target_names=[], target=np.zeros((12, 0))), None, "say which column of openml:houses is to be predicted"),
        (ValueError("Dataset houses\n with version active not found."), None, "'houses' cannot be used: Dataset houses with"),
        (TimeoutError("timed out"), None, "openml.org cannot be reached (timed out); check the network"),
    ]:
        answer(result)
        with pytest.raises(DataError) as error:
            data.read("openml:houses", target=target)
        assert said in str(error.value)


def test_openml_without_a_network(monkeypatch, tmp_path):
    pytest.importorskip("sklearn.datasets")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DataError, match=r"openml.org cannot be reached \(.*\); check the network, or save the set as a CSV"):
        data.read("openml:houses")


def test_openml_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"read with scikit-learn; install it with pip install 'minirelu\[lab\]'"):
        data.read("openml:houses")
