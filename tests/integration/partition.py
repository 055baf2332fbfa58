"""Partitions: a worker in a separate network namespace whose packets are lost silently, one way or both.

Dropped packets go to a neighbour that does not exist, so no error is reported and connections stay half-open. Needs
root and `ip netns`; `unavailable_reason` returns why this machine cannot do it.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Self

from tests.integration.chaos import (
    HEARTBEAT_OPTIONS,
    HEARTBEAT_TIMEOUT_SECONDS,
    WORK_COMMAND,
    RunningStations,
    check_run,
    write_tasks,
)
from tests.integration.cluster import Cluster
from tests.integration.oracle import GATE_FILE, OUTPUT_FILE, TASKS_FILE, record_acks
from tests.integration.random_faults import LANE_PORTS, PORT_NAMES
from tests.support.lab_programs import free_ports

UNUSED_MAC = "02:00:00:00:00:01"


def unavailable_reason() -> str:
    """Return why this machine cannot make partitions; empty if it can."""
    if not shutil.which("ip"):
        return "there is no `ip`"
    if os.getuid():
        return "only root may make network namespaces"
    try:
        with NetworkNamespace():
            return ""
    except subprocess.CalledProcessError as error:
        return f"{' '.join(error.cmd)}: {error.stderr.decode().strip()}"


class NetworkNamespace:
    """Namespace with one link to this one. `here` and `there` are the addresses of the ends."""

    def __init__(self) -> None:
        pid = os.getpid()
        self.name = f"pipe{pid}"
        network = f"10.{200 + (pid >> 14) % 50}.{(pid >> 6) % 256}"
        self.local_address, self.remote_address = (f"{network}.{pid % 64 * 4 + host}" for host in (1, 2))

    def __enter__(self) -> Self:
        near, far = f"{self.name}a", f"{self.name}b"
        _run_ip("netns", "add", self.name)
        try:
            _run_ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", self.name)
            _run_ip("addr", "add", f"{self.local_address}/30", "dev", near)
            _run_ip("link", "set", near, "up")
            _run_ip("-n", self.name, "addr", "add", f"{self.remote_address}/30", "dev", far)
            for device in ("lo", far):
                _run_ip("-n", self.name, "link", "set", device, "up")
        except subprocess.CalledProcessError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the namespace, and the link with it."""
        _run_ip("netns", "del", self.name)

    @contextmanager
    def drop_packets(self, direction: str) -> Iterator[None]:
        """Drop packets `up` (from there), `down` or both ways for a time."""
        ends = {
            "down": ((), self.remote_address, f"{self.name}a"),
            "up": (("-n", self.name), self.local_address, f"{self.name}b"),
        }
        chosen = [end for name, end in ends.items() if name in direction or direction == "both"]
        for where, address, device in chosen:
            _run_ip(*where, "neigh", "replace", address, "lladdr", UNUSED_MAC, "nud", "permanent", "dev", device)
        try:
            yield
        finally:
            for where, address, device in chosen:
                _run_ip(*where, "neigh", "del", address, "dev", device)


class SplitCluster(Cluster):
    """Cluster with some processes in the other namespace."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def command(self, *arguments: object) -> list[str]:
        """Return the argv; a first argument `far` selects the other namespace."""
        if arguments[0] == "far":
            return ["ip", "netns", "exec", self._name, *super().command(*arguments[1:])]
        return super().command(*arguments)


def run_with_partition(seed: int) -> list[str]:
    """Return the violations of a pipeline with one worker that is cut off twice."""
    rng = random.Random(seed)
    with NetworkNamespace() as far, SplitCluster(far.name) as cluster, ExitStack() as stack:
        write_tasks(cluster.folder, 200, 0.02, gated_count=2)
        at = {
            port: f"tcp://{far.local_address}:{number}"
            for port, number in zip(PORT_NAMES, free_ports(len(PORT_NAMES)), strict=True)
        }
        ends = ("--insecure", "--desk", at["desk"], "--control-at", at["control"])
        work = ("-v", *ends, *WORK_COMMAND[1:])
        cast = RunningStations(cluster, {
            "sink": ("sink", "-v", "-o", OUTPUT_FILE, *HEARTBEAT_OPTIONS, *ends, "--results-at", at["results"]),
            "ventilator": ("ventilate", "-v", *HEARTBEAT_OPTIONS, *ends, "--results-at", at["results"],
                           "--lane-ports", LANE_PORTS, TASKS_FILE),
            "worker-1": ("far", "work", *work),
            "worker-2": ("work", *work),
        })  # fmt: skip
        stack.enter_context(record_acks(at["control"], cluster.folder))
        for part in ("sink", "ventilator", "worker-1", "worker-2"):
            cast.start(part)
        for _ in range(rng.randint(1, 3)):
            time.sleep(rng.uniform(0.3, 1))
            with far.drop_packets(rng.choice(("up", "down", "both"))):
                cast.loss_times += [float("-inf")]
                time.sleep(rng.uniform(0, 3) * HEARTBEAT_TIMEOUT_SECONDS)
        (cluster.folder / GATE_FILE).touch()
        broken = cast.wait_for_end()
        return broken + check_run(cluster, cast.loss_times)


def _run_ip(*arguments: str) -> None:
    with suppress(FileNotFoundError):
        subprocess.run(["ip", *arguments], check=True, capture_output=True)
