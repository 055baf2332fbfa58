"""The journal: committed events survive crashes, damage, a full disk and failing calls."""

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
from pipeline.storage import disk_io
from pipeline.storage.journal import Journal
from pipeline.storage.journal_reader import NAMES, RunSummary, read_summary, to_json_lines
from pipeline.storage.null_journal import NullJournal
from tests.support.disk_writes import assert_not_written_to_disk
from tests.support.faulty_syscalls import FaultySyscalls

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_SECONDS = 30.0
LINES = [b"task %d is a line\n" % number for number in range(60)]


def checksums(first: int, sizes: list[int], texts: list[bytes] = LINES) -> ChecksumsRecorded:
    """Return the event for records read in chunks of these sizes; each record has a checksum."""
    count = sum(sizes)
    crcs = [zlib.crc32(text) for text in texts[first : first + count]]
    return ChecksumsRecorded(first, count, struct.pack(f"<{count}I", *crcs))


ENTRIES: list[tuple[JournalEvent, ...]] = [
    (RunStarted("run", "lines.txt 99"), CommandFixed("d1gest", "odd \udcff ümlaut")),
    (checksums(0, [10, 20]),),
    (TasksSettled(((0, 3), (5, 9)), ((1, 2),), is_spilled=False, sizes=(70, 12)), AttemptRange(3, 4, 2)),
    (TasksSettled(((12, 14),), (), is_spilled=True, sizes=()),),
    (TasksReopened(((1, 2),)), InputEnded(30, "")),
    (RunStopped("soon", "^C", 130), SinkSuspended()),
]
EVENTS = [event for entry in ENTRIES for event in entry]


def receive_all(journal: Journal, number: int) -> list[Message]:
    """Return the messages up to the commit of entry `number`, or a failure."""
    answers: list[Message] = []
    limit = time.monotonic() + TIMEOUT_SECONDS
    while not any(
        isinstance(message, Committed) and (message.number >= number or message.failure) for message in answers
    ):
        assert time.monotonic() < limit, answers
        answers += journal.receive()
    return answers


def commit(journal: Journal, number: int, *events: JournalEvent) -> list[Message]:
    """Send one entry and return the messages up to its commit."""
    journal.send(Port.JOURNAL, JournalEntry(number, events))
    return receive_all(journal, number)


def write_journal(path: Path, entries: list[tuple[JournalEvent, ...]] | None = None) -> list[int]:
    """Write a journal with these entries, one record each; return the offset of each end."""
    journal = Journal(str(path), fsync=False)
    ends = []
    for number, events in enumerate(ENTRIES if entries is None else entries):
        assert commit(journal, number, *events) == [Committed("journal", number)]
        ends.append(path.stat().st_size)
    journal.close()
    return ends


def events_at(path: Path) -> list[JournalEvent]:
    """Open the journal and return its events."""
    journal = Journal(str(path), fsync=False)
    try:
        return list(journal.read_events())
    finally:
        journal.close()


def test_journal_of_complete_run_is_not_written_to_disk(tmp_path: Path) -> None:
    def run() -> None:
        journal = Journal(str(tmp_path / "run.journal"), fsync=False)
        commit(journal, 1, *EVENTS)
        journal.remove()

    assert_not_written_to_disk(run)


def test_null_journal_commits_at_once() -> None:
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


@pytest.mark.parametrize("fsync", [False, True])
def test_committed_events_are_read_back(tmp_path: Path, *, fsync: bool) -> None:
    path = tmp_path / "journal"
    before = time.time()
    journal = Journal(str(path), fsync=fsync)
    assert journal.receive() == []
    assert list(journal.read_events()) == []
    for number, events in enumerate(ENTRIES):
        assert commit(journal, number, *events) == [Committed("journal", number)]
        assert journal.deadline == NEVER
    started_at = journal.started_at
    assert before <= started_at <= time.time()
    assert list(journal.read_events()) == EVENTS
    journal.close()
    journal.close()
    reopened = Journal(str(path), fsync=fsync)
    assert (list(reopened.read_events()), reopened.started_at, reopened.output_sizes) == (EVENTS, started_at, (70, 0))
    assert commit(reopened, 9, InputEnded(31, "x")) == [Committed("journal", 9)]
    reopened.close()
    assert events_at(path) == [*EVENTS, InputEnded(31, "x")]


