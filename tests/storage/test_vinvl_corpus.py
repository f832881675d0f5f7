"""A published corpus: its documents, and one clear line for whatever is wrong with its files."""

import json
from pathlib import Path

import numpy as np
import pytest

from storage.errors import AnnotationError, DamagedFileError, MissingFileError
from storage.published.vinvl_corpus import open_corpus
from storage.published.vinvl_names import parse_image_key, parse_label_key
from storage.published.vinvl_regions import FeatureTable, decode_features
from tests.builders_corpus import CORPUS, features_of, write_corpus, write_features


def test_documents_have_tags_or_answers(tmp_path: Path) -> None:
    corpus = open_corpus(write_corpus(tmp_path), tmp_path)
    found = [(each.image_key, each.first, each.second) for each in corpus.documents]
    assert found == [
        ("coco_9", CORPUS[0][2], "黑猫"),
        ("coco_9", CORPUS[1][2], "黑 色"),
        ("coco_25", CORPUS[2][2], "马 马 草地"),
        ("cc_1_7", CORPUS[3][2], "床"),
    ]
    assert corpus.question_rows.tolist() == [1]
    assert corpus.image_numbers.tolist() == [0, 0, 1, 2]
    assert list(corpus.image_keys) == ["coco_9", "coco_25", "cc_1_7"]
    assert (corpus.documents[0].height, corpus.documents[0].width) == (100, 200)
    assert np.array_equal(corpus.regions("coco_25"), features_of(2, 4))
    with pytest.raises(KeyError):
        corpus.regions("coco_1")
    with pytest.raises(IndexError):
        corpus.documents[4]


def test_detected_labels_instead_of_annotated_ones(tmp_path: Path) -> None:
    corpus = open_corpus(write_corpus(tmp_path), tmp_path, use_gt_labels=False)
    assert corpus.documents[0].second == "猫 木椅"


def test_captions_without_tags_keep_the_answers_of_questions(tmp_path: Path) -> None:
    corpus = open_corpus(write_corpus(tmp_path), tmp_path, has_tags=False)
    assert [each.second for each in corpus.documents] == ["", "黑 色", "", ""]


@pytest.mark.parametrize(("chunks", "num"), [((0, 1), 3), ((1, 2), 4), ((0, 2), 4), ((2, 9), 3)])
def test_rows_of_other_chunks_are_left_out(
    tmp_path: Path, chunks: tuple[int, int], num: int
) -> None:
    corpus = open_corpus(write_corpus(tmp_path), tmp_path, chunks=chunks)
    assert len(corpus.documents) == num


def test_rows_of_other_data_sets_are_left_out(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    path.write_text(path.read_text().replace("coco_googlecc", "coco"))
    assert len(open_corpus(path, tmp_path).documents) == 3


def test_columns_are_stripped_and_a_carriage_return_breaks_no_row(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    (tmp_path / "corpus.tsv").write_bytes("coco_9 \tcoco_9\t  一\r只 \n".encode())
    (tmp_path / "corpus.lineidx").write_text("0\n")
    assert [each.first for each in open_corpus(path, tmp_path).documents] == ["一\r只"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("coco_9", "coco_9", ""), "row 0: needs image key, label key and a text"),
        (("coco", "coco_9", "x"), "image key 'coco' has too few pieces"),
        (("cc_7", "cc_7", "x"), "image key 'cc_7' has too few pieces"),
        (("coco_9", "coco_25", "x"), "label key 'coco_25' is about another image"),
        (("coco_8", "coco_8", "x"), "image '8' has no labels"),
        (("cc_1_8", "cc_1_8", "x"), "image '8' has no labels"),
        (("coco_9", "coco_qa_9_1", "x"), "question '1' is not in the list of answers"),
    ],
)
def test_a_row_that_does_not_fit_is_named(
    tmp_path: Path, row: tuple[str, str, str], message: str
) -> None:
    with pytest.raises(AnnotationError, match=message) as caught:
        open_corpus(write_corpus(tmp_path, rows=[row]), tmp_path)
    assert "corpus.tsv" in str(caught.value)


