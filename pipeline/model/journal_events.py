"""Events of a run, as the journal stores them.

- The ledger is the fold of these events in their order, so a restarted sink knows what the one before it had made
  durable.
- Events are never taken back; later events follow them.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pipeline.model.messages import AttemptRange, Ranges


class JournalRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all events: in a journal an array of its fields."""


class RunStarted(JournalRecord, frozen=True):
    """The run has an id, and its input a fingerprint."""

    run: str
    fingerprint: str


class CommandFixed(JournalRecord, frozen=True):
    """The first worker has connected; all others must run the same command."""

    digest: str
    command: str


class ChecksumsRecorded(JournalRecord, frozen=True):
    """These records were read; `checksums` as in the message InputChecksums."""

    first: int
    count: int
    checksums: bytes


class TasksSettled(JournalRecord, frozen=True):
    """The final results of these tasks are stored.

    They are in the output, whose files were `sizes` bytes long then, or (`is_spilled`) in the spill.
    """

    ranges: Ranges
    failures: Ranges
    is_spilled: bool
    sizes: tuple[int, ...]


class TasksReopened(JournalRecord, frozen=True):
    """These tasks had settled as failed, and will be run again."""

    ranges: Ranges


class InputEnded(JournalRecord, frozen=True):
    """The input is read: there are `total` tasks. A reason means that reading broke off."""

    total: int
    reason: str


class RunStopped(JournalRecord, frozen=True):
    """The run ends early; fields as in the message Kill."""

    mode: Literal["soon", "now"]
    reason: str
    exit_code: int


class SinkSuspended(JournalRecord, frozen=True):
    """The sink has ended in good order with the run unfinished; the next sink resumes the run."""


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
