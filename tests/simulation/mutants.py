"""Each rule of the protocol, switched off: the simulated line must notice, or a figure must worsen.

A mutant replaces one small method by one without its rule. What no seed and no figure misses is no rule, and goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.model.events import FetchSpilled, Reconnect, WriteLines, WriteResult
from pipeline.model.messages import AttemptRange, Kill, PartialOutput, RecordFormat, Result, VentilatorState
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
from pipeline.ventilator import lane as lane_module
from pipeline.ventilator.dispatcher import ChecksumSender, Dispatcher
from pipeline.ventilator.lane import LaneTable, WorkerLane
from pipeline.ventilator.poison import CrashSuspects, LocalFailures
from pipeline.ventilator.task_store import RecordRange, slice_records
from pipeline.ventilator.ventilator import RunAgreement, Ventilator
from pipeline.ventilator.worker_registry import WorkerRegistry
from pipeline.worker import held_tasks, worker
from pipeline.worker.held_tasks import HeldTasks, UnackedResults
from pipeline.worker.worker import Connections
from tests.simulation.simulation import Simulation

Method = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule and the line without it. `figure` is None where a seed must fail; else what must grow, over all seeds."""

    rule: str
    owner: Any
    method: str
    replacement: Callable[[Any], Any]
    measure: Callable[[Simulation], float] | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    """To the plan of every seed, so that the rule is asked for."""


DEAD_LINKS: dict[str, Any] = {"faults": {"dead": 0.6}}
BROKEN_LINKS: dict[str, Any] = {"faults": {"break": 0.6}}
STOPPED_RUN: dict[str, Any] = {"faults": {"restart sink": 3.0}, "stop_mode": "soon", "stop_at": 3.0, "tasks": 60}

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
    """The method does nothing and answers so."""
    return lambda _: lambda *_args, **_named: value


def drop_sends(port: Port, *kinds: type) -> Callable[[Method], Method]:
    """The method's sends of these kinds to that port are left out."""

    def mutate(method: Method) -> Method:
        def mutated(*args: Any, **named: Any) -> Any:
            return [send for send in method(*args, **named) if send.to != port or not isinstance(send.message, kinds)]

        return mutated

    return mutate


def never_reconnect(peer: str) -> Callable[[Method], Method]:
    """This peer's connection is never replaced."""

    def mutate(method: Method) -> Method:
        return lambda self, *args: self._role != peer and method(self, *args)

    return mutate


def count_executions(simulation: Simulation) -> float:
    return sum(simulation.log.executions.values())


def count_results_sent(simulation: Simulation) -> float:
    return simulation.log.sent_counts.get("Result", 0)


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
    def reconcile(self: WorkerLane, heartbeat: Any, record_format: RecordFormat) -> list[RecordRange]:
        self.claims = RangeSet((*heartbeat.holding, *heartbeat.finished))
        gone: list[RecordRange] = []

        def held(span: RecordRange) -> list[tuple[int, int]]:
            if span.sequence > heartbeat.last_sequence:
                return [(span.first, span.end)]
            gone.extend(slice_records(span, self.claims.gaps(span.first, span.end), record_format))
            return self.claims.intersection(span.first, span.end)

        self._retain(held, record_format)
        return gone

    return reconcile


def _always_reconcile(method: Method) -> Method:
    return lambda self, peer, pulse, _, now: method(self, peer, pulse, True, now)


def _accept_all_chunks(_: Method) -> Method:
    def accept(self: HeldTasks, chunk: Any, *_: Any) -> list[Any]:
        self.unfinished.add(chunk.first, chunk.first + chunk.count)
        return [chunk]

    return accept


def _always_resend(method: Method) -> Method:
    return lambda self, again, pulse, now: method(self, replace(again, pulse=1 << 40), pulse, now)


def _skip_quiet_period(method: Method) -> Method:
    def confirm(self: Ventilator, *args: Any) -> Any:
        sends = method(self, *args)
        self._dispatch_after = 0.0
        return sends

    return confirm


def _welcomes_without_wants(method: Method) -> Method:
    return lambda self, run, _, now: method(self, run, RecordFormat(), now)


def _never_ack(method: Method) -> Method:
    def heartbeat(self: Sink, now: float) -> Any:
        before = self.ack_sender.next_ack_time
        sends = method(self, now)
        self.ack_sender.next_ack_time = before
        return sends

    return heartbeat


