"""Simulation of a whole run in one process: connections are queues, time is a number, a seed decides the rest.

The same seed always gives the same run. Invariants are checked after every event; after the last fault the run must
end. Read in this order: plan, clock, event_log, process, links, disk, executor, invariants, routing, stations,
faults.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from pipeline.model import checksums
from pipeline.model.errors import USAGE
from pipeline.sink import transfers
from pipeline.transport import codec
from tests.simulation.clock import Clock
from tests.simulation.event_log import Crash, EventLog, Violation
from tests.simulation.faults import FaultInjector
from tests.simulation.invariants import check_outcome, check_window
from tests.simulation.plan import HEARTBEAT_TIMEOUT, PEER_TIMEOUT, SimulationPlan, draw_plan
from tests.simulation.routing import Router
from tests.simulation.stations import SimulatedStations

__all__ = ["Crash", "Simulation", "Violation", "simulate"]


class Simulation:
    """One run: stations, connections and faults."""

    def __init__(self, plan: SimulationPlan) -> None:
        self.plan, self.clock, self.log = plan, Clock(plan), EventLog()
        self.router = Router(self.clock, self.log)
        self._stations = SimulatedStations(self.router)
        FaultInjector(self.router, self._stations)

    def run(self) -> Simulation:
        """Run to the end and check all invariants."""
        router, deadline = self.router, self.plan.deadline
        unreachable: set[str] | None = None
        while self.clock.step():
            router.invariants.check_output()
            check_window(self.plan, router.ventilator.station)
            if self._stations.is_finished():
                break
            if unreachable is None and not router.sink.is_running:
                unreachable = self._unreachable_workers()
            if self.clock.now > deadline + (0.0 if router.sink.is_running else self._end_timeout(unreachable or set())):
                raise Violation("hangs")
        if self.plan.edited >= 0 and router.ventilator.station.exit_code == USAGE:
            return self  # rejected: a task of its group was settled
        if router.input.is_spoiled:
            raise Violation(f"an input is accepted although task {self.plan.edited} has changed since it was settled")
        router.invariants.check_end()
        is_sink_alone = self._stations.is_ventilator_late() or not router.ventilator.is_alive
        for process in (router.sink,) if is_sink_alone else (router.sink, router.ventilator):
            check_outcome(
                self.plan,
                process,
                {outcome for _, outcome in router.disk.output},
                is_unreachable=process.ended_at - router.sink.ended_at > HEARTBEAT_TIMEOUT,
            )
        return self

    def _unreachable_workers(self) -> set[str]:
        """Return the workers that may miss the end: frozen, or with a dead connection, when the sink ends."""
        links, now = self.router.links, self.clock.now
        frozen = {worker.name for worker in self._stations.running_workers() if worker.frozen_until > now}
        names = [worker.name for worker in self._stations.running_workers()]
        return frozen | {name for name in names if any(link.is_dead for link in links.of_process(name, ("to", "from")))}

    def _end_timeout(self, unreachable: set[str]) -> float:
        """Return how long after the sink a process may end: an unreachable worker waits for its peer timeout."""
        running = {process.name for process in self._stations.all_processes() if process.is_running}
        return 2 * PEER_TIMEOUT if running and running <= unreachable else self.plan.late_exit_seconds

    def describe_processes(self) -> str:
        """Return which processes run and which have ended."""
        processes = self._stations.all_processes()
        return "; ".join(f"{process.name} {'runs' if process.is_running else 'has ended'}" for process in processes)


def simulate(seed: int, **changes: Any) -> Simulation:
    """Run one seed with these changes to its plan.

    Raise Violation for a broken promise and Crash for any other exception; both name the command that replays it.
    """
    simulation = Simulation(replace(draw_plan(seed), **changes))
    try:
        with (
            patch.multiple(checksums, EXACT=0, GROUP=simulation.plan.group),
            patch.object(codec, "PIECE_BYTES", 8),
            patch.multiple(transfers, WINDOW_BYTES=16, MAX_ACTIVE_TRANSFERS=2),
        ):
            return simulation.run()
    except Exception as error:
        failure, name = (Violation, "") if isinstance(error, Violation) else (Crash, f"{type(error).__name__}: ")
        replay = f"replay: scripts/simulate --seed {seed}"
        raise failure(
            "\n".join(
                [
                    f"{name}{error}; {simulation.describe_processes()}",
                    replay,
                    str(simulation.plan),
                    *simulation.log.format_events(),
                ]
            )
        ) from error
