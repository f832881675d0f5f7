"""Where the recorded outputs and the real data lie; a test without them skips with a reason."""

import os
from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def oracle_dir(*parts: str) -> Path:
    """Folder of recorded cases, e.g. `oracle_dir("metrics")`; for use while tests are collected."""
    return Path(os.environ.get("OSCAR_ORACLE_DIR") or _SHARED / "oracle").joinpath(*parts)


def data_place(*parts: str) -> Path:
    """Where real data lies or would lie; for use while tests are collected."""
    return Path(os.environ.get("OSCAR_DATA_DIR") or _SHARED / "data").joinpath(*parts)


def data_dir(*parts: str) -> Path:
    """Folder or file of the real data; skips the calling test where it is absent."""
    path = data_place(*parts)
    if not path.exists():
        pytest.skip(f"{path.name} is not here; set OSCAR_DATA_DIR to the folder of the real data")
    return path


def oracle_files(folder: str, pattern: str) -> list[Path]:
    """Recorded case files of one kind; [] where the folder is absent.

    Raises:
        AssertionError: The folder is there but holds no such file.
    """
    root = oracle_dir(*folder.split("/"))
    if not root.is_dir():
        return []
    found = sorted(root.glob(pattern))
    assert found, f"{root} holds no {pattern}"
    return found
