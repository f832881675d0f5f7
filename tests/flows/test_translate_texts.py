"""The stage `translate_texts`: what goes in comes out, in Chinese, once a sentence, and resumes."""

import json
import os
import signal
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from flows.balance import LostRecordsError
from flows.stages.translate_texts import Config, Inputs, Outputs, Summary, run
from flows.text_translation import AnswerWords, Wanted, distinct_by_length, waiting
from oscar_core.errors import SentenceTranslationError
from oscar_core.translation_settings import Decoding, Direction
from storage.annotation_shards import read_annotations, write_annotations
from storage.quarantine import read_quarantine
from storage.records import Annotations, CaptionAnnotation, QuestionAnnotation
from tests.builders_flows import PYTHON, ROOT
from tests.builders_storage import bytes_of
from tests.builders_translation import write_marian


def caption(number: int, text: str, language: str = "en", source: str = "coco") -> Any:
    return CaptionAnnotation(
        image_id=f"p/{number}",
        caption_id=str(number),
        text=text,
        language=language,
        split="train",
        source=source,
    )


def question(number: int, text: str, *answers: str) -> QuestionAnnotation:
    return QuestionAnnotation(
        image_id=f"p/{number}",
        question_id=str(number),
        question=text,
        answers=answers,
        language="en",
        split="train",
        source="vqa_v2",
        question_type="what",
        answer_type="other",
    )


SAID = Annotations(
    captions=(
        caption(1, "a red car"),
        caption(2, "a dog runs"),
        caption(3, "a red car"),
        caption(4, "一 只 狗", language="zh"),
        caption(5, "a man sleeps", source="sbu"),
        caption(2, "一 狗", language="zh", source="sbu"),
        caption(6, "a red bus"),
        caption(6, "一辆红色的公交车", language="zh"),
    ),
    questions=(
        question(7, "what runs", "dog", "dog", "2", "yes"),
        question(8, "what color a car", "red", "orange"),
    ),
)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows the toy language."""
    return write_marian(tmp_path_factory.mktemp("taught") / "model", steps=150)


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says anything."""
    return write_marian(tmp_path_factory.mktemp("random") / "model")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSCAR_FLOW_CACHE", str(tmp_path / "cache"))


def translate(folder: Path, model: Path, **config: Any) -> tuple[Summary, Annotations, dict]:
    place = folder / "before"
    if not place.exists():
        write_annotations(place, SAID)
    outputs = Outputs(annotations=folder / "annotations", report=folder / "translations.json")
    config = {"decoding": Decoding(num_beams=1), "batch_size": 2} | config
    summary = run(Config(model=model, **config), Inputs(annotations=place), outputs)
    report = json.loads(outputs.report.read_text(encoding="utf-8"))
    return summary, read_annotations(outputs.annotations), report


def test_every_english_text_comes_out_in_chinese_behind_what_was_there(
    tmp_path: Path, taught: Path
) -> None:
    summary, after, _ = translate(tmp_path, taught)
    assert list(after.captions)[: len(SAID.captions)] == list(SAID.captions)
    made = [
        (each.image_id, each.caption_id, each.text, each.source)
        for each in list(after.captions)[len(SAID.captions) :]
    ]
    assert made == [
        ("p/1", "1", "一红汽车", "coco"),
        ("p/2", "2", "一狗跑", "coco"),
        ("p/3", "3", "一红汽车", "coco"),
        ("p/5", "5", "一男人睡", "sbu"),
    ]
    first, second = list(after.questions)[2:]
    assert (first.question, first.answers) == ("什么跑", ("狗", "狗", "2", "是"))
    assert second.answers == ("红色", "橙色")
    assert (first.language, first.question_type) == ("zh", "what")
    assert (summary.num_in, summary.num_out, summary.num_quarantined) == (6, 6, 0)


def test_each_sentence_is_translated_once_and_never_again(tmp_path: Path, random: Path) -> None:
    summary, after, _ = translate(tmp_path, random)
    assert summary.num_sentences == 5  # two of the four captions are equal, answers need no model
    assert summary.num_cached == 0
    first = bytes_of(tmp_path / "annotations")
    again, _, _ = translate(tmp_path, random)
    assert again.num_cached == again.num_sentences == summary.num_sentences
    assert bytes_of(tmp_path / "annotations") == first
    other, _, _ = translate(tmp_path, random, decoding=Decoding(num_beams=2))
    assert other.num_cached == 0
    assert len(after.captions) >= len(SAID.captions)


def test_what_a_bad_model_writes_is_set_aside_and_counted(tmp_path: Path, random: Path) -> None:
    summary, after, report = translate(tmp_path, random)
    dropped = read_quarantine(tmp_path / "quarantine.jsonl")
    assert summary.num_in == 6
    assert summary.num_in == summary.num_out + summary.num_quarantined
    assert len(dropped) == summary.num_quarantined > 0
    assert sum(report["quarantined"].values()) == len(dropped)
    assert all(each.reason.startswith("translation-") for each in dropped)
    assert " became " in dropped[0].detail
    kept = len(after.captions) + len(after.questions)
    assert kept == len(SAID.captions) + len(SAID.questions) + summary.num_out


