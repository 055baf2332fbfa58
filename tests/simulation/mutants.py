"""Mutants: each switches off one rule of the protocol, and the simulation must notice.

A mutant replaces one method or constant. A seed must break a promise (`measure` is None), or the measured figure must
grow over all seeds. A rule that no seed and no figure needs is removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.model.events import Committed, FetchSpilled, Reconnect, RecordsRead, WriteLines, WriteResult
from pipeline.model.messages import (
    Ack,
    AttemptRange,
    Chunk,
    Goodbye,
    Heartbeat,
    Kill,
    PartialOutput,
    Ranges,
    RecordFormat,
    ResendRequest,
    Result,
    ResultPiece,
    RetryRange,
    Transfer,
    VentilatorState,
)
from pipeline.model.option_values import HaltCondition
from pipeline.model.ranges import AttemptCounts, RangeSet
from pipeline.model.results import slice_result
from pipeline.model.state_machine import NEVER, PeerMonitor, Port, Send
from pipeline.model.structs import replace
from pipeline.sink.ledger import Ledger, RunInfo
from pipeline.sink.peers import PeerTable
from pipeline.sink.result_writer import LiveOutput, ResultWriter
from pipeline.sink.retries import RetryQueue
from pipeline.sink.shutdown import ShutdownController
from pipeline.sink.sink import Sink
from pipeline.sink.transfers import TransferTable
from pipeline.ventilator import lane as lane_module
from pipeline.ventilator.dispatcher import ChecksumSender, Dispatcher
from pipeline.ventilator.lane import LaneTable, WorkerLane
from pipeline.ventilator.poison import CrashSuspects, LocalFailures
from pipeline.ventilator.task_store import RecordRange, slice_records
from pipeline.ventilator.ventilator import RunAgreement, Ventilator
from pipeline.ventilator.worker_registry import WorkerRegistry
from pipeline.worker import held_tasks, worker
from pipeline.worker.held_tasks import HeldTasks, UnackedResults
from pipeline.worker.worker import Connections, Worker
from tests.simulation.plan import SMALL_WINDOW
from tests.simulation.simulation import Simulation

Method = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule and the method without it. Without `measure` a seed must fail; else the figure must grow."""

    rule: str
    owner: Any
    method: str
    replacement: Callable[[Any], Any]
    measure: Callable[[Simulation], float] | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    """Changes to the plan of every seed, so that the rule matters."""
    first_seed: int = 0
    """Where the search for a seed that fails begins. It only shortens the search."""


HALT: dict[str, Any] = {
    "halt": HaltCondition("now", "done", 5),
    "tasks": 60,
    "stop_mode": "",
    "has_poison_tasks": False,
}
DEAD_LINKS: dict[str, Any] = {"faults": {"dead": 0.6}}
BROKEN_LINKS: dict[str, Any] = {"faults": {"break": 0.6}}
STOPPED_RUN: dict[str, Any] = {"faults": {"restart sink": 3.0}, "stop_mode": "soon", "stop_at": 3.0, "tasks": 60}

LARGE: dict[str, Any] = {"large_lines": 60, "tasks": 30, "stop_mode": "", "halt": None}

EDITED: dict[str, Any] = {
    "tasks": 60,
    "seconds": 0.3,
    "long_seconds": 0.0,
    "slots": 2,
    "workers": 2,
    "stop_mode": "",
    "halt": None,
}
EDITED |= {"has_poison_tasks": False, "faults": {"restart ventilator": 0.3}}


def return_always(value: Any) -> Callable[[Method], Method]:
    """Replace the method by one that only returns `value`."""
    return lambda _: lambda *_args, **_named: value


def drop_sends(port: Port, *kinds: type) -> Callable[[Method], Method]:
    """Drop what the method sends of these kinds to that port."""

    def mutate(method: Method) -> Method:
        def mutated(*args: Any, **named: Any) -> Any:
            return [send for send in method(*args, **named) if send.to != port or not isinstance(send.message, kinds)]

        return mutated

    return mutate


def never_reconnect(peer: str) -> Callable[[Method], Method]:
    """Never replace the connection to this peer."""

    def mutate(method: Method) -> Method:
        def is_reconnect_due(self: PeerMonitor, now: float, silence_seconds: float) -> bool:
            return self._role != peer and bool(method(self, now, silence_seconds))

        return is_reconnect_due

    return mutate


