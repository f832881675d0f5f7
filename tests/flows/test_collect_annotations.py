"""Annotations are joined with the photos of the run; what does not join is counted and listed."""

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.balance import LostRecordsError
from flows.gathering import AutoSplit, Gathering
from flows.photos import write_photos
from flows.readers import ReaderCall
from flows.stages.collect_annotations import Config, Inputs, Outputs, Summary, run
from storage.annotation_shards import read_annotations
from storage.quarantine import read_quarantine
from storage.records import Annotations, CaptionAnnotation, ImageSource

NAMES = st.text(min_size=1, max_size=20)


def write_captions(path: Path, captions: Sequence[tuple[int, int, str]]) -> Path:
    """A COCO file of (id, image id, caption), every image listed."""
    images = [
        {"id": number, "file_name": f"{number:012d}.jpg", "height": 4, "width": 4}
        for number in sorted({number for _, number, _ in captions})
    ]
    rows = [
        {"id": own, "image_id": number, "caption": caption} for own, number, caption in captions
    ]
    path.write_text(json.dumps({"images": images, "annotations": rows}), encoding="utf-8")
    return path


def write_questions(folder: Path, question_id: int, image_number: int) -> dict[str, Path]:
    """One question in the two files of VQA v2."""
    own = {"question_id": question_id, "image_id": image_number}
    answers = [{"answer": "two", "answer_id": 1, "answer_confidence": "yes"}]
    said = {"question_type": "", "answer_type": "number", "multiple_choice_answer": "two"}
    contents = {
        "questions": {"questions": [own | {"question": "How many cats?"}]},
        "annotations": {"annotations": [own | said | {"answers": answers}]},
    }
    folder.mkdir()
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return {name: folder / f"{name}.json" for name in contents}


def collect(
    tmp_path: Path, image_numbers: Sequence[int], *files: Path, split: str | Sequence[str] = "train"
) -> tuple[Summary, Annotations]:
    images = tmp_path / "images"
    photos = [
        ImageSource(image_id=f"coco/{number:012d}", path=tmp_path / f"{number}.jpg")
        for number in image_numbers
    ]
    write_photos(images, {"0": photos}, {"0": tmp_path})
    splits = [split] * len(files) if isinstance(split, str) else split
    calls = tuple(
        ReaderCall(
            reader="coco_captions",
            options={"namespace": "coco", "split": each, "language": "en"},
            file_names=("path",),
        )
        for each in splits
    )
    summary = run(
        Config(calls=calls),
        Inputs(images=images, files={f"{at}.path": path for at, path in enumerate(files)}),
        Outputs(annotations=tmp_path / "annotations", corpus=tmp_path / "corpus.json"),
    )
    return summary, read_annotations(tmp_path / "annotations")


def test_what_belongs_to_no_photo_is_set_aside_and_counted(tmp_path: Path) -> None:
    path = write_captions(tmp_path / "c.json", [(1, 7, "a cat"), (2, 8, "a dog"), (3, 7, "cats")])
    summary, annotations = collect(tmp_path, [7, 9], path)
    assert [each.text for each in annotations.captions] == ["a cat", "cats"]
    assert (summary.num_in, summary.num_out, summary.num_quarantined) == (3, 2, 1)
    dropped = read_quarantine(tmp_path / "quarantine.jsonl")
    assert [(each.image_id, each.reason) for each in dropped] == [
        ("coco/000000000008", "no-such-image")
    ]


def test_the_same_record_from_two_sources_counts_once(tmp_path: Path) -> None:
    path = write_captions(tmp_path / "c.json", [(1, 7, "a cat"), (2, 7, "cats")])
    summary, annotations = collect(tmp_path, [7], path, path)
    assert len(annotations.captions) == 2
    assert (summary.num_in, summary.num_out, summary.num_quarantined) == (4, 2, 2)
    dropped = read_quarantine(tmp_path / "quarantine.jsonl")
    assert {each.reason for each in dropped} == {"duplicate-id"}


def test_auto_splits_are_those_of_the_photo_whatever_the_source(tmp_path: Path) -> None:
    numbers = range(200)
    one = write_captions(tmp_path / "1.json", [(n, n, "one") for n in numbers])
    other = write_captions(tmp_path / "2.json", [(n + 1000, n, "other") for n in numbers])
    _, annotations = collect(tmp_path, numbers, one, other, split="auto")
    by_image: dict[str, set[str]] = {}
    for caption in annotations.captions:
        by_image.setdefault(caption.image_id, set()).add(caption.split)
    assert all(len(splits) == 1 for splits in by_image.values())
    shares = [sum(split in each for each in by_image.values()) for split in ("train", "val")]
    assert 120 < shares[0] < 160
    assert 8 < shares[1] < 35


