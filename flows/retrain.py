"""From new data to a promoted model: look, decide, run, register, judge. Without Prefect.

Whether data is new is decided against the data that was looked at before the last judgement, on
disk; so an event that comes twice, or a run that is repeated, does nothing twice. A photo that
comes while a run is on its way is new to the next look, and found learned from already.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flows.config import RunConfig, as_yaml
from flows.dataset import DatasetDifference, DatasetDigest, difference, digest_of, read_digest
from flows.digests import listings_of
from flows.gate import Verdict, judge
from flows.models import Registry, Version
from flows.register import DETECTOR_STEP, register_run
from flows.run_folder import RunFolder, holder_of

NOTHING_NEW, PROMOTED, KEPT = "no new data", "promoted", "kept"

Run = Callable[[RunConfig, Path], Mapping[str, str]]
"""Brings a run to its end; step -> name of its folder."""
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCheck:
    """The data of a run against that of the last judgement.

    since:  the version judged; "" where there is none, which counts as new data
    digest: of the data as it lies now
    """

    since: str
    digest: DatasetDigest
    difference: DatasetDifference

    @property
    def has_news(self) -> bool:
        """Whether there is anything to learn."""
        return not self.since or not self.difference.is_empty

    def __str__(self) -> str:
        """In one line."""
        if not self.since:
            return f"no version yet, {self.difference.added} photos"
        return f"{self.difference} since version {self.since}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a retraining came to.

    state:   "no new data", "promoted" or "kept" (the candidate is worse, the current one stays)
    version: the candidate; None where nothing was run
    current: name of the version in use afterwards; "" for none
    """

    state: str
    check: DataCheck
    verdict: Verdict = field(default_factory=Verdict)
    version: Version | None = None
    before: str = ""
    current: str = ""
    removed: tuple[str, ...] = ()

    def __str__(self) -> str:
        """In one line."""
        if self.version is None:
            return str(self.check)
        if self.state == PROMOTED:
            return f"version {self.version.name} promoted: {self.verdict.reason}"
        stays = f"version {self.current} stays" if self.current else "no version is current"
        return f"version {self.version.name} kept aside, {stays}: {self.verdict.reason}"


def check_data(config: RunConfig, out: Path) -> DataCheck:
    """Look whether the data of a run is another than what was learned from; reads file times.

    Args:
        config: the run as the user gave it.
        out: folder of the run.

    Raises:
        FlowError, StorageError: The data cannot be found.
    """
    run = RunFolder(out)
    (out / "state").mkdir(parents=True, exist_ok=True)  # so that digests are kept
    judged = Registry(run).judged()
    now = digest_of(config, run)
    before = None if judged is None else _digest_in(judged.data, run)
    return DataCheck(
        since="" if judged is None else judged.version,
        digest=now,
        difference=difference(before, now),
    )


def retrain(
    config: RunConfig, out: Path, *, run: Run, tell: Tell = lambda line: None, force: bool = False
) -> Outcome:
    """Learn from new data, if there is any, and let the gate decide about what comes out.

    Args:
        config: the run as the user gave it.
        out: folder of the run; what it has extracted already is not extracted again.
        run: how a configuration is run.
        tell: told what happens, a line at a time.
        force: run though the data was learned from already.

    Raises:
        MissingModelError: The current version is not whole: nothing to measure by, nothing runs.
        FlowError, StorageError: One line for the user; the current version stays as it is.
    """
    registry = Registry(RunFolder(out))
    registry.in_use()
    check = check_data(config, out)
    tell(str(check))
    before = registry.current_name()
    if not check.has_news and not force:
        return Outcome(state=NOTHING_NEW, check=check, before=before, current=before)
    chosen = retraining_config(config, registry)
    folders = run(chosen, out)
    learned = read_digest(registry.run) or check.digest
    candidate = register_run(
        registry, config=as_yaml(chosen), folders=folders, data=learned.as_json()
    )
    tell(f"registered as version {candidate.name}")
    outcome = replace(_decided(config, registry, candidate, check), before=before)
    registry.settle(candidate.name, check.digest.as_json())
    removed = registry.prune(config.retrain.keep, needed=as_yaml(chosen))
    tell(str(outcome))
    return replace(outcome, current=registry.current_name(), removed=tuple(removed))


def retraining_config(config: RunConfig, registry: Registry) -> RunConfig:
    """The configuration of a retraining: what it takes from the current version.

    A detector that the user names himself stays; without a version it is the configuration.

    Raises:
        MissingModelError: The current version is not whole.
    """
    current = registry.in_use()
    if current is None:
        return config
    place = current.folder.absolute()
    detector = place / DETECTOR_STEP
    if config.retrain.keep_detector and config.detector_weights is None and detector.is_dir():
        config = replace(config, detector_weights=detector)
    if config.retrain.start == "last" and config.warm_start is None:
        config = replace(config, warm_start=place)
    return config


def is_busy(out: Path) -> bool:
    """Whether a living process writes this run folder now."""
    return bool(holder_of(RunFolder(out)))


def _decided(
    config: RunConfig, registry: Registry, candidate: Version, check: DataCheck
) -> Outcome:
    """Judge a candidate; the current version is the measure.

    Raises:
        MissingModelError: It is not whole; the candidate waits for a sound measure.
    """
    current = registry.in_use()
    metrics = None if current is None else current.lineage.metrics
    verdict = judge(config.retrain.gate, candidate.lineage.metrics, metrics)
    outcome = Outcome(state=KEPT, check=check, verdict=verdict, version=candidate)
    if verdict.passes:
        registry.promote(candidate.name, why=verdict.reason, gate=verdict.rows())
        return replace(outcome, state=PROMOTED, current=candidate.name)
    registry.keep(candidate.name, why=verdict.reason, gate=verdict.rows())
    return replace(outcome, current=registry.current_name())


def _digest_in(data: Mapping[str, Any], run: RunFolder) -> DatasetDigest:
    return DatasetDigest(
        photos=dict(data.get("photos", {})),
        annotations=dict(data.get("annotations", {})),
        others=dict(data.get("others", {})),
        shelf=listings_of(run.digests),
    )
