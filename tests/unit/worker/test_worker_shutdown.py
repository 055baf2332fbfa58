"""A worker's way out: who asked, and when it goes."""

from __future__ import annotations

from pipeline.model import errors
from pipeline.model.messages import Chunk, Kill, RecordFormat, Result, StopRequest
from pipeline.worker.held_tasks import HeldTasks
from pipeline.worker.worker import Connections, Shutdown, reason_to_end


def held(*, running: bool = False, unanswered: bool = False) -> HeldTasks:
    made = HeldTasks(1, 0.0)
    if running:
        made.accept(Chunk("r", 1, 1, 0, 1, b"x\n"), RecordFormat(), 0.0)
    if unanswered:
        made.unacked_results.add(Result("r", "ann", 1, 1, b"", b"\0\0\0\0", b"", ()), 1, 0.0)
    return made


def ties(heard: float = 0.0) -> Connections:
    made = Connections(0.0, peer_timeout=100.0)
    made.ventilator_monitor.record_message(heard)
    made.sink_monitor.record_message(heard)
    return made


def test_nobody_goes_without_having_been_asked() -> None:
    assert reason_to_end(Shutdown(), held(), ties(), 50.0, 10.0) is None


def test_who_waits_for_longer_than_patience_goes() -> None:
    missed = ties()
    assert reason_to_end(Shutdown(), held(running=True), missed, 100.1, 10.0) == (
        errors.INCOMPLETE, "the ventilator did not answer any more",
    )  # fmt: skip
    missed.ventilator_monitor.record_message(100.0)
    assert reason_to_end(Shutdown(), held(), missed, 100.1, 10.0) == (
        errors.INCOMPLETE, "the sink did not answer any more",
    )  # fmt: skip


def test_who_was_asked_goes_when_all_is_finished_and_answered() -> None:
    leaving = Shutdown()
    assert leaving.on_stop_request(StopRequest("soon", "SIGTERM")) == "soon"
    assert reason_to_end(leaving, held(running=True), ties(), 1.0, 10.0) is None
    assert reason_to_end(leaving, held(unanswered=True), ties(), 1.0, 10.0) is None
    assert reason_to_end(leaving, held(), ties(), 1.0, 10.0) == (errors.TERMINATED, "SIGTERM")


def test_who_was_asked_waits_a_liveness_for_a_silent_sink() -> None:
    leaving, left = Shutdown(), (errors.INCOMPLETE, "results were left that no sink answered for")
    leaving.on_stop_request(StopRequest("soon", "^C"))
    assert reason_to_end(leaving, held(unanswered=True), ties(5.0), 15.0, 10.0) is None
    assert reason_to_end(leaving, held(unanswered=True), ties(5.0), 15.1, 10.0) == left
    assert reason_to_end(leaving, held(unanswered=True, running=True), ties(5.0), 15.1, 10.0) is None


def test_asked_twice_is_now() -> None:
    leaving = Shutdown()
    assert [leaving.on_stop_request(StopRequest("soon", "^C")), leaving.on_stop_request(StopRequest("soon", "^C"))] == [
        "soon",
        "now",
    ]
    assert Shutdown().on_stop_request(StopRequest("now", "^C")) == "now"


def test_the_end_of_the_run_is_no_failure_of_the_worker() -> None:
    leaving, soon = Shutdown(), Kill("r", "soon", "^C", 0)
    leaving.on_stop_request(StopRequest("soon", "^C"))
    assert leaving.on_run_ending(soon)
    assert not leaving.on_run_ending(soon)
    assert reason_to_end(leaving, held(unanswered=True), ties(45.0), 50.0, 10.0) is None
    assert reason_to_end(leaving, held(), ties(), 50.0, 10.0) == (errors.OK, "^C")
    left = (errors.INCOMPLETE, "results were left that no sink answered for")
    assert reason_to_end(leaving, held(unanswered=True), ties(5.0), 50.0, 10.0) == left
