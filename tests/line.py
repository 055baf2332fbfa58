"""A whole simulated line in one process: connections are queues, time is a number, a seed decides the rest.

It promises that the same seed gives the same story. Safety is checked after every event; the end is demanded after the
last fault. From the ground up: plan, clock and log, process, links, disk and slots, promises, ways, lives, faults.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from clock import Clock
from faults import Faults
from lives import Lives
from log import Log, Violation
from plan import LIVENESS, PATIENCE, Plan, plan
from promises import check_outcome, check_window
from ways import Ways

from pipeline.words import checksums
from pipeline.words.errors import USAGE

__all__ = ["Line", "Violation", "sail"]


class Line:
    """Ventilator, workers, sink, what lies between them, and what strikes them."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.clock, self.log = plan, Clock(plan), Log()
        self.ways = Ways(self.clock, self.log)
        self._lives = Lives(self.ways)
        Faults(self.ways, self._lives)

    def run(self) -> Line:
        """To the end, which all promises have been kept at."""
        ways, lives, latest = self.ways, self._lives, self.plan.latest
        out_of_reach: set[str] | None = None
        while self.clock.step():
            ways.promises.check()
            check_window(self.plan, ways.ventilator.station)
            if lives.is_over():
                break
            if out_of_reach is None and not ways.sink.is_running:
                out_of_reach = self._out_of_reach()
            if self.clock.now > latest + (0.0 if ways.sink.is_running else self._patience(out_of_reach or set())):
                raise Violation("hangs")
        if self.plan.edited >= 0 and ways.ventilator.station.outcome == USAGE:
            return self  # refused: its task was settled, or another one of its group
        if ways.input.is_spoiled:
            raise Violation(f"an input is taken of which task {self.plan.edited} has changed since it was settled")
        ways.promises.check_end()
        is_sink_alone = self._lives.is_ventilator_late() or not ways.ventilator.alive
        for process in (ways.sink,) if is_sink_alone else (ways.sink, ways.ventilator):
            check_outcome(
                self.plan,
                process,
                {fate for _, fate in ways.disk.output},
                cut_off=process.ended - ways.sink.ended > LIVENESS,
            )
        return self

    def _out_of_reach(self) -> set[str]:
        """Whom no word reaches, or who reach nobody, or who sleep while the sink leaves: they may miss the end."""
        links, now = self.ways.links, self.clock.now
        asleep = {worker.name for worker in self._lives.running() if worker.frozen_until > now}
        names = [worker.name for worker in self._lives.running()]
        return asleep | {name for name in names if any(link.is_dead for link in links.of_one(name, ("to", "from")))}

    def _patience(self, out_of_reach: set[str]) -> float:
        """How long after the end somebody may wait for it: who was out of reach has a patience of its own."""
        running = {process.name for process in self._lives.everybody() if process.is_running}
        return 2 * PATIENCE if running and running <= out_of_reach else self.plan.patience

    def who(self) -> str:
        """Who still runs, and who does not."""
        lives = self._lives.everybody()
        return "; ".join(f"{process.name} {'runs' if process.is_running else 'is over'}" for process in lives)


def sail(seed: int, **changes: Any) -> Line:
    """Run one seed, with these changes to its plan; a violation names the command that replays it."""
    line = Line(replace(plan(seed), **changes))
    try:
        with patch.multiple(checksums, EXACT=0, GROUP=line.plan.group):
            return line.run()
    except Exception as error:
        replay = f"replay: scripts/simulate --seed {seed}"
        raise Violation("\n".join([f"{error}; {line.who()}", replay, str(line.plan), *line.log.told()])) from error
