"""Histories of a run's processes: each names everything that the roster decides."""

from __future__ import annotations

from collections.abc import Sequence
from signal import SIGINT, SIGKILL, SIGTERM

import pytest

from pipeline.model.errors import describe_exit
from pipeline.model.events import VENTILATOR_DEAD
from pipeline.model.state_machine import NEVER
from pipeline.runtime.supervisor import (
    NO_RESTART_REASONS,
    ForwardSignal,
    ProcessFailed,
    SendSignal,
    ShowMessage,
    StartProcess,
    Supervisor,
    SupervisorAction,
)

ALL = {"sink": False, "ventilator": False, "worker-1": True, "worker-2": True}
SAFE = dict.fromkeys(ALL, True)
"""The same with a journal, and an input that can be read again."""
SOON = ShowMessage("stopping after running tasks finish; press Ctrl-C again to kill them")


def started(restart: dict[str, bool] = ALL) -> Supervisor:
    """A run whose four processes live since time 0."""
    roster = Supervisor(restart)
    assert roster.tick(0) == [
        StartProcess("sink"),
        StartProcess("ventilator"),
        StartProcess("worker-1"),
        StartProcess("worker-2"),
    ]
    assert (roster.deadline, roster.done) == (NEVER, False)
    return roster


def ends(roster: Supervisor, now: float, **statuses: int) -> list[SupervisorAction]:
    """What is decided when these end at `now`, one after the other (`w1` is worker-1)."""
    names = {"w1": "worker-1", "w2": "worker-2"}
    return [said for name, status in statuses.items() for said in roster.on_exit(names.get(name, name), status, now)]


def test_a_run_asks_for_its_processes_at_once_and_only_once() -> None:
    roster = Supervisor(ALL)
    assert roster.deadline < 0
    assert not roster.done
    assert len(roster.tick(0)) == len(ALL)
    assert roster.tick(0) == []


@pytest.mark.parametrize("code", [0, 1, 141])
def test_a_run_ends_with_its_last_process_and_the_exit_code_of_its_sink(code: int) -> None:
    roster = started()
    assert ends(roster, 9, w1=0, ventilator=0, sink=code) == [ForwardSignal("worker-2", SIGTERM)]
    assert not roster.done
    assert ends(roster, 9.5, w2=0) == []
    assert (roster.done, roster.exit_code) == (True, code)


def dies_often(roster: Supervisor, name: str, status: int, last: Sequence[SupervisorAction]) -> float:
    """It dies 20 times in a row: later and later replaced, in the end not any more. The time then."""
    now = 0.0
    for pause in (0.5, 1, *[2] * 17):
        assert roster.on_exit(name, status, now) == [
            ShowMessage(f"{name} {describe_exit(status)}; restarting in {pause:g} s")
        ]
        now += pause
        assert roster.deadline == now
        assert roster.tick(now - 0.1) == []
        assert roster.tick(now) == [StartProcess(name)]
    assert roster.on_exit(name, status, now) == [
        ProcessFailed(name, f"{describe_exit(status)}, 20 times in a row"),
        *last,
    ]
    return now


def test_a_dead_worker_is_replaced_later_and_later_and_given_up() -> None:
    roster = started()
    dies_often(roster, "worker-1", 70, [])
    assert (roster.deadline, roster.done) == (NEVER, False)


def test_a_long_life_forgives_the_deaths_before() -> None:
    roster = started()
    ends(roster, 0, w1=3)
    roster.tick(0.5)
    assert ends(roster, 1, w1=3) == [ShowMessage("worker-1 exited with code 3; restarting in 1 s")]
    roster.tick(2)
    assert ends(roster, 40, w1=3) == [ShowMessage("worker-1 exited with code 3; restarting in 0.5 s")]


@pytest.mark.parametrize(("status", "code"), [(-SIGKILL, 3), (70, 70)])
def test_the_run_stops_when_the_last_worker_is_given_up(status: int, code: int) -> None:
    roster = started()
    ends(roster, 0, w2=0)
    now = dies_often(roster, "worker-1", status, [ForwardSignal("sink", SIGTERM)])
    assert ends(roster, now + 1, sink=143, ventilator=143) == []
    assert (roster.done, roster.exit_code) == (True, code)


