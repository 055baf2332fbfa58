"""Run id, checksums and end of input: each is journaled once and counts after the commit."""

from __future__ import annotations

from pipeline.model.checksums import EXACT, GROUP
from pipeline.model.events import JournalEntry
from pipeline.model.journal_events import ChecksumsRecorded, InputEnded, JournalEvent, RunStarted
from pipeline.model.messages import InputChecksums, VentilatorState
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.sink.ledger import Ledger, RunInfo

RUN = VentilatorState("r", 1, "print", "feeding", -1, "")


def entry(number: int, *events: JournalEvent) -> list[Send]:
    return [Send(Port.JOURNAL, JournalEntry(number, events))]


def make_run_info(*events: JournalEvent, has_checksums: bool = True) -> tuple[RunInfo, Ledger]:
    ledger = Ledger([RunStarted("r", "print"), *events])
    return RunInfo(ledger, has_checksums=has_checksums), ledger


def checksums_of(first: int, count: int, epoch: str = "v", acked_below: int = 0) -> InputChecksums:
    return InputChecksums("r", epoch, acked_below, first, count, b"crcs")


def commit(run_info: RunInfo, ledger: Ledger, number: int) -> None:
    """Commit the journal entries up to this number."""
    run_info.apply(ledger.commit(number))


def test_first_state_starts_run_once() -> None:
    ledger = Ledger()
    run_info = RunInfo(ledger, has_checksums=True)
    assert run_info.start_run(RUN) == entry(1, RunStarted("r", "print"))
    assert run_info.start_run(replace(RUN, run="s")) == []
    ledger.commit(1)
    assert (ledger.run, ledger.fingerprint) == ("r", "print")


def test_end_of_input_is_journaled_once_unless_changed() -> None:
    run_info, ledger = make_run_info()
    ended = replace(RUN, state="ended", total=7)
    assert run_info.on_end_of_input(ended) == entry(1, InputEnded(7, ""))
    assert run_info.on_end_of_input(ended) == []
    ledger.commit(1)
    assert run_info.on_end_of_input(ended) == []
    assert run_info.on_end_of_input(replace(ended, total=9)) == entry(2, InputEnded(9, ""))
    ledger.commit(2)
    assert run_info.on_end_of_input(replace(ended, total=9, reason="disk")) == entry(3, InputEnded(9, "disk"))


def test_without_journal_all_tasks_are_announced() -> None:
    run_info, _ = make_run_info(has_checksums=False)
    assert (run_info.checksum_watermark, run_info.is_announced(0, 1 << 60)) == (-1, True)
    assert run_info.on_checksums(checksums_of(0, 4)) == []


def test_checksums_raise_watermark_after_commit() -> None:
    run_info, ledger = make_run_info()
    assert (run_info.ventilator_epoch, run_info.checksum_watermark, run_info.is_announced(0, 1)) == ("", 0, False)
    assert run_info.on_checksums(checksums_of(0, 4)) == entry(1, ChecksumsRecorded(0, 4, b"crcs"))
    assert run_info.on_checksums(checksums_of(4, 2)) == entry(2, ChecksumsRecorded(4, 2, b"crcs"))
    assert (run_info.ventilator_epoch, run_info.checksum_watermark) == ("v", 0)
    assert (run_info.is_announced(0, 6), run_info.is_announced(6, 7)) == (True, False)
    commit(run_info, ledger, 1)
    assert (run_info.checksum_watermark, ledger.checksum_watermark) == (4, 4)
    commit(run_info, ledger, 2)
    assert (run_info.checksum_watermark, ledger.checksum_watermark) == (6, 6)


def test_checksums_repeated_or_after_gap_are_dropped() -> None:
    run_info, _ = make_run_info()
    assert run_info.on_checksums(checksums_of(0, 4))
    assert run_info.on_checksums(checksums_of(0, 4)) == []
    assert run_info.on_checksums(checksums_of(6, 2)) == []  # 4 and 5 were lost; they are repeated first
    assert not run_info.is_announced(6, 8)
    assert run_info.on_checksums(checksums_of(4, 2))
    assert run_info.on_checksums(checksums_of(6, 2))
    assert run_info.is_announced(6, 8)


def test_checksums_of_other_run_are_dropped() -> None:
    run_info, _ = make_run_info()
    assert run_info.on_checksums(replace(checksums_of(0, 4), run="x")) == []
    assert run_info.ventilator_epoch == ""


