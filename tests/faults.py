"""What strikes a simulated line: broken and dead connections, frozen and killed stations, restarts, workers that leave.

Each kind of the plan strikes at random intervals until it is calm. What links do by themselves (drop, double, late) is
not here. After the last fault nothing is repaired for the line: it must do that itself.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Literal

from lives import Lives
from plan import LIVENESS
from process import Process
from ways import Ways

from pipeline.words.messages import Stop


class Faults:
    """All that goes wrong on one line."""

    def __init__(self, ways: Ways, lives: Lives) -> None:
        self._ways, self._lives, self._clock, self._log = ways, lives, ways.clock, ways.log
        self._kinds = {
            "break": self._break,
            "dead": self._die,
            "kill worker": self._kill_worker,
            "freeze worker": self._freeze_worker,
            "freeze all": self._freeze_all,
            "leave": self._leave,
            "partition": self._partition,
            "suspend": self._suspend,
            "freeze ventilator": lambda: self._freeze(lives.ventilator),
            "freeze sink": lambda: self._freeze(lives.sink),
            "restart ventilator": lives.restart_ventilator,
            "restart sink": lives.restart_sink,
        }
        for kind, rate in self._clock.plan.faults.items():
            if kind in self._kinds:
                self._schedule(kind, rate)
        self._clock.at(self._clock.plan.calm_after, self._calm)
        if self._clock.plan.stop:
            self._clock.at(self._clock.plan.stop_at, self._stop)
        if self._clock.plan.ventilator_dies < inf:
            self._clock.at(self._clock.plan.ventilator_dies, self._kill_ventilator)

    def _stop(self) -> None:
        mode: Literal["soon", "now"] = "soon" if self._clock.plan.stop == "soon" else "now"
        self._log.tell(self._clock.now, "stop", mode)
        self._lives.sink.deliver(Stop(mode, "^C"))

    def _kill_ventilator(self) -> None:
        self._log.tell(self._clock.now, "FAULT", "the ventilator dies and is not restarted")
        self._lives.kill_ventilator()

    def _schedule(self, kind: str, rate: float) -> None:
        self._clock.at(self._clock.now + self._clock.rng.expovariate(rate), partial(self._strike, kind, rate))

    def _strike(self, kind: str, rate: float) -> None:
        if self._clock.faulty:
            self._log.tell(self._clock.now, "FAULT", kind)
            self._kinds[kind]()
            self._schedule(kind, rate)

    def _calm(self) -> None:
        """The last fault is over; broken connections stay as they are until somebody repairs them."""
        self._clock.faulty = False
        self._log.tell(self._clock.now, "calm", "")
        for process in self._lives.everybody():
            process.thaw()
        staying = [worker for worker in self._lives.running() if not worker.is_leaving]
        if not staying and self._lives.ventilator.is_running:
            self._lives.hire()

    def _break(self) -> None:
        if link := self._ways.links.any():
            link.break_off()

    def _die(self) -> None:
        if link := self._ways.links.any():
            link.break_off()
            link.is_dead = True

    def _kill_worker(self) -> None:
        if there := self._lives.running():
            self._lives.kill(self._clock.rng.choice(there))

    def _leave(self) -> None:
        there = self._lives.running()
        if len(there) > 1:
            self._clock.rng.choice(there).deliver(Stop("soon", "^C"))

    def _freeze_worker(self) -> None:
        self._freeze(self._clock.rng.choice(self._lives.workers))

    def _freeze_all(self) -> None:
        for worker in self._lives.workers:
            self._freeze(worker)

    def _partition(self) -> None:
        """Nothing comes through to or from one of them, or both, for a while: it is late, or lost."""
        rng, name = self._clock.rng, self._clock.rng.choice(self._lives.everybody()).name
        ways = rng.choice([("to",), ("from",), ("to", "from")])
        until, lost = self._clock.now + rng.choice([1.0, LIVENESS * 1.5]), rng.random() < 0.5
        for link in self._ways.links.of_one(name, ways):
            link.cut_off(until, lost=lost)

    def _suspend(self) -> None:
        """The machine sleeps."""
        seconds = self._clock.rng.choice([1.0, LIVENESS * 1.5])
        for process in self._lives.everybody():
            process.freeze(seconds)

    def _freeze(self, process: Process) -> None:
        process.freeze(self._clock.rng.choice([1.0, LIVENESS * 1.5]))
