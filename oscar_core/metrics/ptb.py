"""Tokens of the English COCO protocol: Stanford's PTBTokenizer and pycocoevalcap's drop list.

The lexer looks a little past the end of a line (an abbreviation before a line that begins with a
capital), so captions are given to it in the order and grouping of the original wrapper: all
references in one run, all candidates of one set in another.
"""

from collections.abc import Sequence
from pathlib import Path

from oscar_core.metrics.errors import JavaProcessError
from oscar_core.metrics.java import find_jar, run_java

PUNCTUATION = frozenset(
    (
        *("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"),
        *(".", "?", "!", ",", ":", "-", "--", "...", ";"),
    )
)
"""Tokens dropped after the jar ran; pycocoevalcap 1.2, tokenizer/ptbtokenizer.py:PUNCTUATIONS.

The jar lower-cases, so the four bracket names never match and brackets stay."""

LINE_BREAKS = str.maketrans(dict.fromkeys("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", " "))
"""Each of these would end a line for one of the two Java programs (specs/metrics.md 1.2)."""

START_SECONDS = 120.0
CAPTIONS_PER_SECOND = 200.0
"""The slowest to be borne; measured are some thousands a second."""


def on_one_line(text: str) -> str:
    """The text with every line-breaking character replaced by one space."""
    return text.translate(LINE_BREAKS)


def ptb_lines(
    captions: Sequence[str], *, java: Path | None = None, timeout_seconds: float | None = None
) -> list[str]:
    """What the jar prints for each caption, punctuation included, lower-cased.

    Raises:
        JavaUnavailableError: There is no Java.
        JavaProcessError: The jar failed, took too long, or answered another number of lines.
    """
    if not captions:
        return []
    jar = find_jar("tokenizer", "stanford-corenlp-3.4.1.jar")
    output = run_java(
        ("-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"),
        input_text="\n".join(on_one_line(caption) for caption in captions) + "\n",
        timeout_seconds=timeout_seconds or START_SECONDS + len(captions) / CAPTIONS_PER_SECOND,
        java=java,
    )
    lines = output.split("\n")
    if lines[-1] != "" or len(lines) - 1 != len(captions):
        raise JavaProcessError(
            f"PTB tokenizer: {len(lines) - 1} lines for {len(captions)} captions; "
            "a caption holds a line break that we do not know of"
        )
    return [line.rstrip() for line in lines[:-1]]


def ptb_tokenize(
    captions: Sequence[str], *, java: Path | None = None, timeout_seconds: float | None = None
) -> list[str]:
    """Tokens of each caption joined by one space, without the dropped punctuation.

    Raises:
        JavaUnavailableError: There is no Java.
        JavaProcessError: The jar failed, took too long, or answered another number of lines.
    """
    lines = ptb_lines(captions, java=java, timeout_seconds=timeout_seconds)
    return [" ".join(t for t in line.split(" ") if t not in PUNCTUATION) for line in lines]
