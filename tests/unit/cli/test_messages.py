from __future__ import annotations

import pytest

from pipeline.cli import messages
from pipeline.config.settings import Settings
from pipeline.model.events import (
    CallableLoading,
    ContextCreated,
    PeerRejected,
    StationStopped,
    VersionMismatch,
    Waiting,
    WorkerLost,
)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(), ""),
        (Settings(name="hashes"), " --name hashes"),
        (Settings(at="tcp://h", insecure=True), " --at tcp://h --insecure"),
        (
            Settings(registry_at="ipc:///d", results_at="ipc:///r", control_at="ipc:///c"),
            " --desk ipc:///d --results-at ipc:///r --control-at ipc:///c",
        ),
    ],
)
def test_a_place_is_the_options_that_lead_there(settings: Settings, expected: str) -> None:
    assert messages.format_endpoint_options(settings) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (Waiting("worker"), "no worker has checked in; start one with `pipe work --name x COMMAND`"),
        (Waiting("ventilator"), "no ventilator has come; start one with `pipe ventilate --name x FILE`"),
        (Waiting("sink"), "no sink has answered; start one with `pipe sink --name x`"),
        (Waiting("worker", active=False), "a worker has checked in"),
        (Waiting("ventilator", active=False), "the ventilator is here"),
        (Waiting("sink", active=False), "the sink is here"),
        (WorkerLost("host-1", 1), "worker host-1 fell silent; 1 task of its own goes out again"),
        (WorkerLost("host-1", 1200), "worker host-1 fell silent; 1,200 tasks of its own go out again"),
        (WorkerLost("host-1", 0), "worker host-1 fell silent; it held no task"),
        (
            PeerRejected("host-2", "another command:\n\x1b[2J gzip"),
            "host-2 was turned away: another command:??[2J gzip",
        ),
        (ContextCreated("sink", 47, "context 0x7f"), "sink 47 has a context of its own, context 0x7f"),
        (StationStopped("worker", "the sink is gone"), "the worker ends: the sink is gone"),
        (
            StationStopped("worker", "--init failed:\n  a trace\x1b[2J"),
            "the worker ends: --init failed:\n  a trace?[2J",
        ),
        (
            VersionMismatch(b"", "pipe9"),
            "a peer speaks protocol pipe9, this is pipe2; install the same version of pipe on both sides",
        ),
        (
            Waiting("spill", "task 42", active=True),
            "--spill-limit is reached: nothing new starts until task 42 has ended, whose result all others wait for",
        ),
        (
            Waiting("disk", "out: No space left on device after 5 bytes"),
            "out: No space left on device after 5 bytes: waiting for room, and going on by itself when there is some",
        ),
        (Waiting("disk", active=False), "there is room on the disk again"),
        (CallableLoading("m:f"), "no task runs yet: --call m:f is still being imported"),
        (Waiting("spill", "task 1,042", active=False), "there is room again; task 1,042 is next"),
    ],
)
def test_each_word_for_the_person_is_one_sentence(told: messages.UserMessage, expected: str) -> None:
    assert messages.message_text(told, " --name x") == expected


def test_who_has_a_launcher_is_not_asked_to_start_anything() -> None:
    assert messages.message_text(Waiting("worker"), None) == "no worker has checked in"
