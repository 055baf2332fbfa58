"""The stations of a simulated run and their restarts.

A replaced worker has a new name; a restarted ventilator reads its input again; a restarted sink finds what was synced.
The connections of a dead process are lost.
"""

from __future__ import annotations

from functools import partial

from pipeline.model.events import VentilatorDead, WorkerDead
from pipeline.model.journal_events import JournalEvent
from pipeline.model.messages import RecordFormat
from pipeline.sink.broadcast import ReportOptions
from pipeline.sink.ledger import Ledger
from pipeline.sink.retries import RetryPolicy
from pipeline.sink.sink import Sink, SinkConfig
from pipeline.ventilator.ventilator import Ventilator, VentilatorConfig
from pipeline.worker.heartbeat import WorkerIdentity
from pipeline.worker.worker import Worker
from tests.simulation.executor import SimulatedExecutor
from tests.simulation.plan import HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, PEER_TIMEOUT
from tests.simulation.process import SimulatedProcess
from tests.simulation.routing import Router

MAX_REPORTED_DEATHS = 12


class SimulatedStations:
    """All stations of one run."""

    def __init__(self, router: Router) -> None:
        self._router, self._clock, self._log = router, router.clock, router.log
        self.workers: list[SimulatedProcess] = []
        """All workers that were ever started."""
        self._start_sink([])
        self._start_ventilator(self._clock.plan.window)
        for _ in range(self._clock.plan.workers):
            self.add_worker()

    @property
    def sink(self) -> SimulatedProcess:
        return self._router.sink

    @property
    def ventilator(self) -> SimulatedProcess:
        return self._router.ventilator

    def running_workers(self) -> list[SimulatedProcess]:
        """Return the workers that run now."""
        return [worker for worker in self.workers if worker.is_running]

    def all_processes(self) -> list[SimulatedProcess]:
        return [self.ventilator, self.sink, *self.workers]

    def is_finished(self) -> bool:
        """Return whether the run is over. A worker or ventilator that started too late waits for another run."""
        if self._router.sink.is_running or (self._router.ventilator.is_running and not self.is_ventilator_late()):
            return False
        return not any(
            isinstance(worker.station, Worker) and worker.station.heartbeat_sender.run
            for worker in self.running_workers()
        )

    def is_ventilator_late(self) -> bool:
        """Return whether the ventilator was restarted after the end of the run, and waits for a sink."""
        station = self._router.ventilator.station
        return (
            isinstance(station, Ventilator) and not station.agreement.is_confirmed and not self._router.sink.is_running
        )

    def add_worker(self) -> None:
        name = f"worker{self._clock.next_number()}"
        identity = WorkerIdentity(name, "d", "c", self._clock.plan.slots)
        process = self._make_process(name, Worker(identity, self._clock.now, PEER_TIMEOUT))
        self.workers.append(process)
        self._router.executors[name] = SimulatedExecutor(
            self._clock, self._log, process, partial(self.replace_worker, process)
        )
        self._router.connect_registry(process)
        self._router.subscribe(process)
        process.start()

    def replace_worker(self, worker: SimulatedProcess) -> None:
        """Replace a worker that has died. In odd seeds, a launcher reports the death to the ventilator.

        It reports the first few: the simulation has no backoff, so a poison task would crash workers without end.
        """
        self._router.remove(worker)
        if self._clock.plan.seed % 2 and len(self.workers) < MAX_REPORTED_DEATHS:
            self.ventilator.deliver_soon(WorkerDead())
        self.add_worker()

    def restart_ventilator(self) -> None:
        """Restart the ventilator; all workers connect again."""
        if self._end_ventilator():
            self._start_ventilator(min(self._clock.plan.window, self._clock.plan.restart_window))
            for worker in self.running_workers():
                self._router.connect_registry(worker)

    def kill_ventilator(self) -> None:
        """Kill the ventilator for good; the launcher reports that to the sink."""
        if self._end_ventilator():
            self.sink.deliver_soon(VentilatorDead())

    def _end_ventilator(self) -> bool:
        """Kill the ventilator and its lanes; return False if it had ended before."""
        if not self.ventilator.is_running:
            return False
        self._router.remove(self.ventilator)
        self._router.links.close_lanes()
        for worker in self.running_workers():
            self._router.links.get(worker.name, "registry").reset()
            self._router.links.get(worker.name, "registry back").reset()
        return True

    def restart_sink(self) -> None:
        """Simulate a power failure of the sink, unless it is about to end anyway."""
        station = self.sink.station
        if not self.sink.is_running or self._router.disk.is_suspended():
            return
        if isinstance(station, Sink) and station.shutdown.kill and not station.ledger.run:
            return  # stopped before there was a run: nothing to continue
        self._router.remove(self.sink)
        for link in self._router.links.of_kind("results", "control"):
            link.reset()
        self._start_sink(self._router.disk.crash())
        self._router.last_broadcast = None
        if not self.ventilator.is_alive:
            self.sink.deliver_soon(VentilatorDead())

    def _start_sink(self, events: list[JournalEvent]) -> None:
        number, plan, now = self._clock.next_number(), self._clock.plan, self._clock.now
        retry_policy = RetryPolicy(plan.retries, plan.retry_delay)
        config = SinkConfig(
            plan.keep_order,
            plan.spill_limit,
            HEARTBEAT_INTERVAL,
            HEARTBEAT_TIMEOUT,
            PEER_TIMEOUT,
            plan.has_journal,
            retry_policy,
            plan.halt,
            ReportOptions(
                plan.report_mode in {"metrics", "log"}, plan.report_mode == "live", plan.report_mode == "log"
            ),
        )
        sink = Sink(config, f"epoch{number}", int(now * 1e6), now, Ledger(events), self._router.disk.spilled_bytes())
        self._router.sink = self._make_process(f"sink{number}", sink)
        self.sink.start()

    def _start_ventilator(self, window: int) -> None:
        number, plan = self._clock.next_number(), self._clock.plan
        config = VentilatorConfig(
            f"run{number}",
            "the input:1",
            RecordFormat(),
            chunk=plan.chunk,
            window=window,
            heartbeat_interval=HEARTBEAT_INTERVAL,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            peer_timeout=PEER_TIMEOUT,
        )
        self._router.input.rewind()
        self._router.ventilator = self._make_process(f"ventilator{number}", Ventilator(config, self._clock.now))
        self._router.subscribe(self.ventilator)
        self.ventilator.start()

    def _make_process(self, name: str, station: Ventilator | Worker | Sink) -> SimulatedProcess:
        return SimulatedProcess(name, station, self._clock, self._log, self._router.route)
