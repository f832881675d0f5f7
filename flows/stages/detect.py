"""Stage: photos -> regions in shards; photos that cannot be read are set aside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from detector.config import RegionRules, RulesName, rules_of
from flows.child_scale import current_scale
from flows.photos import read_photos
from flows.progress import SILENT, Progress
from flows.ranks import is_writer, local_rank, rank, world
from flows.team import team
from storage.earlier_regions import open_earlier
from storage.errors import StorageError
from storage.manifest import MANIFEST_NAME
from storage.places import Place
from storage.quarantine import QUARANTINE_NAME, write_quarantine
from storage.region_shards import RegionShard
from storage.region_slices import ShardReport, bring_home, finish_slices

if TYPE_CHECKING:
    from detector.extractor import Extractor
    from detector.slices import Slices

VERSION = 3
USES_DEVICE = True
SHRINKABLE = ("batch_size",)
SPREADS = {"torchrun": "", "ray": "flows.orchestration.ray_detect"}
REUSES = "earlier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings; YAML section `detect`.

    batch_size: most photos of one size that a GPU computes together; on a CPU, where each is
                computed by itself, most at once
    rules:      which regions are kept: the name of published rules (`vinvl_released`,
                `vinvl_readme`), or rules; None takes the model's
    pad_batches: with "fast", a GPU computes photos of almost one size together, too; docs/fast.md
                tells what it changes
    precision:  "exact": float32, the regions of the original program; "fast": what the machine
                computes fastest
    geometry:   order in which the six box numbers of a region end for the models that read it:
                "width_first" w/W, h/H, as Oscar's authors wrote, or "height_first". Shards tell it,
                and models of the other order refuse them
    """

    batch_size: int = 8
    pad_batches: bool = False
    rules: RulesName | RegionRules | None = None
    precision: Literal["exact", "fast"] = "exact"
    dtype: Literal["float16", "float32"] = "float16"
    geometry: Literal["width_first", "height_first"] = "width_first"
    rows_per_shard: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """earlier: folder of another extraction of this step; photos of the same bytes stay seen."""

    images: Path
    detector: Path
    photos: Mapping[str, Path] = field(default_factory=dict)
    earlier: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    regions: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_in: int
    num_out: int
    num_quarantined: int
    num_regions: int
    num_reused: int
    num_computed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An extraction made ready.

    home: the folder where all shards end up
    desk: where workers put them: home, or a place that all machines reach
    """

    slices: "Slices"
    extractor: "Extractor"
    home: Place
    desk: Place

    @property
    def num_photos(self) -> int:
        """In all slices."""
        return self.slices.num_photos


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """See every photo once, alone or with the other processes of torchrun; whole shards stay.

    Raises:
        StorageError: A shard was made elsewhere and does not arrive here.
    """
    from detector.extract import extract_shards

    scale = current_scale()
    work = made_ready(config, inputs, outputs, scale.shared if world() > 1 else "")
    fellows = team()

    def tell(more: int = 0) -> None:
        progress.at(fellows.count(more), work.num_photos, unit="photos")

    if is_writer():
        work.home.remove(MANIFEST_NAME)
    reports = []
    claimed = (work.slices[number] for number in fellows.claims(len(work.slices)))
    for report in extract_shards(claimed, work.desk, work.extractor, tell):
        reports.append(report)
        fellows.hand_in(report.as_json())
    if is_writer():
        lines = fellows.collect(len(work.slices), tell)
        reports = [arrived(work, ShardReport.from_json(line)) for line in lines]
        tell()
        finish(work, reports)
        fellows.wait_for_writers(scale.nodes)
    if rank() == 0:
        clear(work)
    return summary_of(reports)


def made_ready(config: Config, inputs: Inputs, outputs: Outputs, shared: str = "") -> Work:
    """Read the list, the detector and what was extracted earlier.

    Args:
        config: Of the stage.
        inputs: Of the stage.
        outputs: Of the stage.
        shared: URL under which workers hand over shards; "" where they write them in place.
    """
    import torch

    from detector.checkpoints import read_detector
    from detector.extractor import extractor_of
    from detector.loaded import check_named
    from detector.slices import Slices

    sources = read_photos(inputs.images, inputs.photos)
    detector = read_detector(inputs.detector)
    check_named(detector, str(inputs.detector))
    has_gpu = torch.cuda.is_available()
    extractor = extractor_of(
        detector,
        rules=None if config.rules is None else rules_of(config.rules),
        dtype=config.dtype,
        geometry=config.geometry,
        precision=config.precision,
        workers=torch.get_num_threads(),
        batch_size=config.batch_size,
        pad_batches=config.pad_batches,
        device=f"cuda:{local_rank() % torch.cuda.device_count()}" if has_gpu else "cpu",
    )
    if inputs.earlier is not None:
        known = open_earlier(inputs.earlier / outputs.regions.name, extractor.settings)
        extractor = replace(extractor, earlier=known)
    home = Place(outputs.regions)
    return Work(
        slices=Slices(sources, config.rows_per_shard),
        extractor=extractor,
        home=home,
        desk=Place(f"{shared.rstrip('/')}/{outputs.regions.parent.name}") if shared else home,
    )


def arrived(work: Work, report: ShardReport) -> ShardReport:
    """Fetch a worker's shard, unless it was written in place.

    Raises:
        StorageError: It is not here, arrives damaged, or was computed otherwise than here.
    """
    if work.desk is not work.home:
        bring_home(work.desk, work.home, report)
    elif report.entry.file not in work.home:
        raise StorageError(
            f"{work.home.describe(report.entry.file)}: made on another machine and not seen here; "
            "set scale.shared to a URL that all machines reach"
        )
    told = RegionShard(work.home, report.entry.file).settings
    wanted = work.extractor.settings.as_stamps()
    if told != wanted:
        raise StorageError(
            f"{work.home.describe(report.entry.file)}: made by engine {told.get('engine')!r}, "
            f"here it is {wanted.get('engine')!r}; set detect.precision to exact, or use machines "
            "that compute alike"
        )
    return report


def finish(work: Work, reports: Sequence[ShardReport]) -> None:
    """Complete the folder: what was set aside, then the manifest.

    Raises:
        StorageError: Every photo was set aside; the folder stays incomplete.
        OSError: Disk full, no permission, ...; likewise.
    """
    assert work.home.folder is not None
    in_order = sorted(reports, key=lambda report: report.number)
    dropped = [entry for report in in_order for entry in report.quarantined]
    aside = work.home.folder.parent / QUARANTINE_NAME
    write_quarantine(aside, dropped)
    if dropped and not any(report.entry.rows for report in in_order):
        raise StorageError(
            f"no photo could be used: {dropped[0].detail}; {len(dropped)} set aside, see {aside}"
        )
    finish_slices(work.home, work.extractor.settings, in_order)


def clear(work: Work) -> None:
    """Remove what workers handed over; it has arrived."""
    if work.desk is not work.home:
        for name in work.desk.names():
            work.desk.remove(name)


def summary_of(reports: Sequence[ShardReport]) -> Summary:
    """The counts of all shards."""
    num_out = sum(report.entry.rows for report in reports)
    num_quarantined = sum(len(report.quarantined) for report in reports)
    num_reused = sum(report.num_reused for report in reports)
    return Summary(
        num_in=num_out + num_quarantined,
        num_out=num_out,
        num_quarantined=num_quarantined,
        num_regions=sum(report.num_regions for report in reports),
        num_reused=num_reused,
        num_computed=num_out - num_reused,
    )
