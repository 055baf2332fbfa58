"""An input that is read again, beside the record of it: what differs, and what is recorded in its place."""

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
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "EXACT", 0)
    monkeypatch.setattr(checksums, "GROUP", GROUP)


class Input:
    """One input, the record of it, and which of its tasks are settled."""

    def __init__(self, *settled: tuple[int, int]) -> None:
        self.recorded, self.settled = RecordedChecksums(), RangeSet(settled)
        self.noted: list[ChecksumsRecorded] = []

    def read(self, sizes: list[int], texts: list[bytes] = TEXTS, first: int = 0) -> InputChanged | None:
        """A new ventilator reads so many records at a time: the first difference."""
        marking = ChecksumSender("v", RecordFormat())
        marking.on_ack(replace(ACK, recorded=self.recorded.end))
        for size in sizes:
            for send in marking.add(RecordsRead(first, size, b"".join(texts[first : first + size])), "r"):
                assert isinstance(send.message, InputChecksums)
                news, differs = self.take(
                    ChecksumsRecorded(send.message.first, send.message.count, send.message.checksums)
                )
                self.noted += news
                if differs:
                    return differs
            first += size
        return None

    def take(self, fact: ChecksumsRecorded) -> tuple[list[ChecksumsRecorded], InputChanged | None]:
        news, differs = sift(fact, self.recorded, self.settled)
        for each in news:
            self.recorded.add(each)
        return news, differs

    def ends(self) -> list[int]:
        """Where what was noted ends, since the last time."""
        noted, self.noted = self.noted, []
        return [fact.first + fact.count for fact in noted]


def edited(*tasks: int) -> list[bytes]:
    return [text.upper() if number in tasks else text for number, text in enumerate(TEXTS)]


@pytest.mark.parametrize("seed", range(50))
def test_the_same_input_is_the_same_however_it_is_cut(seed: int) -> None:
    rng, it = random.Random(seed), Input((0, 60))
    read = 0
    for _ in range(6):
        sizes = [rng.randint(1, 17) for _ in range(rng.randint(1, 5))]
        while sum(sizes) > 60:
            sizes.pop()
        assert it.read(sizes) is None
        assert it.recorded.end == (read := max(read, sum(sizes)))


@pytest.mark.parametrize("seed", range(100))
def test_a_change_in_a_settled_task_is_found_however_it_is_cut(seed: int) -> None:
    rng = random.Random(seed)
    end = rng.randint(1, 60)
    task = rng.randrange(end)
    it = Input((task, task + 1))
    sizes: list[int] = []
    while sum(sizes) < end:
        sizes.append(min(rng.randint(1, 17), end - sum(sizes)))
    it.read(sizes)
    rng.shuffle(sizes)
    differs = it.read([*sizes, 60 - end] if end < 60 else sizes, edited(task))
    assert differs
    assert differs.low == task // GROUP * GROUP
    assert task < differs.high <= min(differs.low + GROUP, end)


def test_a_group_without_settled_tasks_may_change_and_is_then_as_it_was_read_last() -> None:
    it = Input((0, 20))
    it.read([33])
    assert it.ends() == [33]
    assert it.read([33], edited(25, 32)) is None
    assert it.ends() == [30, 33]
    it.settled.update([(20, 33)])
    assert it.read([33], edited(25, 32)) is None
    assert it.read([33]) == InputChanged(20, 30)
    assert it.read([33], edited(25)) == InputChanged(30, 33)


def test_parts_of_a_group_that_has_changed_are_outdated() -> None:
    it = Input()
    it.read([3, 2])
    assert it.read([4, 1], edited(1)) is None
    it.settled.update([(0, 5)])
    assert it.read([3, 2], edited(1)) is None  # what was read first ended at 3, too, and was another input
    it.settled = RangeSet()
    assert it.read([3, 2], edited(4)) is None
    assert it.read([3, 5], edited(4)) is None
    it.settled.update([(0, 8)])
    assert it.read([8]) == InputChanged(0, 8)


def test_an_input_whose_beginning_was_not_kept_is_compared_from_the_next_boundary_on() -> None:
    it = Input((0, 60))
    it.read([45])
    assert it.read([40], edited(14), first=13) is None
    assert it.read([47], edited(25), first=13) == InputChanged(20, 30)
    assert it.read([60]) is None
    late = Input((0, 60))
    late.read([13])
    late.read([40], first=13)
    late.recorded.add(ChecksumsRecorded(13, 7, bytes(4)))
    assert late.read([60], edited(15)) is None


def test_an_input_that_has_become_shorter_is_recorded_from_its_last_group_on() -> None:
    it = Input((0, 10))
    it.read([33])
    it.recorded.cut(33)
    assert it.recorded.end == 33
    it.recorded.cut(17)
    assert it.recorded.end == 10
    assert it.read([17], edited(12)) is None
    it.settled.update([(10, 17)])
    assert it.read([60], edited(12)) is None
    assert it.read([60]) == InputChanged(10, 17 if it.recorded.get(17) else 20)


def test_checksums_that_pass_the_end_of_the_record_are_taken() -> None:
    it = Input((0, 60))
    it.read([5])
    assert it.take(ChecksumsRecorded(0, 20, b"1234" + b"5678")) == (
        [ChecksumsRecorded(0, 10, b"1234"), ChecksumsRecorded(10, 10, b"5678")],
        None,
    )
