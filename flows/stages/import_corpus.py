"""Stage: a published pretraining corpus -> regions, tags and annotations as our own steps make.

VinVL's yaml with its table of texts, labels and features (`storage.published.vinvl_corpus`). The
features keep their six box numbers, so that a model reads the published values bit for bit; a
caption's second text comes back word for word from its tags, a question's from its answer. An
image without regions has one row of tags, which holds them all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from flows.balance import check_balance
from flows.progress import SILENT, Progress
from storage.records import (
    INCLUDED,
    CaptionAnnotation,
    ImageRegions,
    ImageTags,
    Quarantined,
    QuestionAnnotation,
)

if TYPE_CHECKING:
    from flows.corpus_table import CorpusTable
    from storage.published.vinvl_corpus import PublishedCorpus

VERSION = 2
SOURCE = "import_corpus"
_BOXES = 6
"""Numbers at the end of a feature: x1/W, y1/H, x2/W, y2/H, w/W, h/H."""
_MOST_CLASSES = np.iinfo(np.int16).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings; YAML section `import_corpus`.

    name:          of the yaml in the folder of the corpus
    use_gt_labels: annotated class names where an image has them, else detected ones
    chunks:        first chunk and the one after the last of data sets in chunks; None: all
    language:      of captions, questions and class names
    split:         of everything
    dtype:         in which features are kept; float32 is what is published
    """

    name: str = "coco_flickr30k_gqa.yaml"
    use_gt_labels: bool = True
    chunks: tuple[int, int] | None = None
    language: str = "zh"
    split: str = "train"
    dtype: Literal["float16", "float32"] = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """corpus: folder of the yaml; features: folder that its feature folders are relative to."""

    corpus: Path
    features: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    regions: Path
    tags: Path
    annotations: Path
    corpus: Path = Path("corpus.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """in = out + quarantined, of documents and images together."""

    num_in: int
    num_out: int
    num_quarantined: int
    num_images: int
    num_captions: int
    num_questions: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Write what the corpus holds; an image that cannot be read takes its documents with it.

    Raises:
        AnnotationError, DamagedFileError: The corpus cannot be opened.
        StorageError: Features of two widths.
    """
    from flows.corpus_table import CorpusCounts
    from storage.annotation_shards import AnnotationWriter
    from storage.artifacts import atomic_write_json
    from storage.published.vinvl_corpus import open_corpus
    from storage.quarantine import QUARANTINE_NAME, write_quarantine
    from storage.region_slices import RegionSettings, write_regions
    from storage.tag_shards import write_tags

    corpus = open_corpus(
        inputs.corpus / config.name,
        inputs.features,
        use_gt_labels=config.use_gt_labels,
        chunks=config.chunks,
    )
    images = _Images(corpus, config)
    settings = RegionSettings(
        detector="published",
        feature_width=images.feature_width(),
        geometry=INCLUDED,
        dtype=config.dtype,
    )
    write_regions(outputs.regions, progress.track(images.regions(), unit="images"), settings)
    num_images = write_tags(outputs.tags, images.tags()).num_rows
    counts = CorpusCounts()
    dropped = list(images.quarantined.values())
    with AnnotationWriter(outputs.annotations) as writer:
        for number in progress.track(range(len(corpus.documents)), unit="texts"):
            said = images.said(number)
            if isinstance(said, Quarantined):
                dropped.append(said)
                counts.drop(said, SOURCE)
            else:
                writer.add(said)
                counts.take(said)
    num_dropped = write_quarantine(outputs.annotations.parent / QUARANTINE_NAME, dropped)
    table = counts.table()
    atomic_write_json(outputs.corpus, table.as_json())
    num_in = len(corpus.image_keys) + len(corpus.documents)
    num_out = num_images + table.num_texts
    check_balance("import_corpus", num_in=num_in, num_out=num_out, num_quarantined=num_dropped)
    return Summary(
        num_in=num_in,
        num_out=num_out,
        num_quarantined=num_dropped,
        num_images=num_images,
        num_captions=table.num_of("captions"),
        num_questions=table.num_of("questions"),
    )


def count(config: Config, corpus: Path, features: Path) -> "CorpusTable":
    """How many images and texts there are, without reading features or writing anything.

    Raises:
        AnnotationError, DamagedFileError: The corpus cannot be opened.
    """
    from flows.corpus_table import CorpusCounts
    from storage.published.vinvl_corpus import open_corpus

    opened = open_corpus(
        corpus / config.name, features, use_gt_labels=config.use_gt_labels, chunks=config.chunks
    )
    images, counts = _Images(opened, config), CorpusCounts()
    for number in range(len(opened.documents)):
        said = images.said(number)
        if isinstance(said, Quarantined):
            counts.drop(said, SOURCE)
        else:
            counts.take(said)
    return counts.table()


class _Images:
    """The images of a corpus as our records, in the order in which their features lie.

    quarantined: image key -> why it cannot be used, as far as regions were read
    """

    def __init__(self, corpus: "PublishedCorpus", config: Config) -> None:
        self.quarantined: dict[str, Quarantined] = {}
        self._corpus = corpus
        self._config = config
        self._class_ids: dict[str, int] = {}
        places = corpus.feature_places
        self._order = np.lexsort((places[:, 1], places[:, 0]))
        self._num_regions = np.full(len(places), -1, np.int32)  # until they were read

    def feature_width(self) -> int:
        """D of the first image that has regions.

        Raises:
            DamagedFileError: There is none.
        """
        from storage.errors import DamagedFileError

        for number in self._order:
            try:
                found = self._corpus.regions(self._corpus.image_keys[int(number)])
            except DamagedFileError:
                continue
            if len(found):
                return int(found.shape[1])
        raise DamagedFileError("features: not one image of the corpus has a region")

    def regions(self) -> Iterator[ImageRegions]:
        """All images that can be read; the others are set aside."""
        from storage.errors import DamagedFileError

        width = self.feature_width()
        for number in self._order:
            key = self._corpus.image_keys[int(number)]
            try:
                found = self._regions(key, width)
            except DamagedFileError as error:
                detail = " ".join(str(error).split())
                self.quarantined[key] = Quarantined(
                    image_id=image_id_of(key), reason="damaged-features", detail=detail
                )
                continue
            self._num_regions[number] = len(found.class_ids)
            yield found

    def tags(self) -> Iterator[ImageTags]:
        """Words of the images whose regions were read, row for row.

        Joined by spaces they are the published text, also where there is no region.
        """
        for number in self._order:
            rows = int(self._num_regions[number])
            if rows >= 0:
                key = self._corpus.image_keys[int(number)]
                words = row_for_row(self._names(key), max(rows, 1))
                yield ImageTags(
                    image_id=image_id_of(key),
                    tags=words,
                    attributes=((),) * len(words),
                    language=self._config.language,
                )

    def said(self, number: int) -> CaptionAnnotation | QuestionAnnotation | Quarantined:
        """A document of the corpus as an annotation."""
        from storage.errors import StorageError

        try:
            document = self._corpus.documents[number]
        except StorageError as error:
            key = self._corpus.image_keys[int(self._corpus.image_numbers[number])]
            detail = " ".join(str(error).split())
            return Quarantined(image_id=image_id_of(key), reason="no-second-text", detail=detail)
        image_id = image_id_of(document.image_key)
        if document.image_key in self.quarantined:
            detail = f"row of {document.label_key!r}: its image has no usable features"
            return Quarantined(image_id=image_id, reason="no-such-image", detail=detail)
        source = image_id.partition("/")[0]
        if document.is_question:
            return QuestionAnnotation(
                image_id=image_id,
                question_id=f"{document.label_key}#{number}",
                question=document.first,
                answers=(document.second,),
                language=self._config.language,
                split=self._config.split,
                source=f"{source}_qa",
            )
        return CaptionAnnotation(
            image_id=image_id,
            caption_id=f"{document.label_key}#{number}",
            text=document.first,
            language=self._config.language,
            split=self._config.split,
            source=source,
        )

    def _names(self, key: str) -> tuple[str, ...]:
        labels = self._corpus.labels(key)
        return labels.chosen(use_gt_labels=self._config.use_gt_labels)

    def _regions(self, key: str, width: int) -> ImageRegions:
        """One image.

        Raises:
            DamagedFileError: Its features or labels cannot be read, or are of another width.
        """
        from storage.errors import DamagedFileError

        features, labels = self._corpus.regions(key), self._corpus.labels(key)
        num = len(features)
        if num and features.shape[1] != width:
            raise DamagedFileError(
                f"image {key!r}: features are {features.shape[1]} wide, the first ones {width}"
            )
        names = self._names(key)
        scale = np.array([labels.width, labels.height] * 2, dtype=np.float32)
        has_boxes = width >= _BOXES and num
        boxes = features[:, -_BOXES:-2] * scale if has_boxes else np.zeros((num, 4), np.float32)
        return ImageRegions(
            image_id=image_id_of(key),
            content_hash="",
            height=labels.height,
            width=labels.width,
            boxes=boxes.astype(np.float32),
            features=features.reshape(num, width),
            class_ids=self._class_ids_of(names, num),
            confidences=np.ones(num, np.float32),  # not published; the order is the detector's
            attribute_ids=np.zeros((num, 0), np.int16),
            attribute_scores=np.zeros((num, 0), np.float32),
            class_names=row_for_row(names, num),
            attribute_names=((),) * num,
        )

    def _class_ids_of(self, names: tuple[str, ...], num: int) -> NDArray[np.int16]:
        """Class of each region: numbers by first occurrence; 0 without a name or a number left.

        Where a region stands for several names, it is of the class of the first.
        """
        found = np.zeros(num, np.int16)
        for row, name in enumerate(names[:num]):
            if name and len(self._class_ids) < _MOST_CLASSES:
                self._class_ids.setdefault(name, len(self._class_ids) + 1)
            found[row] = self._class_ids.get(name, 0)
        return found


def row_for_row(names: tuple[str, ...], num: int) -> tuple[str, ...]:
    """Names for so many regions: "" where there are fewer, the last one takes the rest if more."""
    if len(names) <= num:
        return (*names, *("",) * (num - len(names)))
    return (*names[: num - 1], " ".join(names[num - 1 :])) if num else ()


def image_id_of(image_key: str) -> str:
    """Our id of an image key of the corpus."""
    from storage.published.vinvl_names import parse_image_key

    key = parse_image_key(image_key)
    return image_key if key is None else key.image_id