def test_a_worker_that_never_can_work_stops_the_run_at_once() -> None:
    roster = started()
    assert ends(roster, 0, w1=2) == [ForwardSignal("sink", SIGTERM)]
    assert ends(roster, 0, w2=2, ventilator=143, sink=143) == []
    assert (roster.done, roster.exit_code) == (True, 2)


@pytest.mark.parametrize(("last", "said"), [("sink", [ForwardSignal("worker-2", SIGTERM)]), ("ventilator", [])])
def test_no_worker_is_replaced_after_the_end_of_the_run(last: str, said: list[SupervisorAction]) -> None:
    roster = started()
    assert ends(roster, 0, w1=-SIGKILL) != []
    assert ends(roster, 0, **{last: 0}) == said
    assert ends(roster, 0, w2=-SIGKILL) == []
    assert roster.tick(1) == []


@pytest.mark.parametrize(
    ("status", "said", "signum", "code"),
    [
        (
            -SIGKILL,
            [ProcessFailed("ventilator", f"was killed by SIGKILL; {NO_RESTART_REASONS['ventilator']}")],
            VENTILATOR_DEAD,
            3,
        ),
        (2, [], VENTILATOR_DEAD, 2),
        (3, [], SIGTERM, 3),  # it has told the sink itself
        (70, [], VENTILATOR_DEAD, 70),
    ],
)
def test_the_death_of_the_ventilator_stops_the_run(
    status: int, said: list[SupervisorAction], signum: int, code: int
) -> None:
    roster = started()
    assert ends(roster, 7, ventilator=status) == [*said, ForwardSignal("sink", signum)]
    assert roster.deadline == 12
    assert ends(roster, 8, w1=0, w2=0, sink=143) == []
    assert (roster.done, roster.exit_code) == (True, code)


OTHERS = ("ventilator", "worker-1", "worker-2")
ASKED_TWICE = [
    *(word(name, SIGTERM) for name in OTHERS for word in (SendSignal, ForwardSignal)),
    *(ForwardSignal(name, SIGTERM) for name in OTHERS),
]
"""They have nowhere to go with what they hold: nothing is finished first."""


def test_the_death_of_the_sink_ends_all_others() -> None:
    roster = started()
    assert ends(roster, 0, sink=-SIGKILL) == [
        ProcessFailed("sink", "was killed by SIGKILL; cannot restart it without a journal"),
        *ASKED_TWICE,
    ]
    assert ends(roster, 1, ventilator=-SIGTERM, w1=0) == []
    assert roster.deadline == 5
    assert roster.tick(5) == [
        ShowMessage("worker-2 did not exit in time; sending SIGKILL"),
        SendSignal("worker-2", SIGKILL),
    ]
    assert ends(roster, 5, w2=-SIGKILL) == []
    assert (roster.done, roster.exit_code) == (True, 3)


def test_a_sink_that_could_not_start_gives_the_run_its_exit_code() -> None:
    roster = started()
    assert ends(roster, 0, sink=2) == ASKED_TWICE
    ends(roster, 0, ventilator=143, w1=0, w2=0)
    assert (roster.done, roster.exit_code) == (True, 2)


def test_who_stays_after_the_sink_is_made_to_go() -> None:
    roster = started()
    ends(roster, 0, ventilator=0, w1=0, sink=0)
    assert roster.deadline == 2
    assert roster.tick(2) == [
        ShowMessage("worker-2 did not exit in time; sending SIGTERM"),
        SendSignal("worker-2", SIGTERM),
        ForwardSignal("worker-2", SIGTERM),
    ]
    assert roster.tick(7) == [
        ShowMessage("worker-2 did not exit in time; sending SIGKILL"),
        SendSignal("worker-2", SIGKILL),
    ]
    assert roster.tick(12) == [
        ShowMessage("worker-2 did not exit in time; sending SIGKILL"),
        SendSignal("worker-2", SIGKILL),
    ]
    ends(roster, 12, w2=-SIGKILL)
    assert (roster.done, roster.exit_code) == (True, 0)


