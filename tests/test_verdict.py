"""The sink's last word: which end wins, when it is said, and the exit code."""

from __future__ import annotations

from typing import Literal

import pytest

from pipeline.model import errors
from pipeline.model.messages import Kill
from pipeline.model.state_machine import NEVER
from pipeline.model.structs import replace
from pipeline.sink.shutdown import RunOutcome


@pytest.mark.parametrize(
    ("mode", "reason", "code"),
    [("done", "", errors.TASKS_FAILED), ("done", "a file vanished", errors.INCOMPLETE), ("soon", "--halt", errors.OK)],
)
def test_the_first_word_decides_the_exit_code(mode: Literal["done", "soon"], reason: str, code: int) -> None:
    verdict, kill = RunOutcome(), Kill("r", mode, reason, code)
    assert (verdict.kill, verdict.exit_code, verdict.stop_reason) == (None, errors.OK, "")
    assert verdict.commit(kill)
    assert (verdict.kill, verdict.exit_code, verdict.stop_reason) == (kill, code, reason)
    assert not verdict.commit(kill)


SOON, NOW = Kill("r", "soon", "^C", errors.INTERRUPTED), Kill("r", "now", "SIGTERM", errors.TERMINATED)
DONE = Kill("r", "done", "", errors.OK)


def test_a_harder_end_replaces_a_softer_one_and_the_exit_code_stays() -> None:
    verdict = RunOutcome()
    assert verdict.commit(SOON)
    assert not verdict.commit(DONE)
    assert verdict.commit(NOW)
    assert not verdict.commit(SOON)
    assert (verdict.kill, verdict.exit_code, verdict.stop_reason) == (NOW, errors.INTERRUPTED, "SIGTERM")


def test_done_stays_done() -> None:
    verdict = RunOutcome()
    verdict.commit(DONE)
    assert not verdict.commit(NOW)
    assert not verdict.propose(NOW, 9.0)
    assert (verdict.kill, verdict.exit_code) == (DONE, errors.OK)


def test_what_is_asked_is_said_when_the_journal_knows_or_at_the_latest_then() -> None:
    verdict = RunOutcome()
    assert (verdict.deadline, verdict.due_kill(1e9)) == (NEVER, None)
    assert verdict.propose(SOON, 5.0)
    assert (verdict.kill, verdict.exit_code, verdict.deadline) == (None, errors.OK, 5.0)
    assert not verdict.propose(SOON, 7.0)  # once is enough, and the first time counts
    assert (verdict.deadline, verdict.due_kill(4.9), verdict.due_kill(5.0)) == (5.0, None, SOON)
    assert verdict.commit(SOON)
    assert verdict.deadline == NEVER


def test_a_harder_end_may_be_asked_for_while_a_softer_one_waits() -> None:
    verdict = RunOutcome()
    verdict.propose(SOON, 5.0)
    assert verdict.propose(NOW, 6.0)
    assert not verdict.propose(SOON, 7.0)
    assert (verdict.deadline, verdict.due_kill(6.0)) == (6.0, NOW)


@pytest.mark.parametrize(
    ("failure", "outcome"), [("disk full", errors.INCOMPLETE), (errors.STDOUT_CLOSED_REASON, errors.STDOUT_CLOSED)]
)
def test_an_output_that_takes_no_more_is_the_reason_whatever_is_said(failure: str, outcome: int) -> None:
    verdict = RunOutcome()
    verdict.fail(failure)
    assert verdict.commit(NOW)
    assert (verdict.kill, verdict.exit_code, verdict.stop_reason) == (NOW, outcome, failure)
    late = RunOutcome()
    late.commit(DONE)
    late.fail(failure)
    assert (late.exit_code, late.stop_reason) == (outcome, failure)


def test_only_a_run_that_is_done_with_nothing_missing_leaves_nothing_to_go_on_with() -> None:
    for kill, final in ((DONE, True), (replace(DONE, reason="a file vanished"), False), (SOON, False)):
        verdict = RunOutcome()
        assert not verdict.is_final
        verdict.commit(kill)
        assert verdict.is_final == final


# --- a worker's way out
