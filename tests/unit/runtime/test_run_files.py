"""Output, spill and journal: what a run leaves, and what a restarted sink finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config.settings import Settings
from pipeline.model.errors import PipelineError
from pipeline.model.events import Committed, JournalEntry, WriteResult
from pipeline.model.journal_events import (
    InputEnded,
    JournalEvent,
    RunStarted,
    RunStopped,
    SinkSuspended,
    TasksReopened,
    TasksSettled,
)
from pipeline.model.messages import Result, TaskFailure
from pipeline.model.state_machine import Message, Port
from pipeline.model.structs import replace
from pipeline.runtime import stations
from pipeline.runtime.run_files import RunFiles
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


def write_result(opened: RunFiles, number: int, task: int, text: bytes, *notes: TaskFailure) -> tuple[int, ...]:
    """Write this result and return the sizes of the files."""
    result = Result("r", "ann", task, 1, text, len(text).to_bytes(4, "little"), b"", notes, 0, b"b" * len(notes))
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
    opened.close()
    return opened, settings


def test_replacement_of_a_sink_that_was_about_to_exit_exits_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "pipe").mkdir(mode=0o700)
    _, settings = started_run(tmp_path, name="one")
    opened = RunFiles(settings, None)
    append_events(opened, 3, RunStopped("soon", "--halt soon,fail=1", 1), SinkSuspended())
    opened.close()
    (tmp_path / "pipe" / "one").mkdir(mode=0o700)
    assert stations.run_sink(settings, lambda _: None, is_replacement=True) == 1


def test_output_after_last_event_is_truncated(tmp_path: Path) -> None:
    _, settings = started_run(tmp_path)
    assert (tmp_path / "out").read_bytes() == b"zero\ntwo\n"
    again = RunFiles(settings, None)
    ledger = Ledger(again.journal.read_events())
    again.restore(ledger)
    assert ledger.settled.ranges() == ((0, 2),)
    assert write_result(again, 1, 2, b"two\n") == (9,)
    assert (tmp_path / "out").read_bytes() == b"zero\ntwo\n"
    again.close()


def test_finished_run_leaves_output_only(tmp_path: Path) -> None:
    _, settings = started_run(tmp_path)
    again = RunFiles(settings, None)
    again.restore(Ledger(again.journal.read_events()))
    again.finish()
    again.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_journal_named_by_user_stays(tmp_path: Path) -> None:
    _, settings = started_run(tmp_path, journal=str(tmp_path / "journal"))
    again = RunFiles(settings, None)
    again.restore(Ledger(again.journal.read_events()))
    again.finish()
    again.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "out"]


def test_resume_failed_reopens_failed_tasks(tmp_path: Path) -> None:
    _, settings = started_run(tmp_path)
    again = RunFiles(Settings(output=settings.output, resume_failed=True), None)
    ledger = Ledger(again.journal.read_events())
    again.restore(ledger)
    assert (ledger.settled.ranges(), ledger.failed_count) == (((0, 1),), 0)
    wait_until(lambda: Committed("journal", 0) in again.journal.receive())
    again.close()
    third = RunFiles(settings, None)
    assert [*third.journal.read_events()][-1] == TasksReopened(((1, 2),))  # so that a restarted sink reads it, too
    third.close()


def test_sink_killed_after_reopening_failed_tasks_is_replaced(tmp_path: Path) -> None:
    failed = str(tmp_path / "failed")
    _, settings = started_run(tmp_path, failed=failed)
    again = RunFiles(replace(settings, resume_failed=True), None)
    again.restore(Ledger(again.journal.read_events()))
    wait_until(lambda: Committed("journal", 0) in again.journal.receive())
    again.close()
    third = RunFiles(settings, None)  # the file of failed tasks is empty now
    assert write_result(third, 1, 1, b"", TaskFailure(1, "exit", 1, "exit 1", "", 1))[1] > 0
    assert letters(tmp_path / "failed") == ["b"]
    third.close()


# --- dead letters that are read and written ----------------------------------------------------------


def started_round_trip(folder: Path) -> tuple[RunFiles, Settings]:
    """Return a run that reads the dead letters in bad, of which one has failed again, and its settings."""
    (folder / "target").write_text('{"task":"a"}\n{"task":"b"}\n')
    (folder / "target").chmod(0o600)
    (folder / "bad").symlink_to("target")
    bad = str(folder / "bad")
    settings = Settings(output=str(folder / "out"), files=(bad,), from_failed=True, failed=bad)
    opened = RunFiles(settings, None)
    sizes = write_result(opened, 1, 0, b"a\n")
    started = (RunStarted("r", "print"), InputEnded(2, ""))
    append_events(opened, 1, *started, TasksSettled(((0, 1),), (), is_spilled=False, sizes=sizes))
    sizes = write_result(opened, 2, 1, b"", TaskFailure(1, "exit", 1, "exit 1", "", 1))
    append_events(opened, 2, TasksSettled(((1, 2),), ((1, 2),), is_spilled=False, sizes=sizes))
    return opened, settings


def letters(path: Path) -> list[str]:
    return [json.loads(line)["task"] for line in path.read_text().splitlines()]


def test_new_dead_letters_replace_old_ones_at_the_end(tmp_path: Path) -> None:
    opened, _ = started_round_trip(tmp_path)
    new = tmp_path / "target.unfinished"
    assert (letters(tmp_path / "bad"), letters(new)) == (["a", "b"], ["b"])
    assert new.stat().st_mode & 0o777 == 0o600
    opened.finish()
    opened.close()
    assert letters(tmp_path / "target") == ["b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "out", "target"]
    assert (tmp_path / "bad").is_symlink()


def test_run_that_is_not_finished_keeps_old_dead_letters(tmp_path: Path) -> None:
    opened, settings = started_round_trip(tmp_path)
    opened.close()
    assert letters(tmp_path / "bad") == ["a", "b"]
    again = RunFiles(replace(settings, output="/dev/null"), None)  # without a journal, the new ones are taken over
    again.finish()
    again.close()
    assert (tmp_path / "target").read_text() == ""


@pytest.mark.parametrize("crash", ["before", "after"])
def test_crash_at_the_replacement_loses_no_dead_letter(tmp_path: Path, crash: str) -> None:
    opened, settings = started_round_trip(tmp_path)
    opened.close()
    if crash == "after":
        (tmp_path / "target.unfinished").rename(tmp_path / "target")
        (tmp_path / "target.unfinished").write_text("of another run\n")
    assert stations.finalize_run(settings) == 1
    assert letters(tmp_path / "target") == ["b"]


def test_second_run_of_the_same_dead_letters_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.locked_files.LOCK_TIMEOUT_SECONDS", 0.0)
    opened, settings = started_round_trip(tmp_path)
    with pytest.raises(PipelineError, match=r"target\.unfinished is in use by process"):
        RunFiles(replace(settings, output="/dev/null"), None)
    opened.finish()
    opened.close()
    assert letters(tmp_path / "target") == ["b"]
