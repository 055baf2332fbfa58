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

from typing import Literal, get_args

from pipeline.words.parts import (
    Again,
    Array,
    Doing,
    Member,
    Note,
    Recipe,
    Retry,
    Seconds,
    Shape,
    Text,
    Tried,
    Whole,
    WholeOrUnknown,
    WireRanges,
    WireRecord,
)

Why = Literal["", "ventilator", "worker", "slots", "output", "spill", "input", "turn"]
WHY = get_args(Why)[1:]
"""Nobody reads tasks; nobody runs them; all slots are busy; the output takes nothing; the spill is full until task
`turn` has ended; the input has said nothing more; order waits for `turn`."""
LISTED = 8192
"""Members of a list in an Ack at most."""


class Pulse(WireRecord, frozen=True, tag="pulse"):
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
    seen: Whole
    allowed: Whole
    holding: WireRanges
    finished: WireRanges
    ack: Whole
    pace: Seconds
    done: Whole
    tried: Array[Tried] = ()


class Welcome(WireRecord, frozen=True, tag="welcome"):
    """The desk's answer to a pulse. In the state "over" or "refused", `reason` says why."""

    run: Text
    state: Literal["run", "over", "refused"]
    reason: Text
    recipe: Recipe
    lane: Whole
    lane_at: Text
    sink_at: Text
    control_at: Text
    interval: Seconds
    liveness: Seconds


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
    tries: Whole = 0


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
    ends: bytes
    errors: bytes
    notes: Array[Note]
    tries: Whole = 0
    records: bytes = b""
    accounts: bytes = b""
    shape: Shape = "line"


class Part(WireRecord, frozen=True, tag="part"):
    """Whole lines that a running task has written, from byte `start` of its output on. Its Result has them again."""

    run: Text
    task: Whole
    tries: Whole
    start: Whole
    body: bytes


class Glance(WireRecord, frozen=True, tag="glance"):
    """What a worker runs now, and what that costs: for those who look on. See Member."""

    worker: Text
    cpu: Seconds
    memory: Whole
    doing: Array[Doing]


class Read(WireRecord, frozen=True, tag="read"):
    """The ventilator has read `count` records from number `first` on, in this life of it, the `reader`.

    The sink has answered for all before `since`. `marks` holds a crc32 for each boundary of a group among them, and for
    their end (see `checksums`): little-endian uint32, of all bytes of the group up to there; 0 if it is not known.
    """

    run: Text
    reader: Text
    since: Whole
    first: Whole
    count: Whole
    marks: bytes


class Run(WireRecord, frozen=True, tag="run"):
    """The ventilator's whole state: what is read, and how much there is once that is known. Numbered when sent.

    `waiting`: nothing can be sent before the input says more.
    """

    run: Text
    number: Whole
    fingerprint: Text
    state: Literal["feeding", "ended", "stopped"]
    total: WholeOrUnknown
    reason: Text
    waiting: bool = False


class Ack(WireRecord, frozen=True, tag="ack"):
    """The sink's whole ledger: settled is all below `low` and the `ranges` above it.

    `run` is empty before the first Run, and `heard` the number of the latest one; `total` is -1 while unknown;
    `full` asks for no task that was never sent; `account` and `live` go into the Recipe. `retries` are to be run again.
    Of what `reader` has read, all below `read` is marked for good; -1: nobody wants marks. All below `recorded` was
    marked by this reader or another one. `digest` and `command` are those of the run's first worker.
    The lists may hold only their lowest LISTED members.
    """

    run: Text
    heard: WholeOrUnknown
    fingerprint: Text
    epoch: Text
    number: Whole
    low: Whole
    ranges: WireRanges
    total: WholeOrUnknown
    full: bool
    again: Array[Again]
    retries: Array[Retry] = ()
    reader: Text = ""
    read: WholeOrUnknown = -1
    recorded: Whole = 0
    digest: Text = ""
    command: Text = ""
    account: bool = False
    live: bool = False


class Stop(WireRecord, frozen=True, tag="stop"):
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
    code: Whole


class Status(WireRecord, frozen=True, tag="status"):
    """What `pipe top` shows. `awaited` names whose goodbye is missing; `turn` is the task that order waits for.

    `retrying` tasks have failed and will be run again. `rate` is tasks a second lately, `elapsed` the seconds of this
    sink's life; `why` says what is waited for where nothing runs: empty, or one of WHY.
    """

    run: Text
    state: Text
    settled: Whole
    failed: Whole
    total: WholeOrUnknown
    turn: WholeOrUnknown
    members: Array[Member]
    awaited: Array[Text]
    retrying: Whole = 0
    rate: Seconds = 0.0
    elapsed: Seconds = 0.0
    why: Why = ""


class Bye(WireRecord, frozen=True, tag="bye"):
    """I leave, and hold nothing from now on. `over`: because the run is, as I have heard."""

    name: Text
    over: bool = False


Wire = Pulse | Welcome | Chunk | Result | Part | Glance | Read | Run | Ack | Stop | Kill | Status | Bye
