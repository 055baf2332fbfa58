"""The event loop: one state machine, its adapters, and what wakes them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from pipeline.model.errors import INCOMPLETE, InternalError, PipelineError
from pipeline.model.events import (
    VENTILATOR_DEAD,
    PeerRejected,
    ReadRequest,
    StatusRequested,
    VentilatorDead,
    VersionMismatch,
    Waiting,
)
from pipeline.model.messages import Goodbye, StopRequest
from pipeline.model.state_machine import NEVER, Adapter, Address, LaneAddress, Message, PeerAddress, Port, Send
from pipeline.runtime.event_loop import EventLoop


@dataclass
class Actor:
    """A state machine that does what the test says, and records what it received."""

    answer: Callable[[Message | None], list[Send]]
    deadline: float = NEVER
    done: bool = False
    exit_code: int = 0
    stop_reason: str = ""
    received: list[Message | None] = field(default_factory=list)

    def receive(self, message: Message, now: float) -> list[Send]:
        assert now <= time.monotonic()
        self.received.append(message)
        return self.answer(message)

    def tick(self, now: float) -> list[Send]:
        assert now <= time.monotonic()
        self.deadline = NEVER
        self.received.append(None)
        return self.answer(None)


class PipeAdapter:
    """An adapter over a pipe: each byte that arrives is a Goodbye of that name."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.deadline = NEVER
        self.ready: list[Message] = []
        self.sent: list[tuple[Address, Message]] = []

    def send(self, to: Address, message: Message) -> None:
        self.sent.append((to, message))

    def pollables(self) -> list[object]:
        return [self.read]

    def receive(self) -> list[Message]:
        ready, self.ready, self.deadline = self.ready, [], NEVER
        os.set_blocking(self.read, False)
        try:
            return ready + [Goodbye(chr(byte)) for byte in os.read(self.read, 100)]
        except BlockingIOError:
            return ready

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)


