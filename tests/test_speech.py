"""What the sink says."""

from __future__ import annotations

from pipeline.sink.attempts import Attempts, Retrying
from pipeline.sink.audience import Audience
from pipeline.sink.intake import Intake
from pipeline.sink.ledger import Ledger
from pipeline.sink.speech import COALESCED, Speech, Wants
from pipeline.words.facts import Began, Commanded, Ended, Fact, Settled
from pipeline.words.messages import LISTED, Ack, Pulse, Read
from pipeline.words.parts import Again, Retry, Tried
from pipeline.words.station import NEVER, Port
from pipeline.words.structs import replace

PULSE = Pulse(
    worker="ann", number=3, run="r", digest="d", command="wc", slots=2, lane=1, seen=0, allowed=4, holding=(),
    finished=((7, 8),), ack=0, pace=0.0, done=5,
)  # fmt: skip
ACK = Ack(
    "r", 4, "print", "one", 101, 2, ((3, 4),), 9, full=False, again=(Again("ann", 3, ((7, 8),)),),
    retries=(Retry(5, 6, 1, 0.0),), reader="v", read=0, digest="d", command="wc",
)  # fmt: skip
FACTS: list[Fact] = [
    Began("r", "print"), Commanded("d", "wc"), Settled(((0, 2),), ((1, 2),), spilled=False, sizes=()),
    Settled(((3, 4),), (), spilled=True, sizes=()),
]  # fmt: skip


class Scene:
    """What a sink has to say, and whom it has heard."""

    def __init__(self, *facts: Fact, now: float = 0.0) -> None:
        self.ledger = Ledger(facts)
        self.audience = Audience(self.ledger, 10.0, now)
        self.intake = Intake(self.ledger, marked=True)
        self.attempts = Attempts(Retrying(retries=1))
        self.speech = Speech(self.ledger, "one", 100, now, Wants())

    def ack(self, now: float, *, full: bool = False) -> Ack:
        said = self.speech.ack(now, self.audience, self.intake, self.attempts, full=full)
        assert said.to == Port.CONTROL
        assert isinstance(said.message, Ack)
        return said.message


def scene() -> Scene:
    """A sink that has settled three tasks, one of them ahead of its turn; one will be tried again; it has heard ann."""
    made = Scene(*FACTS)
    made.ledger.apply(Ended(9, ""))
    made.ledger.again(Tried(5, 6, 1))
    made.attempts.wait(Tried(5, 6, 1), 0.0)
    made.intake.heard(Read("r", "v", 0, 0, 9, b""))
    made.audience.pulsed(PULSE, 0.0)
    made.speech.heard = 4
    return made


def test_an_ack_is_the_whole_ledger_under_a_new_number() -> None:
    ours = scene()
    assert ours.ack(0.0) == ACK
    assert ours.ack(1.0, full=True) == replace(ACK, number=102, full=True)


def test_before_there_is_a_run_an_ack_says_so() -> None:
    assert Scene().ack(0.0) == Ack("", -1, "", "one", 101, 0, (), -1, full=False, again=(), read=0)


def test_an_ack_has_room_for_the_lowest_only() -> None:
    ours = Scene(Began("r", "print"))
    for task in range(0, 4 * (LISTED + 9), 4):
        ours.ledger.settled.add(task + 1, task + 2)
        ours.ledger.again(Tried(task + 3, task + 4, 1))
        ours.attempts.wait(Tried(task + 3, task + 4, 1), 0.0)
    said = ours.ack(0.0)
    assert (len(said.ranges), said.ranges[-1]) == (LISTED, (4 * LISTED - 3, 4 * LISTED - 2))
    assert (len(said.retries), said.retries[-1].high) == (LISTED, 4 * LISTED)


def test_when_idle_news_are_said_at_once_and_under_load_together() -> None:
    ours = scene()
    speech = ours.speech
    assert speech.due == 0.0
    ours.ack(1.0)
    assert speech.due == NEVER
    speech.hurry(1.001)
    speech.hurry(1.002)
    assert speech.due == 1.0 + COALESCED
    ours.ack(speech.due)
    speech.hurry(5.0)
    assert speech.due == 5.0


def test_what_the_sink_wants_of_each_task_is_in_each_ack() -> None:
    ours = Scene(Began("r", "print"))
    ours.speech = Speech(ours.ledger, "one", 100, 0.0, Wants(account=True, live=True))
    assert (ours.ack(0.0).account, ours.ack(1.0).live) == (True, True)
    assert not scene().ack(0.0).account
