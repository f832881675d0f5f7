"""Fast engines compute what the model computes, within the digits they keep."""

import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.engine import Engine
from detector.engines import calibrate as calibration
from detector.engines import fast, prepare, processor
from detector.engines.calibrate import calibrate, spread_out
from detector.engines.ranges import (
    Range,
    Ranges,
    digest_of,
    ranges_path,
    read_ranges,
    write_ranges,
)
from detector.errors import CheckpointError, DetectorConfigError
from detector.model import AttributeRCNN
from detector.preprocess import ModelImages, to_model_images
from detector.see import search, see
from tests.builders_detector import decoded, photo, tiny_model

ONE_RANGE = Ranges(by_convolution={}, weights_digest="", num_photos=1, likeness=1.0)


def input_of(model: AttributeRCNN) -> ModelImages:
    return to_model_images([photo()], model.config)


@torch.inference_mode()
def features_of(model: AttributeRCNN, name: str, ranges: Ranges | None = None) -> list[Tensor]:
    """Region features of the same boxes: the model's and the engine's."""
    engine = prepare(model, "fast", engine=name, ranges=ranges)
    images = input_of(model)
    c4 = model.trunk(images.pixels)
    boxes = search(model, c4, images.sizes)
    return [
        model.region_features(c4, boxes),
        engine.region_features(engine.trunk(images.pixels), boxes),
    ]


def test_openvino_comes_without_its_telemetry() -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    loaded = [name for name, module in sys.modules.items() if module is not None]
    assert "openvino" in loaded
    assert [name for name in loaded if name.startswith("openvino_telemetry")] == []


def test_one_module_alone_imports_openvino() -> None:
    root = Path(fast.__file__).parents[2]
    rooms = ("detector", "flows", "storage", "oscar_core", "translation", "benchmarks", "tests")
    line = re.compile(r"^\s*(import|from) openvino\b|importorskip\(.openvino", re.MULTILINE)
    paths = [path for room in rooms for path in (root / room).rglob("*.py")]
    found = [path.name for path in paths if line.search(path.read_text("utf-8"))]
    assert found == ["quiet_openvino.py"]


