"""Names of tensors in one program for those in another, by one table for both ways."""

from dataclasses import dataclass

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renaming:
    """A table of names: foreign on the left, and what they become on the right.

    heads:  how names begin; the first that fits is taken, a name without one is unknown
    pieces: what may stand behind a head, replaced in this order, both ways
    """

    heads: Pairs
    pieces: Pairs = ()

    def read(self, name: str) -> str | None:
        """What a foreign name becomes; None if no name becomes a foreign one like this."""
        renamed = _renamed(name, self.heads, self.pieces)
        return renamed if renamed is not None and self.written(renamed) == name else None

    def written(self, name: str) -> str | None:
        """The foreign name; None where there is none."""
        return _renamed(name, _turned(self.heads), _turned(self.pieces))


def _turned(pairs: Pairs) -> Pairs:
    return tuple((right, left) for left, right in pairs)


def _renamed(name: str, heads: Pairs, pieces: Pairs) -> str | None:
    for old, new in heads:
        if name.startswith(old):
            rest = name.removeprefix(old)
            for old_piece, new_piece in pieces:
                rest = rest.replace(old_piece, new_piece)
            return new + rest
    return None
