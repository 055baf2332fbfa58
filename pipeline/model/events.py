"""Messages that stay in one process: commands to adapters, events from them, notices for the user.

The words between a station and its own edges: source, executor, output, sockets.

Commanding an edge and talking to a peer are the same act: a message to a port. These never travel, so the codec does
not know them. They are frozen and closed like the words of the line.

The words for the person who looks on: who is missing, lost, refused, and why nothing runs.

A station says them once when it begins and once when it is over; render.py turns them into sentences, and the door
prints them.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pipeline.model.journal_events import JournalEvent
from pipeline.model.messages import Goodbye, Heartbeat, Ranges, RecordFormat, Result, RunStatus, WorkerActivity


class ReceivedFrom(Struct, frozen=True, gc=False):
    """A word that came in at the desk, and the caller's number for the way back."""

    peer: bytes
    message: Heartbeat | Goodbye


class PeerUnreachable(Struct, frozen=True, gc=False):
    """The desk has no connection to this caller."""

    peer: bytes


class VersionMismatch(Struct, frozen=True, gc=False):
    """A frame of another protocol version arrived; from the desk's caller `peer`, or from elsewhere (empty)."""

    peer: bytes
    version: str


class OpenLane(Struct, frozen=True, gc=False):
    """To the lanes: bind lane number `lane`."""

    lane: int


class LaneOpened(Struct, frozen=True, gc=False):
    """From the lanes: it is bound at the endpoint `at`."""

    lane: int
    endpoint: str


class CloseLane(Struct, frozen=True, gc=False):
    """To the lanes: close this one, drop what it still has."""

    lane: int


class Reconnect(Struct, frozen=True, gc=False):
    """To a connecting edge: drop the old connection, if any, and connect a new socket to `at` (empty: where it was)."""

    endpoint: str = ""


class ReadRequest(Struct, frozen=True, gc=False):
    """To the source: about this many bytes of records, please. One at a time; answered by Records or End."""

    size: int


class RecordsRead(Struct, frozen=True, gc=False):
    """From the source: the next `count` records, numbered from `first`, each with its terminator."""

    first: int
    count: int
    body: bytes


class EndOfInput(Struct, frozen=True, gc=False):
    """From the source: there are no more records; there were `total`. A reason means that reading broke off."""

    total: int
    reason: str = ""


class TasksFinished(Struct, frozen=True, gc=False):
    """From the executor: a result without its run, worker, tries and shape, which the worker knows.

    `seconds` is the run time of these tasks, added up.
    """

    result: Result
    seconds: float


class QueryActivity(Struct, frozen=True, gc=False):
    """To the executor: what runs now? Answered by a Glance that names no worker."""


class ReleaseQueued(Struct, frozen=True, gc=False):
    """To the executor: give back all that has not started. Answered by Returned."""


class TasksReleased(Struct, frozen=True, gc=False):
    """From the executor: these tasks were not started and are forgotten."""

    ranges: Ranges


class CancelTasks(Struct, frozen=True, gc=False):
    """To the executor: forget the unstarted of these tasks and kill the running; say nothing more of them."""

    ranges: Ranges


class ExecutorFailed(Struct, frozen=True, gc=False):
    """From the executor: no task can run here, and why. The worker leaves with this exit code."""

    reason: str
    exit_code: int


class WriteResult(Struct, frozen=True, gc=False):
    """To the output: a result, all of it new and in its turn, as number `number` of this sink's life.

    `tried`: its tasks have failed and are run again, so that only a log of attempts has room for it.
    `shown`: of these tasks, so many first bytes were written before, by Show.
    """

    number: int
    result: Result
    is_retried: bool = False
    streamed_sizes: tuple[tuple[int, int], ...] = ()


class WriteLines(Struct, frozen=True, gc=False):
    """To the output: lines of a task that still runs, to be written at once. Not answered."""

    body: bytes


class SpillResult(Struct, frozen=True, gc=False):
    """To the spill: a result ahead of its turn."""

    number: int
    result: Result


class FetchSpilled(Struct, frozen=True, gc=False):
    """To the spill: the turn of the result that starts at task `first` has come. Answered by Kept."""

    first: int


class FetchedResult(Struct, frozen=True, gc=False):
    """From the spill: a result whose turn has come. A durable spill keeps it until it is told to Forget."""

    result: Result


class DiscardBelow(Struct, frozen=True, gc=False):
    """To source and spill: all tasks below this number are settled and written, and need not be kept."""

    low_watermark: int


class Committed(Struct, frozen=True, gc=False):
    """From output, spill or journal: it has taken all up to this number of what it was given.

    The output's files are now `sizes` bytes long; what the journal has is as durable as was asked. `failure` is not
    empty when the store can take no more: what happened, where.
    """

    store: Literal["output", "spill", "journal"]
    number: int
    failure: str = ""
    sizes: tuple[int, ...] = ()


class JournalEntry(Struct, frozen=True, gc=False):
    """To the journal: facts that become true together, as number `number` of this sink's life."""

    number: int
    events: tuple[JournalEvent, ...]


class InputChanged(Struct, frozen=True, gc=False):
    """From the journal: the input was read again, and of its records `low` to `high` some are not as they were."""

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
    | QueryActivity
    | ReleaseQueued
    | TasksReleased
    | CancelTasks
    | ExecutorFailed
    | WriteResult
    | WriteLines
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
    """Something waits, or, not `active`, does so no longer.

    A station waits for a peer that has not come or was lost; new tasks wait while the spill is full, until the task
    `detail` has ended; an adapter waits for room on its disk, `detail` says where and why.
    """

    kind: Peer | Literal["spill", "disk"]
    detail: str = ""
    active: bool = True


class WorkerLost(Struct, frozen=True, gc=False):
    """For the person: this worker fell silent; `tasks` of its tasks go out again."""

    worker: str
    task_count: int


class PeerRejected(Struct, frozen=True, gc=False):
    """For the person: somebody was turned away, and why."""

    name: str
    reason: str


class CallableLoading(Struct, frozen=True, gc=False):
    """For the person: no task can run yet, since this callable is still being imported or prepared."""

    call: str


class ContextCreated(Struct, frozen=True, gc=False):
    """For the person: this process has made a ZeroMQ context of its own."""

    role: str
    pid: int
    context: str


class StatusRequested(Struct, frozen=True, gc=False):
    """A person asks what runs now (SIGUSR1): the loop says it to its station."""


class VentilatorDead(Struct, frozen=True, gc=False):
    """The launcher reports that the ventilator has died and will not be restarted; the loop passes it to the sink."""


class StatusReport(Struct, frozen=True, gc=False):
    """For the person who asked: the whole line, as the sink sees it, or one worker."""

    content: RunStatus | WorkerActivity


class StationStopped(Struct, frozen=True, gc=False):
    """For the person: this station ends early, and why."""

    role: str
    reason: str


Notice = (
    Waiting
    | WorkerLost
    | PeerRejected
    | CallableLoading
    | ContextCreated
    | StatusRequested
    | VentilatorDead
    | StatusReport
    | StationStopped
    | VersionMismatch
    | RunStatus
)
