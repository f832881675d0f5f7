"""Find photos in a folder and decode them within bounds.

Rules: the content decides what a file is, not its extension. Pixels come as stored (EXIF
orientation is not applied: published boxes refer to the stored pixels). Of an animation the first
frame. Transparent pixels are composited on white. 16-bit grey is scaled to 8 bits, not clipped.
Sizes are read from the header and checked before any pixel is decoded. A file that is cut is
never completed with grey.
"""

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from storage.errors import MissingFileError, StorageError, UnreadableImageError
from storage.photo_files import read_source
from storage.records import DecodedImage, ImageSource, Quarantined

MAX_PIXELS = 50_000_000
"""Width x height above which a photo is refused; 150 MB decoded."""
MAX_BYTES = 500_000_000
"""File size above which a photo is not even read."""
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
)
"""File names that claim to be photos; other files in a folder are none of our business."""
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
MAGIC = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"P5", b"P6")
_DEEP_GREY = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What makes a terminal or a page show something else than is there."""
_WHITE = (255, 255, 255, 255)
_BEFORE_ENDING = "\0"
"""No file name holds it, and it sorts before everything that one holds."""


def list_images(folder: Path, namespace: str) -> tuple[list[ImageSource], list[Quarantined]]:
    """All photos in a folder and below it, sorted by image id, and what cannot be used.

    Args, reasons and errors as `find_images`. Both empty for an empty folder.
    """
    sources: list[ImageSource] = []
    quarantined: list[Quarantined] = []
    for found in find_images(folder, namespace):
        if isinstance(found, ImageSource):
            sources.append(found)
        else:
            quarantined.append(found)
    return sources, quarantined


def find_images(folder: Path, namespace: str) -> Iterator[ImageSource | Quarantined]:
    """Photos in a folder and below it, by image id, one after the other.

    An image id is `namespace/relative path without extension`; hidden files are left out. Nothing
    is opened here: whether a file is a photo shows in `decode`.

    Args:
        folder: where to look.
        namespace: data set the photos belong to; "" for none.

    Yields:
        The photos, and what cannot be named or reached (`duplicate-id`, `name-not-utf8`,
        `name-unprintable`, `not-a-file`, `unreadable-folder`).

    Raises:
        MissingFileError: There is no such folder.
        StorageError: It is no folder, or cannot be listed.
    """
    if not folder.exists():
        raise MissingFileError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise StorageError(f"{folder}: a file, not a folder; name the folder of the photos")
    names: list[str] = []
    for found in _walk(folder):
        if isinstance(found, Quarantined):
            yield found
        else:
            names.append(found)
    names.sort()
    before = ""
    for name in names:
        stem, _, ending = name.partition(_BEFORE_ENDING)
        path = f"{folder}/{stem}{ending}"
        image_id = image_id_of(namespace, stem)
        if reason := name_problem(image_id):
            yield Quarantined(image_id=image_id, reason=reason, detail=_unnamed(path, reason))
        elif before.partition(_BEFORE_ENDING)[0] == stem:
            first = os.path.basename(before.replace(_BEFORE_ENDING, ""))
            detail = f"{path}: same id {image_id!r} as {first}; rename one of them"
            yield Quarantined(image_id=image_id, reason="duplicate-id", detail=detail)
        else:
            yield ImageSource(image_id=image_id, path=folder / f"{stem}{ending}")
            before = name


def image_id_of(namespace: str, name: str) -> str:
    """What annotations call a photo of that name."""
    return f"{namespace}/{name}" if namespace else name


def name_problem(image_id: str) -> str:
    """Why a text cannot be an image id, in a word; "" if it can."""
    try:
        image_id.encode("utf-8")
    except UnicodeEncodeError:
        return "name-not-utf8"
    return "name-unprintable" if _UNPRINTABLE.search(image_id) else ""


def decode(
    source: ImageSource,
    *,
    max_pixels: int = MAX_PIXELS,
    min_side: int = 1,
    max_bytes: int = MAX_BYTES,
    content: bytes | None = None,
) -> DecodedImage:
    """Read one photo as RGB.

    Args:
        source: which file, under which id.
        max_pixels: refuse photos of more pixels; Pillow's own bound of 178,956,970 stays above it.
        min_side: refuse photos whose shorter side is below this [pixels].
        max_bytes: refuse files above this [bytes].
        content: its bytes, where `read_photo` gave them already.

    Raises:
        UnreadableImageError: With one of the reasons `unreadable`, `empty-file`, `too-many-bytes`,
            `not-an-image`, `damaged-header`, `too-many-pixels`, `too-small`, `truncated`,
            `damaged`, `unsupported-depth`, `size-mismatch`, `not-base64`.
        SourceError: The store of a remote one does not answer.
    """
    if content is None:
        content = read_source(source, max_bytes)
    with _quiet():
        image = _open(source.place, content)
        _check_size(source.place, image.size, max_pixels, min_side)
        _check_told(source, image.size)
        pixels = _pixels(source.place, image)
    return DecodedImage(
        image_id=source.image_id, pixels=pixels, content_hash=sha256(content).hexdigest()
    )


def read_photo(source: ImageSource) -> bytes:
    """The bytes of one photo, not looked at. Raises as `photo_files.read_source`."""
    return read_source(source, MAX_BYTES)


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of a photo's stored pixels, from its header.

    Raises:
        UnreadableImageError: As `decode`, for what the header tells.
    """
    content = read_source(ImageSource(image_id="", path=path), MAX_BYTES)
    with _quiet():
        image = _open(str(path), content)
        _check_size(str(path), image.size, MAX_PIXELS, 1)
    return image.size[1], image.size[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's warnings (large sizes, odd EXIF) to itself; we judge by our own rules.

    Only warnings of Pillow are touched, so that a race with another thread does no harm.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _walk(folder: Path) -> Iterator[str | Quarantined]:
    """Files that claim to be photos: their names below the folder, marked before the ending.

    Sorted as texts, these names are in the order of the image ids; and nothing else of a photo
    need be kept.
    """
    waiting = [(os.fspath(folder), "")]
    while waiting:
        place, prefix = waiting.pop()
        try:
            with os.scandir(place) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield _not_listed(place, folder, error)
            continue
        for entry in found:
            if entry.name.startswith("."):
                continue
            if _is(entry.is_dir):
                if not entry.is_symlink():  # a link may lead back
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))
                continue
            stem, ending = os.path.splitext(entry.name)
            if ending.lower() not in SUFFIXES:
                continue
            if not _is(entry.is_file) and os.path.exists(entry.path):
                detail = f"{entry.path}: not a regular file"
                yield Quarantined(image_id=prefix + stem, reason="not-a-file", detail=detail)
            else:
                yield f"{prefix}{stem}{_BEFORE_ENDING}{ending}"