def test_entries_of_one_turn_are_one_record(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    journal = Journal(str(tmp_path / "journal"), fsync=False, syscalls=syscalls)
    commit(journal, 0, *ENTRIES[0])
    writes = syscalls.calls.count("write")
    for number, events in enumerate(ENTRIES[1:], 1):
        journal.send(Port.JOURNAL, JournalEntry(number, events))
    assert receive_all(journal, 5) == [Committed("journal", 5)]
    joint_writes = syscalls.calls.count("write") - writes
    assert commit(journal, 6, SinkSuspended()) == [Committed("journal", 6)]
    assert joint_writes <= 2 * (
        syscalls.calls.count("write") - writes - joint_writes
    )  # each write is short and is continued


def test_empty_journal_is_removed_on_close(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), fsync=True)
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_remove_deletes_file(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), fsync=False)
    commit(journal, 1, *EVENTS)
    journal.remove()
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_truncated_journal_continues_after_last_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = write_journal(path)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        recovered = [event for end, events in zip(ends, ENTRIES, strict=True) for event in events if end <= size]
        journal = Journal(str(path), fsync=False)
        assert list(journal.read_events()) == recovered
        assert commit(journal, 1, SinkSuspended()) == [Committed("journal", 1)]
        journal.close()
        assert events_at(path) == [*recovered, SinkSuspended()]


def test_flipped_byte_is_refused_or_cut_at_end(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = write_journal(path)
    content = path.read_bytes()
    first = json.loads(next(to_json_lines(str(path))))["at"]
    offsets = [first, json.loads(list(to_json_lines(str(path)))[1])["at"], *ends[:-1]]
    for offset in range(len(content)):
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 1 << offset % 8]) + content[offset + 1 :])
        if offset >= offsets[-1]:
            assert events_at(path) == [event for events in ENTRIES[:-1] for event in events]
        elif offset < first:
            with pytest.raises(UsageError, match=r"is not a pipe journal|of version"):
                events_at(path)
        else:
            damaged = max(start for start in offsets if start <= offset)
            with pytest.raises(UsageError, match=f"{path} is damaged at byte {damaged}$"):
                events_at(path)
            assert path.stat().st_size == len(content)


@pytest.mark.parametrize("garbage", [b"\0" * 5000, b"\xc1\x9eLf" * 9, os.urandom(3000)])
def test_garbage_after_end_is_cut(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "journal"
    write_journal(path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + garbage)
    assert read_summary(str(path)) is not None
    assert path.stat().st_size == size + len(garbage)  # reading writes nothing
    assert events_at(path) == EVENTS
    assert path.stat().st_size == size


@pytest.mark.parametrize(
    ("text", "answers"),
    [(b"precious\n", "is not a pipe journal"), (b"pipe journal\x03more", "version 3, not 2")],
)
def test_other_file_is_refused_and_unchanged(tmp_path: Path, text: bytes, answers: str) -> None:
    path = tmp_path / "journal"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=answers):
        Journal(str(path), fsync=False)
    assert path.read_bytes() == text


def test_path_that_is_not_regular_is_refused(tmp_path: Path) -> None:
    for path, answers in [
        (tmp_path, "Is a directory"),
        (tmp_path / "no" / "x", "No such file"),
        ("/dev/null", "not a regular file"),
    ]:
        with pytest.raises(UsageError, match=answers):
            Journal(str(path), fsync=False)


def test_locked_journal_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.locked_files.LOCK_TIMEOUT_SECONDS", 0.1)
    path = str(tmp_path / "journal")
    first = Journal(path, fsync=False)
    with pytest.raises(PipelineError, match=f"{path} is in use by process {os.getpid()}"):
        Journal(path, fsync=False)
    commit(first, 1, *EVENTS)
    assert read_summary(path) is not None
    first.close()
    Journal(path, fsync=False).close()


