from pathlib import Path

import pytest

from storage.errors import DamagedFileError, MissingFileError, RecordError
from storage.published.tsv import TsvReader, write_tsv
from tests.locations import oracle_dir

ROWS = [("a", "1", "狗"), ("b", "", "x"), ("c",)]


def test_rows_by_number_and_key(tmp_path: Path) -> None:
    write_tsv(tmp_path / "x.tsv", ROWS)
    table = TsvReader(tmp_path / "x.tsv")
    assert (table[0], table[-1], table[1:]) == (ROWS[0], ROWS[2], ROWS[1:])
    assert table.rows_by_key() == {"a": 0, "b": 1, "c": 2}
    with pytest.raises(IndexError):
        table[3]
    assert (tmp_path / "x.lineidx").read_text() == "0\n8\n13\n"


def test_a_table_without_an_index_or_a_last_line_end(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(b"a\t1\r\n b \t2")
    assert list(TsvReader(tmp_path / "x.tsv")) == [("a", "1"), ("b", "2")]
    (tmp_path / "empty.tsv").touch()
    assert len(TsvReader(tmp_path / "empty.tsv")) == 0


def test_the_recorded_table_of_the_original_program() -> None:
    path = oracle_dir("detector", "net_a.tsv", "predictions.tsv")
    if not path.exists():
        pytest.skip("the oracle has no table")
    table = TsvReader(path)
    assert len(table) == len(path.read_text().splitlines())
    assert all(row[1].startswith('{"objects"') for row in table)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("0\n8\n12\n", "row 2 does not begin at byte 12"),
        ("8\n13\n", "does not begin with the table's first row"),
        ("0\n8\n", "more rows than the index"),
        ("0\n8\n13\n99\n", "row 3 does not begin at byte 99"),
        ("0\nx\n", "not an index"),
        ("", "does not begin"),
    ],
)
def test_an_index_that_does_not_fit_is_named(tmp_path: Path, index: str, message: str) -> None:
    write_tsv(tmp_path / "x.tsv", ROWS)
    (tmp_path / "x.lineidx").write_text(index)
    with pytest.raises(DamagedFileError, match=message) as caught:
        TsvReader(tmp_path / "x.tsv")
    assert "x.lineidx" in str(caught.value)


def test_a_key_twice_a_bad_byte_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(b"a\t1\na\t\xff\n")
    table = TsvReader(tmp_path / "x.tsv")
    with pytest.raises(DamagedFileError, match="rows 0 and 1 are of 'a'"):
        table.rows_by_key()
    with pytest.raises(DamagedFileError, match="row 1: byte 2 of it is not UTF-8"):
        table[1]
    with pytest.raises(MissingFileError):
        TsvReader(tmp_path / "none.tsv")


def test_a_field_with_a_tab_is_refused_and_nothing_appears(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    for field in ("a\tb", "a\nb", "a\r"):
        with pytest.raises(RecordError):
            write_tsv(path, [["a"], [field]])
    assert list(tmp_path.iterdir()) == []


def test_a_row_without_end_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.published.tsv._MOST_BYTES", 8)
    write_tsv(tmp_path / "x.tsv", [("a", "12"), ("b", "123456789")])
    table = TsvReader(tmp_path / "x.tsv")
    assert table[0] == ("a", "12")
    with pytest.raises(DamagedFileError, match=r"x\.tsv: row 1 has 12 bytes; cut\?"):
        table[1]
