"""Stage: annotation files of any known layout -> one set of shards about the photos of this run.

A record whose photo is not in the run is set aside and counted; so is what a reader could not
use. Records of sources without an official division (`split: auto`) are divided by a hash of the
photo's id, so that everything ever said of a photo lies in the same split. Where sources name
splits themselves and disagree over a photo, that is counted and logged, not refused: published
divisions do so (COCO's captions by Karpathy against its boxes of 2017).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.balance import check_balance
from flows.corpus_table import CorpusCounts, CorpusTable
from flows.gathering import AutoSplit, Gathering, Said
from flows.photos import read_photo_ids
from flows.progress import SILENT, Progress
from flows.readers import ReaderCall, call_reader
from storage.records import Quarantined

VERSION = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Readers to call, in order; their files are inputs `number.name`."""

    calls: tuple[ReaderCall, ...] = ()
    auto_split: AutoSplit = field(default_factory=AutoSplit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    images: Path
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """corpus: how many photos and texts of which source, and what did not join."""

    annotations: Path
    corpus: Path = Path("corpus.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run of the stage did.

    num_in:          records that were read, and entries about what no record could be made of or
                     was cut; in = out + quarantined
    num_split_conflicts: photos that different sources put into different splits
    """

    num_in: int
    num_out: int
    num_quarantined: int
    num_split_conflicts: int
    num_captions: int
    num_questions: int
    num_pairs: int
    num_objects: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Read every source, keep what belongs to a photo of this run, say what was dropped."""
    from storage.annotation_shards import AnnotationWriter
    from storage.artifacts import atomic_write_json
    from storage.quarantine import QUARANTINE_NAME, quarantine_writer

    place = outputs.annotations.parent / QUARANTINE_NAME
    with AnnotationWriter(outputs.annotations) as writer, quarantine_writer(place) as aside:
        counts = CorpusCounts()

        def keep(record: Said) -> None:
            writer.add(record)
            counts.take(record)

        def drop(entry: Quarantined, reader: str) -> None:
            aside.add(entry)
            counts.drop(entry, reader)

        image_ids = read_photo_ids(inputs.images)
        gathering = Gathering(image_ids, config.auto_split, keep=keep, drop=drop)
        for number, call in enumerate(progress.track(config.calls, unit="sources")):
            files = {name: inputs.files[f"{number}.{name}"] for name in call.file_names}
            gathering.take(call_reader(call, files), call.reader)
    table = counts.table(sorted(image_ids))
    atomic_write_json(outputs.corpus, table.as_json())
    return _summary(table, gathering, aside.num_entries)


def _summary(table: CorpusTable, gathering: Gathering, num_quarantined: int) -> Summary:
    if gathering.num_conflicts:
        _log.warning(
            "%d photos lie in several splits, first %r; choose sources that agree, or split: auto",
            gathering.num_conflicts,
            gathering.first_conflict,
        )
    num_in, num_out = gathering.num_in, table.num_texts + table.num_of("objects")
    check_balance(
        "collect_annotations", num_in=num_in, num_out=num_out, num_quarantined=num_quarantined
    )
    return Summary(
        num_in=num_in,
        num_out=num_out,
        num_quarantined=num_quarantined,
        num_split_conflicts=gathering.num_conflicts,
        num_captions=table.num_of("captions"),
        num_questions=table.num_of("questions"),
        num_pairs=table.num_of("pairs"),
        num_objects=table.num_of("objects"),
    )
