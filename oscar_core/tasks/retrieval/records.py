"""What retrieval is told, what it works on, what it finds."""

from dataclasses import dataclass, field

from oscar_core.compat import OUR_PACKING, PackingCompat
from oscar_core.errors import TaskError
from oscar_core.views import Views, ViewSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Retrieval; the defaults are Mengzi-Oscar.

    Attributes:
        language: Of the captions.
        max_text: Wordpieces of caption and tags; a long caption pushes the tags out.
        num_images: Images of the split that are ranked, in the order of their ids; None: all.
        num_captions: Captions of each image that are ranked, the first ones.
        group_size: Ours, 0 in the recipe: learn from so many captions and images at once, every
            caption with every image, as a choice both ways. The recipe learns each pair by
            itself: a caption with its image, then with another caption or image.
        num_tries: Ours: the other images of a group are each the one whose captions share most
            words among so many drawn. With many tries the words are all the same and only which
            belongs to which differs, so the model has to learn that, too.
        packing_compat: Quirks of laying out caption and tags: R1.

    Source: recipe of specs/tasks.md 8; `oscar/run_retrieval.py`.
    """

    view: ViewSettings = field(default_factory=lambda: ViewSettings(max_regions=70))
    language: str = "zh"
    max_text: int = 70
    num_images: int | None = None
    num_captions: int = 5
    group_size: int = 0
    num_tries: int = 1
    packing_compat: PackingCompat = OUR_PACKING

    def __post_init__(self) -> None:
        """Refuse groups without a choice."""
        if self.group_size < 0 or self.group_size == 1:
            raise TaskError(f"group_size must be 0 or at least 2, not {self.group_size}")
        for name in ("num_captions", "num_tries"):
            if getattr(self, name) < 1:
                raise TaskError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The images that an example's others are drawn from, or that a caption is ranked against.

    captions: of each image
    words:    of all its captions
    """

    image_ids: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    words: tuple[frozenset[str], ...]
    views: Views


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One caption; `number` of its image in the pool."""

    caption_id: str
    text: str
    number: int
    pool: Pool

    @property
    def image_id(self) -> str:
        """Its image."""
        return self.pool.image_ids[self.number]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """How well a caption fits each candidate image.

    image_id: its own
    scores:   one a candidate, in the order of their ids: log-odds of "belongs together"
    """

    caption_id: str
    image_id: str
    text: str
    scores: tuple[float, ...]
