"""State machine of the sink: it writes each task's result once, acknowledges settled tasks, and ends the run.

Theory of operation: results arrive from workers, are accepted by the ledger once, written or spilled, journaled, and
acknowledged. Everything the sink sends is the whole state and is repeated at each interval, so no message needs a
reply:
  - Ack: which tasks are settled, which results are missing, which tasks are retried;
  - Kill: the end of the run, when all is written or the run is stopped;
  - RunStatus: progress, for the user.
After Kill the sink waits for the Goodbye of each peer or for its heartbeat timeout, and is then done.

The sink never runs or sends a task, and never acknowledges a result that the journal has not committed.
"""

from __future__ import annotations

from msgspec import Struct, field

from pipeline.model.events import (
    Committed,
    ContentStored,
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
    ResultPiece,
    StopRequest,
    VentilatorState,
    WorkerActivity,
)
from pipeline.model.option_values import HaltCondition
from pipeline.model.state_machine import NEVER, Handlers, Message, Port, Send
from pipeline.model.structs import replace
from pipeline.sink.broadcast import AckSender, ReportOptions, StatusBuilder
from pipeline.sink.ledger import Ledger, RunInfo
from pipeline.sink.peers import PeerTable
from pipeline.sink.result_writer import LiveOutput, ResultWriter, WriterConfig
from pipeline.sink.retries import RetryPolicy, RetryQueue
from pipeline.sink.shutdown import ShutdownController
from pipeline.sink.transfers import TransferTable

MAX_EARLY_RESULTS, MAX_EARLY_BYTES = 64, 64 << 10
"""Results, and bytes of one, that are kept until the checksums of their tasks arrive. Others are requested again."""


class SinkConfig(Struct, frozen=True):
    """Settings of a sink. With a journal, a later sink can resume the run."""

    keep_order: bool = False
    spill_limit: int = 10 << 30
    heartbeat_interval: float = 1.0
    heartbeat_timeout: float = 10.0
    peer_timeout: float = 600.0
    has_journal: bool = False
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    halt_condition: HaltCondition | None = None
    report_options: ReportOptions = field(default_factory=ReportOptions)


