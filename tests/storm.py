"""A storm of a seed's faults over a line of three commands on tcp.

Stations are frozen and killed, connections reset, held and delayed. All that the stations say to desk, results and
control goes through proxies; lanes, whose ports the ventilator chooses, are reset by the kernel where it can (`ss -K`).
The plan is the seed's alone; when it is over all is healed, and the oracle judges.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

import psutil
from chaos import BEAT, LIVENESS, WORK, Cast, tasks, verdict
from labs import ports
from oracle import GATE, OUTPUT, TASKS, listening
from proxy import Proxy
from stage import Player, Stage

PORTS = ("desk", "results", "control")
LANES = 40
"""Ports for lanes."""
SHORT = LIVENESS / 3
"""Seconds of a fault that is no reason to lose anybody."""


@dataclass(frozen=True, order=True)
class Fault:
    """What happens when, to whom, and for how long."""

    at: float
    what: str
    whom: str
    lasts: float

    def __str__(self) -> str:
        """As it is printed."""
        return f"{self.at:5.2f} s: {self.what} {self.whom} for {self.lasts:.2f} s"


def planned(seed: int, seconds: float, *, sink: bool = False) -> list[Fault]:
    """The faults of this seed; with `sink` it may die as well."""
    rng = random.Random(seed)
    mortal = ["worker-1", "worker-2", "ventilator", *(["sink"] if sink else [])]
    targets = {
        "freeze": ["worker-1", "worker-2", "ventilator", "sink"],
        "kill": mortal,
        "reset": [*PORTS, "lanes"],
        "hold": [f"{port} {way}" for port in PORTS for way in ("", "up", "down")],
        "delay": list(PORTS),
    }
    kinds = rng.sample(sorted(targets), rng.randint(1, 4))
    faults = []
    for _ in range(rng.randint(2, 10)):
        what = rng.choice(kinds)
        lasts = rng.choice((SHORT * rng.random(), 3 * LIVENESS * rng.random()))
        faults.append(Fault(rng.uniform(0.2, seconds), what, rng.choice(targets[what]).strip(), lasts))
    return sorted(faults)


class Storm:
    """The line, its proxies, and what is done to them."""

    def __init__(self, stage: Stage, stack: ExitStack) -> None:
        own = dict(zip(PORTS, free_ports(), strict=True))
        self.at = {port: f"tcp://127.0.0.1:{number}" for port, number in own.items()}
        self._proxies = {port: stack.enter_context(Proxy(at)) for port, at in self.at.items()}
        by = {port: proxy.at for port, proxy in self._proxies.items()}
        self._lanes = 20000 + os.getpid() * 7 % 9000
        far = ("--insecure", "--results-at", by["results"], "--control-at", by["control"])
        work = (*WORK[:1], "-v", "--desk", by["desk"], *far, *WORK[1:])
        here = ("--insecure", "--desk", self.at["desk"], "--results-at", self.at["results"])
        self.cast = Cast(stage, {
            "sink": ("sink", "-v", "-o", OUTPUT, *BEAT, *here, "--control-at", self.at["control"]),
            "ventilator": ("ventilate", "-v", *BEAT, "--desk", self.at["desk"], *far,
                           "--lane-ports", f"{self._lanes}-{self._lanes + LANES}", TASKS),
            "worker-1": work,
            "worker-2": work,
        })  # fmt: skip

    def begin(self, fault: Fault) -> Callable[[], object]:
        """Do it; what ends it."""
        name, _, way = fault.whom.partition(" ")
        if fault.what in {"freeze", "kill"}:
            return self._strike(fault)
        if name == "lanes":
            return partial(cut, self._lanes, self._lanes + LANES)
        proxy = self._proxies[name]
        if fault.what == "reset":
            proxy.tell("reset")
            return lambda: None
        if fault.lasts > SHORT:
            self._lose()
        proxy.tell(*(("hold", way) if fault.what == "hold" else ("delay", min(fault.lasts, 0.3))))
        return partial(proxy.tell, "pass")

    def _strike(self, fault: Fault) -> Callable[[], object]:
        """Freeze or kill a station; a worker is the process below its keeper."""
        player = self.cast.playing[fault.whom]
        with suppress(psutil.Error, IndexError):  # it has ended, or has no station yet
            station = player.below()[0] if fault.whom.startswith("worker") else psutil.Process(player.pid)
            if fault.what == "kill":
                station.kill()
                return partial(self._replace, fault.whom, player)
            if fault.lasts > SHORT:
                self._lose()
            station.suspend()
            return partial(thaw, station)
        return lambda: None

    def _lose(self) -> None:
        """Some worker may be taken for lost, now or when it is over."""
        self.cast.losses += [float("-inf")]

    def _replace(self, part: str, fallen: Player) -> None:
        with suppress(AssertionError):
            fallen.code()
        self.cast.again(part)


def cut(low: int, high: int) -> None:
    """Reset all connections of these ports of ours; without `ss` or its right nothing happens."""
    if shutil.which("ss"):
        words = ["ss", "-K", "-t", f"( sport >= :{low} and sport <= :{high} )"]
        subprocess.run(words, check=False, capture_output=True)


def thaw(process: psutil.Process) -> None:
    """Let it go on, if it is still there."""
    with suppress(psutil.Error):
        process.resume()


def free_ports() -> Iterator[int]:
    """Three ports of this machine that nobody has, and that nobody else is given."""
    return iter(ports(len(PORTS)))


def blow(storm: Storm, faults: list[Fault]) -> None:
    """All faults, at their times, ended at theirs."""
    start = time.monotonic()
    coming: list[tuple[float, Callable[[], object], float]]
    coming = [(fault.at, partial(storm.begin, fault), fault.lasts) for fault in faults]
    while coming:
        coming.sort(key=lambda event: event[0])
        at, act, lasts = coming.pop(0)
        time.sleep(max(0.0, start + at - time.monotonic()))
        end = act()
        if callable(end):
            coming.append((at + lasts, end, 0.0))


def weathered(seed: int, seconds: float = 3.0, *, sink: bool = False) -> list[str]:
    """The broken promises of a line in the storm of this seed."""
    with Stage() as stage, ExitStack() as stack:
        tasks(stage.folder, 200, 0.02, gated=2)
        storm = Storm(stage, stack)
        stack.enter_context(listening(storm.at["control"], stage.folder))
        for part in ("sink", "ventilator", "worker-1", "worker-2"):
            storm.cast.enter(part)
        blow(storm, planned(seed, seconds, sink=sink))
        (stage.folder / GATE).touch()
        broken = storm.cast.see_through()
        return broken + verdict(stage, storm.cast.losses)