def test_a_first_wish_to_stop_goes_to_the_sink_and_has_time() -> None:
    roster = started()
    assert roster.on_stop_signal(SIGINT, 3) == [SOON, ForwardSignal("sink", SIGINT)]
    assert roster.deadline == NEVER
    assert ends(roster, 60, w1=-SIGKILL, w2=0, ventilator=130, sink=130) == []
    assert (roster.done, roster.exit_code) == (True, 130)


def test_a_second_wish_has_a_grace_and_then_harsher_words() -> None:
    roster = started()
    assert roster.on_stop_signal(SIGTERM, 0) == [
        ShowMessage("stopping after running tasks finish; send SIGTERM again to kill them"),
        ForwardSignal("sink", SIGTERM),
    ]
    assert roster.on_stop_signal(SIGTERM, 1) == [ForwardSignal("sink", SIGTERM)]
    assert roster.on_stop_signal(SIGTERM, 2) == [ForwardSignal("sink", SIGTERM)]
    assert ends(roster, 3, ventilator=143, w1=0) == []
    assert roster.deadline == 6
    assert roster.tick(6) == [
        ShowMessage("sink, worker-2 did not exit in time; sending SIGTERM"),
        *(word("sink", SIGTERM) for word in (SendSignal, ForwardSignal)),
        *(word("worker-2", SIGTERM) for word in (SendSignal, ForwardSignal)),
    ]
    assert roster.tick(11) == [
        ShowMessage("sink, worker-2 did not exit in time; sending SIGKILL"),
        SendSignal("sink", SIGKILL),
        SendSignal("worker-2", SIGKILL),
    ]
    ends(roster, 11, w2=-SIGKILL)
    assert ends(roster, 11, sink=-SIGKILL) == [ProcessFailed("sink", "was killed by SIGKILL")]
    assert (roster.done, roster.exit_code) == (True, 143)


def test_a_wish_to_stop_cancels_what_was_to_start() -> None:
    roster = started()
    ends(roster, 0, w1=-SIGKILL)
    roster.on_stop_signal(SIGINT, 0.1)
    assert roster.tick(1) == []


def test_a_wish_after_the_end_of_the_sink_goes_to_who_is_left() -> None:
    roster = started()
    ends(roster, 0, ventilator=0, w1=0, sink=1)
    assert roster.on_stop_signal(SIGINT, 1) == [SOON, ForwardSignal("worker-2", SIGINT)]
    ends(roster, 1, w2=0)
    assert roster.exit_code == 1


def test_a_wish_before_the_start_is_obeyed() -> None:
    roster = Supervisor(ALL)
    assert roster.on_stop_signal(SIGINT, 0) == [SOON]
    assert (roster.done, roster.exit_code, roster.tick(0)) == (True, 130, [])


# --- a journal, and an input that can be read again --------------------------------------------------


@pytest.mark.parametrize("name", ["sink", "ventilator"])
@pytest.mark.parametrize("status", [-SIGKILL, 70])
def test_a_sink_or_ventilator_that_can_go_on_is_replaced_and_the_others_stay(name: str, status: int) -> None:
    roster = started(SAFE)
    assert ends(roster, 3, **{name: status}) == [ShowMessage(f"{name} {describe_exit(status)}; restarting in 0.5 s")]
    assert roster.tick(3.5) == [StartProcess(name)]
    assert ends(roster, 9, ventilator=1, w1=0, w2=0, sink=1) == []
    assert (roster.done, roster.exit_code) == (True, 1)


@pytest.mark.parametrize("code", [2, 3])
def test_a_sink_that_ends_by_its_own_decision_is_not_replaced(code: int) -> None:
    roster = started(SAFE)
    assert ends(roster, 3, sink=code) == ASKED_TWICE
    ends(roster, 3, ventilator=143, w1=0, w2=0)
    assert (roster.done, roster.exit_code) == (True, code)


