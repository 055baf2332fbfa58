"""Messages that stay in one process: commands to adapters, events from them, notices for the user.

- Commands and events pass between a state machine and its adapters (source, executor, output, sockets). They never
  travel, so the codec does not know them.
- A notice states once that a condition begins, and once that it ends. `pipeline.cli.messages` turns it into text.
"""

from __future__ import annotations

from signal import SIGRTMIN
from typing import Literal

from msgspec import Struct

from pipeline.model.journal_events import JournalEvent
from pipeline.model.messages import Goodbye, Heartbeat, Ranges, RecordFormat, Result, RunStatus, WorkerActivity
from pipeline.model.results import LargeContent, LargeResult


class ReceivedFrom(Struct, frozen=True, gc=False):
    """A message that arrived at the registry, and its sender."""

    peer: bytes
    message: Heartbeat | Goodbye


class PeerUnreachable(Struct, frozen=True, gc=False):
    """The registry has no connection to this peer."""

    peer: bytes


class VersionMismatch(Struct, frozen=True, gc=False):
    """A frame of another protocol version arrived, from this peer of the registry or from elsewhere (empty)."""

    peer: bytes
    version: str


class OpenLane(Struct, frozen=True, gc=False):
    """To the lanes: bind lane number `lane`."""

    lane: int


class LaneOpened(Struct, frozen=True, gc=False):
    """From the lanes: the lane is bound to this endpoint."""

    lane: int
    endpoint: str


class CloseLane(Struct, frozen=True, gc=False):
    """To the lanes: close this lane and drop what it has not sent."""

    lane: int


class Reconnect(Struct, frozen=True, gc=False):
    """To a connecting adapter: replace the socket and connect to `endpoint` (empty: the same as before)."""

    endpoint: str = ""


class ReadRequest(Struct, frozen=True, gc=False):
    """To the source: read about this many bytes. Answered by RecordsRead or EndOfInput; one request at a time."""

    size: int


class RecordsRead(Struct, frozen=True, gc=False):
    """From the source: the next `count` records, numbered from `first`, each with its terminator."""

    first: int
    count: int
    body: bytes


class EndOfInput(Struct, frozen=True, gc=False):
    """From the source: the input has ended after `total` records. A reason means that reading broke off."""

    total: int
    reason: str = ""


class TasksFinished(Struct, frozen=True, gc=False):
    """From the executor: a result, in which the worker fills in run, worker, attempt and shape.

    `seconds` is the sum of the run times of these tasks.
    """

    result: Result
    seconds: float


class SendContent(Struct, frozen=True, gc=False):
    """To the sink's connection: send the bytes `start` to `end` of the content as ResultPieces."""

    result: LargeResult
    start: int
    end: int


class QueryActivity(Struct, frozen=True, gc=False):
    """To the executor: report running tasks. A WorkerActivity without worker name answers."""


class HaltLimit(Struct, frozen=True, gc=False):
    """To the executor: start no task once `event_count` tasks that are not reported yet ended with the halt event."""

    event_count: int


class ReleaseQueued(Struct, frozen=True, gc=False):
    """To the executor: give back all tasks that have not started.

    TasksReleased answers, after a report of all tasks that have ended.
    """


class TasksReleased(Struct, frozen=True, gc=False):
    """From the executor: these tasks were not started and are forgotten."""

    ranges: Ranges


class CancelTasks(Struct, frozen=True, gc=False):
    """To the executor: drop these tasks if queued, kill them if running, and report nothing about them."""

    ranges: Ranges


class ExecutorFailed(Struct, frozen=True, gc=False):
    """From the executor: no task can run here. The worker exits with this code."""

    reason: str
    exit_code: int


class WriteResult(Struct, frozen=True, gc=False):
    """To the output: a new result, next in its order. `number` counts from this sink's start.

    `is_retried`: the tasks failed and will run again, so only a log of attempts records the result. `streamed_sizes`:
    how many first bytes of these tasks WriteLines has written before.
    """

    number: int
    result: Result
    is_retried: bool = False
    streamed_sizes: tuple[tuple[int, int], ...] = ()


class WriteLines(Struct, frozen=True, gc=False):
    """To the output: lines of a running task, to be written at once. Not answered."""

    body: bytes


class StoreContent(Struct, frozen=True, gc=False):
    """To the spill: append to the content of a large result of this task. `number` names the content in this sink.

    ContentStored answers, and after the last part the spill forgets the number.
    """

    number: int
    task: int
    body: bytes
    is_last: bool


class ContentStored(Struct, frozen=True, gc=False):
    """From the spill: so many bytes of the content of this number are stored."""

    number: int
    size: int
    content: LargeContent


