"""What pretraining adds: captions and retrieval with and without it, over several seeds.

python -m benchmarks pretraining_gain [--demo] [--real] [--seeds 1 2 3] [--keep FOLDER]

Photos are looked at once (`--from RUN` takes even that from a finished run of the same settings);
then every seed pretrains once and learns captioning and retrieval in three ways: from the
pretrained model, from new weights, and from new weights with as many updates more as pretraining
had. With `--keep` an interrupted measurement goes on where it stopped.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from benchmarks.figure import Figure, machine
from flows.commands.run import run_prepared
from flows.config import RunConfig, TaskRun, read_config
from flows.digests import DigestBook
from flows.identity import prepare
from flows.pipeline import plan_of
from flows.plan import Plan, Step, source_of
from flows.predictions import file_name, rows
from flows.run_folder import RunFolder
from storage.artifacts import read_done

PRETRAINED, NEW, LONGER = "pretrained", "new", "longer"
ARMS = (PRETRAINED, NEW, LONGER)
CONFIGS = {"demo": Path("demo.yaml"), "real": Path("real_photos.yaml")}
METRICS = {"captioning": ("cider",), "retrieval": ("t2i.r1", "i2t.r1", "t2i.r5", "i2t.r5")}
PRETRAIN = "pretrain"
_VERBS = ("train", "predict", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One score of one arm.

    num_images: photos it was measured on
    """

    seed: int
    arm: str
    metric: str
    value: float
    num_images: int


