"""The facts of a run: what the journal keeps, and what the ledger is made of.

The ledger is the fold of its facts, in the order in which they became true, so a sink that comes back knows what the
one before it knew, as far as that was durable. Facts are frozen and closed; none is unsaid, others follow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.words.parts import Ranges, Tried


@dataclass(frozen=True, slots=True)
class Began:
    """The run has a name, and its input an identity."""

    run: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Commanded:
    """The first worker came; all others must run the same command."""

    digest: str
    command: str


@dataclass(frozen=True, slots=True)
class Marked:
    """These records were read; `marks` as in the message Read."""

    first: int
    count: int
    marks: bytes


@dataclass(frozen=True, slots=True)
class Settled:
    """These tasks have their final record, of which `failures` did not end well.

    It is in the output, whose files were `sizes` bytes long then; or, `spilled`, kept ahead of its turn.
    """

    ranges: Ranges
    failures: Ranges
    spilled: bool
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reopened:
    """These were settled and failed, and are to be done once more."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Ended:
    """All is read: there are `total` tasks. A reason means that reading broke off."""

    total: int
    reason: str


@dataclass(frozen=True, slots=True)
class Killed:
    """The run ends early; as the word Kill."""

    mode: Literal["soon", "now"]
    reason: str
    code: int


@dataclass(frozen=True, slots=True)
class Left:
    """The sink has gone in good order, the run unfinished: the next one goes on with it, and does not end it."""


Fact = Began | Commanded | Marked | Settled | Tried | Reopened | Ended | Killed | Left
