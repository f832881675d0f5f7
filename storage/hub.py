"""Files of a Hugging Face repository, through `huggingface_hub` and its own cache.

Weights of frameworks that nothing here reads are left out of a whole repository.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from storage.artifacts import sha256_of
from storage.errors import SourceError

OTHER_FRAMEWORKS = (
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.onnx",
    "*.onnx_data",
    "*.tflite",
    "*.gguf",
    "*.mlmodel",
    "onnx/*",
    "openvino/*",
    "coreml/*",
)
"""Left out when a whole repository is fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFiles:
    """One file of a repository, or all of them.

    source:     the text that names it
    repository: owner/name
    file:       path in the repository, "" for all files
    revision:   branch, tag or commit, "" for the main branch
    sha256:     of the one file, "" where it is not checked
    """

    source: str
    repository: str
    file: str
    revision: str
    sha256: str


def cached_from_hub(wanted: HubFiles, by_hand: Path) -> Path | None:
    """The file, or the folder of all files, in the hub's cache; None where something is missing.

    Args:
        wanted: what of which repository.
        by_hand: where the user may put it; named in the error.

    Raises:
        SourceError: The bytes are not those wanted.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = _ask(wanted, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    if not wanted.file and not _is_listed(found):
        return None
    return _checked(wanted, found, by_hand)


def fetch_from_hub(
    wanted: HubFiles,
    by_hand: Path,
    max_bytes: int,
    on_progress: Callable[[int, int | None], None],
) -> Path:
    """The same, fetched where something is missing.

    HF_HUB_OFFLINE, HF_HOME, HF_ENDPOINT and HF_TOKEN count as everywhere. What the cache holds is
    used without asking the hub; another state of a branch is had by naming its commit.

    Args:
        wanted: what of which repository.
        by_hand: where the user may put it; named in the error.
        max_bytes: more is refused.
        on_progress: told bytes when a download begins and ends.

    Raises:
        SourceError: The hub does not answer or has no such file, or the bytes are others.
    """
    cached = cached_from_hub(wanted, by_hand)
    if cached is not None:
        return cached
    try:
        total = _announced(wanted)
        if total is not None and total > max_bytes:
            raise _refused(wanted, by_hand, f"{total} bytes, more than {max_bytes}")
        on_progress(0, total)
        found = _ask(wanted, local_files_only=False)
    except SourceError:
        raise
    except Exception as error:  # the hub's client and its HTTP library raise many kinds
        raise _refused(wanted, by_hand, _said(error)) from error
    if total is not None:
        on_progress(total, total)
    return _checked(wanted, found, by_hand)


def _ask(wanted: HubFiles, *, local_files_only: bool) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download

    revision = wanted.revision or None
    if wanted.file:
        return Path(
            hf_hub_download(
                wanted.repository,
                wanted.file,
                revision=revision,
                library_name="oscar-flow",
                local_files_only=local_files_only,
            )
        )
    return Path(
        snapshot_download(
            wanted.repository,
            revision=revision,
            ignore_patterns=list(OTHER_FRAMEWORKS),
            library_name="oscar-flow",
            local_files_only=local_files_only,
        )
    )


def _is_listed(snapshot: Path) -> bool:
    """Whether the cache knows which files the repository has, and so that none is missing.

    A folder that was made for one file alone looks like that of all files otherwise.
    """
    return (snapshot.parents[1] / "trees" / f"{snapshot.name}.json").is_file()


def _announced(wanted: HubFiles) -> int | None:
    """Bytes that will come; None where the hub does not say."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download

    revision = wanted.revision or None
    if wanted.file:
        return get_hf_file_metadata(
            hf_hub_url(wanted.repository, wanted.file, revision=revision)
        ).size
    files = snapshot_download(
        wanted.repository,
        revision=revision,
        ignore_patterns=list(OTHER_FRAMEWORKS),
        library_name="oscar-flow",
        dry_run=True,
    )
    sizes = [each.file_size for each in files if each.will_download]
    return sum(size for size in sizes if size is not None)


def _checked(wanted: HubFiles, found: Path, by_hand: Path) -> Path:
    if wanted.sha256:
        digest = sha256_of(found)
        if digest != wanted.sha256:
            raise _refused(wanted, by_hand, f"its SHA-256 is {digest}, not {wanted.sha256}")
    return found


def _refused(wanted: HubFiles, by_hand: Path, why: str) -> SourceError:
    what = wanted.file.rpartition("/")[2] or "its files"
    return SourceError(
        f"{wanted.source}: {why}; put {what} to {by_hand} yourself, or name a local path"
    )


def _said(error: Exception) -> str:
    """The cause in a few words; the client's own messages are paragraphs."""
    names = {each.__name__ for cause in _causes(error) for each in type(cause).__mro__}
    for name, words in _WORDS.items():
        if name in names:
            return words
    return f"the hub does not answer ({' '.join(str(error).split())[:160]})"


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    seen: BaseException | None = error
    while seen is not None and seen not in causes:
        causes.append(seen)
        seen = seen.__cause__
    return causes


_WORDS = {
    "OfflineModeIsEnabled": "not in the hub's cache, and HF_HUB_OFFLINE forbids to ask",
    "GatedRepoError": "the hub gives it only to those who accepted its terms (HF_TOKEN)",
    "RepositoryNotFoundError": "the hub has no such repository, or none for you (HF_TOKEN)",
    "RevisionNotFoundError": "the repository has no such revision",
    "EntryNotFoundError": "the repository has no such file",
}