def main(arguments: Sequence[str]) -> int:
    """Measure the parts asked for (both without a word) and print their tables."""
    chosen = _parser().parse_args(arguments)
    parts = [name for name in CONFIGS if getattr(chosen, name)] or list(CONFIGS)
    print(machine(), flush=True)
    figures: list[Figure] = []
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="pretraining-gain-"))
        for part in parts:
            config = read_config(CONFIGS[part], chosen.settings)
            folder = (chosen.keep or Path(temporary)) / part
            measured = measure_part(config, folder, chosen.seeds, chosen.arms, chosen.earlier)
            print("\n".join(table(part, measured)), flush=True)
            figures += figures_of(part, measured)
    if chosen.json:
        chosen.json.write_text(json.dumps([figure.as_dict() for figure in figures], indent=1))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks pretraining_gain")
    for name, path in CONFIGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=f"the photos of {path}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="SEED")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument(
        "--keep", type=Path, help="leave everything in this folder, and go on there"
    )
    parser.add_argument(
        "--from", type=Path, dest="earlier", metavar="RUN", help="a run that has seen the photos"
    )
    parser.add_argument("--set", action="append", dest="settings", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    return parser


def measure_part(
    config: RunConfig,
    folder: Path,
    seeds: Sequence[int],
    arms: Sequence[str],
    earlier: Path | None = None,
) -> list[Measured]:
    """Do whatever is not done yet, and read all scores."""
    plan = gain_plan(config, seeds, arms)
    if earlier is not None:
        taken = take_over(plan, folder, earlier)
        print(f"taken over from {earlier}: {', '.join(taken) or 'nothing, other settings'}")
    done = run_prepared(plan, config, folder, with_prefect=False, stream=sys.stdout)
    return [
        measured
        for seed in seeds
        for arm in arms
        for task in config.tasks
        if task in METRICS
        for measured in _scores(folder, done.folders, seed, arm, task)
    ]


def gain_plan(config: RunConfig, seeds: Sequence[int], arms: Sequence[str]) -> Plan:
    """Look at the photos once; then, for every seed, pretrain and learn each task in every arm."""
    tasks = {
        name: replace(branch, controls=())
        for name, branch in config.tasks.items()
        if name in METRICS
    }
    whole = _without_waiting(plan_of(replace(config, tasks=tasks)))
    learning = {PRETRAIN, *(f"{task}_{verb}" for task in tasks for verb in _VERBS)}
    needed = {above for name in learning for above in whole.ancestors(name)} - learning
    steps = [step for step in whole.steps if step.name in needed]
    for seed in seeds:
        for arm in arms:
            arm_plan = _without_waiting(plan_of(_of_arm(config, tasks, seed, arm)))
            known = {step.name for step in steps}
            steps += [
                step for step in _renamed(arm_plan, learning, seed, arm) if step.name not in known
            ]
    return Plan(tuple(steps))


def take_over(plan: Plan, folder: Path, earlier: Path) -> list[str]:
    """Copy finished steps of another run that are the very same work; their names."""
    run = RunFolder(folder)
    prepared = prepare(plan, run, DigestBook(run.digests))
    taken = []
    for name, step in prepared.items():
        made = earlier / step.folder.name
        done = read_done(made) if made.is_dir() and not step.is_done else None
        if done is not None and done.fingerprint == step.fingerprint:
            shutil.copytree(made, step.folder, dirs_exist_ok=True)
            taken.append(name)
    return taken


def table(part: str, measured: Sequence[Measured]) -> Iterator[str]:
    """Mean and spread (largest minus smallest) of every arm, and of the gain seed by seed."""
    arms = list(dict.fromkeys(each.arm for each in measured))
    seeds = list(dict.fromkeys(each.seed for each in measured))
    yield f"\n{part}: mean of seeds {', '.join(map(str, seeds))} (largest minus smallest)"
    heads = [*arms, *(f"{PRETRAINED} - {arm}" for arm in arms if _is_compared(arm, arms))]
    yield f"{'metric':20} {'photos':>6} " + " ".join(f"{head:>22}" for head in heads)
    for metric in dict.fromkeys(each.metric for each in measured):
        found = [_values(measured, metric, arm) for arm in arms]
        found += [gains(measured, metric, arm) for arm in arms if _is_compared(arm, arms)]
        num_images = next(each.num_images for each in measured if each.metric == metric)
        cells = " ".join(f"{f'{mean(v):.3f} ({max(v) - min(v):.3f})':>22}" for v in found)
        yield f"{metric:20} {num_images:6} {cells}"


def figures_of(part: str, measured: Sequence[Measured]) -> list[Figure]:
    """Every arm's mean over the seeds, and the mean gain; `pretraining_gain.<part>.<metric>.*`."""
    arms = list(dict.fromkeys(each.arm for each in measured))
    figures = []
    for metric in dict.fromkeys(each.metric for each in measured):
        values = {arm: _values(measured, metric, arm) for arm in arms}
        values |= {
            "gain" if arm == NEW else f"gain_over_{arm}": gains(measured, metric, arm)
            for arm in arms
            if _is_compared(arm, arms)
        }
        figures += [
            Figure(
                name=f"pretraining_gain.{part}.{metric}.{name}",
                value=mean(found),
                unit="score",
                n=len(found),
                spread=max(found) - min(found),
            )
            for name, found in values.items()
        ]
    return figures


def gains(measured: Sequence[Measured], metric: str, arm: str) -> list[float]:
    """What pretraining adds to an arm without it, seed by seed."""
    pairs = zip(_values(measured, metric, PRETRAINED), _values(measured, metric, arm), strict=True)
    return [with_it - without for with_it, without in pairs]


def _is_compared(arm: str, arms: Sequence[str]) -> bool:
    return arm != PRETRAINED and PRETRAINED in arms


def _values(measured: Sequence[Measured], metric: str, arm: str) -> list[float]:
    return [each.value for each in measured if (each.metric, each.arm) == (metric, arm)]


def _of_arm(config: RunConfig, tasks: Mapping[str, TaskRun], seed: int, arm: str) -> RunConfig:
    """The run of one seed; arms without pretraining may have its updates instead."""
    if arm == PRETRAINED:
        return replace(config, seed=seed, tasks=tasks)
    more = 0
    if arm == LONGER and config.pretrain is not None:
        more = config.pretrain.training.steps or 0
    chosen = {name: _longer(branch, more) for name, branch in tasks.items()}
    return replace(config, seed=seed, tasks=chosen, pretrain=None)


def _longer(branch: TaskRun, more: int) -> TaskRun:
    training = branch.training
    if training.steps is None:
        return branch
    return replace(branch, training=replace(training, steps=training.steps + more))


def _renamed(plan: Plan, learning: set[str], seed: int, arm: str) -> Iterator[Step]:
    """The learning steps under names of their own; pretraining is the same in every arm."""
    names = {
        name: f"seed{seed}-{name}" if name == PRETRAIN else f"seed{seed}-{arm}-{name}"
        for name in learning
    }
    for step in plan.steps:
        if step.name in learning:
            inputs = {
                key: _reference(reference, plan, names) if isinstance(reference, str) else reference
                for key, reference in step.inputs.items()
            }
            yield replace(step, name=names[step.name], inputs=inputs)


def _reference(reference: str, plan: Plan, names: Mapping[str, str]) -> str:
    step = source_of(reference, plan.names).step
    return names.get(step, step) + reference[len(step) :]


def _without_waiting(plan: Plan) -> Plan:
    """The plan in which nothing waits for what it takes nothing from."""
    return Plan(tuple(replace(step, after=()) for step in plan.steps))


def _scores(
    folder: Path, folders: Mapping[str, str], seed: int, arm: str, task: str
) -> Iterator[Measured]:
    branch = f"seed{seed}-{arm}-{task}"
    scores = json.loads((folder / folders[f"{branch}_score"] / "scores.json").read_text())
    predicted = folder / folders[f"{branch}_predict"] / "predictions" / file_name("")
    images = {json.loads(line)["image_id"] for line in rows(predicted)}
    for metric in METRICS[task]:
        yield Measured(
            seed=seed,
            arm=arm,
            metric=f"{task}.{metric}",
            value=scores["values"][metric],
            num_images=len(images),
        )
