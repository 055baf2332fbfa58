"""Shutdown of a worker: its reasons and its end."""

from __future__ import annotations

from pipeline.model import errors
from pipeline.model.messages import Chunk, Kill, RecordFormat, Result, StopRequest
from pipeline.worker.held_tasks import HeldTasks
from pipeline.worker.worker import Connections, Shutdown, reason_to_end


def make_held_tasks(*, has_task: bool = False, has_result: bool = False) -> HeldTasks:
    held_tasks = HeldTasks(1, 0.0)
    if has_task:
        held_tasks.accept(Chunk("r", 1, 1, 0, 1, b"x\n"), RecordFormat(), 0.0)
    if has_result:
        held_tasks.unacked_results.add(Result("r", "ann", 1, 1, b"", b"\0\0\0\0", b"", ()), 1, 0.0)
    return held_tasks


def make_connections(last_message_time: float = 0.0) -> Connections:
    connections = Connections(0.0, peer_timeout=100.0)
    connections.ventilator_monitor.record_message(last_message_time)
    connections.sink_monitor.record_message(last_message_time)
    return connections


def test_worker_without_request_continues() -> None:
    assert reason_to_end(Shutdown(), make_held_tasks(), make_connections(), 50.0, 10.0) is None


def test_worker_ends_after_peer_timeout() -> None:
    connections = make_connections()
    assert reason_to_end(Shutdown(), make_held_tasks(has_task=True), connections, 100.1, 10.0) == (
        errors.INCOMPLETE, "the ventilator stopped responding",
    )  # fmt: skip
    connections.ventilator_monitor.record_message(100.0)
    assert reason_to_end(Shutdown(), make_held_tasks(), connections, 100.1, 10.0) == (
        errors.INCOMPLETE, "the sink stopped responding",
    )  # fmt: skip


def test_shutdown_waits_for_tasks_and_acks() -> None:
    shutdown = Shutdown()
    assert shutdown.on_stop_request(StopRequest("soon", "SIGTERM")) == "soon"
    assert reason_to_end(shutdown, make_held_tasks(has_task=True), make_connections(), 1.0, 10.0) is None
    assert reason_to_end(shutdown, make_held_tasks(has_result=True), make_connections(), 1.0, 10.0) is None
    assert reason_to_end(shutdown, make_held_tasks(), make_connections(), 1.0, 10.0) == (errors.TERMINATED, "SIGTERM")


def test_shutdown_waits_heartbeat_timeout_for_silent_sink() -> None:
    shutdown, expected = Shutdown(), (errors.INCOMPLETE, "results were not acknowledged: the sink stopped responding")
    shutdown.on_stop_request(StopRequest("soon", "^C"))
    assert reason_to_end(shutdown, make_held_tasks(has_result=True), make_connections(5.0), 15.0, 10.0) is None
    assert reason_to_end(shutdown, make_held_tasks(has_result=True), make_connections(5.0), 15.1, 10.0) == expected
    assert (
        reason_to_end(shutdown, make_held_tasks(has_result=True, has_task=True), make_connections(5.0), 15.1, 10.0)
        is None
    )


def test_second_stop_request_is_now() -> None:
    shutdown = Shutdown()
    assert [
        shutdown.on_stop_request(StopRequest("soon", "^C")),
        shutdown.on_stop_request(StopRequest("soon", "^C")),
    ] == [
        "soon",
        "now",
    ]
    assert Shutdown().on_stop_request(StopRequest("now", "^C")) == "now"


def test_end_of_run_replaces_stop_request() -> None:
    shutdown, kill = Shutdown(), Kill("r", "soon", "^C", 0)
    shutdown.on_stop_request(StopRequest("soon", "^C"))
    assert shutdown.on_run_ending(kill)
    assert not shutdown.on_run_ending(kill)
    assert reason_to_end(shutdown, make_held_tasks(has_result=True), make_connections(45.0), 50.0, 10.0) is None
    assert reason_to_end(shutdown, make_held_tasks(), make_connections(), 50.0, 10.0) == (errors.OK, "^C")
    expected = (errors.INCOMPLETE, "results were not acknowledged: the sink stopped responding")
    assert reason_to_end(shutdown, make_held_tasks(has_result=True), make_connections(5.0), 50.0, 10.0) == expected
