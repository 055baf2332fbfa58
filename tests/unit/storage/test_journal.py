"""The journal: what was durable comes back, whatever was torn, flipped, full or failed; what was not was never said."""

from __future__ import annotations

import errno
import json
import os
import struct
import time
import zlib
from itertools import count
from typing import TYPE_CHECKING

import pytest

from pipeline.model.errors import PipelineError, UsageError
from pipeline.model.events import Committed, InputChanged, JournalEntry, Waiting
from pipeline.model.journal_events import (
    ChecksumsRecorded,
    CommandFixed,
    InputEnded,
    JournalEvent,
    RunStarted,
    RunStopped,
    SinkSuspended,
    TasksReopened,
    TasksSettled,
)
from pipeline.model.messages import AttemptRange
from pipeline.model.state_machine import NEVER, Message, Port
from pipeline.storage import disk_io as kernels
from pipeline.storage.journal import Journal, NullJournal
from pipeline.storage.journal_reader import NAMES, RunSummary, read_summary, to_json_lines
from tests.support.faulty_syscalls import FaultySyscalls

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 30.0
LINES = [b"task %d is a line\n" % number for number in range(60)]


def marks(first: int, sizes: list[int], texts: list[bytes] = LINES) -> ChecksumsRecorded:
    """That so many records were read, each of which has its own checksum."""
    count = sum(sizes)
    crcs = [zlib.crc32(text) for text in texts[first : first + count]]
    return ChecksumsRecorded(first, count, struct.pack(f"<{count}I", *crcs))


ENTRIES: list[tuple[JournalEvent, ...]] = [
    (RunStarted("run", "lines.txt 99"), CommandFixed("d1gest", "odd \udcff ümlaut")),
    (marks(0, [10, 20]),),
    (TasksSettled(((0, 3), (5, 9)), ((1, 2),), is_spilled=False, sizes=(70, 12)), AttemptRange(3, 4, 2)),
    (TasksSettled(((12, 14),), (), is_spilled=True, sizes=()),),
    (TasksReopened(((1, 2),)), InputEnded(30, "")),
    (RunStopped("soon", "^C", 130), SinkSuspended()),
]
FACTS = [fact for entry in ENTRIES for fact in entry]


def receive_all(journal: Journal, number: int) -> list[Message]:
    """What it says, as the loop asks it, until it has answered for entry `number` or failed."""
    said: list[Message] = []
    limit = time.monotonic() + PATIENCE
    while not any(isinstance(word, Committed) and (word.number >= number or word.failure) for word in said):
        assert time.monotonic() < limit, said
        said += journal.receive()
    return said


def keep(journal: Journal, number: int, *facts: JournalEvent) -> list[Message]:
    """One more entry."""
    journal.send(Port.JOURNAL, JournalEntry(number, facts))
    return receive_all(journal, number)


def written(path: Path, entries: list[tuple[JournalEvent, ...]] | None = None) -> list[int]:
    """A journal at `path` with these entries, a leaf each; the offsets where it is whole."""
    journal = Journal(str(path), fsync=False)
    ends = []
    for number, facts in enumerate(ENTRIES if entries is None else entries):
        assert keep(journal, number, *facts) == [Committed("journal", number)]
        ends.append(path.stat().st_size)
    journal.close()
    return ends


def facts_at(path: Path) -> list[JournalEvent]:
    """What a journal that is opened there knows."""
    journal = Journal(str(path), fsync=False)
    try:
        return list(journal.read_events())
    finally:
        journal.close()


def test_without_a_journal_every_entry_is_at_once_as_durable_as_asked() -> None:
    journal = NullJournal()
    assert journal.receive() == []
    for number in (1, 2):
        journal.send(Port.JOURNAL, JournalEntry(number, (RunStarted("run", "print"),)))
    assert journal.deadline == 0.0
    assert journal.receive() == [Committed("journal", 2)]
    assert journal.receive() == []
    assert journal.deadline == NEVER
    assert journal.pollables() == []
    journal.close()


@pytest.mark.parametrize("disk", [False, True])
def test_what_was_durable_comes_back(tmp_path: Path, *, disk: bool) -> None:
    path = tmp_path / "journal"
    before = time.time()
    journal = Journal(str(path), fsync=disk)
    assert journal.receive() == []
    assert list(journal.read_events()) == []
    for number, facts in enumerate(ENTRIES):
        assert keep(journal, number, *facts) == [Committed("journal", number)]
        assert journal.deadline == NEVER
    begun = journal.started_at
    assert before <= begun <= time.time()
    assert list(journal.read_events()) == FACTS
    journal.close()
    journal.close()
    again = Journal(str(path), fsync=disk)
    assert (list(again.read_events()), again.started_at, again.output_sizes) == (FACTS, begun, (70, 12))
    assert keep(again, 9, InputEnded(31, "x")) == [Committed("journal", 9)]
    again.close()
    assert facts_at(path) == [*FACTS, InputEnded(31, "x")]


