"""SECURITY.md names tests that exist."""

import re

import pytest

from tests.builders_flows import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
FILES = sorted(set(re.findall(r"`(tests/[\w/]+\.py)`", TEXT)))


@pytest.mark.parametrize("name", FILES)
def test_a_file_named_exists(name: str) -> None:
    assert (ROOT / name).is_file()


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(test_\w+)`", TEXT))))
def test_a_test_named_stands_in_a_file_named(test: str) -> None:
    assert any(f"def {test}(" in (ROOT / name).read_text() for name in FILES)


def test_names_are_found() -> None:
    assert len(FILES) > 8