def test_fsync_flushes_output_before_entry(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    path = tmp_path / "journal"
    sizes: list[int] = []

    def sync() -> None:
        sizes.append(path.stat().st_size)
        syscalls.calls.append("out")

    journal = Journal(str(path), fsync=True, syscalls=syscalls, sync_outputs=sync)
    commit(journal, 1, *ENTRIES[0])
    syscalls.calls.clear()
    commit(journal, 2, *ENTRIES[1])
    assert syscalls.calls[0] == "out"
    assert syscalls.calls[-1] == "sync"
    assert set(syscalls.calls[1:-1]) == {"write"}
    assert sizes[0] == 0
    assert 0 < sizes[1] < path.stat().st_size


def test_entries_within_sync_interval_share_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.journal.SYNC_INTERVAL_SECONDS", TIMEOUT_SECONDS / 30)
    syscalls = FaultySyscalls()
    journal = Journal(str(tmp_path / "journal"), fsync=True, syscalls=syscalls)
    assert commit(journal, 0, *ENTRIES[0]) == [Committed("journal", 0)]
    before, synced = syscalls.calls.count("sync"), time.monotonic()
    for number, events in enumerate(ENTRIES[1:], 1):
        journal.send(Port.JOURNAL, JournalEntry(number, events))
        assert synced < journal.deadline <= synced + TIMEOUT_SECONDS / 30
        if time.monotonic() < journal.deadline:
            assert journal.receive() == []
    assert receive_all(journal, 5)[-1] == Committed("journal", 5)
    assert syscalls.calls.count("sync") <= before + 2


def test_full_disk_is_awaited_and_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_io, "RETRY_SECONDS", 0.01)
    syscalls = FaultySyscalls()
    path = tmp_path / "journal"
    journal = Journal(str(path), fsync=True, syscalls=syscalls)
    commit(journal, 0, *ENTRIES[0])
    size = path.stat().st_size
    syscalls.is_full = True
    answers: list[Message] = []
    for number, events in enumerate(ENTRIES[1:], 1):
        calls = len(syscalls.calls)
        journal.send(Port.JOURNAL, JournalEntry(number, events))
        limit = time.monotonic() + TIMEOUT_SECONDS
        while len(syscalls.calls) == calls and time.monotonic() < limit:
            answers += journal.receive()
    assert answers == [Waiting("disk", f"{path}: No space left on device at byte {size}")]
    assert time.monotonic() - 1 < journal.deadline < NEVER
    assert path.stat().st_size == size
    syscalls.is_full = False
    assert receive_all(journal, 5) == [Waiting("disk", active=False), Committed("journal", 5)]
    journal.close()
    assert events_at(path) == EVENTS


