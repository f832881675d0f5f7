"""The training as a whole: it learns, and a stop anywhere changes nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from detector.checkpoints import WEIGHTS_NAME, read_detector
from detector.config import preset
from detector.detect import detect
from detector.errors import DetectorError, DetectorStoppedError
from detector.training.checkpoint import CHECKPOINT
from detector.training.config import CropWarmup, DetectorTraining
from detector.training.photos import label_map_from
from detector.training.train import StepReport, TrainingSummary, train_detector
from storage.images import decode
from storage.published.label_maps import LabelMap
from tests.builders_detector import tiny_config
from tests.builders_scenes import block_photos

TRAINING = DetectorTraining(
    num_steps=5,
    images_per_step=2,
    optimiser="adamw",
    learning_rate=3e-3,
    warmup_steps=1,
    schedule="cosine",
    frozen_stages=0,
    post_nms_top_n=12,
    regions_per_image=8,
    anchors_per_image=16,
    checkpoint_every=2,
    crop_warmup=CropWarmup(num_steps=3, window_sizes=(32, 48), windows_per_step=(4, 2)),
)
IN_PARTS = replace(TRAINING, images_per_step=4, optimiser="sgd", learning_rate=1e-2)
LIVE = {"norm": "batch", "pixel_std": (57.0, 57.0, 57.0)}


class StoppedError(Exception):
    """Stands for a kill."""


def train(
    folder: Path,
    training: DetectorTraining = TRAINING,
    *,
    stop_after: int = 0,
    ask_after: int = 0,
    parts: int = 1,
    **changes: object,
) -> tuple[TrainingSummary, list[StepReport]]:
    """Train on seven pictures; the run lies in `folder`."""
    sources, objects = block_photos(folder.parent / "photos", 7)
    reports: list[StepReport] = []

    def on_step(report: StepReport) -> None:
        reports.append(report)
        if report.step == stop_after:
            raise StoppedError

    summary = train_detector(
        config=tiny_config(**(LIVE | changes)),
        training=training,
        sources=sources,
        objects=objects,
        label_map=label_map_from(objects),
        folder=folder / "detector",
        losses=folder / "losses.jsonl",
        on_step=on_step,
        should_stop=lambda: len(reports) == ask_after - 1,
        parts=parts,
    )
    return summary, reports


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "detector" / WEIGHTS_NAME)


@pytest.mark.parametrize(
    ("stop_after", "training"),
    [
        (1, TRAINING),  # before the first checkpoint
        (3, TRAINING),  # one step behind a checkpoint, where the phase changes
        (4, TRAINING),  # at a checkpoint
        (7, TRAINING),
        (3, replace(TRAINING, checkpoint_every=3)),  # the checkpoint ends the first phase
        (5, replace(TRAINING, optimiser="sgd", learning_rate=1e-3, crop_warmup=None, num_steps=8)),
        (3, replace(TRAINING, frozen_stages=2, cache_trunk=True, crop_warmup=None)),
    ],
)
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    tmp_path: Path, stop_after: int, training: DetectorTraining
) -> None:
    train(tmp_path / "whole", training)
    with pytest.raises(StoppedError):
        train(tmp_path / "stopped", training, stop_after=stop_after)
    _, reports = train(tmp_path / "stopped", training)
    done = stop_after - stop_after % training.checkpoint_every
    assert reports[0].step == done + 1
    whole, stopped = weights_in(tmp_path / "whole"), weights_in(tmp_path / "stopped")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    histories = [(tmp_path / name / "losses.jsonl").read_bytes() for name in ("whole", "stopped")]
    assert histories[0] == histories[1]
    assert not (tmp_path / "stopped" / CHECKPOINT).exists()


@pytest.mark.parametrize("ask_after", [1, 3, 5])
def test_asked_to_stop_it_loses_no_step(tmp_path: Path, ask_after: int) -> None:
    train(tmp_path / "whole")
    with pytest.raises(DetectorStoppedError, match=f"after step {ask_after} of 8"):
        train(tmp_path / "asked", ask_after=ask_after)
    _, reports = train(tmp_path / "asked")
    assert reports[0].step == ask_after + 1
    whole, asked = weights_in(tmp_path / "whole"), weights_in(tmp_path / "asked")
    assert all(torch.equal(whole[name], asked[name]) for name in whole)


def files_of(run: Path) -> dict[str, bytes]:
    """All that a training leaves."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file()
    }


