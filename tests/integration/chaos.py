"""Real pipelines with faults: a failpoint at one message, or random faults from a seed.

A killed station is started again with the same arguments, as a user would do. The oracle checks the result.
A pipeline that does not end in time is a violation, too.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.runtime.failpoints import VARIABLE
from tests.integration import recorded_tasks
from tests.integration.cluster import TIMEOUT_SECONDS, Cluster, PipeProcess
from tests.integration.oracle import (
    DEAD_LETTERS_FILE,
    OUTPUT_FILE,
    PLAIN,
    TASKS_FILE,
    find_excessive,
    find_violations,
    record_acks,
)
from tests.integration.variants import Variant
from tests.support.processes import wait_until

HEARTBEAT_TIMEOUT_SECONDS = 1.0
HEARTBEAT_OPTIONS = ("--interval", "0.1", "--liveness", HEARTBEAT_TIMEOUT_SECONDS)
WORK_COMMAND = ("work", "-j", "2", "--call", f"{Path(recorded_tasks.__file__)}:run_task")
STATION_COMMANDS: dict[str, tuple[object, ...]] = {
    "sink": ("sink", "-v", "-o", OUTPUT_FILE, "--failed", DEAD_LETTERS_FILE, *HEARTBEAT_OPTIONS),
    "ventilator": ("ventilate", "-v", *HEARTBEAT_OPTIONS, TASKS_FILE),
    "worker-1": (*WORK_COMMAND[:1], "-v", *WORK_COMMAND[1:]),
    "worker-2": (*WORK_COMMAND[:1], "-v", *WORK_COMMAND[1:]),
}
RUN_COMMAND = ("run", "-v", "-w", "2", "-j", "2", "--failed", DEAD_LETTERS_FILE, *HEARTBEAT_OPTIONS)
"""Without output, tasks and function."""
END_TIMEOUT_SECONDS = TIMEOUT_SECONDS
"""Deadline of a run after its last fault; it only ends a run that hangs."""
GOOD_EXIT_CODES = {0, 1}
RESTARTS_SINK = True
"""A killed sink is restarted and resumes; this needs a journal."""


def station_commands(variant: Variant) -> dict[str, tuple[object, ...]]:
    """Return the commands of the three stations; the variant is the sink's."""
    sink = ("sink", "-v", "-o", variant.output, *STATION_COMMANDS["sink"][4:], *variant.options)
    return {**STATION_COMMANDS, "sink": sink}


def start_run(cluster: Cluster, variant: Variant, **environment: str) -> PipeProcess:
    """Start `pipe run` in this variant."""
    given = () if variant.is_from_stdin else ("-a", TASKS_FILE)
    words = (*RUN_COMMAND, "-o", variant.output, *given, *variant.options, *WORK_COMMAND[3:])
    tasks = cluster.path(TASKS_FILE).read_text() if variant.is_from_stdin else ""
    return cluster.start(*words, tasks=_pipe_with(tasks) if tasks else "", **environment)


def _pipe_with(text: str) -> int:
    """Return the read end of a pipe with a short text, which cannot be read twice."""
    read_fd, write_fd = os.pipe()
    os.write(write_fd, text.encode())
    os.close(write_fd)
    return read_fd


def write_tasks(folder: Path, count: int, seconds: float, gated_count: int = 0, *, has_poison: bool = False) -> None:
    """Write `count` tasks of `seconds`, every tenth of which fails, and some that wait for the gate."""
    hows = ["fail" if number % 10 == 9 else f"{seconds}" for number in range(count)] + ["gate"] * gated_count
    hows += ["poison"] * has_poison
    folder.joinpath(TASKS_FILE).write_text("".join(f"{number} {how}\n" for number, how in enumerate(hows)))


def exit_code_of(process: PipeProcess) -> int | None:
    """Return the exit code if the process has ended."""
    return process._process.poll()


