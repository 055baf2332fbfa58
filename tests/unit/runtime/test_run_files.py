"""Output, spill and journal: what a run leaves, and what a restarted sink finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.settings import Settings
from pipeline.model.events import Committed, JournalEntry, WriteResult
from pipeline.model.journal_events import (
    JournalEvent,
    RunStarted,
    RunStopped,
    SinkSuspended,
    TasksReopened,
    TasksSettled,
)
from pipeline.model.messages import Result, TaskFailure
from pipeline.model.state_machine import Message, Port
from pipeline.runtime.run_files import RunFiles
from pipeline.runtime.stations import run_sink
from pipeline.sink.ledger import Ledger
from tests.support.processes import wait_until


def answer_of(opened: RunFiles, port: Port, word: Message) -> Message:
    """Return the adapter's one answer to this message."""
    received: list[Message] = []
    opened.adapters[port].send(port, word)

    def listen() -> bool:
        received.extend(opened.adapters[port].receive())
        return bool(received)

    wait_until(listen)
    return received[0]


def close(opened: RunFiles) -> None:
    for edge in opened.adapters.values():
        edge.close()


def write_result(opened: RunFiles, number: int, task: int, text: bytes, *notes: TaskFailure) -> tuple[int, ...]:
    """Write this result and return the sizes of the files."""
    result = Result("r", "ann", task, 1, text, len(text).to_bytes(4, "little"), b"", notes)
    written = answer_of(opened, Port.OUTPUT, WriteResult(number, result))
    assert isinstance(written, Committed)
    return written.sizes


def append_events(opened: RunFiles, number: int, *facts: JournalEvent) -> None:
    assert answer_of(opened, Port.JOURNAL, JournalEntry(number, facts)) == Committed("journal", number)


def started_run(folder: Path, **more: str) -> tuple[RunFiles, Settings]:
    """Return a run that has settled two tasks, the second as failed, and written a third."""
    settings = Settings(output=str(folder / "out"), **more)  # type: ignore[arg-type]
    opened = RunFiles(settings, None)
    sizes = write_result(opened, 1, 0, b"zero\n")
    append_events(opened, 1, RunStarted("r", "print"), TasksSettled(((0, 1),), (), is_spilled=False, sizes=sizes))
    sizes = write_result(opened, 2, 1, b"", TaskFailure(1, "exit", 1, "exit 1", "", 0))
    append_events(opened, 2, TasksSettled(((1, 2),), ((1, 2),), is_spilled=False, sizes=sizes))
    write_result(opened, 3, 2, b"two\n")
    close(opened)
    return opened, settings


def test_replacement_of_a_sink_that_was_about_to_exit_exits_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "pipe").mkdir(mode=0o700)
    _, settings = started_run(tmp_path, name="one")
    opened = RunFiles(settings, None)
    append_events(opened, 3, RunStopped("soon", "--halt soon,fail=1", 1), SinkSuspended())
    close(opened)
    (tmp_path / "pipe" / "one").mkdir(mode=0o700)
    assert run_sink(settings, lambda _: None, is_replacement=True) == 1


def test_output_after_last_event_is_truncated(tmp_path: Path) -> None:
    _, settings = started_run(tmp_path)
    assert (tmp_path / "out").read_bytes() == b"zero\ntwo\n"
    again = RunFiles(settings, None)
    ledger = Ledger(again.journal.read_events())
    again.restore(ledger)
    assert ledger.settled.ranges() == ((0, 2),)
    assert write_result(again, 1, 2, b"two\n") == (9,)
    assert (tmp_path / "out").read_bytes() == b"zero\ntwo\n"
    close(again)


def test_finished_run_leaves_output_only(tmp_path: Path) -> None:
    _, settings = started_run(tmp_path)
    again = RunFiles(settings, None)
    again.restore(Ledger(again.journal.read_events()))
    again.finish()
    close(again)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_journal_named_by_user_stays(tmp_path: Path) -> None:
    _, settings = started_run(tmp_path, journal=str(tmp_path / "journal"))
    again = RunFiles(settings, None)
    again.restore(Ledger(again.journal.read_events()))
    again.finish()
    close(again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "out"]


def test_resume_failed_reopens_failed_tasks(tmp_path: Path) -> None:
    _, settings = started_run(tmp_path)
    again = RunFiles(Settings(output=settings.output, resume_failed=True), None)
    ledger = Ledger(again.journal.read_events())
    again.restore(ledger)
    assert (ledger.settled.ranges(), ledger.failed_count) == (((0, 1),), 0)
    wait_until(lambda: Committed("journal", 0) in again.journal.receive())
    close(again)
    third = RunFiles(settings, None)
    assert [*third.journal.read_events()][-1] == TasksReopened(((1, 2),))  # so that a restarted sink reads it, too
    close(third)
