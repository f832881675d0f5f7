"""The vocabulary of a published folder: `vocab.txt`, then the words of `added_tokens.json`."""

import json
from pathlib import Path

from oscar_core.errors import VocabularyError
from oscar_core.tokens import Tokenizer, read_vocabulary

VOCABULARY, ADDED = "vocab.txt", "added_tokens.json"


def read_published_vocabulary(
    folder: Path, instead: Path | None, size: int, *, lower_case: bool
) -> Tokenizer:
    """Read the words of a model.

    Args:
        folder: The published one.
        instead: A vocabulary file to take instead of the folder's.
        size: Rows of the model's word embedding.
        lower_case: See `Tokenizer`.

    Raises:
        VocabularyError: It is missing, damaged, or has another number of words.
    """
    path = instead or folder / VOCABULARY
    if not path.is_file():
        raise VocabularyError(
            f"{path}: not there; put the model's vocabulary of {size} words there, or name a file"
        )
    tokenizer = read_vocabulary(path, lower_case=lower_case)
    added = _added(folder / ADDED, len(tokenizer)) if instead is None else []
    if added:
        tokenizer = Tokenizer([*tokenizer.vocabulary, *added], lower_case=lower_case)
    if len(tokenizer) != size:
        raise VocabularyError(
            f"{path}: {len(tokenizer)} words, the model's word embedding has {size} rows; "
            "is it the vocabulary of another model?"
        )
    return tokenizer


def _added(path: Path, first: int) -> list[str]:
    """Words that fine-tuning put behind the vocabulary, in the order of their ids."""
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        words = sorted(content, key=content.__getitem__)
        if [content[word] for word in words] != list(range(first, first + len(words))):
            raise ValueError(f"ids do not follow {first - 1}")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise VocabularyError(f"{path}: no list of added tokens ({error})") from error
    return words
