"""The words: everything that is ever said between stations.

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

from dataclasses import dataclass
from typing import Literal

from pipeline.words.parts import Again, Doing, Member, Note, Ranges, Recipe, Retry, Shape, Tried

WHY = ("ventilator", "worker", "slots", "output", "spill", "input", "turn")
"""Nobody reads tasks; nobody runs them; all slots are busy; the output takes nothing; the spill is full until task
`turn` has ended; the input has said nothing more; order waits for `turn`."""
LISTED = 8192
"""Members of a list in an Ack at most."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """A worker's whole state. It may be sent lane sequences up to `allowed`, and has seen all up to `seen`.

    `tried` are those of its tasks that it holds for another try.
    """

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
    tried: tuple[Tried, ...] = ()


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
    """`count` consecutive records from number `first` on; `body` is their bytes, each with its terminator.

    Each of them has failed `tries` times before. The sink wants an `account` of each, or its lines as they come
    (`live`).
    """

    run: str
    lane: int
    sequence: int
    first: int
    count: int
    body: bytes
    tries: int = 0
    account: bool = False
    live: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of `count` finished neighbours, each in its try number `tries`, counted from 0.

    `output` joins what they wrote; `ends` holds a little-endian uint32 per task, the end of its part in
    `output`; `errors` is what they wrote to stderr; `notes` names those that did not end well, and `records`
    joins the records of these. `accounts` is empty, or has one for each task (see `accounts`); records have the
    `shape` of the Recipe.
    """

    run: str
    worker: str
    first: int
    count: int
    output: bytes
    ends: bytes
    errors: bytes
    notes: tuple[Note, ...]
    tries: int = 0
    records: bytes = b""
    accounts: bytes = b""
    shape: Shape = "line"


@dataclass(frozen=True, slots=True)
class Part:
    """Whole lines that a running task has written, from byte `start` of its output on. Its Result has them again."""

    run: str
    worker: str
    task: int
    tries: int
    start: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Glance:
    """What a worker runs now, and what that costs: for those who look on. See Member."""

    worker: str
    cpu: float
    memory: int
    doing: tuple[Doing, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """The ventilator has read `count` records from number `first` on, in this life of it, the `reader`.

    The sink has answered for all before `since`. `marks` holds a crc32 for each boundary of a group among them, and for
    their end (see `checksums`): little-endian uint32, of all bytes of the group up to there; 0 if it is not known.
    """

    run: str
    reader: str
    since: int
    first: int
    count: int
    marks: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """The ventilator's whole state: what is read, and how much there is once that is known. Numbered when sent.

    `waiting`: nothing can be sent before the input says more.
    """

    run: str
    number: int
    fingerprint: str
    state: Literal["feeding", "ended", "stopped"]
    total: int
    reason: str
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Ack:
    """The sink's whole ledger: settled is all below `low` and the `ranges` above it.

    `run` is empty before the first Run, and `heard` the number of the latest one; `total` is -1 while unknown;
    `full` asks for no task that was never sent; `account` and `live` are for all chunks. `retries` are to be run again.
    Of what `reader` has read, all below `read` is marked for good; -1: nobody wants marks. All below `recorded` was
    marked by this reader or another one. `digest` and `command` are those of the run's first worker.
    The lists may hold only their lowest LISTED members.
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
    retries: tuple[Retry, ...] = ()
    reader: str = ""
    read: int = -1
    recorded: int = 0
    digest: str = ""
    command: str = ""
    account: bool = False
    live: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody wants the run to end early."""

    mode: Literal["soon", "now"]
    reason: str


@dataclass(frozen=True, slots=True)
class Kill:
    """The run is over. done: all is written; soon: nothing new starts; now: what runs is killed.

    `code` is the run's exit code.
    """

    run: str
    mode: Literal["done", "soon", "now"]
    reason: str
    code: int


@dataclass(frozen=True, slots=True)
class Status:
    """What `pipe top` shows. `awaited` names whose goodbye is missing; `turn` is the task that order waits for.

    `retrying` tasks have failed and will be run again. `rate` is tasks a second lately, `elapsed` the seconds of this
    sink's life; `why` says what is waited for where nothing runs: empty, or one of WHY.
    """

    run: str
    state: str
    settled: int
    failed: int
    total: int
    turn: int
    members: tuple[Member, ...]
    awaited: tuple[str, ...]
    retrying: int = 0
    rate: float = 0.0
    elapsed: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Bye:
    """I leave, and hold nothing from now on. `over`: because the run is, as I have heard."""

    name: str
    reason: str
    over: bool = False


Wire = Pulse | Welcome | Chunk | Result | Part | Glance | Read | Run | Ack | Stop | Kill | Status | Bye
