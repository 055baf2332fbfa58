"""A worker's connections: silence, and what is made anew."""

from __future__ import annotations

from pipeline.words.errands import Connect
from pipeline.words.messages import Result, Welcome
from pipeline.words.notices import Waiting
from pipeline.words.parts import Recipe
from pipeline.words.station import Port, Send
from pipeline.worker.ties import Ties
from pipeline.worker.unanswered import Unanswered

DESK, CONTROL, RESULTS = (Send(port, Connect()) for port in (Port.DESK, Port.CONTROL, Port.RESULTS))
WELCOME = Welcome("r", "run", "", Recipe(), 1, "ipc://l", "ipc://s", "ipc://c", 1.0, 10.0)


def waiting(since: float) -> Unanswered:
    made = Unanswered()
    made.keep(Result("r", "ann", 0, 1, b"", b"\0\0\0\0", b"", ()), 1, since)
    return made


def test_the_sink_is_missed_only_in_a_run() -> None:
    ties = Ties(0.0, 100.0)
    assert (ties.deadline(joined=False), ties.tick(2.0, joined=False)) == (
        2.0,
        [Send(Port.TOLD, Waiting("ventilator"))],
    )
    assert ties.tick(2.0, joined=True) == [Send(Port.TOLD, Waiting("sink"))]


def test_to_join_is_to_connect_and_to_wait_from_now() -> None:
    ties = Ties(0.0, 100.0)
    assert ties.join(WELCOME, 50.0) == [
        Send(Port.RESULTS, Connect("ipc://s")), Send(Port.CONTROL, Connect("ipc://c")),
    ]  # fmt: skip
    ties.desk.heard(51.5)
    assert ties.deadline(joined=True) == 52.0


def test_patience_ends_with_the_name_of_the_silent() -> None:
    ties = Ties(0.0, 100.0)
    assert ties.lost(1000.0) == ""
    ties.desk.heard(1000.0)
    ties.sink.heard(1050.0)
    assert ties.lost(1100.0) == ""
    assert ties.lost(1100.1) == "the ventilator did not answer any more"
    ties.desk.heard(1150.0)
    assert ties.lost(1150.1) == "the sink did not answer any more"


def test_a_desk_without_welcome_for_three_intervals_is_made_anew() -> None:
    ties = Ties(0.0, 100.0)
    assert ties.repairs(3.0, 1.0, 10.0, None) == []
    assert ties.repairs(3.1, 1.0, 10.0, None) == [DESK]
    assert ties.repairs(4.0, 1.0, 10.0, None) == []


def test_control_without_ack_for_five_intervals_is_made_anew() -> None:
    ties = Ties(0.0, 100.0)
    ties.desk.heard(5.1)
    assert ties.repairs(5.1, 1.0, 10.0, None) == []
    assert ties.repairs(5.0, 1.0, 10.0, Unanswered()) == []
    assert ties.repairs(5.1, 1.0, 10.0, Unanswered()) == [CONTROL]


def test_results_without_answer_for_a_liveness_are_made_anew_while_acks_come() -> None:
    ties = Ties(0.0, 100.0)

    def repairs(now: float) -> list[Send]:
        ties.desk.heard(now)
        return ties.repairs(now, 1.0, 10.0, waiting(5.0))

    ties.sink.heard(15.0)
    assert repairs(15.0) == []
    assert repairs(15.1) == [RESULTS]
    ties.sink.heard(20.0)
    assert repairs(25.0) == []  # not twice in that time
    ties.sink.heard(25.0)
    assert repairs(25.2) == [RESULTS]
    assert repairs(36.0) == [CONTROL]  # no Acks: it is not the results that are silent
