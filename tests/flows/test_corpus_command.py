"""The table of corpora: counts by source, and every failure to join with its reason."""

import json
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from flows.commands.corpus import corpus_table
from flows.corpus_table import REASONS, CorpusCounts, CorpusTable
from flows.errors import ConfigError, FlowError
from storage.records import CaptionAnnotation, Quarantined
from tests.command_line import oscar
from tests.locations import data_dir


def write_run(folder: Path, sources: str, *, photos: tuple[str, ...]) -> Path:
    for name in photos:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\xff\xd8\xff")
    path = folder / "config.yaml"
    path.write_text(
        f"""
data:
  root: {folder}
  images: [{{path: coco, namespace: coco}}, {{path: vg, namespace: visual_genome}}]
  sources:
{sources}
train_detector: {{preset: lite0}}
"""
    )
    return path


def test_photos_and_texts_of_each_source_and_what_did_not_join(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("25\t一只狗\n26\t一只猫\n25\t两只狗\nrow\n")
    path = write_run(
        tmp_path,
        "  - {reader: translated_texts, path: t.tsv, source: mine, split: train}",
        photos=("coco/000000000025.jpg", "coco/000000000027.jpg", "vg/1.jpg"),
    )
    table = corpus_table(str(path))
    (row,) = table.rows
    assert (row.source, row.language, row.num_images, row.num_texts) == ("mine", "zh", 1, 2)
    assert [(each.reason, each.num, each.first_ids) for each in table.failures] == [
        ("bad-row", 1, ("t.tsv",)),
        ("no-such-image", 1, ("coco/000000000026",)),
    ]
    assert all(each.explanation in REASONS.values() for each in table.failures)
    assert [(each.namespace, each.num_photos, each.num_spoken_of) for each in table.photos] == [
        ("coco", 2, 1),
        ("visual_genome", 1, 0),
    ]


def test_photos_without_a_text_are_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("25\t一只狗\n27\t \n")
    boxes = {
        "images": [{"id": 28, "file_name": "000000000028.jpg", "height": 9, "width": 9}],
        "annotations": [{"id": 1, "image_id": 28, "category_id": 1, "bbox": [1, 1, 3, 3]}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    path = write_run(
        tmp_path,
        "  - {reader: translated_texts, path: t.tsv, source: mine, split: train}\n"
        "  - {reader: coco_instances, path: boxes.json, namespace: coco, split: train}",
        photos=(*(f"coco/0000000000{number}.jpg" for number in (25, 27, 28)), "vg/1.jpg"),
    )
    table = corpus_table(str(path))
    assert [
        (each.reason, each.num, each.first_ids) for row in table.photos for each in row.silent
    ] == [
        ("what was said about it was set aside, see above", 1, ("coco/000000000027",)),
        ("only boxes, no text", 1, ("coco/000000000028",)),
        ("no source names it", 1, ("visual_genome/1",)),
    ]
    content = json.loads(json.dumps(table.as_json()))
    assert CorpusTable.from_json(content) == table
    for row in content["photos"]:
        del row["silent"]  # as an earlier version wrote it
    assert [row.num_photos for row in CorpusTable.from_json(content).photos] == [3, 1]
    shown = Console(width=150, record=True, file=StringIO())
    shown.print(table.tables()[-1])
    last = shown.export_text().splitlines()[-1]
    assert last.split() == ["visual_genome", "1", "no", "source", "names", "it", "visual_genome/1"]


def test_questions_of_visual_genome_join_photos_of_coco(tmp_path: Path) -> None:
    asked = [
        {"id": n, "qas": [{"qa_id": n, "image_id": n, "question": "What?", "answer": "A dog."}]}
        for n in (1, 2, 3)
    ]
    images = [
        {"image_id": 1, "coco_id": 25},
        {"image_id": 2, "coco_id": 99},
        {"image_id": 3, "coco_id": None},
    ]
    (tmp_path / "qa.json").write_text(json.dumps(asked))
    (tmp_path / "images.json").write_text(json.dumps(images))
    path = write_run(
        tmp_path,
        "  - {reader: vg_qa, path: qa.json, image_data: images.json, split: train}",
        photos=("coco/000000000025.jpg", "vg/1.jpg", "vg/2.jpg"),
    )
    table = corpus_table(str(path))
    (row,) = table.rows
    assert (row.num_images, row.num_texts) == (2, 2)
    assert [(each.namespace, each.num_spoken_of) for each in table.photos] == [
        ("coco", 1),
        ("visual_genome", 1),
    ]
    (failure,) = table.failures
    assert failure.first_ids == ("visual_genome/3",)


def test_a_failure_is_counted_and_its_first_photos_are_named() -> None:
    counts = CorpusCounts()
    for number in range(9):
        entry = Quarantined(image_id=f"p/{number}", reason="no-such-image", detail=f"{number}")
        counts.drop(entry, "reader")
    said = CaptionAnnotation(
        image_id="p/1", caption_id="1", text="x", language="zh", split="train", source="s"
    )
    counts.take(said)
    (failure,) = counts.table().failures
    assert (failure.num, len(failure.first_ids), failure.example) == (9, 5, "0")
    assert counts.table().num_texts == 1


def test_a_run_without_a_table_and_rendered_scenes_are_told(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="no table of its corpora"):
        corpus_table(str(tmp_path))
    with pytest.raises(ConfigError, match="render_scenes"):
        corpus_table("demo.yaml")


def test_the_real_corpora_join_without_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = data_dir("real")
    photos = json.loads((root / "index.json").read_text(encoding="utf-8"))["entries"]
    settings = ("--set", f"data.root={root}")
    done = oscar(capsys, monkeypatch, "corpus", "real_photos.yaml", *settings, "--json")
    assert done.status == 0, done.err
    table = json.loads(done.out)
    assert table["failures"] == []
    found: Counter[str] = Counter()
    for row in table["rows"]:
        found[row["source"]] += row["num_texts"]
    for source, key in (
        ("coco_captions", "captions"),
        ("vqa_v2", "vqa_v2_questions"),
        ("coco_cn", "coco_cn_sentences"),
    ):
        listed = sum(photo.get(key, 0) for photo in photos if photo["dataset"] == "coco")
        assert found[source] == listed, source
    shown = oscar(capsys, monkeypatch, "corpus", "real_photos.yaml", *settings)
    assert "coco_captions" in shown.out
