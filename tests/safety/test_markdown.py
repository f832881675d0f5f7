"""Captions and names on Prefect's pages are text, whatever they hold."""

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flows.orchestration.plain_text import plain


def rendered(text: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(f"- {plain(text)}\n")


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        "[here](javascript:alert(1))",
        "![](http://elsewhere.example/x.png)",
        "<http://elsewhere.example>",
        "`code` **bold** ~~gone~~ # head",
        "| a | b |\n|---|---|",
        "&lt;b&gt; &copy;",
        "1. a\n\n```\nb",
    ],
)
def test_nothing_in_it_becomes_markup(text: str) -> None:
    tags = set(re.findall(r"</?(\w+)", rendered(text)))
    assert tags == {"ul", "li"}


@given(text=st.text("<>&[]()!`*_#|\\~-+.:/ab\u72d7 1\n", min_size=1))
def test_it_is_shown_as_it_is(text: str) -> None:
    shown = unescape(re.sub(r"</?(ul|li)>", "", rendered(f"x{text}"))).strip()
    assert " ".join(shown.split()) == " ".join(f"x{text}".split())
