"""Failpoints: parsing, recording and striking."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.model.errors import INTERNAL_ERROR, UsageError
from pipeline.model.events import ReadRequest, Waiting
from pipeline.model.messages import Goodbye, Heartbeat
from pipeline.model.state_machine import Adapter, Message, Port, Send
from pipeline.runtime.event_loop import EventLoop
from pipeline.runtime.failpoints import VARIABLE, FailpointPlan, parse_plan, with_failpoints
from tests.unit.runtime.test_event_loop import Actor, FakeSignals, PipeAdapter


class Worker(Actor):
    """A state machine that requests a byte for each one it receives, three in all."""


def worker() -> Worker:
    actor = Worker(lambda _: [])

    def answer(_: Message | None) -> list[Send]:
        actor.done = len(actor.received) == 4
        return [Send(Port.SOURCE, ReadRequest(len(actor.received))), Send(Port.USER, Waiting("sink"))]

    actor.answer = answer
    return actor


def run_worker_in_child(after: Callable[[], object] = lambda: None) -> int:
    """Return the wait status of a forked process in which a worker receives three messages."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            edge = PipeAdapter()
            os.write(edge.write, b"abc")
            code = EventLoop(worker(), {Port.SOURCE: edge}, FakeSignals()).run()
        except UsageError as error:
            code = error.exit_code
        finally:
            os._exit(code)
    after()
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("worker.result-sent:3=kill", FailpointPlan({("worker.result-sent", 3): "kill"})),
        (
            "sink.goodbye-received:12=stop,record:/tmp/x",
            FailpointPlan({("sink.goodbye-received", 12): "stop"}, record_file="/tmp/x"),
        ),
        (
            "ventilator.read-request-sent:1=exit,once:a:b,worker.heartbeat-sent:2=kill",
            FailpointPlan(
                {("ventilator.read-request-sent", 1): "exit", ("worker.heartbeat-sent", 2): "kill"}, once_file="a:b"
            ),
        ),
    ],
)
def test_parse_plan(text: str, expected: FailpointPlan) -> None:
    assert parse_plan(text) == expected


@pytest.mark.parametrize(
    "item",
    [
        "worker.result-sent=kill",
        "worker.result-sent:0=kill",
        "worker.result-sent:1=murder",
        "worker.results_port-sent:1=kill",
        "launcher.result-sent:1=kill",
        "worker.result-said:1=kill",
        "record:",
        "once",
        "",
    ],
)
def test_parse_plan_invalid_item_raises(item: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_plan(f"worker.heartbeat-sent:1=kill,{item}")
    assert str(raised.value) == f"invalid {VARIABLE}: {item!r}"


def test_loop_with_invalid_plan_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "worker.result-sent")
    assert os.waitstatus_to_exitcode(run_worker_in_child()) == 2


@pytest.mark.parametrize("value", [None, ""])
def test_without_plan_nothing_is_wrapped(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    station, edges = worker(), dict[Port, Adapter]({Port.SOURCE: PipeAdapter()})
    left = with_failpoints(station, edges)
    edges[Port.SOURCE].close()
    assert left[0] is station
    assert left[1] is edges


def test_record_contains_each_point_and_hit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, f"record:{tmp_path / 'points'}")
    assert os.waitstatus_to_exitcode(run_worker_in_child()) == 0
    assert (tmp_path / "points").read_text().splitlines() == [
        "worker.read-request-sent 1",
        "worker.goodbye-received 1",
        "worker.read-request-sent 2",
        "worker.goodbye-received 2",
        "worker.read-request-sent 3",
        "worker.goodbye-received 3",
        "worker.read-request-sent 4",
    ]


@pytest.mark.parametrize(("act", "code"), [("kill", -signal.SIGKILL), ("exit", INTERNAL_ERROR)])
@pytest.mark.parametrize(("point", "before"), [("goodbye-received:2", 4), ("read-request-sent:3", 5)])
def test_strike_happens_at_its_hit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, act: str, code: int, point: str, before: int
) -> None:
    monkeypatch.setenv(VARIABLE, f"record:{tmp_path / 'points'},worker.{point}={act}")
    assert os.waitstatus_to_exitcode(run_worker_in_child()) == code
    reached = (tmp_path / "points").read_text().splitlines()
    assert len(reached) == before
    assert reached[-1] == f"worker.{point}".replace(":", " ")


def test_stopped_process_continues_after_sigcont(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "worker.goodbye-received:3=stop")

    def wake() -> None:
        stopped = os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOWAIT)
        assert stopped is not None
        os.kill(stopped.si_pid, signal.SIGCONT)

    assert os.waitstatus_to_exitcode(run_worker_in_child(wake)) == 0


def test_once_lets_one_process_strike(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, f"worker.goodbye-received:1=kill,once:{tmp_path / 'struck'}")
    assert [os.waitstatus_to_exitcode(run_worker_in_child()) for _ in range(3)] == [-signal.SIGKILL, 0, 0]


def test_wrappers_forward_attributes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, f"record:{tmp_path / 'points'}")
    edge, actor = PipeAdapter(), worker()
    station, edges = with_failpoints(actor, {Port.SOURCE: edge})
    edge.deadline, actor.deadline = 5.0, 7.0
    assert (edges[Port.SOURCE].deadline, station.deadline, station.done) == (5.0, 7.0, False)
    assert edges[Port.SOURCE].pollables() == edge.pollables()
    edges[Port.SOURCE].close()


def test_every_message_has_a_failpoint() -> None:
    assert parse_plan(f"worker.{Heartbeat.__name__.lower()}-sent:1=kill").strikes
    assert parse_plan(f"sink.{Goodbye.__name__.lower()}-received:1=kill").strikes
    assert parse_plan("sink.version-mismatch-received:1=kill").strikes
