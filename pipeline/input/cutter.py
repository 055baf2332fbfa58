"""The cutter: whole records out of pieces of a file, or blocks of them.

It promises that its work is linear in the bytes, however long a record is, and that what it gives out, joined, is
what was added, with a terminator behind each file that had none (but a block is as it is). It never reads.
"""

from __future__ import annotations


class RecordSplitter:
    """Bytes that were read and not yet given out.

    With `block`, it gives out whole blocks of records, each about that many bytes; else all whole records at hand.
    """

    def __init__(self, terminator: bytes, block_size: int | None) -> None:
        """`mark` ends a record; `block` is a size in bytes."""
        self._terminator = terminator
        self._block_size = block_size
        self._parts: list[bytes] = []
        self._size = 0
        self._taken_size = 0
        self._complete_size = 0
        self._is_finished = False

    def add(self, piece: bytes) -> None:
        """More of the file. Only the new bytes are searched."""
        if self._taken_size:
            self._parts = [self._parts[0][self._taken_size :]]
            self._size -= self._taken_size
            self._complete_size = max(0, self._complete_size - self._taken_size)
            self._taken_size = 0
        self._is_finished = False
        cut = piece.rfind(self._terminator) + 1
        if cut:
            self._complete_size = self._size + cut
        self._parts.append(piece)
        self._size += len(piece)

    def finish(self) -> None:
        """The file is over: its last record is whole, with a terminator or, in a block, without."""
        if self._complete_size < self._size and not self._block_size:
            self.add(self._terminator)
        self._complete_size = self._size
        self._is_finished = True

    def take(self, size: int) -> bytes:
        """Whole records, at most about `size` bytes of them but at least one; nothing if more has to be added first."""
        if self._block_size:
            if self._size - self._taken_size < self._block_size and not self._is_finished:
                return b""
            size = self._block_size
        if self._complete_size <= self._taken_size:
            return b""
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        body, start, end = self._parts[0], self._taken_size, self._complete_size
        if end - start > size:
            end = (
                body.rfind(self._terminator, start, start + size) + 1
                or body.find(self._terminator, start + size) + 1
                or end
            )
        self._taken_size = end
        if end == self._size:
            self._parts, self._size, self._taken_size, self._complete_size = [], 0, 0, 0
        return body[start:end]