class RunningStations:
    """Stations of a pipeline of three commands, and the faults they had."""

    def __init__(self, cluster: Cluster, commands: Mapping[str, Sequence[object]]) -> None:
        self._cluster, self._commands = cluster, commands
        self.processes: dict[str, PipeProcess] = {}
        self.restarted: set[str] = set()
        """Stations that were started again, perhaps too late for the run."""
        self.loss_times: list[float] = []
        self.victim: PipeProcess | None = None
        """Stations with a fault, perhaps only after the end of the run."""
        self.excessive: set[str] = set()
        """Stations with more memory or descriptors than a small pipeline needs."""

    def start(self, role: str, **environment: str) -> None:
        """Start the station of this role."""
        self.processes[role] = self._cluster.start(*self._commands[role], **environment)

    def restart(self, role: str) -> None:
        """Start a dead station again."""
        if role.startswith("worker"):
            self.loss_times.append(time.monotonic())
        self.restarted.add(role)
        self.start(role)

    def is_finished(self) -> bool:
        """Return whether the stations that were never restarted report the end of the run."""
        ended = {exit_code_of(self.processes[part]) for part in ("sink", "ventilator") if part not in self.restarted}
        return bool(ended & GOOD_EXIT_CODES) or exit_code_of(self.processes["sink"]) in GOOD_EXIT_CODES

    def wait_for_end(self) -> list[str]:
        """Wait for the end, and return the violations."""
        players = self.processes
        try:
            wait_until(self._is_done, END_TIMEOUT_SECONDS)
        except AssertionError:
            here = {part: exit_code_of(player) for part, player in players.items()}
            return [f"the line hangs: {here}", *(player.stderr for player in players.values())]
        return [
            *sorted(self.excessive),
            *self._wrong_exits(),
        ]

    def _is_done(self) -> bool:
        self.excessive |= find_excessive(self._cluster.living_pids())
        return all(exit_code_of(player) is not None or self._is_waiting(player) for player in self.processes.values())

    def _wrong_exits(self) -> list[str]:
        return [
            f"{part} ended with {player.wait()}:\n{player.stderr}"
            for part, player in self.processes.items()
            if not _terminate_if_running(player)
            and player is not self.victim
            and player.wait() != (0 if part.startswith("worker") else 1)
        ]

    def _is_waiting(self, process: PipeProcess) -> bool:
        """Return whether a restarted station missed the finished run and reports that it waits for another."""
        report = process.stderr.splitlines()
        return self.is_finished() and bool(report) and "start one with" in report[-1]


def _terminate_if_running(process: PipeProcess) -> bool:
    """Terminate the process, and return whether it was still running."""
    if exit_code_of(process) is not None:
        return False
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.wait()
    return True


def record_points(*, run: bool = False, variant: Variant = PLAIN) -> list[tuple[str, int]]:
    """Return all points and hits that a small pipeline, or `pipe run`, reaches without a fault."""
    with Cluster() as cluster:
        note = cluster.folder.parent / "points"
        write_tasks(cluster.folder, 40, 0.01)
        plan = {VARIABLE: f"record:{note}"}
        if run:
            start_run(cluster, variant, **plan).wait()
        else:
            players = [cluster.start(*words, **plan) for words in station_commands(variant).values()]
            for player in players:
                player.wait()
        pairs = {(point, int(hit)) for point, hit in (line.split() for line in note.read_text().splitlines())}
        return sorted(pairs)


def run_with_failpoint(point: str, hit: int, action: str = "kill", variant: Variant = PLAIN) -> list[str]:
    """Return the violations of a pipeline of three commands with a fault at this point."""
    role = point.partition(".")[0]
    victim = "worker-1" if role == "worker" else role
    with Cluster() as cluster:
        write_tasks(cluster.folder, 40, 0.01)
        commands = station_commands(variant)
        cast = RunningStations(cluster, commands)
        with record_acks(f"ipc://{cluster.runtime_folder}/pipe/default/control", cluster.folder):
            for part in commands:
                cast.start(part, **({VARIABLE: f"{point}:{hit}={action}"} if part == victim else {}))
            fallen = cast.victim = cast.processes[victim]
            try:
                wait_until(lambda: exit_code_of(fallen) is not None, END_TIMEOUT_SECONDS)  # also if it is not struck
            except AssertionError:
                return [
                    f"{point}:{hit} hangs before it is struck",
                    *(player.stderr for player in cast.processes.values()),
                ]
            if exit_code_of(fallen) not in {*GOOD_EXIT_CODES, None}:
                cast.restart(victim)
            broken = cast.wait_for_end()
        return broken + check_run(cluster, cast.loss_times, variant)


def run_launcher_with_failpoint(point: str, hit: int, action: str = "kill", variant: Variant = PLAIN) -> list[str]:
    """Return the violations of a `pipe run` with a fault at this point; the launcher restarts the process."""
    with Cluster() as cluster:
        write_tasks(cluster.folder, 40, 0.01, has_poison=variant.has_poison)
        mark = cluster.folder.parent / "struck"
        run = start_run(cluster, variant, **{VARIABLE: f"{point}:{hit}={action},once:{mark}"})
        try:
            ended = run.wait((2 + variant.has_poison) * END_TIMEOUT_SECONDS)
        except AssertionError as hangs:
            return [str(hangs)]
        losses = [time.monotonic()] if mark.exists() and point.startswith("worker") else []
        broken = [f"pipe run ended with {ended}:\n{run.stderr}"] if ended != 1 else []
        return broken + check_run(cluster, losses, variant)


def check_run(cluster: Cluster, loss_times: Sequence[float], variant: Variant = PLAIN) -> list[str]:
    """Return the violations found by the oracle, and any remaining process or file."""
    broken = find_violations(cluster.folder, loss_times, variant)
    try:
        cluster.assert_empty()
    except AssertionError as left:
        broken.append(f"somebody or something is left: {left} {cluster.living_pids()}")
    return broken
