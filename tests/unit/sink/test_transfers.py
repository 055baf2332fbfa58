"""Transfers of large results: pieces in order, few at a time, within a limit."""

from __future__ import annotations

import pytest

from pipeline.model.events import Committed, ContentStored, DropContent, StoreContent, WriteResult
from pipeline.model.journal_events import RunStarted, TasksSettled
from pipeline.model.messages import (
    Ack,
    AttemptRange,
    Goodbye,
    Heartbeat,
    Result,
    ResultPiece,
    TaskFailure,
    Transfer,
    VentilatorState,
)
from pipeline.model.results import LargeResult
from pipeline.model.state_machine import Message, Port, Send
from pipeline.model.structs import replace
from pipeline.sink import transfers
from pipeline.sink.broadcast import ReportOptions
from pipeline.sink.ledger import Ledger
from pipeline.sink.retries import RetryPolicy
from pipeline.sink.sink import Sink, SinkConfig
from pipeline.sink.transfers import TransferTable

HEARTBEAT = Heartbeat("ann", 3, "r", "d", "wc", 1, 1, 0, 1, (), ((0, 9),), 0, 0.0, 0)
HEADER = Result("r", "ann", 0, 1, b"", bytes(4), b"", (), large_sizes=(10, 2))
FAILURE = TaskFailure(0, "exit", 1, "exit 1", "", 0)


class Content:
    """Content that is never read."""

    def read(self, start: int, size: int) -> bytes:
        raise NotImplementedError(start, size)


CONTENT = Content()


@pytest.fixture(autouse=True)
def _small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "WINDOW_BYTES", 8)
    monkeypatch.setattr(transfers, "MAX_ACTIVE_TRANSFERS", 2)


def make_table(*results: Result) -> TransferTable:
    table = TransferTable(Ledger([RunStarted("r", "")]))
    for result in results:
        table.add(result)
    return table


def piece(start: int, body: bytes, worker: str = "ann", attempt: int = 0) -> ResultPiece:
    return ResultPiece("r", worker, 0, attempt, start, body)


def make_sink(policy: RetryPolicy | None = None, *, log_attempts: bool = False) -> Sink:
    config = SinkConfig(retry_policy=policy or RetryPolicy(), report_options=ReportOptions(log_attempts=log_attempts))
    sink = Sink(config, "one", 100, 0.0, Ledger([RunStarted("r", "")]))
    sink.receive(VentilatorState("r", 1, "", "feeding", -1, ""), 0.0)
    sink.receive(HEARTBEAT, 0.0)
    sink.tick(0.0)
    return sink


def next_ack(sink: Sink, now: float) -> Ack:
    (ack,) = [send.message for send in sink.tick(now) if isinstance(send.message, Ack)]
    return ack


def messages(sends: list[Send], kind: type) -> list[Message]:
    return [send.message for send in sends if isinstance(send.message, kind)]


def test_table_stores_pieces_in_order_and_once() -> None:
    table = make_table(HEADER)
    assert table.on_piece(piece(4, b"late")) == []
    assert table.on_piece(piece(0, b"0123")) == [Send(Port.SPILL, StoreContent(1, 0, b"0123", is_last=False))]
    assert table.on_piece(piece(0, b"0123")) == []
    assert table.on_piece(piece(2, b"2345")) == [Send(Port.SPILL, StoreContent(1, 0, b"45", is_last=False))]
    assert table.on_piece(piece(6, b"6789012")) == []  # more than was announced
    assert table.on_piece(piece(6, b"678901")) == [Send(Port.SPILL, StoreContent(1, 0, b"678901", is_last=True))]


@pytest.mark.parametrize("stray", [piece(0, b"x", "bob"), piece(0, b"x", attempt=1), replace(piece(0, b"x"), run="q")])
def test_table_ignores_pieces_of_other_results(stray: ResultPiece) -> None:
    assert make_table(HEADER).on_piece(stray) == []


def test_table_returns_result_once_all_is_stored() -> None:
    table = make_table(HEADER)
    assert table.on_stored(ContentStored(1, 11, CONTENT)) is None
    complete = table.on_stored(ContentStored(1, 12, CONTENT))
    assert complete == LargeResult("r", "ann", 0, 1, b"", bytes(4), b"", (), large_sizes=(10, 2), content=CONTENT)
    assert table.on_stored(ContentStored(1, 12, CONTENT)) is None
    assert table.active() == ()


