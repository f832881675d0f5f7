"""Is what a step takes, or a version keeps, still what was made?

A step asks before its work begins, a version before it appears.

A changed bit in a model is loaded without a word and gives other numbers. Shards of records are
left to their readers, which compare checksums themselves.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from flows.errors import SpoiledModelError
from flows.identity import IDENTITY
from storage.artifacts import DONE_NAME, Done, read_done, sha256_of
from storage.errors import DamagedFileError

CHECKED_BY_READERS = ".parquet"


def check_inputs(inputs: Mapping[str, Path | Mapping[str, Path]]) -> None:
    """Compare the files among the inputs with the done-marks of the steps that made them.

    What lies outside a run has no mark and is taken as it is.

    Raises:
        DamagedFileError: A file has other bytes than when its step finished.
    """
    for place in _places(inputs):
        folder = _marked(place)
        done = read_done(folder) if folder is not None else None
        if folder is None or done is None:
            continue
        for name, entry in done.files.items():
            path = folder / name
            if not path.is_relative_to(place) or path.suffix == CHECKED_BY_READERS:
                continue
            if sha256_of(path) != entry.sha256:
                raise DamagedFileError(_changed(path, folder))


def check_kept(kept: Done, folders: Mapping[str, Path]) -> None:
    """Compare a registered version with the done-marks of those who made its models.

    Args:
        kept: the version's own mark.
        folders: step -> folder that its model was taken from.

    Raises:
        SpoiledModelError: A file is not what it was.
    """
    for step, source in folders.items():
        place = _marked(source)
        if place is None:
            continue
        made = read_done(place)
        if made is None:
            raise SpoiledModelError(
                f"{place}: no longer what {DONE_NAME} says; {_mended_by(place)}"
            )
        for name, entry in made.files.items():
            path = place / name
            if path.name == DONE_NAME or not path.is_relative_to(source):
                continue
            if kept.files.get(f"{step}/{path.relative_to(source).as_posix()}") != entry:
                raise SpoiledModelError(_changed(path, place))


def _marked(place: Path) -> Path | None:
    """The folder with a done-mark in which something lies; None outside of any."""
    return next((each for each in (place, *place.parents) if (each / DONE_NAME).is_file()), None)


def _changed(path: Path, folder: Path) -> str:
    """That a file is not what it was when its folder was marked, and how to mend that."""
    return f"{path}: bytes changed since they were written (SHA-256); {_mended_by(folder)}"


def _mended_by(folder: Path) -> str:
    """What to do about a marked folder: a step is done again, a registered version never is."""
    if not (folder / IDENTITY).is_file():
        run = folder.parent.parent
        return f"registered version, choose another: oscar-flow models rollback {run}"
    step = folder.name.rpartition("-")[0]
    return f"make it again: oscar-flow resume {folder.parent} --from {step}"


def _places(inputs: Mapping[str, Path | Mapping[str, Path]]) -> Iterator[Path]:
    for place in inputs.values():
        if isinstance(place, Path):
            yield place
        else:
            yield from place.values()
