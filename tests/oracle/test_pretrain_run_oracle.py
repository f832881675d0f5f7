"""Whole runs of the original's pretraining script against our parts put together.

Start weights, batches and draws are the recorded ones; corpus reader, samples, layout, model,
losses and the whole training loop (weights of the data sets, accumulation, cutting, rates, updates,
checkpoints, going on from them) are ours. Tolerances: specs/oscar.md 12; 5e-6 for losses, 1e-4 for
weights after the last update, and as much as the rates add up to for the keys' biases, whose
gradient is rounding noise.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from oscar_core.compat import TrainingCompat
from oscar_core.published.bert_names import load_published, published_name, to_published
from oscar_core.published.config_json import encoder_config
from oscar_core.task import Losses
from oscar_core.tasks.pretraining.collate import Batch, lay_out
from oscar_core.tasks.pretraining.train import losses
from oscar_core.training.config import TrainingConfig
from oscar_core.training.schedule import rate_factor
from tests.locations import oracle_dir, oracle_files
from tests.oracle.oscar_cases import build, check_close, part
from tests.oracle.recorded_draws import Recorded
from tests.oracle.recorded_training import Course, batch_size, learn, scaled_losses

pytestmark = pytest.mark.oracle
FOLDER = oracle_dir("oscar")
LOSSES, WEIGHTS = 5e-6, 1e-4
DECODER = "cls.predictions.decoder.weight"
DEFAULTS = {  # specs/oscar.md 8
    "textb_sample_mode": "0",
    "texta_false_prob": "0.0",
    "use_b": "1",
    "use_gtlabels": "1",
    "mask_loss_for_unmatched": "1",
    "max_seq_length": "35",
    "max_img_seq_length": "50",
    "learning_rate": "5e-5",
    "warmup_steps": "0",
    "max_grad_norm": "-1",
    "gradient_accumulation_steps": "1",
    "extra_loss_weight": "0.0",
    "extra_textb_sample_mode": "1",
    "adam_epsilon": "1e-8",
    "chunk_start_id": "-1",
    "chunk_end_id": "-1",
}
_SAID_ALIKE = ("max_iters", "ckpt_period", "log_period")
"""May differ between a run and the one that it continues."""


def told() -> list[Mapping[str, Any]]:
    files = oracle_files("oscar", "pretrain_run.json")
    return json.loads(files[0].read_text(encoding="utf-8"))["runs"] if files else []


RUNS = told()


def runs() -> list[Any]:
    if not FOLDER.is_dir():
        skip = pytest.mark.skip(reason="no recorded outputs; set OSCAR_ORACLE_DIR to their folder")
        return [pytest.param(None, marks=skip)]
    assert RUNS, f"{FOLDER} lists no runs"
    return [pytest.param(run, id=run["name"]) for run in RUNS]


def options(run: Mapping[str, Any]) -> dict[str, str]:
    """What the script was told, with its defaults; a switch is "1"."""
    found = dict(DEFAULTS)
    argv = run["argv"]
    for place, word in enumerate(argv):
        if word.startswith("--"):
            follows = argv[place + 1] if place + 1 < len(argv) else "--"
            is_switch = follows.startswith("--")
            found[word.removeprefix("--")] = "1" if is_switch else follows
    return found


def weights_of(run: Mapping[str, Any], when: str) -> dict[str, Tensor]:
    return part(load_file(FOLDER / "pretrain_run.safetensors"), f"{run['name']}/{when}/")


def data_sets(run: Mapping[str, Any]) -> list[Recorded]:
    """The main data set and the extra one, if there is one; both may read the same file."""
    told = options(run)
    whole = ("use_b", "use_gtlabels", "mask_loss_for_unmatched", "max_seq_length")
    more = ("max_img_seq_length", "chunk_start_id", "chunk_end_id")
    args: dict[str, Any] = {name: int(told[name]) for name in (*whole, *more)}
    args["texta_false_prob"] = float(told["texta_false_prob"])
    chosen = [(told["dataset_file"], int(told["textb_sample_mode"]))]
    if "extra_dataset_file" in told:
        chosen.append((told["extra_dataset_file"], int(told["extra_textb_sample_mode"])))
    lower = "do_lower_case" in told
    return [
        Recorded(FOLDER / "oscar_tiny", yaml, args | {"textb_sample_mode": mode}, lower=lower)
        for yaml, mode in chosen
    ]


def training_of(run: Mapping[str, Any]) -> TrainingConfig:
    told = options(run)
    parts = int(told["gradient_accumulation_steps"])
    return TrainingConfig(
        steps=int(told["max_iters"]),
        batch_size=batch_size(len(run["batches"]), parts),
        accumulation=parts,
        learning_rate=float(told["learning_rate"]),
        warmup=float(told["warmup_steps"]),
        weight_decay=0.01,
        adam_epsilon=float(told["adam_epsilon"]),
        max_gradient_norm=max(0.0, float(told["max_grad_norm"])),
        checkpoint_every=0,
        compat=TrainingCompat(replays_when_resumed=True),
    )


def new_model(run: Mapping[str, Any]) -> nn.Module:
    """A model with the recorded start weights."""
    model = build("BertImgForPreTraining", run["saved_config"])
    state = weights_of(run, "init")
    state.setdefault(DECODER, state["bert.embeddings.word_embeddings.weight"])
    report = load_published(model, state)
    assert (report.missing, report.unused, report.resized) == ((), (), ())
    return model


def judge(model: nn.Module, recorded: Recorded, batch: Batch, number: int) -> Losses:
    return losses(recorded.config, model, batch, number)  # type: ignore[arg-type]  # a module


def course_of(run: Mapping[str, Any]) -> Course:
    """All batches of a run, made from their recorded draws: main, extra, main, ..."""
    sets, samples = data_sets(run), iter(run["samples"])
    steps = [
        [_batch(recorded, batch, samples) for recorded, batch in zip(sets, batches, strict=True)]
        for batches in zip(*run["batches"], strict=True)
    ]
    assert next(samples, None) is None, "samples were recorded that no batch holds"
    extra = float(options(run)["extra_loss_weight"])
    return Course(steps=steps, extra=extra, judge=judge, sets=sets)


def _batch(recorded: Recorded, batch: list[int], samples: Any) -> Batch:
    told = [next(samples) for _ in batch]
    assert [each["index"] for each in told] == batch
    made = [recorded.sample(each["index"], each["draws"]) for each in told]
    examples = [recorded.example(number) for number in batch]
    return lay_out(recorded.config, recorded.tokenizer, examples, made)


def resumed_at(run: Mapping[str, Any]) -> int:
    """Updates of the run that this one continues."""
    return int(options(run)["max_iters"]) - len(run["lr_at_each_update"])


def beginning_of(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """The run whose checkpoint this one continues: told the same, from the start."""

    def said(each: Mapping[str, Any]) -> dict[str, str]:
        return {k: v for k, v in options(each).items() if k not in _SAID_ALIKE}

    return next(each for each in RUNS if said(each) == said(run) and not resumed_at(each))


def rates_of(run: Mapping[str, Any]) -> list[float]:
    """Our rate of every update from the first."""
    training = training_of(run)
    num = training.num_steps(0)
    return [training.learning_rate * rate_factor(training, k, num) for k in range(num)]


@pytest.mark.parametrize("run", runs())
def test_a_whole_run_ends_with_the_recorded_weights(run: Mapping[str, Any], tmp_path: Path) -> None:
    first, training, rates = resumed_at(run), training_of(run), rates_of(run)
    if first:
        begun = beginning_of(run)
        model = new_model(begun)
        learn(course_of(begun), training_of(begun), model, tmp_path, updates=first)
        check_weights(model, weights_of(run, "init"), sum(rates_of(begun)[:first]))
    # of a run that goes on, the checkpoint alone may tell what was learned
    model = build("BertImgForPreTraining", run["saved_config"]) if first else new_model(run)
    course = course_of(run)
    learn(course, training, model, tmp_path, updates=training.num_steps(0))
    assert rates[first:] == pytest.approx(run["lr_at_each_update"], abs=1e-12)
    rows = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates, rel=1e-5, abs=1e-12)
    check_losses(course, run)
    check_weights(model, weights_of(run, "final"), sum(rates))


def check_losses(course: Course, run: Mapping[str, Any]) -> None:
    """Of every forward pass, of every update, and of the stretches between checkpoints."""
    num_sets = len(course.sets)
    assert len(course.found) == len(run["forwards"])
    for number, wanted in enumerate(run["forwards"]):
        found = course.found[divmod(number, num_sets)]
        pair = [float(found.total.detach()), float(found.parts["words"])]
        expected = [wanted["loss"], wanted["masked_lm_loss"]]
        assert pair == pytest.approx(expected, abs=LOSSES, nan_ok=True), f"pass {number}"
    parts = int(options(run)["gradient_accumulation_steps"])
    scaled = scaled_losses(course, parts)
    of_updates = [sum(scaled[at : at + parts]) for at in range(0, len(scaled), parts)]
    assert [each.total for each in course.reports] == pytest.approx(of_updates, abs=LOSSES)
    offset = begin = resumed_at(run) * parts
    assert run["loss_logs"]
    for step, total in sorted(run["loss_logs"].items(), key=lambda pair: int(pair[0])):
        end = int(step)
        summed = sum(scaled[begin - offset : end - offset])
        assert summed == pytest.approx(total, abs=LOSSES * (end - begin))
        begin = end


def check_weights(model: nn.Module, expected: Mapping[str, Tensor], rates: float) -> None:
    found = to_published({n: p.detach() for n, p in model.named_parameters()})
    assert expected
    for name, weight in expected.items():
        is_noise = name.endswith("attention.self.key.bias")
        tolerance = WEIGHTS + (2 * rates if is_noise else 0.0)
        check_close(found[name], weight, tolerance, name)


@pytest.mark.parametrize("run", runs())
def test_both_data_sets_may_read_one_file_and_chosen_chunks(run: Mapping[str, Any]) -> None:
    yaml = options(run)["dataset_file"]
    more = ["--extra_dataset_file", yaml, "--extra_textb_sample_mode", "0"]
    more += ["--textb_sample_mode", "1", "--chunk_start_id", "0", "--chunk_end_id", "0"]
    main, extra = data_sets({**run, "argv": [*run["argv"], *more]})
    assert (main.config.negatives, extra.config.negatives) == ("second", "any")
    whole = data_sets(run)[0].published
    unchunked = [each for each in whole.documents if each.image_key.count("_") == 1]
    assert len(main.published.documents) == len(unchunked)


@pytest.mark.parametrize("run", runs())
def test_start_weights_load_by_the_original_rules(run: Mapping[str, Any]) -> None:
    """The file of start weights, made again: old names, two-way head, parts that are missing."""
    state = weights_of(run, "init")
    wanted = set(run["missing_keys"])
    file = {name: value for name, value in state.items() if name not in wanted}
    file.setdefault(DECODER, state["bert.embeddings.word_embeddings.weight"])
    if run["size_mismatch"]:
        file = {n: v[:2] if n.startswith("cls.seq_relationship") else v for n, v in file.items()}
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for now, before in old.items():
        file = {name.replace(now, before): value for name, value in file.items()}
    torch.manual_seed(0)
    model = build("BertImgForPreTraining", run["saved_config"])
    report = load_published(model, file)
    assert {published_name(name) for name in report.missing} == wanted
    assert sorted(report.unused) == sorted(run["unexpected_keys"])
    resized = [f"size mismatch for {published_name(name)}" for name in report.resized]
    assert sorted(resized) == sorted(run["size_mismatch"])


@pytest.mark.parametrize("run", runs())
def test_the_recorded_settings_are_understood(run: Mapping[str, Any]) -> None:
    told = run["saved_config"]
    assert encoder_config(told).vocabulary_size == told["vocab_size"]
    assert data_sets(run)[0].config.num_contrast_classes == told["num_contrast_classes"]
