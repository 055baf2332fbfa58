"""Transfers of large results: the content arrives in pieces, as the sink accepts them.

- A transfer belongs to one worker and attempt, so the outputs of two attempts are never mixed.
- Content is stored in order and without gaps. A piece that would leave a gap is dropped: the worker sends it again when
  the sink requests the result, which has not arrived as long as its content has not.
- Few transfers are active, and each has a limit, so the bytes in flight are bounded.
- A complete result is accepted like any other; until then nothing of it is written or settled.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.model.events import ContentStored, DropContent, StoreContent
from pipeline.model.messages import AttemptRange, Result, ResultPiece, Transfer
from pipeline.model.results import LargeResult, with_content
from pipeline.model.state_machine import Port, Send
from pipeline.sink.ledger import Ledger
from pipeline.sink.peers import PeerTable

MAX_ACTIVE_TRANSFERS = 4
WINDOW_BYTES = 8 << 20
"""Bytes of content that a worker may send before the sink has stored them."""


class _Incoming(Struct):
    """Content of a large result: the first `received` bytes have arrived, `stored` of them are stored."""

    number: int
    result: Result
    received: int = 0
    stored: int = 0

    @property
    def size(self) -> int:
        return sum(self.result.large_sizes)


class TransferTable:
    """Large results whose content is not complete, in the order in which they were announced."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._last_number = ledger, 0
        self._incoming: dict[tuple[str, int, int], _Incoming] = {}

    def add(self, result: Result) -> None:
        """Begin the transfer of a large result, unless it has begun or the task needs no result."""
        key = result.worker, result.first, result.attempt
        if key not in self._incoming and self._is_needed(result):
            self._last_number += 1
            self._incoming[key] = _Incoming(self._last_number, result)

    def on_piece(self, piece: ResultPiece) -> list[Send]:
        """Store what continues the content."""
        incoming = self._incoming.get((piece.worker, piece.task, piece.attempt))
        if incoming is None or piece.run != self._ledger.run:
            return []
        end = piece.start + len(piece.body)
        if not piece.start <= incoming.received < end <= incoming.size:
            return []
        body, incoming.received = piece.body[incoming.received - piece.start :], end
        return [Send(Port.SPILL, StoreContent(incoming.number, piece.task, body, end == incoming.size))]

    def on_stored(self, stored: ContentStored) -> LargeResult | None:
        """Record how much is stored; return the result if that is all."""
        for key, incoming in self._incoming.items():
            if incoming.number == stored.number:
                incoming.stored = stored.size
                if stored.size < incoming.size:
                    return None
                del self._incoming[key]
                return with_content(incoming.result, stored.content)
        return None

    def active(self) -> tuple[Transfer, ...]:
        """Return the transfers that may continue, with what is stored and what the worker may send."""
        return tuple(
            Transfer(*key, incoming.stored, min(incoming.stored + WINDOW_BYTES, incoming.size))
            for key, incoming in list(self._incoming.items())[:MAX_ACTIVE_TRANSFERS]
        )

    def drop_useless(self, peers: PeerTable, now: float) -> list[Send]:
        """Drop the transfers of workers that are lost, and of tasks that have a result."""
        if not self._incoming:
            return []
        present = peers.waiting_for(now)
        useless = [
            key
            for key, incoming in self._incoming.items()
            if key[0] not in present or not self._is_needed(incoming.result)
        ]
        return [Send(Port.SPILL, DropContent(self._incoming.pop(key).number)) for key in useless]

    def _is_needed(self, result: Result) -> bool:
        end = result.first + 1
        return bool(self._ledger.missing(((result.first, end),), [AttemptRange(result.first, end, result.attempt)]))
