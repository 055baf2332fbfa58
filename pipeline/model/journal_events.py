"""The facts of a run: what the journal keeps, and what the ledger is made of.

The ledger is the fold of its facts, in the order in which they became true, so a sink that comes back knows what the
one before it knew, as far as that was durable. Facts are frozen and closed; none is unsaid, others follow it.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pipeline.model.messages import AttemptRange, Ranges


class JournalRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all facts: in a journal an array of its fields."""


class RunStarted(JournalRecord, frozen=True):
    """The run has a name, and its input an identity."""

    run: str
    fingerprint: str


class CommandFixed(JournalRecord, frozen=True):
    """The first worker came; all others must run the same command."""

    digest: str
    command: str


class ChecksumsRecorded(JournalRecord, frozen=True):
    """These records were read; `marks` as in the message Read."""

    first: int
    count: int
    checksums: bytes


class TasksSettled(JournalRecord, frozen=True):
    """These tasks have their final record, of which `failures` did not end well.

    It is in the output, whose files were `sizes` bytes long then; or, `spilled`, kept ahead of its turn.
    """

    ranges: Ranges
    failures: Ranges
    is_spilled: bool
    sizes: tuple[int, ...]


class TasksReopened(JournalRecord, frozen=True):
    """These were settled and failed, and are to be done once more."""

    ranges: Ranges


class InputEnded(JournalRecord, frozen=True):
    """All is read: there are `total` tasks. A reason means that reading broke off."""

    total: int
    reason: str


class RunStopped(JournalRecord, frozen=True):
    """The run ends early; as the word Kill."""

    mode: Literal["soon", "now"]
    reason: str
    exit_code: int


class SinkSuspended(JournalRecord, frozen=True):
    """The sink has gone in good order, the run unfinished: the next one goes on with it, and does not end it."""


JournalEvent = (
    RunStarted
    | CommandFixed
    | ChecksumsRecorded
    | TasksSettled
    | AttemptRange
    | TasksReopened
    | InputEnded
    | RunStopped
    | SinkSuspended
)
