"""The stations of a simulated line, and their lives: each that dies is followed by another in its place.

A worker's next life has another name; the ventilator's reads its input again; the sink's finds on the disk what was
synced. Their connections die with them.
"""

from __future__ import annotations

from functools import partial

from plan import INTERVAL, LIVENESS, PATIENCE
from process import Process
from slots import Slots
from ways import Ways

from pipeline.sink.attempts import Retrying
from pipeline.sink.ledger import Ledger
from pipeline.sink.sink import Order, Sink
from pipeline.sink.speech import Wants
from pipeline.ventilator.ventilator import Feed, Ventilator
from pipeline.words.facts import Fact
from pipeline.words.notices import VentilatorDead
from pipeline.words.parts import Recipe
from pipeline.worker.voice import Identity
from pipeline.worker.worker import Worker


class Lives:
    """Who is there now."""

    def __init__(self, ways: Ways) -> None:
        self._ways, self._clock, self._log = ways, ways.clock, ways.log
        self.workers: list[Process] = []
        """All that ever were."""
        self._sink([])
        self._ventilator()
        for _ in range(self._clock.plan.workers):
            self.hire()

    @property
    def sink(self) -> Process:
        return self._ways.sink

    @property
    def ventilator(self) -> Process:
        return self._ways.ventilator

    def running(self) -> list[Process]:
        """The workers that are there now."""
        return [worker for worker in self.workers if worker.is_running]

    def everybody(self) -> list[Process]:
        return [self.ventilator, self.sink, *self.workers]

    def is_over(self) -> bool:
        """Whether nobody has anything left to do; a worker or ventilator that came too late waits for another run."""
        if self._ways.sink.is_running or (self._ways.ventilator.is_running and not self.is_ventilator_late()):
            return False
        return not any(isinstance(one.station, Worker) and one.station.voice.run for one in self.running())

    def is_ventilator_late(self) -> bool:
        """Whether it came back when all was over already: it has met no run, and waits for a sink."""
        station = self._ways.ventilator.station
        return isinstance(station, Ventilator) and not station.accord.confirmed and not self._ways.sink.is_running

    def hire(self) -> None:
        """One more worker."""
        name = f"worker{self._clock.number()}"
        identity = Identity(name, "d", "c", self._clock.plan.slots)
        process = self._process(name, Worker(identity, self._clock.now, PATIENCE))
        self.workers.append(process)
        self._ways.slots[name] = Slots(self._clock, self._log, process, partial(self.kill, process))
        self._ways.call(process)
        self._ways.subscribe(process)
        process.start()

    def kill(self, worker: Process) -> None:
        """Another follows it."""
        self._ways.forget(worker)
        self.hire()

    def restart_ventilator(self) -> None:
        """All workers call again."""
        if self._end_ventilator():
            self._ventilator()
            for worker in self.running():
                self._ways.call(worker)

    def kill_ventilator(self) -> None:
        """It is not restarted, and the launcher reports that to the sink."""
        if self._end_ventilator():
            self.sink.soon(VentilatorDead())

    def _end_ventilator(self) -> bool:
        """Its lanes are gone; False if it had ended before."""
        if not self.ventilator.is_running:
            return False
        ways = self._ways
        ways.forget(self.ventilator)
        ways.links.shut()
        for worker in self.running():
            ways.links.of(worker.name, "desk").break_off()
            ways.links.of(worker.name, "desk back").break_off()
        return True

    def restart_sink(self) -> None:
        """The machine under it was switched off and on; unless all it had to do was to go."""
        station = self.sink.station
        if not self.sink.is_running or self._ways.disk.is_left():
            return
        if isinstance(station, Sink) and station.closing.kill and not station.ledger.run:
            return  # it was told to end before there was a run: nothing to go on with
        self._ways.forget(self.sink)
        for link in self._ways.links.kind("results", "control"):
            link.break_off()
        self._sink(self._ways.disk.crash())
        self._ways.last = None
        if not self.ventilator.alive:
            self.sink.soon(VentilatorDead())

    def _sink(self, facts: list[Fact]) -> None:
        number, plan, now = self._clock.number(), self._clock.plan, self._clock.now
        retrying = Retrying(plan.retries, plan.retry_delay)
        order = Order(
            plan.keep_order,
            plan.spill_limit,
            INTERVAL,
            LIVENESS,
            PATIENCE,
            plan.journal,
            retrying,
            plan.halt,
            Wants(plan.wants in {"accounts", "log"}, plan.wants == "live", plan.wants == "log"),
        )
        sink = Sink(order, f"epoch{number}", int(now * 1e6), now, Ledger(facts), self._ways.disk.kept())
        self._ways.sink = self._process(f"sink{number}", sink)
        self.sink.start()

    def _ventilator(self) -> None:
        number, plan = self._clock.number(), self._clock.plan
        feed = Feed(
            f"run{number}",
            "the input:1",
            Recipe(),
            chunk=plan.chunk,
            window=plan.window,
            interval=INTERVAL,
            liveness=LIVENESS,
            patience=PATIENCE,
        )
        self._ways.input.rewind()
        self._ways.ventilator = self._process(f"ventilator{number}", Ventilator(feed, self._clock.now))
        self._ways.subscribe(self.ventilator)
        self.ventilator.start()

    def _process(self, name: str, station: Ventilator | Worker | Sink) -> Process:
        return Process(name, station, self._clock, self._log, self._ways.route)
