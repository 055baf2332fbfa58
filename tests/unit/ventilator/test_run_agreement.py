"""Which run it is, as ventilator and sink agree on it."""

from __future__ import annotations

from pipeline.model import errors
from pipeline.model.events import Reconnect
from pipeline.model.messages import MAX_ACK_ITEMS, Ack, StopRequest, VentilatorState
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.ventilator import SINK_LOST_STATE, RunAgreement

NONE = Ack("", -1, "", "one", 1, 0, (), -1, spill_full=False, resend=())
OURS = replace(NONE, run="r", last_state_number=1, fingerprint="print", number=2)
NOTHING, SOME = RangeSet(), RangeSet(((0, 4),))
FEEDING = VentilatorState("r", 0, "print", "feeding", -1, "")


def accord(*, confirmed: bool = False) -> RunAgreement:
    made = RunAgreement("r", "print", 0.0, peer_timeout=100.0)
    made.is_confirmed = confirmed
    return made


def test_every_saying_has_a_number_of_its_own() -> None:
    ours = accord()
    assert ours.announce() == [Send(Port.RESULTS, replace(FEEDING, number=1))]
    ours.on_end_of_input(7, "disk")
    ours.stop_request = StopRequest("soon", "^C")
    ended = VentilatorState("r", 2, "print", "ended", 7, "disk")
    assert ours.announce() == [Send(Port.RESULTS, ended), Send(Port.RESULTS, StopRequest("soon", "^C"))]


def test_a_sink_without_a_run_is_offered_this_one() -> None:
    ours = accord()
    assert not ours.accept_ack(NONE, 1.0)
    assert ours.conflict(NONE, NOTHING) is None
    assert ours.accept_ack(OURS, 2.0)
    assert ours.conflict(OURS, NOTHING) is None
    assert (ours.ventilator_state.run, ours.is_resumed, ours.last_ack_number) == ("r", False, 2)


def test_the_same_inputs_run_is_taken_up() -> None:
    ours = accord()
    assert ours.accept_ack(replace(OURS, run="older", low_watermark=3), 1.0)
    assert (ours.ventilator_state.run, ours.is_resumed) == ("older", True)


def test_a_finished_run_of_the_same_input_is_not_taken_up() -> None:
    ours = accord()
    over = replace(OURS, run="older", low_watermark=3, total=3)
    assert not ours.accept_ack(over, 1.0)
    assert (ours.ventilator_state.run, ours.conflict(over, NOTHING)) == ("r", None)


def test_where_records_are_compared_the_name_of_the_input_is_enough() -> None:
    later = replace(OURS, run="older", fingerprint="name:then")
    for read, agreed in ((-1, False), (0, True)):
        ours = RunAgreement("r", "name:now", 0.0, peer_timeout=100.0)
        assert ours.accept_ack(replace(later, checksum_watermark=read), 1.0) == agreed
    assert not RunAgreement("r", "other:then", 0.0, peer_timeout=100.0).accept_ack(
        replace(later, checksum_watermark=0), 1.0
    )


def test_a_run_that_was_confirmed_is_never_another() -> None:
    ours = accord(confirmed=True)
    other = replace(OURS, run="older")
    assert not ours.accept_ack(other, 1.0)
    assert (ours.ventilator_state.run, ours.conflict(other, NOTHING)) == ("r", (errors.INCOMPLETE, SINK_LOST_STATE))


def test_another_inputs_run_is_no_accord_unless_it_is_over() -> None:
    other = replace(OURS, run="older", fingerprint="other", low_watermark=3, total=9)
    ours = accord()
    assert not ours.accept_ack(other, 1.0)
    assert ours.conflict(other, NOTHING) == (errors.USAGE, "the sink is in the middle of a run of another input")
    assert ours.conflict(replace(other, total=-1), NOTHING) is not None
    assert ours.conflict(replace(other, total=3), NOTHING) is None