def count_executions(simulation: Simulation) -> float:
    return sum(simulation.log.executions.values())


def count_results_sent(simulation: Simulation) -> float:
    return simulation.log.sent_counts.get("Result", 0)


def count_pieces_sent(simulation: Simulation) -> float:
    return simulation.log.sent_counts.get("ResultPiece", 0)


def simulated_seconds(simulation: Simulation) -> float:
    return simulation.clock.now


def busy_seconds(simulation: Simulation) -> float:
    return simulation.log.busy_seconds


def count_warnings(simulation: Simulation) -> float:
    return simulation.log.warning_count


def line_latency(simulation: Simulation) -> float:
    return simulation.log.line_latency


def write_latency(simulation: Simulation) -> float:
    return simulation.log.write_latency


def _reconcile_by_sequence(_: Method) -> Method:
    def reconcile(
        self: WorkerLane, heartbeat: Heartbeat, record_format: RecordFormat, _: AttemptCounts
    ) -> list[RecordRange]:
        self.claims, self.unacked = _all_claims(heartbeat), RangeSet(heartbeat.unacked)
        gone: list[RecordRange] = []

        def held(span: RecordRange) -> list[tuple[int, int]]:
            if span.sequence > heartbeat.last_sequence:
                return [(span.first, span.end)]
            gone.extend(slice_records(span, self.claims.gaps(span.first, span.end), record_format))
            return self.claims.intersection(span.first, span.end)

        self._retain(held, record_format)
        return gone

    return reconcile


def _all_claims(heartbeat: Heartbeat, _: AttemptCounts | None = None) -> RangeSet:
    return RangeSet((*heartbeat.unfinished, *heartbeat.unacked))


def _always_reconcile(method: Method) -> Method:
    def on_heartbeat(self: WorkerRegistry, peer: bytes, heartbeat: Heartbeat, _: bool, now: float) -> list[Send]:  # noqa: FBT001
        sends: list[Send] = method(self, peer, heartbeat, True, now)
        return sends

    return on_heartbeat


def _accept_all_chunks(_: Method) -> Method:
    def accept(self: HeldTasks, chunk: Chunk, *_: object) -> list[Chunk]:
        self.unfinished.add(chunk.first, chunk.first + chunk.count)
        return [chunk]

    return accept


def _always_resend(method: Method) -> Method:
    def resend(self: UnackedResults, request: ResendRequest, heartbeat_number: int, now: float) -> list[Send]:
        sends: list[Send] = method(self, replace(request, heartbeat_number=1 << 40), heartbeat_number, now)
        return sends

    return resend


def _resend_without_content(method: Method) -> Method:
    def resend(self: UnackedResults, *args: object) -> list[Send]:
        ends = {key: kept.content_end for key, kept in self._results.items()}
        sends: list[Send] = method(self, *args)
        for key, end in ends.items():
            self._results[key].content_end = end
        return sends

    return resend


def _send_content_again(method: Method) -> Method:
    def send_content(self: UnackedResults, transfer: Transfer, *args: object) -> list[Send]:
        if kept := self._results.get((transfer.task, transfer.attempt)):
            kept.content_end = 0
        sends: list[Send] = method(self, transfer, *args)
        return sends

    return send_content


def _store_all_pieces(method: Method) -> Method:
    def on_piece(self: TransferTable, piece: ResultPiece) -> list[Send]:
        incoming = self._incoming.get((piece.worker, piece.task, piece.attempt))
        sends: list[Send] = method(self, replace(piece, start=incoming.received) if incoming else piece)
        return sends

    return on_piece


def _skip_quiet_period(method: Method) -> Method:
    def confirm(self: Ventilator, ack: Ack, now: float) -> list[Send]:
        sends: list[Send] = method(self, ack, now)
        self._dispatch_after = 0.0
        return sends

    return confirm


def _register_without_report_options(method: Method) -> Method:
    def start_run(self: WorkerRegistry, run: str, _: RecordFormat, now: float) -> list[Send]:
        sends: list[Send] = method(self, run, RecordFormat(), now)
        return sends

    return start_run


