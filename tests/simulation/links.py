"""Connections that behave as libzmq's do.

Each is FIFO, and they are reordered between each other. One that breaks loses what is under way; one may look alive
and carry nothing until a new socket is made. Every message goes through the codec, as on a wire.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pipeline.model.messages import Chunk
from pipeline.model.state_machine import Message
from pipeline.transport.codec import decode, encode
from tests.simulation.clock import Clock
from tests.simulation.event_log import EventLog

BYTES_PER_SECOND = 100e6
"""Bytes a second that a lane carries."""
Deliver = Callable[[Message], None]


class Link:
    """One direction of one connection: FIFO, and empty after a break."""

    def __init__(self, clock: Clock, log: EventLog, deliver: Deliver) -> None:
        self.clock, self.log, self.deliver = clock, log, deliver
        self.generation, self.last_arrival = 0, 0.0
        self.is_dead = False
        self._lossy_until = 0.0
        self.unsent: list[Message] | None = None
        """Kept by the sender's edge while nobody has connected yet; None once somebody has."""

    def send(self, message: Message) -> None:
        if self.unsent is not None:
            self.unsent.append(message)
        elif not self.is_dead and self.clock.now >= self._lossy_until:
            self.log.count_sent(message)
            word = decode(encode(message))  # type: ignore[arg-type]
            self._transmit(word)
            if self.clock.draw_fault("double", 0.1):
                self._transmit(word)

    def _transmit(self, message: Message) -> None:
        clock = self.clock
        late = 2.0 if clock.draw_fault("late", 0.05) else 0.0
        size = len(message.body) if isinstance(message, Chunk) else 0
        self.last_arrival = (
            max(self.last_arrival, clock.now + clock.plan.delay * clock.rng.random() + late) + size / BYTES_PER_SECOND
        )
        clock.call_at(self.last_arrival, partial(self._arrive, self.generation, message))

    def _arrive(self, generation: int, message: Message) -> None:
        if generation == self.generation:
            self.deliver(message)

    def connect(self) -> None:
        """A new socket: what was under way is lost, what the edge has kept is sent."""
        self.is_dead = False
        self.generation += 1
        waiting, self.unsent = self.unsent or [], None
        for message in waiting:
            self.send(message)

    def partition(self, until: float, *, is_lossy: bool) -> None:
        """What is sent before then is lost, or late."""
        if is_lossy:
            self._lossy_until = until
        else:
            self.last_arrival = max(self.last_arrival, until)

    def reset(self) -> None:
        """What is under way is lost; the next message goes through."""
        self.generation += 1
        self.last_arrival = 0.0


class LinkTable:
    """All connections of a line: by the process that made them and their kind; lanes by where they are bound."""

    def __init__(self, clock: Clock, log: EventLog) -> None:
        self._clock, self._log = clock, log
        self._links: dict[tuple[str, str], Link] = {}
        self._lanes: dict[str, Link | None] = {}

    def get(self, name: str, kind: str) -> Link:
        """The connection of this kind that this process has made."""
        return self._links[name, kind]

    def replace(self, name: str, kind: str, deliver: Deliver) -> Link:
        """Another connection in place of the former, which nobody uses any more."""
        link = self._links[name, kind] = Link(self._clock, self._log, deliver)
        return link

    def get_or_create(self, name: str, kind: str, deliver: Deliver) -> Link:
        """The connection of this kind, made if it is not there yet."""
        return self._links.get((name, kind)) or self.replace(name, kind, deliver)

    def lane(self, endpoint: str) -> Link | None:
        """The lane that was bound here; None if it is shut. A KeyError for one that never was."""
        return self._lanes[endpoint]

    def bind(self, endpoint: str) -> None:
        """A lane that nobody has connected to yet."""
        lane = self._lanes[endpoint] = Link(self._clock, self._log, lambda _: None)
        lane.unsent = []

    def connect_lane(self, endpoint: str, deliver: Deliver) -> None:
        """A worker connects to this lane; to one that is shut, in vain."""
        if lane := self.lane(endpoint):
            lane.deliver = deliver
            lane.connect()

    def close_lanes(self, *endpoints: str) -> None:
        """These lanes, or all, are gone, with what is under way."""
        for at in endpoints or self._lanes:
            if lane := self._lanes[at]:
                lane.reset()
                self._lanes[at] = None

    def of_process(self, name: str, directions: tuple[str, ...]) -> list[Link]:
        """All connections that lead to this process, or from it, or both."""
        lead = {"to": ("desk back", "control"), "from": ("desk", "results")}
        own = [
            link for (who, kind), link in self._links.items() for way in directions if who == name and kind in lead[way]
        ]
        if name.startswith("ventilator"):
            theirs = {
                "to": self.of_kind("desk"),
                "from": [*self.of_kind("desk back"), *filter(None, self._lanes.values())],
            }
        elif name.startswith("sink"):
            theirs = {"to": self.of_kind("results"), "from": self.of_kind("control")}
        else:
            theirs = {"to": [], "from": []}
        return own + [link for way in directions for link in theirs[way]]

    def of_kind(self, *kinds: str) -> list[Link]:
        """All of these kinds, in the order in which they were made."""
        return [link for (_, kind), link in self._links.items() if kind in kinds]

    def remove(self, name: str) -> None:
        """A process has died: so have its connections."""
        for key in [key for key in self._links if key[0] == name]:
            self._links.pop(key).reset()

    def pick_link(self) -> Link | None:
        links = [*self._links.values(), *(lane for lane in self._lanes.values() if lane)]
        return self._clock.rng.choice(links) if links else None
