"""Examples of retrieval: what a text found among photos, and a photo among texts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.report.album import Album, spread
from flows.report.finished import FinishedStep, read_json, read_rows
from flows.report.records import PictureQuery, RankedPicture, RankedText, Retrieval, TextQuery
from oscar_core.metrics.retrieval import rank_candidates

NUM_FOUND = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """C texts against N photos.

    scores: (C, N) float64
    is_own: (C, N) bool  the text was written for the photo
    """

    texts: tuple[str, ...]
    image_ids: tuple[str, ...]
    scores: NDArray[np.float64]
    is_own: NDArray[np.bool_]


def retrieval(step: FinishedStep | None, album: Album, num: int) -> Retrieval | None:
    """Examples at even distances; None where nothing was predicted."""
    table = _read(step) if step is not None else None
    if table is None:
        return None
    num_texts, num_pictures = table.scores.shape
    text_ranks = rank_candidates(table.scores, table.is_own)
    picture_ranks = rank_candidates(table.scores.T, table.is_own.T)
    return Retrieval(
        by_text=tuple(
            _text_query(table, at, int(text_ranks[at]) + 1, album)
            for at in spread(range(num_texts), num)
        ),
        by_picture=tuple(
            _picture_query(table, at, int(picture_ranks[at]) + 1, album)
            for at in spread(range(num_pictures), num)
        ),
        num_pictures=num_pictures,
        num_texts=num_texts,
    )


def _read(step: FinishedStep) -> _Table | None:
    folder = step.folder / "predictions"
    image_ids = read_json(step.find("predictions/candidates.json", "candidates.json"))
    if not isinstance(image_ids, list) or not image_ids:
        return None
    rows = [
        row
        for row in read_rows(folder / "right.jsonl")
        if isinstance(row.get("scores"), list) and len(row["scores"]) == len(image_ids)
    ]
    if not rows:
        return None
    owners = np.array([str(row.get("image_id")) for row in rows])
    return _Table(
        texts=tuple(str(row.get("text", "")) for row in rows),
        image_ids=tuple(map(str, image_ids)),
        scores=np.array([row["scores"] for row in rows], dtype=np.float64),
        is_own=owners[:, None] == np.array(image_ids, dtype=owners.dtype)[None, :],
    )


def _best(scores: NDArray[np.float64]) -> list[int]:
    """The first few by falling score, equal ones from the back, as the ranks count them."""
    return [int(at) for at in np.argsort(scores, kind="stable")[::-1][:NUM_FOUND]]


def _text_query(table: _Table, at: int, rank: int, album: Album) -> TextQuery:
    found = list(enumerate(_best(table.scores[at]), start=1))
    if rank > len(found):
        found += [(rank, int(image)) for image in np.flatnonzero(table.is_own[at])[:1]]
    return TextQuery(
        text=table.texts[at],
        found=tuple(
            RankedPicture(
                picture=album.thumb(table.image_ids[image]),
                rank=place,
                is_right=bool(table.is_own[at, image]),
            )
            for place, image in found
        ),
        rank=rank,
    )


def _picture_query(table: _Table, at: int, rank: int, album: Album) -> PictureQuery:
    return PictureQuery(
        picture=album.thumb(table.image_ids[at]),
        found=tuple(
            RankedText(text=table.texts[text], rank=place, is_right=bool(table.is_own[text, at]))
            for place, text in enumerate(_best(table.scores[:, at]), start=1)
        ),
        rank=rank,
    )
