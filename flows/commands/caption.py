"""A sentence about one photo: `oscar-flow caption`."""

from pathlib import Path

from flows.captions import Said, describe
from flows.commands.detect import see_photo
from flows.commands.trained import model_of
from flows.errors import MissingModelError

TASK = "captioning"


def caption_photo(photo: Path, run: Path | None) -> Said:
    """See a photo with a run's detector and say what it shows with the run's captioning model.

    Raises:
        StorageError: The photo cannot be read.
        MissingModelError: No run was named, or it has no captioning model.
    """
    if run is None:
        raise MissingModelError("name a trained run with --run DIR, for example runs/demo")
    model = model_of(run, TASK)
    seen = see_photo(photo, run=run)
    image_id = seen.regions.image_id
    said = describe(
        model, {image_id: seen.regions}, {image_id: seen.tags}, on_batch=lambda done, total: None
    )
    return said[0]
