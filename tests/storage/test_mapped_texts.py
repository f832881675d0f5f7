"""Texts in mapped files: records on demand, selections by row number, nothing private a process."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.annotation_shards import AnnotationWriter, read_annotations, write_annotations
from storage.describe import describe_shard
from storage.errors import DamagedFileError, MissingFileError, RecordError
from storage.keys import KeyTable
from storage.library import open_library
from storage.mapped import MappedWriter
from storage.places import Place
from storage.record_columns import RecordColumns, batch_of, builder_of
from storage.records import Annotations, CaptionAnnotation, QuestionAnnotation
from storage.seen import SeenKeys
from storage.selections import Selection, coded, distinct, lengths, select
from storage.tag_shards import read_tags, write_tags
from tests.builders_storage import make_tags, many_regions, write_regions


def caption(number: int) -> CaptionAnnotation:
    return CaptionAnnotation(
        image_id=f"photos/{number % 7}",
        caption_id=str(number),
        text=f"第{number}句",
        language="zh" if number % 2 else "en",
        split="train" if number % 3 else "val",
        source="ab"[number % 2],
    )


def question(number: int) -> QuestionAnnotation:
    return QuestionAnnotation(
        image_id=f"photos/{number % 5}",
        question_id=str(number),
        question="what?",
        answers=("yes",) * (number % 4),
        language="en",
        split="train",
        source="q",
    )


CAPTIONS = tuple(map(caption, range(50)))


def stored(captions: Sequence[CaptionAnnotation] = CAPTIONS) -> Selection[CaptionAnnotation]:
    table = pa.Table.from_batches(
        [batch_of("captions", captions[i : i + 9]) for i in range(0, len(captions), 9)]
    )
    return Selection(table, builder_of("captions"))


def test_a_selection_is_a_sequence_of_records() -> None:
    found = stored()
    assert found == CAPTIONS
    assert found == CAPTIONS
    assert found != CAPTIONS[:-1]
    assert (found[0], found[-1]) == (CAPTIONS[0], CAPTIONS[-1])
    assert found[5:40:7] == CAPTIONS[5:40:7]
    assert found[::-1][3:5] == CAPTIONS[::-1][3:5]
    assert list(found[10:]) == list(CAPTIONS[10:])
    with pytest.raises(IndexError):
        found[50]


@given(
    split=st.sampled_from(["train", "val", "no"]),
    images=st.lists(st.integers(0, 9).map(lambda n: f"photos/{n}"), max_size=6),
    part=st.slices(50),
)
def test_selecting_is_the_same_in_files_and_in_memory(
    split: str, images: list[str], part: slice
) -> None:
    known = pa.array(images, pa.string())
    wanted = {"split": split, "language": "zh"}
    chosen = select(stored()[part], known=known, **wanted)
    assert isinstance(chosen, Selection)
    plain = select(CAPTIONS[part], known=known, **wanted)
    assert chosen == plain
    assert distinct(chosen, "source") == distinct(plain, "source")
    one, other = coded(chosen, "image_id"), coded(plain, "image_id")
    assert one.values == other.values
    assert one.codes.tolist() == other.codes.tolist()
    assert [one.values[code] for code in one.codes] == [each.image_id for each in plain]


def test_lengths_of_lists() -> None:
    questions = tuple(map(question, range(9)))
    table = pa.Table.from_batches([batch_of("questions", questions)])
    found: Selection[QuestionAnnotation] = Selection(table, builder_of("questions"))
    assert lengths(found, "answers").tolist() == lengths(questions, "answers").tolist()
    assert lengths(found[2:5], "answers").tolist() == [2, 3, 0]


def test_another_process_opens_the_same_files(tmp_path: Path) -> None:
    regions = many_regions(5)
    write_regions(tmp_path / "regions", regions)
    write_tags(tmp_path / "tags", map(make_tags, regions))
    write_annotations(tmp_path / "annotations", Annotations(captions=CAPTIONS))
    library = open_library(tmp_path / "regions", tmp_path / "tags", tmp_path / "annotations")
    content = pickle.dumps(library)
    assert len(content) < 2_000
    again = pickle.loads(content)
    assert again.captions("train", "zh") == library.captions("train", "zh")
    assert again.tags_of("photos/3") == library.tags_of("photos/3")
    chosen = library.captions("train", "zh")
    assert len(chosen) > 3
    assert pickle.loads(pickle.dumps(chosen)) == chosen


def test_millions_of_records_are_written_a_batch_at_a_time(tmp_path: Path) -> None:
    with AnnotationWriter(tmp_path) as writer:
        for number in range(20_000):
            writer.add(caption(number))
            if number % 100 == 0:
                writer.add(question(number))
    found = read_annotations(tmp_path)
    assert (len(found.captions), len(found.questions)) == (20_000, 200)
    assert found.captions[19_999] == caption(19_999)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "captions-00000.arrow",
        "manifest.json",
        "questions-00000.arrow",
    ]


def test_a_failed_writing_leaves_no_manifest_and_no_half_file(tmp_path: Path) -> None:
    write_annotations(tmp_path, Annotations(captions=CAPTIONS))
    before = sorted(path.name for path in tmp_path.iterdir())

    def break_off() -> None:
        with AnnotationWriter(tmp_path) as writer:
            for number in range(9_000):
                writer.add(caption(number))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        name for name in before if name != "manifest.json"
    ]
    with pytest.raises(MissingFileError, match="incomplete"):
        read_annotations(tmp_path)


def test_shards_are_cut_at_a_number_of_rows(tmp_path: Path) -> None:
    writer = MappedWriter(Place(tmp_path), "captions", rows_per_shard=20)
    for start in range(0, 50, 10):
        writer.add(batch_of("captions", CAPTIONS[start : start + 10]))
    assert [entry.rows for entry in writer.finish()] == [20, 20, 10]


@pytest.mark.parametrize("read_all", [True, False])
def test_a_cut_or_changed_file_is_named(tmp_path: Path, read_all: bool) -> None:
    write_annotations(tmp_path, Annotations(captions=CAPTIONS))
    path = tmp_path / "captions-00000.arrow"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(DamagedFileError, match=r"captions-00000\.arrow"):
        read_annotations(tmp_path, read_all=read_all)
    at = whole.index("第7句".encode())
    path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    with pytest.raises(DamagedFileError, match=r"captions-00000\.arrow"):
        read_annotations(tmp_path)


def test_an_arrow_file_is_described_or_refused_in_one_line(tmp_path: Path) -> None:
    write_annotations(tmp_path, Annotations(captions=CAPTIONS))
    lines = list(describe_shard(tmp_path / "captions-00000.arrow"))
    assert lines[1] == "kind      captions, schema version 1"
    assert any(line.endswith("第0句") for line in lines)
    assert "50 in 1 batches" in " ".join(describe_shard(tmp_path))
    for content in (b"", b"ARROW1\0\0" + b"x" * 40, (tmp_path / "manifest.json").read_bytes()):
        (tmp_path / "x.arrow").write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"x\.arrow: no whole Arrow file") as caught:
            list(describe_shard(tmp_path / "x.arrow"))
        assert "\n" not in str(caught.value)


def test_files_of_an_earlier_release_are_named(tmp_path: Path) -> None:
    write_tags(tmp_path, map(make_tags, many_regions(2)))
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace(".arrow", ".parquet"))
    (tmp_path / "tags-00000.arrow").rename(tmp_path / "tags-00000.parquet")
    with pytest.raises(DamagedFileError, match="of an earlier release; run the step again"):
        read_tags(tmp_path)


@given(keys=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), unique=True))
def test_a_key_table_numbers_texts(keys: list[str]) -> None:
    table = KeyTable(pa.array(keys, pa.string()))
    assert list(table) == keys
    assert [table.number(key) for key in keys] == list(range(len(keys)))
    assert table.number("unknown") is None
    assert None not in table


def test_a_key_twice_is_named() -> None:
    with pytest.raises(RecordError, match="'b' twice"):
        KeyTable(pa.array(["a", "b", "c", "b"], pa.string()))


@given(keys=st.lists(st.text(max_size=2)))
def test_seen_keys_are_a_set(keys: list[str]) -> None:
    seen, plain = SeenKeys(), set[str]()
    for key in keys:
        assert (key in seen) == (key in plain)
        assert seen.add(key) == (key not in plain)
        plain.add(key)
    assert len(seen) == len(plain)


def test_seen_keys_grow_and_know_their_owners() -> None:
    seen = SeenKeys()
    assert all(seen.belongs(str(number), f"owner {number % 3}") for number in range(20_000))
    assert all(seen.belongs(str(number), f"owner {number % 3}") for number in range(20_000))
    assert not any(seen.belongs(str(number), "another") for number in range(20_000))


def test_growing_records_come_back_in_order() -> None:
    rows: RecordColumns[CaptionAnnotation] = RecordColumns("captions")
    wanted = [caption(number) for number in range(9_000)]
    for each in wanted:
        rows.append(each)
    assert len(rows) == 9_000
    assert isinstance(rows.records(), Selection)
    assert rows.records() == wanted
    assert np.array_equal(coded(rows.records(), "source").codes[:4], [0, 1, 0, 1])
