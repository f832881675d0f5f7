"""The mark of a finished training: whose result it is, and what its bytes are.

Written between the result and the removal of the checkpoints: whoever is killed after it does not
train again, unless the result is no longer what was trained.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from storage.artifacts import atomic_write_json, hash_or_none, sha256_of

TRAINED = "trained.json"
"""Name of the mark; it lies beside the folder of the result."""
_LOG = logging.getLogger(__name__)


def write_trained(
    path: Path, identity: str, summary: Mapping[str, object], files: Iterable[Path]
) -> None:
    """Mark a training as finished.

    Args:
        path: Of the mark.
        identity: Of everything the training follows from.
        summary: What it tells of itself, plain JSON values.
        files: The result; they lie below the folder of the mark.

    Raises:
        OSError: The mark cannot be written or a file cannot be read.
    """
    digests = {_name(each, path): sha256_of(each) for each in files}
    atomic_write_json(path, {"identity": identity, "summary": dict(summary), "files": digests})


def read_trained(path: Path, identity: str, files: Iterable[Path]) -> Mapping[str, Any] | None:
    """Summary of a finished training whose files still have the bytes it gave them, else None.

    Args:
        path: Of the mark.
        identity: As `write_trained`; another training's mark does not count.
        files: As `write_trained`; a result that is no longer whole is told in the log.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["identity"] == identity:
            summary, digests = dict(known["summary"]), known["files"]
            changed = [each for each in files if hash_or_none(each) != digests[_name(each, path)]]
            if not changed:
                return summary
            _LOG.warning("%s: no longer what was trained; it is trained again", changed[0])
    return None


def _name(file: Path, mark: Path) -> str:
    return file.relative_to(mark.parent).as_posix()
