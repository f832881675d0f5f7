"""Regions, tags and annotations of a run, joined by image id: what tasks read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from storage.annotation_shards import read_annotations
from storage.errors import DamagedFileError, RecordError
from storage.records import (
    WIDTH_FIRST,
    Annotations,
    CaptionAnnotation,
    ImagePairAnnotation,
    ImageRegions,
    ImageTags,
    QuestionAnnotation,
)
from storage.region_shards import RegionReader
from storage.selections import distinct, select
from storage.tag_shards import read_tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What a run knows about its images.

    region_source: image id -> the image whose features and boxes stand in for its own
    tag_source:    image id -> the image whose tags stand in for its own
    geometry:      order of the last two numbers of the region geometry

    The sources serve controls; an image they do not name stands for itself.
    """

    regions: Mapping[str, ImageRegions]
    tags: Mapping[str, ImageTags]
    annotations: Annotations
    region_source: Mapping[str, str] = field(default_factory=dict)
    tag_source: Mapping[str, str] = field(default_factory=dict)
    geometry: str = WIDTH_FIRST

    def regions_of(self, image_id: str) -> ImageRegions:
        """Regions that are shown for an image; their `image_id` is that of their source.

        Raises:
            RecordError: The image has no regions.
        """
        source = self.region_source.get(image_id, image_id)
        try:
            return self.regions[source]
        except KeyError:
            raise RecordError(f"image {source!r}: no regions; was the photo quarantined?") from None

    def tags_of(self, image_id: str) -> ImageTags:
        """Tags that are shown for an image.

        Raises:
            RecordError: The image has no tags.
        """
        source = self.tag_source.get(image_id, image_id)
        try:
            return self.tags[source]
        except KeyError:
            raise RecordError(f"image {source!r}: no tags; run the translation again") from None

    def captions(self, split: str, language: str) -> Sequence[CaptionAnnotation]:
        """Captions of a split in a language whose image has regions, in the stored order."""
        said = self.annotations.captions
        return select(said, known=self._known(), split=split, language=language)

    def questions(self, split: str, language: str) -> Sequence[QuestionAnnotation]:
        """Questions of a split in a language whose image has regions, in the stored order."""
        said = self.annotations.questions
        return select(said, known=self._known(), split=split, language=language)

    def pairs(self, split: str) -> Sequence[ImagePairAnnotation]:
        """Image pairs of a split both of whose images have regions, in the stored order."""
        columns = ("left_image_id", "right_image_id")
        said = self.annotations.pairs
        return select(said, image_columns=columns, known=self._known(), split=split)

    def image_ids(self, split: str) -> list[str]:
        """Images with regions that anything of a split is said about, sorted."""
        said = self.annotations
        ids: set[str] = set()
        for records in (said.captions, said.questions, said.objects):
            ids |= distinct(records, "image_id", split=split)
        for column in ("left_image_id", "right_image_id"):
            ids |= distinct(said.pairs, column, split=split)
        return sorted(image_id for image_id in ids if image_id in self.regions)

    def _known(self) -> "pa.Array":
        """Ids of all images that have regions."""
        return pa.array(iter(self.regions), pa.string())

    def with_swapped(self, sources: Mapping[str, str], *, keep_tags: bool) -> "Library":
        """The same library with regions of other images in place of some.

        Args:
            sources: image id -> the image that stands in for it.
            keep_tags: tags stay the image's own; else they come from the other image, too.

        Raises:
            RecordError: A source has no regions.
        """
        missing = next((name for name in sources.values() if name not in self.regions), None)
        if missing is not None:
            raise RecordError(f"image {missing!r}: stands in for another but has no regions")
        return replace(
            self, region_source=dict(sources), tag_source={} if keep_tags else dict(sources)
        )


def open_library(
    regions: str | Path, tags: str | Path, annotations: str | Path, *, read_all: bool = True
) -> Library:
    """Open the results of three stages and check that they belong together.

    Args:
        regions: folder or URL of region shards.
        tags: of tag shards.
        annotations: of annotation shards.
        read_all: compare checksums of the region shards, too.

    Raises:
        MissingFileError: A folder is incomplete.
        DamagedFileError: A shard is damaged, or the tags are not those of the regions.
    """
    reader = RegionReader(regions, read_all=read_all)
    named = read_tags(tags)
    ids = pa.array(iter(reader), pa.string())
    untagged = ids.filter(pc.invert(pc.is_in(ids, value_set=named.image_ids.combine_chunks())))
    if len(untagged):
        raise DamagedFileError(
            f"{tags}: no tags for image {untagged[0].as_py()!r} of {regions}; "
            "run the translation again"
        )
    return Library(
        regions=reader,
        tags=named,
        annotations=read_annotations(annotations),
        geometry=reader.geometry,
    )
