"""Published models into ours and back: `oscar-flow convert`."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flows.commands.convert_detector import Beside, convert_detector, is_detector
from flows.errors import FlowError
from oscar_core.encoder import OscarPreTrained
from oscar_core.errors import WeightsError
from oscar_core.hub_folder import is_hub_folder, read_hub_folder, write_hub_folder
from oscar_core.model_folder import (
    SETTINGS,
    WHERE_ANSWERS_ARE,
    read_model,
    settings_of,
    task_of,
    write_model,
)
from oscar_core.published.checkpoints import load_published_folder
from oscar_core.published.writing import write_published
from oscar_core.task import Knowledge, task_names
from oscar_core.tokens import Tokenizer

_TWO_OUTPUTS = ": it has two outputs and nobody said of what (else --as TASK)"

_NOT_KNOWN = (
    "the order of the last two box numbers it learned from is not known, so regions of either "
    "order are taken; name it with --geometry"
)

Layout = Literal["ours", "published", "hub", "detectron2"]
Geometry = Literal["width_first", "height_first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What may be asked of a published folder; see `load_published_folder`.

    answers:  a JSON list of strings, in the order of a classifier's outputs
    geometry: order of the last two numbers of the regions that the model learned from; published
              models do not tell it
    beside:   for a detector
    """

    task: str | None = None
    starts_anew: Collection[str] = ()
    widens_contrast: bool = False
    vocabulary: Path | None = None
    answers: Path | None = None
    lower_case: bool = True
    geometry: Geometry | None = None
    beside: Beside = field(default_factory=Beside)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A model, wherever it came from, and what there is to tell."""

    model: OscarPreTrained
    tokenizer: Tokenizer
    task: str | None
    answers: tuple[str, ...]
    lines: Sequence[str]
    geometry: str | None = None


def convert(source: Path, out: Path, *, to: Layout, wishes: Wishes) -> list[str]:
    """Turn a folder of one layout into one of another.

    Args:
        source: ours (`model.json`), published (`pytorch_model.bin`), transformers', or a detector.
        out: becomes the new folder.
        to: its layout.
        wishes: for a published source.

    Returns:
        What was done, a line each.

    Raises:
        OscarCoreError: The source does not fit.
        DetectorError: It is a detector and does not fit.
        FlowError: There is no source, `out` is in use, or the answers cannot be read.
    """
    if not source.exists():
        raise FlowError(f"{source}: no file and no folder there")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FlowError(f"{out}: is there already; name a folder that is not")
    if wishes.geometry is not None and (to != "ours" or is_detector(source)):
        raise FlowError(
            "--geometry: only models that read regions have one, and only our layout keeps it; for "
            "a detector it is a setting of the section detect"
        )
    if is_detector(source):
        return convert_detector(source, out, to=to, beside=wishes.beside)
    if to == "detectron2":
        raise FlowError("--to detectron2 is for detectors; this is another model")
    opened = _open(source, wishes)
    return [*opened.lines, *_written(out, opened, to)]


def _written(out: Path, opened: _Opened, to: Layout) -> list[str]:
    """Write the folder; what was done, a line each."""
    if to == "ours":
        task = opened.task or task_of(opened.model)
        _write_ours(out, opened, task)
        why = "" if opened.task or task != "retrieval" else _TWO_OUTPUTS
        order = _NOT_KNOWN if opened.geometry is None else f"learned from {opened.geometry} regions"
        return [f"{out}: {order}", f"{out}: written as a model of {task}{why}"]
    if to == "published":
        kind = write_published(out, opened.model, opened.tokenizer)
        said = f"{out}: written in the published layout, as {kind}"
    else:
        write_hub_folder(out, opened.model, opened.tokenizer)
        name = type(opened.model).__name__
        said = f"{out}: written for transformers; {name}.from_pretrained reads it"
    if opened.geometry is None:
        return [said]
    return [f"{out}: has no place for the order of its box numbers, {opened.geometry}", said]


def _write_ours(out: Path, opened: _Opened, task: str) -> None:
    if task not in task_names():
        raise WeightsError(
            f"{task}: no task of ours keeps such a model; use --to hub or --to published"
        )
    num_outputs = opened.model.config.num_labels
    if task == "vqa" and len(opened.answers) != num_outputs:
        raise WeightsError(
            f"{len(opened.answers)} answers for {num_outputs} outputs; name the JSON list of the "
            f"answers in their order with --answers FILE; {WHERE_ANSWERS_ARE}"
        )
    write_model(
        out,
        task=task,
        config=settings_of(task, opened.model.config),
        encoder=opened.model.config.sizes(),
        knowledge=Knowledge(tokenizer=opened.tokenizer, answers=opened.answers),
        model=opened.model,
        geometry=opened.geometry,
    )


def _open(source: Path, wishes: Wishes) -> _Opened:
    answers = () if wishes.answers is None else _read_answers(wishes.answers)
    if (source / SETTINGS).is_file():
        stored = read_model(source)
        if wishes.geometry not in (None, stored.geometry) and stored.geometry is not None:
            raise FlowError(f"{source}: learned from {stored.geometry} regions, as it says itself")
        model = stored.build_as_it_is()
        if not isinstance(model, OscarPreTrained):
            raise WeightsError(f"{source}: a model of {stored.task} has no other layout")
        return _Opened(
            model=model,
            tokenizer=stored.knowledge.tokenizer,
            task=stored.task,
            answers=stored.knowledge.answers,
            lines=[f"{source}: read as a model of {stored.task}"],
            geometry=stored.geometry or wishes.geometry,
        )
    if is_hub_folder(source):
        hub_model, tokenizer = read_hub_folder(source, lower_case=wishes.lower_case)
        return _Opened(
            model=hub_model,
            tokenizer=tokenizer,
            task=wishes.task,
            answers=answers,
            lines=[f"{source}: read as {type(hub_model).__name__}"],
            geometry=wishes.geometry,
        )
    loaded = load_published_folder(
        source,
        wishes.task,
        starts_anew=wishes.starts_anew,
        widens_contrast=wishes.widens_contrast,
        num_labels=len(answers) or None,
        vocabulary=wishes.vocabulary,
        lower_case=wishes.lower_case,
    )
    return _Opened(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        task=wishes.task,
        answers=answers,
        lines=loaded.report.lines(),
        geometry=wishes.geometry,
    )


def _read_answers(path: Path) -> tuple[str, ...]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FlowError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, list) or not all(isinstance(each, str) for each in content):
        raise FlowError(f"{path}: want a JSON list of strings, the answers in their order")
    return tuple(content)