@pytest.mark.parametrize("trunk", ["resnet_c4", "efficientnet_lite0"])
@pytest.mark.parametrize("pooled_size", [6, 14])
def test_openvino_in_float_finds_the_regions_of_the_model(trunk: str, pooled_size: int) -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    model = tiny_model(trunk=trunk, pooled_size=pooled_size)
    engine = prepare(model, "fast", engine="openvino-f32")
    (expected,), (found,) = see(model, input_of(model)), see(engine, input_of(model))
    torch.testing.assert_close(found.boxes, expected.boxes, atol=1e-3, rtol=1e-4)
    assert found.class_ids.equal(expected.class_ids)
    torch.testing.assert_close(found.features, expected.features, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("changes", [{"stride_in_1x1": True}, {"res5_dilation": 2}, {"groups": 1}])
def test_openvino_knows_every_shape_of_block(changes: dict[str, int]) -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    expected, found = features_of(tiny_model(pooled_size=14, **changes), "openvino-f32")
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("pooled_size", [6, 14])  # from the map, or after the first convolution
def test_openvino_computes_a_region_alike_in_any_company(pooled_size: int) -> None:
    module = pytest.importorskip("detector.engines.openvino_engine", exc_type=ImportError)
    model = tiny_model(pooled_size=pooled_size)
    engine = prepare(model, "fast", engine="openvino-f32")
    c4 = model.trunk(input_of(model).pixels)
    num = module._REGIONS + 3
    boxes = torch.rand(num, 2, 2).sort(dim=1).values.flatten(1) * 60
    threads = torch.get_num_threads()
    together = engine.region_features(c4, [boxes])
    assert torch.get_num_threads() == threads
    assert together.shape == (num, engine.feature_width)
    for some in (slice(0, 1), slice(2, num)):
        torch.testing.assert_close(engine.region_features(c4, [boxes[some]]), together[some])


class SlowRequest:
    """An inference that is at work until somebody waits for it."""

    def __init__(self) -> None:
        self.is_at_work = False

    def set_input_tensor(self, number: int, tensor: object) -> None:
        assert not self.is_at_work

    def start_async(self) -> None:
        self.is_at_work = True

    def wait(self) -> None:
        self.is_at_work = False


def test_no_request_is_left_at_work_when_a_batch_cannot_be_made() -> None:
    module = pytest.importorskip("detector.engines.openvino_engine", exc_type=ImportError)
    made: list[SlowRequest] = []

    def create_infer_request() -> SlowRequest:
        made.append(SlowRequest())
        return made[-1]

    def batches() -> Iterator[list[Tensor]]:
        yield [torch.zeros(4, 2)]
        yield [torch.zeros(3, 2)]
        assert [each.is_at_work for each in made] == [True, True, False]
        raise MemoryError

    rows = module._OfRows(SimpleNamespace(create_infer_request=create_infer_request), 4, 3)
    with pytest.raises(MemoryError):
        list(rows.of_each(batches()))
    assert not any(each.is_at_work for each in made)


def test_eight_bits_stay_close_after_calibration() -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    model = tiny_model()
    ranges = calibrate(model, [decoded()])
    expected, found = features_of(model, "openvino-int8", ranges)
    likeness = functional.cosine_similarity(expected, found, dim=1).mean()
    assert 0.99 < likeness < 1 - 1e-7
    assert ranges.likeness == pytest.approx(float(likeness), abs=0.01)


def test_what_decides_digits_is_in_the_name_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("detector.engines.openvino_engine", exc_type=ImportError)
    model = tiny_model()
    ranges = replace(ONE_RANGE, weights_digest=digest_of(model))
    for has_vnni, has_bfloat16, ending in (
        (True, False, ""),
        (False, False, "-narrow"),
        (True, True, "-bf16"),
    ):
        monkeypatch.setattr(module, "has_vnni", lambda has_vnni=has_vnni: has_vnni)
        monkeypatch.setattr(module, "has_bfloat16", lambda has=has_bfloat16: has)
        engine = prepare(model, "fast", engine="openvino-int8", ranges=ranges)
        assert engine.describe() == f"fast:openvino-int8-{ranges.digest}{ending}"


def test_calibration_is_the_same_every_time_and_leaves_the_model_alone() -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    model = tiny_model()
    before = digest_of(model)
    assert calibrate(model, [decoded()]) == calibrate(model, [decoded()])
    assert digest_of(model) == before


def conv_inputs(*maps: Tensor) -> Range:
    """Of maps (cells, C)."""
    inputs = calibration._Inputs()
    for each in maps:
        inputs.add(nn.Conv2d(each.shape[1], 1, 1), each.T[None, :, None])
    return inputs.range()


def test_a_range_reaches_to_the_largest_value_of_all_photos() -> None:
    found = conv_inputs(torch.rand(100, 1), torch.tensor([[3.0]]))
    assert (found.low, found.high) == (0.0, 3.0)


def test_values_with_a_sign_get_a_range_around_zero() -> None:
    found = conv_inputs(torch.linspace(-2.0, 1.0, 1000)[:, None])
    assert (found.low, found.high) == (-2.0, 2.0)


def test_the_mean_of_a_channel_is_over_the_cells_of_all_photos() -> None:
    found = conv_inputs(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[6.0, 1 / 3]]))
    assert found.means == (3.0, 0.11111)


@pytest.mark.parametrize("groups", [1, 2])
def test_what_rounded_weights_add_on_average_is_taken_off_the_bias(groups: int) -> None:
    module = pytest.importorskip("detector.engines.openvino_graph", exc_type=ImportError)
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 4, 3, groups=groups)
    means = torch.rand(6)
    known = {"conv": Range(low=0.0, high=1.0, means=tuple(means.tolist()))}
    step = conv.weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    even = means[:, None, None].expand(1, -1, 3, 3)  # what the rounded weights make of it is exact
    rounded = functional.conv2d(even, (conv.weight / step).round() * step, groups=groups)
    bias = module.GraphBuilder({conv: "conv"}, known, 1).bias(conv).get_data().copy()
    expected = conv(even)[0]
    torch.testing.assert_close(rounded[0] + torch.from_numpy(bias)[0], expected)
    assert conv.bias is not None
    assert not torch.allclose(rounded[0] + conv.bias[:, None, None], expected, atol=1e-4)


def test_multiplications_are_counted_by_cells_that_come_out() -> None:
    inputs = calibration._Inputs()
    inputs.add(nn.Conv2d(4, 6, 3, stride=2, groups=2), torch.zeros(1, 4, 5, 7))
    assert inputs.products == 6 * 2 * 9 * 3 * 4


