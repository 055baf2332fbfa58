"""What the ventilator has told the sink: each a fact once, and true when the journal has it."""

from __future__ import annotations

from pipeline.model.checksums import EXACT, GROUP
from pipeline.model.events import JournalEntry
from pipeline.model.journal_events import ChecksumsRecorded, InputEnded, JournalEvent, RunStarted
from pipeline.model.messages import InputChecksums, VentilatorState
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.sink.ledger import Ledger, RunInfo

RUN = VentilatorState("r", 1, "print", "feeding", -1, "")


def entry(number: int, *facts: JournalEvent) -> list[Send]:
    return [Send(Port.JOURNAL, JournalEntry(number, facts))]


def scene(*facts: JournalEvent, marked: bool = True) -> tuple[RunInfo, Ledger]:
    ledger = Ledger([RunStarted("r", "print"), *facts])
    return RunInfo(ledger, has_checksums=marked), ledger


def read(first: int, count: int, reader: str = "v", since: int = 0) -> InputChecksums:
    return InputChecksums("r", reader, since, first, count, b"marks")


def durable(intake: RunInfo, ledger: Ledger, number: int) -> None:
    """The journal has it, as a sink is told."""
    intake.apply(ledger.commit(number))


def test_the_first_run_names_it_once() -> None:
    ledger = Ledger()
    intake = RunInfo(ledger, has_checksums=True)
    assert intake.start_run(RUN) == entry(1, RunStarted("r", "print"))
    assert intake.start_run(replace(RUN, run="s")) == []
    ledger.commit(1)
    assert (ledger.run, ledger.fingerprint) == ("r", "print")


def test_the_end_is_a_fact_once_unless_it_changes() -> None:
    intake, ledger = scene()
    ended = replace(RUN, state="ended", total=7)
    assert intake.on_end_of_input(ended) == entry(1, InputEnded(7, ""))
    assert intake.on_end_of_input(ended) == []
    ledger.commit(1)
    assert intake.on_end_of_input(ended) == []
    assert intake.on_end_of_input(replace(ended, total=9)) == entry(2, InputEnded(9, ""))
    ledger.commit(2)
    assert intake.on_end_of_input(replace(ended, total=9, reason="disk")) == entry(3, InputEnded(9, "disk"))


def test_without_a_journal_nobody_wants_marks_and_every_task_is_known() -> None:
    intake, _ = scene(marked=False)
    assert (intake.checksum_watermark, intake.is_announced(0, 1 << 60)) == (-1, True)
    assert intake.on_checksums(read(0, 4)) == []


def test_marks_become_facts_and_are_answered_when_the_journal_has_them() -> None:
    intake, ledger = scene()
    assert (intake.ventilator_epoch, intake.checksum_watermark, intake.is_announced(0, 1)) == ("", 0, False)
    assert intake.on_checksums(read(0, 4)) == entry(1, ChecksumsRecorded(0, 4, b"marks"))
    assert intake.on_checksums(read(4, 2)) == entry(2, ChecksumsRecorded(4, 2, b"marks"))
    assert (intake.ventilator_epoch, intake.checksum_watermark) == ("v", 0)
    assert (intake.is_announced(0, 6), intake.is_announced(6, 7)) == (True, False)
    durable(intake, ledger, 1)
    assert (intake.checksum_watermark, ledger.checksum_watermark) == (4, 4)
    durable(intake, ledger, 2)
    assert (intake.checksum_watermark, ledger.checksum_watermark) == (6, 6)


def test_what_is_said_twice_or_leaves_a_gap_is_not_taken() -> None:
    intake, _ = scene()
    assert intake.on_checksums(read(0, 4))
    assert intake.on_checksums(read(0, 4)) == []
    assert (
        intake.on_checksums(read(6, 2)) == []
    )  # 4 and 5 were lost on the way; they are said again, and this behind them
    assert not intake.is_announced(6, 8)
    assert intake.on_checksums(read(4, 2))
    assert intake.on_checksums(read(6, 2))
    assert intake.is_announced(6, 8)


def test_another_runs_marks_are_not_taken() -> None:
    intake, _ = scene()
    assert intake.on_checksums(replace(read(0, 4), run="x")) == []
    assert intake.ventilator_epoch == ""


