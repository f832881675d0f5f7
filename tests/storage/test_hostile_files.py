"""Every damaged file of the shared collection: one clear line, or counted entries; no traceback.

The files are found through their manifest, so another collection is tested without a change.
"""

import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.annotations import (
    coco_captions,
    coco_instances,
    flickr8k_cn,
    flickr_tokens,
    nlvr2,
    vqa_v2,
)
from storage.errors import StorageError, UnreadableImageError
from storage.images import MAX_PIXELS, decode, list_images
from storage.published.label_maps import read_label_map
from storage.records import Annotations, ImageSource
from tests.locations import data_dir, data_place

FOLDER = data_place("hostile")


def entries(kind: str) -> list[Any]:
    """Manifest entries of `images/` or `annotations/`; one that skips where there are none."""
    manifest = FOLDER / "manifest.json"
    if not manifest.exists():
        skip = pytest.mark.skip(reason="no damaged files; set OSCAR_DATA_DIR to the data's folder")
        return [pytest.param({}, id="absent", marks=skip)]
    found = json.loads(manifest.read_text(encoding="utf-8"))["entries"]
    chosen = [entry for entry in found if entry["file"].startswith(kind)]
    assert chosen
    return [pytest.param(entry, id=Path(entry["file"]).name) for entry in chosen]


def reader_of(path: Path) -> Callable[[], Annotations] | None:
    """What reads a file of that name; None if nothing of storage does."""
    name = path.name
    if name.startswith("vqa_"):
        pair = [path.with_name(name.replace(*swap)) for swap in VQA_SWAPS]
        return lambda: vqa_v2.read(pair[0], annotations=pair[1], split="train")
    for start, read in (
        ("instances", coco_instances.read),
        ("captions", coco_captions.read),
        ("flickr8kzh", flickr8k_cn.read),
        ("flickr", flickr_tokens.read),
        ("nlvr2", nlvr2.read),
    ):
        if name.startswith(start):
            return lambda: read(path, split="train")  # type: ignore[no-any-return, operator]
    return None


VQA_SWAPS = (("_annotations_", "_questions_"), ("_questions_", "_annotations_"))


@pytest.mark.parametrize("entry", entries("images/"))
def test_a_damaged_photo_is_refused_in_one_line_or_read(entry: dict[str, Any]) -> None:
    path = data_dir("hostile", entry["file"])
    must_fail = entry["expected"].startswith("reject") and " or " not in entry["expected"]
    must_work = entry["expected"].startswith("accept") and "reject" not in entry["expected"]
    failure: UnreadableImageError | None = None
    tracemalloc.start()
    try:
        image = decode(ImageSource(image_id="x", path=path))
    except UnreadableImageError as error:
        failure = error
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if failure is not None:
        assert not must_work, failure
        assert_one_line(str(failure), path)
        assert re.fullmatch(r"[a-z0-9-]+", failure.reason)
        assert most_bytes < 20_000_000
        return
    assert not must_fail
    height, width = image.pixels.shape[:2]
    assert image.pixels.shape == (height, width, 3)
    assert image.pixels.dtype == np.uint8
    assert height * width <= MAX_PIXELS
    sizes = entry.get("stored_size") or entry.get("declared_size")
    if sizes:
        assert [width, height] == sizes


def test_every_damaged_photo_has_an_id_of_its_own() -> None:
    sources, quarantined = list_images(data_dir("hostile", "images"), "hostile")
    assert quarantined == []
    listed = [entry.values[0]["file"] for entry in entries("images/")]
    assert sorted(str(source.path.relative_to(FOLDER)) for source in sources) == sorted(listed)
    assert len({source.image_id for source in sources}) == len(listed)


@pytest.mark.parametrize("entry", entries("annotations/"))
def test_a_damaged_annotation_file_ends_in_one_line_or_counted_rows(entry: dict[str, Any]) -> None:
    path = data_dir("hostile", entry["file"])
    read: Callable[[], Any] | None = reader_of(path)
    if path.name.startswith("labelmap"):
        read = lambda: read_label_map(path)  # noqa: E731
    if read is None:
        pytest.skip(f"{path.name} is read by another room")
    failure: StorageError | None = None
    try:
        found = read()
    except StorageError as error:
        failure = error
    if failure is not None:
        assert "reject" in entry["expected"]
        assert_one_line(str(failure), path)
        return
    assert not entry["expected"].startswith("reject the file")
    for dropped in found.quarantined:
        assert_one_line(dropped.detail, path)
    if entry["expected"].startswith("accept or reject"):
        assert found.quarantined == ()
        return
    assert found.quarantined
    details = " ".join(dropped.detail for dropped in found.quarantined)
    lines = {int(number) for number in re.findall(r"line (\d+)", details)}
    assert lines == set(entry.get("bad_lines", []))
    for number in entry.get("bad_annotation_ids", []):
        assert f"annotation {number}:" in details
    assert_usable(found)


def test_what_is_left_of_them() -> None:
    folder = data_dir("hostile", "annotations")
    boxes = coco_instances.read(folder / "instances_bad_boxes.json").objects
    assert boxes[0].boxes[0].tolist() == [600, 400, 639, 425]
    assert len(flickr_tokens.read(folder / "flickr8k_bad_utf8.token.txt").captions) == 4
    crlf = flickr_tokens.read(folder / "flickr8k_crlf_missing_tab.token.txt").captions
    assert [caption.caption_id[-2:] for caption in crlf] == ["#0", "#2", "#3"]
    odd = coco_captions.read(folder / "captions_odd_text.json").captions
    assert [len(caption.text) for caption in odd][:2] == [47, 999]
    assert odd[2].text == "[SEP] [MASK] emoji \N{GRINNING FACE} [CLS]"
    duplicate = coco_instances.read(folder / "instances_duplicate_image_id.json")
    assert len(duplicate.objects) == 2
    questions = vqa_v2.read(
        folder / "vqa_questions_mismatch.json",
        annotations=folder / "vqa_annotations_mismatch.json",
    ).questions
    assert [question.question_id for question in questions] == ["25006", "78000"]


def assert_one_line(message: str, path: Path) -> None:
    assert "\n" not in message
    assert "Traceback" not in message
    assert path.name in message or path.name.replace("annotations", "questions", 1) in message


def assert_usable(found: Annotations) -> None:
    """No NaN, no box outside its photo, no carriage return, nothing that UTF-8 cannot hold."""
    for image in found.objects:
        assert np.isfinite(image.boxes).all()
        assert (image.boxes >= 0).all()
        assert (image.boxes[:, 2] <= image.width - 1).all()
        assert (image.boxes[:, 3] <= image.height - 1).all()
    for caption in found.captions:
        assert caption.text == " ".join(caption.text.split())
        assert "\0" not in caption.text
        assert len(caption.text) <= 1000
