"""Captions and the images they are told from."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from oscar_core.errors import TaskError
from oscar_core.task import Group, Phase
from oscar_core.tasks.retrieval.records import Config, Example, Pool
from oscar_core.tokens import words
from oscar_core.views import Views
from storage.library import Library
from storage.records import CaptionAnnotation


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
    """One example a caption: of all images to learn from, of the candidates to be ranked.

    Raises:
        TaskError: Fewer than two images with captions.
    """
    told = told_captions(config, library, split)
    if len(told) < 2:
        raise TaskError(
            f"retrieval: {len(told)} images of split {split!r} have captions in "
            f"{config.language!r}; need at least 2"
        )
    pool = Pool(
        image_ids=tuple(told),
        captions=tuple(tuple(each.text for each in captions) for captions in told.values()),
        words=tuple(
            frozenset(word for each in captions for word in words(each.text))
            for captions in told.values()
        ),
        views=Views(library, config.view),
    )
    return [
        Example(caption_id=each.caption_id, text=each.text, number=number, pool=pool)
        for number, captions in enumerate(told.values())
        for each in captions
    ]


def phases(config: Config, examples: Sequence[Example]) -> tuple[Phase, ...]:
    """All captions alike."""
    return (Phase(name="captions", groups=(Group(indices=range(len(examples))),)),)


def candidate_ids(config: Config, library: Library, split: str) -> list[str]:
    """The images that captions are ranked against, in the order of the scores."""
    return list(told_captions(config, library, split))


def told_captions(
    config: Config, library: Library, split: str
) -> dict[str, list[CaptionAnnotation]]:
    """Captions by image, images in the order of their ids; cut unless to learn from."""
    by_image: defaultdict[str, list[CaptionAnnotation]] = defaultdict(list)
    for caption in library.captions(split, config.language):
        by_image[caption.image_id].append(caption)
    names = sorted(by_image)
    if split == "train":
        return {name: by_image[name] for name in names}
    return {name: by_image[name][: config.num_captions] for name in names[: config.num_images]}
