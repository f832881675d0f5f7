"""Text <-> wordpiece ids, for any BERT vocabulary.

Written out rather than taken from a library: the fast tokenizers differ from the original on
unassigned code points, some CJK extensions and the final sigma.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from oscar_core.errors import VocabularyError
from storage.artifacts import atomic_write_text

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

LONGEST_WORD = 100
"""Characters; a longer word is [UNK] as a whole. `pt/tokenization_bert.py:WordpieceTokenizer`."""

_REMEMBERED_TEXTS = 1 << 17
_SPECIAL = re.compile("(" + "|".join(map(re.escape, SPECIAL_TOKENS)) + ")")
_CJK_BLOCKS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_CLEAN_UP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


class Tokenizer:
    """Wordpieces of one vocabulary.

    Attributes:
        vocabulary: The tokens; a token's place is its id.
        lower_case: Latin letters are lower-cased and lose their accents first.
        pad_id, unk_id, cls_id, sep_id, mask_id: Ids of the special tokens.

    Source: `pt/tokenization_bert.py:BertTokenizer`.
    """

    def __init__(self, vocabulary: Sequence[str], *, lower_case: bool = True) -> None:
        """Take a vocabulary.

        Raises:
            VocabularyError: One of the five special tokens is missing.
        """
        self.vocabulary = tuple(vocabulary)
        self.lower_case = lower_case
        self._id_by_token = {token: number for number, token in enumerate(self.vocabulary)}
        missing = [token for token in SPECIAL_TOKENS if token not in self._id_by_token]
        if missing:
            raise VocabularyError(
                f"vocabulary of {len(self.vocabulary)} tokens lacks {', '.join(missing)}; "
                "is it a BERT vocab.txt?"
            )
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self._id_by_token[token] for token in SPECIAL_TOKENS
        )
        self._pieces_by_word: dict[str, tuple[str, ...]] = {}
        self._ids_by_text: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self.vocabulary)

    def tokenize(self, text: str) -> list[str]:
        """Wordpieces of a text; a special token written in it is kept whole."""
        tokens: list[str] = []
        for part in _SPECIAL.split(text):
            if part in SPECIAL_TOKENS:
                tokens.append(part)
            else:
                for word in words(part, lower_case=self.lower_case):
                    tokens.extend(self._pieces(word))
        return tokens

    def ids(self, text: str) -> list[int]:
        """Ids of the wordpieces of a text, without [CLS] and [SEP]; kept for the next time."""
        known = self._ids_by_text.get(text)
        if known is None:
            known = tuple(self.token_ids(self.tokenize(text)))
            if len(self._ids_by_text) >= _REMEMBERED_TEXTS:
                self._ids_by_text.clear()
            self._ids_by_text[text] = known
        return list(known)

    def token_ids(self, tokens: Iterable[str]) -> list[int]:
        """Ids of tokens; an unknown one is [UNK]."""
        return [self._id_by_token.get(token, self.unk_id) for token in tokens]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Tokens of ids; an id outside the vocabulary is [UNK]."""
        return [self.vocabulary[i] if 0 <= i < len(self.vocabulary) else UNK for i in ids]

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Text of ids: pieces joined, English spacing mended.

        Chinese comes out with a blank between characters; `metrics.chinese.close_gaps` removes it.

        Args:
            ids: Of one sentence.
            skip_special: Leave out [PAD], [UNK], [CLS], [SEP] and [MASK].

        Source: `pt/tokenization_utils.py:decode`.
        """
        tokens = self.tokens(ids)
        if skip_special:
            tokens = [token for token in tokens if token not in SPECIAL_TOKENS]
        return _clean_up(_joined(tokens))

    def decode_parts(self, ids: Iterable[int]) -> list[str]:
        """The list that the original returns when special tokens are kept (compat Q20).

        Every [CLS] is deleted and the text cut at each [SEP]; blanks at the cuts stay.
        """
        text = _joined(self.tokens(ids)).replace(CLS, "")
        return [_clean_up(part) for part in text.split(SEP) if part]

    def _pieces(self, word: str) -> tuple[str, ...]:
        known = self._pieces_by_word.get(word)
        if known is None:
            known = self._pieces_by_word[word] = self._longest_matches(word)
        return known

    def _longest_matches(self, word: str) -> tuple[str, ...]:
        """Cut a word into the longest known pieces from the left; [UNK] if a rest stays."""
        if len(word) > LONGEST_WORD:
            return (UNK,)
        pieces: list[str] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                piece = prefix + word[start:end]
                if piece in self._id_by_token:
                    break
            else:
                return (UNK,)
            pieces.append(piece)
            start = end
        return tuple(pieces)


def words(text: str, *, lower_case: bool = True) -> list[str]:
    """Cut a text at blanks, around CJK ideographs and punctuation, before any vocabulary.

    Source: `pt/tokenization_bert.py:BasicTokenizer`.
    """
    found: list[str] = []
    for word in "".join(map(_spaced, text)).split():
        if lower_case:
            word = _without_accents(word.lower())
        found.extend("".join(f" {c} " if _is_punctuation(c) else c for c in word).split())
    return found


def read_vocabulary(path: str | Path, *, lower_case: bool = True) -> Tokenizer:
    """Tokenizer of a BERT vocab.txt: one token a line, its id the line's number from 0.

    Raises:
        VocabularyError: The file is absent, not UTF-8, or lacks a special token.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise VocabularyError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{path}: not UTF-8 at byte {error.start}") from error
    vocabulary = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    try:
        return Tokenizer(vocabulary, lower_case=lower_case)
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {error}") from error