def test_a_sink_that_lost_what_it_had_settled_ends_the_run() -> None:
    ours = accord(confirmed=True)
    assert ours.conflict(replace(OURS, low_watermark=4), NOTHING) is None
    assert ours.conflict(replace(OURS, low_watermark=2), SOME) is None  # an older Ack of the same life, come late
    reborn = replace(OURS, epoch="two")
    assert ours.conflict(replace(reborn, low_watermark=4), SOME) is None
    assert ours.conflict(replace(reborn, epoch="three", low_watermark=3), SOME) == (errors.INCOMPLETE, SINK_LOST_STATE)
    assert ours.conflict(replace(NONE, epoch="four"), SOME) == (errors.INCOMPLETE, SINK_LOST_STATE)


def test_an_ack_that_lists_only_the_lowest_has_not_lost_the_others() -> None:
    ours = accord(confirmed=True)
    ranges = tuple((at, at + 1) for at in range(2, 2 + 2 * MAX_ACK_ITEMS, 2))
    settled = RangeSet([*ranges, (9 * MAX_ACK_ITEMS, 9 * MAX_ACK_ITEMS + 1)])
    assert ours.conflict(replace(OURS, epoch="two", ranges=ranges), settled) is None
    assert ours.conflict(replace(OURS, epoch="three", ranges=ranges[:-1]), settled) == (
        errors.INCOMPLETE,
        SINK_LOST_STATE,
    )
    gap = RangeSet([*settled, (1, 2)])  # below what is listed: lost
    assert ours.conflict(replace(OURS, epoch="four", ranges=ranges), gap) == (errors.INCOMPLETE, SINK_LOST_STATE)


def test_a_silent_sink_gets_new_sockets() -> None:
    ours = accord(confirmed=True)
    assert ours.on_interval(5.0, 5.0, is_starved=False) == [Send(Port.RESULTS, replace(FEEDING, number=1))]
    assert ours.on_interval(5.1, 5.0, is_starved=False) == [
        Send(Port.CONTROL, Reconnect()), Send(Port.RESULTS, Reconnect()), Send(Port.RESULTS, replace(FEEDING,
        number=2)),
    ]  # fmt: skip


def test_a_sink_that_does_not_hear_us_gets_a_new_socket_too() -> None:
    ours = accord()
    for now in (1.0, 3.0, 5.0, 7.0):
        ours.sink_monitor.record_message(now)
        ours.accept_ack(OURS, now)  # but always the same number
    assert ours.on_interval(6.1, 5.0, is_starved=False) == [Send(Port.RESULTS, Reconnect())]
    ours.accept_ack(replace(OURS, last_state_number=2), 7.0)
    ours.sink_monitor.record_message(12.0)
    assert ours.on_interval(12.0, 5.0, is_starved=False) == []
    assert ours.on_interval(12.1, 5.0, is_starved=False) == [Send(Port.RESULTS, Reconnect())]


def test_a_sink_is_given_up_after_patience_or_soon_if_an_end_is_wished_for() -> None:
    ours = accord()
    assert ours.sink_failure(1000.0, 2.0) is None  # never met
    ours.sink_monitor.record_message(1000.0)
    assert ours.sink_failure(1100.0, 2.0) is None
    assert ours.sink_failure(1100.1, 2.0) == (errors.INCOMPLETE, "the sink did not answer any more")
    ours.sink_monitor.record_message(1101.0)
    ours.stop_request = StopRequest("soon", "SIGTERM")
    assert ours.sink_failure(1103.0, 2.0) is None
    assert ours.sink_failure(1103.1, 2.0) == (errors.TERMINATED, "SIGTERM")


def test_it_says_that_the_input_is_silent_while_it_is_read() -> None:
    ours = accord(confirmed=True)
    ours.sink_monitor.record_message(1.0)
    assert ours.on_interval(1.0, 5.0, is_starved=True) == [
        Send(Port.RESULTS, replace(FEEDING, number=1, is_waiting_for_input=True))
    ]
    assert ours.on_interval(2.0, 5.0, is_starved=False) == [Send(Port.RESULTS, replace(FEEDING, number=2))]
    ours.on_end_of_input(3, "")
    assert not ours.on_interval(3.0, 5.0, is_starved=True)[0].message.is_waiting_for_input  # type: ignore[union-attr]
