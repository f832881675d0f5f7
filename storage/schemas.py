"""Arrow schemas of the stored records, and the version each file carries in its metadata.

A reader accepts exactly the version it knows. A changed column is a new version.
"""

from collections.abc import Mapping

import pyarrow as pa

from storage.errors import DamagedFileError

_PREFIX = "oscar_flow."
KIND_KEY = f"{_PREFIX}kind"
VERSION_KEY = f"{_PREFIX}schema_version"

SCHEMA_VERSION = 1
"""Version of all schemas below; they change together."""

REGIONS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4)), nullable=False),
        pa.field("class_ids", pa.list_(pa.int16()), nullable=False),
        pa.field("class_names", pa.list_(pa.string()), nullable=False),
        pa.field("confidences", pa.list_(pa.float32()), nullable=False),
        pa.field("attribute_slots", pa.int16(), nullable=False),
        pa.field("attribute_ids", pa.list_(pa.int16()), nullable=False),
        pa.field("attribute_scores", pa.list_(pa.float32()), nullable=False),
        pa.field("attribute_names", pa.list_(pa.list_(pa.string())), nullable=False),
        pa.field("features_shape", pa.list_(pa.int32(), 2), nullable=False),
        pa.field("features", pa.binary(), nullable=False),
    ]
)
"""One image a row. `features` is little-endian, row-major, of the dtype in the file's metadata.

`attribute_ids` and `attribute_scores` are row-major (regions, attribute_slots).
"""

TAGS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
        pa.field("attributes", pa.list_(pa.list_(pa.string())), nullable=False),
        pa.field("language", pa.string(), nullable=False),
    ]
)

CAPTIONS = pa.schema(
    [
        pa.field(name, pa.string(), nullable=False)
        for name in ("image_id", "caption_id", "text", "language", "split", "source")
    ]
)

QUESTIONS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("answers", pa.list_(pa.string()), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("question_type", pa.string(), nullable=False),
        pa.field("answer_type", pa.string(), nullable=False),
    ]
)

PAIRS = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("left_image_id", pa.string(), nullable=False),
        pa.field("right_image_id", pa.string(), nullable=False),
        pa.field("sentence", pa.string(), nullable=False),
        pa.field("is_true", pa.bool_(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)

OBJECTS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4)), nullable=False),
        pa.field("class_names", pa.list_(pa.string()), nullable=False),
        pa.field("attributes", pa.list_(pa.list_(pa.string())), nullable=False),
        pa.field("is_crowd", pa.list_(pa.bool_()), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)

SCHEMAS: Mapping[str, pa.Schema] = {
    "regions": REGIONS,
    "tags": TAGS,
    "captions": CAPTIONS,
    "questions": QUESTIONS,
    "pairs": PAIRS,
    "objects": OBJECTS,
}
"""Record kind -> columns; the kind is also the first part of a shard's file name."""


def stamped(
    kind: str, settings: Mapping[str, str], own: Mapping[str, str] | None = None
) -> pa.Schema:
    """The schema of a kind with kind, version and settings in its metadata.

    Args:
        kind: record kind.
        settings: what all shards of a folder have in common.
        own: what this shard alone says (`own_stamps`).
    """
    named = {f"{_PREFIX}{key}": value for key, value in (own or {}).items()}
    stamps = dict(sorted({**settings, **named}.items()))
    return SCHEMAS[kind].with_metadata({KIND_KEY: kind, VERSION_KEY: str(SCHEMA_VERSION), **stamps})


def own_stamps(schema: pa.Schema) -> dict[str, str]:
    """What a shard says of itself alone."""
    return {
        key.removeprefix(_PREFIX): value
        for key, value in _stamps(schema).items()
        if key.startswith(_PREFIX) and key not in (KIND_KEY, VERSION_KEY)
    }


def settings_of(schema: pa.Schema, kind: str, place: str) -> dict[str, str]:
    """Check a file's schema and give back the settings in its metadata.

    Args:
        schema: as read from the file.
        kind: the record kind expected.
        place: the file, for the error.

    Raises:
        DamagedFileError: Another kind, another version, or other columns.
    """
    stamps = _stamps(schema)
    found, version = stamps.get(KIND_KEY, "none of ours"), stamps.get(VERSION_KEY, "?")
    if found != kind:
        raise DamagedFileError(f"{place}: records of kind {found!r}, expected {kind!r}")
    if version != str(SCHEMA_VERSION):
        raise DamagedFileError(
            f"{place}: schema version {version}, this program reads {SCHEMA_VERSION}; "
            "run the step again or use the program that wrote it"
        )
    if not schema.remove_metadata().equals(SCHEMAS[kind]):
        raise DamagedFileError(f"{place}: columns differ from schema version {version} of {kind!r}")
    return {key: value for key, value in stamps.items() if not key.startswith(_PREFIX)}


def _stamps(schema: pa.Schema) -> dict[str, str]:
    stamps = {
        key.decode("utf-8"): value.decode("utf-8") for key, value in (schema.metadata or {}).items()
    }
    stamps.pop("ARROW:schema", None)
    return stamps