def test_a_text_that_is_read_and_not_written_is_told(
    tmp_path: Path, random: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Wanted.__iter__
    passes: list[Wanted] = []

    def loses_the_first_in_the_second_pass(wanted: Wanted) -> Any:
        passes.append(wanted)
        found = list(whole(wanted))
        return iter(found[1:] if len(passes) == 3 else found)  # captions, questions, captions

    monkeypatch.setattr(Wanted, "__iter__", loses_the_first_in_the_second_pass)
    with pytest.raises(LostRecordsError, match="translate_texts: 6 read"):
        translate(tmp_path, random)


def test_what_is_there_already_is_known_by_digests() -> None:
    """Not by its texts: there are millions."""
    chinese = [caption(number, "狗", language="zh") for number in range(4_000)]
    english = [caption(number, "a dog") for number in (0, 3_999, 4_000)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        wanted = waiting([*chinese, *english], "en", "zh", ())
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [each.image_id for each in wanted] == ["p/4000"]
    assert (after - before) / 4_000 < 60


def test_known_words_that_a_translation_lacks_are_listed(tmp_path: Path, taught: Path) -> None:
    summary, _, report = translate(tmp_path, taught)
    missing = {each["english"]: each for each in report["glossary"]["missing"]}
    assert "car" not in missing  # 汽车 is what the lexicon says, too
    assert "dog" not in missing
    assert summary.num_glossary_words == report["glossary"]["words"] > 0
    assert summary.num_glossary_missing == sum(each["count"] for each in missing.values())


def test_sources_and_kinds_are_chosen(tmp_path: Path, random: Path) -> None:
    summary, _, _ = translate(tmp_path, random, sources=("sbu",))
    assert summary.num_in == 1
    summary, _, _ = translate(tmp_path, random, captions=False)
    assert summary.num_in == 2


def test_without_the_lexicon_the_model_says_the_answers(tmp_path: Path, taught: Path) -> None:
    _, after, _ = translate(tmp_path, taught, answers_from_lexicon=False, captions=False)
    assert list(after.questions)[2].answers[:2] == ("狗", "狗")


def test_where_nothing_is_english_everything_passes_as_it_is(tmp_path: Path, random: Path) -> None:
    for place, said in (("zh", SAID.captions[3:4]), ("none", ())):
        write_annotations(tmp_path / place / "before", Annotations(captions=said))
        summary, after, report = translate(tmp_path / place, random)
        assert (summary.num_in, summary.num_sentences) == (0, 0)
        assert tuple(after.captions) == said
        assert report["glossary"]["words"] == 0


def test_sentences_come_short_ones_first_and_once() -> None:
    sentences = ["a dog", "dog", "a dog", "a", "\u732b", "ab"] * 40_000
    assert distinct_by_length(sentences).to_pylist() == ["a", "\u732b", "ab", "dog", "a dog"]


def test_a_folder_without_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SentenceTranslationError, match="empty: no translation model") as refused:
        translate(tmp_path, tmp_path / "empty")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("question", "answer", "known"),
    [
        ("how many dogs", "2", "2"),
        ("is it", "Yes", "是"),
        ("is it", "no", "否"),
        ("what fruit is it", "orange", "橙子"),
        ("what color is it", "orange", "橙色"),
        ("what color is it", "red and white", "红色和白色"),
        ("where is it", "behind the curtain of the left window", None),
    ],
)
def test_answers_are_said_as_tags_are(question: str, answer: str, known: str | None) -> None:
    assert AnswerWords("").known(question, answer) == known


def test_the_same_language_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="the same language"):
        Config(model=Path("m"), direction=Direction(source="zh", target="zh"))


def test_half_the_batch_is_the_same_work(tmp_path: Path) -> None:
    from flows.child import smaller_config
    from flows.stages import translate_texts

    config = Config(model=tmp_path, batch_size=32)
    assert smaller_config(translate_texts, config, 2).batch_size == 8


KILLED = """
import os, signal, sys
from pathlib import Path
from flows.progress import Progress
from flows.text_translation import AnswerWords, distinct_by_length
from flows.stages.translate_texts import Config, Inputs, Outputs, run
from oscar_core.translation_settings import Decoding

def tell(report):
    if report.done >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[2])
run(
    Config(model=Path(sys.argv[1]), decoding=Decoding(num_beams=1), batch_size=2),
    Inputs(annotations=folder / "before"),
    Outputs(annotations=folder / "annotations", report=folder / "translations.json"),
    Progress(tell, every_seconds=0.0),
)
"""


def test_a_killed_translation_goes_on_and_ends_as_an_unbroken_one(
    tmp_path: Path, random: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        write_annotations(folder / "before", SAID)
    translate(whole, random)
    monkeypatch.setenv("OSCAR_FLOW_CACHE", str(tmp_path / "another"))
    ended = subprocess.run(
        [PYTHON, "-c", KILLED, str(random), str(killed), "4"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=120,
    )
    assert ended.returncode == -signal.SIGKILL
    summary, _, _ = translate(killed, random)
    assert summary.num_cached == 4
    assert bytes_of(killed / "annotations") == bytes_of(whole / "annotations")
    report = (killed / "translations.json").read_bytes()
    assert report == (whole / "translations.json").read_bytes()
