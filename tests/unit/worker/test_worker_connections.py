"""A worker's connections: silence, and what is made anew."""

from __future__ import annotations

from pipeline.model.events import Reconnect, Waiting
from pipeline.model.messages import RecordFormat, Registration, Result
from pipeline.model.state_machine import Port, Send
from pipeline.worker.held_tasks import UnackedResults
from pipeline.worker.worker import Connections

DESK, CONTROL, RESULTS = (Send(port, Reconnect()) for port in (Port.REGISTRY, Port.CONTROL, Port.RESULTS))
WELCOME = Registration("r", "run", "", RecordFormat(), 1, "ipc://l", "ipc://s", "ipc://c", 1.0, 10.0)


def waiting(since: float) -> UnackedResults:
    made = UnackedResults()
    made.add(Result("r", "ann", 0, 1, b"", b"\0\0\0\0", b"", ()), 1, since)
    return made


def test_the_sink_is_missed_only_in_a_run() -> None:
    ties = Connections(0.0, 100.0)
    assert (ties.deadline(has_run=False), ties.tick(2.0, has_run=False)) == (
        2.0,
        [Send(Port.USER, Waiting("ventilator"))],
    )
    assert ties.tick(2.0, has_run=True) == [Send(Port.USER, Waiting("sink"))]


def test_to_join_is_to_connect_and_to_wait_from_now() -> None:
    ties = Connections(0.0, 100.0)
    assert ties.connect_sink(WELCOME, 50.0) == [
        Send(Port.RESULTS, Reconnect("ipc://s")), Send(Port.CONTROL, Reconnect("ipc://c")),
    ]  # fmt: skip
    ties.ventilator_monitor.record_message(51.5)
    assert ties.deadline(has_run=True) == 52.0


def test_patience_ends_with_the_name_of_the_silent() -> None:
    ties = Connections(0.0, 100.0)
    assert ties.timeout_reason(1000.0) == ""
    ties.ventilator_monitor.record_message(1000.0)
    ties.sink_monitor.record_message(1050.0)
    assert ties.timeout_reason(1100.0) == ""
    assert ties.timeout_reason(1100.1) == "the ventilator did not answer any more"
    ties.ventilator_monitor.record_message(1150.0)
    assert ties.timeout_reason(1150.1) == "the sink did not answer any more"


def test_a_desk_without_welcome_for_three_intervals_is_made_anew() -> None:
    ties = Connections(0.0, 100.0)
    assert ties.due_reconnects(3.0, 1.0, 10.0, None) == []
    assert ties.due_reconnects(3.1, 1.0, 10.0, None) == [DESK]
    assert ties.due_reconnects(4.0, 1.0, 10.0, None) == []


def test_control_without_ack_for_five_intervals_is_made_anew() -> None:
    ties = Connections(0.0, 100.0)
    ties.ventilator_monitor.record_message(5.1)
    assert ties.due_reconnects(5.1, 1.0, 10.0, None) == []
    assert ties.due_reconnects(5.0, 1.0, 10.0, UnackedResults()) == []
    assert ties.due_reconnects(5.1, 1.0, 10.0, UnackedResults()) == [CONTROL]


def test_results_without_answer_for_a_liveness_are_made_anew_while_acks_come() -> None:
    ties = Connections(0.0, 100.0)

    def repairs(now: float) -> list[Send]:
        ties.ventilator_monitor.record_message(now)
        return ties.due_reconnects(now, 1.0, 10.0, waiting(5.0))

    ties.sink_monitor.record_message(15.0)
    assert repairs(15.0) == []
    assert repairs(15.1) == [RESULTS]
    ties.sink_monitor.record_message(20.0)
    assert repairs(25.0) == []  # not twice in that time
    ties.sink_monitor.record_message(25.0)
    assert repairs(25.2) == [RESULTS]
    assert repairs(36.0) == [CONTROL]  # no Acks: it is not the results that are silent
