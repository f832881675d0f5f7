"""Files of a run that are cut, changed, missing or nonsense."""

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.fault_cases import audit
from benchmarks.fault_cases.ground import Ground
from benchmarks.fault_cases.row import Fault, NotInjectedError, Row
from benchmarks.fault_cases.trial import Trial

TRAIN = "vqa_train"
DETECT = "detect"
NOTHING_LEFT = "nothing"
Damage = Callable[[Path], None]
"""Does something to a file."""


def flip(path: Path) -> None:
    """Change one bit in the middle of a file; its size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Leave the first half of a file, as a write without rename would."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path: Path) -> None:
    """Put something else into a file."""
    path.write_bytes(b'{"not": what it was')


def remove(path: Path) -> None:
    """Take a file away."""
    path.unlink()


def _damaged(path: Path, damage: Damage) -> str:
    """Damage a file; the proof that it is no longer what it was.

    Raises:
        NotInjectedError: Its bytes are the same.
    """
    before = audit.digest(path)
    damage(path)
    if path.exists() and audit.digest(path) == before:
        raise NotInjectedError(f"{path.name} is unchanged")
    after = f"SHA-256 {audit.digest(path)[:8]}" if path.exists() else "gone"
    return f"{path.name}: SHA-256 {before[:8]}, now {after}"


def _the(trial: Trial, pattern: str) -> Path:
    """The first file of a run that matches.

    Raises:
        NotInjectedError: None does.
    """
    found = sorted(path for path in trial.out.glob(pattern) if path.is_file())
    if not found:
        raise NotInjectedError(f"no file {pattern}")
    return found[0]


def _in_finished(
    ground: Ground,
    name: str,
    step: str,
    pattern: str,
    damage: Damage,
    *,
    before: str,
    mend: Callable[[Trial], str] | None = None,
) -> Iterator[Row]:
    """A file of a finished step is damaged; the same command must notice, or not need it.

    mend: what the one line of a refusal asks for
    """
    trial = ground.fresh(name, before=before)
    proof = _damaged(_the(trial, f"{step}-*/{pattern}"), damage)
    snapshot = trial.finished()
    ended = trial.run()
    happened = f"the same command: {ended}"
    if ended.status != 0 and mend is not None:
        happened += f"; {mend(trial)}, and again: {trial.run()}"
    yield trial.row(
        name,
        done=f"{damage.__name__}: {pattern} of the finished step {step}",
        proof=proof,
        happened=happened,
        before=snapshot,
        again=[step],
    )


def _in_unfinished(
    ground: Ground,
    name: str,
    step: str,
    at: int,
    pattern: str,
    damage: Damage,
    told: str = "",
) -> Iterator[Row]:
    """Everything is killed in the middle of a step, then what it left is damaged.

    With `told` the step's files may differ afterwards, if its log says why in these words.
    """
    trial = ground.fresh(name, before=step)
    trial.hold(step, at)
    started = trial.start()
    trial.reached(step, started)
    before = trial.finished()
    trial.clear()
    started.wait(timeout=30)
    path = _the(trial, f"{step}-*/{pattern}")
    proof = _damaged(path, damage)
    ended = trial.run()
    happened = f"the same command: {ended}"
    if ended.status != 0 and path.name in ended.line and "delete it" in ended.line:
        path.unlink()
        happened += f"; deleted as told, and again: {trial.run()}"
    logs = "".join(log.read_text() for log in trial.out.glob(f"logs/{step}-*.jsonl"))
    yield trial.row(
        name,
        done=f"everything killed in {step}, then {damage.__name__}: {pattern}",
        proof=proof,
        happened=f"{happened}; its log: {told}" if told and told in logs else happened,
        before=before,
        may_differ=(step,) if told and told in logs else (),
    )


def _delete_shard_and_manifest(trial: Trial) -> str:
    """What the reader of shards asks for."""
    for pattern in ("regions/regions-00001.parquet", "regions/manifest.json"):
        for path in trial.out.glob(f"{DETECT}-*/{pattern}"):
            path.unlink()
    return "shard and manifest deleted as told"


def _remove_step(trial: Trial) -> str:
    ended = trial.say("resume", str(trial.out), "--from", TRAIN, "--no-prefect")
    return f"oscar-flow resume --from {TRAIN}: exit {ended.status}"


def shard_flipped(ground: Ground) -> Iterator[Row]:
    """A bit of a finished shard of regions."""
    yield from _in_finished(
        ground,
        "shard flipped",
        DETECT,
        "regions/regions-00001.parquet",
        flip,
        before=TRAIN,
        mend=_delete_shard_and_manifest,
    )


def shard_cut(ground: Ground) -> Iterator[Row]:
    """A finished shard of regions lost its end."""
    yield from _in_finished(
        ground, "shard cut", DETECT, "regions/regions-00001.parquet", cut, before=TRAIN
    )


def shard_missing(ground: Ground) -> Iterator[Row]:
    """A finished shard of regions is gone."""
    yield from _in_finished(
        ground, "shard missing", DETECT, "regions/regions-00001.parquet", remove, before=TRAIN
    )


def manifest_missing(ground: Ground) -> Iterator[Row]:
    """The list of shards is gone."""
    yield from _in_finished(
        ground, "manifest missing", DETECT, "regions/manifest.json", remove, before=TRAIN
    )


def model_flipped(ground: Ground) -> Iterator[Row]:
    """A bit of a finished model: it loads, and says something else."""
    yield from _in_finished(
        ground,
        "model flipped",
        TRAIN,
        "model/*.safetensors",
        flip,
        before="vqa_predict",
        mend=_remove_step,
    )


def model_cut(ground: Ground) -> Iterator[Row]:
    """A finished model lost its end: it is trained again, whatever says that it was."""
    yield from _in_finished(
        ground, "model cut", TRAIN, "model/*.safetensors", cut, before="vqa_predict"
    )


def model_removed(ground: Ground) -> Iterator[Row]:
    """A finished model is gone."""
    yield from _in_finished(
        ground, "model removed", TRAIN, "model/*.safetensors", remove, before="vqa_predict"
    )


def detector_cut(ground: Ground) -> Iterator[Row]:
    """A finished detector lost its end."""
    yield from _in_finished(
        ground, "detector cut", "train_detector", "detector/*.safetensors", cut, before=DETECT
    )


def mark_cut(ground: Ground) -> Iterator[Row]:
    """A done-mark lost its end: the step is looked at again, its shards are kept."""
    yield from _in_finished(ground, "done-mark cut", DETECT, "DONE.json", cut, before=TRAIN)


def mark_missing(ground: Ground) -> Iterator[Row]:
    """A done-mark is gone."""
    yield from _in_finished(
        ground, "done-mark missing", "vqa_predict", "DONE.json", remove, before="vqa_score"
    )


def unfinished_shard_flipped(ground: Ground) -> Iterator[Row]:
    """A whole shard of an extraction that was interrupted."""
    yield from _in_unfinished(
        ground, "unfinished: shard flipped", DETECT, 3, "regions/regions-00000.parquet", flip
    )


def checkpoint_cut(ground: Ground) -> Iterator[Row]:
    """The newest checkpoint lost its end."""
    yield from _in_unfinished(ground, "checkpoint cut", TRAIN, 4, "checkpoints/checkpoint-*", cut)


def checkpoint_flipped(ground: Ground) -> Iterator[Row]:
    """A bit of the newest checkpoint: a weight is another one, and nothing else shows it."""
    yield from _in_unfinished(
        ground, "checkpoint flipped", TRAIN, 4, "checkpoints/checkpoint-*", flip
    )


def detector_checkpoint_cut(ground: Ground) -> Iterator[Row]:
    """The detector's newest checkpoint lost its end."""
    yield from _in_unfinished(
        ground, "detector checkpoint cut", "train_detector", 4, "**/checkpoint*", cut
    )


