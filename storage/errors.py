"""What can go wrong with things on disk; each error is one line: what, where, how to mend."""


class StorageError(Exception):
    """Base of all errors of this room."""


class DamagedFileError(StorageError):
    """A file is there but cannot be what it claims to be (cut, wrong checksum, wrong schema)."""


class MissingFileError(StorageError):
    """A file or folder that a reader was pointed at does not exist."""


class SourceError(StorageError):
    """A file that lies elsewhere cannot be had: no answer, no such file, or other bytes."""


class AnnotationError(StorageError):
    """An annotation file as a whole cannot be read (not JSON, wrong encoding, wrong layout)."""


class UnreadableImageError(StorageError):
    """One photo cannot be decoded within the limits; callers quarantine it.

    Attributes:
        reason: short stable slug for counting, e.g. `empty-file`, `not-an-image`, `truncated`,
            `too-many-pixels`, `too-small`, `unreadable`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class RecordError(StorageError):
    """A record breaks its own invariants (lengths that disagree, a box with NaN)."""
