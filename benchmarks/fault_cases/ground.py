"""The ground on which faults are tried: undisturbed runs to compare with, and runs to disturb.

A small run of the demo's configuration: every stage, one task, about half a minute. A run to be
disturbed starts from a copy of an undisturbed one, from which a step and all behind it were taken.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

from benchmarks.fault_cases.audit import metrics_of
from benchmarks.fault_cases.trial import Trial, Undisturbed

SIZES = """
base: demo.yaml
detect: {rows_per_shard: 4, batch_size: 4}
train_detector:
  training:
    num_steps: 12
    images_per_step: 4
    checkpoint_every: 4
    crop_warmup: {num_steps: 40}
encoder: {hidden_size: 32, num_layers: 1, num_heads: 2, intermediate_size: 64}
pretrain: null
report: {title: faults, num_gallery: 2, num_examples: 1}
resources: {parallel: 1, retry_seconds: 0.2}
"""
DRAWN = "render_scenes: {num_train: 16, num_val: 2, num_test: 6}\n"
FROM_OUTSIDE = "render_scenes: null\ndata: {root: scenes}\n"
LEARNING = "{steps: 60, batch_size: 8, checkpoint_every: 10, warmup: 5, learning_rate: 0.01}"
VQA = f"vqa: {{training: {LEARNING}, settings: {{min_questions: 1}}}}"  # many answers
QUESTIONS = f"tasks: {{captioning: null, retrieval: null, {VQA}}}\n"
CAPTIONS = f"tasks: {{retrieval: null, vqa: null, captioning: {{training: {LEARNING}}}}}\n"
KINDS: Mapping[str, str] = {
    "rendered": SIZES + DRAWN + QUESTIONS,
    # the same photos as a user's own folder, beside a few that no annotation names
    "own": SIZES + FROM_OUTSIDE + QUESTIONS,
    # scored by Java
    "captioning": SIZES + DRAWN + CAPTIONS,
}
UNDISTURBED = "undisturbed"
NUM_UNNAMED = 4
HALF_WAY: Mapping[str, int] = {"train_detector": 3, "detect": 2, "vqa_train": 3}
"""At which of its files a step is in the middle of its work; 1 where it is not listed."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A folder with undisturbed runs, made when first asked for, and a folder for each fault."""

    folder: Path
    is_kept: bool = False
    _known: dict[str, Undisturbed] = field(default_factory=dict)
    _trials: list[Trial] = field(default_factory=list)

    def undisturbed(self, *settings: str, kind: str = "rendered") -> Undisturbed:
        """The run to compare with.

        Args:
            settings: `--set` values in which it differs from the usual.
            kind: which of `KINDS`.
        """
        key = " ".join([kind, *settings])
        if key not in self._known:
            self._known[key] = self._run_undisturbed(settings, kind)
        return self._known[key]

    def fresh(self, name: str, *, kind: str = "rendered", before: str = "") -> Trial:
        """A run to disturb.

        Args:
            name: of its folder.
            kind: as for `undisturbed`.
            before: the step in which something will happen; everything before it is done. ""
                for nothing done, "nothing" is no step: then everything is.
        """
        usual = None if name.startswith(UNDISTURBED) else self.undisturbed(kind=kind)
        folder = self.place(name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        trial = Trial(folder=folder, config=self._config(folder, kind))
        if usual is None:
            return trial
        trial.undisturbed = usual
        if before:
            self._copy_done(usual, trial.out, before)
        self._trials.append(trial)
        return trial

    def clear(self) -> None:
        """After a fault: end what its runs left alive, and remove them unless they are kept."""
        for trial in self._trials:
            trial.clear()
            if not self.is_kept:
                shutil.rmtree(trial.folder, ignore_errors=True)
        self._trials.clear()

    def _config(self, folder: Path, kind: str) -> Path:
        path = folder / "run.yaml"
        path.write_text(KINDS[kind])
        if kind == "own":
            (drawn,) = self.undisturbed().out.glob("render_scenes-*/scenes")
            shutil.copytree(drawn, folder / "scenes")
            for number, photo in enumerate(sorted(drawn.glob("images/train/*.jpg"))[:NUM_UNNAMED]):
                shutil.copyfile(photo, unnamed_photo(folder, number))
        return path

    def _run_undisturbed(self, settings: tuple[str, ...], kind: str) -> Undisturbed:
        name = " ".join([UNDISTURBED, kind, *settings])
        out = self.place(name) / "run"
        if not (self.is_kept and (out / "metrics.json").is_file()):
            trial = self.fresh(name, kind=kind)
            trial.settings += settings
            ended = trial.run()
            if ended.status != 0:
                raise RuntimeError(f"the undisturbed run failed: {ended.line}; {trial.folder}")
        steps = tuple(json.loads((out / "steps.json").read_text()))
        return Undisturbed(out=out, metrics=metrics_of(out), steps=steps)

    def place(self, name: str) -> Path:
        """Folder of a run."""
        return self.folder / "".join(each if each.isalnum() else "-" for each in name)

    @staticmethod
    def _copy_done(run: Undisturbed, out: Path, before: str) -> None:
        folders = json.loads((run.out / "steps.json").read_text())
        for step, name in folders.items():
            if step == before:
                break
            shutil.copytree(run.out / name, out / name)
        (out / "state").mkdir(exist_ok=True)
        for known in run.out.glob("state/outside*"):  # digests, so that nothing is read again
            copy = shutil.copytree if known.is_dir() else shutil.copyfile
            copy(known, out / "state" / known.name)


def unnamed_photo(folder: Path, number: int) -> Path:
    """A photo that no annotation speaks of, so that no metric depends on it."""
    return folder / "scenes" / "images" / "train" / f"unnamed-{number}.jpg"


def held(
    ground: Ground,
    name: str,
    step: str,
    *settings: str,
    kind: str = "rendered",
    without_root: bool = False,
) -> tuple[Trial, "Popen[bytes]", int, dict[str, int]]:
    """A run that stands in the middle of a step, with everything before it done.

    Returns:
        The run, its process, the process of the step, and what was finished until then.

    Raises:
        NotInjectedError: It did not come so far.
    """
    trial = ground.fresh(name, kind=kind, before=step)
    trial.settings += settings
    if without_root:
        trial.drop_root()
    trial.hold(step, HALF_WAY.get(step, 1))
    started = trial.start()
    child = trial.reached(step, started)
    return trial, started, child, trial.finished()
