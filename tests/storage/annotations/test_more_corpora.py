"""Corpora of which the real data has no file: a few rows in each published layout."""

import json
from pathlib import Path

from storage.annotations import (
    flickr30k_cn,
    flickr_karpathy,
    gqa,
    translated_texts,
    vg_qa,
    vinvl_texts,
)
from storage.published.tsv import write_tsv


def test_flickr30k_cn_words_are_joined_again(tmp_path: Path) -> None:
    path = tmp_path / "seg.flickr30kzhbbosontrain.caption.txt"
    path.write_text(
        "1000092795#zhb#0 两 个 男人  他们 看着 手\n"
        "1000092795#zhm#1 一个:m 男人:n 在:p 跑:v\n"
        "36979#zhb#0\n"
    )
    lists = {"train": tmp_path / "train.txt"}
    lists["train"].write_text("1000092795\n36979\n")
    found = flickr30k_cn.read(path, split_lists=lists)
    assert [(each.image_id, each.text, each.split) for each in found.captions] == [
        ("flickr30k/1000092795", "两个男人，他们看着手", "train"),
        ("flickr30k/1000092795", "一个男人在跑", "train"),
    ]
    assert [each.reason for each in found.quarantined] == ["empty-text"]


def test_karpathy_of_coco_joins_photos_of_2014(tmp_path: Path) -> None:
    path = tmp_path / "dataset_coco.json"
    row = {
        "filename": "COCO_val2014_000000000025.jpg",
        "split": "restval",
        "sentences": [{"raw": "a dog", "sentid": 1}],
    }
    path.write_text(json.dumps({"images": [row]}))
    (caption,) = flickr_karpathy.read(path, namespace="coco").captions
    assert (caption.image_id, caption.split) == ("coco/000000000025", "train")


def test_all_questions_of_gqa_lie_in_a_folder(tmp_path: Path) -> None:
    for number in (0, 2, 10):
        question = {"question": f"q{number}?", "imageId": str(number), "answer": "yes"}
        path = tmp_path / f"train_all_questions_{number}.json"
        path.write_text(json.dumps({f"0{number}": question}))
    found = gqa.read(tmp_path)
    assert [each.question for each in found.questions] == ["q0?", "q2?", "q10?"]
    assert found.other_ids["gqa/10"] == ("visual_genome/10",)


def test_visual_genome_names_the_other_places_of_a_photo(tmp_path: Path) -> None:
    asked = [{"id": 1, "qas": [{"qa_id": 5, "image_id": 1, "question": "q?", "answer": "a"}]}]
    (tmp_path / "qa.json").write_text(json.dumps(asked))
    (tmp_path / "images.json").write_text(json.dumps([{"image_id": 1, "coco_id": 25}]))
    found = vg_qa.read(tmp_path / "qa.json", image_data=tmp_path / "images.json")
    assert found.questions[0].image_id == "coco/000000000025"
    assert found.other_ids == {"coco/000000000025": ("visual_genome/1", "gqa/1")}
    plain = vg_qa.read(tmp_path / "qa.json")
    assert plain.questions[0].image_id == "visual_genome/1"


def test_texts_of_vinvl_without_its_features(tmp_path: Path) -> None:
    rows = [
        ("cc_0_111", "cc_0_111", "a bed"),
        ("coco_9", "coco_qa_9_9001", "what colour?"),
        ("coco_9", "coco_qa_9_1", "who?"),
        ("oi_1_5", "oi_1_6", "x"),
        ("sbu", "sbu", "x"),
        ("gqa_n1", "gqa_n1", "left out"),
    ]
    write_tsv(tmp_path / "c.tsv", rows)
    write_tsv(tmp_path / "QA_fileB.tsv", [("9001", '{"labels": ["red", "blue"]}')])
    found = vinvl_texts.read(
        tmp_path / "c.tsv",
        answers={"coco": tmp_path / "QA_fileB.tsv"},
        datasets="googlecc_coco_oi_sbu",
    )
    (caption,) = found.captions
    (question,) = found.questions
    assert (caption.image_id, caption.source) == ("googlecc/0/111", "googlecc")
    assert (question.image_id, question.source) == ("coco/000000000009", "coco_qa")
    assert question.answers == ("red blue",)
    reasons = [each.reason for each in found.quarantined]
    assert reasons == ["no-answers", "other-image", "bad-row"]


def test_translated_texts_as_a_table_and_as_json_lines(tmp_path: Path) -> None:
    table, lines = tmp_path / "t.tsv", tmp_path / "t.jsonl"
    table.write_text("25\t一只狗\n26.jpg\t几只狗?\t两只\nx\n")
    rows = [
        {"image_id": 25, "caption": "一只狗", "id": "c1", "split": "val"},
        {"image_id": "COCO_train2014_000000000026", "question": "几只?", "answers": ["两只", "二"]},
        {"image_id": 27},
    ]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path, answers in ((table, ("两只",)), (lines, ("两只", "二"))):
        found = translated_texts.read(path, source="vqa_zh", split="train")
        (caption,), (question,) = found.captions, found.questions
        assert caption.image_id == "coco/000000000025"
        assert question.answers == answers
        assert (question.source, question.language) == ("vqa_zh", "zh")
        assert [each.reason for each in found.quarantined] == ["bad-row"]
    assert translated_texts.read(lines).captions[0].split == "val"
