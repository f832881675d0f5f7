"""Looks at everything a run needs before anything is spent: `oscar-flow run CONFIG --dry-run`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from detector.errors import DetectorError
from flows.config import Learning, RunConfig
from flows.dry_run.photos import photos_of, stored_regions
from flows.dry_run.places import free_bytes, is_writable, memory_bytes, missing, nearest_there
from flows.dry_run.records import UNKNOWN, Estimate, Findings, Problems, Texts, some
from flows.dry_run.texts import read_texts
from flows.dry_run.trainings import (
    Training,
    estimates,
    fits,
    gigabytes,
    lack_of_room,
    notes,
    num_processes,
    problems,
    rows_at_once,
    trainings,
    unmeasured,
)
from flows.file_sources import with_local_files
from flows.progress import clock
from flows.stored_regions import StoredRegions
from oscar_core.config import NUM_BOX_NUMBERS, OscarConfig
from oscar_core.errors import OscarCoreError
from oscar_core.regions import check_geometry
from storage.errors import StorageError
from storage.library import Library
from storage.records import Annotations, ImageSource
from storage.region_shards import RegionReader
from storage.sources import RemoteSource, cached_path

if TYPE_CHECKING:
    from detector.config import DetectorConfig

PUBLISHED_WIDTH = 2054
PUBLISHED_WORDS = 21128
"""Taken where neither a file nor a text tells: VinVL's features, the Chinese BERT vocabulary."""
CAPTIONS_A_SCENE, QUESTIONS_A_SCENE, WORDS_OF_SCENES = 5, 6, 120
"""About, of rendered scenes (`flows.demo.texts`)."""


Tell = Callable[[str], object]


def _ignore(line: str) -> None:
    """Nobody listens."""


def dry_run(
    config: RunConfig, out: Path, *, on_problem: Tell = _ignore, on_progress: Tell = _ignore
) -> Findings:
    """Look at paths, count texts, and, where every path is there, measure; nothing is written.

    Args:
        config: what would be done.
        out: folder of the run.
        on_problem: told every problem as soon as it is found.
        on_progress: told what is counted or measured next, which may take a minute.

    Returns:
        Problems (none: the run can start), notes, and what every long step will take.
    """
    told: list[str] = []
    config = _with_what_is_here(config, told)
    found = Problems(on_problem)
    found.extend(missing(config))
    is_all_there = not found.lines
    if not is_writable(out):
        found.append(f"{nearest_there(out)}: may not be written (--out {out})")
    on_progress("counting photos and texts")
    stored = stored_regions(config, found, told)
    photos = photos_of(config, found, told)
    network = _network(config, found)
    spoken_of = [image_id for each in stored for image_id in each.ids]
    image_ids = spoken_of or [each.image_id for each in photos]
    texts = _texts(config, image_ids, found, told)
    corpus = _corpus(config, found, told) if config.import_corpus is not None else texts
    made = list(_texts_made(config, texts, corpus))
    if config.translate_texts is not None:
        spoken = config.translate_texts.direction
        texts, corpus = (each.translated(spoken.source, spoken.target) for each in (texts, corpus))
    encoder = _encoder(config, texts, stored, network)
    library = _library(config, stored)
    all_trainings = list(_trainings(config, texts, corpus, encoder, library, found))
    if is_all_there:  # else these follow from what is missing
        has_photos = bool(image_ids) or config.render_scenes is not None or config.data.is_empty
        for training in all_trainings:
            found.extend(problems(training, config, are_counted=has_photos))
            told += notes(training)
    tell = on_progress if is_all_there else None
    numbers = [*(_taking(stored) if stored else _seeing(config, photos, network, tell)), *made]
    available = memory_bytes()
    for number, training in enumerate(all_trainings, start=1):
        if tell is not None:
            tell(f"measuring some updates: {training.step} ({number} of {len(all_trainings)})")
        for estimate in _learning(training, config, is_measured=is_all_there):
            numbers.append(estimate)
            found.append(fits(estimate, available, _processes_here(config)))
    found.append(lack_of_room(numbers, out, free_bytes(out)))
    return Findings(problems=tuple(found.lines), notes=tuple(told), estimates=tuple(numbers))


def findings_table(findings: Findings) -> Table:
    """Every long step with time, memory and disk, and their sums."""
    table = Table(box=None, pad_edge=False)
    for heading, justify in (
        ("step", "left"),
        ("amount", "left"),
        ("time", "right"),
        ("memory", "right"),
        ("disk", "right"),
    ):
        table.add_column(heading, justify=justify, no_wrap=heading != "amount")  # type: ignore[arg-type]  # of two literals
    for each in findings.estimates:
        table.add_row(
            each.step,
            each.amount,
            UNKNOWN if each.seconds is None else lasting(each.seconds),
            gigabytes(each.memory_bytes) if each.memory_bytes else "",
            gigabytes(each.disk_bytes) if each.disk_bytes else "",
        )
    known = [each.seconds for each in findings.estimates if each.seconds is not None]
    disk = sum(each.disk_bytes for each in findings.estimates)
    most = max((each.memory_bytes for each in findings.estimates), default=0)
    table.add_row(
        "all",
        "one after the other",
        lasting(sum(known)) if known else UNKNOWN,
        gigabytes(most) if most else "",
        gigabytes(disk),
    )
    return table