def test_a_ventilator_that_ends_by_its_own_decision_is_not_replaced() -> None:
    roster = started(SAFE)
    assert ends(roster, 3, ventilator=3) == [ForwardSignal("sink", SIGTERM)]
    ends(roster, 3, sink=143, w1=0, w2=0)
    assert (roster.done, roster.exit_code) == (True, 3)


def test_a_sink_that_dies_again_and_again_ends_the_run() -> None:
    dies_often(started(SAFE), "sink", -SIGKILL, ASKED_TWICE)


def test_a_ventilator_that_dies_again_and_again_ends_the_run() -> None:
    dies_often(started(SAFE), "ventilator", -SIGKILL, [ForwardSignal("sink", VENTILATOR_DEAD)])


def test_a_sink_is_replaced_even_when_the_ventilator_has_done_its_work() -> None:
    roster = started(SAFE)
    assert ends(roster, 3, ventilator=0, w1=-SIGKILL) == []
    assert ends(roster, 3, sink=-SIGKILL) == [ShowMessage("sink was killed by SIGKILL; restarting in 0.5 s")]
    assert roster.tick(3.5) == [StartProcess("sink")]
    assert ends(roster, 4, w2=0, sink=0) == []
    assert (roster.done, roster.exit_code) == (True, 0)


def test_who_asked_for_an_end_gets_no_other_sink() -> None:
    roster = started(SAFE)
    roster.on_stop_signal(SIGINT, 1)
    assert ends(roster, 2, sink=-SIGKILL) == [ProcessFailed("sink", "was killed by SIGKILL"), *ASKED_TWICE]
    ends(roster, 3, ventilator=143, w1=0, w2=0)
    assert (roster.done, roster.exit_code) == (True, 130)


def test_a_wish_while_there_is_no_sink_ends_all_others() -> None:
    roster = started(SAFE)
    ends(roster, 1, sink=-SIGKILL)
    assert roster.on_stop_signal(SIGINT, 1.1) == [SOON, *ASKED_TWICE]
    assert ends(roster, 2, ventilator=143, w1=0, w2=0) == []
    assert (roster.done, roster.exit_code) == (True, 130)


def test_a_worker_that_never_can_work_ends_the_run_also_while_there_is_no_sink() -> None:
    roster = started(SAFE)
    ends(roster, 1, sink=-SIGKILL, w1=0)
    assert ends(roster, 1, w2=2) == [
        *(word("ventilator", SIGTERM) for word in (SendSignal, ForwardSignal)),
        ForwardSignal("ventilator", SIGTERM),
    ]
    ends(roster, 1, ventilator=143)
    assert (roster.done, roster.exit_code) == (True, 2)


# --- a ventilator that died and is not restarted, and the sink ----------------------------------------

JOURNALED = {**SAFE, "ventilator": False}


def test_dead_ventilator_sink_that_does_not_end_is_made_to() -> None:
    roster = started()
    ends(roster, 7, ventilator=-SIGKILL)
    assert roster.tick(12)[0] == ShowMessage("sink, worker-1, worker-2 did not exit in time; sending SIGTERM")


def test_dead_ventilator_restarted_sink_is_told() -> None:
    roster = started(JOURNALED)
    ends(roster, 1, sink=-SIGKILL)
    assert roster.tick(1.5) == [StartProcess("sink")]
    assert ends(roster, 1.5, ventilator=-SIGKILL)[1:] == [ForwardSignal("sink", VENTILATOR_DEAD)]


@pytest.mark.parametrize("first", ["sink", "ventilator"])
def test_dead_ventilator_and_dead_sink_end_the_run_without_another_sink(first: str) -> None:
    roster = started(JOURNALED)
    ends(roster, 1, **{first: -SIGKILL})
    last = ends(roster, 1, **{"ventilator" if first == "sink" else "sink": -SIGKILL})
    assert last[1:] == [said for said in ASKED_TWICE if said.name != "ventilator"]
    assert roster.tick(4) == []
    ends(roster, 4, w1=0, w2=0)
    assert (roster.done, roster.exit_code) == (True, 3)
