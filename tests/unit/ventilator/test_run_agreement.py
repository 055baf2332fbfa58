"""Agreement between ventilator and sink on the run."""

from __future__ import annotations

from pipeline.model import errors
from pipeline.model.events import Reconnect
from pipeline.model.messages import MAX_ACK_ITEMS, Ack, StopRequest, VentilatorState
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.ventilator import SINK_LOST_STATE, RunAgreement

NO_RUN_ACK = Ack("", -1, "", "one", 1, 0, (), -1, spill_full=False, resend=())
ACK = replace(NO_RUN_ACK, run="r", last_state_number=1, fingerprint="print", number=2)
NONE_SETTLED, SOME_SETTLED = RangeSet(), RangeSet(((0, 4),))
STATE = VentilatorState("r", 0, "print", "feeding", -1, "")


def make_agreement(*, is_confirmed: bool = False) -> RunAgreement:
    agreement = RunAgreement("r", "print", 0.0, peer_timeout=100.0)
    agreement.is_confirmed = is_confirmed
    return agreement


def test_announce_numbers_each_state() -> None:
    agreement = make_agreement()
    assert agreement.announce() == [Send(Port.RESULTS, replace(STATE, number=1))]
    agreement.on_end_of_input(7, "disk")
    agreement.stop_request = StopRequest("soon", "^C")
    ended_state = VentilatorState("r", 2, "print", "ended", 7, "disk")
    assert agreement.announce() == [Send(Port.RESULTS, ended_state), Send(Port.RESULTS, StopRequest("soon", "^C"))]


def test_sink_without_run_adopts_proposed_run() -> None:
    agreement = make_agreement()
    assert not agreement.accept_ack(NO_RUN_ACK, 1.0)
    assert agreement.conflict(NO_RUN_ACK, NONE_SETTLED) is None
    assert agreement.accept_ack(ACK, 2.0)
    assert agreement.conflict(ACK, NONE_SETTLED) is None
    assert (agreement.ventilator_state.run, agreement.is_resumed, agreement.last_ack_number) == ("r", False, 2)


def test_unfinished_run_of_same_input_is_resumed() -> None:
    agreement = make_agreement()
    assert agreement.accept_ack(replace(ACK, run="older", low_watermark=3), 1.0)
    assert (agreement.ventilator_state.run, agreement.is_resumed) == ("older", True)


def test_finished_run_of_same_input_is_not_resumed() -> None:
    agreement = make_agreement()
    finished = replace(ACK, run="older", low_watermark=3, total=3)
    assert not agreement.accept_ack(finished, 1.0)
    assert (agreement.ventilator_state.run, agreement.conflict(finished, NONE_SETTLED)) == ("r", None)


def test_verified_input_is_resumed_by_name_alone() -> None:
    resumable = replace(ACK, run="older", fingerprint="name:then")
    for watermark, is_accepted in ((-1, False), (0, True)):
        agreement = RunAgreement("r", "name:now", 0.0, peer_timeout=100.0)
        assert agreement.accept_ack(replace(resumable, checksum_watermark=watermark), 1.0) == is_accepted
    assert not RunAgreement("r", "other:then", 0.0, peer_timeout=100.0).accept_ack(
        replace(resumable, checksum_watermark=0), 1.0
    )


def test_confirmed_run_is_never_replaced() -> None:
    agreement = make_agreement(is_confirmed=True)
    other_ack = replace(ACK, run="older")
    assert not agreement.accept_ack(other_ack, 1.0)
    assert (agreement.ventilator_state.run, agreement.conflict(other_ack, NONE_SETTLED)) == (
        "r",
        (errors.INCOMPLETE, SINK_LOST_STATE),
    )


def test_run_of_another_input_conflicts_unless_finished() -> None:
    other_ack = replace(ACK, run="older", fingerprint="other", low_watermark=3, total=9)
    agreement = make_agreement()
    assert not agreement.accept_ack(other_ack, 1.0)
    assert agreement.conflict(other_ack, NONE_SETTLED) == (
        errors.USAGE,
        f"the sink has an unfinished run of another input{errors.SAME_INPUT_HINT}",
    )
    assert agreement.conflict(replace(other_ack, total=-1), NONE_SETTLED) is not None
    assert agreement.conflict(replace(other_ack, total=3), NONE_SETTLED) is None


