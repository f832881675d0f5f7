"""The list of what was dropped and why, one JSON object a line."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from storage.artifacts import atomic_path
from storage.errors import DamagedFileError, MissingFileError
from storage.records import Quarantined

QUARANTINE_NAME = "quarantine.jsonl"


class QuarantineWriter:
    """Takes entries one after the other."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.num_entries = 0

    def add(self, entry: Quarantined) -> None:
        """Write an entry.

        Raises:
            OSError: It cannot be written.
        """
        line = json.dumps(asdict(entry), ensure_ascii=False) + "\n"
        # a lone surrogate (a file name that is not UTF-8) becomes its JSON escape
        self._stream.write(line.encode("utf-8", "backslashreplace"))
        self.num_entries += 1


@contextmanager
def quarantine_writer(path: Path) -> Iterator[QuarantineWriter]:
    """A writer whose file appears when the block ends well; no entry gives an empty file.

    Raises:
        OSError: The file cannot be written.
    """
    with atomic_path(path) as partial, open(partial, "wb") as stream:
        yield QuarantineWriter(stream)


def write_quarantine(path: Path, quarantined: Iterable[Quarantined]) -> int:
    """Write all entries in their order; an empty list gives an empty file.

    Returns:
        Number of entries.

    Raises:
        OSError: The file cannot be written.
    """
    with quarantine_writer(path) as writer:
        for entry in quarantined:
            writer.add(entry)
        return writer.num_entries


def read_quarantine(path: Path) -> list[Quarantined]:
    """All entries in the order of the file.

    Raises:
        MissingFileError: There is no such file.
        DamagedFileError: A line is not an entry.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path}: byte {error.start} is not UTF-8") from error
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line:
            continue
        try:
            fields = json.loads(line)
            entries.append(
                Quarantined(
                    image_id=str(fields["image_id"]),
                    reason=str(fields["reason"]),
                    detail=str(fields["detail"]),
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFileError(
                f"{path}: line {number} is not a quarantine entry; run the step again"
            ) from error
    return entries


def count_reasons(quarantined: Iterable[Quarantined]) -> dict[str, int]:
    """How often each reason occurs, most frequent first, equal counts by name."""
    counts = Counter(entry.reason for entry in quarantined)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
