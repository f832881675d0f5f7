"""One finished run for all tests that only read it."""

import pytest

from tests.builders_report import MadeRun, make_run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    """Do not write into it: take `copied(made, tmp_path)` for that."""
    return make_run(tmp_path_factory.mktemp("run") / "demo")
