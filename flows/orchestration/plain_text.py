"""Text of others inside Markdown: it is read, never obeyed."""

import re

_SIGNS = re.compile(r"([!-/:-@\[-`{-~])")
"""Every sign that Markdown or HTML may take for its own; a backslash makes each of them itself."""


def plain(text: str) -> str:
    """The text as Markdown that shows it as it is, on one line."""
    return _SIGNS.sub(r"\\\1", " ".join(text.split()))
