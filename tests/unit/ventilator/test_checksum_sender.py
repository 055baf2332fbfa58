"""Checksums of the input, sent until the sink has committed them."""

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


def checksums_of(first: int, count: int = 1, run: str = "r", acked_below: int = 0) -> Send:
    crcs = b"".join(crc(task) for task in range(first, first + count))
    return Send(Port.RESULTS, InputChecksums(run, "v", acked_below, first, count, crcs))


def crc(*tasks: int) -> bytes:
    return zlib.crc32(b"".join(b"%d\n" % task for task in tasks)).to_bytes(4, "little")


def make_sender() -> ChecksumSender:
    sender = ChecksumSender("v", RecordFormat())
    sender.on_ack(ACK)
    return sender


def test_checksums_without_journal_are_not_sent() -> None:
    for ack in (None, replace(ACK, checksum_watermark=-1)):
        sender = ChecksumSender("v", RecordFormat())
        if ack:
            sender.on_ack(ack)
        assert sender.add(records(0), "r") == []
        sender.on_ack(ACK)
        assert sender.resend("r") == []


def test_checksums_are_resent_until_acked() -> None:
    sender = make_sender()
    assert sender.add(records(0, 3), "r") == [checksums_of(0, 3)]
    assert sender.add(records(3), "r") == [checksums_of(3)]
    assert sender.resend("r") == sender.resend("r") == [checksums_of(0, 3), checksums_of(3)]
    sender.on_ack(replace(ACK, checksum_watermark=3))
    assert sender.resend("r") == [checksums_of(3, acked_below=3)]
    sender.on_ack(replace(ACK, checksum_watermark=9))
    assert sender.resend("r") == []


def test_checksums_partly_acked_are_resent() -> None:
    sender = make_sender()
    sender.add(records(0, 3), "r")
    sender.on_ack(replace(ACK, checksum_watermark=2))
    assert sender.resend("r") == [checksums_of(0, 3)]


def test_checksums_acked_for_other_epoch_are_resent() -> None:
    sender = make_sender()
    sender.add(records(0, 3), "r")
    sender.on_ack(replace(ACK, ventilator_epoch="former", checksum_watermark=9))
    assert sender.resend("r") == [checksums_of(0, 3)]


def test_resend_uses_current_run_and_is_limited() -> None:
    sender = make_sender()
    for task in range(MAX_RESENT_CHECKSUMS + 1):
        sender.add(records(task), "")
    assert sender.resend("r") == [checksums_of(task) for task in range(MAX_RESENT_CHECKSUMS)]
    assert len(sender.resend("s")) == MAX_RESENT_CHECKSUMS
    assert sender.resend("s")[0] == checksums_of(0, run="s")


def test_restarted_sink_gets_unacked_checksums() -> None:
    sender = make_sender()
    sender.add(records(0, 3), "r")
    sender.add(records(3), "r")
    sender.on_ack(replace(ACK, checksum_watermark=3))
    restarted = replace(ACK, epoch="two", ventilator_epoch="", checksum_watermark=0)
    assert sender.on_ack(restarted) == [
        checksums_of(3, acked_below=3)
    ]  # the sink process before has committed the rest
    assert sender.on_ack(restarted) == []
    assert sender.resend("r") == [checksums_of(3, acked_below=3)]


def test_restarted_sink_gets_last_checksums_if_all_acked() -> None:
    sender = make_sender()
    sender.add(records(0, 3), "r")
    sender.add(records(3), "r")
    sender.on_ack(replace(ACK, checksum_watermark=4))
    assert sender.resend("r") == []
    assert sender.on_ack(replace(ACK, epoch="two", ventilator_epoch="", checksum_watermark=0)) == [
        checksums_of(3, acked_below=3)
    ]
    assert sender.resend("r") == [checksums_of(3, acked_below=3)]
    sender.on_ack(replace(ACK, epoch="two", checksum_watermark=4))
    assert sender.resend("r") == []


def add_and_unpack(sender: ChecksumSender, first: int, count: int) -> list[tuple[int, int, bytes]]:
    messages = [send.message for send in sender.add(records(first, count), "r")]
    return [
        (message.first, message.count, message.checksums) for message in messages if isinstance(message, InputChecksums)
    ]


def test_records_after_the_first_share_group_checksums() -> None:
    sender, first, end = make_sender(), EXACT + 2, EXACT + 2 * GROUP + 3
    sender.add(records(0, first), "r")
    full_groups = crc(*range(EXACT, EXACT + GROUP)) + crc(*range(EXACT + GROUP, EXACT + 2 * GROUP))
    assert add_and_unpack(sender, first, end - first) == [
        (first, end - first, full_groups + crc(end - 3, end - 2, end - 1))
    ]
    assert add_and_unpack(sender, end, 1) == [(end, 1, crc(end - 3, end - 2, end - 1, end))]


def test_checksums_end_where_earlier_reader_ended() -> None:
    sender, end = make_sender(), EXACT + 5
    sender.on_ack(replace(ACK, ventilator_epoch="former", checksum_watermark=3, recorded=end))
    sender.on_ack(replace(ACK, ventilator_epoch="former", checksum_watermark=2, recorded=2))  # an older Ack
    sender.add(records(0, EXACT), "r")
    assert add_and_unpack(sender, EXACT, 9) == [
        (EXACT, 5, crc(*range(EXACT, end))),
        (end, 4, crc(*range(EXACT, end + 4))),
    ]


def test_incomplete_group_needs_records_to_compare() -> None:
    sender = make_sender()
    sender.on_ack(replace(ACK, recorded=EXACT + GROUP + 5))
    assert sender.needed == 0
    sender.add(records(0, EXACT), "r")
    assert (sender.needed, sender.comparable(EXACT)) == (0, EXACT)
    sender.add(records(EXACT, 1), "r")
    assert (sender.needed, sender.comparable(EXACT + 1)) == (EXACT + GROUP, EXACT)
    sender.add(records(EXACT + 1, GROUP), "r")
    assert sender.needed == EXACT + GROUP + 5
    sender.add(records(EXACT + GROUP + 1, 4), "r")
    assert (sender.needed, sender.comparable(EXACT + GROUP + 5)) == (0, EXACT + GROUP + 5)


def test_checksum_of_group_without_start_is_unknown() -> None:
    sender, first = make_sender(), EXACT + 3
    assert add_and_unpack(sender, first, GROUP) == [
        (first, GROUP, bytes(4) + crc(*range(EXACT + GROUP, first + GROUP)))
    ]