def write_all(path: Path, syscalls: FaultySyscalls) -> list[Message]:
    """Send all entries to a journal whose calls may fail; return its messages."""
    try:
        journal = Journal(str(path), fsync=True, syscalls=syscalls)
    except UsageError:
        return []
    answers: list[Message] = []
    for number, events in enumerate(ENTRIES):
        journal.send(Port.JOURNAL, JournalEntry(number, events))
        if not any(isinstance(message, Committed) and message.failure for message in answers):
            answers += receive_all(journal, number)
    calls = len(syscalls.calls)
    answers += journal.receive()
    assert len(syscalls.calls) == calls
    journal.close()
    return answers


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_any_failing_call_keeps_committed_events(tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As SQLite does: fail the first call, then the second, and so on, until none fails."""
    monkeypatch.setattr(disk_io, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr("pipeline.storage.journal.SYNC_INTERVAL_SECONDS", 0.0)
    for failing_call in count(1):
        path = tmp_path / f"{failing_call}"
        syscalls = FaultySyscalls(failing_call, error)
        answers = write_all(path, syscalls)
        durable = max((message.number for message in answers if isinstance(message, Committed)), default=-1)
        failures = [message.failure for message in answers if isinstance(message, Committed) and message.failure]
        recovered = events_at(path) if path.exists() else []
        assert recovered == EVENTS[: len(recovered)]
        assert len(recovered) >= sum(map(len, ENTRIES[: durable + 1]))
        failed = syscalls.calls[failing_call - 1] if syscalls.has_failed else ""
        waits = error == errno.ENOSPC and failed == "write"
        assert len(failures) == (failed in {"write", "sync"} and not waits)
        if failures:
            assert failures[0].startswith(f"{path}: {os.strerror(error)} at byte ")
            assert "sync" not in syscalls.calls[failing_call:]
            assert isinstance(answers[-1], Committed)
            assert answers[-1].failure
        elif failed != "truncate":
            assert recovered == EVENTS
        if not syscalls.has_failed:
            assert failing_call > 10
            return


def test_failed_output_sync_names_its_file(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/there/out")

    journal = Journal(str(tmp_path / "journal"), fsync=True, sync_outputs=fail)
    assert commit(journal, 1, *EVENTS) == [Committed("journal", -1, "/there/out: Input/output error")]
    assert is_closed_and_empty(journal)


def is_closed_and_empty(journal: Journal) -> bool:
    """Return whether it has stored nothing and drops further entries."""
    journal.send(Port.JOURNAL, JournalEntry(2, (SinkSuspended(),)))
    return journal.receive() == [] and list(journal.read_events()) == []


CHANGED = [line.upper() if number in {7, 40} else line for number, line in enumerate(LINES)]
SETTLED = TasksSettled(((4, 9),), (), is_spilled=False, sizes=(1,))
READ_ENTRIES: list[tuple[JournalEvent, ...]] = [(checksums(0, [5, 5, 10]),), (SETTLED,), (checksums(20, [13, 7]),)]


def read_again(path: Path, *events: ChecksumsRecorded) -> tuple[list[Message], list[JournalEvent]]:
    """Reopen the journal and send these checksums; return its messages and its new events."""
    journal = Journal(str(path), fsync=False)
    before = len(list(journal.read_events()))
    answers = [message for number, event in enumerate(events) for message in commit(journal, number, event)]
    new_events = list(journal.read_events())[before:]
    journal.close()
    return [message for message in answers if not isinstance(message, Committed)], new_events


def test_same_input_is_equal_however_it_is_split(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write_journal(path, READ_ENTRIES)
    assert read_again(path, checksums(0, [40])) == ([], [])
    assert read_again(path, checksums(0, [7]), checksums(7, [33]), checksums(40, [20])) == ([], [checksums(40, [20])])
    assert read_again(path, checksums(0, [50]), checksums(50, [10])) == ([], [])


def test_changed_settled_task_is_reported_once(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write_journal(path, READ_ENTRIES)
    assert read_again(path, checksums(0, [40], CHANGED)) == ([InputChanged(7, 8)], [])
    assert read_again(path, checksums(0, [5], CHANGED), checksums(5, [35], CHANGED)) == ([InputChanged(7, 8)], [])


def test_changed_unsettled_task_is_recorded_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write_journal(path, READ_ENTRIES)
    later = [line.upper() if number in {25, 36} else line for number, line in enumerate(LINES)]
    assert read_again(path, checksums(0, [40], later)) == ([], [checksums(25, [1], later), checksums(36, [1], later)])
    assert read_again(path, checksums(0, [40], later)) == ([], [])
    written_more = Journal(str(path), fsync=False)
    commit(written_more, 1, TasksSettled(((24, 26),), (), is_spilled=False, sizes=()))
    written_more.close()
    assert read_again(path, checksums(0, [40], later)) == ([], [])
    assert read_again(path, checksums(0, [40])) == ([InputChanged(25, 26)], [])


def test_input_may_be_read_again_in_one_process(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), fsync=False)
    commit(journal, 0, checksums(0, [10]), SETTLED)
    for number in range(1, 4):
        assert commit(journal, number, checksums(0, [5])) == [Committed("journal", number)]
    assert commit(journal, 9, checksums(0, [10], CHANGED)) == [InputChanged(7, 8), Committed("journal", 9)]


def test_uncommitted_checksums_are_compared(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), fsync=False)
    events: list[JournalEvent] = [checksums(0, [10]), SETTLED, checksums(0, [10], CHANGED), checksums(10, [5])]
    for number, event in enumerate(events):
        journal.send(Port.JOURNAL, JournalEntry(number, (event,)))
    assert receive_all(journal, 3) == [InputChanged(7, 8), Committed("journal", 3)]
    assert list(journal.read_events()) == [checksums(0, [10]), SETTLED, checksums(10, [5])]


def test_longer_input_is_recorded_from_former_end(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write_journal(path, [*READ_ENTRIES, (InputEnded(30, ""),)])
    assert read_again(path, checksums(0, [30])) == ([], [])
    assert read_again(path, checksums(0, [40])) == ([], [checksums(offset, [1]) for offset in range(30, 40)])


def test_summary_counts_tasks(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert read_summary(str(path)) is None
    path.touch()
    assert read_summary(str(path)) is None
    write_journal(path, ENTRIES[:5])
    opened = Journal(str(path), fsync=False)
    opened.close()
    assert read_summary(str(path)) == RunSummary("run", opened.started_at, 8, 0, 30, is_suspended=False, spilled=2)
    journal = Journal(str(path), fsync=False)
    commit(journal, 1, TasksSettled(((1, 2),), ((1, 2),), is_spilled=False, sizes=()), SinkSuspended())
    journal.close()
    assert read_summary(str(path)) == RunSummary("run", opened.started_at, 9, 1, 30, is_suspended=True, spilled=2)
    with pytest.raises(UsageError, match="Is a directory"):
        read_summary(str(tmp_path))


def test_json_lines_number_tasks_from_one(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write_journal(path)
    lines = [json.loads(line) for line in to_json_lines(str(path))]
    assert [line["event"] for line in lines] == ["journal", *(NAMES[type(event)] for event in EVENTS)]
    assert lines[4]["ranges"] == [[1, 3], [6, 9]]
    assert lines[4]["failures"] == [[2, 2]]
    assert (lines[5]["low"], lines[5]["high"], lines[5]["attempt"]) == (4, 4, 2)
    assert lines[3]["first"] == 1
    assert [end for end, _ in lines[3]["checksums"]] == list(range(1, 31))
    assert lines[3]["checksums"][0] == [1, f"{zlib.crc32(LINES[0]):08x}"]
    with pytest.raises(UsageError, match="No such file"):
        list(to_json_lines(str(tmp_path / "none")))


def test_event_of_other_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(str(path), fsync=False)
    commit(journal, 1, SinkSuspended())
    journal._log.append(b"\x91\x91\xa5Never")
    journal.close()
    with pytest.raises(UsageError, match="was not written by this version of pipe"):
        events_at(path)
