"""Fault injection: broken and dead connections, frozen and killed stations, restarts, leaving workers.

Each kind in the plan happens at random intervals until the faults end. Links themselves drop, duplicate and delay
messages. After the last fault nothing is repaired from outside: the stations must recover themselves.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Literal

from pipeline.model.messages import StopRequest
from tests.simulation.plan import HEARTBEAT_TIMEOUT
from tests.simulation.process import SimulatedProcess
from tests.simulation.routing import Router
from tests.simulation.stations import SimulatedStations


class FaultInjector:
    """Injects the faults of one plan."""

    def __init__(self, router: Router, stations: SimulatedStations) -> None:
        self._router, self._stations, self._clock, self._log = router, stations, router.clock, router.log
        self._handlers = {
            "break": self._reset_link,
            "dead": self._kill_link,
            "kill worker": self._kill_worker,
            "freeze worker": self._freeze_worker,
            "freeze all": self._freeze_all,
            "leave": self._stop_worker,
            "partition": self._partition,
            "suspend": self._suspend_all,
            "freeze ventilator": lambda: self._freeze(stations.ventilator),
            "freeze sink": lambda: self._freeze(stations.sink),
            "restart ventilator": stations.restart_ventilator,
            "restart sink": stations.restart_sink,
        }
        for kind, rate in self._clock.plan.faults.items():
            if kind in self._handlers:
                self._schedule(kind, rate)
        self._clock.call_at(self._clock.plan.faults_end_at, self._end_faults)
        if self._clock.plan.stop_mode:
            self._clock.call_at(self._clock.plan.stop_at, self._request_stop)
        if self._clock.plan.ventilator_dies < inf:
            self._clock.call_at(self._clock.plan.ventilator_dies, self._kill_ventilator)

    def _request_stop(self) -> None:
        mode: Literal["soon", "now"] = "soon" if self._clock.plan.stop_mode == "soon" else "now"
        self._log.record(self._clock.now, "stop", mode)
        self._stations.sink.deliver(StopRequest(mode, "^C"))

    def _kill_ventilator(self) -> None:
        self._log.record(self._clock.now, "FAULT", "the ventilator dies and is not restarted")
        self._stations.kill_ventilator()

    def _schedule(self, kind: str, rate: float) -> None:
        self._clock.call_at(self._clock.now + self._clock.rng.expovariate(rate), partial(self._inject, kind, rate))

    def _inject(self, kind: str, rate: float) -> None:
        if self._clock.has_faults:
            self._log.record(self._clock.now, "FAULT", kind)
            self._handlers[kind]()
            self._schedule(kind, rate)

    def _end_faults(self) -> None:
        """End all faults. Dead connections stay dead until a station replaces them."""
        self._clock.has_faults = False
        self._log.record(self._clock.now, "faults end", "")
        for process in self._stations.all_processes():
            process.thaw()
        remaining = [worker for worker in self._stations.running_workers() if not worker.is_leaving]
        if not remaining and self._stations.ventilator.is_running:
            self._stations.add_worker()

    def _reset_link(self) -> None:
        if link := self._router.links.pick_link():
            link.reset()

    def _kill_link(self) -> None:
        if link := self._router.links.pick_link():
            link.reset()
            link.is_dead = True

    def _kill_worker(self) -> None:
        if workers := self._stations.running_workers():
            self._stations.replace_worker(self._clock.rng.choice(workers))

    def _stop_worker(self) -> None:
        workers = self._stations.running_workers()
        if len(workers) > 1:
            self._clock.rng.choice(workers).deliver(StopRequest("soon", "^C"))

    def _freeze_worker(self) -> None:
        self._freeze(self._clock.rng.choice(self._stations.workers))

    def _freeze_all(self) -> None:
        for worker in self._stations.workers:
            self._freeze(worker)

    def _partition(self) -> None:
        """Cut one process off for a while, in one or both directions; its messages are late or lost."""
        rng, name = self._clock.rng, self._clock.rng.choice(self._stations.all_processes()).name
        directions = rng.choice([("to",), ("from",), ("to", "from")])
        until, is_lossy = self._clock.now + rng.choice([1.0, HEARTBEAT_TIMEOUT * 1.5]), rng.random() < 0.5
        for link in self._router.links.of_process(name, directions):
            link.partition(until, is_lossy=is_lossy)

    def _suspend_all(self) -> None:
        """Freeze all processes, as a machine that sleeps."""
        seconds = self._clock.rng.choice([1.0, HEARTBEAT_TIMEOUT * 1.5])
        for process in self._stations.all_processes():
            process.freeze(seconds)

    def _freeze(self, process: SimulatedProcess) -> None:
        process.freeze(self._clock.rng.choice([1.0, HEARTBEAT_TIMEOUT * 1.5]))
