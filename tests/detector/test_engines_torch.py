"""The engine for GPUs, on the processor and on a device that is pretended."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from detector.engines import prepare, torch_engine
from detector.engines.torch_engine import TorchEngine
from detector.model import AttributeRCNN
from detector.preprocess import ModelImages, to_model_images
from detector.see import Detections, search, see
from tests.builders_detector import photo, tiny_model
from tests.pretended_device import PLACE, pretended_device


def images_of(model: AttributeRCNN, *shapes: tuple[int, int]) -> ModelImages:
    return to_model_images([photo(*shape, seed=i) for i, shape in enumerate(shapes)], model.config)


def same(found: list[Detections], wanted: list[Detections], **bounds: float) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.class_ids.tolist() == theirs.class_ids.tolist()
        for field in ("boxes", "scores", "features", "attribute_logits"):
            torch.testing.assert_close(getattr(ours, field), getattr(theirs, field), **bounds)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_sixteen_bits_of_torch_stay_close(dtype: torch.dtype) -> None:
    model = tiny_model()
    engine = TorchEngine(model, "cpu", dtype)
    images = images_of(model, (48, 64))
    c4 = model.trunk(images.pixels)
    boxes = search(model, c4, images.sizes)
    expected = model.region_features(c4, boxes)
    found = engine.region_features(engine.trunk(images.pixels), boxes)
    assert found.dtype == torch.float32
    assert functional.cosine_similarity(expected, found, dim=1).min() > 0.995
    assert len(see(engine, images)[0].boxes)


def test_regions_pass_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    images, engine = images_of(model, (48, 64), (48, 64)), TorchEngine(model, "cpu")
    whole = see(engine, images)
    sizes: list[int] = []
    stage = engine._res5
    monkeypatch.setattr(engine, "_res5", lambda maps: sizes.append(len(maps)) or stage(maps))
    monkeypatch.setattr(torch_engine, "_REGIONS_AT_ONCE", 7)
    same(see(engine, images), whole, rtol=1e-5, atol=1e-5)
    assert sizes == [7, 7, 7, 3]


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("regress_boxes", [False, True])
def test_a_device_is_waited_for_once_a_photo_and_a_few_times_for_all(
    number: Any, regress_boxes: bool
) -> None:
    model = tiny_model()
    rules = replace(model.config.regions, filter=number, regress_boxes=regress_boxes)
    waits = {}
    for batch in (1, 3):
        images = images_of(model, *[(48, 64)] * batch)
        wanted = see(TorchEngine(model, "cpu"), images, rules=rules)
        with pretended_device() as counted:
            engine = TorchEngine(model, str(PLACE))
            assert engine.device == PLACE
            counted.clear()
            found = see(engine, images, rules=rules)
            waits[batch] = counted.copy()
        same(found, wanted, rtol=0, atol=0)
        assert {each.features.device.type for each in found} == {"cpu"}
        assert waits[batch].pop("torchvision::nms") == batch
    assert set(waits[1]) == {"aten::_to_copy"}
    assert waits[1] == waits[3]


def test_boxes_in_memory_may_be_given_to_a_device() -> None:
    model = tiny_model()
    images, boxes = images_of(model, (48, 64)), [torch.tensor([[-30.0, -30, 20, 20]])]
    with pretended_device():
        found = see(TorchEngine(model, str(PLACE)), images, forced_boxes=boxes)
    same(found, see(TorchEngine(model, "cpu"), images, forced_boxes=boxes), rtol=0, atol=0)


def test_the_pretended_device_refuses_what_a_gpu_refuses() -> None:
    with pretended_device() as waits:
        there = torch.ones(3).to(PLACE)
        with pytest.raises(RuntimeError, match="tensors of"):
            there + torch.ones(3)
        assert (there + 1).sum().item() == 6
    assert waits == {"aten::_to_copy": 1, "aten::_local_scalar_dense": 1}


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [
        ("eager", torch.bfloat16),
        pytest.param("inductor", torch.float32, marks=pytest.mark.slow),
    ],
)
def test_compiled_parts_compute_the_same_for_every_size(backend: str, dtype: torch.dtype) -> None:
    model = tiny_model()
    engine = TorchEngine(model, "cpu", dtype, compile_with=backend)
    plain = TorchEngine(model, "cpu", dtype)
    assert engine.describe() == ("exact" if dtype == torch.float32 else "fast:torch-bf16-compiled")
    bounds = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.1}
    for shapes in ([(48, 64)] * 3, [(64, 48)], [(50, 90)] * 2, [(48, 64)]):
        images = images_of(model, *shapes)
        with torch.inference_mode():
            c4, wanted = engine.trunk(images.pixels), plain.trunk(images.pixels)
            scale = float(wanted.float().abs().max())
            close = {"rtol": bounds["rtol"], "atol": bounds["atol"] * scale}
            torch.testing.assert_close(c4, wanted, **close)
            boxes = search(plain, wanted, images.sizes)
            torch.testing.assert_close(
                engine.region_features(wanted, boxes), plain.region_features(wanted, boxes), **close
            )
    assert len(see(engine, images)[0].boxes) > 0


def test_a_compiled_engine_serves_several_threads() -> None:
    model = tiny_model()
    engine = TorchEngine(model, "cpu", compile_with="eager")
    batches = [images_of(model, *[(48, 64)] * (1 + at % 2)) for at in range(6)]
    wanted = [see(TorchEngine(model, "cpu"), images) for images in batches]
    with ThreadPoolExecutor(3) as pool:
        for found, expected in zip(
            pool.map(lambda images: see(engine, images), batches), wanted, strict=True
        ):
            same(found, expected, rtol=1e-4, atol=1e-4)


def broken(graph: Any, inputs: Any) -> Any:
    raise RuntimeError("no compiler here")


def wrong(graph: Any, inputs: Any) -> Any:
    return lambda *tensors: [1.1 * each for each in graph(*tensors)]


@pytest.mark.parametrize(
    ("backend", "message"), [(broken, "no compiler here"), (wrong, "would be off by 0.1")]
)
def test_what_cannot_be_compiled_rightly_is_left_as_it_is(
    backend: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model()
    with caplog.at_level(logging.WARNING, "detector"):
        engine = TorchEngine(model, "cpu", torch.bfloat16, compile_with=backend)
    told = [record.message for record in caplog.records if record.name.startswith("detector")]
    assert len(told) == 1
    assert message in told[0]
    assert engine.describe() == "fast:torch-bf16"
    images = images_of(model, (48, 64))
    same(see(engine, images), see(TorchEngine(model, "cpu", torch.bfloat16), images))


def test_an_engine_is_compiled_only_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        torch_engine,
        "compiled_parts",
        lambda parts, examples, backend: asked.append(backend) or list(parts),
    )
    model = tiny_model(trunk="efficientnet_lite0")
    prepare(model)
    assert asked == []
    prepare(model, compile_with="one")
    prepare(model, "fast", engine="torch-fp16", compile_with="another")
    assert asked == ["one", "another"]
