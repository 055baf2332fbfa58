"""Random faults from a seed in a pipeline of three commands on tcp.

Stations are frozen and killed, connections reset, held and delayed. The messages for registry, results and control pass
through proxies. The kernel resets lanes, whose ports the ventilator chooses, if it can (`ss -K`). Only the seed
determines the plan. After it all faults are repaired, and the oracle checks the result.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

import psutil

from tests.integration.chaos import (
    HEARTBEAT_OPTIONS,
    HEARTBEAT_TIMEOUT_SECONDS,
    WORK_COMMAND,
    RunningStations,
    check_run,
    write_tasks,
)
from tests.integration.cluster import Cluster, PipeProcess
from tests.integration.oracle import GATE_FILE, OUTPUT_FILE, TASKS_FILE, record_acks
from tests.support.lab_programs import free_ports
from tests.support.proxy import Proxy

PORT_NAMES = ("desk", "results", "control")
LANE_PORT_COUNT = 40
"""Ports for lanes."""
FIRST_LANE_PORT = 10000 + os.getpid() % 500 * (LANE_PORT_COUNT + 1)
"""Below the ports that the kernel chooses. Two test processes have other lanes, since these are reset by port."""
SHORT_FAULT_SECONDS = HEARTBEAT_TIMEOUT_SECONDS / 3
"""Duration of a fault that must not lose a worker."""


LANE_PORTS = f"{FIRST_LANE_PORT}-{FIRST_LANE_PORT + LANE_PORT_COUNT}"


@dataclass(frozen=True, order=True)
class PlannedFault:
    """Fault with its time, target and duration."""

    at: float
    kind: str
    target: str
    duration: float

    def __str__(self) -> str:
        """Return one line for the report."""
        return f"{self.at:5.2f} s: {self.kind} {self.target} for {self.duration:.2f} s"


def plan_faults(seed: int, seconds: float, *, sink: bool = False) -> list[PlannedFault]:
    """Return the faults of this seed; with `sink` the sink may be killed, too."""
    rng = random.Random(seed)
    mortal = ["worker-1", "worker-2", "ventilator", *(["sink"] if sink else [])]
    targets = {
        "freeze": ["worker-1", "worker-2", "ventilator", "sink"],
        "kill": mortal,
        "reset": [*PORT_NAMES, "lanes"],
        "hold": [f"{port} {way}" for port in PORT_NAMES for way in ("", "up", "down")],
        "delay": list(PORT_NAMES),
    }
    kinds = rng.sample(sorted(targets), rng.randint(1, 4))
    faults = []
    for _ in range(rng.randint(2, 10)):
        what = rng.choice(kinds)
        lasts = rng.choice((SHORT_FAULT_SECONDS * rng.random(), 3 * HEARTBEAT_TIMEOUT_SECONDS * rng.random()))
        faults.append(PlannedFault(rng.uniform(0.2, seconds), what, rng.choice(targets[what]).strip(), lasts))
    return sorted(faults)


class FaultyCluster:
    """Pipeline with its proxies and faults."""

    def __init__(self, cluster: Cluster, stack: ExitStack) -> None:
        own = dict(zip(PORT_NAMES, free_ports(len(PORT_NAMES)), strict=True))
        self.endpoints = {port: f"tcp://127.0.0.1:{number}" for port, number in own.items()}
        self._proxies = {port: stack.enter_context(Proxy(at)) for port, at in self.endpoints.items()}
        by = {port: proxy.endpoint for port, proxy in self._proxies.items()}
        far = ("--insecure", "--results-at", by["results"], "--control-at", by["control"])
        work = (*WORK_COMMAND[:1], "-v", "--desk", by["desk"], *far, *WORK_COMMAND[1:])
        here = ("--insecure", "--desk", self.endpoints["desk"], "--results-at", self.endpoints["results"])
        self.stations = RunningStations(cluster, {
            "sink": ("sink", "-v", "-o", OUTPUT_FILE, *HEARTBEAT_OPTIONS, *here, "--control-at",
            self.endpoints["control"]),
            "ventilator": ("ventilate", "-v", *HEARTBEAT_OPTIONS, "--desk", self.endpoints["desk"], *far,
                           "--lane-ports", LANE_PORTS,
                           TASKS_FILE),
            "worker-1": work,
            "worker-2": work,
        })  # fmt: skip

    def start_fault(self, fault: PlannedFault) -> Callable[[], object]:
        """Start a fault, and return the function that ends it."""
        name, _, way = fault.target.partition(" ")
        if fault.kind in {"freeze", "kill"}:
            return self._strike(fault)
        if name == "lanes":
            return partial(reset_connections, FIRST_LANE_PORT, FIRST_LANE_PORT + LANE_PORT_COUNT)
        proxy = self._proxies[name]
        if fault.kind == "reset":
            proxy.send_command("reset")
            return lambda: None
        if fault.duration > SHORT_FAULT_SECONDS:
            self._allow_loss()
        proxy.send_command(*(("hold", way) if fault.kind == "hold" else ("delay", min(fault.duration, 0.3))))
        return partial(proxy.send_command, "pass")

    def _strike(self, fault: PlannedFault) -> Callable[[], object]:
        """Freeze or kill a station; a worker is the child of its supervisor."""
        player = self.stations.processes[fault.target]
        with suppress(psutil.Error, IndexError):  # the process has ended, or has no child yet
            station = player.children()[0] if fault.target.startswith("worker") else psutil.Process(player.pid)
            if fault.kind == "kill":
                station.kill()
                return partial(self._replace, fault.target, player)
            if fault.duration > SHORT_FAULT_SECONDS:
                self._allow_loss()
            station.suspend()
            return partial(resume, station)
        return lambda: None

    def _allow_loss(self) -> None:
        """Allow the loss of a worker, now or at the end of the fault."""
        self.stations.loss_times += [float("-inf")]

    def _replace(self, role: str, process: PipeProcess) -> None:
        with suppress(AssertionError):
            process.wait()
        self.stations.restart(role)


def reset_connections(low: int, high: int) -> None:
    """Reset all connections of these local ports; does nothing without `ss` or its permission."""
    if shutil.which("ss"):
        words = ["ss", "-K", "-t", f"( sport >= :{low} and sport <= :{high} )"]
        subprocess.run(words, check=False, capture_output=True)


def resume(process: psutil.Process) -> None:
    """Resume the process if it still exists."""
    with suppress(psutil.Error):
        process.resume()


def inject_faults(cluster: FaultyCluster, faults: list[PlannedFault]) -> None:
    """Start and end all faults at their times."""
    start = time.monotonic()
    coming: list[tuple[float, Callable[[], object], float]]
    coming = [(fault.at, partial(cluster.start_fault, fault), fault.duration) for fault in faults]
    while coming:
        coming.sort(key=lambda event: event[0])
        at, act, lasts = coming.pop(0)
        time.sleep(max(0.0, start + at - time.monotonic()))
        end = act()
        if callable(end):
            coming.append((at + lasts, end, 0.0))


def run_with_faults(seed: int, seconds: float = 3.0, *, sink: bool = False) -> list[str]:
    """Return the violations of a pipeline with the random faults of this seed."""
    with Cluster() as cluster, ExitStack() as stack:
        write_tasks(cluster.folder, 200, 0.02, gated_count=2)
        storm = FaultyCluster(cluster, stack)
        stack.enter_context(record_acks(storm.endpoints["control"], cluster.folder))
        for part in ("sink", "ventilator", "worker-1", "worker-2"):
            storm.stations.start(part)
        inject_faults(storm, plan_faults(seed, seconds, sink=sink))
        (cluster.folder / GATE_FILE).touch()
        broken = storm.stations.wait_for_end()
        return broken + check_run(cluster, storm.stations.loss_times)