def _ack_before_commit(method: Method) -> Method:
    def on_committed(self: ResultWriter, committed: Any) -> Any:
        if committed.store == "output":
            self._ledger.settled.update(
                (sent.low, sent.high) for sent in self._output_writes if sent.number <= committed.number
            )
        return method(self, committed)

    return on_committed


def _accept_all_results(_: Method) -> Method:
    def accept(self: Ledger, result: Result) -> list[Result]:
        self.pending.add(result.first, result.first + result.count)
        return [result]

    return accept


def _forget_early_workers(method: Method) -> Method:
    def on_heartbeat(self: WorkerRegistry, *args: Any) -> Any:
        sends = method(self, *args)
        self._early_heartbeats.clear()
        return sends

    return on_heartbeat


def _unlimited_credit(_: Method) -> Method:
    return lambda self: 1 if self.at else 0


def _unlimited_window(method: Method) -> Method:
    def request_read(self: Dispatcher, lanes: LaneTable) -> Any:
        self._window = 1 << 40
        return method(self, lanes)

    return request_read


def _ignore_order(_: Method) -> Method:
    def write_or_spill(self: ResultWriter, part: Any) -> Any:
        return [self._write(part)]

    return write_or_spill


def _send_below_settled(_: Method) -> Method:
    def read(self: Dispatcher, records: Any, lanes: LaneTable) -> list[Any]:
        self._is_reading = False
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

    return read


def _wait_after_end(method: Method) -> Method:
    def reason(*args: Any) -> Any:
        end = method(*args)
        return None if end and "left that no sink" in end[1] else end

    return reason


def _retry_before_journal(method: Method) -> Method:
    def to_retry(self: RetryQueue, result: Result) -> list[AttemptRange]:
        tried: list[AttemptRange] = method(self, result)
        for each in tried:
            self.schedule(each, 0.0)
        return tried

    return to_retry


def _single_attempt(_: Method) -> Method:
    def below(*_args: Any) -> list[Any]:
        return []

    return below


def _count_every_loss(method: Method) -> Method:
    def worker_lost(self: CrashSuspects, worker: str, held: RangeSet, *, is_alone: bool) -> None:
        del is_alone
        method(self, worker, held, is_alone=True)
        for low, high in held:
            for task in range(low, high):
                self._workers_lost_alone.setdefault(task, set()).add(worker)

    return worker_lost


def _kill_before_journal(method: Method) -> Method:
    def request_stop(
        self: ShutdownController, mode: Any, reason: str, now: float, code: int | None = None
    ) -> list[Send]:
        sends: list[Send] = method(self, mode, reason, now, code)
        kills = [self._announce(Kill(self._ledger.run, mode, reason, 130))] if sends else []
        return [*sends, *(send for said in kills for send in said)]

    return request_stop


def _forget_kill(method: Method) -> Method:
    def tick(self: ShutdownController, now: float) -> Any:
        killed, self._ledger.run_stop = self._ledger.run_stop, None
        if self._proposed_kill is None:
            return method(self, now)
        self._ledger.run_stop = killed
        return method(self, now)

    return tick


def _log_and_apply(_: Method) -> Method:
    def write_rows(self: ResultWriter, part: Result, attempts: list[AttemptRange]) -> list[Send]:
        sends = []
        for each in attempts:
            (piece,) = slice_result(part, [(each.low, each.high)])
            number = self._add_pending(self._output_writes, piece, each)
            sends += [Send(Port.OUTPUT, WriteResult(number, piece, is_retried=True))]
            sends += [self._ledger.append(each)] if self._ledger.record_attempt(each) else []
        return sends

    return write_rows


def _show_all_lines(_: Method) -> Method:
    return lambda _, part: [Send(Port.OUTPUT, WriteLines(part.body))]


def _accept_late_results(method: Method) -> Method:
    def flush(self: ResultWriter) -> list[Send]:
        sends: list[Send] = method(self)
        self.is_flushing = False
        return sends

    return flush


def _any_attempt(method: Method) -> Method:
    def on_partial(self: LiveOutput, part: PartialOutput) -> Any:
        known = self._live_tasks.get(part.task)
        return method(self, replace(part, attempt=known.attempt) if known else part)

    return on_partial


