"""The loop: one station, its edges, and what wakes them."""

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
    """A station that does what the test says, and remembers what it was told."""

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
    """An edge over a pipe: each byte that comes is a Bye of that name."""

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
    """Where signals arrive."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()

    def fileno(self) -> int:
        return self.read_fd

    def read(self) -> list[int]:
        return list(os.read(self.read_fd, 100))


@pytest.fixture
def edge() -> Iterator[PipeAdapter]:
    made = PipeAdapter()
    yield made
    made.close()


@pytest.fixture
def bell() -> Iterator[FakeSignals]:
    made = FakeSignals()
    yield made
    os.close(made.read_fd)
    os.close(made.write_fd)


def ends_at(word: Message | None) -> Actor:
    """Done with 7 as soon as it hears this."""
    actor = Actor(lambda _: [])

    def answer(heard: Message | None) -> list[Send]:
        actor.done, actor.exit_code = actor.done or (heard == word and len(actor.received) > 1), 7
        return []

    actor.answer = answer
    return actor


def test_it_begins_with_a_tick_and_ends_with_the_stations_exit_code(edge: PipeAdapter, bell: FakeSignals) -> None:
    actor = ends_at(Goodbye("b"))
    os.write(edge.write, b"abc")
    assert EventLoop(actor, {Port.SOURCE: edge}, bell).run() == 7
    assert actor.received == [None, Goodbye("a"), Goodbye("b")]  # and nothing after it was done


def test_a_deadline_is_a_tick_and_only_after_what_had_arrived(edge: PipeAdapter, bell: FakeSignals) -> None:
    actor = Actor(lambda _: [])

    def answer(_: Message | None) -> list[Send]:
        if len(actor.received) == 1:
            os.write(edge.write, b"a")
            actor.deadline = 0.0
        actor.done = len(actor.received) == 3
        return []

    actor.answer = answer
    EventLoop(actor, {Port.SOURCE: edge}, bell).run()
    assert actor.received == [None, Goodbye("a"), None]


def test_a_deadline_in_the_future_is_waited_for(edge: PipeAdapter, bell: FakeSignals) -> None:
    at = time.monotonic() + 0.05
    actor = ends_at(None)
    first = actor.answer

    def answer(heard: Message | None) -> list[Send]:
        actor.deadline = at
        return first(heard)

    actor.answer = answer
    assert EventLoop(actor, {Port.SOURCE: edge}, bell).run() == 7
    assert time.monotonic() >= at
    assert actor.received == [None, None]


def test_an_edge_is_asked_when_its_own_deadline_has_come(edge: PipeAdapter, bell: FakeSignals) -> None:
    edge.ready, edge.deadline = [Goodbye("x")], time.monotonic() + 0.01
    assert EventLoop(ends_at(Goodbye("x")), {Port.SOURCE: edge}, bell).run() == 7


def test_every_address_has_its_edge_and_who_was_spoken_to_is_asked_at_once(bell: FakeSignals) -> None:
    edges: dict[Port, Adapter] = {}
    pipes = {port: PipeAdapter() for port in (Port.SOURCE, Port.REGISTRY, Port.LANES)}
    edges.update(pipes)
    actor = Actor(lambda _: [])
    addresses: list[Address] = [Port.SOURCE, PeerAddress(b"p"), LaneAddress(3)]
    told: list[Message] = []

    def answer(heard: Message | None) -> list[Send]:
        actor.done = heard == Goodbye("answer")
        if heard is None:
            pipes[Port.REGISTRY].ready = [Goodbye("answer")]
            return [*(Send(to, ReadRequest(1)) for to in addresses), Send(Port.USER, Waiting("sink"))]
        return []

    actor.answer = answer
    EventLoop(actor, edges, bell, notify=told.append).run()
    assert [pipe.sent for pipe in pipes.values()] == [[(to, ReadRequest(1))] for to in addresses]
    assert told == [Waiting("sink")]
    for pipe in pipes.values():
        pipe.close()


def test_a_signal_is_a_stop_and_a_second_one_a_harder_one(edge: PipeAdapter, bell: FakeSignals) -> None:
    actor, told = ends_at(StopRequest("now", "SIGTERM")), list[Message]()
    os.write(bell.write_fd, bytes([signal.SIGINT, signal.SIGTERM]))
    assert EventLoop(actor, {Port.SOURCE: edge}, bell, notify=told.append).run() == 7
    assert actor.received == [None, StopRequest("soon", "^C"), StopRequest("now", "SIGTERM")]
    assert told == actor.received[1:]


def test_signal_that_is_no_stop_is_a_notice(edge: PipeAdapter, bell: FakeSignals) -> None:
    actor, told = ends_at(VentilatorDead()), list[Message]()
    os.write(bell.write_fd, bytes([signal.SIGUSR1, VENTILATOR_DEAD]))
    assert EventLoop(actor, {Port.SOURCE: edge}, bell, notify=told.append).run() == 7
    assert (actor.received, told) == ([None, StatusRequested(), VentilatorDead()], [])


@pytest.mark.parametrize(
    ("stranger", "told_before_the_end", "told_at_the_end"),
    [
        (PeerRejected("a stranger", "garbage"), True, True),
        (VersionMismatch(b"", "pipe9"), True, False),  # whose station ends by it says so itself
        (VersionMismatch(b"peer", "pipe9"), False, False),  # whom the desk answers, it tells of, too
    ],
)
def test_strangers_are_told_of_unless_their_station_does_that(
    edge: PipeAdapter, bell: FakeSignals, stranger: Message, *, told_before_the_end: bool, told_at_the_end: bool
) -> None:
    for end, expected in ((Goodbye("end"), told_before_the_end), (stranger, told_at_the_end)):
        told: list[Message] = []
        actor = ends_at(end)
        edge.ready, edge.deadline = [stranger, Goodbye("end")], 0.0
        EventLoop(actor, {Port.SOURCE: edge}, bell, notify=told.append).run()
        assert told == [stranger] * expected
        assert actor.received[1] == stranger


def test_without_its_keeper_it_ends(edge: PipeAdapter, bell: FakeSignals) -> None:
    read, write = os.pipe()
    os.close(write)
    actor = Actor(lambda _: [])
    assert EventLoop(actor, {Port.SOURCE: edge}, bell, monitor_fd=read).run() == INCOMPLETE
    os.close(read)
    assert not actor.done


def test_a_bug_is_raised_with_its_story(edge: PipeAdapter, bell: FakeSignals) -> None:
    os.write(edge.write, b"ab")

    def answer(heard: Message | None) -> list[Send]:
        if heard == Goodbye("b"):
            raise KeyError("lost")
        return []

    with pytest.raises(InternalError, match=r"(?s)KeyError: 'lost'.*recent messages:.*a.*b"):
        EventLoop(Actor(answer), {Port.SOURCE: edge}, bell).run()


def test_what_is_expected_is_raised_as_it_is(edge: PipeAdapter, bell: FakeSignals) -> None:
    def answer(_: Message | None) -> list[Send]:
        raise PipelineError("endpoint taken")

    with pytest.raises(PipelineError, match=r"^endpoint taken$"):
        EventLoop(Actor(answer), {Port.SOURCE: edge}, bell).run()


def test_an_edge_may_poll_other_files_than_before(edge: PipeAdapter, bell: FakeSignals) -> None:
    later = PipeAdapter()
    actor = ends_at(Goodbye("z"))
    first = actor.answer

    def answer(heard: Message | None) -> list[Send]:
        if heard == Goodbye("a"):
            edge.read, later.read = later.read, edge.read
            os.write(later.write, b"z")
        return first(heard)

    actor.answer = answer
    os.write(edge.write, b"a")
    assert EventLoop(actor, {Port.SOURCE: edge}, bell).run() == 7
    later.close()
