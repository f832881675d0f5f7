"""Stage: English detector labels -> tags, one record per image, row for row with its regions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows.file_sources import FileSource
from flows.progress import SILENT, Progress
from storage.artifacts import atomic_write_json
from storage.records import ImageLabels, ImageRegions, ImageTags
from storage.region_shards import RegionReader
from storage.sources import local_path
from storage.tag_shards import write_tags
from translation.coverage import Coverage
from translation.dictionary import Order, Policy, Translation, open_dictionary
from translation.errors import UntranslatedError
from translation.lexicon import GENERAL, OWN_LEXICON, Kind, own_lexicon

VERSION = 2
ENGLISH = "en"
PACKAGE_FILES = {"lexicon": OWN_LEXICON}
"""Part of the stage's identity: an edited lexicon is other tags."""
UNTRANSLATED = "english"
"""Source of tags that are English because English ones were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings; YAML section `translate_tags`.

    policy:     what becomes of a label without translation: it stays English, its tag is left
                empty, or the stage fails
    dictionary: a file {english: chinese} beside our lexicon (also hf:// or https://); None for
                our lexicon alone
    first:      which of the two is asked first
    domain:     words of our lexicon that go before its general ones ("rendered_scenes" speaks as
                the demo's captions do)
    language:   of the tags; "en" leaves the labels as they are
    """

    policy: Policy = "keep"
    dictionary: FileSource | None = None
    first: Order = "lexicon"
    domain: str = GENERAL
    language: Literal["zh", "en"] = "zh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    regions: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    tags: Path
    coverage: Path = Path("coverage.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_in: int
    num_out: int
    num_quarantined: int
    num_labels: int
    num_untranslated: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Translate the labels of every image; number and order of tags stay as they were.

    Raises:
        DictionaryError: The dictionary cannot be used.
        UntranslatedError: The policy is "fail" and labels have no translation; all are named.
    """
    translate = Translator(config)
    reader = RegionReader(inputs.regions)
    if config.policy == "fail":
        translate.check(reader.labels_in_order())
    labels = progress.track(reader.labels_in_order(), total=len(reader))
    write_tags(outputs.tags, (translate.image(each) for each in labels))
    report = {
        "language": config.language,
        "policy": config.policy,
        "lexicon_version": own_lexicon().version,
        "domain": config.domain,
        **translate.coverage.as_json(),
    }
    atomic_write_json(outputs.coverage, report)
    return Summary(
        num_in=len(reader),
        num_out=len(reader),
        num_quarantined=0,
        num_labels=translate.coverage.num_labels,
        num_untranslated=translate.coverage.num_missing,
    )


class Translator:
    """Translates image after image and counts; in English every label stays.

    Raises:
        DictionaryError: The dictionary cannot be used.
    """

    def __init__(self, config: Config) -> None:
        named = None if config.dictionary is None else local_path(config.dictionary)
        dictionary = open_dictionary(
            named, policy=config.policy, domain=config.domain, first=config.first
        )
        self._language = config.language
        self._dictionary = None if config.language == ENGLISH else dictionary
        self.coverage = Coverage()

    def check(self, images: Iterable[ImageLabels]) -> None:
        """Look every label up before anything is written, so that all gaps are named at once."""
        missing: dict[str, None] = {}
        seen: set[tuple[Kind, str]] = set()
        for kind, names in _groups(images):
            new = [name for name in dict.fromkeys(names) if (kind, name) not in seen]
            seen |= {(kind, name) for name in new}
            try:
                self._words(new, kind)
            except UntranslatedError as error:
                missing |= dict.fromkeys(error.missing)
        if missing:
            raise UntranslatedError(tuple(missing))

    def image(self, labels: ImageLabels | ImageRegions) -> ImageTags:
        """The tags of one image."""
        names = self._counted(labels.class_names, "object")
        attributes = (self._counted(each, "attribute") for each in labels.attribute_names)
        return ImageTags(
            image_id=labels.image_id,
            tags=tuple(names),
            attributes=tuple(tuple(word for word in words if word) for words in attributes),
            language=self._language,
        )

    def _counted(self, names: Iterable[str], kind: Kind) -> list[str]:
        translations = self._words(names, kind)
        self.coverage.add(translations, kind)
        return [each.chinese for each in translations]

    def _words(self, names: Iterable[str], kind: Kind) -> list[Translation]:
        if self._dictionary is None:
            return [Translation(english=name, chinese=name, source=UNTRANSLATED) for name in names]
        return self._dictionary.translate(list(names), kind)


def _groups(images: Iterable[ImageLabels]) -> Iterator[tuple[Kind, Iterable[str]]]:
    for labels in images:
        yield "object", labels.class_names
        for names in labels.attribute_names:
            yield "attribute", names