def test_an_official_split_stays(tmp_path: Path) -> None:
    path = write_captions(tmp_path / "c.json", [(n, n, "text") for n in range(20)])
    _, annotations = collect(tmp_path, range(20), path, split="val")
    assert {each.split for each in annotations.captions} == {"val"}


def test_no_sources_are_no_annotations(tmp_path: Path) -> None:
    summary, annotations = collect(tmp_path, [1])
    assert summary.num_in == 0
    assert annotations == Annotations()


@given(image_id=NAMES, val=st.floats(0, 0.4), test=st.floats(0, 0.4))
def test_every_photo_has_one_split(image_id: str, val: float, test: float) -> None:
    split = AutoSplit(val=val, test=test)
    assert split.split_of(image_id) == split.split_of(image_id)
    assert split.split_of(image_id) in {"train", "val", "test"}


def test_the_division_never_changes() -> None:
    splits = [AutoSplit().split_of(f"coco/{number:012d}") for number in range(12)]
    expected = "train test test train val val train train train train train train"
    assert " ".join(splits) == expected


def test_one_photo_under_two_names_lies_in_one_split() -> None:
    split = AutoSplit(val=0.3, test=0.3)
    for number in range(50):
        assert split.split_of(f"gqa/{number}") == split.split_of(f"visual_genome/{number}")


def test_sources_that_disagree_over_a_photo_are_counted(tmp_path: Path) -> None:
    one = write_captions(tmp_path / "1.json", [(1, 7, "a cat"), (2, 8, "a dog")])
    other = write_captions(tmp_path / "2.json", [(3, 7, "cats")])
    summary, _ = collect(tmp_path, [7, 8], one, other, split=("train", "test"))
    assert (summary.num_split_conflicts, summary.num_out) == (1, 3)


def test_questions_of_two_sources_keep_apart_under_one_number(tmp_path: Path) -> None:
    images = tmp_path / "images"
    photos = [ImageSource(image_id=f"{name}/{7:012d}", path=tmp_path / name) for name in "ab"]
    write_photos(images, {"0": photos}, {"0": tmp_path})
    calls, files = [], {}
    for at, name in enumerate("ab"):
        options = {"namespace": name, "split": "train", "language": "en"}
        found = write_questions(tmp_path / f"source-{name}", 5, 7)
        calls.append(
            ReaderCall(reader="vqa_v2", options=options, file_names=("annotations", "questions"))
        )
        files |= {f"{at}.{key}": path for key, path in found.items()}
    annotations = tmp_path / "annotations"
    run(
        Config(calls=tuple(calls)),
        Inputs(images=images, files=files),
        Outputs(annotations=annotations, corpus=annotations.with_suffix(".json")),
    )
    ids = [each.question_id for each in read_annotations(annotations).questions]
    assert len(set(ids)) == 2


def test_shares_must_leave_something_to_train_on() -> None:
    with pytest.raises(ValueError, match="leave room for training"):
        AutoSplit(val=0.5, test=0.5)


def test_a_record_that_is_neither_kept_nor_set_aside_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gathering, "_set_aside", lambda *_: None)
    path = write_captions(tmp_path / "c.json", [(1, 7, "a cat"), (2, 8, "a dog")])
    with pytest.raises(LostRecordsError, match="collect_annotations: 2 read, 1 written and 0 set"):
        collect(tmp_path, [7], path)


class _Captions(Sequence[CaptionAnnotation]):
    """One caption a photo, made when asked for."""

    def __len__(self) -> int:
        return 4_000

    def __getitem__(self, number: int) -> CaptionAnnotation:  # type: ignore[override]  # no slices asked for
        if number >= len(self):
            raise IndexError(number)
        return CaptionAnnotation(
            image_id=f"coco/{number:012d}",
            caption_id=str(number),
            text="a cat",
            language="en",
            split="train",
            source="coco",
        )


class _EveryPhoto(frozenset[str]):
    def __contains__(self, image_id: object) -> bool:
        return True


def test_gathering_holds_nothing_but_digests() -> None:
    gathering = Gathering(_EveryPhoto(), AutoSplit(), keep=lambda _: None, drop=lambda _, __: None)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        gathering.take(Annotations(captions=_Captions()), "coco")  # type: ignore[arg-type]  # as a sequence
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert gathering.num_in == 4_000
    assert (after - before) / 4_000 < 100  # two digests and what the tables have room for
