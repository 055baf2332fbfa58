"""The cutter: whole records out of pieces of a file, or blocks of them.

It promises that its work is linear in the bytes, however long a record is, and that what it gives out, joined, is
what was added, with a terminator behind each file that had none (but a block is as it is). It never reads.
"""

from __future__ import annotations


class Cutter:
    """Bytes that were read and not yet given out.

    With `block`, it gives out whole blocks of records, each about that many bytes; else all whole records at hand.
    """

    def __init__(self, mark: bytes, block: int | None) -> None:
        """`mark` ends a record; `block` is a size in bytes."""
        self._mark = mark
        self._block = block
        self._parts: list[bytes] = []
        self._size = 0
        self._given = 0
        self._whole = 0
        self._over = False

    def add(self, piece: bytes) -> None:
        """More of the file. Only the new bytes are searched."""
        if self._given:
            self._parts = [self._parts[0][self._given :]]
            self._size -= self._given
            self._whole = max(0, self._whole - self._given)
            self._given = 0
        self._over = False
        cut = piece.rfind(self._mark) + 1
        if cut:
            self._whole = self._size + cut
        self._parts.append(piece)
        self._size += len(piece)

    def finish(self) -> None:
        """The file is over: its last record is whole, with a terminator or, in a block, without."""
        if self._whole < self._size and not self._block:
            self.add(self._mark)
        self._whole = self._size
        self._over = True

    def take(self, size: int) -> bytes:
        """Whole records, at most about `size` bytes of them but at least one; nothing if more has to be added first."""
        if self._block:
            if self._size - self._given < self._block and not self._over:
                return b""
            size = self._block
        if self._whole <= self._given:
            return b""
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        body, start, end = self._parts[0], self._given, self._whole
        if end - start > size:
            end = body.rfind(self._mark, start, start + size) + 1 or body.find(self._mark, start + size) + 1 or end
        self._given = end
        if end == self._size:
            self._parts, self._size, self._given, self._whole = [], 0, 0, 0
        return body[start:end]
