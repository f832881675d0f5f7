"""One's own photos to features, tags and captions: `oscar-flow describe`.

Three commands from nothing: make a model, describe the photos, look at what came out.

    make demo
    .venv/bin/oscar-flow describe PHOTOS --run runs/demo --out runs/mine
    .venv/bin/oscar-flow shard runs/mine/regions

The photos need no annotations and no names of a certain kind. A model only knows what it was
trained on: the demo's has seen rendered scenes, `real_photos.yaml` a few hundred photos.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from flows.commands.run import Finished, run_prepared
from flows.commands.trained import config_of, detector_of, model_of
from flows.config import RunConfig
from flows.data import Data, PhotoCollection
from flows.photo_places import Placed, is_url, placed_collections
from flows.plan import Plan, Step
from flows.stages import list_images, write_captions
from storage.artifacts import atomic_write_text
from storage.errors import MissingFileError

CAPTIONING = "captioning"
REGIONS, TAGS, CAPTIONS = "regions", "tags", "captions.jsonl"
"""Names at the top of the folder: links to what the steps made, and the captions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What was made of a folder of photos.

    captions:        photo -> sentence
    num_quarantined: photos that could not be read; their list lies with each step
    """

    out: Path
    captions: Mapping[str, str]
    num_quarantined: int
    has_news: bool


def describe_folder(
    photos: Path | str,
    *,
    run: Path,
    out: Path,
    with_prefect: bool,
    stream: IO[str],
    below: Path | None = None,
) -> Described:
    """Detect, translate and caption every photo of a collection with a trained run's models.

    Args:
        photos: a folder, photos below it count, too; or what else `data.images` may name: a tar,
            a Parquet file, a TSV, a list, the URL of one.
        run: a finished run.
        out: where the results go, laid out like a run.
        with_prefect: as in `flows.commands.run.run`.
        stream: where progress is told.
        below: folder of the photos that a list names; None where they lie beside it.

    Raises:
        MissingFileError: There is no such place.
        StorageError: It holds no photos that could be read.
        MissingModelError: The run has no detector or no captioning model.
    """
    data = data_of(str(photos), below)
    (placed,) = placed_collections(data, lambda path, key: data.root / path)
    trained = config_of(run)
    plan = _plan(trained, placed, detector=detector_of(run), model=model_of(run, CAPTIONING))
    config = replace(
        trained,
        data=data,
        render_scenes=None,
        detector_weights=detector_of(run).absolute(),
        train_detector=None,
        score_detector=None,
        pretrain=None,
        tasks={},
    )
    finished = run_prepared(plan, config, out, with_prefect=with_prefect, stream=stream)
    return _described(finished, out)


def data_of(photos: str, below: Path | None = None) -> Data:
    """One collection, at its place.

    Args:
        photos: as `describe_folder` takes them.
        below: folder of the photos, where `photos` is a list of them.

    Raises:
        MissingFileError: Nothing is there.
    """
    if is_url(photos):
        return Data(images=(PhotoCollection(path=photos),))
    place = Path(photos).absolute()
    for each in (Path(photos), *((below,) if below is not None else ())):
        if not each.exists():
            raise MissingFileError(f"{each}: no such file or folder")
    if below is not None:
        return Data(root=below.absolute(), images=(PhotoCollection(path=".", list=str(place)),))
    if place.is_dir():
        return Data(root=place, images=(PhotoCollection(path="."),))
    return Data(root=place.parent, images=(PhotoCollection(path=place.name),))


def _plan(trained: RunConfig, placed: Placed, *, detector: Path, model: Path) -> Plan:
    folder = {} if placed.place is None else {"photos:0": placed.place}
    listing = {} if placed.listing is None else {"listings:0": placed.listing}
    seen = {"regions": "detect.regions"}
    return Plan(
        (
            Step(
                name="list_images",
                stage="list_images",
                config=list_images.Config(collections={"0": placed.reading}),
                inputs={**folder, **listing},
            ),
            Step(
                name="detect",
                stage="detect",
                config=trained.detect,
                inputs={"images": "list_images.images", "detector": detector, **folder},
            ),
            Step(
                name="translate_tags",
                stage="translate_tags",
                config=trained.translate_tags,
                inputs=seen,
            ),
            Step(
                name="write_captions",
                stage="write_captions",
                config=write_captions.Config(),
                inputs={"model": model, "tags": "translate_tags.tags", **seen},
            ),
        )
    )


def _described(finished: Finished, out: Path) -> Described:
    folders = {name: out / folder for name, folder in finished.folders.items()}
    _link(out / REGIONS, folders["detect"] / REGIONS)
    _link(out / TAGS, folders["translate_tags"] / TAGS)
    made = (folders["write_captions"] / CAPTIONS).read_text(encoding="utf-8")
    if not (out / CAPTIONS).is_file() or (out / CAPTIONS).read_text(encoding="utf-8") != made:
        atomic_write_text(out / CAPTIONS, made)
    rows = [json.loads(line) for line in made.split("\n") if line]
    dropped = (result.summary.get("num_quarantined", 0) for result in finished.results.values())
    return Described(
        out=out,
        captions={row["image_id"]: row["caption"] for row in rows},
        num_quarantined=sum(int(number) for number in dropped),
        has_news=finished.has_news,
    )


def _link(link: Path, target: Path) -> None:
    """Point a name at what a step made; an older link is replaced."""
    place = os.path.relpath(target, link.parent)
    if link.is_symlink() and os.readlink(link) == place:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(place)
