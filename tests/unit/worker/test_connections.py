"""Connections of a worker: silence of its peers, and reconnects."""

from __future__ import annotations

from pipeline.model.events import Reconnect, Waiting
from pipeline.model.messages import RecordFormat, Registration, Result
from pipeline.model.state_machine import Port, Send
from pipeline.worker.held_tasks import UnackedResults
from pipeline.worker.worker import Connections

RECONNECT_REGISTRY, RECONNECT_CONTROL, RECONNECT_RESULTS = (
    Send(port, Reconnect()) for port in (Port.REGISTRY, Port.CONTROL, Port.RESULTS)
)
REGISTRATION = Registration("r", "run", "", RecordFormat(), 1, "ipc://l", "ipc://s", "ipc://c", 1.0, 10.0)


def unacked_since(sent_time: float) -> UnackedResults:
    results = UnackedResults()
    results.add(Result("r", "ann", 0, 1, b"", b"\0\0\0\0", b"", ()), 1, sent_time)
    return results


def test_sink_silence_is_reported_only_during_run() -> None:
    connections = Connections(0.0, 100.0)
    assert (connections.deadline, connections.tick(2.0)) == (2.0, [Send(Port.USER, Waiting("ventilator"))])
    connections.connect_sink(REGISTRATION, 0.0)
    assert connections.tick(2.0) == [Send(Port.USER, Waiting("sink"))]


def test_connect_sink_restarts_silence() -> None:
    connections = Connections(0.0, 100.0)
    assert connections.connect_sink(REGISTRATION, 50.0) == [
        Send(Port.RESULTS, Reconnect("ipc://s")), Send(Port.CONTROL, Reconnect("ipc://c")),
    ]  # fmt: skip
    connections.ventilator_monitor.record_message(51.5)
    assert connections.deadline == 52.0


def test_timeout_reason_names_silent_peer() -> None:
    connections = Connections(0.0, 100.0)
    assert connections.timeout_reason(1000.0) == ""
    connections.ventilator_monitor.record_message(1000.0)
    connections.sink_monitor.record_message(1050.0)
    assert connections.timeout_reason(1100.0) == ""
    assert connections.timeout_reason(1100.1) == "the ventilator stopped responding"
    connections.ventilator_monitor.record_message(1150.0)
    assert connections.timeout_reason(1150.1) == "the sink stopped responding"


def test_registry_silent_for_three_intervals_reconnects() -> None:
    connections = Connections(0.0, 100.0)
    assert connections.due_reconnects(3.0, 1.0, 10.0, UnackedResults()) == []
    assert connections.due_reconnects(3.1, 1.0, 10.0, UnackedResults()) == [RECONNECT_REGISTRY]
    assert connections.due_reconnects(4.0, 1.0, 10.0, UnackedResults()) == []


def test_control_silent_for_five_intervals_reconnects() -> None:
    connections = Connections(0.0, 100.0)
    connections.ventilator_monitor.record_message(5.1)
    assert connections.due_reconnects(5.1, 1.0, 10.0, UnackedResults()) == []
    connections.connect_sink(REGISTRATION, 0.0)
    assert connections.due_reconnects(5.0, 1.0, 10.0, UnackedResults()) == []
    assert connections.due_reconnects(5.1, 1.0, 10.0, UnackedResults()) == [RECONNECT_CONTROL]


def test_unacked_results_reconnect_only_while_acks_arrive() -> None:
    connections = Connections(0.0, 100.0)
    connections.connect_sink(REGISTRATION, 0.0)

    def due_at(now: float) -> list[Send]:
        connections.ventilator_monitor.record_message(now)
        return connections.due_reconnects(now, 1.0, 10.0, unacked_since(5.0))

    connections.sink_monitor.record_message(15.0)
    assert due_at(15.0) == []
    assert due_at(15.1) == [RECONNECT_RESULTS]
    connections.sink_monitor.record_message(20.0)
    assert due_at(25.0) == []  # once per heartbeat timeout
    connections.sink_monitor.record_message(25.0)
    assert due_at(25.2) == [RECONNECT_RESULTS]
    assert due_at(36.0) == [RECONNECT_CONTROL]  # without Acks, the control connection is silent
