"""The environment that runs these tests is whole, and the doctor can tell one that is not."""

from pathlib import Path

from flows.doctor import Finding, _bounded, _package, examine


def test_this_environment_is_whole(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in examine(tmp_path / "not" / "made" / "yet")}
    sick = [f"{each.name}: {each.found}" for each in found.values() if not each.is_well]
    assert not sick
    assert found["Java"].found != "none"
    assert f"room in {tmp_path}" in found


def test_a_missing_package_and_a_release_that_clashes_get_a_remedy() -> None:
    assert _package("no_such_package").remedy == "make env"
    assert not _bounded("sqlalchemy", (1, 0), "why").is_well
    assert _bounded("sqlalchemy", (1, 0), "why").remedy == "install sqlalchemy<1.0: why"
    assert Finding(name="one", found="1").is_well
