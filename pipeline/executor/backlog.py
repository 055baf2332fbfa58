"""What waits to be run: the backlog in front of an executor's slots.

Commands and callables share it. It is first in, first out, and cuts records off its front in the size a slot
wants. It promises that each task added leaves once: taken, dropped or released. It never makes a list of
records and never copies more bytes than it hands out, so small bites from a large body stay cheap.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from msgspec import Struct

from pipeline.words.parts import Ranges, Recipe
from pipeline.words.ranges import RangeSet
from pipeline.words.records import end_of, terminator


class Lot(NamedTuple):
    """What records came with: how often they have failed, in which run, and when they came (a time.monotonic())."""

    tries: int = 0
    run: str = ""
    since: float = 0.0


ANY = Lot()


class Bite(Struct, frozen=True, gc=False):
    """`count` records from task `first` on, each with its terminator."""

    first: int
    count: int
    body: bytes
    lot: Lot = ANY


class _Piece(Struct, gc=False):
    """Waiting records: `count` of them from task `first`, the bytes of `body` from offset `at` on."""

    first: int
    count: int
    body: bytes
    lot: Lot
    at: int = 0


class Backlog:
    """Unstarted tasks in the order in which they are to start.

    `recipe` says how the records look; it must be right before the first bite is taken. `tasks` is how many wait.
    """

    def __init__(self) -> None:
        self.recipe = Recipe()
        self.tasks = 0
        self._pieces: deque[_Piece] = deque()

    def add(self, first: int, count: int, body: bytes, lot: Lot = ANY) -> None:
        """`count` records of `body`, tasks `first` and up, wait behind all others."""
        self._pieces.append(_Piece(first, count, body, lot))
        self.tasks += count

    def put_back(self, bite: Bite) -> None:
        """These were taken and did not start after all: they are next."""
        self._pieces.appendleft(_Piece(bite.first, bite.count, bite.body, bite.lot))
        self.tasks += bite.count

    def take(self, most: int, size: int) -> Bite | None:
        """The next records: at most `most`, in at most `size` bytes but at least one; None when nothing waits.

        Neighbours are joined even if they came in separate chunks, while they fill less than half of `size`: more
        is not worth the copy. A block always stands alone, and so does each task where accounts are wanted.
        """
        if not self._pieces:
            return None
        front = self._pieces[0]
        lot, most = front.lot, 1 if self.recipe.collect_metrics else most
        first, count, body = front.first, *self._bite(front, most, size, least=1)
        if self.recipe.block or count == most or 2 * len(body) > size or not self._follows(first + count, lot):
            return Bite(first, count, body, lot)
        parts, left = [body], size - len(body)
        while count < most and self._follows(first + count, lot):
            number, body = self._bite(self._pieces[0], most - count, left, least=0)
            if number == 0:
                break
            parts.append(body)
            count += number
            left -= len(body)
        return Bite(first, count, b"".join(parts), lot)

    def drop(self, ranges: Ranges) -> None:
        """Forget these tasks, as far as they wait here."""
        if ranges and self._pieces:
            gone = RangeSet(ranges)
            self._pieces = deque(left for piece in self._pieces for left in self._without(piece, gone))
            self.tasks = sum(piece.count for piece in self._pieces)

    def release(self) -> Ranges:
        """Forget all, and say which tasks that were."""
        waiting = RangeSet((piece.first, piece.first + piece.count) for piece in self._pieces)
        self._pieces.clear()
        self.tasks = 0
        return waiting.ranges()

    def _follows(self, number: int, lot: Lot) -> bool:
        """Whether task `number` is the next one waiting, to be run as those of this lot are."""
        front = self._pieces[0] if self._pieces else None
        return front is not None and front.first == number and front.lot[:2] == lot[:2]

    def _bite(self, piece: _Piece, most: int, size: int, least: int) -> tuple[int, bytes]:
        """Cut at most `most` records and `size` bytes, but `least` records, off the front piece."""
        start, number = piece.at, min(most, piece.count)
        whole = number == piece.count
        end = len(piece.body) if whole else end_of(piece.body, number, self.recipe, start)
        if end - start > size and number > least:
            number, end = self._fit(piece, size, least)
        if number == piece.count:
            self._pieces.popleft()
        else:
            piece.first += number
            piece.count -= number
            piece.at = end
        self.tasks -= number
        return number, piece.body[start:end]

    def _fit(self, piece: _Piece, size: int, least: int) -> tuple[int, int]:
        """How many records of `piece` lie in `size` bytes, but `least`; and the offset of their end."""
        if not self.recipe.block:
            mark, start = terminator(self.recipe), piece.at
            end = piece.body.rfind(mark, start, start + max(size, 0)) + 1
            if end > start:
                return piece.body.count(mark, start, end), end
        return least, end_of(piece.body, least, self.recipe, piece.at)

    def _without(self, piece: _Piece, gone: RangeSet) -> list[_Piece]:
        """What is left of `piece` outside of `gone`."""
        left: list[_Piece] = []
        number, at = piece.first, piece.at
        for low, high in gone.outside(number, number + piece.count):
            start = end_of(piece.body, low - number, self.recipe, at)
            number, at = high, end_of(piece.body, high - low, self.recipe, start)
            left.append(_Piece(low, high - low, piece.body[start:at], piece.lot))
        return left