def _never_ack(method: Method) -> Method:
    def on_interval(self: Sink, now: float) -> list[Send]:
        before = self.ack_sender.next_ack_time
        sends: list[Send] = method(self, now)
        self.ack_sender.next_ack_time = before
        return sends

    return on_interval


def _ack_before_commit(method: Method) -> Method:
    def on_committed(self: ResultWriter, confirmation: Committed) -> list[Send]:
        if confirmation.store == "output":
            self._ledger.settled.update(
                (write.low, write.high) for write in self._output_writes if write.number <= confirmation.number
            )
        sends: list[Send] = method(self, confirmation)
        return sends

    return on_committed


def _accept_all_results(_: Method) -> Method:
    def accept(self: Ledger, result: Result) -> list[Result]:
        self.pending.add(result.first, result.first + result.count)
        return [result]

    return accept


def _forget_early_workers(method: Method) -> Method:
    def on_heartbeat(self: WorkerRegistry, *args: object) -> list[Send]:
        sends: list[Send] = method(self, *args)
        self._early_heartbeats.clear()
        return sends

    return on_heartbeat


def _unlimited_credit(_: Method) -> Method:
    def free_credit(self: WorkerLane) -> int:
        return 1 if self.endpoint else 0

    return free_credit


def _unlimited_window(method: Method) -> Method:
    def request_records(self: Dispatcher, lanes: LaneTable) -> list[Send]:
        self._window = 1 << 40
        sends: list[Send] = method(self, lanes)
        return sends

    return request_records


def _ignore_order(_: Method) -> Method:
    def write_or_spill(self: ResultWriter, part: Result) -> list[Send]:
        return [self._write(part)]

    return write_or_spill


def _send_below_settled(_: Method) -> Method:
    def on_records(self: Dispatcher, records: RecordsRead, lanes: LaneTable, needed: int = 0) -> list[Send]:
        self._is_reading, self._read_end, self._needed = False, records.first + records.count, needed
        span = RecordRange(records.first, records.count, records.body)
        known = RangeSet(
            (
                *self.settled.intersection(span.first, span.end),
                *lanes.claimed_tasks().intersection(span.first, span.end),
            )
        )
        if not known.task_count:
            self.task_store.add(records)
            return []
        for part in slice_records(span, self.settled.gaps(span.first, span.end), self.task_store.record_format):
            self.task_store.requeue(part)
        for lane in lanes:
            lanes.claim(lane)
        return []

    return on_records


def _wait_after_end(method: Method) -> Method:
    def reason_to_end(
        shutdown: worker.Shutdown,
        held: HeldTasks,
        connections: Connections,
        now: float,
        heartbeat_timeout: float,
    ) -> tuple[int, str] | None:
        end: tuple[int, str] | None = method(shutdown, held, connections, now, heartbeat_timeout)
        return end if held.is_empty or connections.timeout_reason(now) else None

    return reason_to_end


def _retry_before_journal(method: Method) -> Method:
    def to_retry(self: RetryQueue, result: Result) -> list[AttemptRange]:
        failed: list[AttemptRange] = method(self, result)
        for attempt_range in failed:
            self.schedule(attempt_range, 0.0)
        return failed

    return to_retry


def _single_attempt(_: Method) -> Method:
    def find_below(_self: AttemptCounts, _low: int, _high: int, _attempt: int) -> list[tuple[int, int]]:
        return []

    return find_below


def _count_every_loss(method: Method) -> Method:
    def on_worker_lost(self: CrashSuspects, worker: str, unfinished: RangeSet, *, is_isolated: bool) -> None:
        del is_isolated
        method(self, worker, unfinished, is_isolated=True)
        for low, high in unfinished:
            for task in range(low, high):
                self._workers_lost_alone.setdefault(task, set()).add(worker)

    return on_worker_lost


def _kill_before_journal(method: Method) -> Method:
    def request_stop(
        self: ShutdownController, mode: Literal["soon", "now"], reason: str, now: float, exit_code: int | None = None
    ) -> list[Send]:
        sends: list[Send] = method(self, mode, reason, now, exit_code)
        return [*sends, *(self._announce(Kill(self._ledger.run, mode, reason, 130)) if sends else [])]

    return request_stop


def _forget_kill(method: Method) -> Method:
    def tick(self: ShutdownController, now: float) -> list[Send]:
        if self._proposed_kill is None:
            self._ledger.run_stop = None
        sends: list[Send] = method(self, now)
        return sends

    return tick


