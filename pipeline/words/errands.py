"""The words between a station and its own edges: source, executor, output, sockets.

Commanding an edge and talking to a peer are the same act: a message to a port. These never travel, so the codec does
not know them. They are frozen and closed like the words of the line.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pipeline.words.facts import Fact
from pipeline.words.messages import Bye, Pulse, Result
from pipeline.words.parts import Ranges, Recipe


class Called(Struct, frozen=True, gc=False):
    """A word that came in at the desk, and the caller's number for the way back."""

    peer: bytes
    word: Pulse | Bye


class Unreachable(Struct, frozen=True, gc=False):
    """The desk has no connection to this caller."""

    peer: bytes


class Foreign(Struct, frozen=True, gc=False):
    """A frame of another protocol version arrived; from the desk's caller `peer`, or from elsewhere (empty)."""

    peer: bytes
    version: str


class Open(Struct, frozen=True, gc=False):
    """To the lanes: bind lane number `lane`."""

    lane: int


class Opened(Struct, frozen=True, gc=False):
    """From the lanes: it is bound at the endpoint `at`."""

    lane: int
    at: str


class Shut(Struct, frozen=True, gc=False):
    """To the lanes: close this one, drop what it still has."""

    lane: int


class Connect(Struct, frozen=True, gc=False):
    """To a connecting edge: drop the old connection, if any, and connect a new socket to `at` (empty: where it was)."""

    at: str = ""


class Want(Struct, frozen=True, gc=False):
    """To the source: about this many bytes of records, please. One at a time; answered by Records or End."""

    size: int


class Records(Struct, frozen=True, gc=False):
    """From the source: the next `count` records, numbered from `first`, each with its terminator."""

    first: int
    count: int
    body: bytes


class End(Struct, frozen=True, gc=False):
    """From the source: there are no more records; there were `total`. A reason means that reading broke off."""

    total: int
    reason: str = ""


class Done(Struct, frozen=True, gc=False):
    """From the executor: a result without its run, worker, tries and shape, which the worker knows.

    `seconds` is the run time of these tasks, added up.
    """

    result: Result
    seconds: float


class Look(Struct, frozen=True, gc=False):
    """To the executor: what runs now? Answered by a Glance that names no worker."""


class Release(Struct, frozen=True, gc=False):
    """To the executor: give back all that has not started. Answered by Returned."""


class Returned(Struct, frozen=True, gc=False):
    """From the executor: these tasks were not started and are forgotten."""

    ranges: Ranges


class Cancel(Struct, frozen=True, gc=False):
    """To the executor: forget the unstarted of these tasks and kill the running; say nothing more of them."""

    ranges: Ranges


class Broken(Struct, frozen=True, gc=False):
    """From the executor: no task can run here, and why. The worker leaves with this exit code."""

    reason: str
    exit_code: int


class Write(Struct, frozen=True, gc=False):
    """To the output: a result, all of it new and in its turn, as number `number` of this sink's life.

    `tried`: its tasks have failed and are run again, so that only a log of attempts has room for it.
    `shown`: of these tasks, so many first bytes were written before, by Show.
    """

    number: int
    result: Result
    tried: bool = False
    shown: tuple[tuple[int, int], ...] = ()


class Show(Struct, frozen=True, gc=False):
    """To the output: lines of a task that still runs, to be written at once. Not answered."""

    body: bytes


class Keep(Struct, frozen=True, gc=False):
    """To the spill: a result ahead of its turn."""

    number: int
    result: Result


class Fetch(Struct, frozen=True, gc=False):
    """To the spill: the turn of the result that starts at task `first` has come. Answered by Kept."""

    first: int


class Kept(Struct, frozen=True, gc=False):
    """From the spill: a result whose turn has come. A durable spill keeps it until it is told to Forget."""

    result: Result


class Forget(Struct, frozen=True, gc=False):
    """To source and spill: all tasks below this number are settled and written, and need not be kept."""

    below: int


class Committed(Struct, frozen=True, gc=False):
    """From output, spill or journal: it has taken all up to this number of what it was given.

    The output's files are now `sizes` bytes long; what the journal has is as durable as was asked. `failure` is not
    empty when the store can take no more: what happened, where.
    """

    store: Literal["output", "spill", "journal"]
    number: int
    failure: str = ""
    sizes: tuple[int, ...] = ()


class Entry(Struct, frozen=True, gc=False):
    """To the journal: facts that become true together, as number `number` of this sink's life."""

    number: int
    facts: tuple[Fact, ...]


class Differs(Struct, frozen=True, gc=False):
    """From the journal: the input was read again, and of its records `low` to `high` some are not as they were."""

    low: int
    high: int


Errand = (
    Called
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
    | Look
    | Release
    | Returned
    | Cancel
    | Broken
    | Write
    | Show
    | Keep
    | Fetch
    | Kept
    | Forget
    | Committed
    | Entry
    | Differs
    | Recipe
)