class DropContent(Struct, frozen=True, gc=False):
    """To the spill: remove the incomplete content of this number."""

    number: int


class SpillResult(Struct, frozen=True, gc=False):
    """To the spill: a result that arrived out of order."""

    number: int
    result: Result


class FetchSpilled(Struct, frozen=True, gc=False):
    """To the spill: the result that starts at task `first` is next. FetchedResult answers."""

    first: int


class FetchedResult(Struct, frozen=True, gc=False):
    """From the spill: the requested result. A durable spill keeps it until DiscardBelow."""

    result: Result


class DiscardBelow(Struct, frozen=True, gc=False):
    """To source and spill: all tasks below this number are settled and written, and need not be kept."""

    low_watermark: int


class Committed(Struct, frozen=True, gc=False):
    """From output, spill or journal: everything up to `number` is stored.

    `sizes` are the lengths of the output's files now. An entry of the journal is as durable as --durability asks. A
    `failure` means that the store cannot continue: what happened, and where.
    """

    store: Literal["output", "spill", "journal"]
    number: int
    failure: str = ""
    sizes: tuple[int, ...] = ()


class JournalEntry(Struct, frozen=True, gc=False):
    """To the journal: events that become true together. `number` counts from this sink's start."""

    number: int
    events: tuple[JournalEvent, ...]


class InputChanged(Struct, frozen=True, gc=False):
    """From the journal: of the records `low` to `high`, some differ from the previous reading of the input."""

    low: int
    high: int


InternalMessage = (
    ReceivedFrom
    | PeerUnreachable
    | VersionMismatch
    | OpenLane
    | LaneOpened
    | CloseLane
    | Reconnect
    | ReadRequest
    | RecordsRead
    | EndOfInput
    | TasksFinished
    | SendContent
    | QueryActivity
    | HaltLimit
    | ReleaseQueued
    | TasksReleased
    | CancelTasks
    | ExecutorFailed
    | WriteResult
    | WriteLines
    | StoreContent
    | ContentStored
    | DropContent
    | SpillResult
    | FetchSpilled
    | FetchedResult
    | DiscardBelow
    | Committed
    | JournalEntry
    | InputChanged
    | RecordFormat
)


Peer = Literal["ventilator", "worker", "sink"]


class Waiting(Struct, frozen=True, gc=False):
    """A wait that has begun or, not `active`, has ended.

    A station waits for a missing peer. New tasks wait while the spill is full, until task `detail` has finished. An
    adapter waits for disk space; `detail` says where and why.
    """

    kind: Peer | Literal["spill", "disk"]
    detail: str = ""
    active: bool = True


class WorkerLost(Struct, frozen=True, gc=False):
    """A worker sends no heartbeats, or has no connection; `task_count` of its tasks are requeued."""

    worker: str
    task_count: int
    is_disconnected: bool = False


class PeerRejected(Struct, frozen=True, gc=False):
    """A peer was rejected."""

    name: str
    reason: str


class CallableLoading(Struct, frozen=True, gc=False):
    """No task can run yet: this callable is still being imported or initialized."""

    call: str


class ContextCreated(Struct, frozen=True, gc=False):
    """This process has created its ZeroMQ context."""

    role: str
    pid: int
    context: str


class StatusRequested(Struct, frozen=True, gc=False):
    """The user has requested a status report with SIGUSR1."""


VENTILATOR_DEAD = SIGRTMIN + 3
"""The signal by which the launcher tells the sink that the ventilator has died and will not be restarted."""


WORKER_DEAD = SIGRTMIN + 4
"""The signal by which the launcher tells the ventilator that a worker process has died."""


class VentilatorDead(Struct, frozen=True, gc=False):
    """The sink has received the signal VENTILATOR_DEAD."""


class WorkerDead(Struct, frozen=True, gc=False):
    """The ventilator has received the signal WORKER_DEAD."""


class StatusReport(Struct, frozen=True, gc=False):
    """A requested status report: the whole run from the sink, or one worker."""

    content: RunStatus | WorkerActivity


class StationStopped(Struct, frozen=True, gc=False):
    """This station ends early."""

    role: str
    reason: str


class BackgroundEnded(Struct, frozen=True, gc=False):
    """At the end of the run, this worker has ended processes that tasks had left; the first is named.

    With --keep-background, they are only those of failed tasks.
    """

    count: int
    pid: int
    command: str
    is_failed_only: bool


Notice = (
    Waiting
    | WorkerLost
    | PeerRejected
    | CallableLoading
    | ContextCreated
    | StatusRequested
    | VentilatorDead
    | WorkerDead
    | StatusReport
    | StationStopped
    | BackgroundEnded
    | VersionMismatch
    | RunStatus
)
