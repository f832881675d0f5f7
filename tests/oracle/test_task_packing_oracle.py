"""Retrieval, VQA, GQA and NLVR2 against recorded outputs of microsoft/Oscar.

Every case of `retrieval/`, `vqa/`, `gqa/` and `nlvr/` is run; nothing is named here. Tolerances
are those of the oracle's README: ids, masks and ranks exact, losses and scores 1e-5, logits 1e-4,
gradient norms 1e-4 relative.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oscar_core.compat import PackingCompat
from oscar_core.losses import answer_loss
from oscar_core.metrics.retrieval import rank_candidates, ranks, recall_at
from oscar_core.packing import EncoderInput, Layout, PackedBatch, pack, pack_pairs
from tests.locations import oracle_files
from tests.oracle.oscar_cases import batch_of, check_close, loaded, part
from tests.oracle.task_files import (
    DATA,
    FOLDER,
    as_list,
    one_statement,
    question_example,
    questions,
    read_json,
    retrieval_data,
    statement_pair,
)
from tests.oracle.test_tasks_oracle import check_norms, stored, tokenizer

pytestmark = pytest.mark.oracle
SCORES = 1e-5
LOGITS = 1e-4
ORIGINAL = PackingCompat(overflows_with_tags=True, cuts_text_of_next_image=True)


def told(name: str) -> Any:
    files = oracle_files("tasks", name)
    return read_json(files[0]) if files else {}


def listed(found: Sequence[Any]) -> list[Any]:
    if not FOLDER.is_dir():
        skip = pytest.mark.skip(reason="no recorded outputs; set OSCAR_ORACLE_DIR to their folder")
        return [pytest.param(None, marks=skip)]
    assert found, f"{FOLDER} lists no cases"
    return [pytest.param(each, id=str(each[-1]["name"])) for each in found]


RETRIEVAL = told("retrieval/packing.json").get("cases", [])
EVALUATIONS = told("retrieval/eval.json").get("eval", [])
QUESTIONS = {task: told(f"{task}/cases.json") for task in ("vqa", "gqa")}
NLVR = told("nlvr/cases.json")


def layout(args: Mapping[str, Any], **more: Any) -> Layout:
    return Layout(max_text=args["max_seq_length"], max_regions=args["max_img_seq_length"], **more)


def retrieval_layout(args: Mapping[str, Any]) -> Layout:
    return layout(args, cut="second", sight=args.get("att_mask_type", "CLR"))


@cache
def model_of(name: str) -> nn.Module:
    config = read_json(FOLDER / f"models/{name}.config.json")
    state = stored(f"models/{name}.safetensors")
    kind = "ImageBertForMultipleChoice" if "pair" in name else "ImageBertForSequenceClassification"
    return loaded(kind, config, state)


def check_packed(batch: PackedBatch, row: int, expected: Mapping[str, Tensor], mask: str) -> None:
    assert batch.input_ids[row].tolist() == expected["input_ids"].tolist()
    assert batch.token_type_ids[row].tolist() == expected["segment_ids"].tolist()
    assert torch.equal(batch.attention_mask[row], expected[mask].bool())
    sums = batch.region_features[row].sum(dim=-1)
    check_close(sums, expected["img_feat_sum"], SCORES, "img_feat_sum")


def drawn_pair(
    split: str, index: int, args: Mapping[str, Any], draws: list[Any]
) -> list[EncoderInput]:
    """Positive and negative of a training item, from the recorded draws."""
    data, num = retrieval_data(split), args["num_captions_per_img_train"]
    images = list(data.captions)
    place, has_tags = index // num, args["add_od_labels"]
    image, text = images[place], data.captions[images[place]][index % num]
    positive = data.example(image, text, has_tags=has_tags)
    (_, length, choice), (_, chance), *rest = draws
    assert length == len(images) - 1  # drawn among the others, told by its place among all
    if chance <= 0.5:
        wrong = data.captions[images[choice]][rest[0][2]]
        return [positive, data.example(image, wrong, has_tags=has_tags)]
    return [positive, data.example(images[choice], text, has_tags=has_tags)]


@pytest.mark.parametrize("pair", listed([("retrieval", case) for case in RETRIEVAL]))
def test_retrieval_pairs_are_packed_as_recorded(pair: tuple[str, Any]) -> None:
    case = pair[1]
    inputs = drawn_pair(case["split"], case["index"], case["args"], case["draws"])
    expected = part(stored("retrieval/packing.safetensors"), f"{case['name']}.")
    room = case["args"]["max_seq_length"]
    for one, prefix, length in zip(inputs, ("", "neg_"), case["lengths"], strict=True):
        mine = {k.removeprefix("neg_"): v for k, v in expected.items() if is_of(k, prefix)}
        packed = pack([one], tokenizer(), retrieval_layout(case["args"]), ORIGINAL)
        assert packed.input_ids.shape[1] == length
        check_packed(packed, 0, mine, "attention_mask")
        ours = pack([one], tokenizer(), retrieval_layout(case["args"]))
        assert ours.input_ids.shape[1] == room
        if length == room:
            check_packed(ours, 0, mine, "attention_mask")


def is_of(name: str, prefix: str) -> bool:
    return name.startswith("neg_") == bool(prefix)


def test_retrieval_batch_is_learned_as_recorded() -> None:
    if not FOLDER.is_dir():
        pytest.skip("no recorded outputs; set OSCAR_ORACLE_DIR to their folder")
    expected = stored("retrieval/batch.safetensors")
    check_learned(model_of("retrieval"), expected, told("retrieval/eval.json")["train_batch"])


def check_learned(
    model: nn.Module, expected: Mapping[str, Tensor], case: Mapping[str, Any]
) -> None:
    """Logits, loss and gradient norms of a recorded batch."""
    kind = "cross_entropy"
    labels = expected["labels"]
    if labels.dim() == 2 and labels.shape[1] > 1:
        kind = "bce"
    model.zero_grad()
    logits = model(batch_of(expected, expected["img_feats"].shape[-1]))
    check_close(logits, expected["logits"], LOGITS, "logits")
    loss = answer_loss(logits, labels if kind == "bce" else labels.long(), kind)
    assert loss.item() == pytest.approx(case["loss"], abs=SCORES)
    loss.backward()
    check_norms(model, case["grad_norms"])


@pytest.mark.parametrize("pair", listed([("retrieval", case) for case in EVALUATIONS]))
def test_retrieval_scores_and_ranks_as_recorded(pair: tuple[str, Any]) -> None:
    case = pair[1]
    args, data = case["args"], retrieval_data("test")
    images = [str(key) for key in case["image_keys"]]
    candidates = candidates_of(case, images)
    inputs = [
        data.example(images[place], data.captions[owner][number], has_tags=args["add_od_labels"])
        for place, owner, number in candidates
    ]
    packed = pack(inputs, tokenizer(), retrieval_layout(args))
    with torch.no_grad():
        scores = model_of("retrieval")(packed).softmax(dim=-1)[:, 1]
    check_close(scores, torch.tensor(case["scores"]), SCORES, "scores")
    matrix = scores.view(len(images), -1).double().numpy()
    labels = np.array([owner == images[place] for place, owner, _ in candidates])
    assert labels.astype(int).tolist() == case["labels"]
    own = labels.reshape(matrix.shape)
    assert rank_candidates(matrix, own).tolist() == case["i2t_ranks"]
    if case["t2i_ranks"]:
        found = ranks(matrix, own.argmax(axis=0))
        assert found.text_to_image.tolist() == case["t2i_ranks"]
        assert list(recall_at(found.text_to_image).values()) == pytest.approx(
            list(case["result"]["t2i_retrieval"].values())
        )


def candidates_of(case: Mapping[str, Any], images: list[str]) -> list[tuple[int, str, int]]:
    """(place of the image, image that the caption is of, number of the caption), item by item."""
    args = case["args"]
    num = args["num_captions_per_img_val"]
    if args["eval_caption_index_file"]:
        listed_captions = read_json(DATA / "retrieval" / f"{args['eval_caption_index_file']}.json")
        return [
            (place, str(owner), number)
            for place, image in enumerate(images)
            for owner, number in as_list(listed_captions[image])[:num]
        ]
    return [
        (place, owner, number)
        for place in range(len(images))
        for owner in images
        for number in range(num)
    ]


@pytest.mark.parametrize(
    "pair",
    listed([(task, case) for task, of in QUESTIONS.items() for case in of.get("packing", [])]),
)
def test_questions_are_packed_as_recorded(pair: tuple[str, Any]) -> None:
    task, case = pair
    row = questions(task, case["split"])[case["index"]]
    one = question_example(task, case["split"], row, case["args"])
    packed = pack([one], tokenizer(), layout(case["args"]))
    expected = part(stored(f"{task}/packing.safetensors"), f"{case['name']}.")
    check_packed(packed, 0, expected, "input_mask")


def question_batch(task: str, split: str) -> PackedBatch:
    args = QUESTIONS[task]["packing"][0]["args"]
    rows = questions(task, split)
    inputs = [question_example(task, split, row, args) for row in rows]
    return pack(inputs, tokenizer(), layout(args))


@pytest.mark.parametrize("task", list(QUESTIONS))
def test_questions_are_answered_as_recorded(task: str) -> None:
    if not FOLDER.is_dir():
        pytest.skip("no recorded outputs; set OSCAR_ORACLE_DIR to their folder")
    case, model = QUESTIONS[task], model_of(task)
    check_learned(model, stored(f"{task}/batch.safetensors"), case["train_batch"])
    labels = case["labels_in_order"]
    with torch.no_grad():
        logits = model(question_batch(task, "val"))
        split = "test2015" if task == "vqa" else "test"
        answers = model(question_batch(task, split)).argmax(dim=-1).tolist()
    check_close(logits, stored(f"{task}/eval.safetensors")["val_logits"], LOGITS, "val_logits")
    gained = 0.0
    for row, best in zip(questions(task, "val"), logits.argmax(dim=-1).tolist(), strict=True):
        worth = dict(zip(row["an"], row["s"], strict=True)) if task == "vqa" else {row["an"][0]: 1}
        gained += worth.get(labels[best], 0.0)
    assert gained / len(logits) == pytest.approx(case["eval_score"], abs=SCORES)
    words = read_json(DATA / task / "labels.json")["label2ans"]
    told_answers = [row.get("answer", row.get("prediction")) for row in case["submission"]]
    assert [words[labels[best]] for best in answers] == told_answers


def nlvr_batch(rows: Sequence[Any], args: Mapping[str, Any], compat: PackingCompat) -> PackedBatch:
    has_tags = args["use_label_seq"]
    if args["use_pair"]:
        # the original takes the images in the order of the file's keys (N3)
        pairs = [statement_pair(row, list(row["img_id"]), has_tags=has_tags) for row in rows]
        return pack_pairs(pairs, tokenizer(), layout(args), compat)
    wide = Layout(max_text=args["max_seq_length"], max_regions=2 * args["max_img_seq_length"])
    return pack([one_statement(row, has_tags=has_tags) for row in rows], tokenizer(), wide)


@pytest.mark.parametrize("pair", listed([("nlvr", case) for case in NLVR.get("packing", [])]))
def test_statements_are_packed_as_recorded(pair: tuple[str, Any]) -> None:
    case = pair[1]
    row = read_json(DATA / "nlvr/nlvr2_train.json")[case["index"]]
    packed = nlvr_batch([row], case["args"], ORIGINAL)
    expected = part(stored("nlvr/packing.safetensors"), f"{case['name']}.")
    for number in range(len(packed)):
        one = {
            k: v[number] if case["args"]["use_pair"] else v for k, v in expected.items() if v.dim()
        }
        check_packed(packed, number, one, "input_mask")


@pytest.mark.parametrize("pair", listed([("nlvr", case) for case in NLVR.get("models", [])]))
def test_statements_are_judged_as_recorded(pair: tuple[str, Any]) -> None:
    case = pair[1]
    model, args = model_of(case["name"]), case["args"]
    expected = part(stored("nlvr/batch.safetensors"), f"{case['name']}.")
    train = read_json(DATA / "nlvr/nlvr2_train.json")
    packed = nlvr_batch([train[i] for i in case["train_indices"]], args, ORIGINAL)
    told_ids = expected["input_ids"].flatten(0, -2)
    assert packed.input_ids.tolist() == told_ids.tolist()
    check_learned(model, expected, case)
    rows = read_json(DATA / "nlvr/nlvr2_dev.json")
    with torch.no_grad():
        logits = model(nlvr_batch(rows, args, ORIGINAL))
    check_close(logits, expected["val_logits"], LOGITS, "val_logits")
    is_right = logits.argmax(dim=-1) == torch.tensor([row["label"] for row in rows])
    assert is_right.float().mean().item() == pytest.approx(case["dev_accuracy"])
