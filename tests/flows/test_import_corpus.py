"""A published corpus becomes regions, tags and annotations from which the same texts come back."""

from pathlib import Path

import numpy as np
import pytest

from flows.balance import LostRecordsError
from flows.corpus_table import CorpusRow, CorpusTable
from flows.stages.import_corpus import (
    Config,
    Inputs,
    Outputs,
    Summary,
    _Images,
    count,
    row_for_row,
    run,
)
from oscar_core.regions import region_inputs
from oscar_core.views import Views, ViewSettings
from storage.library import Library, open_library
from storage.published.tsv import TsvReader, write_tsv
from storage.published.vinvl_corpus import open_corpus
from storage.quarantine import read_quarantine
from storage.records import INCLUDED
from tests.builders_corpus import features_of, write_corpus, write_features


def imported(tmp_path: Path, **changes: object) -> tuple[Summary, Library]:
    source, place = tmp_path / "source", tmp_path / "step"
    outputs = Outputs(
        regions=place / "regions",
        tags=place / "tags",
        annotations=place / "annotations",
        corpus=place / "corpus.json",
    )
    inputs = Inputs(corpus=source, features=source)
    summary = run(Config(name="corpus.yaml", **changes), inputs, outputs)  # type: ignore[arg-type]  # by keyword
    return summary, open_library(outputs.regions, outputs.tags, outputs.annotations)


def test_a_model_reads_the_published_texts_and_features(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "source")
    summary, library = imported(tmp_path)
    corpus = open_corpus(path, path.parent)
    assert (summary.num_images, summary.num_captions, summary.num_questions) == (3, 3, 1)
    assert (summary.num_in, summary.num_out, summary.num_quarantined) == (7, 7, 0)
    assert library.geometry == INCLUDED
    views = Views(library, ViewSettings())
    captions = {each.text: each for each in library.captions("train", "zh")}
    questions = {each.question: each for each in library.questions("train", "zh")}
    for document in corpus.documents:
        if document.is_question:
            asked = questions[document.first]
            assert asked.answers == (document.second,)
            image_id = asked.image_id
        else:
            image_id = captions[document.first].image_id
            assert views[image_id].tags == document.second
        wanted = corpus.regions(document.image_key)
        assert np.array_equal(views[image_id].regions, wanted)
        assert np.array_equal(region_inputs(library.regions_of(image_id), INCLUDED), wanted)
    assert {each.image_id for each in captions.values()} == {"coco/9", "coco/25", "googlecc/1/7"}


def test_boxes_come_from_the_features(tmp_path: Path) -> None:
    write_corpus(tmp_path / "source")
    _, library = imported(tmp_path)
    expected = features_of(2, 4)[:, -6:-2] * [200, 100, 200, 100]
    assert np.allclose(library.regions_of("coco/25").boxes, expected, atol=1e-3)


def test_an_image_that_cannot_be_read_takes_its_documents_with_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_corpus(source)
    table = source / "features/coco/features.tsv"
    rows = table.read_text().splitlines()
    first = rows[1].split("\t")
    rows[1] = "\t".join([first[0], first[1], first[2][:8] + "!" + first[2][9:]])
    table.write_text("\n".join(rows) + "\n")
    summary, library = imported(tmp_path)
    assert (summary.num_images, summary.num_captions, summary.num_questions) == (2, 2, 0)
    assert summary.num_in == summary.num_out + summary.num_quarantined == 7
    dropped = read_quarantine(tmp_path / "step/quarantine.jsonl")
    assert [each.reason for each in dropped] == [
        "damaged-features",
        "no-such-image",
        "no-such-image",
    ]
    assert "coco/9" not in library.regions


def test_an_image_without_regions_stays_in_the_count(tmp_path: Path) -> None:
    write_corpus(tmp_path / "source", num_regions=0)
    summary, library = imported(tmp_path)
    assert summary.num_images == 3
    assert library.regions_of("googlecc/1/7").features.shape == (0, 8)
    views = Views(library, ViewSettings())
    assert views["googlecc/1/7"].regions.shape == (0, 8)
    assert views["googlecc/1/7"].tags == views.tags("googlecc/1/7") == "床"


def test_a_region_of_several_names_is_no_class_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_corpus(source)
    features = {"25": features_of(2, 2), "9": features_of(1, 2)}  # 25 has three names
    write_features(source / "features/coco", features)
    _, library = imported(tmp_path)
    horses, cat = library.regions_of("coco/25"), library.regions_of("coco/9")
    assert horses.class_names == ("马", "马 草地")
    assert horses.class_ids.tolist() == [1, 1]
    assert (cat.class_names, cat.class_ids.tolist()) == (("黑猫", ""), [2, 0])


def test_more_names_than_class_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.stages.import_corpus._MOST_CLASSES", 2)
    write_corpus(tmp_path / "source")
    _, library = imported(tmp_path)
    assert library.regions_of("coco/25").class_ids.tolist() == [1, 1, 2, 0]
    assert library.regions_of("coco/9").class_ids.tolist() == [0, 0]
    assert library.regions_of("coco/9").class_names == ("黑猫", "")


def test_an_image_that_is_neither_written_nor_set_aside_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path / "source")
    whole = _Images.tags
    monkeypatch.setattr(_Images, "tags", lambda images: list(whole(images))[1:])
    with pytest.raises(LostRecordsError, match="import_corpus: 7 read, 6 written and 0 set"):
        imported(tmp_path)


def test_counting_reads_no_features(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_corpus(source)
    for path in (source / "features").rglob("features.tsv"):
        write_tsv(path, [(fields[0], "1", "!") for fields in TsvReader(path)])
    table = count(Config(name="corpus.yaml"), source, source)
    assert table.rows == (
        CorpusRow(
            source="coco", kind="captions", language="zh", split="train", num_images=2, num_texts=2
        ),
        CorpusRow(
            source="coco_qa",
            kind="questions",
            language="zh",
            split="train",
            num_images=1,
            num_texts=1,
        ),
        CorpusRow(
            source="googlecc",
            kind="captions",
            language="zh",
            split="train",
            num_images=1,
            num_texts=1,
        ),
    )
    assert CorpusTable.from_json(table.as_json()) == table


def test_names_for_so_many_rows() -> None:
    assert row_for_row(("a", "b"), 3) == ("a", "b", "")
    assert row_for_row(("a", "b", "c"), 2) == ("a", "b c")
    assert row_for_row(("a",), 0) == ()
    assert row_for_row((), 2) == ("", "")
