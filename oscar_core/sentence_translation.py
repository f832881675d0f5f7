"""Sentences from one language into another by any transformers sequence-to-sequence model.

Models name languages in three ways: Marian by a first word of the source (`>>cmn_Hans<<`), where
it knows several targets; NLLB, MBART and M2M100 by a token of each side (`eng_Latn`, `en_XX`,
`__en__`); others (T5) by words before the sentence, which the user gives.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from oscar_core.errors import SentenceTranslationError
from oscar_core.metrics.chinese import close_gaps
from oscar_core.translation_checks import CHINESE, TOO_LONG, problem_of
from oscar_core.translation_settings import Decoding, Direction
from storage.artifacts import files_below, sha256_of
from storage.sentence_cache import Rendering

CODES: Mapping[str, Sequence[str]] = {
    "en": ("eng_Latn", "en_XX", "__en__"),
    "zh": (
        "zho_Hans",
        "zh_CN",
        "__zh__",
        ">>cmn_Hans<<",
        ">>zho_Hans<<",
        ">>cmn<<",
        ">>zho<<",
        ">>zh<<",
    ),
}
"""Language -> how models name it, the common ways first."""

_SPARE_TOKENS = 16
_LONGEST_SOURCE = 512
_MARIAN_MARKS = (">>", "<<")
_M2M_MARK = "__"


class SentenceTranslator:
    """A translation model in memory."""

    def __init__(self, folder: Path, direction: Direction, decoding: Decoding) -> None:
        """Load a model folder as `save_pretrained` writes it, tokenizer included.

        Raises:
            SentenceTranslationError: It holds no such model, or the model does not know a language.
        """
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self._folder = folder
        self._direction = direction
        self._decoding = decoding
        with _telling(folder), warnings.catch_warnings():
            # Marian's tokenizer would like one package more, for unusual quotation marks
            warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True)
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        self._model: Any = model.eval().to(device)
        self._forced: dict[str, int] = {}
        self._before = direction.prefix
        self._name_languages()

    def translate(self, sentences: Sequence[str]) -> list[Rendering]:
        """Translate a batch; the same batch always gives the same.

        Args:
            sentences: of about the same length, so that little is padded.

        Returns:
            One rendering a sentence, with what is wrong with it.
        """
        pieces = self._tokenizer([self._before + each for each in sentences])["input_ids"]
        fits = [len(each) <= self._longest_source for each in pieces]
        chosen = [each for each, fit in zip(sentences, fits, strict=True) if fit]
        made = iter(self._generate(chosen) if chosen else [])
        return [next(made) if fit else Rendering(text="", problem=TOO_LONG) for fit in fits]

    @torch.inference_mode()
    def _generate(self, sentences: Sequence[str]) -> list[Rendering]:
        encoded = self._tokenizer(
            [self._before + each for each in sentences], return_tensors="pt", padding=True
        )
        ids: Tensor = encoded["input_ids"].to(self._model.device)
        longest = min(self._decoding.max_new_tokens, 2 * ids.shape[1] + _SPARE_TOKENS)
        made: Tensor = self._model.generate(
            input_ids=ids,
            attention_mask=encoded["attention_mask"].to(self._model.device),
            num_beams=self._decoding.num_beams,
            do_sample=False,
            max_new_tokens=longest,
            **self._forced,
        )
        texts = self._tokenizer.batch_decode(made, skip_special_tokens=True)
        ends = self._ends(made, longest)
        return [
            self._rendering(sentence, text, has_ended=ended)
            for sentence, text, ended in zip(sentences, texts, ends, strict=True)
        ]

    def _rendering(self, sentence: str, text: str, *, has_ended: bool) -> Rendering:
        target = self._direction.target
        said = " ".join(text.split())
        said = close_gaps(said) if target == CHINESE else said
        problem = problem_of(sentence, said, language=target, has_ended=has_ended)
        return Rendering(text=said, problem=problem)

    def _ends(self, made: Tensor, longest: int) -> list[bool]:
        """Whether each row came to its end by itself.

        The first token starts it; some models are made to end with the last one that is allowed.
        """
        ends = self._model.generation_config.eos_token_id
        if ends is None:
            ends = self._tokenizer.eos_token_id
        known = torch.tensor([ends] if isinstance(ends, int) else list(ends), device=made.device)
        has_ended: list[bool] = torch.isin(made[:, 1:longest], known).any(dim=1).tolist()
        return has_ended

    @property
    def _longest_source(self) -> int:
        """Tokens of a sentence that the model can read."""
        positions = getattr(self._model.config, "max_position_embeddings", _LONGEST_SOURCE)
        return int(min(positions, self._tokenizer.model_max_length))

    def _name_languages(self) -> None:
        """Tell tokenizer and model which languages are meant, in the model's own way.

        Raises:
            SentenceTranslationError: The model knows several, and not these.
        """
        direction = self._direction
        marian = [str(each) for each in getattr(self._tokenizer, "supported_language_codes", ())]
        has_sides = hasattr(self._tokenizer, "src_lang")
        if not (has_sides or marian or direction.target_code):
            return  # one pair of languages, or told by words
        target = self._code(direction.target_code, direction.target)
        if target.startswith(_MARIAN_MARKS[0]):
            self._before = f"{target} {direction.prefix}"
            return
        number = cast(int, self._tokenizer.convert_tokens_to_ids(target))
        self._forced = {"forced_bos_token_id": number}
        if has_sides:
            source = self._code(direction.source_code, direction.source)
            self._tokenizer.src_lang = source.strip("_") if source[:2] == _M2M_MARK else source

    def _code(self, given: str, language: str) -> str:
        """The token that names a language."""
        first, last = _MARIAN_MARKS
        ways = (given, f"{_M2M_MARK}{given}{_M2M_MARK}", f"{first}{given}{last}")
        tried = ways if given else CODES.get(language, ())
        unknown = self._tokenizer.unk_token_id
        for token in tried:
            if self._tokenizer.convert_tokens_to_ids(token) not in (None, unknown):
                return token
        known = [str(each) for each in getattr(self._tokenizer, "supported_language_codes", ())]
        known = known or [str(each) for each in self._tokenizer.all_special_tokens]
        raise SentenceTranslationError(
            f"{self._folder}: this model does not know {given or language!r}; set source_code and "
            f"target_code to names it knows, such as {', '.join(known[:8])}"
        )


def identity_of(folder: Path, direction: Direction, decoding: Decoding) -> str:
    """SHA-256 of everything a translation follows from but the sentence, hexadecimal.

    Raises:
        SentenceTranslationError: The folder holds no model.
    """
    with _telling(folder):
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        files = {each.relative_to(folder).as_posix(): sha256_of(each) for each in _files(folder)}
    parts = [repr(direction), repr(decoding), json.dumps(files, sort_keys=True)]
    return sha256("\n".join(parts).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    """Files of a model folder that a translation can follow from; a text about it is none."""
    return [path for path in files_below(folder) if path.suffix != ".md"]


class _telling:  # noqa: N801 - reads as a statement
    """Whatever a library says of a folder that it cannot load, as one line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, MemoryError):
            said = " ".join(str(error).split())[:200]
            raise SentenceTranslationError(
                f"{self._folder}: no translation model can be loaded from it ({said}); give a "
                "folder or hub name of a transformers sequence-to-sequence model with its tokenizer"
            ) from error
