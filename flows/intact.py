"""Is what a step takes still what the step before it made? Asked before the work begins.

A changed bit in a model is loaded without a word and gives other numbers. Shards of records are
left to their readers, which compare checksums themselves.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from flows.identity import IDENTITY
from storage.artifacts import DONE_NAME, read_done, sha256_of
from storage.errors import DamagedFileError

CHECKED_BY_READERS = ".parquet"


def check_inputs(inputs: Mapping[str, Path | Mapping[str, Path]]) -> None:
    """Compare the files among the inputs with the done-marks of the steps that made them.

    What lies outside a run has no mark and is taken as it is.

    Raises:
        DamagedFileError: A file has other bytes than when its step finished.
    """
    for place in _places(inputs):
        folder = marked_folder(place)
        done = read_done(folder) if folder is not None else None
        if folder is None or done is None:
            continue
        for name, entry in done.files.items():
            path = folder / name
            if not path.is_relative_to(place) or path.suffix == CHECKED_BY_READERS:
                continue
            if sha256_of(path) != entry.sha256:
                raise DamagedFileError(changed(path, folder))


def marked_folder(place: Path) -> Path | None:
    """The folder with a done-mark in which something lies; None outside of any."""
    return next((each for each in (place, *place.parents) if (each / DONE_NAME).is_file()), None)


def changed(path: Path, folder: Path) -> str:
    """That a file is not what it was when its folder was marked, and how to mend that.

    Args:
        path: the file.
        folder: that of a step, or of a registered version, which is never made again.
    """
    if not (folder / IDENTITY).is_file():
        return (
            f"{path}: bytes changed since it was kept (SHA-256); registered version, choose "
            f"another: oscar-flow models rollback {folder.parent.parent}"
        )
    step = folder.name.rpartition("-")[0]
    return (
        f"{path}: bytes changed since {step} wrote it (SHA-256); make it again: "
        f"oscar-flow resume {folder.parent} --from {step}"
    )


def _places(inputs: Mapping[str, Path | Mapping[str, Path]]) -> Iterator[Path]:
    for place in inputs.values():
        if isinstance(place, Path):
            yield place
        else:
            yield from place.values()
