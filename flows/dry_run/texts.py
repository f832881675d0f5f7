"""Reads every annotation source, as `collect_annotations` will, and counts."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from flows.config import RunConfig
from flows.dry_run.records import Texts
from flows.gathering import AUTO
from flows.readers import ReaderCall, call_reader, check_entry
from storage.errors import StorageError
from storage.records import CaptionAnnotation, QuestionAnnotation

Key = tuple[str, str]


class Reading:
    """What the sources say of some photos, and what is wrong with them.

    Attributes:
        problems: One line for each source that cannot be used.
        notes: One line for each source of which something did not join.
    """

    def __init__(self, image_ids: frozenset[str], config: RunConfig) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._image_ids = image_ids
        self._config = config
        self._captions: Counter[Key] = Counter()
        self._questions: Counter[Key] = Counter()
        self._captioned: dict[Key, set[str]] = {}
        self._boxed: set[str] = set()
        self._words: set[str] = set()

    def take(self, number: int, source: Mapping[str, object]) -> None:
        """Read one source; a problem where it cannot be read, or where nothing of it joins."""
        entry = check_entry(source)
        files = {name: self._config.data.place() / path for name, path in entry.files.items()}
        if not all(path.exists() for path in files.values()):
            return  # told with the paths
        name = f"data.sources.{number} ({entry.reader})"
        call = ReaderCall(reader=entry.reader, options=entry.options, file_names=tuple(files))
        try:
            read = call_reader(call, files)
        except StorageError as error:
            self.problems.append(f"{name}: {error}")
            return
        kinds = (read.captions, read.questions, read.pairs)
        joined = sum(map(self._joined, kinds)) + self._boxes(read.objects)
        num_read = sum(map(len, (*kinds, read.objects)))
        if joined == 0:
            self.problems.append(f"{name}: none of its {num_read:,} records belongs to a photo")
        elif joined < num_read or read.quarantined:
            self.notes.append(
                f"{name}: {joined:,} of {num_read:,} records belong to a photo, "
                f"{len(read.quarantined):,} could not be read"
            )

    def texts(self) -> Texts:
        """All that was counted."""
        return Texts(
            captions=dict(self._captions),
            questions=dict(self._questions),
            captioned={key: len(images) for key, images in self._captioned.items()},
            num_boxed=len(self._boxed),
            vocabulary_size=self._vocabulary_size(),
        )

    def _joined(self, records: Iterable[object]) -> int:
        joined = 0
        for record in records:
            image_id = getattr(record, "image_id", None) or getattr(record, "left_image_id", "")
            if image_id not in self._image_ids:
                continue
            joined += 1
            split = self._split(record, image_id)
            if isinstance(record, CaptionAnnotation):
                self._captions[split, record.language] += 1
                self._captioned.setdefault((split, record.language), set()).add(image_id)
                self._hear((record.text,))
            elif isinstance(record, QuestionAnnotation) and record.answers:
                self._questions[split, record.language] += 1
                self._hear((record.question, *record.answers))
        return joined

    def _boxes(self, objects: Iterable[object]) -> int:
        found = [getattr(each, "image_id", "") for each in objects]
        joined = [image_id for image_id in found if image_id in self._image_ids]
        self._boxed.update(joined)
        return len(joined)

    def _split(self, record: object, image_id: str) -> str:
        split = str(getattr(record, "split", ""))
        return self._config.data.auto_split.split_of(image_id) if split == AUTO else split

    def _hear(self, texts: Iterable[str]) -> None:
        """Remember the words where the vocabulary will be made of them."""
        if self._config.vocabulary is None:
            self._words.update(word for text in texts for word in text.lower().split())

    def _vocabulary_size(self) -> int:
        if self._config.vocabulary is not None or not self._words:
            return 0
        from oscar_core.tokens import build_vocabulary

        return len(build_vocabulary(sorted(self._words)))


def read_texts(image_ids: Iterable[str], config: RunConfig) -> Reading:
    """Read all sources of a run."""
    reading = Reading(frozenset(image_ids), config)
    for number, source in enumerate(config.data.sources):
        reading.take(number, source)
    return reading


def annotation_files(config: RunConfig) -> Iterator[Path]:
    """The files of all sources, where they would be."""
    for source in config.data.sources:
        for path in check_entry(source).files.values():
            yield config.data.place() / path