def test_entries_of_one_turn_are_one_leaf_and_one_write(tmp_path: Path) -> None:
    kernel = FaultySyscalls()
    journal = Journal(str(tmp_path / "journal"), fsync=False, syscalls=kernel)
    keep(journal, 0, *ENTRIES[0])
    writes = kernel.calls.count("write")
    for number, facts in enumerate(ENTRIES[1:], 1):
        journal.send(Port.JOURNAL, JournalEntry(number, facts))
    assert receive_all(journal, 5) == [Committed("journal", 5)]
    in_one = kernel.calls.count("write") - writes
    assert keep(journal, 6, SinkSuspended()) == [Committed("journal", 6)]
    assert in_one <= 2 * (kernel.calls.count("write") - writes - in_one)  # each is written short, and gone on with


def test_nothing_written_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), fsync=True)
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_removes_its_journal(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), fsync=False)
    keep(journal, 1, *FACTS)
    journal.remove()
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_cut_anywhere_it_goes_on_behind_the_last_whole_leaf(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = written(path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        known = [fact for end, facts in zip(ends, ENTRIES, strict=True) for fact in facts if end <= size]
        journal = Journal(str(path), fsync=False)
        assert list(journal.read_events()) == known
        assert keep(journal, 1, SinkSuspended()) == [Committed("journal", 1)]
        journal.close()
        assert facts_at(path) == [*known, SinkSuspended()]


def test_each_byte_flipped_is_refused_with_its_place_or_cut_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = written(path)
    whole = path.read_bytes()
    first = json.loads(next(to_json_lines(str(path))))["at"]
    starts = [first, json.loads(list(to_json_lines(str(path)))[1])["at"], *ends[:-1]]
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        if at >= starts[-1]:
            assert facts_at(path) == [fact for facts in ENTRIES[:-1] for fact in facts]
        elif at < first:
            with pytest.raises(UsageError, match=r"is not a pipe journal|of version"):
                facts_at(path)
        else:
            damaged = max(start for start in starts if start <= at)
            with pytest.raises(UsageError, match=f"{path} is damaged at byte {damaged}$"):
                facts_at(path)
            assert path.stat().st_size == len(whole)


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\xc1\x9eLf" * 9, os.urandom(3000)])
def test_what_a_power_cut_left_behind_the_end_is_cut(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "journal"
    written(path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + tail)
    assert read_summary(str(path)) is not None
    assert path.stat().st_size == size + len(tail)  # who looks, writes nothing
    assert facts_at(path) == FACTS
    assert path.stat().st_size == size


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"precious\n", "is not a pipe journal"), (b"pipe journal\x03more", "version 3, not 2")],
)
def test_what_is_no_journal_is_left_alone(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "journal"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=said):
        Journal(str(path), fsync=False)
    assert path.read_bytes() == text


def test_what_cannot_be_a_journal_is_refused(tmp_path: Path) -> None:
    for path, said in [(tmp_path, "Is a directory"), (tmp_path / "no" / "x", "No such file"), ("/dev/null", "not a regular file")]:
        with pytest.raises(UsageError, match=said):
            Journal(str(path), fsync=False)


def test_a_journal_has_one_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.journal.LOCK_TIMEOUT_SECONDS", 0.1)
    path = str(tmp_path / "journal")
    first = Journal(path, fsync=False)
    with pytest.raises(PipelineError, match=f"{path} is in use by process {os.getpid()}"):
        Journal(path, fsync=False)
    keep(first, 1, *FACTS)
    assert read_summary(path) is not None
    first.close()
    Journal(path, fsync=False).close()


def test_on_disk_is_first_the_output_then_the_entry_and_then_it_is_said(tmp_path: Path) -> None:
    kernel = FaultySyscalls()
    path = tmp_path / "journal"
    sizes: list[int] = []

    def sync() -> None:
        sizes.append(path.stat().st_size)
        kernel.calls.append("out")

    journal = Journal(str(path), fsync=True, syscalls=kernel, sync_outputs=sync)
    keep(journal, 1, *ENTRIES[0])
    kernel.calls.clear()
    keep(journal, 2, *ENTRIES[1])
    assert kernel.calls[0] == "out"
    assert kernel.calls[-1] == "sync"
    assert set(kernel.calls[1:-1]) == {"write"}
    assert sizes[0] == 0
    assert 0 < sizes[1] < path.stat().st_size