class Sink:
    """One sink process, which continues with the ledger of those before it.

    `ack_number_base` must be greater than that of each earlier sink of the run: Acks are numbered from there.
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
        writer_config = WriterConfig(config.spill_limit, config.keep_order, config.report_options.log_attempts)
        self.writer = ResultWriter(self.ledger, self.retry_queue, self.live_output, writer_config, spilled_bytes)
        self.transfers = TransferTable(self.ledger)
        self.run_info = RunInfo(self.ledger, has_checksums=config.has_journal)
        self.shutdown = ShutdownController(
            self.ledger, self.writer, config.halt_condition, config.heartbeat_interval, has_journal=config.has_journal
        )
        self.peers = PeerTable(
            self.ledger, config.heartbeat_timeout, now, config.peer_timeout, config.heartbeat_interval
        )
        self.ack_sender = AckSender(
            self.ledger, epoch, ack_number_base, now, config.report_options, config.halt_condition
        )
        self.status_builder = StatusBuilder(self.ledger, self.peers, self.writer, now, is_ordered=config.keep_order)
        self._next_interval_time, self._is_urgent = now, False
        self._early_results: list[Result] = []
        self._handlers: Handlers = {
            Result: self._on_result,
            ResultPiece: lambda piece, _: self.transfers.on_piece(piece),
            ContentStored: self._on_content_stored,
            PartialOutput: lambda partial, _: self.live_output.on_partial_output(partial),
            Heartbeat: self._on_heartbeat,
            WorkerActivity: lambda activity, _: self.peers.on_activity(activity),
            VentilatorState: self._on_ventilator_state,
            InputChecksums: self._on_checksums,
            Goodbye: self._on_goodbye,
            Committed: self._on_committed,
            FetchedResult: lambda fetched, _: self.writer.on_fetched(fetched),
            InputChanged: self._on_input_changed,
            Waiting: lambda notice, _: self.shutdown.on_disk_full(notice),
            StopRequest: lambda request, now: self.shutdown.request_stop(request.mode, request.reason, now),
            VentilatorDead: lambda _, now: [*self.peers.on_ventilator_dead(), *self.shutdown.on_ventilator_dead(now)],
            StatusRequested: self._on_status_requested,
        }

    @property
    def exit_code(self) -> int:
        """The exit code of the run, once done."""
        return self.shutdown.exit_code

    @property
    def stop_reason(self) -> str:
        """Why the run ended early; empty if it did not."""
        return self.shutdown.stop_reason

    @property
    def deadline(self) -> float:
        """When `tick` is due."""
        ventilator = NEVER if self.shutdown.kill else self.peers.ventilator_monitor.deadline
        due = (self.ack_sender.next_ack_time, self._next_interval_time, ventilator, self.shutdown.deadline)
        return 0.0 if self._is_urgent else min(due)

    def receive(self, message: Message, now: float) -> list[Send]:
        """Handle one message; messages that are not for a sink are dropped."""
        self._is_urgent = self._is_urgent or self.shutdown.kill is not None
        handler = self._handlers.get(type(message))
        return handler(message, now) if handler else []

    def tick(self, now: float) -> list[Send]:
        """Send what is due: Ack, the messages of each interval, the end of the run."""
        self._is_urgent, sends = False, self.shutdown.tick(now)
        if not self.shutdown.kill:  # a run that ends needs no ventilator
            sends += self.peers.ventilator_monitor.tick(now)
            if self.peers.ventilator_monitor.is_lost(now):
                sends += self.shutdown.request_stop("soon", "the ventilator did not reconnect", now)
        if self._has_only_unverifiable_results(now):
            sends += self.shutdown.dismiss_workers()
        if now >= self._next_interval_time:
            self._next_interval_time = now + self.config.heartbeat_interval
            sends += self._on_interval(now)
        if now >= self.ack_sender.next_ack_time:
            sends += self._send_ack(now)
        if self.shutdown.kill and not self.peers.waiting_for(now):
            sends += self._finish(now)
        return sends

    def _send_ack(self, now: float) -> list[Send]:
        dropped = self.transfers.drop_useless(self.peers, now)
        transfers, spill_full = self.transfers.active(), self.writer.spill_full
        return [
            *dropped,
            self.ack_sender.make_ack(
                now, self.peers, self.run_info, self.retry_queue, transfers, spill_full=spill_full
            ),
        ]

    def _on_interval(self, now: float) -> list[Send]:
        self.ack_sender.next_ack_time = now
        self.peers.expire_silent(now)
        kill = self.shutdown.kill
        return [
            # A Kill that was announced before the run was known names no run, and a confirmed ventilator ignores it.
            *([Send(Port.CONTROL, replace(kill, run=self.ledger.run))] if kill else []),
            *self.status_builder.publish(now, kill),
            *self.writer.fetch_next(),
        ]

    def _finish(self, now: float) -> list[Send]:
        sends = self.shutdown.drain()
        self.done = sends is None
        return self.status_builder.publish(now, self.shutdown.kill) if sends is None else sends

    def _on_result(self, result: Result, now: float) -> list[Send]:
        if result.run != self.ledger.run or self.shutdown.is_closed_to_results:
            return []
        if not self.run_info.is_announced(result.first, result.first + result.count):
            if len(self._early_results) < MAX_EARLY_RESULTS and len(result.output) <= MAX_EARLY_BYTES:
                self._early_results.append(result)
            return []
        if result.large_sizes and not self.retry_queue.next_attempts(result):  # nothing needs what a retried one wrote
            self.transfers.add(result)
            self.ack_sender.schedule_soon(now)
            return []
        return self.writer.accept(result)

    def _on_checksums(self, message: InputChecksums, now: float) -> list[Send]:
        return [*self.run_info.on_checksums(message), *self._accept_early(now)]

    def _accept_early(self, now: float) -> list[Send]:
        """Accept results that have overtaken the checksums of their tasks on another connection."""
        early, self._early_results = self._early_results, []
        return [send for result in early for send in self._on_result(result, now)]

    def _on_content_stored(self, stored: ContentStored, now: float) -> list[Send]:
        self.ack_sender.schedule_soon(now)
        result = self.transfers.on_stored(stored)
        return self.writer.accept(result) if result and not self.shutdown.is_closed_to_results else []

    def _has_only_unverifiable_results(self, now: float) -> bool:
        """Return whether workers hold only results that are never accepted.

        No ventilator is left that could announce the checksums of their tasks.
        """
        requests = self.peers.resend_requests()
        return (
            bool(requests and self.shutdown.kill)
            and not self.peers.is_ventilator_present(now)
            and not self.peers.has_unfinished_tasks()
            and not any(self.run_info.is_announced(*each) for request in requests for each in request.ranges)
        )

    def _on_committed(self, committed: Committed, now: float) -> list[Send]:
        is_journal = committed.store == "journal"
        sends = self._on_journaled(committed.number, now) if is_journal else self.writer.on_committed(committed)
        return [*sends, *self.shutdown.fail(committed.failure, now)]

    def _on_journaled(self, number: int, now: float) -> list[Send]:
        events = self.ledger.commit(number)
        self.retry_queue.apply(events, now)
        self.run_info.apply(events)
        early = self._accept_early(now) if self._early_results else []
        if events:
            self.ack_sender.schedule_soon(now)
            is_end_due = self.writer.is_complete or self.ledger.run_stop is not None or self.shutdown.is_halt_due
            self._is_urgent = self._is_urgent or is_end_due
        return [*early, *self.writer.discard_written()]

    def _on_heartbeat(self, heartbeat: Heartbeat, now: float) -> list[Send]:
        if self.peers.on_heartbeat(heartbeat, now):
            self.ack_sender.schedule_soon(now)
        return self.run_info.record_command(heartbeat)

    def _on_ventilator_state(self, ventilator_state: VentilatorState, now: float) -> list[Send]:
        self.ack_sender.last_state_number = ventilator_state.number
        if ventilator_state.run != self.ledger.run:
            self.ack_sender.schedule_soon(now)
            if self.ledger.run or self.shutdown.kill:
                return []
            return [*self.peers.on_ventilator_state(now), *self.run_info.start_run(ventilator_state)]
        self.status_builder.is_waiting_for_input = ventilator_state.is_waiting_for_input
        return [
            *self.peers.on_ventilator_state(now),
            *(
                self.shutdown.on_ventilator_state(ventilator_state, now)
                or self.run_info.on_end_of_input(ventilator_state)
            ),
        ]

    def _on_goodbye(self, goodbye: Goodbye, now: float) -> list[Send]:
        return self.peers.on_goodbye(goodbye.name, now, is_run_over=self.shutdown.kill is not None)

    def _on_input_changed(self, change: InputChanged, now: float) -> list[Send]:
        self.run_info.reject_input()
        return self.shutdown.on_input_changed(change.low, change.high, now)

    def _on_status_requested(self, _: StatusRequested, now: float) -> list[Send]:
        return [Send(Port.USER, StatusReport(self.status_builder.build_status(now, self.shutdown.kill)))]
