"""Pretraining samples against recorded ones of microsoft/Oscar: every case, every draw, exact.

The corpus is read by our reader of published corpora, the samples are made by our sample maker
from the recorded draws, with every quirk on (specs/oscar.md 11); the same draws come out of
Python's generator under the recorded seed.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from oscar_core.dice import PythonDice
from oscar_core.published.original_order import in_order, original_batches, shared_shuffled
from oscar_core.tasks.pretraining.sample import make_sample
from tests.locations import oracle_dir, oracle_files
from tests.oracle.recorded_draws import Recorded, fields_of

pytestmark = pytest.mark.oracle
FOLDER = oracle_dir("oscar")
SMALL_CORPUS = FOLDER / "oscar_tiny"


def cases() -> list[Any]:
    files = oracle_files("oscar", "samples.json")
    if not files:
        skip = pytest.mark.skip(reason="no recorded outputs; set OSCAR_ORACLE_DIR to their folder")
        return [pytest.param(None, marks=skip)]
    told = json.loads(files[0].read_text(encoding="utf-8"))["cases"]
    assert told, f"{files[0]} lists no cases"
    return [pytest.param(case, id=case["name"]) for case in told]


def recorded(case: Mapping[str, Any]) -> Recorded:
    return Recorded(SMALL_CORPUS, case["yaml"], case["args"], lower=case.get("do_lower_case", True))


@pytest.mark.parametrize("case", cases())
def test_documents_are_those_recorded(case: Mapping[str, Any]) -> None:
    published = recorded(case).published
    assert len(published.documents) == case["length"] == case["num_docs"]
    assert case["corpus_lines"] == 2 * len(published.documents)
    assert len(published.question_rows) == case["num_qa_docs"]
    docs = case.get("docs")
    for document, told in zip(published.documents, docs or [], strict=bool(docs)):
        keys = f"{document.image_key}|{document.label_key}"
        assert [keys, document.first, document.second] == told


@pytest.mark.parametrize("case", cases())
def test_samples_are_those_recorded(case: Mapping[str, Any]) -> None:
    from_draws = recorded(case)
    told = load_file(FOLDER / "samples.safetensors")
    prefix = f"{case['name']}/"
    expected = {k.removeprefix(prefix): v for k, v in told.items() if k.startswith(prefix)}
    assert expected
    classes = from_draws.config.num_contrast_classes
    assert case["args"].get("num_contrast_classes", classes) == classes
    for place, item in enumerate(case["items"]):
        number = item["index"]
        sample = from_draws.sample(number, item["draws"])
        found = fields_of(from_draws, number, sample)
        assert set(found) == set(expected)
        for name, value in found.items():
            wanted = expected[name][place].numpy()
            assert np.array_equal(value, wanted), f"item {place}: {name}: {value} for {wanted}"
        document = from_draws.published.documents[number]
        assert {"height": document.height, "width": document.width} == item["info"]


@pytest.mark.parametrize("case", cases())
def test_the_recorded_seed_alone_gives_the_same_samples(case: Mapping[str, Any]) -> None:
    from_draws = recorded(case)
    dice = PythonDice(case["python_random_seed"])
    for item in case["items"]:
        example = from_draws.example(item["index"])
        seeded = make_sample(from_draws.config, from_draws.tokenizer, example, dice)
        assert seeded == from_draws.sample(item["index"], item["draws"])


def sampler_cases() -> list[Any]:
    files = oracle_files("oscar", "data_misc.json")
    if not files:
        skip = pytest.mark.skip(reason="no recorded outputs; set OSCAR_ORACLE_DIR to their folder")
        return [pytest.param(None, marks=skip)]
    told = json.loads(files[0].read_text(encoding="utf-8"))["batch_samplers"]
    assert told, f"{files[0]} lists no batch samplers"
    return [pytest.param(case, id=f"{case['kind']}-{n}") for n, case in enumerate(told)]


@pytest.mark.parametrize("case", sampler_cases())
def test_batches_are_those_recorded(case: Mapping[str, Any]) -> None:
    begun: list[int] = []
    kinds = {
        "sequential": lambda: in_order(case["n"]),
        "distributed_shuffled": lambda: shared_shuffled(
            case["n"], world=case["world"], rank=case["rank"]
        ),
    }
    pass_of = kinds[case["kind"]]()

    def counted(begun_at: int) -> list[int]:
        begun.append(begun_at)
        return pass_of(begun_at)

    batches = original_batches(
        counted,
        batch_size=case["batch"],
        num_iterations=case["num_iters"],
        first=case["start_iter"],
    )
    assert list(batches) == case["batches"]
    assert case["len"] == case["num_iters"]
    assert begun == case.get("set_epoch_calls", begun)
