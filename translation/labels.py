"""A text of labels, one a line, translated: what `oscar-flow translate` prints."""

import json
from dataclasses import asdict, dataclass

from translation.coverage import Coverage
from translation.dictionary import TagDictionary, Translation
from translation.errors import LabelFileError
from translation.lexicon import Kind

_BOM = b"\xef\xbb\xbf"
_SHOWN_MISSING = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedLabels:
    """Labels with their words, in the order of the text."""

    tags: tuple[Translation, ...]
    coverage: Coverage

    def as_json(self) -> str:
        """`{"tags": [{"english", "chinese", "source"}], "coverage": ...}` as one document."""
        document = {
            "tags": [asdict(each) for each in self.tags],
            "coverage": self.coverage.as_json(),
        }
        return json.dumps(document, ensure_ascii=False, indent=1)

    def as_text(self) -> str:
        """One line a label: English, Chinese and source between tabs; then the coverage."""
        lines = [f"{each.english}\t{each.chinese}\t{each.source}" for each in self.tags]
        num, num_missing = self.coverage.num_labels, self.coverage.num_missing
        share = f" ({100 * (num - num_missing) / num:.1f} %)" if num else ""
        lines.append(f"# {num - num_missing} of {num} labels have a Chinese word{share}")
        missing = dict.fromkeys(each.english for each in self.tags if not each.is_covered)
        if missing:
            shown = ", ".join(list(missing)[:_SHOWN_MISSING])
            more = f" and {len(missing) - _SHOWN_MISSING} more" * (len(missing) > _SHOWN_MISSING)
            lines.append(f"# without one: {shown}{more}")
        return "\n".join(lines)


def read_labels(content: bytes, name: str) -> list[str]:
    """Labels of a text, one a line; empty lines and outer white space do not count.

    Args:
        content: UTF-8, with or without byte order mark; any line ends.
        name: of the file, for the error.

    Raises:
        LabelFileError: It is not text in UTF-8; line and byte are named.
    """
    content = content.removeprefix(_BOM)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise LabelFileError(
            f"{name}: line {line}: byte {error.start} is not UTF-8; convert the file to UTF-8"
        ) from error
    if "\0" in text:
        raise LabelFileError(f"{name}: holds NUL characters, so it is no text of labels")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.strip() for line in lines if line.strip()]


def translate_labels(
    content: bytes, name: str, kind: Kind, dictionary: TagDictionary
) -> TranslatedLabels:
    """Translate a text of labels.

    Raises:
        LabelFileError: It is not text in UTF-8.
        UntranslatedError: The dictionary's policy is "fail" and labels are not covered.
    """
    tags = tuple(dictionary.translate(read_labels(content, name), kind))
    coverage = Coverage()
    coverage.add(tags, kind)
    return TranslatedLabels(tags=tags, coverage=coverage)
