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
_MAGIC = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"P5", b"P6")
_DEEP_GREY = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What makes a terminal or a page show something else than is there."""
_WHITE = (255, 255, 255, 255)


def list_images(folder: Path, namespace: str) -> tuple[list[ImageSource], list[Quarantined]]:
    """All photos in a folder and below it, sorted by image id.

    An image id is `namespace/relative path without extension`; hidden files are left out. Nothing
    is opened here: whether a file is a photo shows in `decode`.

    Args:
        folder: where to look.
        namespace: data set the photos belong to; "" for none.

    Returns:
        The photos, and what cannot be named or reached (`duplicate-id`, `name-not-utf8`,
        `name-unprintable`, `not-a-file`, `unreadable-folder`). Both empty for an empty folder.

    Raises:
        MissingFileError: There is no such folder.
        StorageError: It is no folder, or cannot be listed.
    """
    if not folder.exists():
        raise MissingFileError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise StorageError(f"{folder}: a file, not a folder; name the folder of the photos")
    sources: dict[str, ImageSource] = {}
    quarantined: list[Quarantined] = []
    for name, entry in _walk(folder, quarantined):
        stem = os.path.splitext(name)[0]
        image_id = f"{namespace}/{stem}" if namespace else stem
        reason, detail = _listing_problem(entry, image_id, sources)
        if reason:
            quarantined.append(Quarantined(image_id=image_id, reason=reason, detail=detail))
        else:
            sources[image_id] = ImageSource(image_id=image_id, path=Path(entry.path))
    return [sources[image_id] for image_id in sorted(sources)], quarantined


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
            `damaged`, `unsupported-depth`.
    """
    if content is None:
        content = _read(source.path, max_bytes)
    with _quiet():
        image = _open(source.path, content)
        _check_size(source.path, image.size, max_pixels, min_side)
        pixels = _pixels(source.path, image)
    return DecodedImage(
        image_id=source.image_id, pixels=pixels, content_hash=sha256(content).hexdigest()
    )


def read_photo(source: ImageSource) -> bytes:
    """The bytes of one photo's file, not looked at.

    Raises:
        UnreadableImageError: With one of the reasons `unreadable`, `empty-file`, `too-many-bytes`.
    """
    return _read(source.path, MAX_BYTES)


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of a photo's stored pixels, from its header.

    Raises:
        UnreadableImageError: As `decode`, for what the header tells.
    """
    content = _read(path, MAX_BYTES)
    with _quiet():
        image = _open(path, content)
        _check_size(path, image.size, MAX_PIXELS, 1)
    return image.size[1], image.size[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's warnings (large sizes, odd EXIF) to itself; we judge by our own rules.

    Only warnings of Pillow are touched, so that a race with another thread does no harm.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _walk(folder: Path, quarantined: list[Quarantined]) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Files that claim to be photos, each with its name below the folder, parents first."""
    waiting = [(os.fspath(folder), "")]
    while waiting:
        place, prefix = waiting.pop()
        try:
            with os.scandir(place) as entries:
                found = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            _not_listed(place, folder, error, quarantined)
            continue
        files: list[os.DirEntry[str]] = []
        for entry in found:
            if entry.name.startswith("."):
                continue
            if not _is(entry.is_dir):
                files.append(entry)
            elif not entry.is_symlink():  # a link may lead back
                waiting.append((entry.path, f"{prefix}{entry.name}/"))  # the last is looked at next
        for entry in reversed(files):
            if os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                yield prefix + entry.name, entry


def _not_listed(place: str, folder: Path, error: OSError, quarantined: list[Quarantined]) -> None:
    """A folder that cannot be listed: the one that was named is an error.

    Raises:
        StorageError: It is that one.
    """
    if place == os.fspath(folder):
        raise StorageError(
            f"{folder}: {error.strerror}; make the folder readable or choose another"
        ) from error
    quarantined.append(
        Quarantined(image_id=place, reason="unreadable-folder", detail=f"{place}: {error.strerror}")
    )


def _is(what: Callable[[], bool]) -> bool:
    """`is_dir` or `is_file` of an entry; a link that leads round in a circle is neither."""
    try:
        return what()
    except OSError:
        return False


def _listing_problem(
    entry: "os.DirEntry[str]", image_id: str, sources: dict[str, ImageSource]
) -> tuple[str, str]:
    path = entry.path
    try:
        image_id.encode("utf-8")
    except UnicodeEncodeError:
        return "name-not-utf8", f"{path}: the file name is not UTF-8; rename it"
    if _UNPRINTABLE.search(image_id):
        return "name-unprintable", f"{path!r}: control characters in the name; rename it"
    if image_id in sources:
        first = sources[image_id].path.name
        return "duplicate-id", f"{path}: same id {image_id!r} as {first}; rename one of them"
    if not _is(entry.is_file) and os.path.exists(path):
        return "not-a-file", f"{path}: not a regular file"
    return "", ""


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise UnreadableImageError("unreadable", f"{path}: not a regular file")
        with open(path, "rb") as stream:
            # Python sets aside as many bytes as are asked for
            size = os.fstat(stream.fileno()).st_size
            content = stream.read(min(size, max_bytes) + 1)
    except OSError as error:
        raise UnreadableImageError("unreadable", f"{path}: {error.strerror}") from error
    if not content:
        raise UnreadableImageError("empty-file", f"{path}: the file has no bytes")
    if len(content) > max_bytes:
        raise UnreadableImageError(
            "too-many-bytes", f"{path}: more than {max_bytes} bytes; raise the limit or shrink it"
        )
    return content


def _open(path: Path, content: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(content), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(
            "too-many-pixels", f"{path}: its header declares a decompression bomb; {error}"
        ) from error
    except UnidentifiedImageError:
        if content.startswith(_MAGIC):
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


def _check_size(path: Path, size: tuple[int, int], max_pixels: int, min_side: int) -> None:
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


def _pixels(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    try:
        image.load()
        return _to_rgb(path, image)
    except (UnreadableImageError, MemoryError):
        raise
    except Exception as error:  # see _open
        reason = "truncated" if "truncated" in str(error) else "damaged"
        raise UnreadableImageError(reason, f"{path}: {_one_line(error)}") from error


def _to_rgb(path: Path, image: Image.Image) -> NDArray[np.uint8]:
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