def test_what_was_marked_before_is_taken_when_the_new_reader_has_been_compared_with_it() -> None:
    intake, ledger = scene()
    intake.on_checksums(read(0, 9))
    durable(intake, ledger, 1)
    assert intake.on_checksums(read(0, 12, "w")) == entry(2, ChecksumsRecorded(0, 12, b"marks"))
    assert (intake.ventilator_epoch, intake.checksum_watermark) == ("w", 0)
    assert (intake.is_announced(8, 9), intake.is_announced(9, 12), intake.is_announced(12, 13)) == (False, True, False)
    durable(intake, ledger, 2)
    assert (intake.checksum_watermark, ledger.checksum_watermark) == (12, 12)
    assert intake.is_announced(8, 9)


def test_of_an_input_that_is_another_one_nothing_more_is_taken() -> None:
    intake, _ = scene()
    intake.on_checksums(read(0, 9))
    intake.reject_input()
    assert not intake.is_announced(0, 1)


def test_marks_of_a_former_reader_that_come_late_to_the_journal_do_not_answer_for_the_new_one() -> None:
    intake, ledger = scene()
    intake.on_checksums(read(0, 4))
    intake.on_checksums(read(4, 5))
    intake.on_checksums(read(0, 2, "w"))
    for number, known in ((1, 4), (2, 9), (3, 9)):
        durable(intake, ledger, number)
        assert ledger.checksum_watermark == known
    assert intake.checksum_watermark == 2


def test_words_of_a_former_reader_that_come_late_change_nothing() -> None:
    intake, _ = scene()
    intake.on_checksums(read(0, 4))
    intake.on_checksums(read(0, 2, "w"))
    assert intake.on_checksums(read(0, 4)) == []
    assert intake.ventilator_epoch == "w"


def test_a_sink_that_comes_back_takes_results_when_somebody_tells_what_he_has_read() -> None:
    intake, _ = scene(ChecksumsRecorded(0, 5, b""))
    assert (intake.ventilator_epoch, intake.checksum_watermark, intake.is_announced(0, 5)) == ("", 0, False)


def test_a_reader_goes_on_with_a_sink_that_has_come_back_where_the_one_before_had_answered() -> None:
    intake, ledger = scene(ChecksumsRecorded(0, 5, b""))
    assert intake.on_checksums(read(5, 2, since=5)) == entry(1, ChecksumsRecorded(5, 2, b"marks"))
    assert (intake.is_announced(0, 5), intake.is_announced(5, 7), intake.is_announced(7, 8)) == (True, True, False)
    durable(intake, ledger, 1)
    assert intake.checksum_watermark == 7


def test_a_reader_whose_first_words_were_lost_is_not_answered_for_them() -> None:
    intake, _ = scene()
    assert intake.on_checksums(read(4, 2)) == []
    assert (intake.ventilator_epoch, intake.checksum_watermark, intake.is_announced(4, 6)) == ("", 0, False)
    assert intake.on_checksums(read(0, 4)) == entry(1, ChecksumsRecorded(0, 4, b"marks"))


def test_part_of_a_group_is_answered_for_only_where_the_record_ends_too() -> None:
    end = EXACT + GROUP + 9
    intake, ledger = scene(ChecksumsRecorded(0, end, b""))
    for number, (first, last, known) in enumerate(
        [(0, EXACT + 5, EXACT), (EXACT + 5, end - 1, EXACT + GROUP), (end - 1, end, end), (end, end + 1, end + 1)], 1
    ):
        assert intake.on_checksums(read(first, last - first))
        durable(intake, ledger, number)
        assert intake.checksum_watermark == known
        assert intake.is_announced(0, known)
        assert known >= end or not intake.is_announced(0, known + 1)


def test_input_that_has_become_shorter_is_marked_again_when_all_of_it_was_read() -> None:
    intake, ledger = scene(ChecksumsRecorded(0, EXACT + 9, b""))
    ended = replace(RUN, state="ended", total=EXACT + 5)
    intake.on_checksums(read(0, EXACT))
    assert intake.on_end_of_input(ended) == []
    intake.on_checksums(read(EXACT, 5))
    durable(intake, ledger, 2)
    assert (intake.checksum_watermark, intake.is_announced(EXACT, EXACT + 1)) == (EXACT, False)
    assert intake.on_end_of_input(ended) == entry(3, InputEnded(EXACT + 5, ""), ChecksumsRecorded(EXACT, 5, b"marks"))
    durable(intake, ledger, 3)
    assert (intake.checksum_watermark, ledger.checksum_watermark) == (EXACT + 5, EXACT + 5)
    assert intake.is_announced(EXACT, EXACT + 5)


def test_input_of_which_nothing_is_left_ends() -> None:
    intake, _ = scene(ChecksumsRecorded(0, 9, b""))
    assert intake.on_end_of_input(replace(RUN, state="ended", total=0)) == entry(1, InputEnded(0, ""))