class FakeSignals:
    """Source of signals, filled by the test."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()

    def fileno(self) -> int:
        return self.read_fd

    def read(self) -> list[int]:
        return list(os.read(self.read_fd, 100))


@pytest.fixture
def adapter() -> Iterator[PipeAdapter]:
    made = PipeAdapter()
    yield made
    made.close()


@pytest.fixture
def fake_signals() -> Iterator[FakeSignals]:
    made = FakeSignals()
    yield made
    os.close(made.read_fd)
    os.close(made.write_fd)


def machine_done_at(expected: Message | None) -> Actor:
    """Return a machine that is done with 7 as soon as it receives this message."""
    actor = Actor(lambda _: [])

    def answer(item: Message | None) -> list[Send]:
        actor.done, actor.exit_code = actor.done or (item == expected and len(actor.received) > 1), 7
        return []

    actor.answer = answer
    return actor


def test_loop_starts_with_tick_and_returns_exit_code(adapter: PipeAdapter, fake_signals: FakeSignals) -> None:
    actor = machine_done_at(Goodbye("b"))
    os.write(adapter.write, b"abc")
    assert EventLoop(actor, {Port.SOURCE: adapter}, fake_signals).run() == 7
    assert actor.received == [None, Goodbye("a"), Goodbye("b")]  # nothing after the last one


def test_tick_comes_after_arrived_messages(adapter: PipeAdapter, fake_signals: FakeSignals) -> None:
    actor = Actor(lambda _: [])

    def answer(_: Message | None) -> list[Send]:
        if len(actor.received) == 1:
            os.write(adapter.write, b"a")
            actor.deadline = 0.0
        actor.done = len(actor.received) == 3
        return []

    actor.answer = answer
    EventLoop(actor, {Port.SOURCE: adapter}, fake_signals).run()
    assert actor.received == [None, Goodbye("a"), None]


def test_loop_waits_for_deadline(adapter: PipeAdapter, fake_signals: FakeSignals) -> None:
    at = time.monotonic() + 0.05
    actor = machine_done_at(None)
    first = actor.answer

    def answer(item: Message | None) -> list[Send]:
        actor.deadline = at
        return first(item)

    actor.answer = answer
    assert EventLoop(actor, {Port.SOURCE: adapter}, fake_signals).run() == 7
    assert time.monotonic() >= at
    assert actor.received == [None, None]


def test_adapter_deadline_calls_receive(adapter: PipeAdapter, fake_signals: FakeSignals) -> None:
    adapter.ready, adapter.deadline = [Goodbye("x")], time.monotonic() + 0.01
    assert EventLoop(machine_done_at(Goodbye("x")), {Port.SOURCE: adapter}, fake_signals).run() == 7


def test_addresses_reach_their_adapters_which_may_answer(fake_signals: FakeSignals) -> None:
    edges: dict[Port, Adapter] = {}
    pipes = {port: PipeAdapter() for port in (Port.SOURCE, Port.REGISTRY, Port.LANES)}
    edges.update(pipes)
    actor = Actor(lambda _: [])
    addresses: list[Address] = [Port.SOURCE, PeerAddress(b"p"), LaneAddress(3)]
    notices: list[Message] = []

    def answer(item: Message | None) -> list[Send]:
        actor.done = item == Goodbye("answer")
        if item is None:
            pipes[Port.REGISTRY].ready = [Goodbye("answer")]
            return [*(Send(to, ReadRequest(1)) for to in addresses), Send(Port.USER, Waiting("sink"))]
        return []

    actor.answer = answer
    EventLoop(actor, edges, fake_signals, notify=notices.append).run()
    assert [pipe.sent for pipe in pipes.values()] == [[(to, ReadRequest(1))] for to in addresses]
    assert notices == [Waiting("sink")]
    for pipe in pipes.values():
        pipe.close()


def test_second_signal_is_a_stop_now(adapter: PipeAdapter, fake_signals: FakeSignals) -> None:
    actor, notices = machine_done_at(StopRequest("now", "SIGTERM")), list[Message]()
    os.write(fake_signals.write_fd, bytes([signal.SIGINT, signal.SIGTERM]))
    assert EventLoop(actor, {Port.SOURCE: adapter}, fake_signals, notify=notices.append).run() == 7
    assert actor.received == [None, StopRequest("soon", "^C"), StopRequest("now", "SIGTERM")]
    assert notices == actor.received[1:]


def test_other_signals_are_events(adapter: PipeAdapter, fake_signals: FakeSignals) -> None:
    actor, notices = machine_done_at(VentilatorDead()), list[Message]()
    os.write(fake_signals.write_fd, bytes([signal.SIGUSR1, VENTILATOR_DEAD]))
    assert EventLoop(actor, {Port.SOURCE: adapter}, fake_signals, notify=notices.append).run() == 7
    assert (actor.received, notices) == ([None, StatusRequested(), VentilatorDead()], [])


@pytest.mark.parametrize(
    ("stranger", "told_before_the_end", "told_at_the_end"),
    [
        (PeerRejected("a stranger", "garbage"), True, True),
        (VersionMismatch(b"", "pipe9"), True, False),  # the station that ends because of it reports it itself
        (VersionMismatch(b"peer", "pipe9"), False, False),  # the station that answers the peer reports it, too
    ],
)
def test_adapter_notices_reach_user(
    adapter: PipeAdapter,
    fake_signals: FakeSignals,
    stranger: Message,
    *,
    told_before_the_end: bool,
    told_at_the_end: bool,
) -> None:
    for end, expected in ((Goodbye("end"), told_before_the_end), (stranger, told_at_the_end)):
        notices: list[Message] = []
        actor = machine_done_at(end)
        adapter.ready, adapter.deadline = [stranger, Goodbye("end")], 0.0
        EventLoop(actor, {Port.SOURCE: adapter}, fake_signals, notify=notices.append).run()
        assert notices == [stranger] * expected
        assert actor.received[1] == stranger


def test_loop_without_monitor_ends(adapter: PipeAdapter, fake_signals: FakeSignals) -> None:
    read, write = os.pipe()
    os.close(write)
    actor = Actor(lambda _: [])
    assert EventLoop(actor, {Port.SOURCE: adapter}, fake_signals, monitor_fd=read).run() == INCOMPLETE
    os.close(read)
    assert not actor.done


def test_bug_is_raised_with_recent_messages(adapter: PipeAdapter, fake_signals: FakeSignals) -> None:
    os.write(adapter.write, b"ab")

    def answer(item: Message | None) -> list[Send]:
        if item == Goodbye("b"):
            raise KeyError("lost")
        return []

    with pytest.raises(InternalError, match=r"(?s)KeyError: 'lost'.*recent messages:.*a.*b"):
        EventLoop(Actor(answer), {Port.SOURCE: adapter}, fake_signals).run()


def test_expected_error_is_raised_unchanged(adapter: PipeAdapter, fake_signals: FakeSignals) -> None:
    def answer(_: Message | None) -> list[Send]:
        raise PipelineError("endpoint taken")

    with pytest.raises(PipelineError, match=r"^endpoint taken$"):
        EventLoop(Actor(answer), {Port.SOURCE: adapter}, fake_signals).run()


def test_adapter_may_change_pollables(adapter: PipeAdapter, fake_signals: FakeSignals) -> None:
    later = PipeAdapter()
    actor = machine_done_at(Goodbye("z"))
    first = actor.answer

    def answer(item: Message | None) -> list[Send]:
        if item == Goodbye("a"):
            adapter.read, later.read = later.read, adapter.read
            os.write(later.write, b"z")
        return first(item)

    actor.answer = answer
    os.write(adapter.write, b"a")
    assert EventLoop(actor, {Port.SOURCE: adapter}, fake_signals).run() == 7
    later.close()
