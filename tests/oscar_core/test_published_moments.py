"""`optimizer.pth`: moments find their parameters by place."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from oscar_core.errors import WeightsError
from oscar_core.models import PretrainingModel
from oscar_core.published.bert_names import to_published
from oscar_core.published.moments import read_moments
from tests.builders_core import make_config, seeded

FIRST_ID = 140_000


def original(model: PretrainingModel) -> nn.ParameterDict:
    """The same parameters as the original registers them: its order, the tied decoder once."""
    state = to_published(model.state_dict())
    del state["cls.predictions.decoder.weight"]
    parameters = nn.ParameterDict()
    for name, value in state.items():
        parameters[name.replace(".", "/")] = nn.Parameter(value.clone())
    return parameters


def stored(model: PretrainingModel) -> dict[str, Any]:
    """What the original's optimiser saves: numbers it calls parameters by, two groups, moments.

    A moment is filled with the place of its tensor in the file.
    """
    names = [name.replace("/", ".") for name in original(model)]
    shapes = [tuple(value.shape) for value in original(model).values()]
    quiet = [any(word in name for word in ("bias", "LayerNorm.weight")) for name in names]
    groups = [
        [n for n, is_quiet in enumerate(quiet) if is_quiet is which] for which in (False, True)
    ]
    state = {
        FIRST_ID + n: {
            "step": 7,
            "exp_avg": torch.full(shape, float(n)),
            "exp_avg_sq": torch.full(shape, float(n) + 0.5),
        }
        for n, shape in enumerate(shapes)
    }
    params = [{"params": [FIRST_ID + n for n in group], "lr": 1e-4} for group in groups]
    return {"optimizer": {"state": state, "param_groups": params}, "scheduler": {"last_epoch": 7}}


def test_every_moment_finds_its_parameter(tmp_path: Path) -> None:
    seeded()
    model = PretrainingModel(make_config())
    for parameter in model.parameters():
        nn.init.normal_(parameter)  # no two alike
    torch.save(stored(model), tmp_path / "optimizer.pth")
    found = read_moments(tmp_path / "optimizer.pth", model)
    parameters = dict(model.named_parameters())
    assert found.keys() == parameters.keys()
    values = {name.replace("/", "."): value for name, value in original(model).items()}
    places = {value.data_ptr(): n for n, value in enumerate(values.values())}
    assert len(places) == len(parameters)
    for name, moments in found.items():
        place = int(moments["mean"].flatten()[0])
        assert torch.equal(list(values.values())[place], parameters[name]), name
        assert (moments["square"] == place + 0.5).all()
        assert moments["step"] == 7


def test_an_optimiser_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "optimizer.pth"
    torch.save(stored(PretrainingModel(make_config())), path)
    with pytest.raises(WeightsError, match="another checkpoint"):
        read_moments(path, PretrainingModel(make_config(num_layers=3)))
    with pytest.raises(WeightsError, match="the parameter"):
        read_moments(path, PretrainingModel(make_config(intermediate_size=20)))


@pytest.mark.parametrize("content", [{}, {"optimizer": []}, {"optimizer": {"param_groups": [1]}}])
def test_other_files_are_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "optimizer.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError):
        read_moments(path, PretrainingModel(make_config()))
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(WeightsError):
        read_moments(path, PretrainingModel(make_config()))
