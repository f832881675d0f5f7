"""Every metric case against the outputs of the original scorers.

A file of `metrics/` is known by the first part of its `schema`; cases come from the file itself.
Tolerances as its README says: 1e-9 for caption scores and AP (summation order), 1e-12 for answers
and ranks, texts exactly.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.metrics import (
    COCO_STATISTICS,
    FoundBoxes,
    TrueBoxes,
    coco_detection_scores,
    visual_genome_scores,
)
from oscar_core.metrics import answers, chinese, gqa, nlvr2, retrieval
from oscar_core.metrics.caption import CaptionScores, evaluate_captions, tokenize
from oscar_core.metrics.cider_d import (
    DocumentFrequencies,
    cider_d,
    read_frequencies,
    self_critical_rewards,
    wrap_sentence,
)
from oscar_core.metrics.coco_files import evaluate_aic, evaluate_coco_captions
from oscar_core.metrics.compat import MetricCompat
from oscar_core.metrics.errors import MetricError
from oscar_core.metrics.meteor import Meteor, corpus_score, segment_score
from oscar_core.metrics.ptb import ptb_lines, ptb_tokenize
from tests.locations import oracle_dir, oracle_files

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(600)]

SCORE = {"abs": 1e-9, "rel": 0}
EXACT = {"abs": 1e-12, "rel": 0}
FLOAT32 = {"abs": 2e-6, "rel": 0}  # losses of a float32 original
AS_THE_SERVER = MetricCompat(pipes_split_references=True)  # recorded without cleaning references
NAMES = {"ROUGE_L": "rouge_l", "CIDEr": "cider", "METEOR": "meteor"} | {
    f"Bleu_{n}": f"bleu_{n}" for n in range(1, 5)
}
CHECKED = {
    *("captions_en", "captions_coco_files", "captions_pretokenised", "ptb_tokenizer"),
    *("captions_zh_aic", "jieba_cut", "meteor", "cider_d", "vqa", "gqa", "nlvr2"),
    *("retrieval", "detection"),
}


@cache
def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def files(folder: str = "metrics", pattern: str = "*.json") -> list[Path]:
    return [path for path in oracle_files(folder, pattern) if isinstance(load(path), dict)]


def tables(kind: str) -> Iterator[tuple[str, Any]]:
    """Name and content of the files of one kind, by schema (metrics) or by name (tasks)."""
    for path in files():
        if load(path)["schema"].split("/")[0] == kind:
            yield path.stem, load(path)


def cases(kind: str, key: str = "cases") -> list[Any]:
    """Parameters (whole table, case), or one that skips with its reason."""
    found = [
        pytest.param(table, case, id=f"{name}-{number}-{label(case)}")
        for name, table in tables(kind)
        for number, case in enumerate(table[key])
    ]
    return found or [pytest.param(None, None, marks=pytest.mark.skip(f"no {kind} cases here"))]


def whole(kind: str) -> list[Any]:
    found = [pytest.param(table, id=name) for name, table in tables(kind)]
    return found or [pytest.param(None, marks=pytest.mark.skip(f"no {kind} file here"))]


def task_table(stem: str) -> list[Any]:
    paths = [path for path in oracle_files("tasks/metrics", "*.json") if path.stem == stem]
    reason = f"no tasks/metrics/{stem}.json here"
    return [pytest.param(load(path), id=stem) for path in paths] or [
        pytest.param(None, marks=pytest.mark.skip(reason))
    ]


def label(case: Any) -> str:
    return str(case.get("name", case.get("baseline", ""))) if isinstance(case, dict) else ""


@pytest.fixture(scope="module")
def meteor() -> Iterator[Meteor]:
    with Meteor() as process:
        process.start()
        yield process


def test_every_file_has_a_check() -> None:
    if not oracle_dir("metrics").is_dir():
        pytest.skip("no recorded metrics here")
    kinds = {load(path)["schema"].split("/")[0] for path in files()}
    assert kinds <= CHECKED


def assert_scores(scores: CaptionScores, corpus: Any, per_image: Any = None) -> None:
    for name, value in corpus.items():
        assert scores.corpus[NAMES[name]] == pytest.approx(value, **SCORE), name
    for name, values in (per_image or {}).items():
        if name in NAMES:
            ours = list(scores.per_image[NAMES[name]].values())
            assert ours == pytest.approx(values, **SCORE), name


def metrics_of(corpus: Any) -> list[str]:
    return sorted({NAMES[name].removesuffix(f"_{name[-1]}") for name in corpus})


def fields(line: str) -> list[float]:
    return [float(field) for field in line.split()]


@pytest.mark.parametrize(("table", "case"), cases("captions_en"))
def test_english_captions(table: Any, case: Any, meteor: Meteor) -> None:
    images = case["images"]
    raw = [text for image in images for text in image["refs_raw"]]
    assert ptb_tokenize(raw) == [text for image in images for text in image["refs_tok"]]
    candidates = [image["cand_raw"] for image in images]
    assert ptb_tokenize(candidates) == [image["cand_tok"] for image in images]
    scores = evaluate_captions(
        {str(image["id"]): image["refs_raw"] for image in images},
        {str(image["id"]): image["cand_raw"] for image in images},
        "ptb",
        metrics_of(case["corpus"]),
        meteor=meteor,
    )
    assert_scores(scores, case["corpus"], case["per_image"])
    for image, line in zip(images, case["per_image"].get("METEOR_stats", []), strict=False):
        row = meteor.statistics(image["refs_tok"], image["cand_tok"])
        assert row.tolist() == fields(line)


@pytest.mark.parametrize(("table", "case"), cases("captions_coco_files"))
def test_coco_caption_files(table: Any, case: Any, meteor: Meteor) -> None:
    predictions = case["predictions"]
    if isinstance(predictions, str):  # the name of the case whose predictions are meant
        predictions = next(c for c in table["cases"] if c["name"] == predictions)["predictions"]
    references, image_ids = table["annotations"], case["image_ids"]
    if "error" in case["result"]:
        with pytest.raises(MetricError):
            evaluate_coco_captions(references, predictions, image_ids=image_ids, meteor=meteor)
        return
    scores = evaluate_coco_captions(references, predictions, image_ids=image_ids, meteor=meteor)
    order = [str(image) for image in case["result"]["image_order"]]
    assert list(scores.per_image["cider"]) == order
    assert_scores(scores, case["result"]["corpus"], case["result"]["per_image"])


@pytest.mark.parametrize(("table", "case"), cases("captions_pretokenised"))
def test_captions_given_as_tokens(table: Any, case: Any, meteor: Meteor) -> None:
    candidates = {image: texts[0] for image, texts in case["cand"].items()}
    scores = evaluate_captions(
        case["refs"],
        candidates,
        "none",
        metrics_of(case["corpus"]),
        meteor=meteor,
        compat=AS_THE_SERVER,
    )
    assert_scores(scores, case["corpus"], case["per_image"])
    for image, line in zip(case["refs"], case["per_image"].get("METEOR_stats", []), strict=False):
        row = meteor.statistics(case["refs"][image], candidates[image], compat=AS_THE_SERVER)
        assert row.tolist() == fields(line)


@pytest.mark.parametrize("table", whole("ptb_tokenizer"))
def test_ptb_tokens(table: Any) -> None:
    texts = [case["text"] for case in table["cases"]]
    assert [line.strip() for line in ptb_lines(texts)] == [
        case["raw_line"].strip() for case in table["cases"]
    ]
    assert ptb_tokenize(texts) == [case["tokens"] for case in table["cases"]]


@pytest.mark.parametrize(("table", "case"), cases("ptb_tokenizer", "line_break_traps"))
def test_ptb_keeps_captions_with_line_breaks_apart(table: Any, case: Any) -> None:
    expected = [" ".join(caption.split()) for caption in case["caption_list"]]
    assert ptb_tokenize(case["caption_list"]) == expected


@pytest.mark.parametrize(("table", "case"), cases("captions_zh_aic"))
def test_aic_captions(table: Any, case: Any, meteor: Meteor) -> None:
    annotations, submission = case["annotations_file"], case["submission"]
    if case["error"]:
        with pytest.raises(MetricError):
            evaluate_aic(annotations, submission, meteor=meteor)
        return
    references = chinese.read_annotation_list(annotations)
    candidates = chinese.read_submission(submission)
    assert list(references) == case["image_order"]
    assert {stem: str(chinese.reference_id(stem)) for stem in references} == case["hash_ids"]
    segmented = {s: [chinese.segment(t) for t in texts] for s, texts in references.items()}
    assert segmented == case["refs_jieba"]
    assert {s: chinese.segment(t) for s, t in candidates.items()} == case["cand_jieba"]
    flat = [text for texts in references.values() for text in texts]
    assert tokenize(flat, "jieba+ptb") == [t for s in references for t in case["refs_tok"][s]]
    assert tokenize([candidates[s] for s in references], "jieba+ptb") == [
        text if isinstance(text, str) else text[0]
        for text in (case["cand_tok"][s] for s in references)
    ]
    scores = evaluate_aic(annotations, submission, meteor=meteor)
    assert_scores(scores, case["corpus"], case["per_image"])
    for variant, tokenizer in (
        ("variant_char_level", "char"),
        ("variant_jieba_without_ptb", "jieba"),
    ):
        if variant in case:
            other = evaluate_aic(annotations, submission, tokenizer=tokenizer, meteor=meteor)
            assert_scores(other, case[variant])


@pytest.mark.parametrize("table", whole("jieba_cut"))
def test_jieba_words(table: Any) -> None:
    for case in table["cases"]:
        assert chinese.cut(case["text"]) == case["cut"]
        assert chinese.cut(case["text"], use_hmm=False) == case["cut_no_hmm"]


@pytest.mark.parametrize("table", whole("meteor"))
def test_meteor_statistics_and_scores(table: Any, meteor: Meteor) -> None:
    rows = [meteor.statistics(case["refs"], case["hyp"]) for case in table["cases"]]
    assert [row.tolist() for row in rows] == [fields(case["stats"]) for case in table["cases"]]
    ours = [segment_score(row) for row in rows]
    assert ours == pytest.approx([case["score"] for case in table["cases"]], **SCORE)
    assert ours == pytest.approx(table["corpus"]["per_line"], **SCORE)
    assert corpus_score(np.array(rows)) == pytest.approx(table["corpus"]["aggregate"], **SCORE)


def frequencies_of(table: Any, ref_len: float) -> DocumentFrequencies:
    counts = {tuple(words.split(" ")): n for words, n in table["document_frequency"]}
    return DocumentFrequencies(counts=counts, num_images=ref_len)


@pytest.mark.parametrize(("table", "case"), cases("cider_d"))
def test_cider_d(table: Any, case: Any) -> None:
    is_given = case["df_mode"] == "given"
    frequencies = frequencies_of(table, case["ref_len"]) if is_given else None
    sentences = [caption for _, caption in case["cands"]]
    references = [case["refs"][image] for image, _ in case["cands"]]
    scores = cider_d(sentences, references, frequencies)
    assert scores.tolist() == pytest.approx(case["result"]["scores"], **SCORE)
    assert scores.mean() == pytest.approx(case["result"]["score"], **SCORE)
    if "plain_cider_scores" in case["result"]:
        plain = cider_d(sentences, references, frequencies, classic=True)
        assert plain.tolist() == pytest.approx(case["result"]["plain_cider_scores"], **SCORE)
        assert plain.mean() == pytest.approx(case["result"]["plain_cider_score"], **SCORE)


@pytest.mark.parametrize(("table", "case"), cases("cider_d", "scst"))
def test_self_critical_reward(table: Any, case: Any) -> None:
    found = self_critical_rewards(
        case["sample"],
        case["gt"],
        frequencies_of(table, table["ref_len"]),
        greedy=case["greedy"] if case["baseline"] == "greedy" else None,
    )
    assert found.mean_score == pytest.approx(case["mean_score"], **SCORE)
    loss = float(np.mean(-np.array(case["sample_logprobs"]) * found.rewards))
    assert loss == pytest.approx(case["loss"], **FLOAT32)


def task_reward_cases() -> list[Any]:
    path = oracle_dir("tasks", "caption", "scst.json")
    found = load(path)["cases"] if path.is_file() else []
    return [pytest.param(case, id=case["name"]) for case in found] or [
        pytest.param(None, marks=pytest.mark.skip("no tasks/caption/scst.json here"))
    ]


@pytest.mark.parametrize("case", task_reward_cases())
def test_rewards_of_the_captioning_task(case: Any) -> None:
    frequencies = read_frequencies(oracle_dir("tasks", "data", "caption", "train_words_df.json"))
    if "sample" in case:
        found = self_critical_rewards(
            case["sample"], case["gt"], frequencies, greedy=case["greedy"]
        )
        expected = case["scores"][: len(case["sample"])]
        assert found.scores.tolist() == pytest.approx(expected, **SCORE)
        assert found.mean_score == pytest.approx(case["score_reported"], **SCORE)
        return
    sentences = [wrap_sentence(text) for text in case["gen"]]
    assert sentences == case.get("wrapped", sentences)
    references = [[wrap_sentence(text) for text in case["gt"][i]] for i in case["gt_idx"]]
    table = None if "wrapped" not in case else frequencies
    assert cider_d(sentences, references, table).tolist() == pytest.approx(case["scores"], **SCORE)


@pytest.mark.parametrize("table", whole("vqa"))
def test_vqa_normalisation(table: Any) -> None:
    for case in table["normalisation"]:
        stripped = answers.strip_answer(case["raw"])
        assert stripped == case["stripped"]
        assert answers.normalise_punctuation(stripped) == case["punct"]
        assert answers.normalise_answer(case["raw"]) == case["full"]
        assert answers.normalise_words(stripped) == case["digit_article_only"]
        assert answers.vocabulary_form(case["raw"]) == case["softscore_preprocess"]


def assert_official(scores: answers.AnswerScores, accuracy: Any) -> None:
    assert scores.overall_percent == pytest.approx(accuracy["overall"], **EXACT)
    assert scores.percent_by_question_type == pytest.approx(accuracy["perQuestionType"], **EXACT)
    assert scores.percent_by_answer_type == pytest.approx(accuracy["perAnswerType"], **EXACT)


@pytest.mark.parametrize("table", whole("vqa"))
def test_vqa_accuracy(table: Any) -> None:
    scores = answers.vqa_accuracy(
        answers.read_vqa_annotations(table["annotations"]),
        answers.read_vqa_results(table["predictions"]),
    )
    assert_official(scores, table["accuracy_n2"])
    for key, value in table["per_question_n2"]:
        assert round(100 * scores.per_question[str(key)], 2) == pytest.approx(value, **EXACT)
    for key, value in table["per_question_percent"]:
        assert 100 * scores.per_question[str(key)] == pytest.approx(value, **EXACT)


@pytest.mark.parametrize("table", whole("vqa"))
def test_vqa_without_answer_ids_and_soft_scores(table: Any) -> None:
    original = MetricCompat(equal_answers_vanish=True)
    for case in table["answers_without_ids"]:
        ours = answers.answer_accuracy(case["answers"], case["pred"], compat=original)
        assert ours == pytest.approx(case["acc"], **EXACT)
    for count, score in table["soft_score"].items():
        assert answers.soft_score(int(count)) == score
    for case in table["soft_targets"]:
        assert answers.soft_targets(case["answers"]) == case["scores"]


@pytest.mark.parametrize("table", task_table("vqa"))
def test_vqa_of_the_tasks(table: Any) -> None:
    scores = answers.vqa_accuracy(
        answers.read_vqa_annotations(table["annotations"]),
        answers.read_vqa_results(table["results"]),
    )
    assert_official(scores, table["accuracy"])
    for key, value in table["per_question"]:
        assert round(100 * scores.per_question[str(key)], 2) == pytest.approx(value, **EXACT)
    for raw, punctuation, full in table["normalisation"]:
        assert answers.normalise_punctuation(answers.strip_answer(raw)) == punctuation
        assert answers.normalise_answer(raw) == full


def attention_of(maps: Any, scenes: Any) -> gqa.Attention:
    return gqa.Attention(scenes=scenes, maps={row["questionId"]: row["attention"] for row in maps})


def assert_gqa(scores: gqa.GqaScores, metrics: Any, detailed: Any) -> None:
    for name, value in metrics.items():
        ours = scores.metrics.get(name, 0.0)  # the original prints 0 for what was not asked for
        factor = 1 if name == "distribution" else 100
        assert factor * ours == pytest.approx(value, **EXACT), name
    for kind, table in (
        ("accuracyPerStructuralType", scores.by_structural_type),
        ("accuracyPerSemanticType", scores.by_semantic_type),
        ("accuracyPerSteps", scores.by_num_steps),
        ("accuracyPerLength", scores.by_num_words),
    ):
        assert {str(name) for name in table} == set(detailed[kind])
        for name, (share, count) in table.items():
            assert [100 * share, count] == pytest.approx(detailed[kind][str(name)], **EXACT)


@pytest.mark.parametrize(("table", "case"), cases("gqa"))
def test_gqa(table: Any, case: Any) -> None:
    data = table["datasets"][case["dataset"]]
    flags = case["flags"]
    arguments: dict[str, Any] = {
        "with_consistency": "--consistency" in flags,
        "attention": attention_of(case["attentions"], case["scenes"])
        if "--grounding" in flags
        else None,
    }
    predictions = gqa.read_predictions(case["predictions"])
    if "error" in case["result"]:
        with pytest.raises(MetricError):
            gqa.gqa_scores(data["questions"], predictions, data["choices"], **arguments)
        return
    scores = gqa.gqa_scores(data["questions"], predictions, data["choices"], **arguments)
    assert_gqa(scores, case["result"]["metrics"], case["result"]["detailed"])
    assert gqa.official_lines(scores) == case["result"]["printed"]


@pytest.mark.parametrize("table", task_table("gqa"))
def test_gqa_of_the_tasks(table: Any) -> None:
    result = dict(table["result"])
    detailed = {name: result.pop(name) for name in list(result) if name.startswith("accuracyPer")}
    scores = gqa.gqa_scores(
        table["questions"],
        gqa.read_predictions(table["predictions"]),
        table["choices"],
        with_consistency=True,
        attention=attention_of(table["attentions"], table["scenes"]),
    )
    assert_gqa(scores, result, detailed)


@pytest.mark.parametrize(("table", "case"), cases("nlvr2"))
def test_nlvr2(table: Any, case: Any) -> None:
    labels = {example["identifier"]: example["label"] for example in table["examples"]}
    lines = [f"{identifier},{text}\n" for identifier, text in case["predictions"]]
    expected = dict(line.split("=") for line in case["result"]["stdout"] if line.count("=") == 1)
    if case["result"]["returncode"] != 0 or "accuracy" not in expected:
        with pytest.raises(MetricError):
            nlvr2.nlvr2_scores(labels, nlvr2.read_prediction_rows(lines))
        return
    scores = nlvr2.nlvr2_scores(labels, nlvr2.read_prediction_rows(lines))
    assert scores.accuracy == pytest.approx(float(expected["accuracy"]), **EXACT)
    assert scores.consistency == pytest.approx(float(expected["consistency"]), **EXACT)


@pytest.mark.parametrize("table", task_table("nlvr2"))
def test_nlvr2_of_the_tasks(table: Any) -> None:
    labels = {example["identifier"]: example["label"] for example in table["labels"]}
    scores = nlvr2.nlvr2_scores(labels, dict(table["predictions"]))
    assert scores.accuracy == pytest.approx(table["accuracy"], **EXACT)
    assert scores.consistency == pytest.approx(table["consistency"], **EXACT)


@pytest.mark.parametrize(("table", "case"), cases("retrieval"))
def test_retrieval_ranks(table: Any, case: Any) -> None:
    similarity = np.array(case["similarity_image_by_caption"])
    num_images, num_captions = case["num_images"], case["captions_per_image"]
    variants = {"stable": "stable_reversed", "optimistic": "optimistic"} | {
        "pessimistic": "pessimistic"
    }
    for ties, name in variants.items():
        if case["caption_index"] is None:
            owners = np.repeat(np.arange(num_images), num_captions)
            found = retrieval.ranks(similarity, owners, ties)
            assert found.text_to_image.tolist() == case["t2i_tie_variants"][name]
            i2t = found.image_to_text
        else:
            index = case["caption_index"]
            is_own = np.array([[key == row for key, _ in index[row]] for row in range(num_images)])
            i2t = retrieval.rank_candidates(similarity, is_own, ties)
        assert i2t.tolist() == case["i2t_tie_variants"][name]
        if ties == "stable" and not case["has_ties"]:
            assert i2t.tolist() == case["i2t_ranks"]
            assert_recalls(retrieval.recall_at(i2t), case["metrics"]["i2t_retrieval"])
            if case["caption_index"] is None:
                assert found.text_to_image.tolist() == case["t2i_ranks"]
                t2i = retrieval.recall_at(found.text_to_image)
                assert_recalls(t2i, case["metrics"]["t2i_retrieval"])


def assert_recalls(ours: dict[int, float], theirs: Any) -> None:
    assert {f"R@{k}": value for k, value in ours.items()} == pytest.approx(theirs, **EXACT)


@pytest.mark.parametrize("table", whole("retrieval"))
def test_retrieval_folds(table: Any) -> None:
    case = table["five_fold"]
    similarity = np.array(case["similarity_image_by_caption"])
    owners = np.repeat(np.arange(case["num_images"]), case["captions_per_image"])
    folds = retrieval.fold_recalls(similarity, owners, case["folds"])
    whole_set = retrieval.recalls(retrieval.ranks(similarity, owners))
    for ours, theirs in (
        *zip(folds, case["per_fold"], strict=True),
        (retrieval.mean_recalls(folds), case["mean"]),
        (whole_set, case["full"]),
    ):
        for way in ("i2t", "t2i"):
            for name, value in theirs[f"{way}_retrieval"].items():
                key = f"{way}.r{name.removeprefix('R@')}"
                assert ours[key] == pytest.approx(value, **EXACT)


@pytest.mark.parametrize(("table", "case"), cases("detection", "coco_cases"))
def test_coco_detection(table: Any, case: Any) -> None:
    scores = coco_detection_scores(
        case["ground_truth"],
        case["detections"],
        use_categories=bool(case["use_cats"]),
        max_detections=tuple(case["max_dets"]),
    )
    if "error" in case:  # the original fails on no detection at all; ours is 0
        assert not case["detections"]
        assert scores.statistics["ap"] == 0.0
        return
    assert [scores.statistics[n] for n in COCO_STATISTICS] == pytest.approx(case["stats"], **SCORE)
    assert scores.ap_by_iou == pytest.approx(case["ap_per_iou_all_lastmaxdet"], **SCORE)
    first_category = next(iter(scores.recall_by_category.values()))  # what was recorded
    assert first_category == pytest.approx(case["recall_per_iou"], **SCORE)
    assert list(map(list, scores.ap50_by_category.items())) == [
        [category, pytest.approx(value, **SCORE)] for category, value in case["ap50_per_category"]
    ]


@pytest.mark.parametrize(("table", "case"), cases("detection", "vg_cases"))
def test_visual_genome_detection(table: Any, case: Any) -> None:
    truth = [
        TrueBoxes(
            boxes=np.array(image["boxes"], dtype=np.float64).reshape(-1, 4),
            labels=np.array(image["labels"], dtype=np.int64),
            attributes=np.array(image["attributes"], dtype=np.int64).reshape(
                len(image["boxes"]), -1
            ),
        )
        for image in case["ground_truth"]
    ]
    found = [
        FoundBoxes(
            boxes=np.array(image["boxes"], dtype=np.float64).reshape(-1, 4),
            labels=np.array(image["labels"], dtype=np.int64),
            scores=np.array(image["scores"], dtype=np.float64),
            attribute_labels=padded(image["attr_labels"]).astype(np.int64),
            attribute_scores=padded(image["attr_scores"]),
        )
        for image in case["predictions"]
    ]
    scores = visual_genome_scores(
        truth,
        found,
        case["classes"],
        of_attributes=case["eval_attributes"],
        iou_threshold=case["iou_thresh"],
        use_eleven_points=case["use_07_metric"],
    )
    assert list(scores.ap.values()) == pytest.approx(case["ap"], **SCORE)
    assert list(scores.num_true.values()) == case["npos"]
    assert scores.mean_ap == pytest.approx(case["map"], **SCORE)
    assert scores.weighted_ap == pytest.approx(case["weighted_map"], **SCORE)


def padded(rows: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    table = np.zeros((len(rows), max(map(len, rows), default=0)))
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table
