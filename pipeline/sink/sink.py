"""The sink: writes each task's result once, acks what is settled, and says KILL when all is written.

It repeats its whole ledger at each interval, asks again for results that pulses speak of and that never came, has
failed tasks tried again, and goes when everybody has said goodbye or fallen silent. It never runs or sends a task, and
never acks what is not safe.
"""

from __future__ import annotations

from msgspec import Struct, field

from pipeline.model.events import (
    Committed,
    FetchedResult,
    InputChanged,
    StatusReport,
    StatusRequested,
    VentilatorDead,
    Waiting,
)
from pipeline.model.messages import (
    Goodbye,
    Heartbeat,
    InputChecksums,
    PartialOutput,
    Result,
    StopRequest,
    VentilatorState,
    WorkerActivity,
)
from pipeline.model.option_values import HaltCondition
from pipeline.model.state_machine import Handlers, Message, Port, Send
from pipeline.sink.broadcast import AckSender, ReportOptions, StatusBuilder
from pipeline.sink.ledger import Ledger, RunInfo
from pipeline.sink.peers import PeerTable
from pipeline.sink.result_writer import LiveOutput, ResultWriter, WriterConfig
from pipeline.sink.retries import RetryPolicy, RetryQueue
from pipeline.sink.shutdown import ShutdownController


class SinkConfig(Struct, frozen=True):
    """How a sink writes, and how long it waits. With `journal`, another one can go on with its run."""

    keep_order: bool = False
    spill_limit: int = 10 << 30
    heartbeat_interval: float = 1.0
    heartbeat_timeout: float = 10.0
    peer_timeout: float = 600.0
    has_journal: bool = False
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    halt_condition: HaltCondition | None = None
    report_options: ReportOptions = field(default_factory=ReportOptions)

    @property
    def writer_config(self) -> WriterConfig:
        """Those of writing."""
        return WriterConfig(self.spill_limit, self.keep_order, self.report_options.log_attempts)


