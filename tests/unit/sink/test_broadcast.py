"""Acks of the sink."""

from __future__ import annotations

import pytest

from pipeline.config.option_types import parse_halt
from pipeline.model.journal_events import CommandFixed, InputEnded, JournalEvent, RunStarted, TasksSettled
from pipeline.model.messages import (
    MAX_ACK_ITEMS,
    Ack,
    AttemptRange,
    Heartbeat,
    InputChecksums,
    ResendRequest,
    RetryRange,
)
from pipeline.model.state_machine import NEVER, Port
from pipeline.model.structs import replace
from pipeline.sink.broadcast import MIN_ACK_INTERVAL_SECONDS, AckSender, ReportOptions
from pipeline.sink.ledger import Ledger, RunInfo
from pipeline.sink.peers import PeerTable
from pipeline.sink.retries import RetryPolicy, RetryQueue

HEARTBEAT = Heartbeat(
    worker="ann", number=3, run="r", digest="d", command="wc", slots=2, lane=1, last_sequence=0, credit_limit=4,
    unfinished=(),
    unacked=((7, 8),), last_ack_number=0, seconds_per_task=0.0, done_count=5,
)  # fmt: skip
ACK = Ack(
    "r", 4, "print", "one", 101, 2, ((3, 4),), 9, spill_full=False, resend=(ResendRequest("ann", 3, ((7, 8),)),),
    retries=(RetryRange(5, 6, 1, 0.0),), ventilator_epoch="v", checksum_watermark=0, digest="d", command="wc",
)  # fmt: skip
EVENTS: list[JournalEvent] = [
    RunStarted("r", "print"), CommandFixed("d", "wc"), TasksSettled(((0, 2),), ((1, 2),), is_spilled=False, sizes=()),
    TasksSettled(((3, 4),), (), is_spilled=True, sizes=()),
]  # fmt: skip


class Scenario:
    """Parts of a sink that an Ack reports."""

    def __init__(self, *events: JournalEvent, now: float = 0.0) -> None:
        self.ledger = Ledger(events)
        self.peers = PeerTable(self.ledger, 10.0, now)
        self.run_info = RunInfo(self.ledger, has_checksums=True)
        self.retry_queue = RetryQueue(RetryPolicy(retries=1))
        self.ack_sender = AckSender(self.ledger, "one", 100, now, ReportOptions())

    def ack(self, now: float, *, spill_full: bool = False) -> Ack:
        ack = self.ack_sender.make_ack(now, self.peers, self.run_info, self.retry_queue, spill_full=spill_full)
        assert ack.to == Port.CONTROL
        assert isinstance(ack.message, Ack)
        return ack.message


def make_scenario() -> Scenario:
    """Return one with three settled tasks, one of them spilled; a task to be retried; and the worker ann."""
    scenario = Scenario(*EVENTS)
    scenario.ledger.apply(InputEnded(9, ""))
    scenario.ledger.record_attempt(AttemptRange(5, 6, 1))
    scenario.retry_queue.schedule(AttemptRange(5, 6, 1), 0.0)
    scenario.run_info.on_checksums(InputChecksums("r", "v", 0, 0, 9, b""))
    scenario.peers.on_heartbeat(HEARTBEAT, 0.0)
    scenario.ack_sender.last_state_number = 4
    return scenario


def test_ack_contains_whole_ledger_and_new_number() -> None:
    scenario = make_scenario()
    assert scenario.ack(0.0) == ACK
    assert scenario.ack(1.0, spill_full=True) == replace(ACK, number=102, spill_full=True)


def test_ack_before_run_is_empty() -> None:
    assert Scenario().ack(0.0) == Ack(
        "", -1, "", "one", 101, 0, (), -1, spill_full=False, resend=(), checksum_watermark=0
    )


def test_ack_with_many_items_contains_lowest() -> None:
    scenario = Scenario(RunStarted("r", "print"))
    for task in range(0, 4 * (MAX_ACK_ITEMS + 9), 4):
        scenario.ledger.settled.add(task + 1, task + 2)
        scenario.ledger.record_attempt(AttemptRange(task + 3, task + 4, 1))
        scenario.retry_queue.schedule(AttemptRange(task + 3, task + 4, 1), 0.0)
    ack = scenario.ack(0.0)
    assert (len(ack.ranges), ack.ranges[-1]) == (MAX_ACK_ITEMS, (4 * MAX_ACK_ITEMS - 3, 4 * MAX_ACK_ITEMS - 2))
    assert (len(ack.retries), ack.retries[-1].high) == (MAX_ACK_ITEMS, 4 * MAX_ACK_ITEMS)


@pytest.mark.parametrize(
    ("text", "workers", "left"),
    [("now,fail=9", 1, 8), ("now,fail=9", 3, 2), ("now,fail=9", 20, 1), ("now,fail=1", 2, 0), ("now,done=50%", 1, -1)],
)
def test_ack_contains_each_workers_share_of_the_halt_events(text: str, workers: int, left: int) -> None:
    scenario = Scenario(*EVENTS)
    halt_condition = parse_halt(text)
    assert halt_condition
    scenario.ack_sender = AckSender(scenario.ledger, "one", 100, 0.0, ReportOptions(), halt_condition)
    for number in range(workers):
        scenario.peers.on_heartbeat(replace(HEARTBEAT, worker=f"w{number}"), 0.0)
    ack = scenario.ack(0.0)
    assert (ack.halt_event, ack.events_left) == (halt_condition.event, left)


def test_ack_is_immediate_when_idle_delayed_under_load() -> None:
    scenario = make_scenario()
    ack_sender = scenario.ack_sender
    assert ack_sender.next_ack_time == 0.0
    scenario.ack(1.0)
    assert ack_sender.next_ack_time == NEVER
    ack_sender.schedule_soon(1.001)
    ack_sender.schedule_soon(1.002)
    assert ack_sender.next_ack_time == 1.0 + MIN_ACK_INTERVAL_SECONDS
    scenario.ack(ack_sender.next_ack_time)
    ack_sender.schedule_soon(5.0)
    assert ack_sender.next_ack_time == 5.0


def test_ack_contains_report_options() -> None:
    scenario = Scenario(RunStarted("r", "print"))
    scenario.ack_sender = AckSender(
        scenario.ledger, "one", 100, 0.0, ReportOptions(collect_metrics=True, stream_output=True)
    )
    assert (scenario.ack(0.0).collect_metrics, scenario.ack(1.0).stream_output) == (True, True)
    assert not make_scenario().ack(0.0).collect_metrics