def test_an_image_without_features_is_named(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    write_features(tmp_path / "features/coco", {"25": features_of(2, 4)})
    with pytest.raises(AnnotationError, match="image '9' has no features"):
        open_corpus(path, tmp_path)
    (tmp_path / "features/googlecc/1").rename(tmp_path / "features/googlecc/2")
    write_features(tmp_path / "features/coco", {"25": features_of(2, 4), "9": features_of(1, 2)})
    with pytest.raises(MissingFileError, match=r"googlecc/1: no such folder .*row 3"):
        open_corpus(path, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corpus: coco_flickr9k", "data set 'flickr9k' is not one of"),
        ("corpus: [", "not YAML"),
        ("- a", "must be a mapping"),
        ("corpus: coco", "needs a key 'corpus_file'"),
        (
            "corpus: coco\ncorpus_file: corpus.tsv\nimage_label_path: {gqa: x}",
            "image_label_path: no folder for data set 'coco'",
        ),
        ("corpus: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_a_yaml_that_does_not_fit_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write_corpus(tmp_path)
    path.write_text(text)
    with pytest.raises(AnnotationError, match=message) as caught:
        open_corpus(path, tmp_path)
    assert "corpus.yaml" in str(caught.value)


def test_an_image_of_no_class_names_is_told_when_it_is_asked_for(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    place = tmp_path / "labels/googlecc/predictions_gt.tsv"
    place.write_text('7\t{"image_h": 1, "image_w": 2, "objects": []}\n')
    with pytest.raises(AnnotationError, match="'cc_1_7': no class name"):
        open_corpus(path, tmp_path).documents[3]


def test_row_numbers_of_another_table_are_refused(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    numbers = tmp_path / "features/coco/imageid2idx.json"
    numbers.write_text(json.dumps({"9": 0, "25": 1}))
    corpus = open_corpus(path, tmp_path)
    with pytest.raises(DamagedFileError, match="row 0 is of '25'"):
        corpus.regions("coco_9")
    numbers.write_text(json.dumps({"9": 0, "25": 2}))
    with pytest.raises(DamagedFileError, match="names row 2"):
        open_corpus(path, tmp_path)
    numbers.unlink()
    assert np.array_equal(open_corpus(path, tmp_path).regions("coco_9"), features_of(1, 2))


GOOD = "AACAPwAAAEA="  # 1.0, 2.0


@pytest.mark.parametrize(
    ("text", "num", "message"),
    [
        ("AACAPw==", 2, "4 bytes are not float32 features of 2 boxes"),
        (GOOD, 0, "8 bytes are not float32 features of 0 boxes"),
        ("", 1, "0 bytes"),
        ("****", 1, "not base64"),
        ("AADAfw==", 1, "NaN or infinity"),
        (GOOD, "x", "number of boxes"),
        (GOOD, -1, "number of boxes"),
        (GOOD, True, "number of boxes"),
        (None, 1, "number of boxes"),
    ],
)
def test_features_that_cannot_be_are_refused(text: object, num: object, message: str) -> None:
    with pytest.raises(
        DamagedFileError, match=f"f.tsv: row 1: .*{message}|f.tsv: row 1.*{message}"
    ):
        decode_features(text, num, "f.tsv: row 1")


def test_features_in_both_layouts(tmp_path: Path) -> None:
    assert decode_features(GOOD, "1", "x").tolist() == [[1.0, 2.0]]
    assert decode_features("", 0, "x").shape == (0, 0)
    row = json.dumps({"num_boxes": 2, "features": GOOD})
    (tmp_path / "features.tsv").write_text(f"a\t{row}\nb\t1\t{GOOD}\n")
    table = FeatureTable(tmp_path)
    assert table.numbers() == {"a": 0, "b": 1}
    assert table.read(0, "a").tolist() == [[1.0], [2.0]]
    assert table.read(1, "b").tolist() == [[1.0, 2.0]]


def test_keys_are_taken_apart() -> None:
    image = parse_image_key("cc_3_44")
    assert image is not None
    assert image.image_id == "googlecc/3/44"
    label = parse_label_key("gqa_qa_n16_00009")
    assert label is not None
    assert (label.dataset, label.image, label.question) == ("gqa", "n16", "00009")
    assert parse_image_key("coco_") is None
    assert parse_label_key("coco_qa_9") is None
