"""Messages between stations (the wire protocol), and the records inside them.

A message states what *is*, never what changed, so losing one costs only time. Grammar of one run (V ventilator,
W worker, S sink; docs/protocol.md has the rules)::

    registry = W:heartbeat V:registration / W:goodbye
    lane     = V:chunk                               ; one connection per worker, never more than its credit
    results  = W:result / W:piece / W:partial / W:activity / W:heartbeat / W:goodbye
             / V:checksums / V:result / V:ventilator / V:goodbye / any:stop
    control  = S:ack / S:status / S:kill             ; broadcast; a new subscriber receives the latest ack or kill

Task numbers start at 0. Ranges are half-open, ascending and merged. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from msgspec import Meta, Struct

from pipeline.model.option_values import HaltEvent

MAX_LENGTH = 1 << 16
"""Maximum number of items of an array, or of characters of a string."""
Item = TypeVar("Item")
Array = Annotated[tuple[Item, ...], Meta(max_length=MAX_LENGTH)]
Text = Annotated[str, Meta(max_length=MAX_LENGTH)]
Whole = Annotated[int, Meta(ge=0, lt=1 << 62)]
WholeOrUnknown = Annotated[int, Meta(ge=-1, lt=1 << 62)]
"""-1: unknown."""
Seconds = Annotated[float, Meta(ge=0.0, lt=1e12)]
Ranges = tuple[tuple[int, int], ...]
WireRanges = Array[tuple[Whole, Whole]]
"""Ranges in messages. Types cannot express that they are ascending and merged; the codec checks it."""


class WireRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of messages and of the records inside: in msgpack an array of fields, each checked when decoded."""


FailureKind = Literal["exit", "signal", "exception", "lost", "timeout", "size", "poison"]
"""lost: the warm process ended; size: the task or its output is too large; poison: the task crashes workers."""


Shape = Literal["line", "columns", "packed", "json"]
"""How a record holds its arguments.

line: one argument, the record itself; columns, packed: several arguments as JSON (see `records`), for `packed` each
with the text around it; json: any JSON value.
"""


class RecordFormat(WireRecord, frozen=True):
    """Properties that all tasks of a run share: the format of their records, and the contents of their results.

    With `block`, a record is its bytes as they are, one per chunk. `collect_metrics` adds metrics to each result;
    `stream_output` asks for PartialOutput. A `halt_event` is an outcome that may end the run: see Ack.
    """

    zero: bool = False
    block: bool = False
    shape: Shape = "line"
    collect_metrics: bool = False
    stream_output: bool = False
    halt_event: HaltEvent = ""


class TaskFailure(WireRecord, frozen=True):
    """Why one task failed. `code` is the exit code or the signal number.

    `record_size` is the size of its record in the Result's `failed_records`.
    """

    task: Whole
    kind: FailureKind
    code: Whole
    text: Text
    stderr_tail: Text
    record_size: Whole


class AttemptRange(WireRecord, frozen=True):
    """Unsettled tasks `low` to `high` that have failed `attempt` times so far."""

    low: Whole
    high: Whole
    attempt: Whole


class RetryRange(WireRecord, frozen=True):
    """Like AttemptRange; the tasks are to be run again after `delay_seconds`."""

    low: Whole
    high: Whole
    attempt: Whole
    delay_seconds: Seconds


class ResendRequest(WireRecord, frozen=True):
    """Results of a worker that had not arrived when its heartbeat of that number did."""

    worker: Text
    heartbeat_number: Whole
    ranges: WireRanges


class Transfer(WireRecord, frozen=True):
    """A large result: the sink has stored the first `size` bytes of its content, and accepts those below `limit`."""

    worker: Text
    task: Whole
    attempt: Whole
    size: Whole
    limit: Whole


class RunningTask(WireRecord, frozen=True):
    """The task that a slot (counted from 1) runs, and since how many seconds; `command` is truncated to one line."""

    task: Whole
    slot: Whole
    seconds: Seconds
    command: Text


