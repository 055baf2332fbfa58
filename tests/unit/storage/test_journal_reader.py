"""Input that is read again is compared with the recorded checksums."""

from __future__ import annotations

import random

import pytest

from pipeline.model import checksums
from pipeline.model.events import InputChanged, RecordsRead
from pipeline.model.journal_events import ChecksumsRecorded
from pipeline.model.messages import Ack, InputChecksums, RecordFormat
from pipeline.model.ranges import RangeSet
from pipeline.model.structs import replace
from pipeline.storage.journal_reader import RecordedChecksums, sift
from pipeline.ventilator.dispatcher import ChecksumSender

ACK = Ack("r", 1, "print", "one", 2, 0, (), -1, spill_full=False, resend=(), checksum_watermark=0)
TEXTS = [b"task %d\n" % number for number in range(60)]
GROUP = 10


@pytest.fixture(autouse=True)
def use_small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "EXACT", 0)
    monkeypatch.setattr(checksums, "GROUP", GROUP)


class ComparedInput:
    """An input with its recorded checksums and its settled tasks."""

    def __init__(self, *settled: tuple[int, int]) -> None:
        self.recorded, self.settled = RecordedChecksums(), RangeSet(settled)
        self.new_events: list[ChecksumsRecorded] = []

    def read(self, sizes: list[int], texts: list[bytes] = TEXTS, first: int = 0) -> InputChanged | None:
        """Read the input with a new ventilator, in chunks of these sizes; return the first difference."""
        sender = ChecksumSender("v", RecordFormat())
        sender.on_ack(replace(ACK, recorded=self.recorded.end))
        for size in sizes:
            for send in sender.add(RecordsRead(first, size, b"".join(texts[first : first + size])), "r"):
                assert isinstance(send.message, InputChecksums)
                changed, difference = self.record(
                    ChecksumsRecorded(send.message.first, send.message.count, send.message.checksums)
                )
                self.new_events += changed
                if difference:
                    return difference
            first += size
        return None

    def record(self, event: ChecksumsRecorded) -> tuple[list[ChecksumsRecorded], InputChanged | None]:
        changed, difference = sift(event, self.recorded, self.settled)
        for new_event in changed:
            self.recorded.add(new_event)
        return changed, difference

    def ends(self) -> list[int]:
        """Return the ends of the events recorded since the last call."""
        new_events, self.new_events = self.new_events, []
        return [event.first + event.count for event in new_events]


def edited(*tasks: int) -> list[bytes]:
    return [text.upper() if number in tasks else text for number, text in enumerate(TEXTS)]


@pytest.mark.parametrize("seed", range(50))
def test_same_input_is_equal_however_it_is_split(seed: int) -> None:
    rng, source = random.Random(seed), ComparedInput((0, 60))
    read = 0
    for _ in range(6):
        sizes = [rng.randint(1, 17) for _ in range(rng.randint(1, 5))]
        while sum(sizes) > 60:
            sizes.pop()
        assert source.read(sizes) is None
        assert source.recorded.end == (read := max(read, sum(sizes)))


@pytest.mark.parametrize("seed", range(100))
def test_changed_settled_task_is_found_however_it_is_split(seed: int) -> None:
    rng = random.Random(seed)
    end = rng.randint(1, 60)
    task = rng.randrange(end)
    source = ComparedInput((task, task + 1))
    sizes: list[int] = []
    while sum(sizes) < end:
        sizes.append(min(rng.randint(1, 17), end - sum(sizes)))
    source.read(sizes)
    rng.shuffle(sizes)
    difference = source.read([*sizes, 60 - end] if end < 60 else sizes, edited(task))
    assert difference
    assert difference.low == task // GROUP * GROUP
    assert task < difference.high <= min(difference.low + GROUP, end)


def test_changed_unsettled_group_is_recorded_again() -> None:
    source = ComparedInput((0, 20))
    source.read([33])
    assert source.ends() == [33]
    assert source.read([33], edited(25, 32)) is None
    assert source.ends() == [30, 33]
    source.settled.update([(20, 33)])
    assert source.read([33], edited(25, 32)) is None
    assert source.read([33]) == InputChanged(20, 30)
    assert source.read([33], edited(25)) == InputChanged(30, 33)


def test_changed_group_discards_its_parts() -> None:
    source = ComparedInput()
    source.read([3, 2])
    assert source.read([4, 1], edited(1)) is None
    source.settled.update([(0, 5)])
    assert source.read([3, 2], edited(1)) is None  # the checksum at 3 of the first reading was of another input
    source.settled = RangeSet()
    assert source.read([3, 2], edited(4)) is None
    assert source.read([3, 5], edited(4)) is None
    source.settled.update([(0, 8)])
    assert source.read([8]) == InputChanged(0, 8)


def test_input_without_start_is_compared_from_next_group() -> None:
    source = ComparedInput((0, 60))
    source.read([45])
    assert source.read([40], edited(14), first=13) is None
    assert source.read([47], edited(25), first=13) == InputChanged(20, 30)
    assert source.read([60]) is None
    late = ComparedInput((0, 60))
    late.read([13])
    late.read([40], first=13)
    late.recorded.add(ChecksumsRecorded(13, 7, bytes(4)))
    assert late.read([60], edited(15)) is None


def test_shorter_input_is_recorded_from_last_group() -> None:
    source = ComparedInput((0, 10))
    source.read([33])
    source.recorded.cut(33)
    assert source.recorded.end == 33
    source.recorded.cut(17)
    assert source.recorded.end == 10
    assert source.read([17], edited(12)) is None
    source.settled.update([(10, 17)])
    assert source.read([60], edited(12)) is None
    assert source.read([60]) == InputChanged(10, 17 if source.recorded.get(17) else 20)


def test_checksums_after_recorded_end_are_recorded() -> None:
    source = ComparedInput((0, 60))
    source.read([5])
    assert source.record(ChecksumsRecorded(0, 20, b"1234" + b"5678")) == (
        [ChecksumsRecorded(0, 10, b"1234"), ChecksumsRecorded(10, 10, b"5678")],
        None,
    )
