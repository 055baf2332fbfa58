"""The words: everything that is ever said between stations, and between a station and its own edges.

A word says what *is*, never what changed, so that losing one costs time and nothing else. Words are
frozen and closed; nothing here does anything. Grammar of one run (V ventilator, W worker, S sink)::

    line    = *ack [run] *(pulse / chunk / result / ack / run) *kill *bye
    desk    = W:pulse V:welcome / W:bye             ; pulse says all a worker holds, welcome where things are
    lane    = V:chunk                               ; its own connection, never more than the pulse allows
    results = W:result / W:pulse / W:bye / V:run / V:bye / any:stop
    control = S:ack / S:status / S:kill             ; broadcast; a latecomer is told the last word

Task numbers start at 0; ranges are half-open, sorted and merged; times are seconds; sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the records of a run look. With `block`, a record is its bytes as they are, one to a chunk."""

    zero: bool = False
    block: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """Why one task did not end well. `code` is the exit code or the signal's number."""

    task: int
    kind: Literal["exit", "signal", "exception", "lost"]
    code: int
    text: str


# --- between stations -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pulse:
    """A worker's whole state. It may be sent lane sequences up to `allowed`, and has seen all up to `seen`."""

    worker: str
    number: int
    run: str
    digest: str
    command: str
    slots: int
    lane: int
    seen: int
    allowed: int
    holding: Ranges
    finished: Ranges
    ack: int
    pace: float
    done: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """The desk's answer to a pulse. In the state "over" or "refused", `reason` says why."""

    run: str
    state: Literal["run", "over", "refused"]
    reason: str
    recipe: Recipe
    lane: int
    lane_at: str
    sink_at: str
    control_at: str
    interval: float
    liveness: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """`count` consecutive records from number `first` on; `body` is their bytes, each with its terminator."""

    run: str
    lane: int
    sequence: int
    first: int
    count: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of `count` finished neighbours.

    `output` joins what they wrote; `ends` holds a little-endian uint32 per task, the end of its part in
    `output`; `errors` is what they wrote to stderr; `notes` names those that did not end well.
    """

    run: str
    worker: str
    first: int
    count: int
    output: bytes
    ends: bytes
    errors: bytes
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """The ventilator's whole state: what is read, and how much there is once that is known. Numbered when sent."""

    run: str
    number: int
    fingerprint: str
    state: Literal["feeding", "ended", "stopped"]
    total: int
    reason: str


