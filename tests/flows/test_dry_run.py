"""A dry run names everything that would stop a run, and says what a run will take."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detector.checkpoints import read_detector, save_detector
from detector.errors import DetectorError
from detector.loaded import check_named
from flows.commands.dry_run import dry_run, findings_table, lasting
from flows.config import Learning, PublishedCorpus, RunConfig, TaskRun, read_config
from flows.data import Data, PhotoCollection
from flows.dry_run.places import free_bytes, is_writable, memory_bytes, missing, nearest_there
from flows.dry_run.probe import kept_bytes
from flows.dry_run.records import NOT_MEASURED, Estimate, Texts
from flows.dry_run.texts import read_texts
from flows.dry_run.trainings import (
    fits,
    gigabytes,
    lack_of_room,
    notes,
    problems,
    trainings,
    unmeasured,
)
from flows.scale import Scale
from oscar_core.config import EncoderSettings, OscarConfig
from oscar_core.model_folder import write_model
from oscar_core.models import CaptionModel
from oscar_core.task import Knowledge, load_task
from oscar_core.training.config import TrainingConfig
from storage.published.label_maps import label_map_of, write_label_map
from storage.records import HEIGHT_FIRST, WIDTH_FIRST
from tests.builders_core import make_config, make_tokenizer
from tests.builders_detector import tiny_model
from tests.builders_flows import ROOT
from tests.builders_runs import SmallRun, make_small_run
from tests.command_line import oscar
from tests.flows.test_detect_command import lay_weights
from tests.locations import oracle_dir

TINY = EncoderSettings(
    hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32, max_positions=64
)
VIEW = {"max_regions": 5}
ENGLISH = {("train", "en"): 10, ("test", "en"): 4}


def encoder() -> OscarConfig:
    return TINY.for_input(vocabulary_size=50, region_feature_dim=22)


def learning(steps: int | None = 3, **settings: Any) -> Learning:
    return Learning(
        settings={"languages": ["en"], "max_text": 20, "view": VIEW, **settings},
        training=TrainingConfig(steps=steps, batch_size=4),
    )


def branch(**settings: Any) -> TaskRun:
    return TaskRun(
        settings={"language": "en", "max_text": 20, "view": VIEW, **settings},
        training=TrainingConfig(steps=3, batch_size=4),
        controls=(),
    )


def counted(
    tasks: Mapping[str, TaskRun], texts: Texts | None = None, **more: Any
) -> tuple[Any, RunConfig]:
    """The first training of a run with these tasks, and the run."""
    config = RunConfig(
        detector_weights=Path("weights"),
        data=replace(no_data(), images=(PhotoCollection(path="photos"),)),
        tasks=tasks,
        **more,
    )
    said = texts or Texts(captions=ENGLISH, questions=ENGLISH, captioned=ENGLISH)
    return next(trainings(config, said, said, encoder())), config


def no_data() -> Data:

    return Data()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    return make_small_run(tmp_path_factory.mktemp("small"))


def test_a_run_that_can_start_has_no_problem_and_nothing_is_written(small: SmallRun) -> None:
    config = replace(small.config(), pretrain=learning(), encoder=TINY)
    found = dry_run(config, small.out)
    assert found.problems == ()
    assert [each.step for each in found.estimates] == ["detect", "pretrain"]
    assert all((each.seconds or 0) > 0 and each.disk_bytes > 0 for each in found.estimates)
    assert any("3 photos" in note for note in found.notes)
    assert not small.out.exists()
    assert findings_table(found).row_count == 3


def test_everything_that_is_missing_is_named_at_once(small: SmallRun, tmp_path: Path) -> None:
    config = small.config()
    source = {**config.data.sources[0], "path": "nosuch.json"}
    empty = {**config.data.sources[0], "path": "empty.json"}
    (small.folder / "data" / "empty.json").touch()
    images = (
        PhotoCollection(path="nosuch"),
        PhotoCollection(path="nosuch*"),
        PhotoCollection(path="photos"),
    )
    data = replace(config.data, images=images, sources=(source, empty))
    config = replace(config, data=data, detector_weights=tmp_path / "w", vocabulary=tmp_path / "v")
    told = list(missing(config))
    for part in (
        "nosuch: no such folder or file of photos (data.images.0.path)",
        "nosuch*: matches nothing (data.images.1.path)",
        "nosuch.json: no such file or folder (data.sources.0.path",
        "empty.json: is empty (data.sources.1.path)",
        "w: no such file or folder (detector_weights)",
        "v: no such file or folder (vocabulary)",
    ):
        assert sum(part in line for line in told) == 1, part
    assert len(told) == 6


def test_a_missing_root_is_one_line(small: SmallRun) -> None:
    config = small.config()
    root = small.config().data.place() / "nosuch"
    config = replace(config, data=replace(config.data, root=root))
    assert [line.split(";")[0] for line in missing(config)] == [
        f"{root}: no such folder (data.root)"
    ]


def test_texts_are_counted_by_split_and_language(small: SmallRun) -> None:
    texts = read_texts({"block0", *photo_ids(small)}, small.config()).texts()
    assert texts.captions == {("train", "en"): 1}
    assert texts.captioned == {("train", "en"): 1}
    assert texts.vocabulary_size > 5


def test_a_source_of_other_photos_is_a_problem(small: SmallRun) -> None:
    reading = read_texts({"another"}, small.config())
    assert reading.problems == [
        "data.sources.0 (coco_captions): nothing of it joins a photo (1 no-such-image); "
        "oscar-flow corpus tells more"
    ]


def test_translated_texts_are_said_in_both_languages() -> None:
    texts = Texts(captions={("train", "en"): 3, ("train", "zh"): 1, ("test", "zh"): 2})
    assert texts.translated("en", "zh").captions == {
        ("train", "en"): 3,
        ("train", "zh"): 4,
        ("test", "zh"): 2,
    }


def test_a_start_that_is_no_model_is_a_problem(small: SmallRun, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    config = replace(small.config(), encoder=TINY, pretrain=replace(learning(), start=tmp_path))
    (problem,) = dry_run(config, small.out).problems
    assert "neither model.safetensors nor pytorch_model.bin" in problem


def test_a_detector_that_a_run_refuses_is_a_problem(small: SmallRun, tmp_path: Path) -> None:
    text = tmp_path / "text.pth"
    text.write_text("not weights at all")
    nameless = tmp_path / "nameless"
    model = tiny_model()
    numbers = label_map_of(*(map(str, range(1, num)) for num in (6, 9)))
    save_detector(nameless, model, numbers)
    for weights, said in ((text, "text.pth"), (nameless, "its classes have no names")):
        with pytest.raises(DetectorError) as refused:
            check_named(read_detector(weights), str(weights))
        config = replace(small.config(), detector_weights=weights)
        found = dry_run(config, small.out)
        assert found.problems == (str(refused.value),)
        assert said in found.problems[0]


def test_a_published_detector_is_measured_like_a_folder(small: SmallRun, tmp_path: Path) -> None:
    weights = lay_weights(tmp_path)
    write_label_map(tmp_path / "labelmap.json", label_map_of("abcde", "abcdefgh"))
    found = dry_run(replace(small.config(), detector_weights=weights), small.out)
    assert found.problems == ()
    assert found.estimates[0].seconds is not None


@pytest.mark.parametrize("order", [WIDTH_FIRST, HEIGHT_FIRST])
def test_a_start_that_learned_the_other_order_is_a_problem(
    small: SmallRun, tmp_path: Path, order: str
) -> None:
    model = CaptionModel(make_config())
    start = tmp_path / "start"
    write_model(
        start,
        task="captioning",
        config=load_task("captioning").config(),
        encoder=model.config.sizes(),
        knowledge=Knowledge(tokenizer=make_tokenizer()),
        model=model,
        geometry=order,
    )
    config = replace(small.config(), tasks={"captioning": replace(branch(), start=start)})
    told = [line for line in dry_run(config, small.out).problems if " end " in line]
    assert len(told) == (order != config.detect.geometry)
    assert all(line.startswith(f"{start}: takes regions that end {order}") for line in told)


def photo_ids(small: SmallRun) -> list[str]:
    return [path.stem for path in small.photos.iterdir()]


def test_an_unreadable_source_is_a_problem(small: SmallRun) -> None:
    config = small.config()
    (small.folder / "data" / "broken.json").write_text("{")
    source = {**config.data.sources[0], "path": "broken.json"}
    config = replace(config, data=replace(config.data, sources=(source,)))
    (problem,) = read_texts(photo_ids(small), config).problems
    assert "broken.json" in problem


def test_a_language_that_nobody_speaks_is_a_problem() -> None:
    training, config = counted({"captioning": branch(language="zh")})
    assert [line.partition(":")[0] for line in problems(training, config)] == [
        "tasks.captioning",
        "tasks.captioning",
    ]


def test_a_text_longer_than_the_encoder_is_a_problem() -> None:
    training, config = counted({"vqa": branch(max_text=65)})
    (problem,) = problems(training, config)
    assert "65 wordpieces do not fit into encoder.max_positions 64" in problem


def test_a_batch_that_cannot_be_divided_is_a_problem() -> None:
    training, config = counted({"vqa": branch()}, scale=Scale(engine="torchrun", workers=8))
    (problem,) = problems(training, config)
    assert "a batch of 4 cannot be divided among 8 processes" in problem


def test_memory_that_does_not_suffice_is_a_problem() -> None:
    estimate = Estimate(step="pretrain", amount="", memory_bytes=3 * 10**9)
    assert fits(estimate, 7 * 10**9, 2) == ""
    assert fits(estimate, None, 99) == ""
    told = fits(estimate, 5 * 10**9, 2)
    assert "needs about 6.0 GB, 3.0 GB in each of 2 processes, and 5.0 GB are free" in told
    assert "--set scale.workers=N" in told
    alone = fits(estimate, 2 * 10**9, 1)
    assert "needs about 3.0 GB and 2.0 GB are free" in alone
    assert "scale.workers" not in alone


def test_a_disk_that_does_not_suffice_is_a_problem() -> None:
    estimates = [Estimate(step=name, amount="", disk_bytes=10**9) for name in ("a", "b")]
    assert lack_of_room(estimates, Path("out"), 2 * 10**9) == ""
    assert "up to 2.0 GB are needed" in lack_of_room(estimates, Path("out"), 10**9)


def test_retrieval_ranks_every_caption_against_every_photo() -> None:
    captioned = {("train", "en"): 5, ("test", "en"): 4}
    captions = {("train", "en"): 25, ("test", "en"): 20}
    texts = Texts(captions=captions, captioned=captioned)
    training, _ = counted({"retrieval": branch(num_captions=5, group_size=3)}, texts)
    assert training.rows_per_example == 9
    assert training.num_predicted == 4 * 20
    training, _ = counted({"retrieval": branch(num_captions=2, num_images=3)}, texts)
    assert training.rows_per_example == 2
    assert training.num_predicted == 3 * 6


def test_controls_are_predicted_too() -> None:
    right = replace(branch(), controls=("shuffled", "features_shuffled"))
    training, _ = counted({"vqa": right})
    assert training.num_predicted == 3 * 4


def test_passes_over_the_examples_are_told() -> None:
    training, _ = counted({"vqa": branch()})
    assert next(iter(notes(training))) == ("tasks.vqa: 10 examples; 3 updates of 4 are 1.2 passes")


def test_what_the_backward_pass_keeps_is_counted_once() -> None:
    layer = nn.Linear(3, 5)
    rows = torch.ones(2, 3)
    # tanh keeps its result, the layer its input; the weights are not counted
    assert kept_bytes(lambda: layer(rows).tanh().sum(), layer) == (2 * 5 + 2 * 3) * 4


def test_places_are_looked_at_from_the_nearest_folder_there(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    assert nearest_there(out) == tmp_path
    assert free_bytes(out) > 0
    assert is_writable(out)


def test_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    told = tmp_path / "meminfo"
    told.write_text("MemTotal: 9 kB\nMemAvailable:       3 kB\n")
    assert memory_bytes(told) == 3 * 1024


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(70, "1 min 10 s"), (5 * 3600, "5 h 00 min"), (10 * 3600, "10.0 h"), (22 * 86400, "22 days")],
)
def test_times_are_for_people(seconds: float, told: str) -> None:
    assert lasting(seconds) == told


def test_sizes_are_for_people() -> None:
    assert [gigabytes(each) for each in (1, 10**6, 2_500_000_000)] == ["1 MB", "1 MB", "2.5 GB"]


def test_the_command_ends_with_its_problems(
    small: SmallRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small.folder / "own.yaml"
    detector, root = small.folder / "detector", small.folder / "data"
    source = json.dumps({**small.config().data.sources[0]})
    path.write_text(
        f"detector_weights: {detector}\n"
        f"data: {{root: {root}, images: [{{path: photos}}], sources: [{source}]}}\n"
    )
    arguments = ("run", str(path), "--dry-run", "--out", str(small.out))
    good = oscar(capsys, monkeypatch, *arguments)
    assert (good.status, good.err) == (0, "")
    assert "nothing stands in the way: oscar-flow run" in good.out
    bad = oscar(capsys, monkeypatch, *arguments, "--set", "detector_weights=nosuch")
    assert bad.status == 2
    assert bad.err == (
        "error: nosuch: no such file or folder (detector_weights); "
        "say where it is: --set detector_weights=PATH\n"
    )
    assert "in the way, each told above as an error: 1" in bad.out
    assert not small.out.exists()


def test_problems_are_told_before_anything_is_measured(small: SmallRun) -> None:
    config = replace(
        small.config(), pretrain=learning(languages=["fr"]), encoder=TINY, tasks={"vqa": branch()}
    )
    told: list[str] = []
    found = dry_run(config, small.out, on_problem=told.append, on_progress=told.append)
    measuring = [at for at, line in enumerate(told) if line.startswith("measuring")]
    assert [told[at] for at in measuring] == [
        "measuring the detector on some photos",
        "measuring some updates: pretrain (1 of 2)",
        "measuring some updates: tasks.vqa (2 of 2)",
    ]
    assert max(told.index(problem) for problem in found.problems) < measuring[0]


def test_nothing_is_measured_while_a_path_is_missing(small: SmallRun, tmp_path: Path) -> None:
    config = replace(
        small.config(),
        pretrain=learning(),
        encoder=TINY,
        tasks={"captioning": branch()},
        vocabulary=tmp_path / "gone",
    )
    told: list[str] = []
    found = dry_run(config, small.out, on_problem=told.append, on_progress=told.append)
    assert [line.partition(":")[0] for line in told] == [
        str(tmp_path / "gone"),
        "counting photos and texts",
    ]
    assert [each.step for each in found.estimates] == [
        "detect",
        "pretrain",
        "captioning_train",
        "captioning_predict",
    ]
    assert {each.how.partition(";")[0] for each in found.estimates} == {NOT_MEASURED}
    assert all(each.seconds is None and each.memory_bytes == 0 for each in found.estimates[1:])
    assert [each.amount for each in found.estimates[:2]] == ["3 photos", "3 updates of 4 rows"]
    assert all(each.disk_bytes > 0 for each in found.estimates[:3])  # arithmetic costs nothing


def test_predictions_say_what_they_are_of() -> None:
    captioned = {("train", "en"): 5, ("test", "en"): 4}
    texts = Texts(captions={("train", "en"): 25, ("test", "en"): 20}, captioned=captioned)
    ranked = replace(branch(num_captions=5), controls=("shuffled",))
    training, _ = counted({"retrieval": ranked}, texts)
    (_, predicted) = unmeasured(training, 1000)
    assert predicted.amount == "160 pairs of photo and text, 1 control included"


def test_a_published_corpus_is_counted_for_pretraining_alone() -> None:
    folder = oracle_dir("oscar", "oscar_tiny")
    if not folder.is_dir():
        pytest.skip("oscar_tiny is not here; set OSCAR_ORACLE_DIR to the recorded outputs")
    corpus = PublishedCorpus(
        corpus=folder, features=folder, name="coco_flickr30k_gqa.yaml", language="en"
    )
    config = RunConfig(import_corpus=corpus, pretrain=learning(), encoder=TINY)
    found = dry_run(config, Path("nosuch"))
    assert found.problems == ()
    assert [each.step for each in found.estimates] == ["import_corpus", "pretrain"]
    assert any(note.startswith("pretrain: 26 examples") for note in found.notes)


RECIPES = {
    "vinvl_base": {"learning_rate": 5e-5, "max_gradient_norm": 10.0},
    "oscar_base": {"learning_rate": 5e-5, "max_gradient_norm": 0.0},
    "mengzi_oscar_base": {"learning_rate": 1e-4, "max_gradient_norm": 10.0},
}
"""specs/published_results.md 2."""


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_published_pretraining(name: str) -> None:
    config = read_config(Path(f"{name}.yaml"))
    assert config.pretrain is not None
    training, settings = config.pretrain.training, config.pretrain.settings
    for key, value in RECIPES[name].items():
        assert getattr(training, key) == value
    assert (training.batch_size, training.schedule, training.warmup) == (1024, "linear", 0)
    assert training.weight_decay == 0.01
    assert (settings["max_text"], settings["view"]) == (35, {"max_regions": 50})
    assert settings["wrong_first"] == (0.0 if name == "oscar_base" else 0.25)
    assert config.encoder.has_region_norm == (name != "oscar_base")


@pytest.mark.parametrize("name", RECIPES)
def test_every_value_of_a_recipe_has_its_source(name: str) -> None:
    text = (ROOT / "flows" / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    learned = text[text.index("pretrain:") :]
    numbers = re.findall(r"^ {4,}\w+: \[?-?\d.*$", learned, flags=re.MULTILINE)
    assert len(numbers) > 3
    assert [line for line in numbers if "#" not in line] == []
