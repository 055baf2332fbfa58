"""What the ventilator tells the sink of its input, until the sink has it for good."""

from __future__ import annotations

import zlib

from pipeline.model.checksums import EXACT, GROUP
from pipeline.model.events import RecordsRead
from pipeline.model.messages import Ack, InputChecksums, RecordFormat
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.dispatcher import MAX_RESENT_CHECKSUMS, ChecksumSender

ACK = Ack("r", 1, "print", "one", 2, 0, (), -1, spill_full=False, resend=(), ventilator_epoch="v", checksum_watermark=0)


def records(first: int, count: int = 1) -> RecordsRead:
    return RecordsRead(first, count, b"".join(b"%d\n" % task for task in range(first, first + count)))


def read(first: int, count: int = 1, run: str = "r", since: int = 0) -> Send:
    marks = b"".join(crc(task) for task in range(first, first + count))
    return Send(Port.RESULTS, InputChecksums(run, "v", since, first, count, marks))


def crc(*tasks: int) -> bytes:
    return zlib.crc32(b"".join(b"%d\n" % task for task in tasks)).to_bytes(4, "little")


def scene() -> ChecksumSender:
    made = ChecksumSender("v", RecordFormat())
    made.on_ack(ACK)
    return made


def test_a_sink_without_a_journal_wants_no_marks() -> None:
    for ack in (None, replace(ACK, checksum_watermark=-1)):
        marking = ChecksumSender("v", RecordFormat())
        if ack:
            marking.on_ack(ack)
        assert marking.add(records(0), "r") == []
        marking.on_ack(ACK)
        assert marking.resend("r") == []


def test_what_is_read_is_said_with_its_marks_and_again_until_it_is_answered() -> None:
    marking = scene()
    assert marking.add(records(0, 3), "r") == [read(0, 3)]
    assert marking.add(records(3), "r") == [read(3)]
    assert marking.resend("r") == marking.resend("r") == [read(0, 3), read(3)]
    marking.on_ack(replace(ACK, checksum_watermark=3))
    assert marking.resend("r") == [read(3, since=3)]
    marking.on_ack(replace(ACK, checksum_watermark=9))
    assert marking.resend("r") == []


def test_a_part_of_what_was_said_is_no_answer() -> None:
    marking = scene()
    marking.add(records(0, 3), "r")
    marking.on_ack(replace(ACK, checksum_watermark=2))
    assert marking.resend("r") == [read(0, 3)]


def test_an_answer_to_another_life_of_the_ventilator_is_none() -> None:
    marking = scene()
    marking.add(records(0, 3), "r")
    marking.on_ack(replace(ACK, ventilator_epoch="former", checksum_watermark=9))
    assert marking.resend("r") == [read(0, 3)]


def test_it_is_said_for_the_run_as_it_is_called_now_and_not_all_at_once() -> None:
    marking = scene()
    for task in range(MAX_RESENT_CHECKSUMS + 1):
        marking.add(records(task), "")
    assert marking.resend("r") == [read(task) for task in range(MAX_RESENT_CHECKSUMS)]
    assert len(marking.resend("s")) == MAX_RESENT_CHECKSUMS
    assert marking.resend("s")[0] == read(0, run="s")


def test_a_sink_that_comes_back_is_told_at_once_and_again_until_it_has_heard() -> None:
    marking = scene()
    marking.add(records(0, 3), "r")
    marking.add(records(3), "r")
    marking.on_ack(replace(ACK, checksum_watermark=3))
    back = replace(ACK, epoch="two", ventilator_epoch="", checksum_watermark=0)
    assert marking.on_ack(back) == [read(3, since=3)]  # what comes before was answered by the one before it
    assert marking.on_ack(back) == []
    assert marking.resend("r") == [read(3, since=3)]


def test_a_sink_that_comes_back_when_all_is_answered_is_told_the_last_again() -> None:
    marking = scene()
    marking.add(records(0, 3), "r")
    marking.add(records(3), "r")
    marking.on_ack(replace(ACK, checksum_watermark=4))
    assert marking.resend("r") == []
    assert marking.on_ack(replace(ACK, epoch="two", ventilator_epoch="", checksum_watermark=0)) == [read(3, since=3)]
    assert marking.resend("r") == [read(3, since=3)]
    marking.on_ack(replace(ACK, epoch="two", checksum_watermark=4))
    assert marking.resend("r") == []


def sent(marking: ChecksumSender, first: int, count: int) -> list[tuple[int, int, bytes]]:
    words = [send.message for send in marking.add(records(first, count), "r")]
    return [(word.first, word.count, word.checksums) for word in words if isinstance(word, InputChecksums)]


def test_records_after_the_first_ones_share_a_checksum_by_number() -> None:
    marking, first, end = scene(), EXACT + 2, EXACT + 2 * GROUP + 3
    marking.add(records(0, first), "r")
    whole = crc(*range(EXACT, EXACT + GROUP)) + crc(*range(EXACT + GROUP, EXACT + 2 * GROUP))
    assert sent(marking, first, end - first) == [(first, end - first, whole + crc(end - 3, end - 2, end - 1))]
    assert sent(marking, end, 1) == [(end, 1, crc(end - 3, end - 2, end - 1, end))]


def test_checksum_also_ends_where_the_record_of_an_earlier_reader_does() -> None:
    marking, end = scene(), EXACT + 5
    marking.on_ack(replace(ACK, ventilator_epoch="former", checksum_watermark=3, recorded=end))
    marking.on_ack(replace(ACK, ventilator_epoch="former", checksum_watermark=2, recorded=2))  # an older Ack
    marking.add(records(0, EXACT), "r")
    assert sent(marking, EXACT, 9) == [
        (EXACT, 5, crc(*range(EXACT, end))),
        (end, 4, crc(*range(EXACT, end + 4))),
    ]


def test_a_group_is_read_on_until_it_can_be_compared() -> None:
    marking = scene()
    marking.on_ack(replace(ACK, recorded=EXACT + GROUP + 5))
    assert marking.needed == 0
    marking.add(records(0, EXACT), "r")
    assert (marking.needed, marking.comparable(EXACT)) == (0, EXACT)
    marking.add(records(EXACT, 1), "r")
    assert (marking.needed, marking.comparable(EXACT + 1)) == (EXACT + GROUP, EXACT)
    marking.add(records(EXACT + 1, GROUP), "r")
    assert marking.needed == EXACT + GROUP + 5
    marking.add(records(EXACT + GROUP + 1, 4), "r")
    assert (marking.needed, marking.comparable(EXACT + GROUP + 5)) == (0, EXACT + GROUP + 5)


def test_checksum_of_a_group_whose_beginning_was_not_read_is_unknown() -> None:
    marking, first = scene(), EXACT + 3
    assert sent(marking, first, GROUP) == [(first, GROUP, bytes(4) + crc(*range(EXACT + GROUP, first + GROUP)))]
