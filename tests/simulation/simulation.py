"""A whole simulated line in one process: connections are queues, time is a number, a seed decides the rest.

It promises that the same seed gives the same story. Safety is checked after every event; the end is demanded after the
last fault. From the ground up: plan, clock and log, process, links, disk and slots, promises, ways, lives, faults.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from pipeline.model import checksums
from pipeline.model.errors import USAGE
from tests.simulation.clock import Clock
from tests.simulation.event_log import Crash, EventLog, Violation
from tests.simulation.faults import FaultInjector
from tests.simulation.invariants import check_outcome, check_window
from tests.simulation.plan import HEARTBEAT_TIMEOUT, PEER_TIMEOUT, SimulationPlan, draw_plan
from tests.simulation.routing import Router
from tests.simulation.stations import SimulatedStations

__all__ = ["Crash", "Simulation", "Violation", "simulate"]


class Simulation:
    """Ventilator, workers, sink, what lies between them, and what strikes them."""

    def __init__(self, plan: SimulationPlan) -> None:
        self.plan, self.clock, self.log = plan, Clock(plan), EventLog()
        self.router = Router(self.clock, self.log)
        self._stations = SimulatedStations(self.router)
        FaultInjector(self.router, self._stations)

    def run(self) -> Simulation:
        """To the end, which all promises have been kept at."""
        ways, lives, latest = self.router, self._stations, self.plan.deadline
        out_of_reach: set[str] | None = None
        while self.clock.step():
            ways.invariants.check_output()
            check_window(self.plan, ways.ventilator.station)
            if lives.is_finished():
                break
            if out_of_reach is None and not ways.sink.is_running:
                out_of_reach = self._unreachable_workers()
            if self.clock.now > latest + (0.0 if ways.sink.is_running else self._end_timeout(out_of_reach or set())):
                raise Violation("hangs")
        if self.plan.edited >= 0 and ways.ventilator.station.exit_code == USAGE:
            return self  # refused: its task was settled, or another one of its group
        if ways.input.is_spoiled:
            raise Violation(f"an input is taken of which task {self.plan.edited} has changed since it was settled")
        ways.invariants.check_end()
        is_sink_alone = self._stations.is_ventilator_late() or not ways.ventilator.is_alive
        for process in (ways.sink,) if is_sink_alone else (ways.sink, ways.ventilator):
            check_outcome(
                self.plan,
                process,
                {fate for _, fate in ways.disk.output},
                is_unreachable=process.ended_at - ways.sink.ended_at > HEARTBEAT_TIMEOUT,
            )
        return self

    def _unreachable_workers(self) -> set[str]:
        """Whom no word reaches, or who reach nobody, or who sleep while the sink leaves: they may miss the end."""
        links, now = self.router.links, self.clock.now
        asleep = {worker.name for worker in self._stations.running_workers() if worker.frozen_until > now}
        names = [worker.name for worker in self._stations.running_workers()]
        return asleep | {name for name in names if any(link.is_dead for link in links.of_process(name, ("to", "from")))}

    def _end_timeout(self, unreachable: set[str]) -> float:
        """How long after the end somebody may wait for it: who was out of reach has a patience of its own."""
        running = {process.name for process in self._stations.all_processes() if process.is_running}
        return 2 * PEER_TIMEOUT if running and running <= unreachable else self.plan.late_exit_seconds

    def describe_processes(self) -> str:
        """Who still runs, and who does not."""
        lives = self._stations.all_processes()
        return "; ".join(f"{process.name} {'runs' if process.is_running else 'is over'}" for process in lives)


def simulate(seed: int, **changes: Any) -> Simulation:
    """Run one seed with these changes to its plan.

    Raise Violation for a broken promise and Crash for any other exception; both name the command that replays it.
    """
    line = Simulation(replace(draw_plan(seed), **changes))
    try:
        with patch.multiple(checksums, EXACT=0, GROUP=line.plan.group):
            return line.run()
    except Exception as error:
        failure, name = (Violation, "") if isinstance(error, Violation) else (Crash, f"{type(error).__name__}: ")
        replay = f"replay: scripts/simulate --seed {seed}"
        raise failure(
            "\n".join(
                [f"{name}{error}; {line.describe_processes()}", replay, str(line.plan), *line.log.format_events()]
            )
        ) from error