def test_the_first_blocks_stay_in_float_until_features_are_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    model = tiny_model()
    whole = calibrate(model, [decoded()])
    blocks = calibration._blocks(model, whole)
    assert [name for block in blocks for name in block] == list(whole.by_convolution)

    def likeness(engine: Engine, examples: object) -> float:
        is_like = engine.ranges_left <= num_left  # type: ignore[attr-defined]  # put there above
        return 0.9995 if is_like else 0.99

    def engine(model: AttributeRCNN, arithmetic: str, ranges: Ranges) -> SimpleNamespace:
        return SimpleNamespace(ranges_left=len(ranges.by_convolution))

    monkeypatch.setattr(calibration, "likeness_of", likeness)
    monkeypatch.setattr("detector.engines.openvino_engine.OpenVinoEngine", engine)
    for left in range(1, len(blocks) + 1):
        last = [name for block in blocks[-left:] for name in block]
        num_left = len(last)
        found = calibrate(model, [decoded()])
        assert list(found.by_convolution) == last
        assert found.likeness == 0.9995
        assert 0 < found.share < 1
    num_left = 1
    everywhere = calibrate(model, [decoded()], least_likeness=0.0)
    assert list(everywhere.by_convolution) == list(whole.by_convolution)
    num_left = 0
    assert list(calibrate(model, [decoded()]).by_convolution) == list(whole.by_convolution)


def test_the_proposal_head_and_the_stem_stay_in_float() -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    names = calibrate(tiny_model(), [decoded()], least_likeness=0.0).by_convolution
    assert not [name for name in names if name.startswith(("rpn_head", "trunk.stem"))]
    assert any(name.startswith("trunk.stages") for name in names)


def test_the_likeness_is_the_mean_over_the_regions_of_all_photos() -> None:
    one, other = torch.eye(2).tolist()

    def example(features: list[float]) -> calibration._Example:
        return calibration._Example(
            pixels=torch.zeros(1), boxes=torch.zeros(1, 4), features=torch.tensor([features])
        )

    engine = SimpleNamespace(
        trunk=lambda pixels: pixels, region_features=lambda c4, boxes: torch.tensor([one])
    )
    assert calibration.likeness_of(engine, [example(one), example(other)]) == 0.5


def test_calibration_without_photos_is_refused() -> None:
    with pytest.raises(DetectorConfigError, match="needs photos"):
        calibrate(tiny_model(), [])


def test_ranges_come_back_from_their_file(tmp_path: Path) -> None:
    ranges = Ranges(
        by_convolution={"trunk.stem.conv1": Range(low=-1.5, high=1.5, means=(0.1, -1.5))},
        weights_digest="abc",
        num_photos=3,
        likeness=0.9995,
        likeness_bf16=0.9991,
        share=0.75,
    )
    path = ranges_path(tmp_path)
    write_ranges(path, ranges)
    assert read_ranges(path) == ranges
    assert read_ranges(path).digest == ranges.digest
    assert read_ranges(path).source == str(path)
    assert ranges_path(tmp_path / "x152.pth").name == "x152.pth.ranges.json"
    told = Path(fast.__file__).parents[2].joinpath("docs/fast.md").read_text(encoding="utf-8")
    assert "`vinvl.pth.ranges.json` beside `vinvl.pth`" in " ".join(told.split())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 2, "ranges": {}}',
        '{"version": 1, "ranges": {"a": 3}}',
        *(
            '{"version": 3, "weights": "", "num_photos": 1, "likeness": 1, "likeness_bf16": 1, '
            f'"share": 1, "ranges": {{"a": {each}}}}}'
            for each in ("[0, NaN, []]", "[0, 0, []]", "[0, 1, [2]]", "[0, 1, [NaN]]", "[0, 1]")
        ),
    ],
)
def test_a_damaged_file_of_ranges_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "detector.ranges.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"^{path}: .*; delete .*oscar-flow calibrate"):
        read_ranges(path)


def test_ranges_of_other_weights_are_refused() -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    foreign = replace(ONE_RANGE, source="x.ranges.json")
    with pytest.raises(CheckpointError, match=r"^x\.ranges\.json: .*other weights; delete"):
        prepare(tiny_model(), "fast", engine="openvino-int8", ranges=foreign)


