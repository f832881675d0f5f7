"""What a step takes is compared with what the step before it made."""

from pathlib import Path

import pytest

from flows.identity import IDENTITY
from flows.intact import check_inputs
from storage.artifacts import write_done
from storage.errors import DamagedFileError


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The folder of a finished step: a model of two files, and a shard."""
    folder = tmp_path / "run" / "train-0123456789ab"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_bytes(b"12345")
    (folder / "model" / "names").write_bytes(b"a b")
    (folder / "rows.parquet").write_bytes(b"rows")
    (folder / IDENTITY).write_text("{}")
    write_done(folder, "0123", {})
    return folder


def test_whole_inputs_and_those_from_outside_are_taken(made: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("no step made it")
    check_inputs({"model": made / "model", "more": {"all": made, "out": tmp_path / "outside"}})


@pytest.mark.parametrize("place", ["model", "model/weights", "."])
def test_a_changed_bit_is_named_with_the_step_that_mends_it(made: Path, place: str) -> None:
    (made / "model" / "weights").write_bytes(b"12344")
    with pytest.raises(DamagedFileError, match=r"weights: bytes changed .* --from train"):
        check_inputs({"more": {"a": made / place}})


def test_a_registered_version_is_not_made_again_but_left_for_another(tmp_path: Path) -> None:
    version = tmp_path / "run" / "models" / "0001"
    (version / "train_detector").mkdir(parents=True)
    weights = version / "train_detector" / "model.safetensors"
    weights.write_bytes(b"12345")
    write_done(version, "0123", {})
    weights.write_bytes(b"12344")
    with pytest.raises(DamagedFileError) as error:
        check_inputs({"detector": version / "train_detector"})
    said = f"registered version, choose another: oscar-flow models rollback {tmp_path}/run"
    assert str(error.value).endswith(said)


def test_only_what_is_taken_is_compared_and_shards_are_their_readers_matter(made: Path) -> None:
    (made / "model" / "names").write_bytes(b"a c")
    (made / "rows.parquet").write_bytes(b"rowz")
    check_inputs({"weights": made / "model" / "weights", "rows": made / "rows.parquet"})
