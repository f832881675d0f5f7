"""The ground on which faults are tried: undisturbed runs to compare with, and runs to disturb.

A small run of the demo's configuration: every stage, one task, about half a minute. A run to be
disturbed starts from a copy of an undisturbed one, from which a step and all behind it were taken.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.fault_cases.audit import metrics_of
from benchmarks.fault_cases.trial import Trial

RENDERED = """
base: demo.yaml
render_scenes: {num_train: 16, num_val: 2, num_test: 6}
detect: {rows_per_shard: 4, batch_size: 4}
train_detector:
  training:
    num_steps: 12
    images_per_step: 4
    checkpoint_every: 4
    crop_warmup: {num_steps: 40}
encoder: {hidden_size: 32, num_layers: 1, num_heads: 2, intermediate_size: 64}
pretrain: null
tasks:
  captioning:
    training: {steps: 60, batch_size: 8, checkpoint_every: 10, warmup: 5, learning_rate: 0.01}
    settings: {max_length: 24, num_beams: 1}
  retrieval: null
  vqa: null
report: {title: faults, num_gallery: 2, num_examples: 1}
resources: {parallel: 1, retry_seconds: 0.2}
"""
OWN = RENDERED.replace(
    "render_scenes: {num_train: 16, num_val: 2, num_test: 6}", "render_scenes: null\ndata: {root: scenes}"
)
"""The same photos as a user's own folder, beside a few that no annotation names."""
NUM_UNNAMED = 4
HALF_WAY: Mapping[str, int] = {"train_detector": 3, "detect": 2, "captioning_train": 3}
"""At which of its files a step is in the middle of its work; 1 where it is not listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """A run that nothing happened to.

    seconds: it took
    """

    out: Path
    metrics: Mapping[str, Any]
    steps: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Ground:
    """A folder with undisturbed runs, made when first asked for, and a folder for each fault."""

    folder: Path
    is_kept: bool = False
    _known: dict[str, Undisturbed] = field(default_factory=dict)
    _trials: list[Trial] = field(default_factory=list)

    def undisturbed(self, *settings: str, own: bool = False) -> Undisturbed:
        """The run to compare with.

        Args:
            settings: `--set` values in which it differs from the usual.
            own: of photos from outside instead of rendered ones.
        """
        key = " ".join(["own" if own else "rendered", *settings])
        if key not in self._known:
            self._known[key] = self._run_undisturbed(f"undisturbed-{len(self._known)}", settings, own)
        return self._known[key]

    def fresh(self, name: str, *, own: bool = False, before: str = "") -> Trial:
        """A run to disturb.

        Args:
            name: of its folder.
            own: as for `undisturbed`.
            before: the step in which something will happen; everything before it is done. ""
                for nothing done, "nothing" is no step: then everything is.
        """
        folder = self.folder / name.replace(" ", "-").replace(":", "")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        trial = Trial(folder=folder, config=self._config(folder, own))
        if before:
            self._copy_done(self.undisturbed(own=own), trial.out, before)
        self._trials.append(trial)
        return trial

    def clear(self) -> None:
        """After a fault: end what its runs left alive, and remove them unless they are kept."""
        for trial in self._trials:
            trial.clear()
            if not self.is_kept:
                shutil.rmtree(trial.folder, ignore_errors=True)
        self._trials.clear()

    def _config(self, folder: Path, own: bool) -> Path:
        path = folder / "run.yaml"
        path.write_text(OWN if own else RENDERED)
        if own:
            (drawn,) = self.undisturbed().out.glob("render_scenes-*/scenes")
            shutil.copytree(drawn, folder / "scenes")
            for number, photo in enumerate(sorted(drawn.glob("images/train/*.jpg"))[:NUM_UNNAMED]):
                shutil.copyfile(photo, unnamed_photo(folder, number))
        return path

    def _run_undisturbed(self, name: str, settings: tuple[str, ...], own: bool) -> Undisturbed:
        trial = self.fresh(name, own=own)
        self._trials.remove(trial)  # it stays
        ended = trial.run(*[word for each in settings for word in ("--set", each)])
        if ended.status != 0:
            raise RuntimeError(f"the undisturbed run failed: {ended.line}; {trial.folder}")
        steps = tuple(json.loads((trial.out / "steps.json").read_text()))
        return Undisturbed(
            out=trial.out, metrics=metrics_of(trial.out), steps=steps, seconds=ended.seconds
        )

    @staticmethod
    def _copy_done(run: Undisturbed, out: Path, before: str) -> None:
        folders = json.loads((run.out / "steps.json").read_text())
        for step, name in folders.items():
            if step == before:
                break
            shutil.copytree(run.out / name, out / name)
        digests = run.out / "state"
        (out / "state").mkdir(exist_ok=True)
        for book in digests.glob("outside*"):
            shutil.copyfile(book, out / "state" / book.name)


def unnamed_photo(folder: Path, number: int) -> Path:
    """A photo that no annotation speaks of, so that no metric depends on it."""
    return folder / "scenes" / "images" / "train" / f"unnamed-{number}.jpg"
