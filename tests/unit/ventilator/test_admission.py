"""Who may work in a run, and what the person is told of the others."""

from __future__ import annotations

from pipeline.model.events import PeerRejected
from pipeline.model.messages import Heartbeat
from pipeline.model.state_machine import Port, Send
from pipeline.ventilator.worker_registry import CommandCheck


def pulse(digest: str, command: str) -> Heartbeat:
    return Heartbeat("ann", 1, "", digest, command, 1, 0, 0, 1, (), (), 0, 0.0, 0)


def test_the_first_worker_gives_the_run_its_command() -> None:
    admission = CommandCheck()
    assert admission.mismatch(pulse("d", "wc")) == ""
    assert admission.mismatch(pulse("d", "wc")) == ""
    assert admission.mismatch(pulse("e", "rm")) == "it would run 'rm', this run is 'wc'"


def test_a_run_that_goes_on_has_its_command_already() -> None:
    admission = CommandCheck()
    admission.set_command("d", "wc")
    admission.set_command("", "")  # a sink that has heard of none yet
    assert admission.mismatch(pulse("e", "rm")) == "it would run 'rm', this run is 'wc'"
    assert admission.mismatch(pulse("d", "wc")) == ""


def test_each_refusal_is_told_once() -> None:
    admission = CommandCheck()
    assert admission.refuse("ann", "why") == [Send(Port.USER, PeerRejected("ann", "why"))]
    assert admission.refuse("ann", "why") == []
    assert admission.refuse("ann", "why else") == [Send(Port.USER, PeerRejected("ann", "why else"))]
