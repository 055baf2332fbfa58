"""What the sink says."""

from __future__ import annotations

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

PULSE = Heartbeat(
    worker="ann", number=3, run="r", digest="d", command="wc", slots=2, lane=1, last_sequence=0, credit_limit=4,
    unfinished=(),
    unacked=((7, 8),), last_ack_number=0, seconds_per_task=0.0, done_count=5,
)  # fmt: skip
ACK = Ack(
    "r", 4, "print", "one", 101, 2, ((3, 4),), 9, spill_full=False, resend=(ResendRequest("ann", 3, ((7, 8),)),),
    retries=(RetryRange(5, 6, 1, 0.0),), ventilator_epoch="v", checksum_watermark=0, digest="d", command="wc",
)  # fmt: skip
FACTS: list[JournalEvent] = [
    RunStarted("r", "print"), CommandFixed("d", "wc"), TasksSettled(((0, 2),), ((1, 2),), is_spilled=False, sizes=()),
    TasksSettled(((3, 4),), (), is_spilled=True, sizes=()),
]  # fmt: skip


class Scene:
    """What a sink has to say, and whom it has heard."""

    def __init__(self, *facts: JournalEvent, now: float = 0.0) -> None:
        self.ledger = Ledger(facts)
        self.audience = PeerTable(self.ledger, 10.0, now)
        self.intake = RunInfo(self.ledger, has_checksums=True)
        self.attempts = RetryQueue(RetryPolicy(retries=1))
        self.speech = AckSender(self.ledger, "one", 100, now, ReportOptions())

    def ack(self, now: float, *, full: bool = False) -> Ack:
        said = self.speech.make_ack(now, self.audience, self.intake, self.attempts, spill_full=full)
        assert said.to == Port.CONTROL
        assert isinstance(said.message, Ack)
        return said.message


def scene() -> Scene:
    """A sink that has settled three tasks, one of them ahead of its turn; one will be tried again; it has heard ann."""
    made = Scene(*FACTS)
    made.ledger.apply(InputEnded(9, ""))
    made.ledger.record_attempt(AttemptRange(5, 6, 1))
    made.attempts.schedule(AttemptRange(5, 6, 1), 0.0)
    made.intake.on_checksums(InputChecksums("r", "v", 0, 0, 9, b""))
    made.audience.on_heartbeat(PULSE, 0.0)
    made.speech.last_state_number = 4
    return made


def test_an_ack_is_the_whole_ledger_under_a_new_number() -> None:
    ours = scene()
    assert ours.ack(0.0) == ACK
    assert ours.ack(1.0, full=True) == replace(ACK, number=102, spill_full=True)


def test_before_there_is_a_run_an_ack_says_so() -> None:
    assert Scene().ack(0.0) == Ack("", -1, "", "one", 101, 0, (), -1, spill_full=False, resend=(), checksum_watermark=0)


def test_an_ack_has_room_for_the_lowest_only() -> None:
    ours = Scene(RunStarted("r", "print"))
    for task in range(0, 4 * (MAX_ACK_ITEMS + 9), 4):
        ours.ledger.settled.add(task + 1, task + 2)
        ours.ledger.record_attempt(AttemptRange(task + 3, task + 4, 1))
        ours.attempts.schedule(AttemptRange(task + 3, task + 4, 1), 0.0)
    said = ours.ack(0.0)
    assert (len(said.ranges), said.ranges[-1]) == (MAX_ACK_ITEMS, (4 * MAX_ACK_ITEMS - 3, 4 * MAX_ACK_ITEMS - 2))
    assert (len(said.retries), said.retries[-1].high) == (MAX_ACK_ITEMS, 4 * MAX_ACK_ITEMS)


def test_when_idle_news_are_said_at_once_and_under_load_together() -> None:
    ours = scene()
    speech = ours.speech
    assert speech.next_ack_time == 0.0
    ours.ack(1.0)
    assert speech.next_ack_time == NEVER
    speech.schedule_soon(1.001)
    speech.schedule_soon(1.002)
    assert speech.next_ack_time == 1.0 + MIN_ACK_INTERVAL_SECONDS
    ours.ack(speech.next_ack_time)
    speech.schedule_soon(5.0)
    assert speech.next_ack_time == 5.0


def test_what_the_sink_wants_of_each_task_is_in_each_ack() -> None:
    ours = Scene(RunStarted("r", "print"))
    ours.speech = AckSender(ours.ledger, "one", 100, 0.0, ReportOptions(collect_metrics=True, stream_output=True))
    assert (ours.ack(0.0).collect_metrics, ours.ack(1.0).stream_output) == (True, True)
    assert not scene().ack(0.0).collect_metrics
