"""Messages between stations (the wire protocol) and the small records inside them.

What words are made of: ranges of tasks, and the small records inside of words.

They are frozen like the words, travel inside of them only, and know nothing of who says them.
Task numbers start at 0; ranges are half-open, sorted and merged; times are seconds; sizes are bytes.

The words: everything that is ever said between stations.

A word says what *is*, never what changed, so that losing one costs time and nothing else. Words are
frozen and closed; nothing here does anything. Grammar of one run (V ventilator, W worker, S sink)::

    line    = *ack [run] *(pulse / chunk / result / ack / run) *kill *bye
    desk    = W:pulse V:welcome / W:bye             ; pulse says all a worker holds, welcome where things are
    lane    = V:chunk                               ; its own connection, never more than the pulse allows
    results = W:result / W:part / W:glance / W:pulse / W:bye / V:read / V:result / V:run / V:bye / any:stop
    control = S:ack / S:status / S:kill             ; broadcast; a latecomer is told the last word

Task numbers start at 0; ranges are half-open, sorted and merged; times are seconds; sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar, get_args

from msgspec import Meta, Struct

MAX_LENGTH = 1 << 16
"""Items of an array, or characters of a text, on the wire at most."""
Item = TypeVar("Item")
Array = Annotated[tuple[Item, ...], Meta(max_length=MAX_LENGTH)]
Text = Annotated[str, Meta(max_length=MAX_LENGTH)]
Whole = Annotated[int, Meta(ge=0, lt=1 << 62)]
WholeOrUnknown = Annotated[int, Meta(ge=-1, lt=1 << 62)]
"""-1 while unknown."""
Seconds = Annotated[float, Meta(ge=0.0, lt=1e12)]
Ranges = tuple[tuple[int, int], ...]
WireRanges = Array[tuple[Whole, Whole]]
"""Ranges that travel. That they are ascending and merged, no type can say: the codec checks it."""


class WireRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all that travels: in msgpack an array of its fields, each checked by its type when decoded."""


FailureKind = Literal["exit", "signal", "exception", "lost", "timeout", "size", "poison"]
"""lost: its warm child ended; size: it, or what it wrote, is too large; poison: it takes its workers along."""


Shape = Literal["line", "columns", "packed", "json"]
"""line: the task as it is; columns, packed: several arguments (see `columns`), of which `packed` repeats the word
around each; json: a value."""


class RecordFormat(WireRecord, frozen=True):
    """What is the same for all tasks of a run: how their records look, and what their results tell.

    With `block`, a record is its bytes as they are, one to a chunk. The sink wants an account of each task
    (`collect_metrics`), or its lines as they come (`stream_output`).
    """

    zero: bool = False
    block: bool = False
    shape: Shape = "line"
    collect_metrics: bool = False
    stream_output: bool = False


class TaskFailure(WireRecord, frozen=True):
    """Why one task did not end well. `code` is the exit code or the signal's number.

    `tail` is the end of its stderr; `size` are the bytes of its record in the Result's `records`.
    """

    task: Whole
    kind: FailureKind
    code: Whole
    text: Text
    stderr_tail: Text
    record_size: Whole


class AttemptRange(WireRecord, frozen=True):
    """The tasks from `low` to `high` have failed `tries` times so far, and are not settled."""

    low: Whole
    high: Whole
    attempt: Whole


class RetryRange(WireRecord, frozen=True):
    """As Tried; they are to be run again, in `wait` seconds."""

    low: Whole
    high: Whole
    attempt: Whole
    delay_seconds: Seconds


class ResendRequest(WireRecord, frozen=True):
    """A worker's results that had not arrived when its pulse of that number did."""

    worker: Text
    heartbeat_number: Whole
    ranges: WireRanges


class RunningTask(WireRecord, frozen=True):
    """What one slot, counted from 1, runs now and since how many seconds; `command` is cut to one line's length."""

    task: Whole
    slot: Whole
    seconds: Seconds
    command: Text


