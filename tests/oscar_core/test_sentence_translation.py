"""Translation models of all kinds are told their languages in their own way."""

from pathlib import Path

import pytest

from oscar_core.errors import SentenceTranslationError
from oscar_core.sentence_translation import SentenceTranslator, identity_of
from oscar_core.translation_settings import Decoding, Direction
from tests.builders_translation import write_marian, write_two_sided

FAST = Decoding(num_beams=1, max_new_tokens=4)


def heard(translator: SentenceTranslator, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Ids that the model reads and those it writes for one sentence."""
    model, ids = translator._model, {}
    generate = model.generate

    def listening(**given):
        made = generate(**given)
        ids["read"], ids["written"] = given["input_ids"][0].tolist(), made[0].tolist()
        return made

    monkeypatch.setattr(model, "generate", listening)
    translator.translate(["a dog"])
    return ids


@pytest.mark.parametrize(
    ("kind", "source", "target"),
    [
        ("nllb", "eng_Latn", "zho_Hans"),
        ("mbart", "en_XX", "zh_CN"),
        ("m2m", "__en__", "__zh__"),
    ],
)
def test_both_languages_are_named_by_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, source: str, target: str
) -> None:
    folder = write_two_sided(tmp_path / kind, kind)
    translator = SentenceTranslator(folder, Direction(), FAST)
    number = translator._tokenizer.convert_tokens_to_ids
    ids = heard(translator, monkeypatch)
    assert number(source) in ids["read"]
    assert ids["written"][1] == number(target)
    given = Direction(source_code=source.strip("_"), target_code=source.strip("_"))
    back = heard(SentenceTranslator(folder, given, FAST), monkeypatch)
    assert back["written"][1] == number(source)


def test_a_marian_of_many_targets_is_told_by_a_first_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_marian(tmp_path / "many", codes=(">>deu<<", ">>cmn_Hans<<"))
    ids = heard(SentenceTranslator(folder, Direction(), FAST), monkeypatch)
    assert ids["read"][0] == 3  # behind </s>, <unk>, >>deu<<
    given = Direction(target="de", target_code="deu")
    assert heard(SentenceTranslator(folder, given, FAST), monkeypatch)["read"][0] == 2


def test_a_language_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    folder = write_marian(tmp_path / "many", codes=(">>deu<<", ">>fra<<"))
    with pytest.raises(SentenceTranslationError, match=r"does not know 'zh'.*such as >>deu<<"):
        SentenceTranslator(folder, Direction(), FAST)


def test_a_sentence_longer_than_the_model_reads_is_said_to_be(tmp_path: Path) -> None:
    translator = SentenceTranslator(write_marian(tmp_path / "m"), Direction(), FAST)
    long, short = translator.translate(["a dog " * 40, "a dog"])
    assert long.problem == "source-too-long"
    assert short.problem != "source-too-long"


def test_what_is_made_to_end_has_not_ended(tmp_path: Path) -> None:
    translator = SentenceTranslator(write_marian(tmp_path / "m"), Direction(), FAST)
    assert translator._model.generation_config.forced_eos_token_id is not None
    made = translator.translate(["a dog runs", "what color a car", "a man"])
    assert {each.problem for each in made} <= {"unfinished", "empty"}


def test_the_identity_follows_the_weights_the_languages_and_the_search(tmp_path: Path) -> None:
    one, two = (write_marian(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    (two / "README.md").write_text("about it")
    names = {
        identity_of(one, Direction(), FAST),
        identity_of(two, Direction(), FAST),
        identity_of(one, Direction(prefix="say: "), FAST),
        identity_of(one, Direction(), Decoding()),
    }
    assert len(names) == 4
    before = identity_of(two, Direction(), FAST)
    (two / "README.md").write_text("more about it")
    assert identity_of(two, Direction(), FAST) == before
