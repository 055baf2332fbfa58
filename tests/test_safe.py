"""Output, spill and journal as one: what a run leaves, and what the next life of its sink finds."""

from __future__ import annotations

from pathlib import Path

from orphans import until

from pipeline.safe import Safe
from pipeline.sink.ledger import Ledger
from pipeline.words.errands import Committed, Entry, Write
from pipeline.words.facts import Began, Fact, Reopened, Settled
from pipeline.words.messages import Result
from pipeline.words.parts import Note
from pipeline.words.settings import Settings
from pipeline.words.station import Message, Port


def answers(safe: Safe, port: Port, word: Message) -> Message:
    """The edge's one answer to this."""
    heard: list[Message] = []
    safe.edges[port].send(port, word)

    def listen() -> bool:
        heard.extend(safe.edges[port].receive())
        return bool(heard)

    until(listen)
    return heard[0]


def close(safe: Safe) -> None:
    for edge in safe.edges.values():
        edge.close()


def wrote(safe: Safe, number: int, task: int, text: bytes, *notes: Note) -> tuple[int, ...]:
    """Write this result; the sizes that are out then."""
    result = Result("r", "ann", task, 1, text, len(text).to_bytes(4, "little"), b"", notes)
    written = answers(safe, Port.OUTPUT, Write(number, result))
    assert isinstance(written, Committed)
    return written.sizes


def enter(safe: Safe, number: int, *facts: Fact) -> None:
    assert answers(safe, Port.JOURNAL, Entry(number, facts)) == Committed("journal", number)


def begun(folder: Path, **more: str) -> tuple[Safe, Settings]:
    """A run that has settled two of its tasks, the second failed, and written a third."""
    settings = Settings(output=str(folder / "out"), **more)  # type: ignore[arg-type]
    safe = Safe(settings, None)
    sizes = wrote(safe, 1, 0, b"zero\n")
    enter(safe, 1, Began("r", "print"), Settled(((0, 1),), (), spilled=False, sizes=sizes))
    sizes = wrote(safe, 2, 1, b"", Note(1, "exit", 1, "exit 1", "", 0))
    enter(safe, 2, Settled(((1, 2),), ((1, 2),), spilled=False, sizes=sizes))
    wrote(safe, 3, 2, b"two\n")
    close(safe)
    return safe, settings


def test_what_was_written_behind_the_last_fact_is_cut_off(tmp_path: Path) -> None:
    _, settings = begun(tmp_path)
    assert (tmp_path / "out").read_bytes() == b"zero\ntwo\n"
    again = Safe(settings, None)
    ledger = Ledger(again.journal.facts())
    again.restore(ledger)
    assert ledger.settled.ranges() == ((0, 2),)
    assert wrote(again, 1, 2, b"two\n") == (9,)
    assert (tmp_path / "out").read_bytes() == b"zero\ntwo\n"
    close(again)


def test_a_run_that_is_over_leaves_its_output_alone(tmp_path: Path) -> None:
    _, settings = begun(tmp_path)
    again = Safe(settings, None)
    again.restore(Ledger(again.journal.facts()))
    again.finish()
    close(again)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_journal_that_a_person_has_named_stays(tmp_path: Path) -> None:
    _, settings = begun(tmp_path, journal=str(tmp_path / "journal"))
    again = Safe(settings, None)
    again.restore(Ledger(again.journal.facts()))
    again.finish()
    close(again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "out"]


def test_what_had_failed_is_not_settled_any_more_where_it_is_to_be_done_again(tmp_path: Path) -> None:
    _, settings = begun(tmp_path)
    again = Safe(Settings(output=settings.output, resume_failed=True), None)
    ledger = Ledger(again.journal.facts())
    again.restore(ledger)
    assert (ledger.settled.ranges(), ledger.failed) == (((0, 1),), 0)
    until(lambda: Committed("journal", 0) in again.journal.receive())
    close(again)
    third = Safe(settings, None)
    assert [*third.journal.facts()][-1] == Reopened(((1, 2),))  # so that a sink that comes back knows it, too
    close(third)