class Sink:
    """One life of the sink, which goes on with the ledger of those before it; `kept` bytes are in the spill.

    `birth` is greater than that of every life before: its Acks are numbered from there.
    """

    def __init__(
        self,
        config: SinkConfig,
        epoch: str,
        ack_number_base: int,
        now: float,
        ledger: Ledger | None = None,
        spilled_bytes: int = 0,
    ) -> None:
        self.config, self.done = config, False
        self.ledger = ledger or Ledger()
        self.retry_queue = RetryQueue(config.retry_policy)
        self.retry_queue.apply(self.ledger.attempts.select_failed([(0, self.ledger.attempts.end)]), now)
        self.live_output = LiveOutput(self.ledger, is_ordered=config.keep_order)
        self.writer = ResultWriter(self.ledger, self.retry_queue, self.live_output, config.writer_config, spilled_bytes)
        self.run_info = RunInfo(self.ledger, has_checksums=config.has_journal)
        self.shutdown = ShutdownController(
            self.ledger, self.writer, config.halt_condition, config.heartbeat_interval, has_journal=config.has_journal
        )
        self.peers = PeerTable(
            self.ledger, config.heartbeat_timeout, now, config.peer_timeout, config.heartbeat_interval
        )
        self.ack_sender = AckSender(self.ledger, epoch, ack_number_base, now, config.report_options)
        self.status_builder = StatusBuilder(self.ledger, self.peers, self.writer, now, is_ordered=config.keep_order)
        self._next_interval_time, self._is_urgent = now, False
        self._handlers: Handlers = {
            Result: self._on_result,
            PartialOutput: lambda word, _: self.live_output.on_partial_output(word),
            WorkerActivity: lambda word, _: self.peers.on_activity(word),
            StatusRequested: lambda _, now: [
                Send(Port.USER, StatusReport(self.status_builder.build_status(now, self.shutdown.kill)))
            ],
            Committed: self._committed,
            FetchedResult: lambda word, _: self.writer.on_fetched(word),
            Heartbeat: self._on_worker_heartbeat,
            InputChecksums: lambda word, _: self.run_info.on_checksums(word),
            InputChanged: lambda word, now: [
                *self.run_info.reject_input(),
                *self.shutdown.on_input_changed(word.low, word.high, now),
            ],
            VentilatorState: self._on_ventilator_state,
            Waiting: lambda word, _: self.shutdown.on_disk_full(word),
            StopRequest: lambda word, now: self.shutdown.request_stop(word.mode, word.reason, now),
            VentilatorDead: lambda _, now: [*self.peers.on_ventilator_dead(), *self.shutdown.on_ventilator_dead(now)],
            Goodbye: lambda word, now: self.peers.on_goodbye(
                word.name, now, is_run_over=self.shutdown.kill is not None
            ),
        }

    @property
    def exit_code(self) -> int:
        """The run's exit code, once done."""
        return self.shutdown.run_outcome.exit_code

    @property
    def stop_reason(self) -> str:
        """Why it ends early; empty if it does not."""
        return self.shutdown.run_outcome.stop_reason

    @property
    def deadline(self) -> float:
        """The next Ack, or the next word to everybody."""
        due = (
            self.ack_sender.next_ack_time,
            self._next_interval_time,
            self.peers.ventilator_monitor.deadline,
            self.shutdown.run_outcome.deadline,
        )
        return 0.0 if self._is_urgent else min(due)

    def receive(self, message: Message, now: float) -> list[Send]:
        """Take in one word."""
        self._is_urgent = self._is_urgent or self.shutdown.kill is not None
        hear = self._handlers.get(type(message))
        return hear(message, now) if hear else []

    def tick(self, now: float) -> list[Send]:
        """Ack, say all that is at each interval, and go when everybody is gone."""
        self._is_urgent = False
        sends = [*self.peers.ventilator_monitor.tick(now), *self.shutdown.tick(now)]
        if self.peers.ventilator_monitor.is_lost(now) and not self.shutdown.kill:
            sends += self.shutdown.request_stop("soon", "the ventilator did not come back", now)
        if now >= self._next_interval_time:
            self._next_interval_time = now + self.config.heartbeat_interval
            sends += self._on_interval(now)
        if now >= self.ack_sender.next_ack_time:
            sends.append(
                self.ack_sender.make_ack(
                    now, self.peers, self.run_info, self.retry_queue, spill_full=self.writer.spill_full
                )
            )
        if self.shutdown.kill and not self.peers.waiting_for(now):
            sends += self._finish(now)
        return sends

    def _on_result(self, result: Result, _: float) -> list[Send]:
        known = result.run == self.ledger.run and self.run_info.is_announced(result.first, result.first + result.count)
        return self.writer.accept(result) if known and not self.shutdown.is_closed_to_results else []

    def _committed(self, committed: Committed, now: float) -> list[Send]:
        journaled = committed.store == "journal"
        sends = self._journaled(committed.number, now) if journaled else self.writer.on_committed(committed)
        return [*sends, *self.shutdown.fail(committed.failure, now)]

    def _journaled(self, number: int, now: float) -> list[Send]:
        news = self.ledger.commit(number)
        self.retry_queue.apply(news, now)
        self.run_info.apply(news)
        if news:
            self.ack_sender.schedule_soon(now)
            self._is_urgent = self._is_urgent or self.writer.is_complete or self.ledger.run_stop is not None
        return [*self.writer.discard_written(), *self.shutdown.check_halt(now)]

    def _on_worker_heartbeat(self, heartbeat: Heartbeat, now: float) -> list[Send]:
        return [
            *(self.ack_sender.schedule_soon(now) if self.peers.on_heartbeat(heartbeat, now) else []),
            *self.run_info.record_command(heartbeat),
        ]

    def _on_ventilator_state(self, ventilator_state: VentilatorState, now: float) -> list[Send]:
        """The ventilator's state; the first one names the run."""
        self.ack_sender.last_state_number = ventilator_state.number
        if ventilator_state.run != self.ledger.run:
            self.ack_sender.schedule_soon(now)
            known = self.ledger.run or self.shutdown.kill
            return [] if known else [*self.peers.on_ventilator_state(now), *self.run_info.start_run(ventilator_state)]
        self.status_builder.is_waiting_for_input = ventilator_state.is_waiting_for_input
        return [
            *self.peers.on_ventilator_state(now),
            *(
                self.shutdown.on_ventilator_state(ventilator_state, now)
                or self.run_info.on_end_of_input(ventilator_state)
            ),
        ]

    def _on_interval(self, now: float) -> list[Send]:
        self.ack_sender.next_ack_time = now
        self.peers.expire_silent(now)
        return [
            *([Send(Port.CONTROL, kill)] if (kill := self.shutdown.kill) else []),
            *self.status_builder.publish(now, kill),
            *self.writer.fetch_next(),
        ]

    def _finish(self, now: float) -> list[Send]:
        """Everybody is gone."""
        sends = self.shutdown.drain()
        self.done = sends is None
        return self.status_builder.publish(now, self.shutdown.kill) if sends is None else sends