def test_what_comes_within_a_group_is_synced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.journal.SYNC_INTERVAL_SECONDS", PATIENCE / 30)
    kernel = FaultySyscalls()
    journal = Journal(str(tmp_path / "journal"), fsync=True, syscalls=kernel)
    assert keep(journal, 0, *ENTRIES[0]) == [Committed("journal", 0)]
    before, synced = kernel.calls.count("sync"), time.monotonic()
    for number, facts in enumerate(ENTRIES[1:], 1):
        journal.send(Port.JOURNAL, JournalEntry(number, facts))
        assert synced < journal.deadline <= synced + PATIENCE / 30
        if time.monotonic() < journal.deadline:
            assert journal.receive() == []
    assert receive_all(journal, 5)[-1] == Committed("journal", 5)
    assert kernel.calls.count("sync") <= before + 2


def test_a_full_disk_is_waited_for_and_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "RETRY_SECONDS", 0.01)
    kernel = FaultySyscalls()
    path = tmp_path / "journal"
    journal = Journal(str(path), fsync=True, syscalls=kernel)
    keep(journal, 0, *ENTRIES[0])
    size = path.stat().st_size
    kernel.is_full = True
    said: list[Message] = []
    for number, facts in enumerate(ENTRIES[1:], 1):
        tries = len(kernel.calls)
        journal.send(Port.JOURNAL, JournalEntry(number, facts))
        limit = time.monotonic() + PATIENCE
        while len(kernel.calls) == tries and time.monotonic() < limit:
            said += journal.receive()
    assert said == [Waiting("disk", f"{path}: No space left on device at byte {size}")]
    assert time.monotonic() - 1 < journal.deadline < NEVER
    assert path.stat().st_size == size
    kernel.is_full = False
    assert receive_all(journal, 5) == [Waiting("disk", active=False), Committed("journal", 5)]
    journal.close()
    assert facts_at(path) == FACTS


