"""Which texts were there before: millions of ids in 8 to 16 bytes each."""

from array import array
from hashlib import blake2b

_FIRST_SLOTS = 1 << 12


class SeenKeys:
    """A growing set of texts, kept as digests of 64 bits.

    Two of three million texts fall together by chance in one case of four million.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _FIRST_SLOTS))
        self._owners = array("Q", bytes(8 * _FIRST_SLOTS))
        self._num = 0

    def __len__(self) -> int:
        return self._num

    def __contains__(self, key: str) -> bool:
        digest, mask = _digest(key), len(self._slots) - 1
        at = digest & mask
        while self._slots[at] not in (0, digest):
            at = (at + 1) & mask
        return self._slots[at] == digest

    def add(self, key: str) -> bool:
        """Remember a text; tells whether it is new."""
        before = self._num
        self._place(_digest(key), 1)
        return self._num > before

    def belongs(self, key: str, owner: str) -> bool:
        """Whether a text is new or was named by the same owner before; a new one is theirs now."""
        mine = _digest(owner)
        at = self._place(_digest(key), mine)  # may grow the tables
        return self._owners[at] == mine

    def _place(self, digest: int, owner: int) -> int:
        """Slot of a digest, taken for the owner if it was free."""
        slots, mask = self._slots, len(self._slots) - 1
        at = digest & mask
        while slots[at]:
            if slots[at] == digest:
                return at
            at = (at + 1) & mask
        if 2 * self._num >= len(slots):
            self._grow()
            return self._place(digest, owner)
        slots[at], self._owners[at] = digest, owner
        self._num += 1
        return at

    def _grow(self) -> None:
        slots, owners = self._slots, self._owners
        self._slots = array("Q", bytes(16 * len(slots)))
        self._owners = array("Q", bytes(16 * len(slots)))
        self._num = 0
        for digest, owner in zip(slots, owners, strict=True):
            if digest:
                self._place(digest, owner)


def _digest(text: str) -> int:
    content = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(content, digest_size=8).digest()) or 1  # 0 is a free slot
