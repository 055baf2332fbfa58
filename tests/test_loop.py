"""The loop: one station, its edges, and what wakes them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from pipeline.house.decisions import VENTILATOR_DEAD
from pipeline.loop import Loop
from pipeline.words.errands import Foreign, Want
from pipeline.words.errors import INCOMPLETE, PipelineError, StationError
from pipeline.words.messages import Bye, Stop
from pipeline.words.notices import Asked, Refused, VentilatorDead, Waiting
from pipeline.words.station import NEVER, Address, Caller, Edge, Lane, Message, Port, Send


@dataclass
class Actor:
    """A station that does what the test says, and remembers what it was told."""

    answer: Callable[[Message | None], list[Send]]
    deadline: float = NEVER
    done: bool = False
    outcome: int = 0
    reason: str = ""
    heard: list[Message | None] = field(default_factory=list)

    def receive(self, message: Message, now: float) -> list[Send]:
        assert now <= time.monotonic()
        self.heard.append(message)
        return self.answer(message)

    def tick(self, now: float) -> list[Send]:
        assert now <= time.monotonic()
        self.deadline = NEVER
        self.heard.append(None)
        return self.answer(None)


class Pipe:
    """An edge over a pipe: each byte that comes is a Bye of that name."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.deadline = NEVER
        self.ready: list[Message] = []
        self.sent: list[tuple[Address, Message]] = []

    def send(self, to: Address, message: Message) -> None:
        self.sent.append((to, message))

    def files(self) -> list[object]:
        return [self.read]

    def receive(self) -> list[Message]:
        ready, self.ready, self.deadline = self.ready, [], NEVER
        os.set_blocking(self.read, False)
        try:
            return ready + [Bye(chr(byte)) for byte in os.read(self.read, 100)]
        except BlockingIOError:
            return ready

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)


