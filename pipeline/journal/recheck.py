"""The checksums of an input, and whether it is still the same when it is read again.

Records whose task is settled must be as they were. A group of records without settled tasks may have changed, and is
recorded again. Memory: 4 bytes for each group.
"""

from __future__ import annotations

from array import array

from pipeline.words import checksums
from pipeline.words.errands import InputChanged
from pipeline.words.facts import ChecksumsRecorded
from pipeline.words.ranges import RangeSet


class Recorded:
    """The checksums on record: of each group, and of the part of the last group that was read."""

    def __init__(self) -> None:
        self.end = 0
        """All records below have been read."""
        self._groups = array("I")
        self._parts: dict[int, int] = {}

    def at(self, number: int) -> int:
        """The checksum that ends there; 0 if there is none."""
        at = checksums.index(number) - 1
        is_group = checksums.floor(number) == number and 0 <= at < len(self._groups)
        return self._groups[at] if is_group else self._parts.get(number, 0)

    def add(self, fact: ChecksumsRecorded) -> None:
        """These are on record now, in place of those that were."""
        for number, crc in checksums.each(fact.first, fact.count, fact.checksums):
            if checksums.floor(number) < number:
                if number <= self.end:  # the group has changed: its other parts are outdated
                    self._parts.clear()
                self._parts[number] = crc
                continue
            at = checksums.index(number) - 1
            self._groups.extend([0] * (at + 1 - len(self._groups)))
            self._groups[at] = crc
            if number >= self.end:
                self._parts.clear()
        self.end = max(self.end, fact.first + fact.count)

    def cut(self, total: int) -> None:
        """The input has become shorter: it has `total` records."""
        if total < self.end:
            self.end = checksums.floor(total)
            del self._groups[checksums.index(total) :]
            self._parts.clear()


def sift(
    fact: ChecksumsRecorded, recorded: Recorded, settled: RangeSet
) -> tuple[list[ChecksumsRecorded], InputChanged | None]:
    """What of these checksums is to be recorded; and the first group that differs though it holds settled tasks.

    What can't be compared, since only one reading was cut there, is taken for the same: it is a part of a group.
    """
    if fact.first >= recorded.end:
        return [fact], None
    news: list[ChecksumsRecorded] = []
    low = fact.first
    for number, crc in checksums.each(fact.first, fact.count, fact.checksums):
        was = recorded.at(number)
        is_new = number > recorded.end or (number == recorded.end and not was)
        if is_new or (crc and was and crc != was):
            group = checksums.floor(number - 1)
            if not is_new and settled.intersection(group, number):
                return news, InputChanged(group, number)
            news.append(ChecksumsRecorded(low, number - low, crc.to_bytes(4, "little")))
        low = number
    return news, None