def detector_checkpoint_flipped(ground: Ground) -> Iterator[Row]:
    """A bit of the detector's newest checkpoint."""
    yield from _in_unfinished(
        ground, "detector checkpoint flipped", "train_detector", 4, "**/checkpoint*", flip
    )


def losses_cut(ground: Ground) -> Iterator[Row]:
    """The history of losses lost its end while the checkpoint is whole."""
    yield from _in_unfinished(
        ground,
        "loss history cut",
        TRAIN,
        4,
        "losses.jsonl",
        cut,
        told="the losses of",  # what was cut off is gone, and the step says so
    )


def leftovers(ground: Ground) -> Iterator[Row]:
    """Half-written files of another time lie about in a step's folder."""
    name = "leftovers of writes"
    trial = ground.fresh(name, before=TRAIN)
    trial.hold(TRAIN, 1)
    started = trial.start()
    trial.reached(TRAIN, started)
    trial.clear()
    started.wait(timeout=30)
    (folder,) = trial.out.glob(f"{TRAIN}-*")
    before = trial.finished()
    made = [folder / ".model.safetensors.1-1.partial", folder / ".DONE.json.2-2.partial"]
    for path in made:
        path.write_bytes(b"half")
    yield trial.row(
        name,
        done="everything killed, and half-written files with hidden names added",
        proof=f"{len(list(folder.rglob('.*.partial')))} files",
        happened=f"the same command: {trial.run()}",
        before=before,
    )