class Bell:
    """Where signals arrive."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()

    def fileno(self) -> int:
        return self.read

    def taken(self) -> list[int]:
        return list(os.read(self.read, 100))


@pytest.fixture
def edge() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def bell() -> Iterator[Bell]:
    made = Bell()
    yield made
    os.close(made.read)
    os.close(made.write)


def ends_at(word: Message | None) -> Actor:
    """Done with 7 as soon as it hears this."""
    actor = Actor(lambda _: [])

    def answer(heard: Message | None) -> list[Send]:
        actor.done, actor.outcome = actor.done or (heard == word and len(actor.heard) > 1), 7
        return []

    actor.answer = answer
    return actor


def test_it_begins_with_a_tick_and_ends_with_the_stations_exit_code(edge: Pipe, bell: Bell) -> None:
    actor = ends_at(Bye("b"))
    os.write(edge.write, b"abc")
    assert Loop(actor, {Port.SOURCE: edge}, bell).run() == 7
    assert actor.heard == [None, Bye("a"), Bye("b")]  # and nothing after it was done


def test_a_deadline_is_a_tick_and_only_after_what_had_arrived(edge: Pipe, bell: Bell) -> None:
    actor = Actor(lambda _: [])

    def answer(_: Message | None) -> list[Send]:
        if len(actor.heard) == 1:
            os.write(edge.write, b"a")
            actor.deadline = 0.0
        actor.done = len(actor.heard) == 3
        return []

    actor.answer = answer
    Loop(actor, {Port.SOURCE: edge}, bell).run()
    assert actor.heard == [None, Bye("a"), None]


def test_a_deadline_in_the_future_is_waited_for(edge: Pipe, bell: Bell) -> None:
    at = time.monotonic() + 0.05
    actor = ends_at(None)
    first = actor.answer

    def answer(heard: Message | None) -> list[Send]:
        actor.deadline = at
        return first(heard)

    actor.answer = answer
    assert Loop(actor, {Port.SOURCE: edge}, bell).run() == 7
    assert time.monotonic() >= at
    assert actor.heard == [None, None]


def test_an_edge_is_asked_when_its_own_deadline_has_come(edge: Pipe, bell: Bell) -> None:
    edge.ready, edge.deadline = [Bye("x")], time.monotonic() + 0.01
    assert Loop(ends_at(Bye("x")), {Port.SOURCE: edge}, bell).run() == 7


def test_every_address_has_its_edge_and_who_was_spoken_to_is_asked_at_once(bell: Bell) -> None:
    edges: dict[Port, Edge] = {}
    pipes = {port: Pipe() for port in (Port.SOURCE, Port.DESK, Port.LANES)}
    edges.update(pipes)
    actor = Actor(lambda _: [])
    addresses: list[Address] = [Port.SOURCE, Caller(b"p"), Lane(3)]
    told: list[Message] = []

    def answer(heard: Message | None) -> list[Send]:
        actor.done = heard == Bye("answer")
        if heard is None:
            pipes[Port.DESK].ready = [Bye("answer")]
            return [*(Send(to, Want(1)) for to in addresses), Send(Port.TOLD, Waiting("sink"))]
        return []

    actor.answer = answer
    Loop(actor, edges, bell, told=told.append).run()
    assert [pipe.sent for pipe in pipes.values()] == [[(to, Want(1))] for to in addresses]
    assert told == [Waiting("sink")]
    for pipe in pipes.values():
        pipe.close()


def test_a_signal_is_a_stop_and_a_second_one_a_harder_one(edge: Pipe, bell: Bell) -> None:
    actor, told = ends_at(Stop("now", "SIGTERM")), list[Message]()
    os.write(bell.write, bytes([signal.SIGINT, signal.SIGTERM]))
    assert Loop(actor, {Port.SOURCE: edge}, bell, told=told.append).run() == 7
    assert actor.heard == [None, Stop("soon", "^C"), Stop("now", "SIGTERM")]
    assert told == actor.heard[1:]


def test_signal_that_is_no_stop_is_a_notice(edge: Pipe, bell: Bell) -> None:
    actor, told = ends_at(VentilatorDead()), list[Message]()
    os.write(bell.write, bytes([signal.SIGUSR1, VENTILATOR_DEAD]))
    assert Loop(actor, {Port.SOURCE: edge}, bell, told=told.append).run() == 7
    assert (actor.heard, told) == ([None, Asked(), VentilatorDead()], [])


@pytest.mark.parametrize(
    ("stranger", "told_before_the_end", "told_at_the_end"),
    [
        (Refused("a stranger", "garbage"), True, True),
        (Foreign(b"", "pipe9"), True, False),  # whose station ends by it says so itself
        (Foreign(b"peer", "pipe9"), False, False),  # whom the desk answers, it tells of, too
    ],
)
def test_strangers_are_told_of_unless_their_station_does_that(
    edge: Pipe, bell: Bell, stranger: Message, *, told_before_the_end: bool, told_at_the_end: bool
) -> None:
    for end, expected in ((Bye("end"), told_before_the_end), (stranger, told_at_the_end)):
        told: list[Message] = []
        actor = ends_at(end)
        edge.ready, edge.deadline = [stranger, Bye("end")], 0.0
        Loop(actor, {Port.SOURCE: edge}, bell, told=told.append).run()
        assert told == [stranger] * expected
        assert actor.heard[1] == stranger


def test_without_its_keeper_it_ends(edge: Pipe, bell: Bell) -> None:
    read, write = os.pipe()
    os.close(write)
    actor = Actor(lambda _: [])
    assert Loop(actor, {Port.SOURCE: edge}, bell, keeper=read).run() == INCOMPLETE
    os.close(read)
    assert not actor.done


def test_a_bug_is_raised_with_its_story(edge: Pipe, bell: Bell) -> None:
    os.write(edge.write, b"ab")

    def answer(heard: Message | None) -> list[Send]:
        if heard == Bye("b"):
            raise KeyError("lost")
        return []

    with pytest.raises(StationError, match=r"(?s)KeyError: 'lost'.*the last words were:.*a.*b"):
        Loop(Actor(answer), {Port.SOURCE: edge}, bell).run()


def test_what_is_expected_is_raised_as_it_is(edge: Pipe, bell: Bell) -> None:
    def answer(_: Message | None) -> list[Send]:
        raise PipelineError("endpoint taken")

    with pytest.raises(PipelineError, match=r"^endpoint taken$"):
        Loop(Actor(answer), {Port.SOURCE: edge}, bell).run()


def test_an_edge_may_poll_other_files_than_before(edge: Pipe, bell: Bell) -> None:
    later = Pipe()
    actor = ends_at(Bye("z"))
    first = actor.answer

    def answer(heard: Message | None) -> list[Send]:
        if heard == Bye("a"):
            edge.read, later.read = later.read, edge.read
            os.write(later.write, b"z")
        return first(heard)

    actor.answer = answer
    os.write(edge.write, b"a")
    assert Loop(actor, {Port.SOURCE: edge}, bell).run() == 7
    later.close()