def test_what_is_chosen_follows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "find_spec", lambda name: object())
    monkeypatch.setattr(fast, "has_bfloat16", lambda: False)
    assert fast.choose("cpu", None) == "openvino-f32"
    assert fast.choose("cpu", ONE_RANGE) == "openvino-int8"
    assert fast.choose("cpu", replace(ONE_RANGE, likeness=0.99)) == "openvino-f32"
    monkeypatch.setattr(fast, "has_bfloat16", lambda: True)
    assert fast.choose("cpu", None) == "openvino-bf16"
    assert fast.choose("cpu", replace(ONE_RANGE, likeness=0.99)) == "openvino-f32"
    measured = replace(ONE_RANGE, likeness_bf16=0.9999)
    assert fast.choose("cpu", measured) == "openvino-int8"
    assert fast.choose("cpu", replace(measured, share=0.3)) == "openvino-bf16"
    assert fast.choose("cpu", replace(ONE_RANGE, share=0.3)) == "openvino-int8"
    assert fast.choose("cpu", replace(measured, likeness=0.99)) == "openvino-bf16"
    monkeypatch.setattr(fast, "find_spec", lambda name: None)
    assert fast.choose("cpu", ONE_RANGE) == "torch-bf16"
    assert fast.choose("cpu", ONE_RANGE, is_resnet=False) == "torch-f32"


def test_an_engine_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    small, lite = tiny_model(), tiny_model(trunk="efficientnet_lite0")
    assert prepare(small, "fast", engine="torch-bf16").describe() == "fast:torch-bf16"
    assert prepare(lite, "fast", engine="torch-bf16").describe() == "fast:torch-bf16"
    assert prepare(small, "fast", engine="torch-fp16").describe() == "fast:torch-fp16"
    on_device = prepare(small, "fast", engine="torch-f32", device="meta")
    assert (on_device.describe(), on_device.device.type) == ("exact", "meta")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert fast.choose("cuda", None) == "torch-fp16"


@pytest.mark.parametrize("name", ["openvino-f32", "torch-bf16", "torch-fp16"])
def test_no_regions_have_no_features(name: str) -> None:
    if name.startswith("openvino"):
        pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    model = tiny_model()
    engine = prepare(model, "fast", engine=name)
    c4 = engine.trunk(input_of(model).pixels)
    assert engine.region_features(c4, [torch.zeros(0, 4)]).shape == (0, model.feature_width)


def test_without_openvino_the_log_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fast, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        prepare(tiny_model(trunk="efficientnet_lite0"), "fast")
    assert "oscar-flow[openvino]" in caplog.text


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("tensorrt", "cpu", "no engine 'tensorrt'"),
        ("openvino-f32", "cuda", "computes on the CPU"),
        ("openvino-int8", "cpu", "oscar-flow calibrate"),
    ],
)
def test_engines_that_cannot_run_are_refused(name: str, device: str, message: str) -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    with pytest.raises(DetectorConfigError, match=message):
        fast.prepare_fast(tiny_model(), device, engine=name)


@pytest.mark.parametrize(
    ("limit", "vnni", "bfloat16"),
    [("", True, True), ("AVX2", False, False), ("avx512_core_vnni", True, False)],
)
def test_hidden_instruction_sets_do_not_count(
    monkeypatch: pytest.MonkeyPatch, limit: str, vnni: bool, bfloat16: bool
) -> None:
    monkeypatch.setattr(
        processor, "instruction_sets", lambda: frozenset({"avx512_vnni", "avx512_bf16"})
    )
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert (processor.has_vnni(), processor.has_bfloat16()) == (vnni, bfloat16)


def test_a_photo_has_the_same_bits_whoever_computes_it() -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    from concurrent.futures import ThreadPoolExecutor

    from detector.engines.openvino_engine import OpenVinoEngine

    model = tiny_model()
    images = input_of(model)
    alone = see(OpenVinoEngine(model, "f32", threads=1), images)[0]
    shared = OpenVinoEngine(model, "f32", threads=2)
    with ThreadPoolExecutor(4) as pool:
        for (found,) in pool.map(lambda _: see(shared, images), range(8)):
            np.testing.assert_array_equal(found.features.numpy(), alone.features.numpy())


def test_boxes_are_spread_over_the_list() -> None:
    boxes = torch.arange(40.0).reshape(10, 4)
    assert spread_out(boxes, 4)[:, 0].tolist() == [0.0, 12.0, 24.0, 36.0]
    assert len(spread_out(boxes, 100)) == 10
