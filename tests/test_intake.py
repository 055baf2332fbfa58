"""What the ventilator has told the sink: each a fact once, and true when the journal has it."""

from __future__ import annotations

from pipeline.sink.intake import Intake
from pipeline.sink.ledger import Ledger
from pipeline.words.checksums import EXACT, GROUP
from pipeline.words.errands import Entry
from pipeline.words.facts import Began, Ended, Fact, Marked
from pipeline.words.messages import Read, Run
from pipeline.words.station import Port, Send
from pipeline.words.structs import replace

RUN = Run("r", 1, "print", "feeding", -1, "")


def entry(number: int, *facts: Fact) -> list[Send]:
    return [Send(Port.JOURNAL, Entry(number, facts))]


def scene(*facts: Fact, marked: bool = True) -> tuple[Intake, Ledger]:
    ledger = Ledger([Began("r", "print"), *facts])
    return Intake(ledger, marked=marked), ledger


def read(first: int, count: int, reader: str = "v", since: int = 0) -> Read:
    return Read("r", reader, since, first, count, b"marks")


def durable(intake: Intake, ledger: Ledger, number: int) -> None:
    """The journal has it, as a sink is told."""
    intake.learn(ledger.durable(number))


def test_the_first_run_names_it_once() -> None:
    ledger = Ledger()
    intake = Intake(ledger, marked=True)
    assert intake.named(RUN) == entry(1, Began("r", "print"))
    assert intake.named(replace(RUN, run="s")) == []
    ledger.durable(1)
    assert (ledger.run, ledger.fingerprint) == ("r", "print")


def test_the_end_is_a_fact_once_unless_it_changes() -> None:
    intake, ledger = scene()
    ended = replace(RUN, state="ended", total=7)
    assert intake.ended(ended) == entry(1, Ended(7, ""))
    assert intake.ended(ended) == []
    ledger.durable(1)
    assert intake.ended(ended) == []
    assert intake.ended(replace(ended, total=9)) == entry(2, Ended(9, ""))
    ledger.durable(2)
    assert intake.ended(replace(ended, total=9, reason="disk")) == entry(3, Ended(9, "disk"))


def test_without_a_journal_nobody_wants_marks_and_every_task_is_known() -> None:
    intake, _ = scene(marked=False)
    assert (intake.read, intake.told_of(0, 1 << 60)) == (-1, True)
    assert intake.heard(read(0, 4)) == []


def test_marks_become_facts_and_are_answered_when_the_journal_has_them() -> None:
    intake, ledger = scene()
    assert (intake.reader, intake.read, intake.told_of(0, 1)) == ("", 0, False)
    assert intake.heard(read(0, 4)) == entry(1, Marked(0, 4, b"marks"))
    assert intake.heard(read(4, 2)) == entry(2, Marked(4, 2, b"marks"))
    assert (intake.reader, intake.read) == ("v", 0)
    assert (intake.told_of(0, 6), intake.told_of(6, 7)) == (True, False)
    durable(intake, ledger, 1)
    assert (intake.read, ledger.read) == (4, 4)
    durable(intake, ledger, 2)
    assert (intake.read, ledger.read) == (6, 6)


def test_what_is_said_twice_or_leaves_a_gap_is_not_taken() -> None:
    intake, _ = scene()
    assert intake.heard(read(0, 4))
    assert intake.heard(read(0, 4)) == []
    assert intake.heard(read(6, 2)) == []  # 4 and 5 were lost on the way; they are said again, and this behind them
    assert not intake.told_of(6, 8)
    assert intake.heard(read(4, 2))
    assert intake.heard(read(6, 2))
    assert intake.told_of(6, 8)


def test_another_runs_marks_are_not_taken() -> None:
    intake, _ = scene()
    assert intake.heard(replace(read(0, 4), run="x")) == []
    assert intake.reader == ""


