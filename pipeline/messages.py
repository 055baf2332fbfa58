"""The words: everything that is ever said between stations.

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


Wire = Pulse | Welcome | Chunk | Result | Run | Ack | Stop | Kill | Status | Bye
