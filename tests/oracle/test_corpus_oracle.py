"""Published corpora through our reader against what the original kept in memory.

Every case of `samples.json` is run: documents word for word where they were recorded, their
numbers everywhere, sizes of images, and features (`img_feat`) up to the rows that were kept.
"""

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from storage.published.vinvl_corpus import PublishedCorpus
from tests.locations import oracle_dir, oracle_files
from tests.oracle.recorded_draws import Recorded, chunks_of

pytestmark = pytest.mark.oracle
ROOT = oracle_dir("oscar")


def cases() -> list[Any]:
    files = oracle_files("oscar", "samples.json")
    if not files:
        skip = pytest.mark.skip(reason="no recorded outputs; set OSCAR_ORACLE_DIR to their folder")
        return [pytest.param(None, marks=skip)]
    found = json.loads(files[0].read_text(encoding="utf-8"))["cases"]
    assert found
    return [pytest.param(case, id=case["name"]) for case in found]


def opened(case: dict[str, Any]) -> PublishedCorpus:
    lower = case.get("do_lower_case", True)
    return Recorded(ROOT / "oscar_tiny", case["yaml"], case["args"], lower=lower).published


def test_chunks_are_chosen_only_by_two_numbers_in_order() -> None:
    told = {(-1, -1): None, (0, 2): (0, 2), (3, 3): (3, 3), (2, 1): None, (-1, 4): None}
    for (start, end), chosen in told.items():
        assert chunks_of({"chunk_start_id": start, "chunk_end_id": end}) == chosen
    assert chunks_of({}) is None


@pytest.mark.parametrize("case", cases())
def test_documents(case: dict[str, Any]) -> None:
    corpus = opened(case)
    assert len(corpus.documents) == case["num_docs"]
    assert len(corpus.question_rows) == case["num_qa_docs"]
    assert 2 * len(corpus.documents) == case["corpus_lines"]
    found = [
        [f"{each.image_key}|{each.label_key}", each.first, each.second] for each in corpus.documents
    ]
    if case.get("docs") is not None:
        assert found == case["docs"]
    questions = [i for i, each in enumerate(corpus.documents) if each.is_question]
    assert corpus.question_rows.tolist() == questions


@pytest.mark.parametrize("case", cases())
def test_sizes_and_features(case: dict[str, Any]) -> None:
    corpus = opened(case)
    stored = load_file(ROOT / "samples.safetensors")[f"{case['name']}/img_feat"]
    room = case["args"].get("max_img_seq_length", 50)
    for item, wanted in zip(case["items"], stored, strict=True):
        document = corpus.documents[item["index"]]
        assert {"height": document.height, "width": document.width} == item["info"]
        kept = corpus.regions(document.image_key)[:room]
        assert kept.dtype == np.float32
        assert np.array_equal(wanted[: len(kept)], kept)
        assert not wanted[len(kept) :].any()