def test_active_transfers_are_few_and_limited() -> None:
    table = make_table(*(replace(HEADER, first=first) for first in range(3)), HEADER)
    assert table.active() == (Transfer("ann", 0, 0, 0, 8), Transfer("ann", 1, 0, 0, 8))
    table.on_stored(ContentStored(1, 7, CONTENT))
    assert table.active()[0] == Transfer("ann", 0, 0, 7, 12)
    table.on_stored(ContentStored(1, 12, CONTENT))
    assert [transfer.task for transfer in table.active()] == [1, 2]


def test_sink_announces_transfer_and_writes_complete_result() -> None:
    sink = make_sink()
    assert sink.receive(HEADER, 0.1) == []
    assert next_ack(sink, 0.2).transfers == (Transfer("ann", 0, 0, 0, 8),)
    assert sink.receive(piece(0, b"01234567"), 0.3) == [
        Send(Port.SPILL, StoreContent(1, 0, b"01234567", is_last=False))
    ]
    assert sink.receive(ContentStored(1, 8, CONTENT), 0.3) == []
    assert next_ack(sink, 0.4).transfers == (Transfer("ann", 0, 0, 8, 12),)
    (send,) = sink.receive(ContentStored(1, 12, CONTENT), 0.5)
    assert isinstance(send.message, WriteResult)
    assert isinstance(send.message.result, LargeResult)
    sink.receive(Committed("output", 1, sizes=(10,)), 0.6)
    ack = next_ack(sink, 0.7)
    assert (ack.transfers, ack.low_watermark) == ((), 0)


def test_sink_drops_transfer_of_a_task_that_another_worker_settles() -> None:
    sink = make_sink()
    sink.receive(HEADER, 0.1)
    sink.receive(replace(HEADER, worker="bob", output=b"a", output_ends=b"\1\0\0\0", large_sizes=()), 0.2)
    sends = sink.tick(0.3)
    assert messages(sends, DropContent) == [DropContent(1)]
    assert sink.transfers.active() == ()
    assert sink.receive(HEADER, 0.4) == []
    assert sink.transfers.active() == ()


@pytest.mark.parametrize("is_lost", [False, True])
def test_sink_drops_transfers_of_gone_workers(is_lost: bool) -> None:  # noqa: FBT001
    sink = make_sink()
    sink.receive(HEADER, 0.1)
    if not is_lost:
        sink.receive(Goodbye("ann"), 0.2)
    assert messages(sink.tick(11.0 if is_lost else 1.0), DropContent) == [DropContent(1)]


def test_sink_takes_no_content_of_a_failure_that_is_retried() -> None:
    sink = make_sink(RetryPolicy(retries=1))
    sends = sink.receive(replace(HEADER, failures=(FAILURE,)), 0.1)
    assert [event for send in sends for event in getattr(send.message, "events", ())] == [AttemptRange(0, 1, 1)]
    assert sink.transfers.active() == ()


def test_sink_logs_retried_failure_without_its_content() -> None:
    sink = make_sink(RetryPolicy(retries=1), log_attempts=True)
    failed = replace(HEADER, failures=(FAILURE,))
    assert sink.receive(failed, 0.1) == [Send(Port.OUTPUT, WriteResult(1, failed, is_retried=True))]


def test_sink_takes_content_of_a_final_failure() -> None:
    sink = make_sink(RetryPolicy(retries=1))
    sink.receive(replace(HEADER, failures=(FAILURE,), attempt=1), 0.1)
    assert sink.transfers.active() == (Transfer("ann", 0, 1, 0, 8),)


def test_table_ignores_results_of_settled_tasks_and_outdated_attempts() -> None:
    ledger = Ledger([RunStarted("r", ""), TasksSettled(((0, 1),), (), False, ()), AttemptRange(1, 2, 1)])
    table = TransferTable(ledger)
    table.add(HEADER)
    table.add(replace(HEADER, first=1))
    assert table.active() == ()
    table.add(replace(HEADER, first=1, attempt=1))
    assert table.active() == (Transfer("ann", 1, 1, 0, 8),)