def test_what_is_trained_is_not_trained_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first, _ = train(run)
    before = files_of(run)
    (run / CHECKPOINT).touch()  # it was killed before this went
    again, reports = train(run)
    assert (again, reports) == (first, [])
    assert files_of(run) == before
    other, reports = train(run, replace(TRAINING, num_steps=4))
    assert (other.num_steps, len(reports)) == (7, 7)


@pytest.mark.parametrize("name", [WEIGHTS_NAME, "detector.json", "labelmap.json"])
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"{}")])
def test_a_detector_that_is_no_longer_what_was_trained_is_trained_again(
    tmp_path: Path, spoil: Callable[[Path], object], name: str
) -> None:
    run, training = tmp_path / "run", replace(TRAINING, num_steps=2, crop_warmup=None)
    train(run, training)
    before = files_of(run)
    spoil(run / "detector" / name)
    assert len(train(run, training)[1]) == 2
    assert files_of(run) == before


def test_history_holds_each_step_once_with_its_phase(tmp_path: Path) -> None:
    summary, reports = train(tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run/losses.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert [row["phase"] for row in rows] == ["windows"] * 3 + ["detection"] * 5
    assert rows[3].keys() - rows[0].keys() == {"objectness", "proposal_box", "box"}
    assert summary.num_steps == 8
    assert summary.last_losses["total"] == rows[-1]["total"] == reports[-1].losses["total"]


@pytest.mark.parametrize(
    ("parts", "changes"),
    [(2, {}), (3, {"frozen_stages": 2, "cache_trunk": True}), (4, {"frozen_stages": 1})],
)
def test_in_parts_it_learns_the_same(
    tmp_path: Path, parts: int, changes: dict[str, object]
) -> None:
    training = replace(IN_PARTS, **changes)
    _, whole = train(tmp_path / "whole", training, norm="frozen")
    _, cut = train(tmp_path / "cut", training, norm="frozen", parts=parts)
    for one, other in zip(whole, cut, strict=True):
        assert one.losses == pytest.approx(other.losses, abs=2e-5)
    before, after = weights_in(tmp_path / "whole"), weights_in(tmp_path / "cut")
    for name, value in before.items():
        assert value.allclose(after[name], atol=1e-5), name


def test_a_run_in_parts_goes_on_from_the_checkpoint_of_a_whole_one(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(tmp_path / "run", IN_PARTS, norm="frozen", stop_after=4)
    _, reports = train(tmp_path / "run", IN_PARTS, norm="frozen", parts=2)
    assert reports[0].step == 5


def test_in_bfloat16_it_learns_nearly_the_same(tmp_path: Path) -> None:
    training = replace(IN_PARTS, crop_warmup=None, learning_rate=1e-3)
    _, whole = train(tmp_path / "whole", training, norm="frozen")
    _, half = train(tmp_path / "half", replace(training, precision="bfloat16"), norm="frozen")
    for one, other in zip(whole, half, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=0.1, abs=0.1)
    assert [each.losses for each in whole] != [each.losses for each in half]
    assert all(each.dtype == torch.float32 for each in weights_in(tmp_path / "half").values())


def test_live_statistics_need_the_whole_batch(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="live statistics"):
        train(tmp_path / "run", parts=2)


def test_a_longer_training_finds_blocks_and_their_colours(tmp_path: Path) -> None:
    training = replace(
        TRAINING,
        num_steps=60,
        images_per_step=4,
        attribute_loss_weight=1.0,
        crop_warmup=CropWarmup(num_steps=30, window_sizes=(32, 48), windows_per_step=(8, 8)),
    )
    summary, reports = train(tmp_path / "run", training, res2_width=16, anchor_sizes=(14, 28))
    assert summary.num_photos == 7
    assert reports[-1].losses["total"] < 0.5 * reports[30].losses["total"]
    loaded = read_detector(tmp_path / "run/detector")
    sources, objects = block_photos(tmp_path / "photos", 7)
    found = detect(loaded.model, [decode(sources[0])], loaded.label_map)[0]
    assert found.class_names[0] == objects[0].class_names[0]
    assert found.attribute_names[0][0] == objects[0].attributes[0][0]


def test_other_settings_refuse_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(tmp_path / "run", stop_after=4)
    with pytest.raises(DetectorError, match="other settings or other photos"):
        train(tmp_path / "run", replace(TRAINING, learning_rate=1e-3))


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    wild = replace(TRAINING, optimiser="sgd", learning_rate=1e30, crop_warmup=None)
    with pytest.raises(DetectorError, match=r"loss is (nan|inf) at step \d; lower `learning_rate`"):
        train(tmp_path / "run", wild)


def test_frozen_parts_stay_as_they_were(tmp_path: Path) -> None:
    training = replace(TRAINING, crop_warmup=None, frozen_stages=2, freeze_res5=True, num_steps=2)
    train(tmp_path / "long", training)
    train(tmp_path / "short", replace(training, num_steps=1))
    long, short = weights_in(tmp_path / "long"), weights_in(tmp_path / "short")
    still = [name for name in long if name.startswith(("trunk.stem", "trunk.stages.0", "res5"))]
    assert still
    assert all(torch.equal(long[name], short[name]) for name in still)
    assert not torch.equal(
        long["trunk.stages.1.0.conv1.weight"], short["trunk.stages.1.0.conv1.weight"]
    )


def test_the_label_map_decides_the_sizes_of_the_heads(tmp_path: Path) -> None:
    train(tmp_path / "run", replace(TRAINING, num_steps=1, crop_warmup=None))
    label_map: LabelMap = read_detector(tmp_path / "run/detector").label_map
    assert set(label_map.class_names[1:]) == {"box", "bar"}
    assert weights_in(tmp_path / "run")["box_head.class_logits.weight"].shape[0] == 3


@pytest.mark.slow
@pytest.mark.parametrize("preset_name", ["x152c4", "r101c4", "r50c4"])
def test_a_network_of_full_size_goes_on_bit_for_bit(tmp_path: Path, preset_name: str) -> None:
    """By the original's recipe, on small photos: SGD, stem and first stage frozen."""
    config = replace(preset(preset_name), min_size=96, max_size=128)
    sources, objects = block_photos(tmp_path / "photos", 3)
    label_map = label_map_from(objects)
    training = DetectorTraining(
        num_steps=3, regions_per_image=8, warmup_steps=2, learning_rate=1e-4, checkpoint_every=2
    )

    def run(folder: Path, stop_after: int = 0) -> None:
        def on_step(report: StepReport) -> None:
            if report.step == stop_after:
                raise StoppedError

        train_detector(
            config=config,
            training=training,
            sources=sources,
            objects=objects,
            label_map=label_map,
            folder=folder / "detector",
            losses=folder / "losses.jsonl",
            on_step=on_step,
        )

    run(tmp_path / "whole")
    with pytest.raises(StoppedError):
        run(tmp_path / "stopped", stop_after=2)
    run(tmp_path / "stopped")
    whole, stopped = weights_in(tmp_path / "whole"), weights_in(tmp_path / "stopped")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    histories = [(tmp_path / name / "losses.jsonl").read_bytes() for name in ("whole", "stopped")]
    assert histories[0] == histories[1]
