"""A text of labels, one a line: what `oscar-flow translate` reads."""

from translation.errors import LabelFileError

_BOM = b"\xef\xbb\xbf"


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