def sources_of(findings: Findings) -> Iterator[str]:
    """Where the numbers come from, each way once."""
    for how in dict.fromkeys(each.how for each in findings.estimates if each.how):
        steps = [each.step for each in findings.estimates if each.how == how]
        yield f"{', '.join(steps)}: {how}"


def lasting(seconds: float) -> str:
    """A time for people: minutes and seconds, then hours, then days."""
    if seconds < 6 * 3600:
        return clock(seconds)
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:,.0f} days"


def _with_what_is_here(config: RunConfig, told: list[str]) -> RunConfig:
    """The configuration with local paths for what was fetched before; asks no network."""

    def find(source: RemoteSource) -> Path | RemoteSource:
        here = cached_path(source)
        if here is None:
            told.append(
                f"{source}: is fetched when the run starts; now: oscar-flow fetch '{source}'"
            )
        return here or source

    return with_local_files(config, find)


def _taking(stored: Sequence[StoredRegions]) -> Iterator[Estimate]:
    """Regions that are there take no time, and no room on their own disk."""
    num = sum(len(each.ids) for each in stored)
    yield Estimate(step="detect", amount=f"{num:,} photos", seconds=0.0, how="regions are there")


def _texts(config: RunConfig, image_ids: Sequence[str], found: Problems, told: list[str]) -> Texts:
    if config.render_scenes is not None:
        return _rendered(config)
    reading = read_texts(image_ids, config)
    found.extend(reading.problems)
    told += reading.notes
    return reading.texts()


def _corpus(config: RunConfig, found: Problems, told: list[str]) -> Texts:
    """What a published corpus holds."""
    from flows.stages.import_corpus import count

    corpus = config.import_corpus
    if corpus is None or not (corpus.corpus.is_dir() and corpus.features.is_dir()):
        return Texts()
    try:
        table = count(corpus, corpus.corpus, corpus.features)
    except StorageError as error:
        found.append(str(error))
        return Texts()
    for row in table.rows:
        told.append(f"{row.source}: {row.num_images:,} photos, {row.num_texts:,} {row.kind}")
    for failure in table.failures:
        told.append(f"{failure.source}: {failure.num:,} set aside, {failure.explanation}")
    counted = {
        kind: {
            (row.split, row.language): sum(
                each.num_texts
                for each in table.rows
                if (each.kind, each.split, each.language) == (kind, row.split, row.language)
            )
            for row in table.rows
        }
        for kind in ("captions", "questions")
    }
    return Texts(captions=counted["captions"], questions=counted["questions"])


def _texts_made(config: RunConfig, texts: Texts, corpus: Texts) -> Iterator[Estimate]:
    """Steps that copy or translate texts; how fast a translation model is, nobody knows."""
    imported, translating = config.import_corpus, config.translate_texts
    if imported is not None:
        files = [path for path in imported.features.rglob("*") if path.is_file()]
        yield Estimate(
            step="import_corpus",
            amount=f"{sum(corpus.captions.values()) + sum(corpus.questions.values()):,} texts",
            disk_bytes=sum(path.stat().st_size for path in files),
            how="disk as large as the published features",
        )
    if translating is not None:
        source = translating.direction.source
        sentences = sum(
            num * sentences
            for said in ((texts,) if corpus is texts else (texts, corpus))
            for counts, sentences in ((said.captions, 1), (said.questions, 2))
            for (_, language), num in counts.items()
            if language == source
        )
        yield Estimate(
            step="translate_texts",
            amount=f"up to {some(sentences)} sentences",
            how="each sentence is translated once, and kept for later runs",
        )


def _rendered(config: RunConfig) -> Texts:
    """What scenes that are not drawn yet will have."""
    drawn = config.render_scenes
    if drawn is None:
        return Texts()
    languages = {str(source.get("language", "")) for source in config.data.sources}
    scenes = {"train": drawn.num_train, "val": drawn.num_val, "test": drawn.num_test}
    keys = {(split, name): num for split, num in scenes.items() for name in languages if name}
    return Texts(
        captions={key: CAPTIONS_A_SCENE * num for key, num in keys.items()},
        questions={key: QUESTIONS_A_SCENE * num for key, num in keys.items()},
        captioned=keys,
        num_boxed=sum(scenes.values()),
        vocabulary_size=WORDS_OF_SCENES,
    )


