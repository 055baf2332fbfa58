"""Histories of a run's processes, with every action of the supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from signal import SIGINT, SIGKILL, SIGTERM

import pytest

from pipeline.model.errors import describe_exit
from pipeline.model.events import VENTILATOR_DEAD, WORKER_DEAD
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
"""The same with a journal, and an input that can be read twice."""
SOON = ShowMessage("stopping after running tasks finish; press Ctrl-C again to kill them")


def started(restart: dict[str, bool] = ALL) -> Supervisor:
    """Return a supervisor whose four processes have run since time 0."""
    machine = Supervisor(restart)
    assert machine.tick(0) == [
        StartProcess("sink"),
        StartProcess("ventilator"),
        StartProcess("worker-1"),
        StartProcess("worker-2"),
    ]
    assert (machine.deadline, machine.done) == (NEVER, False)
    return machine


def exit_actions(machine: Supervisor, now: float, **statuses: int) -> list[SupervisorAction]:
    """Return the actions after these processes exit at `now`, one after the other (`w1` is worker-1)."""
    names = {"w1": "worker-1", "w2": "worker-2"}
    return [
        action for name, status in statuses.items() for action in machine.on_exit(names.get(name, name), status, now)
    ]


def test_first_tick_starts_all_processes_once() -> None:
    machine = Supervisor(ALL)
    assert machine.deadline < 0
    assert not machine.done
    assert len(machine.tick(0)) == len(ALL)
    assert machine.tick(0) == []


@pytest.mark.parametrize("code", [0, 1, 141])
def test_run_ends_with_exit_code_of_sink(code: int) -> None:
    machine = started()
    assert exit_actions(machine, 9, w1=0, ventilator=0, sink=code) == [ForwardSignal("worker-2", SIGTERM)]
    assert not machine.done
    assert exit_actions(machine, 9.5, w2=0) == []
    assert (machine.done, machine.exit_code) == (True, code)


def crash_repeatedly(machine: Supervisor, name: str, status: int, last: Sequence[SupervisorAction]) -> float:
    """Let a process crash 20 times in a row, and check the backoff. Return the time after that."""
    now, told = 0.0, [ForwardSignal("ventilator", WORKER_DEAD)] if name.startswith("worker") else []
    for pause in (0.1, 0.2, 0.4, 0.8, *[1] * 15):
        assert machine.on_exit(name, status, now) == [
            ShowMessage(f"warning: {name} {describe_exit(status)}; restarting in {pause:g} s"),
            *told,
        ]
        now += pause
        assert machine.deadline == now
        assert machine.tick(now - 0.05) == []
        assert machine.tick(now) == [StartProcess(name)]
    assert machine.on_exit(name, status, now) == [
        ProcessFailed(name, f"{describe_exit(status)}, 20 times in a row"),
        *told,
        *last,
    ]
    return now


def test_failing_worker_is_restarted_with_backoff_and_given_up() -> None:
    machine = started()
    crash_repeatedly(machine, "worker-1", 70, [])
    assert (machine.deadline, machine.done) == (NEVER, False)


def test_stable_worker_resets_backoff() -> None:
    machine = started()
    exit_actions(machine, 0, w1=3)
    machine.tick(0.5)
    assert exit_actions(machine, 1, w1=3)[:1] == [
        ShowMessage("warning: worker-1 exited with code 3; restarting in 0.2 s")
    ]
    machine.tick(2)
    assert exit_actions(machine, 40, w1=3)[:1] == [
        ShowMessage("warning: worker-1 exited with code 3; restarting in 0.1 s")
    ]


@pytest.mark.parametrize(("status", "code"), [(-SIGKILL, 3), (70, 70)])
def test_last_worker_given_up_ends_run(status: int, code: int) -> None:
    machine = started()
    exit_actions(machine, 0, w2=0)
    now = crash_repeatedly(machine, "worker-1", status, [ForwardSignal("sink", SIGTERM)])
    assert exit_actions(machine, now + 1, sink=143, ventilator=143) == []
    assert (machine.done, machine.exit_code) == (True, code)


def test_worker_usage_error_ends_run() -> None:
    machine = started()
    assert exit_actions(machine, 0, w1=2) == [ForwardSignal("sink", SIGTERM)]
    assert exit_actions(machine, 0, w2=2, ventilator=143, sink=143) == []
    assert (machine.done, machine.exit_code) == (True, 2)


@pytest.mark.parametrize(("last", "actions"), [("sink", [ForwardSignal("worker-2", SIGTERM)]), ("ventilator", [])])
def test_no_worker_is_restarted_after_end_of_run(last: str, actions: list[SupervisorAction]) -> None:
    machine = started()
    assert exit_actions(machine, 0, w1=-SIGKILL) != []
    assert exit_actions(machine, 0, **{last: 0}) == actions
    assert exit_actions(machine, 0, w2=-SIGKILL) == []
    assert machine.tick(1) == []


@pytest.mark.parametrize(
    ("status", "actions", "signum", "code"),
    [
        (
            -SIGKILL,
            [ProcessFailed("ventilator", f"was killed by SIGKILL; {NO_RESTART_REASONS['ventilator']}")],
            VENTILATOR_DEAD,
            3,
        ),
        (2, [], VENTILATOR_DEAD, 2),
        (3, [], SIGTERM, 3),  # the ventilator has informed the sink itself
        (70, [], VENTILATOR_DEAD, 70),
    ],
)
def test_dead_ventilator_ends_run(status: int, actions: list[SupervisorAction], signum: int, code: int) -> None:
    machine = started()
    assert exit_actions(machine, 7, ventilator=status) == [*actions, ForwardSignal("sink", signum)]
    assert machine.deadline == 12
    assert exit_actions(machine, 8, w1=0, w2=0, sink=143) == []
    assert (machine.done, machine.exit_code) == (True, code)


OTHERS = ("ventilator", "worker-1", "worker-2")
ASKED_TWICE = [
    *(word(name, SIGTERM) for name in OTHERS for word in (SendSignal, ForwardSignal)),
    *(ForwardSignal(name, SIGTERM) for name in OTHERS),
]
"""Running tasks are not finished first, since there is no sink."""


def test_dead_sink_terminates_all_others() -> None:
    machine = started()
    assert exit_actions(machine, 0, sink=-SIGKILL) == [
        ProcessFailed("sink", "was killed by SIGKILL; cannot restart it without a journal"),
        *ASKED_TWICE,
    ]
    assert exit_actions(machine, 1, ventilator=-SIGTERM, w1=0) == []
    assert machine.deadline == 5
    assert machine.tick(5) == [
        ShowMessage("warning: worker-2 did not exit in time; sending SIGKILL"),
        SendSignal("worker-2", SIGKILL),
    ]
    assert exit_actions(machine, 5, w2=-SIGKILL) == []
    assert (machine.done, machine.exit_code) == (True, 3)


def test_sink_start_failure_is_exit_code_of_run() -> None:
    machine = started()
    assert exit_actions(machine, 0, sink=2) == ASKED_TWICE
    exit_actions(machine, 0, ventilator=143, w1=0, w2=0)
    assert (machine.done, machine.exit_code) == (True, 2)


def test_process_remaining_after_sink_is_killed() -> None:
    machine = started()
    exit_actions(machine, 0, ventilator=0, w1=0, sink=0)
    assert machine.deadline == 2
    assert machine.tick(2) == [
        ShowMessage("warning: worker-2 did not exit in time; sending SIGTERM"),
        SendSignal("worker-2", SIGTERM),
        ForwardSignal("worker-2", SIGTERM),
    ]
    assert machine.tick(7) == [
        ShowMessage("warning: worker-2 did not exit in time; sending SIGKILL"),
        SendSignal("worker-2", SIGKILL),
    ]
    assert machine.tick(12) == [
        ShowMessage("warning: worker-2 did not exit in time; sending SIGKILL"),
        SendSignal("worker-2", SIGKILL),
    ]
    exit_actions(machine, 12, w2=-SIGKILL)
    assert (machine.done, machine.exit_code) == (True, 0)


def test_late_tick_after_last_exit_is_silent() -> None:
    machine = started()
    exit_actions(machine, 0, ventilator=0, w1=0, sink=0)
    exit_actions(machine, 3, w2=0)  # after the deadline, but before a tick
    assert machine.tick(3) == []
    assert machine.done


def test_first_stop_goes_to_sink() -> None:
    machine = started()
    assert machine.on_stop_signal(SIGINT, 3) == [SOON, ForwardSignal("sink", SIGINT)]
    assert machine.deadline == NEVER
    assert exit_actions(machine, 60, w1=-SIGKILL, w2=0, ventilator=130, sink=130) == []
    assert (machine.done, machine.exit_code) == (True, 130)


def test_second_stop_escalates_after_grace() -> None:
    machine = started()
    assert machine.on_stop_signal(SIGTERM, 0) == [
        ShowMessage("stopping after running tasks finish; send SIGTERM again to kill them"),
        ForwardSignal("sink", SIGTERM),
    ]
    assert machine.on_stop_signal(SIGTERM, 1) == [ForwardSignal("sink", SIGTERM)]
    assert machine.on_stop_signal(SIGTERM, 2) == [ForwardSignal("sink", SIGTERM)]
    assert exit_actions(machine, 3, ventilator=143, w1=0) == []
    assert machine.deadline == 6
    assert machine.tick(6) == [
        ShowMessage("warning: sink, worker-2 did not exit in time; sending SIGTERM"),
        *(word("sink", SIGTERM) for word in (SendSignal, ForwardSignal)),
        *(word("worker-2", SIGTERM) for word in (SendSignal, ForwardSignal)),
    ]
    assert machine.tick(11) == [
        ShowMessage("warning: sink, worker-2 did not exit in time; sending SIGKILL"),
        SendSignal("sink", SIGKILL),
        SendSignal("worker-2", SIGKILL),
    ]
    exit_actions(machine, 11, w2=-SIGKILL)
    assert exit_actions(machine, 11, sink=-SIGKILL) == [ProcessFailed("sink", "was killed by SIGKILL")]
    assert (machine.done, machine.exit_code) == (True, 143)


def test_stop_cancels_planned_starts() -> None:
    machine = started()
    exit_actions(machine, 0, w1=-SIGKILL)
    machine.on_stop_signal(SIGINT, 0.1)
    assert machine.tick(1) == []


def test_stop_after_sink_goes_to_remaining_processes() -> None:
    machine = started()
    exit_actions(machine, 0, ventilator=0, w1=0, sink=1)
    assert machine.on_stop_signal(SIGINT, 1) == [SOON, ForwardSignal("worker-2", SIGINT)]
    exit_actions(machine, 1, w2=0)
    assert machine.exit_code == 1


def test_stop_before_start_starts_nothing() -> None:
    machine = Supervisor(ALL)
    assert machine.on_stop_signal(SIGINT, 0) == [SOON]
    assert (machine.done, machine.exit_code, machine.tick(0)) == (True, 130, [])


# --- a journal, and an input that can be read again --------------------------------------------------


@pytest.mark.parametrize("name", ["sink", "ventilator"])
@pytest.mark.parametrize("status", [-SIGKILL, 70])
def test_crashed_restartable_process_is_restarted(name: str, status: int) -> None:
    machine = started(SAFE)
    assert exit_actions(machine, 3, **{name: status}) == [
        ShowMessage(f"warning: {name} {describe_exit(status)}; restarting in 0.1 s")
    ]
    assert machine.tick(3.5) == [StartProcess(name)]
    assert exit_actions(machine, 9, ventilator=1, w1=0, w2=0, sink=1) == []
    assert (machine.done, machine.exit_code) == (True, 1)


@pytest.mark.parametrize("code", [2, 3])
def test_sink_that_exits_is_not_restarted(code: int) -> None:
    machine = started(SAFE)
    assert exit_actions(machine, 3, sink=code) == ASKED_TWICE
    exit_actions(machine, 3, ventilator=143, w1=0, w2=0)
    assert (machine.done, machine.exit_code) == (True, code)


def test_ventilator_that_exits_is_not_restarted() -> None:
    machine = started(SAFE)
    assert exit_actions(machine, 3, ventilator=3) == [ForwardSignal("sink", SIGTERM)]
    exit_actions(machine, 3, sink=143, w1=0, w2=0)
    assert (machine.done, machine.exit_code) == (True, 3)


def test_repeatedly_crashing_sink_ends_run() -> None:
    crash_repeatedly(started(SAFE), "sink", -SIGKILL, ASKED_TWICE)


def test_repeatedly_crashing_ventilator_ends_run() -> None:
    crash_repeatedly(started(SAFE), "ventilator", -SIGKILL, [ForwardSignal("sink", VENTILATOR_DEAD)])


def test_sink_is_restarted_after_ventilator_finished() -> None:
    machine = started(SAFE)
    assert exit_actions(machine, 3, ventilator=0, w1=-SIGKILL) == []
    assert exit_actions(machine, 3, sink=-SIGKILL) == [
        ShowMessage("warning: sink was killed by SIGKILL; restarting in 0.1 s")
    ]
    assert machine.tick(3.5) == [StartProcess("sink")]
    assert exit_actions(machine, 4, w2=0, sink=0) == []
    assert (machine.done, machine.exit_code) == (True, 0)


def test_stopped_run_gets_no_other_sink() -> None:
    machine = started(SAFE)
    machine.on_stop_signal(SIGINT, 1)
    assert exit_actions(machine, 2, sink=-SIGKILL) == [ProcessFailed("sink", "was killed by SIGKILL"), *ASKED_TWICE]
    exit_actions(machine, 3, ventilator=143, w1=0, w2=0)
    assert (machine.done, machine.exit_code) == (True, 130)


def test_stop_without_sink_terminates_all_others() -> None:
    machine = started(SAFE)
    exit_actions(machine, 1, sink=-SIGKILL)
    assert machine.on_stop_signal(SIGINT, 1.1) == [SOON, *ASKED_TWICE]
    assert exit_actions(machine, 2, ventilator=143, w1=0, w2=0) == []
    assert (machine.done, machine.exit_code) == (True, 130)


def test_worker_usage_error_without_sink_ends_run() -> None:
    machine = started(SAFE)
    exit_actions(machine, 1, sink=-SIGKILL, w1=0)
    assert exit_actions(machine, 1, w2=2) == [
        *(word("ventilator", SIGTERM) for word in (SendSignal, ForwardSignal)),
        ForwardSignal("ventilator", SIGTERM),
    ]
    exit_actions(machine, 1, ventilator=143)
    assert (machine.done, machine.exit_code) == (True, 2)


# --- a ventilator that died and is not restarted, and the sink ----------------------------------------

JOURNALED = {**SAFE, "ventilator": False}


def test_dead_ventilator_hanging_sink_is_killed() -> None:
    machine = started()
    exit_actions(machine, 7, ventilator=-SIGKILL)
    assert machine.tick(12)[0] == ShowMessage("warning: sink, worker-1, worker-2 did not exit in time; sending SIGTERM")


def test_dead_ventilator_restarted_sink_is_signalled() -> None:
    machine = started(JOURNALED)
    exit_actions(machine, 1, sink=-SIGKILL)
    assert machine.tick(1.5) == [StartProcess("sink")]
    assert exit_actions(machine, 1.5, ventilator=-SIGKILL)[1:] == [ForwardSignal("sink", VENTILATOR_DEAD)]


@pytest.mark.parametrize("first", ["sink", "ventilator"])
def test_dead_ventilator_and_sink_end_the_run(first: str) -> None:
    machine = started(JOURNALED)
    exit_actions(machine, 1, **{first: -SIGKILL})
    last = exit_actions(machine, 1, **{"ventilator" if first == "sink" else "sink": -SIGKILL})
    assert last[1:] == [action for action in ASKED_TWICE if action.name != "ventilator"]
    assert machine.tick(4) == []
    exit_actions(machine, 4, w1=0, w2=0)
    assert (machine.done, machine.exit_code) == (True, 3)
