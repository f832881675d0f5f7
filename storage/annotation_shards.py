"""What people said about the images of a run: four kinds of records in one folder of Arrow files.

The files are used where they lie (`storage.mapped`): opening millions of records makes none of
them, and all processes of a machine share the bytes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from storage.manifest import MANIFEST_NAME, Manifest, read_manifest
from storage.mapped import ROWS_PER_BATCH, MappedTable, MappedWriter
from storage.places import Place
from storage.record_columns import KIND_OF, batch_of, builder_of
from storage.records import (
    Annotations,
    CaptionAnnotation,
    ImageObjects,
    ImagePairAnnotation,
    QuestionAnnotation,
)
from storage.selections import Selection
from storage.shards import finish

KIND = "annotations"
_KINDS = ("captions", "questions", "pairs", "objects")

Said = CaptionAnnotation | QuestionAnnotation | ImagePairAnnotation | ImageObjects
T = TypeVar("T")


class AnnotationWriter:
    """Writes records of all kinds as they come, the manifest when the block ends well.

    What the folder held before is replaced.
    """

    def __init__(self, place: str | Path) -> None:
        """Name the folder; it counts as incomplete from now on.

        Raises:
            OSError: No permission, ...
        """
        self._place = Place(place)
        self._place.remove(MANIFEST_NAME)
        self._writers = {kind: MappedWriter(self._place, kind) for kind in _KINDS}
        self._waiting: dict[str, list[Said]] = {kind: [] for kind in _KINDS}
        self.manifest: Manifest | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Write what waits and the manifest, unless the block failed."""
        try:
            if error is None:
                self.manifest = self._finish()
        except BaseException as own:
            error = own
            raise
        finally:
            if error is not None:
                for writer in self._writers.values():
                    writer.abandon(error)

    def add(self, record: Said) -> None:
        """Write a record.

        Raises:
            OSError: Disk full, no permission, ...; names the file.
        """
        kind = KIND_OF[type(record)]
        self._waiting[kind].append(record)
        if len(self._waiting[kind]) == ROWS_PER_BATCH:
            self._flush(kind)

    def _flush(self, kind: str) -> None:
        if self._waiting[kind]:
            self._writers[kind].add(batch_of(kind, self._waiting[kind]))
            self._waiting[kind] = []

    def _finish(self) -> Manifest:
        for kind in _KINDS:
            self._flush(kind)
        entries = [entry for kind in _KINDS for entry in self._writers[kind].finish()]
        return finish(self._place, KIND, {}, entries)


def write_annotations(place: str | Path, annotations: Annotations) -> Manifest:
    """Write captions, questions, pairs and objects, the manifest last.

    What was quarantined is not written (`storage.quarantine`); what the folder held before is
    replaced.

    Raises:
        OSError: Disk full, no permission, ...
    """
    with AnnotationWriter(place) as writer:
        for kind in _KINDS:
            for record in getattr(annotations, kind):
                writer.add(record)
    assert writer.manifest is not None
    return writer.manifest


def read_annotations(place: str | Path, *, read_all: bool = True) -> Annotations:
    """Everything `write_annotations` wrote, in its order; a record is made when it is asked for.

    Args:
        place: a folder, or a URL of fsspec.
        read_all: compare checksums and look through all values; False compares sizes alone.

    Raises:
        MissingFileError: The folder is incomplete.
        DamagedFileError: A shard is missing, cut or changed; it is named.
    """
    manifest = read_manifest(Place(place), KIND)

    def chosen(kind: str, build: Callable[[dict[str, Any]], T]) -> Selection[T]:
        entries = manifest.of_kind(kind)
        return Selection(MappedTable(place, entries, kind, read_all=read_all), build)

    return Annotations(
        captions=chosen("captions", builder_of("captions")),
        questions=chosen("questions", builder_of("questions")),
        pairs=chosen("pairs", builder_of("pairs")),
        objects=chosen("objects", builder_of("objects")),
    )
