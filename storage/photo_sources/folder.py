"""Photos in a folder behind a URL; a local one is read by `storage.images.find_images`."""

from collections.abc import Iterator
from hashlib import sha256

from storage.errors import MissingFileError
from storage.photo_files import answered, store_of
from storage.photo_sources.found import (
    Found,
    claims_to_be_photo,
    inside_problem,
    set_aside,
    under_name,
    without_ending,
)
from storage.records import ImageSource

_MARKS = ("size", "ETag", "etag", "LastModified", "mtime", "last_modified", "created")
"""What stores tell of a file's content and age, as far as they do."""


def remote_photos(url: str, namespace: str) -> Iterator[Found]:
    """Photos below a URL, by image id; hidden ones are left out.

    Raises:
        MissingFileError: There is no such folder.
        SourceError: The store does not answer.
    """
    for name in sorted(name for name, _ in _files(url) if claims_to_be_photo(name)):
        place = f"{url.rstrip('/')}/{name}"
        if inside_problem(name):
            yield set_aside(place, "name-outside", f"{place}: its name points elsewhere; rename it")
            continue

        def source_of(image_id: str, place: str = place) -> ImageSource:
            return ImageSource(image_id=image_id, path=place)

        yield under_name(namespace, without_ending(name), place, source_of)


def state_of(url: str) -> str:
    """A digest of what a store says of a file or of all files of a folder: names, sizes, ages.

    Raises:
        MissingFileError: There is neither.
        SourceError: The store does not answer.
    """
    state = sha256()
    for name, marks in _files(url):
        told = [str(marks[each]) for each in _MARKS if marks.get(each) is not None]
        state.update("\0".join((name, *told, "")).encode("utf-8", "surrogatepass") + b"\n")
    return state.hexdigest()


def is_remote_folder(url: str) -> bool:
    """Whether a URL names a folder. Raises SourceError when the store does not answer."""
    store, path = store_of(url)
    return bool(answered(url, lambda: store.isdir(path)))


def matching(url: str) -> list[str]:
    """URLs that a pattern stands for, sorted.

    Raises:
        MissingFileError: There are none.
        SourceError: The store does not answer.
    """
    store, path = store_of(url)
    found = sorted(store.unstrip_protocol(name) for name in answered(url, lambda: store.glob(path)))
    if not found:
        raise MissingFileError(f"{url}: matches nothing")
    return found


def _files(url: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Names below a URL and what the store says of each, folder by folder; a file has name ""."""
    store, path = store_of(url)
    if not is_remote_folder(url):
        try:
            yield "", answered(url, lambda: store.info(path))
        except FileNotFoundError:
            raise MissingFileError(f"{url}: no such file or folder") from None
        return
    root = path.rstrip("/")
    waiting = [root]
    while waiting:
        folder = waiting.pop()

        def ask(folder: str = folder) -> list[dict[str, object]]:
            listed: list[dict[str, object]] = store.ls(folder, detail=True)
            return listed

        for entry in sorted(answered(url, ask), key=lambda entry: str(entry["name"])):
            name = str(entry["name"]).rstrip("/").removeprefix(root).lstrip("/")
            if not name or name.rsplit("/", 1)[-1].startswith("."):
                continue
            if entry["type"] == "directory":
                waiting.append(f"{root}/{name}")
            else:
                yield name, entry
        store.invalidate_cache()  # it would keep every entry of every folder