def test_new_epoch_is_announced_after_comparison() -> None:
    run_info, ledger = make_run_info()
    run_info.on_checksums(checksums_of(0, 9))
    commit(run_info, ledger, 1)
    assert run_info.on_checksums(checksums_of(0, 12, "w")) == entry(2, ChecksumsRecorded(0, 12, b"crcs"))
    assert (run_info.ventilator_epoch, run_info.checksum_watermark) == ("w", 0)
    assert (run_info.is_announced(8, 9), run_info.is_announced(9, 12), run_info.is_announced(12, 13)) == (
        False,
        True,
        False,
    )
    commit(run_info, ledger, 2)
    assert (run_info.checksum_watermark, ledger.checksum_watermark) == (12, 12)
    assert run_info.is_announced(8, 9)


def test_rejected_input_announces_no_task() -> None:
    run_info, _ = make_run_info()
    run_info.on_checksums(checksums_of(0, 9))
    run_info.reject_input()
    assert not run_info.is_announced(0, 1)


def test_late_commit_of_former_epoch_keeps_watermark() -> None:
    run_info, ledger = make_run_info()
    run_info.on_checksums(checksums_of(0, 4))
    run_info.on_checksums(checksums_of(4, 5))
    run_info.on_checksums(checksums_of(0, 2, "w"))
    for number, watermark in ((1, 4), (2, 9), (3, 9)):
        commit(run_info, ledger, number)
        assert ledger.checksum_watermark == watermark
    assert run_info.checksum_watermark == 2


def test_late_checksums_of_former_epoch_are_dropped() -> None:
    run_info, _ = make_run_info()
    run_info.on_checksums(checksums_of(0, 4))
    run_info.on_checksums(checksums_of(0, 2, "w"))
    assert run_info.on_checksums(checksums_of(0, 4)) == []
    assert run_info.ventilator_epoch == "w"


def test_restarted_sink_announces_no_task_yet() -> None:
    run_info, _ = make_run_info(ChecksumsRecorded(0, 5, b""))
    assert (run_info.ventilator_epoch, run_info.checksum_watermark, run_info.is_announced(0, 5)) == ("", 0, False)


def test_restarted_sink_continues_checksums_of_ventilator() -> None:
    run_info, ledger = make_run_info(ChecksumsRecorded(0, 5, b""))
    assert run_info.on_checksums(checksums_of(5, 2, acked_below=5)) == entry(1, ChecksumsRecorded(5, 2, b"crcs"))
    assert (run_info.is_announced(0, 5), run_info.is_announced(5, 7), run_info.is_announced(7, 8)) == (
        True,
        True,
        False,
    )
    commit(run_info, ledger, 1)
    assert run_info.checksum_watermark == 7


def test_checksums_after_lost_first_message_are_dropped() -> None:
    run_info, _ = make_run_info()
    assert run_info.on_checksums(checksums_of(4, 2)) == []
    assert (run_info.ventilator_epoch, run_info.checksum_watermark, run_info.is_announced(4, 6)) == ("", 0, False)
    assert run_info.on_checksums(checksums_of(0, 4)) == entry(1, ChecksumsRecorded(0, 4, b"crcs"))


def test_part_of_group_counts_only_at_recorded_end() -> None:
    end = EXACT + GROUP + 9
    run_info, ledger = make_run_info(ChecksumsRecorded(0, end, b""))
    for number, (first, last, watermark) in enumerate(
        [(0, EXACT + 5, EXACT), (EXACT + 5, end - 1, EXACT + GROUP), (end - 1, end, end), (end, end + 1, end + 1)], 1
    ):
        assert run_info.on_checksums(checksums_of(first, last - first))
        commit(run_info, ledger, number)
        assert run_info.checksum_watermark == watermark
        assert run_info.is_announced(0, watermark)
        assert watermark >= end or not run_info.is_announced(0, watermark + 1)


def test_shorter_input_repeats_last_checksums_at_end() -> None:
    run_info, ledger = make_run_info(ChecksumsRecorded(0, EXACT + 9, b""))
    ended = replace(RUN, state="ended", total=EXACT + 5)
    run_info.on_checksums(checksums_of(0, EXACT))
    assert run_info.on_end_of_input(ended) == []
    run_info.on_checksums(checksums_of(EXACT, 5))
    commit(run_info, ledger, 2)
    assert (run_info.checksum_watermark, run_info.is_announced(EXACT, EXACT + 1)) == (EXACT, False)
    assert run_info.on_end_of_input(ended) == entry(3, InputEnded(EXACT + 5, ""), ChecksumsRecorded(EXACT, 5, b"crcs"))
    commit(run_info, ledger, 3)
    assert (run_info.checksum_watermark, ledger.checksum_watermark) == (EXACT + 5, EXACT + 5)
    assert run_info.is_announced(EXACT, EXACT + 5)


def test_input_without_records_ends() -> None:
    run_info, _ = make_run_info(ChecksumsRecorded(0, 9, b""))
    assert run_info.on_end_of_input(replace(RUN, state="ended", total=0)) == entry(1, InputEnded(0, ""))
