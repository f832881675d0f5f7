"""Who a step is: the fingerprint of its stage, version, config, inputs and outside files.

Every `Path` in a config or among the inputs is an outside file or folder: its content counts, not
its name.
No clocks, no places: the same work elsewhere and later has the same fingerprint.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from glob import escape as glob_escape
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from flows.digests import DigestBook
from flows.errors import PlanError
from flows.plan import Plan, Step, source_of
from flows.reasons import reasons
from flows.run_folder import RunFolder
from storage.artifacts import DONE_NAME, Done, fingerprint, read_done
from storage.sources import RemoteSource

IDENTITY = "identity.json"
"""In each step's folder: what its fingerprint was made of, so that `plan` can say what changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedStep:
    """A step with everything known before it runs.

    inputs:  input name -> folder or file; a mapping for `group:name` inputs
    outputs: output name -> folder or file inside `folder`
    done:    the done-mark, where the step is finished
    reasons: why it will run, in words; empty where it is done
    """

    step: Step
    fingerprint: str
    folder: Path
    inputs: Mapping[str, Path | Mapping[str, Path]]
    outputs: Mapping[str, Path]
    identity: Mapping[str, object]
    done: Done | None
    reasons: tuple[str, ...]

    @property
    def why(self) -> str:
        """Why it will run, or that it is done, on one line."""
        return "; ".join(self.reasons) or "done"

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
    places: dict[str, Path] = {}
    input_fingerprints: dict[str, str] = {}
    for name, reference in step.inputs.items():
        if isinstance(reference, Path):
            places[name] = reference
            outside[name] = book.digest(reference, f"{step.name}.{name}")
        else:
            places[name], input_fingerprints[name] = _taken(step, reference, plan, before)
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
    reuses = reused_input(step)
    if reuses and done is None and (earlier := _earlier(step, folder, run, identity)) is not None:
        places[reuses] = earlier
    return PreparedStep(
        step=step,
        fingerprint=mark,
        folder=folder,
        inputs=_grouped(places),
        outputs=_outputs(module, folder),
        identity=identity,
        done=done,
        reasons=() if done is not None else _reasons(step, plan, folder, run, identity, book),
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


def _reasons(
    step: Step,
    plan: Plan,
    folder: Path,
    run: RunFolder,
    identity: Mapping[str, object],
    book: DigestBook,
) -> tuple[str, ...]:
    """Why a step will run, compared with what the latest start of the run had."""
    if (folder / DONE_NAME).is_file():
        return ("was damaged: its files are not those of its done-mark",)
    if folder.is_dir() and any(folder.iterdir()):
        return ("was interrupted: goes on where it stopped",)
    others = [path for path in step_folders(run, step.name) if path != folder]
    if not others:
        return ("never ran",)
    sources = {
        name: source_of(reference, plan.names).step
        for name, reference in step.inputs.items()
        if isinstance(reference, str)
    }
    with suppress(OSError, ValueError, AttributeError):
        earlier = json.loads((_latest(step.name, others, run) / IDENTITY).read_text("utf-8"))
        present = json.loads(json.dumps(identity))
        if found := reasons(earlier, present, sources, book.listing):
            return tuple(found)
    return ("changed",)


def _latest(step: str, folders: list[Path], run: RunFolder) -> Path:
    """The folder that the latest start named, else the one that was begun last."""
    with suppress(OSError, ValueError, AttributeError):
        named = run.path / str(json.loads(run.steps.read_text(encoding="utf-8")).get(step))
        if named in folders:
            return named
    return max(folders, key=lambda path: (path / IDENTITY).stat().st_mtime_ns)


def step_folders(run: RunFolder, step: str) -> list[Path]:
    """Folders of a step, of whatever fingerprint."""
    name = re.compile(re.escape(step) + "-[0-9a-f]{12}")
    return sorted(
        path for path in run.path.glob(f"{glob_escape(step)}-*") if name.fullmatch(path.name)
    )


def reused_input(step: Step) -> str:
    """The input through which a stage takes its own earlier artifact; "" where it takes none."""
    return str(getattr(stage_module(step.stage), "REUSES", ""))


def _earlier(
    step: Step, folder: Path, run: RunFolder, identity: Mapping[str, object]
) -> Path | None:
    """The newest finished artifact of the same step, version and config, made of other inputs."""
    found: list[tuple[int, Path]] = []
    for other in step_folders(run, step.name):
        with suppress(OSError, ValueError, AttributeError):
            known = json.loads((other / IDENTITY).read_text(encoding="utf-8"))
            same = all(known.get(key) == identity[key] for key in ("stage", "version", "config"))
            if other != folder and same and read_done(other) is not None:
                found.append(((other / DONE_NAME).stat().st_mtime_ns, other))
    return max(found)[1] if found else None


def _grouped(places: Mapping[str, Path]) -> dict[str, Path | Mapping[str, Path]]:
    """Inputs as a stage takes them: those named `group:member` in one mapping."""
    groups: dict[str, dict[str, Path]] = {}
    inputs: dict[str, Path | Mapping[str, Path]] = {}
    for name, place in places.items():
        group, _, member = name.partition(":")
        if member:
            groups.setdefault(group, {})[member] = place
            inputs[group] = groups[group]
        else:
            inputs[name] = place
    return inputs


def _plain(value: object, key: str, paths: dict[str, Path]) -> Any:
    """JSON values of a config; collects its paths under their dotted keys."""
    if isinstance(value, Path):
        paths[key] = value
        return str(value)
    if isinstance(value, RemoteSource):
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
