"""What the sink says."""

from __future__ import annotations

from dataclasses import replace

from pipeline.audience import Audience
from pipeline.ledger import Ledger, Restored
from pipeline.messages import Ack, Again, Kill, Member, Pulse, Status
from pipeline.speech import COALESCED, Speech
from pipeline.station import NEVER, Port, Send

PULSE = Pulse(
    worker="ann", number=3, run="r", digest="d", command="wc", slots=2, lane=1, seen=0, allowed=4, holding=(),
    finished=((7, 8),), ack=0, pace=0.0, done=5,
)  # fmt: skip
ACK = Ack("r", 4, "print", "one", 101, 2, ((3, 4),), 1, 9, full=False, again=(Again("ann", 3, ((7, 8),)),))


def scene() -> tuple[Speech, Audience]:
    """A sink that has settled three tasks, one of them ahead of its turn, and has heard ann."""
    ledger = Ledger(Restored("r", "print", written=((0, 2),), spilled=((3, 4),), failed=1, total=9))
    audience = Audience(ledger, 10.0, 0.0)
    audience.pulsed(PULSE, 0.0)
    speech = Speech(ledger, "one", 100, 0.0)
    speech.heard = 4
    return speech, audience


def test_an_ack_is_the_whole_ledger_under_a_new_number() -> None:
    speech, audience = scene()
    assert speech.ack(0.0, audience, full=False) == Send(Port.CONTROL, ACK)
    assert speech.ack(1.0, audience, full=True) == Send(Port.CONTROL, replace(ACK, number=102, full=True))


def test_when_idle_news_are_said_at_once_and_under_load_together() -> None:
    speech, audience = scene()
    assert speech.due == 0.0
    speech.ack(1.0, audience, full=False)
    assert speech.due == NEVER
    speech.hurry(1.001)
    speech.hurry(1.002)
    assert speech.due == 1.0 + COALESCED
    speech.ack(speech.due, audience, full=False)
    speech.hurry(5.0)
    assert speech.due == 5.0


def test_status_is_the_whole_line() -> None:
    speech, audience = scene()
    members = (Member("ann", "wc", 2, 0, 5, 0.5),)
    status = Status("r", "ended", 3, 1, 9, 2, members, ())
    assert speech.status(0.5, audience, None, ordered=True) == status
    assert speech.status(0.5, audience, None, ordered=False) == replace(status, turn=-1)
    kill = Kill("r", "soon", "^C", 1)
    assert speech.status(0.5, audience, kill, ordered=False) == replace(
        status, turn=-1, state="soon", awaited=("ann", "ventilator")
    )


def test_before_the_end_of_the_input_it_is_feeding() -> None:
    ledger = Ledger(Restored("r", "print"))
    said = Speech(ledger, "one", 0, 0.0).status(0.0, Audience(ledger, 10.0, 0.0), None, ordered=True)
    assert said == Status("r", "feeding", 0, 0, -1, -1, (), ())
    ledger.total = 0
    said = Speech(ledger, "one", 0, 0.0).status(0.0, Audience(ledger, 10.0, 0.0), None, ordered=True)
    assert said == Status("r", "ended", 0, 0, 0, -1, (), ())