def write_vocabulary(path: str | Path, vocabulary: Iterable[str]) -> None:
    """Write a vocab.txt that `read_vocabulary` reads."""
    atomic_write_text(Path(path), "".join(f"{token}\n" for token in vocabulary))


def build_vocabulary(
    texts: Iterable[str], *, lower_case: bool = True, max_size: int | None = None
) -> list[str]:
    """Vocabulary of a small corpus: special tokens, characters, then whole words.

    Every character met is there, once to begin a word and (letters and digits) once as `##`
    continuation, so that a new word made of known characters can still be spelled. A CJK
    ideograph is a word by itself. Frequent words come first; the order depends on the texts alone.

    Args:
        texts: Captions, questions, answers, tags of the training part.
        lower_case: As the tokenizer's.
        max_size: Leave out the rarest words beyond this many tokens; characters always stay.
    """
    counts = Counter(word for text in texts for word in words(text, lower_case=lower_case))
    characters = Counter[str]()
    continuations: set[str] = set()
    for word, count in counts.items():
        characters.update({c: count * word.count(c) for c in set(word)})
        continuations.update(f"##{c}" for c in word[1:])
    whole = Counter({word: count for word, count in counts.items() if len(word) > 1})
    pieces = [*_by_frequency(characters), *sorted(continuations)]
    vocabulary = list(dict.fromkeys([*SPECIAL_TOKENS, *pieces, *_by_frequency(whole)]))
    num_kept = len(SPECIAL_TOKENS) + len(pieces)
    return vocabulary if max_size is None else vocabulary[: max(max_size, num_kept)]


def _by_frequency(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda token: (-counts[token], token))


def _joined(tokens: Iterable[str]) -> str:
    return " ".join(tokens).replace(" ##", "").strip()


def _clean_up(text: str) -> str:
    for separated, joined in _CLEAN_UP:
        text = text.replace(separated, joined)
    return text


@lru_cache(maxsize=1 << 16)
def _spaced(character: str) -> str:
    """A character as it enters the splitting: dropped, turned to a blank, set apart, or itself."""
    if character in "\t\n\r ":
        return " "
    category = unicodedata.category(character)
    if character == "\ufffd" or category.startswith("C"):
        return ""
    if category == "Zs":
        return " "
    code = ord(character)
    if any(first <= code <= last for first, last in _CJK_BLOCKS):
        return f" {character} "
    return character


@lru_cache(maxsize=1 << 16)
def _is_punctuation(character: str) -> bool:
    """ASCII signs that are neither letter, digit nor blank, and Unicode category P."""
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")


def _without_accents(word: str) -> str:
    if word.isascii():
        return word
    return "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn")
