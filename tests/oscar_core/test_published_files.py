"""Files of published folders that are old, cut, foreign or hostile."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from oscar_core.errors import OscarCoreError, WeightsError
from oscar_core.models import PretrainingModel
from oscar_core.published.checkpoints import load_published_folder
from oscar_core.published.weights_file import PICKLED, SAFETENSORS, read_tensors
from oscar_core.published.writing import write_published
from tests.builders_core import make_config, make_tokenizer


def published(folder: Path) -> Path:
    write_published(folder, PretrainingModel(make_config()), make_tokenizer())
    return folder


def test_safetensors_are_preferred_and_the_pickle_is_not_opened(tmp_path: Path) -> None:
    published(tmp_path)
    state = read_tensors(tmp_path / PICKLED)
    save_file({name: value.clone() for name, value in state.items()}, tmp_path / SAFETENSORS)
    (tmp_path / PICKLED).write_bytes(b"not a file of torch")
    assert load_published_folder(tmp_path).report.file.name == SAFETENSORS


def test_files_of_old_torch_are_read(tmp_path: Path) -> None:
    published(tmp_path)
    state = read_tensors(tmp_path / PICKLED)
    torch.save(state, tmp_path / PICKLED, _use_new_zipfile_serialization=False)
    again = read_tensors(tmp_path / PICKLED)
    assert list(again) == list(state)
    assert all(torch.equal(again[name], state[name]) for name in state)


class Mischief:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("form", ["bare", "torch", "old torch", "list", "numbers", "empty", "none"])
def test_hostile_and_foreign_pickles_run_nothing_and_are_one_line(
    form: str, tmp_path: Path
) -> None:
    mark = tmp_path / "owned"
    path = published(tmp_path) / PICKLED
    hostile = {"bert.pooler.dense.bias": torch.zeros(1), "x": Mischief(mark)}
    if form == "bare":
        path.write_bytes(pickle.dumps(Mischief(mark)))
    elif form in ("torch", "old torch"):
        torch.save(hostile, path, _use_new_zipfile_serialization=form == "torch")
    elif form == "none":
        path.write_bytes(b"")
    else:
        torch.save({"list": [1], "numbers": {"a": 3}, "empty": {}}[form], path)
    with pytest.raises(WeightsError) as refused:
        load_published_folder(tmp_path)
    assert "\n" not in str(refused.value)
    assert PICKLED in str(refused.value)
    assert "weights_only" not in str(refused.value)
    if form in ("bare", "torch", "old torch"):
        assert "holds code" in str(refused.value)
        assert "refused" in str(refused.value)
    assert not mark.exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", [PICKLED, SAFETENSORS])
def test_cut_files_are_one_line(name: str, share: float, tmp_path: Path) -> None:
    published(tmp_path)
    state = read_tensors(tmp_path / PICKLED)
    if name == SAFETENSORS:
        save_file({key: value.clone() for key, value in state.items()}, tmp_path / SAFETENSORS)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(OscarCoreError) as refused:
        load_published_folder(tmp_path)
    assert "\n" not in str(refused.value)
    assert f"{len((tmp_path / name).read_bytes()):,} bytes; fetch it again" in str(refused.value)


def test_other_pickles_of_the_folder_are_never_opened(tmp_path: Path) -> None:
    mark = tmp_path / "owned"
    published(tmp_path)
    for name in ("training_args.bin", "optimizer.pth"):
        (tmp_path / name).write_bytes(pickle.dumps(Mischief(mark)))
    load_published_folder(tmp_path)
    assert not mark.exists()
