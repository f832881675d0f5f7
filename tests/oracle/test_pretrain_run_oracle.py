"""Whole runs of the original's pretraining script against our parts put together.

Start weights, batches and draws are the recorded ones; corpus reader, samples, layout, model,
losses, optimiser and schedule are ours. Tolerances: specs/oscar.md 12; 5e-6 for losses, 1e-4 for
weights after the last update, and as much as the rates add up to for the keys' biases, whose
gradient is rounding noise.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from oscar_core.published.bert_names import load_published, published_name, to_published
from oscar_core.published.config_json import encoder_config
from oscar_core.task import Losses
from oscar_core.tasks.pretraining.collate import lay_out
from oscar_core.tasks.pretraining.train import losses
from oscar_core.training.config import TrainingConfig
from oscar_core.training.optimiser import PublishedAdamW, build_optimiser
from oscar_core.training.schedule import rate_factor
from tests.locations import oracle_dir, oracle_files
from tests.oracle.oscar_cases import build, check_close, part
from tests.oracle.recorded_draws import Recorded

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
}


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
    """The main data set and the extra one, if there is one."""
    told = options(run)
    args: dict[str, Any] = {
        name: int(told[name])
        for name in ("use_b", "use_gtlabels", "mask_loss_for_unmatched", "max_seq_length")
    }
    args["max_img_seq_length"] = int(told["max_img_seq_length"])
    args["texta_false_prob"] = float(told["texta_false_prob"])
    modes = {told["dataset_file"]: int(told["textb_sample_mode"])}
    if "extra_dataset_file" in told:
        modes[told["extra_dataset_file"]] = int(told["extra_textb_sample_mode"])
    lower = "do_lower_case" in told
    return [
        Recorded(FOLDER / "oscar_tiny", yaml, args | {"textb_sample_mode": mode}, lower=lower)
        for yaml, mode in modes.items()
    ]


@dataclass
class Learner:
    """A model under way.

    found:  losses of every forward pass
    rates:  of every update
    """

    model: nn.Module
    optimiser: PublishedAdamW
    found: list[Losses]
    rates: list[float]


def training_of(run: Mapping[str, Any]) -> TrainingConfig:
    told = options(run)
    return TrainingConfig(
        steps=int(told["max_iters"]),
        learning_rate=float(told["learning_rate"]),
        warmup=float(told["warmup_steps"]),
        weight_decay=0.01,
        adam_epsilon=float(told["adam_epsilon"]),
        max_gradient_norm=max(0.0, float(told["max_grad_norm"])),
    )


def new_learner(run: Mapping[str, Any]) -> Learner:
    """A model with the recorded start weights."""
    model = build("BertImgForPreTraining", run["saved_config"])
    state = weights_of(run, "init")
    state.setdefault(DECODER, state["bert.embeddings.word_embeddings.weight"])
    report = load_published(model, state)
    assert (report.missing, report.unused, report.resized) == ((), (), ())
    model.train()
    return Learner(model, build_optimiser(model, training_of(run)), [], [])


def shares_of(run: Mapping[str, Any], num_sets: int) -> list[float]:
    """How much the loss of each data set counts; Q27 makes no difference here."""
    extra = float(options(run)["extra_loss_weight"])
    return [1 - extra, extra] if num_sets == 2 else [1.0]


def train(learner: Learner, run: Mapping[str, Any], first: int, last: int) -> None:
    """Updates `first` to `last` - 1 of a run, counted from 0, on its batches from the start."""
    training, sets = training_of(run), data_sets(run)
    parts = int(options(run)["gradient_accumulation_steps"])
    samples = iter(run["samples"])
    steps = zip(*run["batches"], strict=True)
    for update in range(first, last):
        for _, batches in zip(range(parts), steps, strict=False):
            for recorded, batch, share in zip(
                sets, batches, shares_of(run, len(sets)), strict=True
            ):
                loss = loss_of(learner.model, recorded, batch, samples)
                learner.found.append(loss)
                (loss.total * share / parts).backward()
        if training.max_gradient_norm > 0:
            nn.utils.clip_grad_norm_(learner.model.parameters(), training.max_gradient_norm)
        rate = training.learning_rate * rate_factor(training, update, training.num_steps(0))
        for group in learner.optimiser.param_groups:
            group["lr"] = rate
        learner.optimiser.step()
        learner.optimiser.zero_grad()
        learner.rates.append(rate)


def loss_of(
    model: nn.Module,
    recorded: Recorded,
    batch: Sequence[int],
    samples: Iterator[Mapping[str, Any]],
) -> Losses:
    """Our losses of a recorded batch, made from its recorded draws."""
    made = []
    for number in batch:
        told = next(samples)
        assert told["index"] == number
        made.append(recorded.sample(number, told["draws"]))
    examples = [recorded.example(number) for number in batch]
    laid_out = lay_out(recorded.config, recorded.tokenizer, examples, made)
    return losses(recorded.config, model, laid_out, 1)  # type: ignore[arg-type]  # a module


def resumed_at(run: Mapping[str, Any]) -> int:
    """Updates of the run that this one continues."""
    return int(options(run)["max_iters"]) - len(run["lr_at_each_update"])


def beginning_of(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """The run whose checkpoint this one continues: told the same, from the start."""
    return next(each for each in RUNS if each["argv"] == run["argv"] and not resumed_at(each))


@pytest.mark.parametrize("run", runs())
def test_a_whole_run_ends_with_the_recorded_weights(run: Mapping[str, Any]) -> None:
    first = resumed_at(run)
    learner = new_learner(beginning_of(run) if first else run)
    if first:
        train(learner, beginning_of(run), 0, first)
        check_weights(learner, weights_of(run, "init"))
        learner.found.clear()
    train(learner, run, first, training_of(run).num_steps(0))
    assert learner.rates[first:] == pytest.approx(run["lr_at_each_update"], abs=1e-12)
    assert len(learner.found) == len(run["forwards"])
    for number, (found, wanted) in enumerate(zip(learner.found, run["forwards"], strict=True)):
        pair = [float(found.total.detach()), float(found.parts["words"])]
        expected = [wanted["loss"], wanted["masked_lm_loss"]]
        assert pair == pytest.approx(expected, abs=LOSSES), f"pass {number}"
    check_weights(learner, weights_of(run, "final"))


def check_weights(learner: Learner, expected: Mapping[str, Tensor]) -> None:
    found = to_published({n: p.detach() for n, p in learner.model.named_parameters()})
    assert expected
    for name, weight in expected.items():
        is_noise = name.endswith("attention.self.key.bias")
        tolerance = WEIGHTS + (2 * sum(learner.rates) if is_noise else 0.0)
        check_close(found[name], weight, tolerance, name)


@pytest.mark.parametrize("run", runs())
def test_losses_are_logged_as_recorded(run: Mapping[str, Any]) -> None:
    """`loss_logs.json`: scaled losses of main and extra batches, summed since the checkpoint."""
    num_sets = len(run["batches"])
    shares = shares_of(run, num_sets)
    parts = int(options(run)["gradient_accumulation_steps"])
    scaled = [
        each["loss"] * shares[number % num_sets] / parts
        for number, each in enumerate(run["forwards"])
    ]
    begin = resumed_at(run) * parts * num_sets
    for step, total in run["loss_logs"].items():
        end = int(step) * num_sets
        offset = resumed_at(run) * parts * num_sets
        assert sum(scaled[begin - offset : end - offset]) == pytest.approx(total, abs=1e-4)
        begin = end


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
