"""Reads every annotation source, as `collect_annotations` will, and counts."""

from collections import Counter
from collections.abc import Iterable, Mapping

from flows.config import RunConfig
from flows.dry_run.records import Texts
from flows.gathering import Gathering, Said
from flows.readers import ReaderCall, call_reader, check_entry
from storage.errors import StorageError
from storage.records import CaptionAnnotation, ImageObjects, Quarantined, QuestionAnnotation

Key = tuple[str, str]


class Reading:
    """What the sources say of some photos, and what is wrong with them.

    Attributes:
        problems: One line for each source that cannot be used.
        notes: One line for each source of which something was set aside.
    """

    def __init__(self, image_ids: frozenset[str], config: RunConfig) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._config = config
        self._knows_images = bool(image_ids)
        self._gathering = Gathering(
            image_ids, config.data.auto_split, keep=self._keep, drop=self._drop
        )
        self._captions: Counter[Key] = Counter()
        self._questions: Counter[Key] = Counter()
        self._captioned: dict[Key, set[str]] = {}
        self._boxed: set[str] = set()
        self._words: set[str] = set()
        self._num_kept = 0
        self._dropped: Counter[str] = Counter()

    def take(self, number: int, source: Mapping[str, object]) -> None:
        """Read one source; a problem where it cannot be read, or where nothing of it joins."""
        entry = check_entry(source)
        files = {name: self._config.data.place() / path for name, path in entry.files.items()}
        if not all(path.exists() for path in files.values()):
            return  # told with the paths
        self._num_kept, self._dropped = 0, Counter()
        name = f"data.sources.{number} ({entry.reader})"
        call = ReaderCall(reader=entry.reader, options=entry.options, file_names=tuple(files))
        try:
            self._gathering.take(call_reader(call, files), entry.reader)
        except StorageError as error:
            self.problems.append(f"{name}: {error}")
            return
        if not self._knows_images:
            return  # so nobody knows what joins
        dropped = ", ".join(f"{num:,} {reason}" for reason, num in self._dropped.most_common())
        if self._num_kept == 0:
            self.problems.append(
                f"{name}: nothing of it joins a photo ({dropped or 'it is empty'}); "
                "oscar-flow corpus tells more"
            )
        elif dropped:
            self.notes.append(f"{name}: {self._num_kept:,} records join; set aside: {dropped}")

    def texts(self) -> Texts:
        """All that was counted."""
        return Texts(
            captions=dict(self._captions),
            questions=dict(self._questions),
            captioned={key: len(images) for key, images in self._captioned.items()},
            num_boxed=len(self._boxed),
            vocabulary_size=self._vocabulary_size(),
        )

    def _keep(self, record: Said) -> None:
        self._num_kept += 1
        if isinstance(record, CaptionAnnotation):
            key = (record.split, record.language)
            self._captions[key] += 1
            self._captioned.setdefault(key, set()).add(record.image_id)
            self._hear((record.text,))
        elif isinstance(record, QuestionAnnotation) and record.answers:
            self._questions[record.split, record.language] += 1
            self._hear((record.question, *record.answers))
        elif isinstance(record, ImageObjects):
            self._boxed.add(record.image_id)

    def _drop(self, entry: Quarantined, reader: str) -> None:
        self._dropped[entry.reason] += 1

    def _hear(self, texts: Iterable[str]) -> None:
        """Remember the words where the vocabulary will be made of them."""
        if self._makes_vocabulary():
            self._words.update(word for text in texts for word in text.lower().split())

    def _makes_vocabulary(self) -> bool:
        config = self._config
        starts = config.pretrain is not None and config.pretrain.start is not None
        return config.vocabulary is None and not starts

    def _vocabulary_size(self) -> int:
        if not self._words:
            return 0
        from oscar_core.tokens import build_vocabulary

        return len(build_vocabulary(sorted(self._words)))


def read_texts(image_ids: Iterable[str], config: RunConfig) -> Reading:
    """Read all sources of a run."""
    reading = Reading(frozenset(image_ids), config)
    for number, source in enumerate(config.data.sources):
        reading.take(number, source)
    return reading
