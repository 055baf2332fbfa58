"""The plan of one seed: the tasks, the limits, and the kinds and rates of faults.

Swarm testing: each seed draws its own kinds of faults and their rates, so that some seeds have none and some have four.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from pipeline.model.option_values import HaltCondition

HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, PEER_TIMEOUT = 1.0, 8.0, 300.0
"""Seconds, of all stations."""
SMALL_WINDOW = 64
"""Bytes of a window that is smaller than the input of many plans."""
LINES_PER_TASK = 3
"""Lines of a task in the report mode `live`."""
FAULT_KINDS = (
    *("break", "dead", "drop", "double", "late", "kill worker", "freeze worker", "freeze all"),
    *("restart ventilator", "restart sink", "leave", "partition", "suspend", "freeze ventilator", "freeze sink"),
)
"""Links draw drop, double and late for each message; the other kinds happen at random times."""


REPORT_MODES = ("", "metrics", "log", "live")


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """The work of one seed, and its faults by their rate per second."""

    seed: int
    tasks: int
    workers: int
    slots: int
    seconds: float
    long_seconds: float
    """Seconds of each 13th task; 0.0: as long as the others."""
    keep_order: bool
    chunk: int | None
    window: int
    slow_input: bool
    delay: float
    faults: dict[str, float]
    faults_end_at: float = 12.0
    spill_limit: int = 10 << 30
    stop_mode: str = ""
    """How the user stops the run: soon, now, or not at all (empty)."""
    stop_at: float = 0.0
    retries: int = 0
    retry_delay: float = 0.0
    has_poison_tasks: bool = False
    """Whether some tasks crash their worker."""
    halt: HaltCondition | None = None
    has_batched_reports: bool = False
    """Whether an executor reports several tasks at once."""
    report_mode: str = ""
    """Report options of the sink: metrics, a log of each attempt (log), or streamed lines (live)."""
    disk_full_at: float = inf
    """When the output disk is full for good, in a run that is stopped."""
    edited: int = -1
    """The task whose record is changed before the second reading of the input; -1 for none."""
    ventilator_dies: float = inf
    """When the ventilator dies and is not restarted."""
    padding_bytes: int = 0
    """Additional bytes of each record."""
    restart_window: int = 1 << 62
    """Upper bound of the window of a restarted ventilator: the user may have chosen a smaller one."""
    large_lines: int = 0
    """Lines of a task whose result is large; 0: no task has one."""

    def __post_init__(self) -> None:
        unknown = self.faults.keys() - set(FAULT_KINDS)
        if unknown or self.report_mode not in REPORT_MODES or self.stop_mode not in {"", "soon", "now"}:
            raise ValueError(f"unknown fault or mode: {unknown or self.report_mode or self.stop_mode}")

    def seconds_of(self, task: int) -> float:
        """Return the duration of this task."""
        return self.long_seconds if self.long_seconds and task % 13 == 5 else self.seconds

    @property
    def group(self) -> int:
        """Records that share a checksum."""
        return 1 + self.seed % 8

    @property
    def ends_early(self) -> bool:
        """Whether the run may end before all tasks are settled."""
        return bool(self.stop_mode or self.halt) or self.ventilator_dies < inf

    @property
    def halt_count(self) -> float:
        """The number of halt events after which no task starts. A percentage is exact if the window has all tasks."""
        is_exact = self.halt and not (self.halt.percent and min(self.window, self.restart_window) <= SMALL_WINDOW)
        return self.halt.events_left(0, 0, self.tasks) if self.halt and is_exact else inf

    @property
    def effective_disk_full_at(self) -> float:
        """When the disk is full; a run that is not stopped would wait for ever."""
        return self.disk_full_at if self.stop_mode else inf

    @property
    def has_journal(self) -> bool:
        """Whether another sink can continue the run. It cannot know which lines were already shown."""
        return self.report_mode != "live"

    @property
    def deadline(self) -> float:
        """When the run must have ended."""
        extra = 60 * self.retries * self.retry_delay + (self.tasks // 17 + 1) * 120 * self.has_poison_tasks
        return self.faults_end_at + 150 + extra + 4 * self.tasks * (1 + self.retries) * max(self.seconds, self.delay)

    @property
    def late_exit_seconds(self) -> float:
        """How much later a process may end that missed the end of the run.

        A sink waits for its peers no longer than the heartbeat timeout. After the death of the ventilator it waits even
        less: the launcher, which is not simulated, ends the remaining processes.
        """
        missed = self.ventilator_dies < inf or {"partition", "freeze ventilator", "suspend"} & self.faults.keys()
        return 2 * PEER_TIMEOUT if missed or {"drop", "freeze all"} <= self.faults.keys() else 0.0

    @property
    def loses_workers(self) -> bool:
        """Whether workers are lost for other reasons than tasks, so that a harmless task may fail as poison."""
        kinds = {"kill worker", "freeze worker", "freeze all", "dead", "partition", "suspend", "restart ventilator"}
        return not kinds.isdisjoint(self.faults)

    def outcome(self, task: int) -> str:
        """Return the final outcome of a task: ok, exit or poison."""
        if self.has_poison_tasks and task % 17 == 8:
            return "poison"
        return "exit" if self.fails(task, self.retries) else "ok"

    def fails(self, task: int, attempt: int) -> bool:
        """Return whether this attempt of a task fails."""
        return task % 7 == 6 or (task % 11 == 3 and attempt == 0)

    def output_lines(self, task: int, attempt: int) -> list[bytes]:
        """Return the output of an attempt: the task number, repeated if streamed, longer if the attempt fails."""
        is_last = attempt == self.retries or not self.fails(task, attempt)
        line = b"%d\n" if is_last or self.report_mode != "live" else b"00%d\n"
        lines = LINES_PER_TASK if self.report_mode == "live" else 1
        return [line % task] * (self.large_lines if self.is_large(task) else lines)

    def is_large(self, task: int) -> bool:
        """Return whether the output of a task is kept in a file and sent in pieces."""
        return self.large_lines > 0 and task % 3 == 1

    def is_poison(self, task: int) -> bool:
        return self.outcome(task) == "poison"


def draw_plan(seed: int) -> SimulationPlan:
    """Draw the plan of this seed."""
    rng = random.Random(seed)
    chosen = rng.sample(FAULT_KINDS, rng.randint(0, 4))
    drawn = SimulationPlan(
        seed=seed,
        tasks=rng.choice([0, 1, 7, 30, 60]),
        workers=rng.randint(1, 3),
        slots=rng.randint(1, 3),
        seconds=rng.choice([0.001, 0.03, 0.3, 0.8]),
        long_seconds=rng.choice([0.0, 0.0, 5.0]),
        keep_order=rng.random() < 0.4,
        chunk=rng.choice([None, None, 1, 4]),
        window=rng.choice([SMALL_WINDOW, 1 << 20]),
        slow_input=rng.random() < 0.2,
        delay=rng.choice([0.001, 0.02, 0.3]),
        faults={kind: rng.choice([0.05, 0.2, 0.6]) for kind in chosen},
    )
    drawn = replace(
        drawn,
        stop_mode=rng.choice(["soon", "now"]) if rng.random() < 0.1 else "",
        spill_limit=rng.choice([10 << 30, 10 << 30, 4]),
        stop_at=10 * rng.random(),
        retries=rng.choice([0, 0, 1, 3]),
        retry_delay=rng.choice([0.0, 0.5]),
    )
    mode: Literal["soon", "now"] = rng.choice(["soon", "now"])
    halt = (
        HaltCondition(mode, rng.choice(["fail", "success", "done"]), rng.choice([1, 5])) if rng.random() < 0.1 else None
    )
    padding = 3 << 20 if rng.random() < 0.01 and drawn.tasks <= 30 else 0
    drawn = replace(
        drawn,
        halt=halt,
        has_poison_tasks=rng.random() < 0.1,
        has_batched_reports=rng.random() < 0.3,
        padding_bytes=padding,
    )
    report_mode = rng.choice(["", "", "", "metrics", "log", "live"])
    drawn = replace(drawn, report_mode=report_mode)
    faults = {kind: rate for kind, rate in drawn.faults.items() if drawn.has_journal or kind != "restart sink"}
    disk_full_at = 10 * rng.random() if drawn.stop_mode and rng.random() < 0.3 else inf
    ventilator_dies = 10 * rng.random() if rng.random() < 0.1 else inf
    stop_at = drawn.stop_at / 100 if rng.random() < 0.2 else drawn.stop_at  # before the run is known
    if halt and not padding and drawn.window > SMALL_WINDOW and rng.random() < 0.3:  # the window must contain all tasks
        drawn = replace(drawn, halt=HaltCondition(halt.mode, halt.event, percent=rng.choice([1, 20, 100])))
    large_lines = rng.choice([3, 9, 60]) if rng.random() < 0.2 else 0
    drawn = replace(drawn, disk_full_at=disk_full_at, ventilator_dies=ventilator_dies, large_lines=large_lines)
    restart_window = SMALL_WINDOW if rng.random() < 0.1 else 1 << 62
    return replace(drawn, faults=faults, stop_at=stop_at, restart_window=restart_window)
