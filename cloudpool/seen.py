"""Which of many numbered things have been seen, in little memory: they mostly come in order."""

from __future__ import annotations

__all__ = ["Seen"]


class Seen:
    """A set of numbers from 0: a word of 256 bits for each stretch that is not full yet. Threads share it by the GIL."""

    __slots__ = ("_full", "_words")

    WORD, FULL = 256, (1 << 256) - 1

    def __init__(self) -> None:
        self._full = 0  # so many words from the beginning are full
        self._words: dict[int, int] = {}

    def __contains__(self, number: int) -> bool:
        at, bit = divmod(number, self.WORD)
        return at < self._full or bool(self._words.get(at, 0) >> bit & 1)

    def add(self, number: int) -> bool:
        """Whether it was not there."""
        at, bit = divmod(number, self.WORD)
        bits = self._words.get(at, 0)
        if at < self._full or bits >> bit & 1:
            return False
        self._words[at] = bits | 1 << bit
        while self._words.get(self._full) == self.FULL:
            del self._words[self._full]
            self._full += 1
        return True
