"""Which end of the run wins, when it is announced, and the exit code."""

from __future__ import annotations

from typing import Literal

import pytest

from pipeline.model import errors
from pipeline.model.journal_events import RunStarted
from pipeline.model.messages import Kill
from pipeline.model.state_machine import NEVER, Port, Send
from pipeline.model.structs import replace
from pipeline.sink.ledger import Ledger
from pipeline.sink.result_writer import LiveOutput, ResultWriter, WriterConfig
from pipeline.sink.retries import RetryPolicy, RetryQueue
from pipeline.sink.shutdown import ShutdownController

SOON, NOW = Kill("r", "soon", "^C", errors.INTERRUPTED), Kill("r", "now", "SIGTERM", errors.TERMINATED)
DONE = Kill("r", "done", "", errors.OK)


def make_shutdown() -> ShutdownController:
    ledger = Ledger([RunStarted("r", "print")])
    writer = ResultWriter(ledger, RetryQueue(RetryPolicy()), LiveOutput(ledger, is_ordered=False), WriterConfig())
    return ShutdownController(ledger, writer, None, 1.0, has_journal=False)


def announce(shutdown: ShutdownController, kill: Kill) -> bool:
    """Return whether this end was announced."""
    sends = shutdown._announce(kill)
    assert sends in ([], [Send(Port.CONTROL, kill)])
    return bool(sends)


@pytest.mark.parametrize(
    ("mode", "reason", "code"),
    [("done", "", errors.TASKS_FAILED), ("done", "a file vanished", errors.INCOMPLETE), ("soon", "--halt", errors.OK)],
)
def test_first_kill_decides_exit_code(mode: Literal["done", "soon"], reason: str, code: int) -> None:
    shutdown, kill = make_shutdown(), Kill("r", mode, reason, code)
    assert (shutdown.kill, shutdown.exit_code, shutdown.stop_reason) == (None, errors.OK, "")
    assert announce(shutdown, kill)
    assert (shutdown.kill, shutdown.exit_code, shutdown.stop_reason) == (kill, code, reason)
    assert not announce(shutdown, kill)


def test_severe_kill_replaces_milder_and_keeps_exit_code() -> None:
    shutdown = make_shutdown()
    assert announce(shutdown, SOON)
    assert not announce(shutdown, DONE)
    assert announce(shutdown, NOW)
    assert not announce(shutdown, SOON)
    assert (shutdown.kill, shutdown.exit_code, shutdown.stop_reason) == (NOW, errors.INTERRUPTED, "SIGTERM")


def test_done_run_stays_done() -> None:
    shutdown = make_shutdown()
    announce(shutdown, DONE)
    assert not announce(shutdown, NOW)
    assert shutdown.request_stop("now", "SIGTERM", 8.0) == []
    assert (shutdown.kill, shutdown.exit_code) == (DONE, errors.OK)


def test_requested_stop_is_announced_at_deadline() -> None:
    shutdown = make_shutdown()
    assert (shutdown.deadline, shutdown.tick(1e9)) == (NEVER, [])
    assert shutdown.request_stop("soon", "^C", 4.0)
    assert (shutdown.kill, shutdown.exit_code, shutdown.deadline) == (None, errors.OK, 5.0)
    assert shutdown.request_stop("soon", "^C", 6.0) == []  # the first request counts
    assert (shutdown.deadline, shutdown.tick(4.9)) == (5.0, [])
    assert shutdown.tick(5.0) == [Send(Port.CONTROL, SOON)]
    assert shutdown.deadline == NEVER


def test_severe_request_replaces_pending_milder_one() -> None:
    shutdown = make_shutdown()
    shutdown.request_stop("soon", "^C", 4.0)
    assert shutdown.request_stop("now", "SIGTERM", 5.0)
    assert shutdown.request_stop("soon", "^C", 6.0) == []
    assert (shutdown.deadline, shutdown.tick(6.0)) == (6.0, [Send(Port.CONTROL, NOW)])


@pytest.mark.parametrize(
    ("failure", "code"), [("disk full", errors.INCOMPLETE), (errors.STDOUT_CLOSED_REASON, errors.STDOUT_CLOSED)]
)
def test_write_failure_overrides_reason_and_exit_code(failure: str, code: int) -> None:
    shutdown = make_shutdown()
    shutdown.fail(failure, 0.0)
    assert not announce(shutdown, NOW)  # the failure has ended the run so
    assert (shutdown.kill, shutdown.exit_code, shutdown.stop_reason) == (
        replace(NOW, reason=failure, exit_code=code),
        code,
        failure,
    )
    done = make_shutdown()
    announce(done, DONE)
    done.fail(failure, 0.0)
    assert (done.exit_code, done.stop_reason) == (code, failure)


def test_only_complete_run_is_final() -> None:
    for kill, is_final in ((DONE, True), (replace(DONE, reason="a file vanished"), False), (SOON, False)):
        shutdown = make_shutdown()
        assert not shutdown.is_final
        announce(shutdown, kill)
        assert shutdown.is_final == is_final