def test_what_was_marked_before_is_taken_when_the_new_reader_has_been_compared_with_it() -> None:
    intake, ledger = scene()
    intake.heard(read(0, 9))
    durable(intake, ledger, 1)
    assert intake.heard(read(0, 12, "w")) == entry(2, Marked(0, 12, b"marks"))
    assert (intake.reader, intake.read) == ("w", 0)
    assert (intake.told_of(8, 9), intake.told_of(9, 12), intake.told_of(12, 13)) == (False, True, False)
    durable(intake, ledger, 2)
    assert (intake.read, ledger.read) == (12, 12)
    assert intake.told_of(8, 9)


def test_of_an_input_that_is_another_one_nothing_more_is_taken() -> None:
    intake, _ = scene()
    intake.heard(read(0, 9))
    intake.refuse()
    assert not intake.told_of(0, 1)


def test_marks_of_a_former_reader_that_come_late_to_the_journal_do_not_answer_for_the_new_one() -> None:
    intake, ledger = scene()
    intake.heard(read(0, 4))
    intake.heard(read(4, 5))
    intake.heard(read(0, 2, "w"))
    for number, known in ((1, 4), (2, 9), (3, 9)):
        durable(intake, ledger, number)
        assert ledger.read == known
    assert intake.read == 2


def test_words_of_a_former_reader_that_come_late_change_nothing() -> None:
    intake, _ = scene()
    intake.heard(read(0, 4))
    intake.heard(read(0, 2, "w"))
    assert intake.heard(read(0, 4)) == []
    assert intake.reader == "w"


def test_a_sink_that_comes_back_takes_results_when_somebody_tells_what_he_has_read() -> None:
    intake, _ = scene(Marked(0, 5, b""))
    assert (intake.reader, intake.read, intake.told_of(0, 5)) == ("", 0, False)


def test_a_reader_goes_on_with_a_sink_that_has_come_back_where_the_one_before_had_answered() -> None:
    intake, ledger = scene(Marked(0, 5, b""))
    assert intake.heard(read(5, 2, since=5)) == entry(1, Marked(5, 2, b"marks"))
    assert (intake.told_of(0, 5), intake.told_of(5, 7), intake.told_of(7, 8)) == (True, True, False)
    durable(intake, ledger, 1)
    assert intake.read == 7


def test_a_reader_whose_first_words_were_lost_is_not_answered_for_them() -> None:
    intake, _ = scene()
    assert intake.heard(read(4, 2)) == []
    assert (intake.reader, intake.read, intake.told_of(4, 6)) == ("", 0, False)
    assert intake.heard(read(0, 4)) == entry(1, Marked(0, 4, b"marks"))


def test_part_of_a_group_is_answered_for_only_where_the_record_ends_too() -> None:
    end = EXACT + GROUP + 9
    intake, ledger = scene(Marked(0, end, b""))
    for number, (first, last, known) in enumerate(
        [(0, EXACT + 5, EXACT), (EXACT + 5, end - 1, EXACT + GROUP), (end - 1, end, end), (end, end + 1, end + 1)], 1
    ):
        assert intake.heard(read(first, last - first))
        durable(intake, ledger, number)
        assert intake.read == known
        assert intake.told_of(0, known)
        assert known >= end or not intake.told_of(0, known + 1)


def test_input_that_has_become_shorter_is_marked_again_when_all_of_it_was_read() -> None:
    intake, ledger = scene(Marked(0, EXACT + 9, b""))
    ended = replace(RUN, state="ended", total=EXACT + 5)
    intake.heard(read(0, EXACT))
    assert intake.ended(ended) == []
    intake.heard(read(EXACT, 5))
    durable(intake, ledger, 2)
    assert (intake.read, intake.told_of(EXACT, EXACT + 1)) == (EXACT, False)
    assert intake.ended(ended) == entry(3, Ended(EXACT + 5, ""), Marked(EXACT, 5, b"marks"))
    durable(intake, ledger, 3)
    assert (intake.read, ledger.read) == (EXACT + 5, EXACT + 5)
    assert intake.told_of(EXACT, EXACT + 5)


def test_input_of_which_nothing_is_left_ends() -> None:
    intake, _ = scene(Marked(0, 9, b""))
    assert intake.ended(replace(RUN, state="ended", total=0)) == entry(1, Ended(0, ""))
