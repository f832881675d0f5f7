"""Digests of outside files: true whatever happened, and files that look the same are not read."""

import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flows.digests
from flows.digests import DigestBook, Listing, changed_files, listings_of, read_listing

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20)
PLAIN_NAMES = st.from_regex(r"[a-z][a-zA-Z0-9 \n]{0,8}", fullmatch=True)
TREES = st.dictionaries(
    st.tuples(st.sampled_from(["", "a/", "b/c/"]), PLAIN_NAMES).map("".join),
    st.binary(max_size=40),
    max_size=6,
).filter(lambda tree: not {"a", "b"} & set(tree))  # names of the folders


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are trusted although they were written a moment ago."""
    monkeypatch.setattr(flows.digests, "SETTLED_NANOSECONDS", -(10**15))


def make_photos(folder: Path, num: int, size: int = 10) -> Path:
    folder.mkdir(parents=True)
    for number in range(num):
        (folder / f"{number:03d}.jpg").write_bytes(str(number).encode().ljust(size, b"x"))
    return folder


def keep(book: DigestBook, path: Path) -> str:
    digest = book.digest(path, "key")
    book.save()
    return digest


def bytes_read(action: Callable[[], object]) -> int:
    """What this process reads from files meanwhile."""

    def count() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = count()
    action()
    return count() - before


@given(tree=TREES)
def test_a_folder_is_its_names_and_contents(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("photos")
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    # files of a folder come before the folders in it
    names = sorted(tree, key=lambda name: [(part.count("/"), part) for part in _steps(name)])
    text = "".join(f"{name}\0{sha256(tree[name]).hexdigest()}\n" for name in names)
    expected = sha256(text.encode()).hexdigest()
    assert DigestBook(folder / ".book.json").digest(folder, "key") == expected


def _steps(name: str) -> list[str]:
    parts = name.split("/")
    return [part + "/" for part in parts[:-1]] + [parts[-1]]


@given(digests=st.dictionaries(NAMES, st.binary(min_size=1).map(lambda b: sha256(b).hexdigest())))
def test_a_listing_comes_back_whatever_the_names(
    tmp_path_factory: pytest.TempPathFactory, digests: dict[str, str]
) -> None:
    shelf = tmp_path_factory.mktemp("shelf")
    listing = Listing(digests=digests)
    flows.digests._write_listing(shelf, listing)
    assert read_listing(shelf, listing.digest) == listing
    (shelf / f"{listing.digest}.names").write_bytes(b"damaged")
    assert read_listing(shelf, listing.digest) is None


@pytest.mark.usefixtures("settled")
def test_a_known_folder_is_not_read_again(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 50, size=100_000)
    first = bytes_read(lambda: keep(DigestBook(tmp_path / "book.json"), photos))
    again = bytes_read(lambda: keep(DigestBook(tmp_path / "book.json"), photos))
    assert first > 5_000_000
    assert again < 20_000


@pytest.mark.usefixtures("settled")
def test_of_a_folder_with_a_new_file_only_that_is_read(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 50, size=100_000)
    keep(DigestBook(tmp_path / "book.json"), photos)
    (photos / "new.jpg").write_bytes(bytes(100_000))
    assert bytes_read(lambda: keep(DigestBook(tmp_path / "book.json"), photos)) < 300_000
    assert DigestBook(tmp_path / "book.json").digest(photos, "key") == DigestBook(
        tmp_path / "other.json"
    ).digest(photos, "key")


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("is_folder", [True, False])
def test_a_change_of_equal_size_with_the_time_put_back_is_seen(
    tmp_path: Path, is_folder: bool
) -> None:
    photos = make_photos(tmp_path / "photos", 3)
    file = photos / "001.jpg"
    place = photos if is_folder else file
    first = keep(DigestBook(tmp_path / "book.json"), place)
    times = file.stat().st_mtime_ns
    file.write_bytes(b"other".ljust(10, b"x"))
    os.utime(file, ns=(times, times))
    assert DigestBook(tmp_path / "book.json").digest(place, "key") != first


@pytest.mark.usefixtures("settled")
def test_a_file_put_in_the_place_of_another_is_seen(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 3)
    other = tmp_path / "other.jpg"
    other.write_bytes(b"y" * 10)
    times = (photos / "001.jpg").stat().st_mtime_ns
    os.utime(other, ns=(times, times))
    first = keep(DigestBook(tmp_path / "book.json"), photos)
    other.rename(photos / "001.jpg")
    assert DigestBook(tmp_path / "book.json").digest(photos, "key") != first


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_file_written_this_moment_is_read_again(tmp_path: Path, is_folder: bool) -> None:
    """It may be written again within the same tick of the clock, with all its times equal."""
    photos = make_photos(tmp_path / "photos", 1)
    place = photos if is_folder else photos / "000.jpg"
    book = tmp_path / "book.json"
    first = keep(DigestBook(book), place)
    kept = json.loads(book.read_text()) if book.exists() else {"files": {}, "folders": {}}
    assert kept["files"] == {}
    assert [signature for signature, _ in kept["folders"].values()] == [""] * is_folder
    assert DigestBook(book).digest(place, "key") == first


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("damage", ["book", "names", "looks", "cut", "old"])
def test_a_damaged_book_costs_time_only(tmp_path: Path, damage: str) -> None:
    photos = make_photos(tmp_path / "photos", 3)
    book = tmp_path / "book.json"
    keep(DigestBook(book), photos)
    (photos / "new.jpg").write_bytes(b"1")
    shelf = listings_of(book)
    if damage == "book":
        book.write_text("{")
    elif damage == "old":
        book.write_text(json.dumps({str(photos / "000.jpg"): [10, 1, "0" * 64]}))
    elif damage == "cut":
        looks = next(shelf.glob("*.looks"))
        looks.write_bytes(looks.read_bytes()[:-5])
    else:
        next(shelf.glob(f"*.{damage}")).write_bytes(b"x")
    fresh = DigestBook(tmp_path / "fresh.json").digest(photos, "key")
    assert DigestBook(book).digest(photos, "key") == fresh


def test_what_cannot_be_read_counts_and_is_looked_at_again(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    (photos / "link.jpg").symlink_to(tmp_path / "nowhere")
    (photos / "loop").symlink_to(photos / "loop")
    first = keep(DigestBook(tmp_path / "book.json"), photos)
    (tmp_path / "nowhere").write_bytes(b"here now")
    assert DigestBook(tmp_path / "book.json").digest(photos, "key") != first


def test_a_book_that_cannot_be_kept_is_no_error(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    listings_of(tmp_path / "book.json").write_text("a file where the lists should go")
    keep(DigestBook(tmp_path / "book.json"), photos)
    assert not (tmp_path / "book.json").exists()


def test_files_came_went_or_changed() -> None:
    assert changed_files({"a": "1", "b": "1", "c": "1"}, {"b": "1", "c": "2", "d": "1"}) == {
        "added": ["d"],
        "removed": ["a"],
        "changed": ["c"],
    }
    assert changed_files(None, {}) is None