def _log_and_apply(_: Method) -> Method:
    def log_failed_attempts(self: ResultWriter, part: Result, attempt_ranges: list[AttemptRange]) -> list[Send]:
        sends = []
        for attempt_range in attempt_ranges:
            (piece,) = slice_result(part, [(attempt_range.low, attempt_range.high)])
            number = self._add_pending(self._output_writes, piece, attempt_range)
            sends.append(Send(Port.OUTPUT, WriteResult(number, piece, is_retried=True)))
            sends += [self._ledger.append(attempt_range)] if self._ledger.record_attempt(attempt_range) else []
        return sends

    return log_failed_attempts


def _show_all_lines(_: Method) -> Method:
    def on_partial_output(_self: LiveOutput, partial: PartialOutput) -> list[Send]:
        return [Send(Port.OUTPUT, WriteLines(partial.body))]

    return on_partial_output


def _accept_late_results(method: Method) -> Method:
    def flush(self: ResultWriter) -> list[Send]:
        sends: list[Send] = method(self)
        self.is_flushing = False
        return sends

    return flush


def _any_attempt(method: Method) -> Method:
    def on_partial_output(self: LiveOutput, partial: PartialOutput) -> list[Send]:
        known = self._live_tasks.get(partial.task)
        sends: list[Send] = method(self, replace(partial, attempt=known.attempt) if known else partial)
        return sends

    return on_partial_output


def _ignore_retries(method: Method) -> Method:
    def settle(self: UnackedResults, settled: RangeSet, _: tuple[RetryRange, ...] = ()) -> None:
        method(self, settled)

    return settle


def _request_failed_attempts(method: Method) -> Method:
    def missing(self: Ledger, unacked: Ranges, _: tuple[AttemptRange, ...] = ()) -> Ranges:
        ranges: Ranges = method(self, unacked, (AttemptRange(0, 99, 99),))
        return ranges

    return missing


def _no_cuts(_: Method) -> Method:
    def cuts(_self: ChecksumSender, _first: int, end: int) -> list[int]:
        return [end]

    return cuts


def _requeue_after_end(method: Method) -> Method:
    def on_goodbye(self: WorkerRegistry, goodbye: Goodbye, now: float) -> list[Send]:
        sends: list[Send] = method(self, replace(goodbye, is_run_over=False), now)
        return sends

    return on_goodbye


def _repeat_kill_as_announced(method: Method) -> Method:
    def on_interval(self: Sink, now: float) -> list[Send]:
        return [
            replace(send, message=self.shutdown.kill) if isinstance(send.message, Kill) else send
            for send in method(self, now)
        ]

    return on_interval


def _never_fetch(method: Method) -> Method:
    def on_interval(self: Sink, now: float) -> list[Send]:
        return [send for send in method(self, now) if not isinstance(send.message, FetchSpilled)]

    return on_interval


def _guess_halt_events(method: Method) -> Method:
    def events_left(self: HaltCondition, done_count: int, failed_count: int, total: int) -> int:
        return abs(int(method(self, done_count, failed_count, total)))

    return events_left


def _stop_at_once(method: Method) -> Method:
    def drain(self: Worker, mode: str) -> list[Send]:
        sends: list[Send] = self._stop(0, "") if mode == "now" else method(self, mode)
        return sends

    return drain