class WorkerStatus(WireRecord, frozen=True):
    """One worker as the sink sees it, for those who look on. `silent` is seconds since its last word.

    `cpu` is how many CPUs it and all below it use, `memory` their bytes; `doing` may be a second old.
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


Why = Literal["", "ventilator", "worker", "slots", "output", "spill", "input", "turn"]
BLOCK_REASONS = get_args(Why)[1:]
"""Nobody reads tasks; nobody runs them; all slots are busy; the output takes nothing; the spill is full until task
`turn` has ended; the input has said nothing more; order waits for `turn`."""
MAX_ACK_ITEMS = 8192
"""Members of a list in an Ack at most."""


class Heartbeat(WireRecord, frozen=True, tag="heartbeat"):
    """A worker's whole state. It may be sent lane sequences up to `allowed`, and has seen all up to `seen`.

    `tried` are those of its tasks that it holds for another try.
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
    """The desk's answer to a pulse. In the state "over" or "refused", `reason` says why."""

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
    """`count` consecutive records from number `first` on; `body` is their bytes, each with its terminator.

    Each of them has failed `tries` times before.
    """

    run: Text
    lane: Whole
    sequence: Whole
    first: Whole
    count: Whole
    body: bytes
    attempt: Whole = 0


class Result(WireRecord, frozen=True, tag="result"):
    """The outcome of `count` finished neighbours, each in its try number `tries`, counted from 0.

    `output` joins what they wrote; `ends` holds a little-endian uint32 per task, the end of its part in
    `output`; `errors` is what they wrote to stderr; `notes` names those that did not end well, and `records`
    joins the records of these. `accounts` is empty, or has one for each task (see `accounts`); records have the
    `shape` of the Recipe.
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


class PartialOutput(WireRecord, frozen=True, tag="partial"):
    """Whole lines that a running task has written, from byte `start` of its output on. Its Result has them again."""

    run: Text
    task: Whole
    attempt: Whole
    start: Whole
    body: bytes


class WorkerActivity(WireRecord, frozen=True, tag="activity"):
    """What a worker runs now, and what that costs: for those who look on. See Member."""

    worker: Text
    cpu: Seconds
    memory: Whole
    running_tasks: Array[RunningTask]


class InputChecksums(WireRecord, frozen=True, tag="checksums"):
    """The ventilator has read `count` records from number `first` on, in this life of it, the `reader`.

    The sink has answered for all before `since`. `marks` holds a crc32 for each boundary of a group among them, and for
    their end (see `checksums`): little-endian uint32, of all bytes of the group up to there; 0 if it is not known.
    """

    run: Text
    ventilator_epoch: Text
    acked_below: Whole
    first: Whole
    count: Whole
    checksums: bytes


class VentilatorState(WireRecord, frozen=True, tag="ventilator"):
    """The ventilator's whole state: what is read, and how much there is once that is known. Numbered when sent.

    `waiting`: nothing can be sent before the input says more.
    """

    run: Text
    number: Whole
    fingerprint: Text
    state: Literal["feeding", "ended", "stopped"]
    total: WholeOrUnknown
    reason: Text
    is_waiting_for_input: bool = False


class Ack(WireRecord, frozen=True, tag="ack"):
    """The sink's whole ledger: settled is all below `low` and the `ranges` above it.

    `run` is empty before the first Run, and `heard` the number of the latest one; `total` is -1 while unknown;
    `full` asks for no task that was never sent; `account` and `live` go into the Recipe. `retries` are to be run again.
    Of what `reader` has read, all below `read` is marked for good; -1: nobody wants marks. All below `recorded` was
    marked by this reader or another one. `digest` and `command` are those of the run's first worker.
    The lists may hold only their lowest LISTED members.
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


class StopRequest(WireRecord, frozen=True, tag="stop"):
    """Somebody wants the run to end early."""

    mode: Literal["soon", "now"]
    reason: Text


class Kill(WireRecord, frozen=True, tag="kill"):
    """The run is over. done: all is written; soon: nothing new starts; now: what runs is killed.

    `code` is the run's exit code.
    """

    run: Text
    mode: Literal["done", "soon", "now"]
    reason: Text
    exit_code: Whole


class RunStatus(WireRecord, frozen=True, tag="status"):
    """What `pipe top` shows. `awaited` names whose goodbye is missing; `turn` is the task that order waits for.

    `retrying` tasks have failed and will be run again. `rate` is tasks a second lately, `elapsed` the seconds of this
    sink's life; `why` says what is waited for where nothing runs: empty, or one of WHY.
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
    blocked_on: Why = ""


class Goodbye(WireRecord, frozen=True, tag="goodbye"):
    """I leave, and hold nothing from now on. `over`: because the run is, as I have heard."""

    name: Text
    is_run_over: bool = False


WireMessage = (
    Heartbeat
    | Registration
    | Chunk
    | Result
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