def state_scribbled(ground: Ground) -> Iterator[Row]:
    """Everything that only remembers (states, digests, attempts, locks) is nonsense."""
    name = "state files scribbled"
    trial = ground.fresh(name, before=NOTHING_LEFT)
    ended = trial.run()
    before = trial.finished()
    paths = [
        path
        for folder in ("state", "attempts", "logs", "history")
        for path in trial.out.glob(f"{folder}/**/*")
        if path.is_file()
    ]
    for path in paths:
        scribble(path)
    yield trial.row(
        name,
        done=f"nonsense in {len(paths)} files of state/, attempts/, logs/ and history/",
        proof=", ".join(path.name for path in paths)[:160] if ended.status == 0 else "",
        happened=f"the same command: {trial.run()}",
        before=before,
    )


def top_files_lost(ground: Ground) -> Iterator[Row]:
    """What stands at the top of the run folder is gone; it is all made from below."""
    name = "files at the top lost"
    trial = ground.fresh(name, before=NOTHING_LEFT)
    trial.run()
    before = trial.finished()
    names = ("metrics.json", "report.html", "steps.json", "config.yaml")
    for each in names:
        (trial.out / each).unlink()
    yield trial.row(
        name,
        done=f"{', '.join(names)} removed",
        proof="they were there and are gone",
        happened=f"the same command: {trial.run()}",
        before=before,
    )


FAULTS = (
    Fault(name="shard flipped", inject=shard_flipped),
    Fault(name="shard cut", inject=shard_cut),
    Fault(name="shard missing", inject=shard_missing),
    Fault(name="manifest missing", inject=manifest_missing),
    Fault(name="model flipped", inject=model_flipped),
    Fault(name="model cut", inject=model_cut),
    Fault(name="model removed", inject=model_removed),
    Fault(name="detector cut", inject=detector_cut),
    Fault(name="done-mark cut", inject=mark_cut),
    Fault(name="done-mark missing", inject=mark_missing, is_short=True),
    Fault(name="unfinished: shard flipped", inject=unfinished_shard_flipped),
    Fault(name="checkpoint cut", inject=checkpoint_cut, is_short=True),
    Fault(name="checkpoint flipped", inject=checkpoint_flipped),
    Fault(name="detector checkpoint cut", inject=detector_checkpoint_cut),
    Fault(name="detector checkpoint flipped", inject=detector_checkpoint_flipped),
    Fault(name="loss history cut", inject=losses_cut),
    Fault(name="leftovers of writes", inject=leftovers),
    Fault(name="state files scribbled", inject=state_scribbled),
    Fault(name="files at the top lost", inject=top_files_lost),
)
