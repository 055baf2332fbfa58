"""Who may work in a run, and what the person is told of the others."""

from __future__ import annotations

from pipeline.ventilator.admission import Admission
from pipeline.words.messages import Pulse
from pipeline.words.notices import Refused
from pipeline.words.station import Port, Send


def pulse(digest: str, command: str) -> Pulse:
    return Pulse("ann", 1, "", digest, command, 1, 0, 0, 1, (), (), 0, 0.0, 0)


def test_the_first_worker_gives_the_run_its_command() -> None:
    admission = Admission()
    assert admission.objection(pulse("d", "wc")) == ""
    assert admission.objection(pulse("d", "wc")) == ""
    assert admission.objection(pulse("e", "rm")) == "it would run 'rm', this run is 'wc'"


def test_a_run_that_goes_on_has_its_command_already() -> None:
    admission = Admission()
    admission.know("d", "wc")
    admission.know("", "")  # a sink that has heard of none yet
    assert admission.objection(pulse("e", "rm")) == "it would run 'rm', this run is 'wc'"
    assert admission.objection(pulse("d", "wc")) == ""


def test_each_refusal_is_told_once() -> None:
    admission = Admission()
    assert admission.refuse("ann", "why") == [Send(Port.TOLD, Refused("ann", "why"))]
    assert admission.refuse("ann", "why") == []
    assert admission.refuse("ann", "why else") == [Send(Port.TOLD, Refused("ann", "why else"))]