class WorkerStatus(WireRecord, frozen=True):
    """One worker as the sink sees it.

    `cpu` is how many CPUs the worker and its descendants use, `memory` their bytes; `running_tasks` may be outdated.
    """

    worker: Text
    command: Text
    slots: Whole
    running_count: Whole
    done_count: Whole
    seconds_since_message: Seconds
    cpu: Seconds = 0.0
    memory: Whole = 0
    running_tasks: Array[RunningTask] = ()


BlockReason = Literal["", "ventilator", "worker", "slots", "output", "spill", "input", "turn"]
"""Why no task runs.

ventilator, worker: none is connected; slots: all are busy; output: it is blocked; spill: it is full until task
`next_in_order` finishes; input: waiting for more; turn: results wait for task `next_in_order`.
"""
MAX_ACK_ITEMS = 8192
"""Maximum number of items of a list in an Ack."""


class Heartbeat(WireRecord, frozen=True, tag="heartbeat"):
    """Complete state of a worker.

    The ventilator may send lane sequences up to `credit_limit`; the worker has received all up to `last_sequence`.
    `attempts` are those of its tasks that have failed before.
    """

    worker: Text
    number: Whole
    run: Text
    digest: Text
    command: Text
    slots: Whole
    lane: Whole
    last_sequence: Whole
    credit_limit: Whole
    unfinished: WireRanges
    unacked: WireRanges
    last_ack_number: Whole
    seconds_per_task: Seconds
    done_count: Whole
    attempts: Array[AttemptRange] = ()


class Registration(WireRecord, frozen=True, tag="registration"):
    """The registry's answer to a Heartbeat. In the states "over" and "refused", `reason` says why."""

    run: Text
    state: Literal["run", "over", "refused"]
    reason: Text
    record_format: RecordFormat
    lane: Whole
    lane_endpoint: Text
    results_endpoint: Text
    control_endpoint: Text
    heartbeat_interval: Seconds
    heartbeat_timeout: Seconds


class Chunk(WireRecord, frozen=True, tag="chunk"):
    """`count` consecutive records from number `first` on; `body` joins them, each with its terminator."""

    run: Text
    lane: Whole
    sequence: Whole
    first: Whole
    count: Whole
    body: bytes
    attempt: Whole = 0


class Result(WireRecord, frozen=True, tag="result"):
    """Outcome of `count` consecutive tasks in one attempt (counted from 0).

    `output` joins their outputs; `output_ends` contains a little-endian uint32 per task, the end of its part in
    `output`. `stderr` joins their stderr. `failures` lists the failed tasks, and `failed_records` joins their records.
    `metrics` is empty or has an entry per task (see `results`).

    `large_sizes` is empty or, for a single task, the sizes of its output and stderr. Then both are empty here, and
    follow in ResultPieces as far as the sink accepts them.
    """

    run: Text
    worker: Text
    first: Whole
    count: Whole
    output: bytes
    output_ends: bytes
    stderr: bytes
    failures: Array[TaskFailure]
    attempt: Whole = 0
    failed_records: bytes = b""
    metrics: bytes = b""
    shape: Shape = "line"
    large_sizes: Array[Whole] = ()


class ResultPiece(WireRecord, frozen=True, tag="piece"):
    """A part of the content of a large result, which is its output and then its stderr, from byte `start` on."""

    run: Text
    worker: Text
    task: Whole
    attempt: Whole
    start: Whole
    body: bytes


class PartialOutput(WireRecord, frozen=True, tag="partial"):
    """Whole lines written by a running task, from byte `start` of its output on. Its Result repeats them."""

    run: Text
    task: Whole
    attempt: Whole
    start: Whole
    body: bytes


class WorkerActivity(WireRecord, frozen=True, tag="activity"):
    """Running tasks of a worker and their resource use, for status displays. Fields as in WorkerStatus."""

    worker: Text
    cpu: Seconds
    memory: Whole
    running_tasks: Array[RunningTask]