@dataclass(frozen=True, slots=True)
class Again:
    """A worker's results that had not arrived when its pulse of that number did."""

    worker: str
    pulse: int
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Ack:
    """The sink's whole ledger: settled is all below `low` and the `ranges` above it.

    `run` is empty before the first Run, and `heard` the number of the latest one; `total` is -1 while unknown;
    `full` asks for no task that was never sent.
    """

    run: str
    heard: int
    fingerprint: str
    epoch: str
    number: int
    low: int
    ranges: Ranges
    failed: int
    total: int
    full: bool
    again: tuple[Again, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody wants the run to end early."""

    mode: Literal["soon", "now"]
    reason: str


@dataclass(frozen=True, slots=True)
class Kill:
    """The run is over. done: all is written; soon: nothing new starts; now: what runs is killed."""

    run: str
    mode: Literal["done", "soon", "now"]
    reason: str
    failed: int


@dataclass(frozen=True, slots=True)
class Member:
    """One worker as the sink sees it, for those who look on. `silent` is seconds since its last word."""

    worker: str
    command: str
    slots: int
    running: int
    done: int
    silent: float


@dataclass(frozen=True, slots=True)
class Status:
    """What `pipe top` shows. `awaited` names whose goodbye is missing; `turn` is the task that order waits for."""

    run: str
    state: str
    settled: int
    failed: int
    total: int
    turn: int
    members: tuple[Member, ...]
    awaited: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bye:
    """I leave, and hold nothing from now on."""

    name: str
    reason: str


# --- between a station and its own edges ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Called:
    """A word that came in at the desk, and the caller's number for the way back."""

    peer: bytes
    word: Pulse | Bye


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The desk has no connection to this caller."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class Foreign:
    """A frame of another protocol version arrived; from the desk's caller `peer`, or from elsewhere (empty)."""

    peer: bytes
    version: str


@dataclass(frozen=True, slots=True)
class Open:
    """To the lanes: bind lane number `lane`."""

    lane: int


@dataclass(frozen=True, slots=True)
class Opened:
    """From the lanes: it is bound at the endpoint `at`."""

    lane: int
    at: str


@dataclass(frozen=True, slots=True)
class Shut:
    """To the lanes: close this one, drop what it still has."""

    lane: int


@dataclass(frozen=True, slots=True)
class Connect:
    """To a connecting edge: drop the old connection, if any, and connect a new socket to `at` (empty: where it was)."""

    at: str = ""


@dataclass(frozen=True, slots=True)
class Want:
    """To the source: about this many bytes of records, please. One at a time; answered by Records or End."""

    size: int


@dataclass(frozen=True, slots=True)
class Records:
    """From the source: the next `count` records, numbered from `first`, each with its terminator."""

    first: int
    count: int
    body: bytes


@dataclass(frozen=True, slots=True)
class End:
    """From the source: there are no more records; there were `total`. A reason means that reading broke off."""

    total: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """From the executor: as a Result; `seconds` is the run time of these tasks, added up."""

    first: int
    count: int
    output: bytes
    ends: bytes
    errors: bytes
    notes: tuple[Note, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Release:
    """To the executor: give back all that has not started. Answered by Returned."""


@dataclass(frozen=True, slots=True)
class Returned:
    """From the executor: these tasks were not started and are forgotten."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Cancel:
    """To the executor: forget the unstarted of these tasks and kill the running; say nothing more of them."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Broken:
    """From the executor: no task can run here, and why. The worker leaves with this exit code."""

    reason: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Write:
    """To the output: a result, all of it new and in its turn, as number `number` of this sink's life."""

    number: int
    result: Result


@dataclass(frozen=True, slots=True)
class Keep:
    """To the spill: a result ahead of its turn."""

    number: int
    result: Result


@dataclass(frozen=True, slots=True)
class Fetch:
    """To the spill: the turn of the result that starts at task `first` has come. Answered by Kept."""

    first: int


@dataclass(frozen=True, slots=True)
class Kept:
    """From the spill: a result whose turn has come; the spill has forgotten it."""

    result: Result


@dataclass(frozen=True, slots=True)
class Written:
    """From the output: all up to this number has been written.

    `failure` is not empty when it can write no more: what happened, where.
    """

    number: int
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Spilled:
    """From the spill: all up to this number is kept; `failure` as in Written."""

    number: int
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """To the journal: a whole fact. `ranges` are written (or, `spilled`, kept ahead of their turn)."""

    number: int
    run: str
    fingerprint: str
    ranges: Ranges
    spilled: bool
    failed: int
    total: int


@dataclass(frozen=True, slots=True)
class Durable:
    """From the journal: all entries up to this number are as durable as was asked."""

    number: int


@dataclass(frozen=True, slots=True)
class Missing:
    """For the person: this station waits for somebody ("ventilator", "worker", "sink") who has not come, or was lost."""

    who: Literal["ventilator", "worker", "sink"]


@dataclass(frozen=True, slots=True)
class Present:
    """For the person: the one that was missing is here."""

    who: Literal["ventilator", "worker", "sink"]


@dataclass(frozen=True, slots=True)
class Lost:
    """For the person: this worker fell silent; `tasks` of its tasks go out again."""

    worker: str
    tasks: int


@dataclass(frozen=True, slots=True)
class Refused:
    """For the person: somebody was turned away, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Began:
    """For the person: this process has made a ZeroMQ context of its own."""

    role: str
    pid: int
    context: str


@dataclass(frozen=True, slots=True)
class Ended:
    """For the person: this station ends early, and why."""

    role: str
    reason: str


Wire = Pulse | Welcome | Chunk | Result | Run | Ack | Stop | Kill | Status | Bye
Told = Missing | Present | Lost | Refused | Foreign | Began | Ended | Status
Message = (
    Wire
    | Recipe
    | Called
    | Unreachable
    | Foreign
    | Open
    | Opened
    | Shut
    | Connect
    | Want
    | Records
    | End
    | Done
    | Release
    | Returned
    | Cancel
    | Broken
    | Write
    | Keep
    | Fetch
    | Kept
    | Written
    | Spilled
    | Entry
    | Durable
    | Missing
    | Present
    | Lost
    | Refused
    | Began
    | Ended
)