def _never_advance(method: Method) -> Method:
    def heartbeat(self: Sink, now: float) -> Any:
        return [send for send in method(self, now) if not isinstance(send.message, FetchSpilled)]

    return heartbeat


MUTANTS = [
    Mutant("a failed task is tried again", RetryQueue, "next_attempts", return_always([])),
    Mutant("a retry is told when the journal has it", RetryQueue, "next_attempts", _retry_before_journal),
    Mutant("a later try is not the same task again", AttemptCounts, "find_below", _single_attempt),
    Mutant(
        "a result whose task is tried again is answered",
        UnackedResults,
        "settle",
        lambda method: lambda self, settled, *_: method(self, settled),
        count_results_sent,
        {"retries": 3, "retry_delay": 2.0, "faults": {"break": 0.6}},
    ),
    Mutant(
        "what has failed since is not asked for again",
        Ledger,
        "missing",
        lambda method: lambda self, finished, _=(): method(self, finished, (AttemptRange(0, 99, 99),)),
        count_results_sent,
        {"retries": 3, "faults": {"late": 1, "drop": 1}},
    ),
    Mutant(
        "a claim of an earlier try is none",
        lane_module,
        "valid_claims",
        lambda _: lambda pulse, _: RangeSet((*pulse.holding, *pulse.finished)),
        write_latency,
        {"retries": 3, "retry_delay": 0.0, "faults": {}, "report_mode": "", "workers": 1, "slots": 1, "tasks": 7}
        | {
            "seconds": 0.3,
            "delay": 0.3,
            "long_seconds": 0.0,
            "halt": None,
            "stop_mode": "",
            "has_poison_tasks": False,
            "slow_input": False,
        },
    ),
    Mutant(
        "who takes workers along is convicted",
        CrashSuspects,
        "poison_tasks",
        return_always([]),
        None,
        {"has_poison_tasks": True},
    ),
    Mutant(
        "only losses while alone convict",
        CrashSuspects,
        "on_worker_lost",
        _count_every_loss,
        None,
        {"has_poison_tasks": True, "faults": {}},
    ),
    Mutant(
        "suspects go singly, then alone",
        CrashSuspects,
        "loss_count",
        return_always(0),
        None,
        {"has_poison_tasks": True, "faults": {}},
    ),
    Mutant(
        "a verdict of the ventilator is repeated",
        LocalFailures,
        "resend",
        return_always([]),
        None,
        {"has_poison_tasks": True, "faults_end_at": 150.0} | DEAD_LINKS,
    ),
    Mutant(
        "no result is taken of a task that nobody has told of",
        RunInfo,
        "is_announced",
        return_always(value=True),
        None,
        BROKEN_LINKS,
    ),
    Mutant(
        "checksums of two readings are cut at the same places",
        ChecksumSender,
        "_cuts",
        lambda _: lambda _self, _first, end: [end],
        None,
        EDITED | {"edited": 20, "slow_input": True},
    ),
    Mutant(
        "a group is read to its end to be compared",
        ChecksumSender,
        "needed",
        lambda _: 0,
        None,
        {"window": 64, "tasks": 60, "faults": {"restart ventilator": 0.6}},
    ),
    Mutant("Read is repeated", ChecksumSender, "resend", return_always([]), None, DEAD_LINKS),
    Mutant(
        "an early end is in the journal before it is said",
        ShutdownController,
        "request_stop",
        _kill_before_journal,
        None,
        STOPPED_RUN,
    ),
    Mutant(
        "who is to end gives up waiting for room",
        ShutdownController,
        "_give_up",
        return_always([]),
        None,
        {**STOPPED_RUN, "disk_full_at": 2.0},
    ),
    Mutant(
        "a sink that comes back knows that the run was to end",
        ShutdownController,
        "tick",
        _forget_kill,
        None,
        STOPPED_RUN,
    ),
    Mutant(
        "a sink that comes back looks whose turn it is",
        Sink,
        "_on_interval",
        _never_advance,
        None,
        {"keep_order": True, "tasks": 60, "seconds": 0.03, "delay": 0.001, "faults": {"restart sink": 3.0}},
    ),
    Mutant(
        "the spill forgets what is written",
        ResultWriter,
        "discard_written",
        return_always([]),
        None,
        {"keep_order": True},
    ),
    Mutant(
        "what lies below the settled is never fresh",
        Dispatcher,
        "on_records",
        _send_below_settled,
        None,
        {"keep_order": True, "spill_limit": 4, "tasks": 60, "long_seconds": 5.0, "window": 1 << 20, "workers": 3}
        | {"faults": {"restart ventilator": 0.6, "kill worker": 0.2}},
    ),
    Mutant(
        "a worker whose run has ended does not wait for a sink that is gone",
        worker,
        "reason_to_end",
        _wait_after_end,
        simulated_seconds,
        {"stop_mode": "soon", "stop_at": 3.0, "faults": {"dead": 0.6, "freeze worker": 0.6}},
    ),
    Mutant(
        "a result is kept until it is answered",
        UnackedResults,
        "add",
        return_always(None),
        None,
        {"faults": {"break": 0.6, "dead": 0.2}, "tasks": 60},
    ),
    Mutant("the sink asks again for what a pulse has finished and it has not", Ledger, "missing", return_always(())),
    Mutant(
        "an asking older than the last sending is ignored",
        UnackedResults,
        "resend",
        _always_resend,
        count_results_sent,
        {"faults": {"break": 0.6, "late": 1}},
    ),
    Mutant("what a pulse does not hold any more goes out again", WorkerLane, "reconcile", return_always([])),
    Mutant("lane and sequence compare as a pair", WorkerLane, "reconcile", _reconcile_by_sequence),
    Mutant("a lane carries no more than was asked for", WorkerLane, "free_credit", _unlimited_credit),
    Mutant(
        "a pulse is judged only by an Ack as new as its own",
        WorkerRegistry,
        "on_heartbeat",
        _always_reconcile,
        count_executions,
        {"faults": {"late": 1, "drop": 1}},
    ),
    Mutant(
        "the same task again runs nothing",
        HeldTasks,
        "accept",
        _accept_all_chunks,
        count_executions,
        {"faults": {"double": 1}},
    ),
    Mutant("silence is loss", WorkerLane, "is_silent", return_always(value=False)),
    Mutant(
        "unreachability is suspicion",
        WorkerRegistry,
        "on_peer_unreachable",
        return_always([]),
        simulated_seconds,
        {"faults": {"kill worker": 0.2}},
    ),
    Mutant(
        "what a worker says it holds is not sent to others",
        LaneTable,
        "claim",
        return_always(None),
        count_executions,
        {"faults": {"restart ventilator": 0.2}, "tasks": 7, "workers": 3, "slots": 3, "seconds": 6.0},
    ),
    Mutant(
        "a ventilator that comes back is quiet at first",
        Ventilator,
        "_confirm",
        _skip_quiet_period,
        count_executions,
        {"faults": {"restart ventilator": 0.2}},
    ),
    Mutant(
        "a worker knows what the sink wants before its first task", WorkerRegistry, "start_run", _welcomes_without_wants
    ),
    Mutant("repair of a worker's desk", PeerMonitor, "is_reconnect_due", never_reconnect("ventilator")),
    Mutant(
        "repair of control, and of the ventilator's way to the sink",
        PeerMonitor,
        "is_reconnect_due",
        never_reconnect("sink"),
    ),
    Mutant("repair of a lane", WorkerLane, "is_stalled", return_always(value=False), None, DEAD_LINKS),
    Mutant(
        "repair of a worker's results",
        Connections,
        "due_reconnects",
        drop_sends(Port.RESULTS, Reconnect),
        None,
        DEAD_LINKS,
    ),
    Mutant("repair of the ventilator's results", RunAgreement, "on_interval", drop_sends(Port.RESULTS, Reconnect)),
    Mutant(
        "Ack is repeated", Sink, "_on_interval", _never_ack, count_warnings, {"faults": {}, "seconds": 6.0, "tasks": 7}
    ),
    Mutant("Run is repeated", RunAgreement, "on_interval", drop_sends(Port.RESULTS, VentilatorState)),
    Mutant(
        "who leaves because the run is over leaves nothing to be done",
        WorkerRegistry,
        "on_goodbye",
        lambda method: lambda self, bye, now: method(self, replace(bye, over=False), now),
        count_executions,
        {"faults": {"late": 1}, "workers": 3, "slots": 3, "tasks": 7, "seconds": 0.03, "delay": 0.02, "retries": 0},
    ),
    Mutant(
        "a dead ventilator is not waited for",
        PeerTable,
        "on_ventilator_dead",
        return_always([]),
        simulated_seconds,
        {"ventilator_dies": 3.0, "faults": {}, "tasks": 60, "seconds": 0.8, "slow_input": True},
    ),
    Mutant("Kill is repeated", Sink, "_on_interval", drop_sends(Port.CONTROL, Kill)),
    Mutant(
        "Welcome is repeated",
        WorkerRegistry,
        "send_registrations",
        return_always([]),
        count_warnings,
        {"faults": {}, "seconds": 6.0, "tasks": 7},
    ),
    Mutant(
        "a Welcome says that the run is over",
        WorkerRegistry,
        "end_run",
        return_always([]),
        None,
        {"faults": {"dead": 0.6, "freeze worker": 0.6, "freeze sink": 0.2, "drop": 1}},
    ),
    Mutant(
        "what is settled elsewhere is not run on",
        HeldTasks,
        "settled_elsewhere",
        return_always(()),
        busy_seconds,
        {"faults": {"freeze worker": 0.6}, "seconds": 20.0, "long_seconds": 60.0, "tasks": 7, "slots": 3, "workers": 3},
    ),
    Mutant(
        "a ventilator reads on for what workers hold when the run ends soon",
        Dispatcher,
        "prefetch",
        return_always([]),
        None,
        {"stop_mode": "soon", "stop_at": 4.0, "faults": {"restart ventilator": 0.6, "dead": 0.6}, "tasks": 60},
    ),
    Mutant(
        "what is stuck is given back",
        held_tasks,
        "STALL_SECONDS",
        lambda _: NEVER,
        write_latency,
        {"faults": {}, "chunk": 4, "long_seconds": 5.0, "seconds": 0.01, "delay": 0.001, "workers": 3},
    ),
    Mutant("an Ack follows the journal", ResultWriter, "on_committed", _ack_before_commit),
    Mutant("each task is taken once", Ledger, "accept", _accept_all_results),
    Mutant(
        "who calls before the run is known is remembered",
        WorkerRegistry,
        "on_heartbeat",
        _forget_early_workers,
        simulated_seconds,
        {"faults": {}},
    ),
    Mutant("nothing is read past the window", Dispatcher, "_request_records", _unlimited_window),
    Mutant(
        "when the end is being written, results are too late",
        ResultWriter,
        "flush",
        _accept_late_results,
        None,
        {"report_mode": "live", "keep_order": True, "stop_mode": "soon", "stop_at": 3.0, "tasks": 60},
    ),
    Mutant(
        "a try is written down before it is known to have failed",
        ResultWriter,
        "_log_failed_attempts",
        _log_and_apply,
        None,
        {"report_mode": "log", "retries": 3, "faults": {"restart sink": 3.0}, "tasks": 60},
    ),
    Mutant(
        "a try that is known to have failed has its row",
        Ledger,
        "is_new_attempt",
        return_always(value=True),
        None,
        {"report_mode": "log", "retries": 3, "faults": {"freeze all": 0.6}},
    ),
    Mutant(
        "what was shown is not written again",
        LiveOutput,
        "take_shown",
        return_always(()),
        None,
        {"report_mode": "live"},
    ),
    Mutant(
        "lines come once, behind each other",
        LiveOutput,
        "on_partial_output",
        _show_all_lines,
        None,
        {"report_mode": "live"},
    ),
    Mutant(
        "lines of an earlier try are none of this one",
        LiveOutput,
        "on_partial_output",
        _any_attempt,
        None,
        {"report_mode": "live", "retries": 3, "retry_delay": 0.0, "seconds": 0.8, "tasks": 60, "slots": 3, "workers": 3}
        | {"faults": {"freeze worker": 0.6, "partition": 0.6}},
    ),
    Mutant(
        "lines are shown when their turn comes",
        LiveOutput,
        "show_next_in_order",
        return_always([]),
        line_latency,
        {
            "report_mode": "live",
            "keep_order": True,
            "faults": {},
            "retries": 0,
            "has_poison_tasks": False,
            "halt": None,
            "stop_mode": "",
        }
        | {"seconds": 3.0, "long_seconds": 8.0, "tasks": 7, "workers": 3, "slots": 3},
    ),
    Mutant("results wait for their turn", ResultWriter, "write_or_spill", _ignore_order),
]
