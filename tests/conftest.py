"""Settings of the whole suite: Hypothesis profile, one thread per process, folders that exist."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from tests.prefect_server import serving

settings.register_profile("default", max_examples=50, deadline=None)
settings.register_profile("thorough", max_examples=200, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_configure() -> None:
    """Refuse a folder that was named and is not there: its tests would skip in silence."""
    for name in ("OSCAR_ORACLE_DIR", "OSCAR_DATA_DIR"):
        if os.environ.get(name) and not Path(os.environ[name]).is_dir():
            raise pytest.UsageError(f"{name}={os.environ[name]} is no folder")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """API address of a running Prefect server, one for all tests of this process."""
    with serving(tmp_path_factory.mktemp("server")) as address:
        yield address
