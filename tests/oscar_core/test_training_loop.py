"""The loop: an interrupted training ends as an unbroken one does, bit by bit."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from oscar_core.config import EncoderSettings
from oscar_core.errors import TrainingError, TrainingStoppedError, WeightsError
from oscar_core.run import train_task
from oscar_core.tasks.pretraining.records import Config, FirstKind
from oscar_core.tasks.vqa.records import Config as VqaConfig
from oscar_core.training.checkpoints import checkpoint_paths
from oscar_core.training.config import TrainingConfig
from oscar_core.training.loop import StepReport, TrainSummary
from oscar_core.views import ViewSettings
from storage.trained import TRAINED
from tests.builders_library import TINY, make_library, tiny_training

SETTINGS = Config(
    view=ViewSettings(max_regions=4),
    region_weight=1.0,
    answer_mask=1.0,
    question_share=0.5,
    first=FirstKind(
        question_type="colour", goal=1.0, max_steps=3, check_every=1, num_probe_images=2
    ),
)
DROPPING = replace(TINY, hidden_dropout=0.2, attention_dropout=0.1)


class KilledError(Exception):
    """Stands for SIGKILL: nothing after it runs."""


def run(
    folder: Path,
    *,
    settings: object = SETTINGS,
    task: str = "pretraining",
    encoder: EncoderSettings = DROPPING,
    training: TrainingConfig | None = None,
    start: Path | None = None,
    kill_at: int = 0,
    stop_at: int = 0,
) -> TrainSummary:
    steps: list[int] = []

    def tell(report: StepReport) -> None:
        steps.append(report.step)
        if report.step == kill_at:
            raise KilledError

    def should_stop() -> bool:
        return len(steps) == stop_at - 1

    return train_task(
        task=task,
        settings=settings,
        encoder=encoder,
        training=training or tiny_training(),
        library=make_library(),
        vocabulary=None,
        start=start,
        folder=folder / "model",
        losses=folder / "losses.jsonl",
        on_step=tell,
        should_stop=should_stop,
    )


def bytes_of(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model/model.safetensors").read_bytes(), (folder / "losses.jsonl").read_bytes()


@pytest.mark.parametrize(("kill_at", "workers"), [(1, 0), (3, 0), (5, 0), (5, 1)])
def test_a_resumed_training_equals_an_unbroken_one(
    tmp_path: Path, kill_at: int, workers: int
) -> None:
    training = tiny_training(workers=workers)
    run(tmp_path / "unbroken", training=training)
    with pytest.raises(KilledError):
        run(tmp_path / "broken", kill_at=kill_at, training=training)
    summary = run(tmp_path / "broken", training=training)
    assert summary.resumed_at == kill_at // 2 * 2
    assert bytes_of(tmp_path / "broken") == bytes_of(tmp_path / "unbroken")


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    run(tmp_path / "one")
    run(tmp_path / "other", training=tiny_training(seed=4))
    assert bytes_of(tmp_path / "one") != bytes_of(tmp_path / "other")


def test_a_half_written_loss_line_is_dropped(tmp_path: Path) -> None:
    run(tmp_path / "unbroken")
    with pytest.raises(KilledError):
        run(tmp_path / "broken", kill_at=3)
    with open(tmp_path / "broken/losses.jsonl", "a") as stream:
        stream.write('{"step": 4, "tot')
    run(tmp_path / "broken")
    assert bytes_of(tmp_path / "broken") == bytes_of(tmp_path / "unbroken")


def test_checkpoints_go_when_the_training_is_done(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, kill_at=5)
    assert [path.name for path in checkpoint_paths(tmp_path / "checkpoints")] == [
        "checkpoint-0000002.safetensors",
        "checkpoint-0000004.safetensors",
    ]
    run(tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_what_is_trained_is_not_trained_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    before = bytes_of(tmp_path)
    assert run(tmp_path, kill_at=1) == first  # no update was done
    assert bytes_of(tmp_path) == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def flip(path: Path) -> None:
    spoiled = bytearray(path.read_bytes())
    spoiled[-5] ^= 0x40
    path.write_bytes(spoiled)


def forget_bytes(path: Path) -> None:
    """The mark of an earlier release."""
    mark = path.parents[1] / TRAINED
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "files": {}}))


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        *(("model.safetensors", spoil) for spoil in (cut, flip, Path.unlink, forget_bytes)),
        *((name, Path.unlink) for name in ("model.json", "vocab.txt", "answers.json")),
    ],
)
def test_a_model_that_is_no_longer_what_was_trained_is_trained_again(
    tmp_path: Path, name: str, spoil: Callable[[Path], None]
) -> None:
    training = tiny_training(steps=2)
    run(tmp_path, training=training)
    (tmp_path / "model/README.md").write_text("a card, written later")
    paths = [tmp_path / "losses.jsonl", *(tmp_path / "model").iterdir()]
    before = {path: path.read_bytes() for path in paths}
    spoil(tmp_path / "model" / name)
    with pytest.raises(KilledError):
        run(tmp_path, training=training, kill_at=2)
    run(tmp_path, training=training)
    assert {path: path.read_bytes() for path in paths} == before
    run(tmp_path, training=training, kill_at=1)  # no update is done


def test_killed_behind_the_mark_its_checkpoints_go_the_next_time(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, kill_at=5)
    shutil.copytree(tmp_path / "checkpoints", tmp_path / "kept")
    run(tmp_path)
    before = bytes_of(tmp_path)
    (tmp_path / "kept").rename(tmp_path / "checkpoints")
    run(tmp_path, kill_at=6)
    assert not (tmp_path / "checkpoints").exists()
    assert bytes_of(tmp_path) == before


def test_another_training_in_the_same_folder_is_done(tmp_path: Path) -> None:
    run(tmp_path)
    before = bytes_of(tmp_path)
    run(tmp_path, training=tiny_training(seed=4))
    assert bytes_of(tmp_path) != before


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, kill_at=3)
    with pytest.raises(TrainingError, match="other settings"):
        run(tmp_path, training=tiny_training(learning_rate=1e-3))


@pytest.mark.parametrize("spoil", [cut, flip])
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path / "unbroken")
    with pytest.raises(KilledError):
        run(tmp_path / "broken", kill_at=5)
    spoil(checkpoint_paths(tmp_path / "broken/checkpoints")[-1])
    assert run(tmp_path / "broken").resumed_at == 2
    assert "checkpoint-0000004.safetensors: damaged" in caplog.text
    assert bytes_of(tmp_path / "broken") == bytes_of(tmp_path / "unbroken")


def test_without_a_whole_checkpoint_it_starts_anew(tmp_path: Path) -> None:
    run(tmp_path / "unbroken")
    with pytest.raises(KilledError):
        run(tmp_path / "broken", kill_at=5)
    for path in checkpoint_paths(tmp_path / "broken/checkpoints"):
        cut(path)
    assert run(tmp_path / "broken").resumed_at == 0
    assert bytes_of(tmp_path / "broken") == bytes_of(tmp_path / "unbroken")


def test_asked_to_stop_it_saves_what_it_learned(tmp_path: Path) -> None:
    run(tmp_path / "unbroken")
    with pytest.raises(TrainingStoppedError, match="after update 3 of 6"):
        run(tmp_path / "broken", stop_at=3)
    assert run(tmp_path / "broken").resumed_at == 3
    assert bytes_of(tmp_path / "broken") == bytes_of(tmp_path / "unbroken")


def test_a_training_asked_to_stop_at_its_last_update_is_done(tmp_path: Path) -> None:
    assert run(tmp_path, stop_at=6).num_steps == 6


def test_smaller_parts_go_on_from_the_same_checkpoint(tmp_path: Path) -> None:
    settings = VqaConfig(loss="cross_entropy", min_questions=1)
    how = {"task": "vqa", "settings": settings, "encoder": TINY}
    run(tmp_path / "whole", training=tiny_training(), **how)
    with pytest.raises(KilledError):
        run(tmp_path / "halved", training=tiny_training(), kill_at=3, **how)
    summary = run(tmp_path / "halved", training=tiny_training(accumulation=4), **how)
    assert summary.resumed_at == 2
    assert_alike(tmp_path / "whole", tmp_path / "halved")


def assert_alike(one: Path, other: Path) -> None:
    """Weights equal up to rounding."""
    first, second = (load_file(each / "model/model.safetensors") for each in (one, other))
    assert set(first) == set(second)
    for name, value in first.items():
        if "key.bias" not in name:  # its gradient is rounding noise
            assert value.allclose(second[name], atol=1e-4), name


def test_parts_count_by_their_examples(tmp_path: Path) -> None:
    settings = VqaConfig(loss="cross_entropy", min_questions=1)
    how = {"task": "vqa", "settings": settings, "encoder": TINY}
    for name, parts in (("whole", 1), ("parts", 3)):  # 8 examples: 3, 3 and 2
        training = tiny_training(steps=1, accumulation=parts, max_gradient_norm=0)
        run(tmp_path / name, training=training, **how)
    assert_alike(tmp_path / "whole", tmp_path / "parts")


def test_answers_go_on_by_their_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = VqaConfig(min_questions=1)
    run(tmp_path / "before", task="vqa", settings=settings)
    start = tmp_path / "before/model"
    told = json.loads((start / "answers.json").read_text())
    renamed = [told[1], "鹦鹉", *told[2:]]  # one in another place, one that is asked no more
    (start / "answers.json").write_text(json.dumps(renamed))
    with caplog.at_level("INFO"):
        run(
            tmp_path / "after",
            task="vqa",
            settings=settings,
            start=start,
            training=tiny_training(steps=1, learning_rate=1e-12),
        )
    assert f"{len(told) - 1} go on from the earlier model, 1 are new, 1 of" in caplog.text
    old = load_file(start / "model.safetensors")
    new = load_file(tmp_path / "after/model/model.safetensors")
    heads = sorted(name for name in new if name.startswith("classifier."))[-2:]
    assert len(heads) == 2
    after = json.loads((tmp_path / "after/model/answers.json").read_text())
    assert sorted(after) == sorted(told)
    for name in heads:
        for row, answer in enumerate(after):
            if answer in renamed:
                assert new[name][row].allclose(old[name][renamed.index(answer)], atol=1e-6)
            elif name.endswith("weight"):
                assert not new[name][row].allclose(old[name][row], atol=1e-3)


def test_more_answers_than_before_are_learned(tmp_path: Path) -> None:
    run(tmp_path / "before", task="vqa", settings=VqaConfig(min_questions=1))
    start = tmp_path / "before/model"
    stored = load_file(start / "model.safetensors")
    last = sorted(name for name in stored if name.startswith("classifier."))[-2:]
    for name in last:
        stored[name] = stored[name][:2].contiguous()
    save_file(stored, start / "model.safetensors")
    told = json.loads((start / "answers.json").read_text())
    assert len(told) > 2
    (start / "answers.json").write_text(json.dumps(told[:2]))
    run(tmp_path / "after", task="vqa", settings=VqaConfig(min_questions=1), start=start)
    assert json.loads((tmp_path / "after/model/answers.json").read_text()) == told


def test_losses_are_logged_by_step_with_their_parts(tmp_path: Path) -> None:
    run(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"total", "words", "contrast", "regions"} <= set(rows[0])
    assert [row["phase"] for row in rows] == ["colour"] * 3 + ["mixture"] * 3


def test_a_phase_ends_by_its_cap(tmp_path: Path) -> None:
    assert run(tmp_path).phase_steps == {"colour": 3, "mixture": 3}


def test_a_phase_ends_by_its_goal(tmp_path: Path) -> None:
    first = replace(SETTINGS.first, goal=0.0)
    summary = run(tmp_path, settings=replace(SETTINGS, first=first))
    assert summary.phase_steps == {"colour": 1, "mixture": 5}


def test_a_rate_that_explodes_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="lower the rate"):
        run(tmp_path, training=tiny_training(learning_rate=1e30, max_gradient_norm=0))


def test_a_batch_in_parts_gives_the_gradient_of_the_whole(tmp_path: Path) -> None:
    settings = VqaConfig(loss="cross_entropy", min_questions=1)
    for name, parts in (("whole", 1), ("parts", 2)):
        training = tiny_training(steps=1, accumulation=parts, max_gradient_norm=0)
        run(tmp_path / name, task="vqa", settings=settings, encoder=TINY, training=training)
    assert_alike(tmp_path / "whole", tmp_path / "parts")


def test_a_task_goes_on_from_pretraining(tmp_path: Path) -> None:
    run(tmp_path / "pretrain")
    settings = VqaConfig(min_questions=1)
    start = tmp_path / "pretrain/model"
    training = tiny_training(learning_rate=1e-12)
    run(tmp_path / "vqa", task="vqa", settings=settings, start=start, training=training)
    before, after = (
        load_file(start / "model.safetensors"),
        load_file(tmp_path / "vqa/model/model.safetensors"),
    )
    assert set(before) - set(after)
    assert set(after) - set(before)
    for name in set(before) & set(after):
        assert before[name].allclose(after[name], atol=1e-5), name


def test_a_start_with_other_regions_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "pretrain")
    (tmp_path / "pretrain/model/model.json").write_text(
        (tmp_path / "pretrain/model/model.json")
        .read_text()
        .replace('"region_feature_dim": 12', '"region_feature_dim": 9')
    )
    with pytest.raises(WeightsError, match="another detector"):
        run(
            tmp_path / "vqa",
            task="vqa",
            settings=VqaConfig(min_questions=1),
            start=tmp_path / "pretrain/model",
        )