def _network(config: RunConfig, found: Problems) -> "DetectorConfig | None":
    """Shape of the run's detector; None where there is none that could be used."""
    from flows.dry_run.seeing import network_of

    try:
        return network_of(config)
    except (DetectorError, StorageError) as error:
        found.append(str(error))
        return None


def _seeing(
    config: RunConfig,
    photos: Sequence[ImageSource],
    network: "DetectorConfig | None",
    tell: Tell | None,
) -> Iterator[Estimate]:
    """What the detector takes; not measured where nobody is told."""
    from flows.dry_run.seeing import estimates, look, unmeasured

    drawn = config.render_scenes
    num = len(photos) if drawn is None else drawn.num_train + drawn.num_val + drawn.num_test
    if num == 0 and config.import_corpus is not None:
        return
    if network is None:
        yield Estimate(step="detect", amount=f"{some(num)} photos", how="no detector to measure")
    elif tell is None:
        yield from estimates(unmeasured(network), network, num, config)
    else:
        tell("measuring the detector on some photos")
        yield from estimates(look(network, photos), network, num, config)


def _learning(training: Training, config: RunConfig, *, is_measured: bool) -> Iterator[Estimate]:
    """Time, memory and disk of a training and its predictions."""
    from flows.dry_run.probe import num_parameters, probe
    from oscar_core.packing import Layout

    settings = training.settings
    if not is_measured:
        yield from unmeasured(training, num_parameters(training.task, settings, training.encoder))
        return
    found = probe(
        training.task,
        settings,
        training.encoder,
        Layout(max_text=settings.max_text, max_regions=settings.view.max_regions),
        num_rows=rows_at_once(training, config),
    )
    yield from estimates(training, found, config)


def _encoder(
    config: RunConfig,
    texts: Texts,
    stored: Sequence[StoredRegions],
    network: "DetectorConfig | None",
) -> OscarConfig:
    """Sizes of the models, as far as they can be known beforehand."""
    from flows.dry_run.seeing import feature_width

    width = PUBLISHED_WIDTH if network is None else feature_width(network) + NUM_BOX_NUMBERS
    width = stored[0].input_width if stored else width
    words = texts.vocabulary_size or PUBLISHED_WORDS
    if isinstance(config.vocabulary, Path) and config.vocabulary.is_file():
        with open(config.vocabulary, "rb") as lines:
            words = sum(1 for _ in lines)
    return config.encoder.for_input(vocabulary_size=words, region_feature_dim=width)


def _library(config: RunConfig, stored: Sequence[StoredRegions]) -> Library | None:
    """What is known of the regions of the photos before they are made; None without photos."""
    if config.data.is_empty:
        return None
    empty = Library(regions={}, tags={}, annotations=Annotations())
    if not stored:
        return replace(empty, geometry=config.detect.geometry)
    reader = RegionReader(stored[0].folder, read_all=False)
    return replace(empty, regions=reader, geometry=reader.geometry)


def _trainings(
    config: RunConfig,
    texts: Texts,
    corpus: Texts,
    encoder: OscarConfig,
    library: Library | None,
    found: Problems,
) -> Iterator[Training]:
    """Every training, with the sizes of the model that it goes on from."""

    def sized(learning: Learning) -> OscarConfig:
        is_of_corpus = learning is config.pretrain and config.import_corpus is not None
        return _sizes_of(learning, encoder, None if is_of_corpus else library, found)

    if config.pretrain is not None:
        encoder = sized(config.pretrain)
    for each in trainings(config, texts, corpus, encoder):
        yield replace(each, encoder=sized(each.learning))


def _sizes_of(
    learning: Learning, encoder: OscarConfig, library: Library | None, found: Problems
) -> OscarConfig:
    """Those of the model that a training goes on from, if it is here; else the given ones."""
    if not isinstance(learning.start, Path) or not learning.start.is_dir():
        return encoder
    from oscar_core.model_folder import read_model

    try:
        before = read_model(learning.start)
    except OscarCoreError as error:
        found.append(str(error))
        return encoder
    if library is not None:
        try:
            check_geometry(library, before.geometry or learning.geometry, str(learning.start))
        except OscarCoreError as error:
            found.append(str(error))
    if not before.has_seen_regions:
        return replace(before.encoder, region_feature_dim=encoder.region_feature_dim)
    if before.encoder.region_feature_dim != encoder.region_feature_dim:
        found.append(
            f"{learning.start}: reads regions of width {before.encoder.region_feature_dim}, the "
            f"run's have {encoder.region_feature_dim}; was it trained with another detector?"
        )
    return before.encoder


def _processes_here(config: RunConfig) -> int:
    """Trainings that share this machine's memory: of one training, or side by side."""
    nodes = config.scale.nodes
    return max(num_processes(config) // nodes, 1)
