"""Images with captions."""

from collections.abc import Iterator, Sequence

from oscar_core.errors import TaskError
from oscar_core.task import Group, Phase
from oscar_core.tasks.captioning.records import Config, Example
from oscar_core.views import Views
from storage.library import Library


def texts(config: Config, library: Library) -> Iterator[str]:
    """Captions and tags of the training split."""
    for caption in library.captions("train", config.language):
        yield caption.text
    for image_id in library.image_ids("train"):
        yield from library.tags_of(image_id).tags


def answers(config: Config, library: Library) -> tuple[str, ...]:
    """None."""
    return ()


def examples(config: Config, library: Library, split: str) -> list[Example]:
    """One example a caption to learn from; one an image to be described.

    Raises:
        TaskError: The split has no captions in this language.
    """
    captions = library.captions(split, config.language)
    if not captions:
        raise TaskError(f"captioning: no caption of split {split!r} in {config.language!r}")
    views = Views(library, config.view)
    if split == "train":
        return [
            Example(image_id=each.image_id, caption=each.text, views=views) for each in captions
        ]
    images = dict.fromkeys(each.image_id for each in captions)
    return [Example(image_id=image_id, caption="", views=views) for image_id in images]


def phases(config: Config, examples: Sequence[Example]) -> tuple[Phase, ...]:
    """All captions alike."""
    return (Phase(name="captions", groups=(Group(indices=range(len(examples))),)),)