class InputChecksums(WireRecord, frozen=True, tag="checksums"):
    """Checksums of `count` records from number `first` on, read in this life of the ventilator.

    The sink has acknowledged all records below `acked_below`. `checksums` contains a crc32 for each group boundary
    among them and for their end (see `checksums`): little-endian uint32 of all bytes of the group so far; 0 if unknown.
    """

    run: Text
    ventilator_epoch: Text
    acked_below: Whole
    first: Whole
    count: Whole
    checksums: bytes


class VentilatorState(WireRecord, frozen=True, tag="ventilator"):
    """Complete state of the ventilator: what is read, and the total once it is known. Numbered when sent.

    `is_waiting_for_input`: nothing can be sent before more input arrives.
    """

    run: Text
    number: Whole
    fingerprint: Text
    state: Literal["feeding", "ended", "stopped"]
    total: WholeOrUnknown
    reason: Text
    is_waiting_for_input: bool = False


class Ack(WireRecord, frozen=True, tag="ack"):
    """Complete state of the sink: settled are all tasks below `low_watermark`, and those in `ranges`.

    - `run` is empty before the first VentilatorState; `last_state_number` is the number of the latest one.
    - `spill_full`: the ventilator must send no task that was never sent.
    - `retries` are to be run again; `collect_metrics`, `stream_output` and `halt_event` go into the RecordFormat.
    - `events_left`: a worker starts no task once that many of its unsettled results are halt events; -1: the total
      decides, and is unknown.
    - The checksums of all records below `checksum_watermark` that `ventilator_epoch` has read are recorded; -1: none
      are wanted. Below `recorded`, they were recorded in this life of the ventilator or in an earlier one.
    - `digest` and `command` are those of the run's first worker.
    - `transfers` are the large results whose content the sink accepts now.
    - Lists may contain only their lowest MAX_ACK_ITEMS items.
    """

    run: Text
    last_state_number: WholeOrUnknown
    fingerprint: Text
    epoch: Text
    number: Whole
    low_watermark: Whole
    ranges: WireRanges
    total: WholeOrUnknown
    spill_full: bool
    resend: Array[ResendRequest]
    retries: Array[RetryRange] = ()
    ventilator_epoch: Text = ""
    checksum_watermark: WholeOrUnknown = -1
    recorded: Whole = 0
    digest: Text = ""
    command: Text = ""
    collect_metrics: bool = False
    stream_output: bool = False
    halt_event: HaltEvent = ""
    events_left: WholeOrUnknown = -1
    transfers: Array[Transfer] = ()


class StopRequest(WireRecord, frozen=True, tag="stop"):
    """Request to end the run early."""

    mode: Literal["soon", "now"]
    reason: Text


class Kill(WireRecord, frozen=True, tag="kill"):
    """The run is over. done: all is written; soon: nothing new starts; now: running tasks are killed.

    `exit_code` is that of the run.
    """

    run: Text
    mode: Literal["done", "soon", "now"]
    reason: Text
    exit_code: Whole


class RunStatus(WireRecord, frozen=True, tag="status"):
    """State of the run, as `pipe top` shows it.

    `waiting_for` names the stations whose Goodbye is missing; `next_in_order` is the next task to be written in order;
    `tasks_per_second` is the recent rate, `elapsed_seconds` the age of this sink, `blocked_on` why no task runs.
    """

    run: Text
    state: Text
    settled_count: Whole
    failed_count: Whole
    total: WholeOrUnknown
    next_in_order: WholeOrUnknown
    workers: Array[WorkerStatus]
    waiting_for: Array[Text]
    retry_count: Whole = 0
    tasks_per_second: Seconds = 0.0
    elapsed_seconds: Seconds = 0.0
    blocked_on: BlockReason = ""


class Goodbye(WireRecord, frozen=True, tag="goodbye"):
    """The sender exits and holds no tasks any more. `is_run_over`: because it has received Kill or "over"."""

    name: Text
    is_run_over: bool = False


WireMessage = (
    Heartbeat
    | Registration
    | Chunk
    | Result
    | ResultPiece
    | PartialOutput
    | WorkerActivity
    | InputChecksums
    | VentilatorState
    | Ack
    | StopRequest
    | Kill
    | RunStatus
    | Goodbye
)
