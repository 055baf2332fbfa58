"""Output, spill and journal as one: what a run leaves, and what the next life of its sink finds."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.settings import Settings
from pipeline.model.events import Committed, JournalEntry, WriteResult
from pipeline.model.journal_events import JournalEvent, RunStarted, TasksReopened, TasksSettled
from pipeline.model.messages import Result, TaskFailure
from pipeline.model.state_machine import Message, Port
from pipeline.runtime.run_files import RunFiles
from pipeline.sink.ledger import Ledger
from tests.support.processes import wait_until


def answers(safe: RunFiles, port: Port, word: Message) -> Message:
    """The edge's one answer to this."""
    heard: list[Message] = []
    safe.adapters[port].send(port, word)

    def listen() -> bool:
        heard.extend(safe.adapters[port].receive())
        return bool(heard)

    wait_until(listen)
    return heard[0]


def close(safe: RunFiles) -> None:
    for edge in safe.adapters.values():
        edge.close()


def wrote(safe: RunFiles, number: int, task: int, text: bytes, *notes: TaskFailure) -> tuple[int, ...]:
    """Write this result; the sizes that are out then."""
    result = Result("r", "ann", task, 1, text, len(text).to_bytes(4, "little"), b"", notes)
    written = answers(safe, Port.OUTPUT, WriteResult(number, result))
    assert isinstance(written, Committed)
    return written.sizes


def enter(safe: RunFiles, number: int, *facts: JournalEvent) -> None:
    assert answers(safe, Port.JOURNAL, JournalEntry(number, facts)) == Committed("journal", number)


def begun(folder: Path, **more: str) -> tuple[RunFiles, Settings]:
    """A run that has settled two of its tasks, the second failed, and written a third."""
    settings = Settings(output=str(folder / "out"), **more)  # type: ignore[arg-type]
    safe = RunFiles(settings, None)
    sizes = wrote(safe, 1, 0, b"zero\n")
    enter(safe, 1, RunStarted("r", "print"), TasksSettled(((0, 1),), (), is_spilled=False, sizes=sizes))
    sizes = wrote(safe, 2, 1, b"", TaskFailure(1, "exit", 1, "exit 1", "", 0))
    enter(safe, 2, TasksSettled(((1, 2),), ((1, 2),), is_spilled=False, sizes=sizes))
    wrote(safe, 3, 2, b"two\n")
    close(safe)
    return safe, settings


def test_what_was_written_behind_the_last_fact_is_cut_off(tmp_path: Path) -> None:
    _, settings = begun(tmp_path)
    assert (tmp_path / "out").read_bytes() == b"zero\ntwo\n"
    again = RunFiles(settings, None)
    ledger = Ledger(again.journal.read_events())
    again.restore(ledger)
    assert ledger.settled.ranges() == ((0, 2),)
    assert wrote(again, 1, 2, b"two\n") == (9,)
    assert (tmp_path / "out").read_bytes() == b"zero\ntwo\n"
    close(again)


def test_a_run_that_is_over_leaves_its_output_alone(tmp_path: Path) -> None:
    _, settings = begun(tmp_path)
    again = RunFiles(settings, None)
    again.restore(Ledger(again.journal.read_events()))
    again.finish()
    close(again)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_journal_that_a_person_has_named_stays(tmp_path: Path) -> None:
    _, settings = begun(tmp_path, journal=str(tmp_path / "journal"))
    again = RunFiles(settings, None)
    again.restore(Ledger(again.journal.read_events()))
    again.finish()
    close(again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "out"]


def test_what_had_failed_is_not_settled_any_more_where_it_is_to_be_done_again(tmp_path: Path) -> None:
    _, settings = begun(tmp_path)
    again = RunFiles(Settings(output=settings.output, resume_failed=True), None)
    ledger = Ledger(again.journal.read_events())
    again.restore(ledger)
    assert (ledger.settled.ranges(), ledger.failed_count) == (((0, 1),), 0)
    wait_until(lambda: Committed("journal", 0) in again.journal.receive())
    close(again)
    third = RunFiles(settings, None)
    assert [*third.journal.read_events()][-1] == TasksReopened(
        ((1, 2),)
    )  # so that a sink that comes back knows it, too
    close(third)
