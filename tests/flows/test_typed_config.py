"""YAML -> typed configuration: every mistake found at once, each with its place and the way out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import ConfigError
from flows.typed import build
from flows.yaml_tree import apply_settings, read_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    steps: int = 100
    rate: float = 0.01
    schedule: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    name: str = "run"
    is_loud: bool = False
    sizes: tuple[int, ...] = (1, 2)
    weights: Path | None = None
    training: Training = field(default_factory=Training)
    extra: Training | None = None
    many: tuple[Training, ...] = ()


def read(tmp_path: Path, text: str, *settings: str) -> Whole:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    tree = read_tree(path)
    apply_settings(tree, settings)
    return build(tree, Whole)


def complaints(tmp_path: Path, text: str, *settings: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, *settings)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Whole()


def test_values_arrive_with_their_types(tmp_path: Path) -> None:
    whole = read(tmp_path, "training: {rate: 5e-5}\nsizes: [3, 4, 5]\nweights: a/b\nmany: [{}]\n")
    assert whole.training.rate == 5e-5
    assert whole.sizes == (3, 4, 5)
    assert whole.weights == Path("a/b")
    assert whole.many == (Training(),)


def test_an_unknown_key_names_line_and_nearest(tmp_path: Path) -> None:
    assert complaints(tmp_path, "name: x\ntraining:\n  step: 3\n") == [
        "run.yaml:3: training.step: unknown key; did you mean 'steps'?"
    ]


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    text = "nam: x\ntraining:\n  steps: '10'\n  schedul: cosine\nis_loud: 1\nmany:\n- rates: 1\n"
    assert complaints(tmp_path, text) == [
        "run.yaml:1: nam: unknown key; did you mean 'name'?",
        "run.yaml:3: training.steps: must be a whole number, not '10'",
        "run.yaml:4: training.schedul: unknown key; did you mean 'schedule'?",
        "run.yaml:5: is_loud: must be true or false, not 1",
        "run.yaml:7: many.0.rates: unknown key; did you mean 'rate'?",
    ]


def test_a_choice_lists_what_is_allowed(tmp_path: Path) -> None:
    assert complaints(tmp_path, "training: {schedule: constant}") == [
        "run.yaml:1: training.schedule: must be 'linear' or 'cosine'"
    ]


def test_a_check_across_fields_names_its_section(tmp_path: Path) -> None:
    assert complaints(tmp_path, "training:\n  steps: 0\n") == [
        "run.yaml:1: training: steps must be 1 or more"
    ]


def test_a_section_that_is_a_scalar(tmp_path: Path) -> None:
    assert complaints(tmp_path, "training: 3") == [
        "run.yaml:1: training: must be a section of keys, not 3"
    ]


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    assert complaints(tmp_path, "name: x\ntraining: {}\nname: y\n") == [
        "run.yaml:3: name: key written twice; keep one"
    ]


def test_text_that_is_not_yaml(tmp_path: Path) -> None:
    assert complaints(tmp_path, "name: [x\nsizes: 3\n")[0].startswith("run.yaml:2: not YAML: ")


def test_a_list_at_the_top(tmp_path: Path) -> None:
    assert complaints(tmp_path, "- 1\n") == [
        "run.yaml:1: a configuration is a mapping of keys to values"
    ]


def test_a_file_that_is_not_there_names_what_ships() -> None:
    with pytest.raises(ConfigError, match="nothere: no such file; shipped with the package: "):
        read_tree(Path("nothere"))


def test_settings_are_merged_before_the_checks(tmp_path: Path) -> None:
    whole = read(tmp_path, "training: {steps: 5}", "training.rate=1e-3", "extra.steps=7")
    assert whole.training == Training(steps=5, rate=1e-3)
    assert whole.extra == Training(steps=7)


def test_a_wrong_setting_names_itself(tmp_path: Path) -> None:
    assert complaints(tmp_path, "", "training.step=3", "name") == [
        "--set name: write KEY=VALUE, for example --set seed=3"
    ]
    assert complaints(tmp_path, "", "training.step=3") == [
        "--set training.step: training.step: unknown key; did you mean 'steps'?"
    ]


def test_a_setting_reaches_into_a_list(tmp_path: Path) -> None:
    whole = read(tmp_path, "many: [{steps: 1}, {steps: 2}]", "many.1.steps=9")
    assert [each.steps for each in whole.many] == [1, 9]
    assert complaints(tmp_path, "many: []", "many.1.steps=9") == [
        "--set many.1.steps: many is a list of 0"
    ]


def test_a_change_behind_an_alias_changes_nothing_else(tmp_path: Path) -> None:
    text = "training: &all {steps: 5}\nextra: *all\nmany: [{<<: *all, rate: 0.5}]\n"
    whole = read(tmp_path, text, "extra.steps=7")
    assert whole.training == Training(steps=5)
    assert whole.extra == Training(steps=7)
    assert whole.many == (Training(steps=5, rate=0.5),)


def test_a_base_is_changed_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\ntraining: {steps: 5, rate: 0.5}\n")
    whole = read(tmp_path, "base: base.yaml\ntraining: {rate: 0.25}\n")
    assert whole == Whole(name="base", training=Training(steps=5, rate=0.25))


def test_a_base_may_be_one_that_ships(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: demo.yaml\nseed: 7\n")
    tree = read_tree(path)
    assert tree.values["seed"] == 7
    assert tree.values["train_detector"]["preset"] == "demo"
    assert tree.origin(("train_detector", "preset")).split(":")[0].endswith("configs/demo.yaml")


def test_null_takes_a_section_of_the_base_away(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("tasks: {vqa: {split: val}, captioning: {}}\nsize: 3\n")
    path = tmp_path / "run.yaml"
    path.write_text("base: base.yaml\ntasks: {vqa: null}\nsize: null\n")
    tree = read_tree(path)
    assert tree.values == {"tasks": {"captioning": {}}, "size": None}
    apply_settings(tree, ["tasks.captioning=null", "tasks.other=null"])
    assert tree.values == {"tasks": {"other": None}, "size": None}


def test_a_mistake_in_the_base_is_found_there(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\nsize: 3\n")
    assert complaints(tmp_path, "base: base.yaml\n") == [
        "base.yaml:2: size: unknown key; did you mean 'sizes'?"
    ]


def test_a_base_that_goes_in_circles(tmp_path: Path) -> None:
    assert complaints(tmp_path, "base: run.yaml\n") == ["run.yaml: names itself as base"]


@given(steps=st.integers(min_value=1), rate=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_yaml(
    tmp_path_factory: pytest.TempPathFactory, steps: int, rate: float
) -> None:
    text = f"training: {{steps: {steps}, rate: {rate!r}}}"
    training = read(tmp_path_factory.mktemp("yaml"), text).training
    assert (training.steps, training.rate) == (steps, rate)
