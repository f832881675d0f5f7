"""Who a step is: the fingerprint of its stage, version, config, inputs and outside files.

Every `Path` in a config or among the inputs is an outside file or folder: its content counts, not
its name.
No clocks, no places: the same work elsewhere and later has the same fingerprint.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from flows.digests import DigestBook
from flows.errors import PlanError
from flows.plan import Plan, Step, source_of
from flows.run_folder import RunFolder
from storage.artifacts import Done, fingerprint, read_done

IDENTITY = "identity.json"
"""In each step's folder: what its fingerprint was made of, so that `plan` can say what changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedStep:
    """A step with everything known before it runs.

    inputs:  input name -> folder or file; a mapping for `group:name` inputs
    outputs: output name -> folder or file inside `folder`
    done:    the done-mark, where the step is finished
    why:     why it will run, or that it is done
    """

    step: Step
    fingerprint: str
    folder: Path
    inputs: Mapping[str, Path | Mapping[str, Path]]
    outputs: Mapping[str, Path]
    identity: Mapping[str, object]
    done: Done | None
    why: str

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.done is not None


def stage_module(stage: str) -> ModuleType:
    """The module of a stage: `flows.stages.<stage>`, or the dotted module itself.

    Raises:
        PlanError: There is no such module.
    """
    name = stage if "." in stage else f"flows.stages.{stage}"
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise PlanError(f"no stage {stage!r}: module {name} not found") from error
        raise


def stage_names() -> list[str]:
    """Names of all stages: the modules of `flows.stages`."""
    return sorted(each.name for each in iter_modules(import_module("flows.stages").__path__))


def prepare(plan: Plan, run: RunFolder, book: DigestBook) -> dict[str, PreparedStep]:
    """Fingerprint every step and look what is done; nothing is started.

    Raises:
        MissingFileError: An outside file is not there.
        PlanError: An input names an output that its stage has not.
    """
    prepared: dict[str, PreparedStep] = {}
    for step in plan.steps:
        prepared[step.name] = _prepare_step(step, plan, run, book, prepared)
    book.save()
    return prepared


def config_as_json(config: object, *, key: str = "") -> object:
    """A config as plain JSON values; paths become text."""
    return _plain(config, key, {})


def outside_paths(config: object) -> dict[str, Path]:
    """Files and folders that a config names, by their dotted keys."""
    paths: dict[str, Path] = {}
    _plain(config, "", paths)
    return paths


def _prepare_step(
    step: Step,
    plan: Plan,
    run: RunFolder,
    book: DigestBook,
    before: Mapping[str, PreparedStep],
) -> PreparedStep:
    module = stage_module(step.stage)
    paths: dict[str, Path] = {}
    plain = _plain(step.config, "", paths)
    # files that come with the package and decide results, e.g. the lexicon: a stage names them
    shipped: Mapping[str, Path] = getattr(module, "PACKAGE_FILES", {})
    outside = {
        key: book.digest(path, f"{step.name}.{key}") for key, path in {**shipped, **paths}.items()
    }
    inputs: dict[str, Path | Mapping[str, Path]] = {}
    input_fingerprints: dict[str, str] = {}
    for name, reference in step.inputs.items():
        if isinstance(reference, Path):
            place = reference
            outside[name] = book.digest(reference, f"{step.name}.{name}")
        else:
            place, input_fingerprints[name] = _taken(step, reference, plan, before)
        group, _, member = name.partition(":")
        if member:
            inputs[group] = {**_mapping(inputs.get(group)), member: place}
        else:
            inputs[name] = place
    configured = _without(plain, set(paths))
    mark = fingerprint(step.stage, module.VERSION, configured, input_fingerprints, outside)
    folder = run.step_folder(step.name, mark)
    identity = {
        "stage": step.stage,
        "version": module.VERSION,
        "config": configured,
        "inputs": input_fingerprints,
        "outside": outside,
    }
    done = read_done(folder) if folder.is_dir() else None
    if done is not None and done.fingerprint != mark:
        done = None
    return PreparedStep(
        step=step,
        fingerprint=mark,
        folder=folder,
        inputs=inputs,
        outputs=_outputs(module, folder),
        identity=identity,
        done=done,
        why="done" if done is not None else _why(step.name, folder, run, identity),
    )


def _outputs(module: ModuleType, folder: Path) -> dict[str, Path]:
    """Places of a stage's outputs: by the field's name, or by the file name that is its default."""
    return {
        each.name: folder / (each.default if isinstance(each.default, Path) else each.name)
        for each in fields(module.Outputs)
    }


def _taken(
    step: Step, reference: str, plan: Plan, before: Mapping[str, PreparedStep]
) -> tuple[Path, str]:
    """Where an earlier step's output lies, and who it is."""
    source = source_of(reference, plan.names)
    earlier = before[source.step]
    if source.output and source.output not in earlier.outputs:
        raise PlanError(
            f"step {step.name!r}: {source.step!r} has no output {source.output!r}, only "
            f"{', '.join(earlier.outputs)}"
        )
    place = earlier.outputs[source.output] if source.output else earlier.folder
    mark = f"{earlier.fingerprint}/{source.output}"
    if source.inside:
        return place / source.inside, f"{mark}/{source.inside}"
    return place, mark


def _why(step: str, folder: Path, run: RunFolder, identity: Mapping[str, object]) -> str:
    """Why a step will run, compared with the newest other folder of the same step."""
    if folder.is_dir() and any(folder.iterdir()):
        return "was interrupted: goes on where it stopped"
    others = sorted(
        (path for path in run.path.glob(f"{step}-*/{IDENTITY}") if path.parent != folder),
        key=lambda path: path.stat().st_mtime,
    )
    others = [path for path in others if len(path.parent.name) == len(step) + 13]
    if not others:
        return "never ran"
    with suppress(OSError, ValueError):
        earlier = json.loads(others[-1].read_text(encoding="utf-8"))
        changes = list(_changes(earlier, json.loads(json.dumps(identity)), ""))
        if changes:
            more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
            return f"changed: {', '.join(changes[:3])}{more}"
    return "changed"


def _changes(old: object, new: object, key: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _changes(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        if key.startswith(("inputs.", "outside.")):
            yield key.replace(".", " ", 1)
        else:
            yield f"{key} {_short(old)} -> {_short(new)}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _mapping(value: Path | Mapping[str, Path] | None) -> Mapping[str, Path]:
    return value if isinstance(value, Mapping) else {}


def _plain(value: object, key: str, paths: dict[str, Path]) -> Any:
    """JSON values of a config; collects its paths under their dotted keys."""
    if isinstance(value, Path):
        paths[key] = value
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        pairs = {field.name: getattr(value, field.name) for field in fields(value)}
        return _plain(pairs, key, paths)
    if isinstance(value, Mapping):
        return {
            str(name): _plain(each, f"{key}.{name}" if key else str(name), paths)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(each, f"{key}.{at}", paths) for at, each in enumerate(value)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise PlanError(f"config value {key!r} of type {type(value).__name__} cannot be stored as JSON")


def _without(plain: object, paths: set[str], key: str = "") -> object:
    """The same values with every path replaced, since places are no part of a fingerprint."""
    if key in paths:
        return "(outside file)"
    if isinstance(plain, dict):
        return {
            name: _without(each, paths, f"{key}.{name}" if key else name)
            for name, each in plain.items()
        }
    if isinstance(plain, list):
        return [_without(each, paths, f"{key}.{at}") for at, each in enumerate(plain)]
    return plain