MUTANTS = [
    Mutant("a worker starts nothing while its results may end the run", Worker, "_limit_starts", return_always([]),
        None, HALT),
    Mutant("a met halt condition ends the run", ShutdownController, "_check_halt", return_always([]), None, HALT),
    Mutant("a worker that kills its tasks first reports those that have ended", Worker, "_drain", _stop_at_once, None,
        HALT | {"has_batched_reports": True, "workers": 3, "slots": 3, "faults": {}}),
    Mutant("nothing is sent before a percentage can be computed", HaltCondition, "events_left", _guess_halt_events,
        None, HALT | {"halt": HaltCondition("now", "done", percent=20), "slow_input": True, "window": 1 << 20,
        "padding_bytes": 0}),
    Mutant("a failed task is retried", RetryQueue, "next_attempts", return_always([])),
    Mutant("a retry is announced after the journal has it", RetryQueue, "next_attempts", _retry_before_journal),
    Mutant("a later attempt is not a duplicate of the task", AttemptCounts, "find_below", _single_attempt),
    Mutant("the worker drops a result whose task is retried", UnackedResults, "settle", _ignore_retries,
        count_results_sent, {"retries": 3, "retry_delay": 2.0, "faults": {"break": 0.6}}),
    Mutant("the sink does not request results of attempts that have failed since", Ledger, "missing",
        _request_failed_attempts, count_results_sent, {"retries": 3, "faults": {"late": 1, "drop": 1}}),
    Mutant("a claim of an earlier attempt is not valid", lane_module, "valid_claims", lambda _: _all_claims,
        write_latency, {"retries": 3, "retry_delay": 0.0, "faults": {}, "report_mode": "", "workers": 1, "slots": 1,
        "tasks": 7} | {"seconds": 0.3, "delay": 0.3, "long_seconds": 0.0, "halt": None, "stop_mode": "",
        "has_poison_tasks": False, "slow_input": False}),
    Mutant("a task that crashes workers is failed as poison", CrashSuspects, "poison_tasks", return_always([]), None,
        {"has_poison_tasks": True}, first_seed=5),
    Mutant("only losses in isolation count towards poison", CrashSuspects, "on_worker_lost", _count_every_loss, None,
        {"has_poison_tasks": True, "faults": {}}),
    Mutant("suspects are sent singly, then in isolation", CrashSuspects, "loss_count", return_always(0), None,
        {"has_poison_tasks": True, "faults": {}}, first_seed=5),
    Mutant("a failure decided by the ventilator is repeated", LocalFailures, "resend", return_always([]), None,
        {"has_poison_tasks": True, "faults_end_at": 150.0} | DEAD_LINKS),
    Mutant("the sink accepts only results of tasks that the ventilator announced", RunInfo, "is_announced",
        return_always(value=True), None, BROKEN_LINKS, first_seed=125),
    Mutant("checksums of two readings end at the same records", ChecksumSender, "_cuts", _no_cuts, None,
        EDITED | {"edited": 20, "slow_input": True}),
    Mutant("a checksum group is read to its end", ChecksumSender, "needed", lambda _: 0, None,
        {"restart_window": SMALL_WINDOW, "window": 1 << 20, "padding_bytes": 30, "tasks": 60, "halt": None,
        "stop_mode": "", "faults": {"restart ventilator": 0.6}}),
    Mutant("InputChecksums is repeated", ChecksumSender, "resend", return_always([]), None, DEAD_LINKS),
    Mutant("an early end is in the journal before it is announced", ShutdownController, "request_stop",
        _kill_before_journal, None, STOPPED_RUN),
    Mutant("a stopped run gives up waiting for disk space", ShutdownController, "_give_up", return_always([]), None,
        {**STOPPED_RUN, "disk_full_at": 2.0}),
    Mutant("a restarted sink knows that the run was stopped", ShutdownController, "tick", _forget_kill, None,
        STOPPED_RUN),
    Mutant("a restarted sink fetches the next result in order", Sink, "_on_interval", _never_fetch, None,
        {"keep_order": True, "tasks": 60, "seconds": 0.03, "delay": 0.001, "faults": {"restart sink": 3.0}}),
    Mutant("the spill discards written results", ResultWriter, "discard_written", return_always([]), None,
        {"keep_order": True}),
    Mutant("records below settled ones count as sent before", Dispatcher, "on_records", _send_below_settled, None,
        {"keep_order": True, "spill_limit": 4, "tasks": 60, "long_seconds": 5.0, "window": 1 << 20,
        "workers": 3} | {"faults": {"restart ventilator": 0.6, "kill worker": 0.2}}),
    Mutant("a worker whose run has ended does not wait for a lost sink", worker, "reason_to_end", _wait_after_end,
        simulated_seconds, {"stop_mode": "soon", "stop_at": 3.0, "faults": {"dead": 0.6, "freeze worker": 0.6}}),
    Mutant("a worker keeps a result until it is acknowledged", UnackedResults, "add", return_always(None), None,
        {"faults": {"break": 0.6, "dead": 0.2}, "tasks": 60}),
    Mutant("the sink requests results that a heartbeat names and it lacks", Ledger, "missing", return_always(())),
    Mutant("a resend request older than the last send is ignored", UnackedResults, "resend", _always_resend,
        count_results_sent, {"faults": {"break": 0.6, "late": 1}}),
    Mutant("a chunk that the heartbeat no longer names is requeued", WorkerLane, "reconcile", return_always([]),
        first_seed=80),
    Mutant("lane and sequence compare as a pair", WorkerLane, "reconcile", _reconcile_by_sequence, None, DEAD_LINKS),
    Mutant("a lane carries no more than its credit", WorkerLane, "free_credit", _unlimited_credit),
    Mutant("a heartbeat is reconciled only with an Ack as new as its own", WorkerRegistry, "on_heartbeat",
        _always_reconcile, count_executions, {"faults": {"late": 1, "drop": 1}}),
    Mutant("a duplicate task is not executed", HeldTasks, "accept", _accept_all_chunks, count_executions,
        {"faults": {"double": 1}}),
    Mutant("a silent worker is lost", WorkerLane, "is_silent", return_always(value=False)),
    Mutant("an unreachable worker is lost sooner", WorkerRegistry, "on_peer_unreachable", return_always([]),
        simulated_seconds, {"faults": {"kill worker": 0.2}}),
    Mutant("a task that a worker claims is not sent to others", LaneTable, "claim", return_always(None),
        count_executions, {"faults": {"restart ventilator": 0.2}, "tasks": 7, "workers": 3, "slots": 3,
        "seconds": 6.0}),
    Mutant("a restarted ventilator waits before it dispatches", Ventilator, "_confirm", _skip_quiet_period,
        count_executions, {"faults": {"restart ventilator": 0.2}, "tasks": 7, "workers": 3, "slots": 3,
        "seconds": 6.0}),
    Mutant("a worker knows the report options before its first task", WorkerRegistry, "start_run",
        _register_without_report_options),
    Mutant("a worker replaces a silent registry connection", PeerMonitor, "is_reconnect_due",
        never_reconnect("ventilator"), first_seed=59),
    Mutant("a silent connection to the sink is replaced", PeerMonitor, "is_reconnect_due", never_reconnect("sink")),
    Mutant("a stalled lane is replaced", WorkerLane, "is_stalled", return_always(value=False), None, DEAD_LINKS),
    Mutant("a worker replaces a stalled results connection", Connections, "due_reconnects", drop_sends(Port.RESULTS,
        Reconnect), None, DEAD_LINKS),
    Mutant("the ventilator replaces a stalled results connection", RunAgreement, "on_interval", drop_sends(Port.RESULTS,
        Reconnect)),
    Mutant("Ack is repeated", Sink, "_on_interval", _never_ack, count_warnings, {"faults": {}, "seconds": 6.0,
        "tasks": 7}),
    Mutant("VentilatorState is repeated", RunAgreement, "on_interval", drop_sends(Port.RESULTS, VentilatorState)),
    Mutant("tasks of a worker that left at the end of the run are not requeued", WorkerRegistry, "on_goodbye",
        _requeue_after_end, count_executions, {"faults": {"late": 1}, "workers": 3, "slots": 3, "tasks": 7,
        "seconds": 0.03, "delay": 0.02, "retries": 0}),
    Mutant("the sink does not wait for a dead ventilator", PeerTable, "on_ventilator_dead", return_always([]),
        simulated_seconds, {"ventilator_dies": 3.0, "faults": {}, "tasks": 60, "seconds": 0.8, "slow_input": True}),
    Mutant("workers leave with results that nobody can accept", Sink, "_has_only_unverifiable_results",
        return_always(False), None, STOPPED_RUN | {"faults": {"restart sink": 0.6, "restart ventilator": 0.6},
        "stop_at": 1.5, "ventilator_dies": 1.6} | {"report_mode": ""}),
    Mutant("Kill is repeated", Sink, "_on_interval", drop_sends(Port.CONTROL, Kill)),
    Mutant("a repeated Kill names the run that was unknown when it was announced", Sink, "_on_interval",
        _repeat_kill_as_announced, None, {"stop_mode": "soon", "stop_at": 0.02, "faults": {"drop": 1.0}, "delay": 0.02,
        "tasks": 30}),
    Mutant("Registration is repeated", WorkerRegistry, "send_registrations", return_always([]), count_warnings,
        {"faults": {}, "seconds": 6.0, "tasks": 7}),
    Mutant("a Registration reports the end of the run", WorkerRegistry, "end_run", return_always([]), None,
        {"faults": {"freeze worker": 0.6, "freeze sink": 0.2, "drop": 1}}, first_seed=200),
    Mutant("a task settled elsewhere is cancelled", HeldTasks, "settled_elsewhere", return_always(()), busy_seconds,
        {"faults": {"freeze worker": 0.6}, "seconds": 20.0, "long_seconds": 60.0, "tasks": 7, "slots": 3,
        "workers": 3}),
    Mutant("a stopping ventilator reads up to the tasks that workers hold", Dispatcher, "prefetch", return_always([]),
        None, {"stop_mode": "soon", "stop_at": 4.0, "faults": {"restart ventilator": 0.6, "dead": 0.6}, "tasks": 60},
        first_seed=1180),
    Mutant("queued tasks of a stalled worker are released", held_tasks, "STALL_SECONDS", lambda _: NEVER, write_latency,
        {"faults": {}, "chunk": 4, "long_seconds": 5.0, "seconds": 0.01, "delay": 0.001, "workers": 3}),
    Mutant("an Ack is sent after the journal has its tasks", ResultWriter, "on_committed", _ack_before_commit),
    Mutant("each task is accepted once", Ledger, "accept", _accept_all_results),
    Mutant("heartbeats before the run is known are kept", WorkerRegistry, "on_heartbeat", _forget_early_workers,
        simulated_seconds, {"faults": {}}),
    Mutant("the ventilator reads no further than its window", Dispatcher, "_request_records", _unlimited_window),
    Mutant("results are refused while the end is written", ResultWriter, "flush", _accept_late_results, None,
        {"report_mode": "live", "keep_order": True, "stop_mode": "soon", "stop_at": 3.0, "tasks": 60}, first_seed=60),
    Mutant("an attempt is logged before its failure is recorded", ResultWriter, "_log_failed_attempts", _log_and_apply,
        None, {"report_mode": "log", "retries": 3, "faults": {"restart sink": 3.0}, "tasks": 60}),
    Mutant("a recorded attempt is not logged again", Ledger, "is_new_attempt", return_always(value=True), None,
        {"report_mode": "log", "retries": 3, "faults": {"freeze all": 0.6}}, first_seed=120),
    Mutant("streamed lines are not written again", LiveOutput, "take_shown", return_always(()), None,
        {"report_mode": "live"}),
    Mutant("lines are written once, in sequence", LiveOutput, "on_partial_output", _show_all_lines, None,
        {"report_mode": "live"}),
    Mutant("lines of an earlier attempt are ignored", LiveOutput, "on_partial_output", _any_attempt, None,
        {"report_mode": "live", "retries": 3, "retry_delay": 0.0, "seconds": 0.8, "tasks": 60, "slots": 3,
        "workers": 3} | {"faults": {"freeze worker": 0.6, "partition": 0.6}}),
    Mutant("lines are shown when their task is next in order", LiveOutput, "show_next_in_order", return_always([]),
        line_latency, {"report_mode": "live", "keep_order": True, "faults": {}, "retries": 0, "has_poison_tasks": False,
        "halt": None, "stop_mode": ""} | {"seconds": 3.0, "long_seconds": 8.0, "tasks": 7, "workers": 3, "slots": 3}),
    Mutant("results are written in order", ResultWriter, "write_or_spill", _ignore_order),
    Mutant("a requested large result is sent again after what is stored", UnackedResults, "resend",
        _resend_without_content, None, LARGE | {"faults": {"break": 0.6}}),
    Mutant("content is sent once", UnackedResults, "send_content", _send_content_again, count_pieces_sent,
        LARGE | {"faults": {}}),
    Mutant("pieces of content are stored once, in sequence", TransferTable, "on_piece", _store_all_pieces, None,
        LARGE | {"faults": {"break": 0.6, "double": 0.6}}),
    Mutant("transfers of lost workers are dropped", TransferTable, "drop_useless", return_always([]), None,
        LARGE | {"faults": {"kill worker": 0.6}, "workers": 3}),
]  # fmt: skip
