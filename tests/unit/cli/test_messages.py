from __future__ import annotations

import pytest

from pipeline.cli import messages
from pipeline.config.settings import Settings
from pipeline.model.errors import version_mismatch_text
from pipeline.model.events import (
    BackgroundEnded,
    CallableLoading,
    ContextCreated,
    PeerRejected,
    StationStopped,
    VersionMismatch,
    Waiting,
    WorkerLost,
)
from pipeline.model.messages import StopRequest


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(), ""),
        (Settings(name="hashes"), " --name hashes"),
        (Settings(at="tcp://h", insecure=True), " --at tcp://h --insecure"),
        (
            Settings(registry_at="ipc:///d", results_at="ipc:///r", control_at="ipc:///c"),
            " --registry-at ipc:///d --results-at ipc:///r --control-at ipc:///c",
        ),
    ],
)
def test_endpoint_options_lead_to_the_same_endpoints(settings: Settings, expected: str) -> None:
    assert messages.format_endpoint_options(settings) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Waiting("worker"), "no worker connected; start one with `pipe work --name x COMMAND`"),
        (Waiting("ventilator"), "no ventilator connected; start one with `pipe ventilate --name x FILE`"),
        (Waiting("sink"), "no sink connected; start one with `pipe sink --name x`"),
        (Waiting("worker", active=False), "worker connected"),
        (Waiting("ventilator", active=False), "ventilator connected"),
        (Waiting("sink", active=False), "sink connected"),
        (WorkerLost("host-1", 1), "warning: lost worker host-1 (no heartbeat for 10 s); requeued 1 task"),
        (WorkerLost("host-1", 1200), "warning: lost worker host-1 (no heartbeat for 10 s); requeued 1,200 tasks"),
        (WorkerLost("host-1", 0, True), "warning: lost worker host-1 (its connection is closed); it held no tasks"),
        (
            PeerRejected("host-2", "another command:\n\x1b[2J gzip"),
            "warning: rejected host-2: another command:??[2J gzip",
        ),
        (ContextCreated("sink", 47, "0x7f"), "sink 47 created ZeroMQ context 0x7f"),
        (
            BackgroundEnded(1, 47, "cat", is_failed_only=False),
            "warning: ended 1 process that tasks left in the background: it was 47, cat; --keep-background leaves such",
        ),
        (
            BackgroundEnded(1200, 4711, "sleep\x1b 9", is_failed_only=True),
            "warning: ended 1,200 processes that failed tasks left in the background: the first was 4711, sleep? 9",
        ),
        (StationStopped("sink", "--halt now,fail=1"), "sink stopped: --halt now,fail=1"),
        (StationStopped("worker", "the sink is gone"), "error: worker stopped: the sink is gone"),
        (
            StationStopped("worker", "--init failed:\n  a trace\x1b[2J"),
            "error: worker stopped: --init failed:\n  a trace?[2J",
        ),
        (
            StationStopped("sink", "another\x1b[2J input\nhint: give\t--restart"),
            "error: sink stopped: another?[2J input\nhint: give?--restart",
        ),
        (
            VersionMismatch(b"", "pipe9"),
            f"warning: {version_mismatch_text('pipe9')}",
        ),
        (
            Waiting("spill", "task 42", active=True),
            "warning: --spill-limit reached; paused until task 42 finishes (results are written in order)",
        ),
        (
            Waiting("disk", "out: no space left on device"),
            "warning: out: no space left on device; paused, will resume when space is available",
        ),
        (Waiting("disk", active=False), "disk space available again; resumed"),
        (CallableLoading("m:f"), "waiting for --call m:f to be imported"),
        (Waiting("spill", "task 1,042", active=False), "spill space available again; next result: task 1,042"),
    ],
)
def test_message_text(message: messages.UserMessage, expected: str) -> None:
    assert messages.message_text(message, " --name x", 10.0) == expected


def test_waiting_with_launcher_names_no_command() -> None:
    assert messages.message_text(Waiting("worker"), None, 10.0) == "no worker connected"


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (StopRequest("soon", "^C"), "stopping after running tasks finish; press Ctrl-C again to kill them"),
        (StopRequest("soon", "SIGTERM"), "stopping after running tasks finish; send SIGTERM again to kill them"),
        (StopRequest("now", "^C"), "killing running tasks"),
    ],
)
def test_stopping_text(stop: StopRequest, expected: str) -> None:
    assert messages.stopping_text(stop) == expected
