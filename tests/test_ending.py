"""How a run ends, and with which exit code."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from pipeline import errors
from pipeline.ending import Departure, Verdict, reason_to_end
from pipeline.held import Held
from pipeline.messages import Chunk, Kill, Result, Stop
from pipeline.parts import Recipe
from pipeline.station import NEVER
from pipeline.ties import Ties


@pytest.mark.parametrize(
    ("mode", "reason", "code"),
    [("done", "", errors.TASKS_FAILED), ("done", "a file vanished", errors.INCOMPLETE), ("soon", "--halt", errors.OK)],
)
def test_the_first_word_decides_the_exit_code(mode: Literal["done", "soon"], reason: str, code: int) -> None:
    verdict, kill = Verdict(), Kill("r", mode, reason, code)
    assert (verdict.kill, verdict.outcome, verdict.reason) == (None, errors.OK, "")
    assert verdict.say(kill)
    assert (verdict.kill, verdict.outcome, verdict.reason) == (kill, code, reason)
    assert not verdict.say(kill)


SOON, NOW = Kill("r", "soon", "^C", errors.INTERRUPTED), Kill("r", "now", "SIGTERM", errors.TERMINATED)
DONE = Kill("r", "done", "", errors.OK)


def test_a_harder_end_replaces_a_softer_one_and_the_exit_code_stays() -> None:
    verdict = Verdict()
    assert verdict.say(SOON)
    assert not verdict.say(DONE)
    assert verdict.say(NOW)
    assert not verdict.say(SOON)
    assert (verdict.kill, verdict.outcome, verdict.reason) == (NOW, errors.INTERRUPTED, "SIGTERM")


def test_done_stays_done() -> None:
    verdict = Verdict()
    verdict.say(DONE)
    assert not verdict.say(NOW)
    assert not verdict.ask(NOW, 9.0)
    assert (verdict.kill, verdict.outcome) == (DONE, errors.OK)


def test_what_is_asked_is_said_when_the_journal_knows_or_at_the_latest_then() -> None:
    verdict = Verdict()
    assert (verdict.deadline, verdict.due(1e9)) == (NEVER, None)
    assert verdict.ask(SOON, 5.0)
    assert (verdict.kill, verdict.outcome, verdict.deadline) == (None, errors.OK, 5.0)
    assert not verdict.ask(SOON, 7.0)  # once is enough, and the first time counts
    assert (verdict.deadline, verdict.due(4.9), verdict.due(5.0)) == (5.0, None, SOON)
    assert verdict.say(SOON)
    assert verdict.deadline == NEVER


def test_a_harder_end_may_be_asked_for_while_a_softer_one_waits() -> None:
    verdict = Verdict()
    verdict.ask(SOON, 5.0)
    assert verdict.ask(NOW, 6.0)
    assert not verdict.ask(SOON, 7.0)
    assert (verdict.deadline, verdict.due(6.0)) == (6.0, NOW)


@pytest.mark.parametrize(
    ("failure", "outcome"), [("disk full", errors.INCOMPLETE), (errors.CLOSED, errors.STDOUT_CLOSED)]
)
def test_an_output_that_takes_no_more_is_the_reason_whatever_is_said(failure: str, outcome: int) -> None:
    verdict = Verdict()
    verdict.break_off(failure)
    assert verdict.say(NOW)
    assert (verdict.kill, verdict.outcome, verdict.reason) == (NOW, outcome, failure)
    late = Verdict()
    late.say(DONE)
    late.break_off(failure)
    assert (late.outcome, late.reason) == (outcome, failure)


def test_only_a_run_that_is_done_with_nothing_missing_leaves_nothing_to_go_on_with() -> None:
    for kill, final in ((DONE, True), (replace(DONE, reason="a file vanished"), False), (SOON, False)):
        verdict = Verdict()
        assert not verdict.is_final
        verdict.say(kill)
        assert verdict.is_final == final


# --- a worker's way out


def held(*, running: bool = False, unanswered: bool = False) -> Held:
    made = Held(1, 0.0)
    if running:
        made.new(Chunk("r", 1, 1, 0, 1, b"x\n"), Recipe(), 0.0)
    if unanswered:
        made.unanswered.keep(Result("r", "ann", 1, 1, b"", b"\0\0\0\0", b"", ()), 1, 0.0)
    return made


def ties(heard: float = 0.0) -> Ties:
    made = Ties(0.0, patience=100.0)
    made.desk.heard(heard)
    made.sink.heard(heard)
    return made


def test_nobody_goes_without_having_been_asked() -> None:
    assert reason_to_end(Departure(), held(), ties(), 50.0, 10.0) is None


def test_who_waits_for_longer_than_patience_goes() -> None:
    missed = ties()
    assert reason_to_end(Departure(), held(running=True), missed, 100.1, 10.0) == (
        errors.INCOMPLETE, "the ventilator did not answer any more",
    )  # fmt: skip
    missed.desk.heard(100.0)
    assert reason_to_end(Departure(), held(), missed, 100.1, 10.0) == (
        errors.INCOMPLETE, "the sink did not answer any more",
    )  # fmt: skip


def test_who_was_asked_goes_when_all_is_finished_and_answered() -> None:
    leaving = Departure()
    assert leaving.asked(Stop("soon", "SIGTERM")) == "soon"
    assert reason_to_end(leaving, held(running=True), ties(), 1.0, 10.0) is None
    assert reason_to_end(leaving, held(unanswered=True), ties(), 1.0, 10.0) is None
    assert reason_to_end(leaving, held(), ties(), 1.0, 10.0) == (errors.TERMINATED, "SIGTERM")


def test_who_was_asked_waits_a_liveness_for_a_silent_sink() -> None:
    leaving, left = Departure(), (errors.INCOMPLETE, "results were left that no sink answered for")
    leaving.asked(Stop("soon", "^C"))
    assert reason_to_end(leaving, held(unanswered=True), ties(5.0), 15.0, 10.0) is None
    assert reason_to_end(leaving, held(unanswered=True), ties(5.0), 15.1, 10.0) == left
    assert reason_to_end(leaving, held(unanswered=True, running=True), ties(5.0), 15.1, 10.0) is None


def test_asked_twice_is_now() -> None:
    leaving = Departure()
    assert [leaving.asked(Stop("soon", "^C")), leaving.asked(Stop("soon", "^C"))] == ["soon", "now"]
    assert Departure().asked(Stop("now", "^C")) == "now"


def test_the_end_of_the_run_is_no_failure_of_the_worker() -> None:
    leaving, soon = Departure(), Kill("r", "soon", "^C", 0)
    leaving.asked(Stop("soon", "^C"))
    assert leaving.run_ends(soon)
    assert not leaving.run_ends(soon)
    assert reason_to_end(leaving, held(unanswered=True), ties(45.0), 50.0, 10.0) is None
    assert reason_to_end(leaving, held(), ties(), 50.0, 10.0) == (errors.OK, "^C")
    left = (errors.INCOMPLETE, "results were left that no sink answered for")
    assert reason_to_end(leaving, held(unanswered=True), ties(5.0), 50.0, 10.0) == left
