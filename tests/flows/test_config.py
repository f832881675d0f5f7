"""A run's configuration: every mistake named, everything saved, the plan that follows from it."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.config import Learning, PublishedCorpus, RunConfig, as_yaml, read_config
from flows.errors import ConfigError
from flows.pipeline import plan_of
from flows.plan import Plan
from flows.stages.translate_texts import Config as TranslatingTexts
from flows.yaml_tree import shipped_configs
from storage.errors import MissingFileError

DEMO = Path("demo.yaml")


def complaints(*settings: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_config(DEMO, settings)
    return str(caught.value).splitlines()


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_saved_configuration_reads_as_itself(tmp_path: Path) -> None:
    config = read_config(DEMO, ["seed=3"])
    assert read_config(write(tmp_path, as_yaml(config))) == config


def test_a_training_is_told_the_regions_that_its_start_learned_from() -> None:
    config = read_config(DEMO, ["tasks.vqa.geometry=height_first"])
    told = {step.name: step.config for step in plan_of(config).steps if step.stage == "train"}
    orders = {name: getattr(each, "geometry", None) for name, each in told.items()}
    assert orders.pop("vqa_train") == "height_first"
    assert set(orders.values()) == {None}


def test_a_saved_configuration_knows_its_data_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    text = "data: {root: ., images: [{path: photos}]}\ndetector_weights: weights\n"
    saved = as_yaml(read_config(write(tmp_path, text)))
    monkeypatch.chdir("/")
    again = read_config(write(tmp_path, saved))
    assert again.data.root == tmp_path
    assert again.detector_weights == tmp_path / "weights"


def test_data_is_found_below_the_folder_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    monkeypatch.setenv("OSCAR_DATA_DIR", str(tmp_path))
    config = read_config(DEMO, ["data.root=real"])
    assert config.data.place() == tmp_path / "real"


def test_mistakes_of_every_section_come_at_once() -> None:
    assert complaints(
        "train_detector.training.num_step=3",
        "translate_tags.policy=keeep",
        "data.sources.1.reader=coco",
        "pretrain.settings.mask_probabilty=0.2",
        "pretrain.training.learning_rate=fast",
    ) == [
        "--set train_detector.training.num_step: train_detector.training.num_step: unknown key; "
        "did you mean 'num_steps'?",
        "--set pretrain.training.learning_rate: pretrain.training.learning_rate: must be a "
        "number, not 'fast'",
        "--set translate_tags.policy: translate_tags.policy: must be 'keep', 'drop' or 'fail'",
        "--set data.sources.1.reader: data.sources.1.reader: unknown reader; did you mean "
        "'coco_cn'?",
        "--set pretrain.settings.mask_probabilty: pretrain.settings.mask_probabilty: unknown key; "
        "did you mean 'mask_probability'?",
    ]


def test_a_run_needs_photos_and_a_detector(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.images: name at least one folder of photos"):
        read_config(write(tmp_path, "seed: 1"))
    with pytest.raises(ConfigError, match="a run needs a detector: give detector_weights, or"):
        read_config(write(tmp_path, "data: {images: [{path: x}]}"))


def test_no_detector_is_trained_where_weights_are_given(tmp_path: Path) -> None:
    config = read_config(DEMO, [f"detector_weights={tmp_path}"])
    plan = plan_of(config)
    assert "train_detector" not in plan.names
    assert plan.step("detect").inputs["detector"] == tmp_path


def test_the_branches_of_the_tasks_need_nothing_of_each_other() -> None:
    plan = plan_of(read_config(DEMO))
    tasks = list(read_config(DEMO).tasks)
    for task in tasks:
        for verb in ("train", "predict", "score"):
            above = plan.ancestors(f"{task}_{verb}")
            others = [each for each in above if each.startswith(tuple(set(tasks) - {task}))]
            assert not others


@pytest.mark.parametrize("weights", [False, True])
def test_what_computes_most_has_all_threads(tmp_path: Path, weights: bool) -> None:
    given = [f"detector_weights={tmp_path}"] if weights else []
    plan = plan_of(read_config(DEMO, given))
    alone = {name for name in plan.names if not plan.has_company(name)}
    assert {"detect", "pretrain"} | ({"train_detector"} & set(plan.names)) <= alone


def test_every_step_before_it_is_in_the_report() -> None:
    plan = plan_of(read_config(DEMO))
    assert plan.names[-1] == "report"
    assert plan.needs("report") == set(plan.names[:-1])


def test_the_seed_reaches_everything_that_draws() -> None:
    one, two = (plan_of(read_config(DEMO, [f"seed={seed}"])) for seed in (1, 2))
    drawing = [name for name in one.names if one.step(name).config != two.step(name).config]
    expected = {"render_scenes", "train_detector", "pretrain"}
    expected |= {name for name in one.names if name.endswith(("_train", "_predict"))}
    assert set(drawing) == expected


def test_a_limit_is_no_part_of_the_work() -> None:
    config = read_config(DEMO, ["limits.detect.seconds=60"])
    assert plan_of(config).step("detect").limits.seconds == 60
    assert plan_of(config).step("detect").config == plan_of(read_config(DEMO)).step("detect").config


def test_a_missing_folder_names_its_key_and_the_way_out(tmp_path: Path) -> None:
    text = f"data: {{root: {tmp_path}, images: [{{path: gone}}]}}\ndetector_weights: {tmp_path}\n"
    with pytest.raises(MissingFileError, match=r"gone: no such .* \(data\.images\.0\.path\); set"):
        plan_of(read_config(write(tmp_path, text)))


def test_the_scores_of_vinvl_look_at_photos_again(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    text = (
        f"data: {{root: {tmp_path}, images: [{{path: photos}}]}}\n"
        "train_detector: {preset: demo}\nscore_detector: {visual_genome: VALUE}\n"
    )
    taken = {
        value: plan_of(read_config(write(tmp_path, text.replace("VALUE", value)))).step(
            "score_detector"
        )
        for value in ("true", "false")
    }
    more = taken["true"].inputs.keys() - taken["false"].inputs.keys()
    assert more == {"images", "photos:0", "detector"}
    assert taken["true"].inputs["detector"] == "train_detector.detector"


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_shipped_configurations_are_sound(name: str) -> None:
    config = read_config(Path(name))
    assert isinstance(config, RunConfig)


def test_the_plan_of_the_demo_needs_no_file_from_outside() -> None:
    plan: Plan = plan_of(read_config(DEMO))
    outside = [
        each for step in plan.steps for each in step.inputs.values() if isinstance(each, Path)
    ]
    assert outside == []


def published_corpus(tmp_path: Path, *, language: str) -> PublishedCorpus:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "features").mkdir()
    return PublishedCorpus(
        corpus=tmp_path / "corpus", features=tmp_path / "features", language=language
    )


def test_pretraining_learns_from_the_imported_corpus_and_tasks_from_the_photos(
    tmp_path: Path,
) -> None:
    corpus = published_corpus(tmp_path, language="zh")
    plan = plan_of(replace(read_config(DEMO), import_corpus=corpus))
    assert {name: plan.step("pretrain").inputs[name] for name in ("regions", "tags")} == {
        "regions": "import_corpus.regions",
        "tags": "import_corpus.tags",
    }
    branch = plan.step("captioning_train").inputs
    assert (branch["regions"], branch["tags"]) == ("detect.regions", "translate_tags.tags")


def test_an_imported_corpus_needs_no_photos_and_is_translated_where_it_must_be(
    tmp_path: Path,
) -> None:
    corpus = published_corpus(tmp_path, language="en")
    config = RunConfig(
        import_corpus=corpus,
        pretrain=Learning(),
        translate_texts=TranslatingTexts(model=tmp_path / "corpus"),
    )
    plan = plan_of(config)
    assert plan.names == (
        "import_corpus",
        "translate_corpus_tags",
        "translate_corpus_texts",
        "pretrain",
        "report",
    )
    assert plan.step("pretrain").inputs["annotations"] == "translate_corpus_texts.annotations"
    assert plan.step("pretrain").inputs["tags"] == "translate_corpus_tags.tags"


def test_what_the_base_took_away_can_be_taken_away_again(tmp_path: Path) -> None:
    recipe = Path("mengzi_oscar_base.yaml")  # has no vqa: null over the tasks of its own base
    off = [f"tasks.{name}=null" for name in ("captioning", "retrieval", "vqa")]
    assert read_config(recipe, off).tasks == {}
    assert set(read_config(recipe, ["tasks.vqa=null"]).tasks) == {"captioning", "retrieval"}
    own = write(tmp_path, f"base: {recipe}\ntasks: {{vqa: null}}\nlimits: {{detect: null}}\n")
    assert set(read_config(own).tasks) == {"captioning", "retrieval"}
    assert read_config(own).limits == {}


def test_a_task_that_is_no_section_is_one_line_and_an_unknown_null_is_told() -> None:
    (line,) = complaints("tasks.vqa=5")
    assert "tasks.vqa" in line
    (line,) = complaints("tasks.vqaa=null")
    assert "did you mean 'vqa'" in line