def play(path: Path, kernel: FaultySyscalls) -> list[Message]:
    """All entries through a journal whose kernel may fail; what it said."""
    try:
        journal = Journal(str(path), fsync=True, syscalls=kernel)
    except UsageError:
        return []
    said: list[Message] = []
    for number, facts in enumerate(ENTRIES):
        journal.send(Port.JOURNAL, JournalEntry(number, facts))
        if not any(isinstance(word, Committed) and word.failure for word in said):
            said += receive_all(journal, number)
    calls = len(kernel.calls)
    said += journal.receive()
    assert len(kernel.calls) == calls
    journal.close()
    return said


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_whichever_call_fails_what_was_said_is_there(
    tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SQLite way: fail the first call, the second, and so on until none is left to fail."""
    monkeypatch.setattr(kernels, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr("pipeline.storage.journal.SYNC_INTERVAL_SECONDS", 0.0)
    for kth in count(1):
        path = tmp_path / f"{kth}"
        kernel = FaultySyscalls(kth, error)
        said = play(path, kernel)
        durable = max((word.number for word in said if isinstance(word, Committed)), default=-1)
        failures = [word.failure for word in said if isinstance(word, Committed) and word.failure]
        known = facts_at(path) if path.exists() else []
        assert known == FACTS[: len(known)]
        assert len(known) >= sum(map(len, ENTRIES[: durable + 1]))
        failed = kernel.calls[kth - 1] if kernel.has_failed else ""
        waits = error == errno.ENOSPC and failed == "write"
        assert len(failures) == (failed in {"write", "sync"} and not waits)
        if failures:
            assert failures[0].startswith(f"{path}: {os.strerror(error)} at byte ")
            assert "sync" not in kernel.calls[kth:]
            assert isinstance(said[-1], Committed)
            assert said[-1].failure
        elif failed != "truncate":
            assert known == FACTS
        if not kernel.has_failed:
            assert kth > 10
            return


def test_a_fault_of_the_output_is_told_by_its_name(tmp_path: Path) -> None:
    def fault() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/there/out")

    journal = Journal(str(tmp_path / "journal"), fsync=True, sync_outputs=fault)
    assert keep(journal, 1, *FACTS) == [Committed("journal", -1, "/there/out: Input/output error")]
    assert facts_at_none(journal)


def facts_at_none(journal: Journal) -> bool:
    """Whether it has kept nothing, and takes nothing more."""
    journal.send(Port.JOURNAL, JournalEntry(2, (SinkSuspended(),)))
    return journal.receive() == [] and list(journal.read_events()) == []


CHANGED = [line.upper() if number in {7, 40} else line for number, line in enumerate(LINES)]
SETTLED = TasksSettled(((4, 9),), (), is_spilled=False, sizes=(1,))
READ: list[tuple[JournalEvent, ...]] = [(marks(0, [5, 5, 10]),), (SETTLED,), (marks(20, [13, 7]),)]


def reread(path: Path, *facts: ChecksumsRecorded) -> tuple[list[Message], list[JournalEvent]]:
    """A sink that comes back is told of a reading; what the journal says, and what it notes."""
    journal = Journal(str(path), fsync=False)
    before = len(list(journal.read_events()))
    said = [word for number, fact in enumerate(facts) for word in keep(journal, number, fact)]
    noted = list(journal.read_events())[before:]
    journal.close()
    return [word for word in said if not isinstance(word, Committed)], noted


def test_the_same_input_read_again_is_the_same_however_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path, READ)
    assert reread(path, marks(0, [40])) == ([], [])
    assert reread(path, marks(0, [7]), marks(7, [33]), marks(40, [20])) == ([], [marks(40, [20])])
    assert reread(path, marks(0, [50]), marks(50, [10])) == ([], [])


def test_a_settled_task_that_has_changed_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path, READ)
    assert reread(path, marks(0, [40], CHANGED)) == ([InputChanged(7, 8)], [])
    assert reread(path, marks(0, [5], CHANGED), marks(5, [35], CHANGED)) == ([InputChanged(7, 8)], [])


def test_what_is_not_settled_may_change_and_is_then_as_it_was_read_last(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path, READ)
    later = [line.upper() if number in {25, 36} else line for number, line in enumerate(LINES)]
    assert reread(path, marks(0, [40], later)) == ([], [marks(25, [1], later), marks(36, [1], later)])
    assert reread(path, marks(0, [40], later)) == ([], [])
    written_more = Journal(str(path), fsync=False)
    keep(written_more, 1, TasksSettled(((24, 26),), (), is_spilled=False, sizes=()))
    written_more.close()
    assert reread(path, marks(0, [40], later)) == ([], [])
    assert reread(path, marks(0, [40])) == ([InputChanged(25, 26)], [])


def test_within_one_life_it_may_be_read_many_times(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), fsync=False)
    keep(journal, 0, marks(0, [10]), SETTLED)
    for number in range(1, 4):
        assert keep(journal, number, marks(0, [5])) == [Committed("journal", number)]
    assert keep(journal, 9, marks(0, [10], CHANGED)) == [InputChanged(7, 8), Committed("journal", 9)]


def test_checksums_that_are_not_on_disk_yet_count_too(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), fsync=False)
    facts: list[JournalEvent] = [marks(0, [10]), SETTLED, marks(0, [10], CHANGED), marks(10, [5])]
    for number, fact in enumerate(facts):
        journal.send(Port.JOURNAL, JournalEntry(number, (fact,)))
    assert receive_all(journal, 3) == [InputChanged(7, 8), Committed("journal", 3)]
    assert list(journal.read_events()) == [marks(0, [10]), SETTLED, marks(10, [5])]


def test_an_input_that_ended_earlier_is_recorded_from_there_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path, [*READ, (InputEnded(30, ""),)])
    assert reread(path, marks(0, [30])) == ([], [])
    assert reread(path, marks(0, [40])) == ([], [marks(at, [1]) for at in range(30, 40)])


def test_a_summary_for_who_looks(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert read_summary(str(path)) is None
    path.touch()
    assert read_summary(str(path)) is None
    written(path, ENTRIES[:5])
    begun = Journal(str(path), fsync=False)
    begun.close()
    assert read_summary(str(path)) == RunSummary("run", begun.started_at, 8, 0, 30, is_suspended=False, spilled=2)
    journal = Journal(str(path), fsync=False)
    keep(journal, 1, TasksSettled(((1, 2),), ((1, 2),), is_spilled=False, sizes=()), SinkSuspended())
    journal.close()
    assert read_summary(str(path)) == RunSummary("run", begun.started_at, 9, 1, 30, is_suspended=True, spilled=2)
    with pytest.raises(UsageError, match="Is a directory"):
        read_summary(str(tmp_path))


def test_a_person_reads_lines_with_tasks_from_one(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path)
    told = [json.loads(line) for line in to_json_lines(str(path))]
    assert [line["event"] for line in told] == ["journal", *(NAMES[type(fact)] for fact in FACTS)]
    assert told[4]["ranges"] == [[1, 3], [6, 9]]
    assert told[4]["failures"] == [[2, 2]]
    assert (told[5]["low"], told[5]["high"], told[5]["attempt"]) == (4, 4, 2)
    assert told[3]["first"] == 1
    assert [end for end, _ in told[3]["checksums"]] == list(range(1, 31))
    assert told[3]["checksums"][0] == [1, f"{zlib.crc32(LINES[0]):08x}"]
    with pytest.raises(UsageError, match="No such file"):
        list(to_json_lines(str(tmp_path / "none")))


def test_what_another_version_wrote_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(str(path), fsync=False)
    keep(journal, 1, SinkSuspended())
    journal._log.append(b"\x91\x91\xa5Never")
    journal.close()
    with pytest.raises(UsageError, match="was not written by this version of pipe"):
        facts_at(path)