def test_sink_that_lost_settled_tasks_conflicts() -> None:
    agreement = make_agreement(is_confirmed=True)
    assert agreement.conflict(replace(ACK, low_watermark=4), NONE_SETTLED) is None
    assert (
        agreement.conflict(replace(ACK, low_watermark=2), SOME_SETTLED) is None
    )  # a late Ack of the same sink process
    restarted = replace(ACK, epoch="two")
    assert agreement.conflict(replace(restarted, low_watermark=4), SOME_SETTLED) is None
    assert agreement.conflict(replace(restarted, epoch="three", low_watermark=3), SOME_SETTLED) == (
        errors.INCOMPLETE,
        SINK_LOST_STATE,
    )
    assert agreement.conflict(replace(NO_RUN_ACK, epoch="four"), SOME_SETTLED) == (errors.INCOMPLETE, SINK_LOST_STATE)


def test_truncated_ack_has_not_lost_higher_tasks() -> None:
    agreement = make_agreement(is_confirmed=True)
    ranges = tuple((task, task + 1) for task in range(2, 2 + 2 * MAX_ACK_ITEMS, 2))
    settled = RangeSet([*ranges, (9 * MAX_ACK_ITEMS, 9 * MAX_ACK_ITEMS + 1)])
    assert agreement.conflict(replace(ACK, epoch="two", ranges=ranges), settled) is None
    assert agreement.conflict(replace(ACK, epoch="three", ranges=ranges[:-1]), settled) == (
        errors.INCOMPLETE,
        SINK_LOST_STATE,
    )
    gap = RangeSet([*settled, (1, 2)])  # below the listed ranges: lost
    assert agreement.conflict(replace(ACK, epoch="four", ranges=ranges), gap) == (errors.INCOMPLETE, SINK_LOST_STATE)


def test_silent_sink_is_reconnected_both_ways() -> None:
    agreement = make_agreement(is_confirmed=True)
    assert agreement.on_interval(5.0, 5.0, is_starved=False) == [Send(Port.RESULTS, replace(STATE, number=1))]
    assert agreement.on_interval(5.1, 5.0, is_starved=False) == [
        Send(Port.CONTROL, Reconnect()), Send(Port.RESULTS, Reconnect()), Send(Port.RESULTS, replace(STATE,
        number=2)),
    ]  # fmt: skip


def test_sink_without_delivery_is_reconnected() -> None:
    agreement = make_agreement()
    for now in (1.0, 3.0, 5.0, 7.0):
        agreement.sink_monitor.record_message(now)
        agreement.accept_ack(ACK, now)  # always with the same number
    assert agreement.on_interval(6.1, 5.0, is_starved=False) == [Send(Port.RESULTS, Reconnect())]
    agreement.accept_ack(replace(ACK, last_state_number=2), 7.0)
    agreement.sink_monitor.record_message(12.0)
    assert agreement.on_interval(12.0, 5.0, is_starved=False) == []
    assert agreement.on_interval(12.1, 5.0, is_starved=False) == [Send(Port.RESULTS, Reconnect())]


def test_silent_sink_fails_after_timeout_or_stop_request() -> None:
    agreement = make_agreement()
    assert agreement.sink_failure(1000.0, 2.0) is None  # never seen
    agreement.sink_monitor.record_message(1000.0)
    assert agreement.sink_failure(1100.0, 2.0) is None
    assert agreement.sink_failure(1100.1, 2.0) == (errors.INCOMPLETE, "the sink stopped responding")
    agreement.sink_monitor.record_message(1101.0)
    agreement.stop_request = StopRequest("soon", "SIGTERM")
    assert agreement.sink_failure(1103.0, 2.0) is None
    assert agreement.sink_failure(1103.1, 2.0) == (errors.TERMINATED, "SIGTERM")


def test_starved_ventilator_reports_waiting_for_input() -> None:
    agreement = make_agreement(is_confirmed=True)
    agreement.sink_monitor.record_message(1.0)
    assert agreement.on_interval(1.0, 5.0, is_starved=True) == [
        Send(Port.RESULTS, replace(STATE, number=1, is_waiting_for_input=True))
    ]
    assert agreement.on_interval(2.0, 5.0, is_starved=False) == [Send(Port.RESULTS, replace(STATE, number=2))]
    agreement.on_end_of_input(3, "")
    assert not agreement.on_interval(3.0, 5.0, is_starved=True)[0].message.is_waiting_for_input  # type: ignore[union-attr]