def _not_listed(place: str, folder: Path, error: OSError) -> Quarantined:
    """A folder that cannot be listed: the one that was named is an error.

    Raises:
        StorageError: It is that one.
    """
    if place == os.fspath(folder):
        raise StorageError(
            f"{folder}: {error.strerror}; make the folder readable or choose another"
        ) from error
    return Quarantined(
        image_id=place, reason="unreadable-folder", detail=f"{place}: {error.strerror}"
    )


def _unnamed(path: str, reason: str) -> str:
    if reason == "name-not-utf8":
        return f"{path}: the file name is not UTF-8; rename it"
    return f"{path!r}: control characters in the name; rename it"


def _is(what: Callable[[], bool]) -> bool:
    """`is_dir` or `is_file` of an entry; a link that leads round in a circle is neither."""
    try:
        return what()
    except OSError:
        return False


def _open(path: str, content: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(content), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(
            "too-many-pixels", f"{path}: its header declares a decompression bomb; {error}"
        ) from error
    except UnidentifiedImageError:
        if content.startswith(MAGIC):
            raise UnreadableImageError(
                "damaged-header", f"{path}: begins like a photo, but its header is damaged or cut"
            ) from None
        raise UnreadableImageError(
            "not-an-image", f"{path}: not a photo in a known format"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # a decoder fed with hostile bytes raises whatever it likes
        raise UnreadableImageError("damaged-header", f"{path}: {_one_line(error)}") from error


def _check_size(path: str, size: tuple[int, int], max_pixels: int, min_side: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise UnreadableImageError(
            "too-many-pixels",
            f"{path}: {width}x{height} has more than {max_pixels} pixels; shrink it",
        )
    if min(width, height) < max(1, min_side):
        raise UnreadableImageError(
            "too-small", f"{path}: {width}x{height}, a side is below {max(1, min_side)} pixels"
        )


def _check_told(source: ImageSource, size: tuple[int, int]) -> None:
    """Boxes that people drew refer to the size that their collection tells."""
    told = source.size
    if told is not None and told != (size[1], size[0]):
        raise UnreadableImageError(
            "size-mismatch",
            f"{source.place}: {size[0]} x {size[1]} pixels, its collection says "
            f"{told[1]} x {told[0]}; another copy of the photo?",
        )


def _pixels(path: str, image: Image.Image) -> NDArray[np.uint8]:
    try:
        image.load()
        return _to_rgb(path, image)
    except (UnreadableImageError, MemoryError):
        raise
    except Exception as error:  # see _open
        reason = "truncated" if "truncated" in str(error) else "damaged"
        raise UnreadableImageError(reason, f"{path}: {_one_line(error)}") from error


def _to_rgb(path: str, image: Image.Image) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3) of any mode Pillow reads."""
    if image.mode in _DEEP_GREY:
        deep = np.asarray(image).astype(np.uint32)
        grey = ((deep + 128) // 257).astype(np.uint8)  # 65535 -> 255, rounded
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in {"I", "F"}:
        raise UnreadableImageError(
            "unsupported-depth",
            f"{path}: 32-bit samples have no fixed white; convert it to 8 or 16 bits",
        )
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        clear = image.convert("RGBA")
        ground = Image.new("RGBA", clear.size, _WHITE)
        image = Image.alpha_composite(ground, clear)
    return np.array(image.convert("RGB"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
