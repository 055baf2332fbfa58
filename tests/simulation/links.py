"""Simulated connections that behave like those of libzmq.

Each connection is FIFO; there is no order between connections. A broken one loses the messages in flight; a dead one
looks alive and carries nothing until a new socket is made. Every message passes through the codec.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pipeline.model.events import SendContent
from pipeline.model.messages import Chunk, ResultPiece
from pipeline.model.state_machine import Message
from pipeline.transport.codec import decode, encode, iter_pieces
from tests.simulation.clock import Clock
from tests.simulation.event_log import EventLog

BYTES_PER_SECOND = 100e6
"""Bandwidth of a connection."""
Deliver = Callable[[Message], None]


class Link:
    """One direction of one connection."""

    def __init__(self, clock: Clock, log: EventLog, deliver: Deliver) -> None:
        self.clock, self.log, self.deliver = clock, log, deliver
        self.generation, self.last_arrival = 0, 0.0
        self.is_dead = False
        self._lossy_until = 0.0
        self.unsent: list[Message] | None = None
        """Messages that the sender's adapter keeps until the first connection; None after that."""

    def send(self, message: Message) -> None:
        if self.unsent is not None:
            self.unsent.append(message)
        elif isinstance(message, SendContent):
            for piece in iter_pieces(message):
                self.send(piece)
        elif not self.is_dead and self.clock.now >= self._lossy_until:
            self.log.count_sent(message)
            decoded = decode(encode(message))  # type: ignore[arg-type]
            self._transmit(decoded)
            if self.clock.draw_fault("double", 0.1):
                self._transmit(decoded)

    def _transmit(self, message: Message) -> None:
        clock = self.clock
        late = 2.0 if clock.draw_fault("late", 0.05) else 0.0
        size = len(message.body) if isinstance(message, Chunk | ResultPiece) else 0
        self.last_arrival = (
            max(self.last_arrival, clock.now + clock.plan.delay * clock.rng.random() + late) + size / BYTES_PER_SECOND
        )
        clock.call_at(self.last_arrival, partial(self._arrive, self.generation, message))

    def _arrive(self, generation: int, message: Message) -> None:
        if generation == self.generation:
            self.deliver(message)

    def connect(self) -> None:
        """Connect a new socket: messages in flight are lost, kept ones are sent."""
        self.is_dead = False
        self.generation += 1
        waiting, self.unsent = self.unsent or [], None
        for message in waiting:
            self.send(message)

    def partition(self, until: float, *, is_lossy: bool) -> None:
        """Lose or delay what is sent before this time."""
        if is_lossy:
            self._lossy_until = until
        else:
            self.last_arrival = max(self.last_arrival, until)

    def reset(self) -> None:
        """Lose the messages in flight; later ones arrive."""
        self.generation += 1
        self.last_arrival = 0.0


class LinkTable:
    """All connections, by the process that made them and their kind; lanes by their endpoint."""

    def __init__(self, clock: Clock, log: EventLog) -> None:
        self._clock, self._log = clock, log
        self._links: dict[tuple[str, str], Link] = {}
        self._lanes: dict[str, Link | None] = {}

    def get(self, name: str, kind: str) -> Link:
        """Return the connection of this kind that this process has made."""
        return self._links[name, kind]

    def replace(self, name: str, kind: str, deliver: Deliver) -> Link:
        """Return a new connection in place of the old one."""
        link = self._links[name, kind] = Link(self._clock, self._log, deliver)
        return link

    def get_or_create(self, name: str, kind: str, deliver: Deliver) -> Link:
        """Return the connection of this kind, made if needed."""
        return self._links.get((name, kind)) or self.replace(name, kind, deliver)

    def lane(self, endpoint: str) -> Link | None:
        """Return the lane that was bound here, None if it is closed. Raise KeyError if it never existed."""
        return self._lanes[endpoint]

    def bind(self, endpoint: str) -> None:
        """Bind a lane; its worker connects later."""
        lane = self._lanes[endpoint] = Link(self._clock, self._log, lambda _: None)
        lane.unsent = []

    def connect_lane(self, endpoint: str, deliver: Deliver) -> None:
        """Connect a worker to this lane; nothing happens if it is closed."""
        if lane := self.lane(endpoint):
            lane.deliver = deliver
            lane.connect()

    def close_lanes(self, *endpoints: str) -> None:
        """Close these lanes, or all, and lose their messages in flight."""
        for endpoint in endpoints or self._lanes:
            if lane := self._lanes[endpoint]:
                lane.reset()
                self._lanes[endpoint] = None

    def of_process(self, name: str, directions: tuple[str, ...]) -> list[Link]:
        """Return all connections to this process, from it, or both."""
        kinds = {"to": ("registry back", "control"), "from": ("registry", "results")}
        own = [
            link
            for (owner, kind), link in self._links.items()
            for direction in directions
            if owner == name and kind in kinds[direction]
        ]
        if name.startswith("ventilator"):
            others = {
                "to": self.of_kind("registry"),
                "from": [*self.of_kind("registry back"), *filter(None, self._lanes.values())],
            }
        elif name.startswith("sink"):
            others = {"to": self.of_kind("results"), "from": self.of_kind("control")}
        else:
            others = {"to": [], "from": []}
        return own + [link for direction in directions for link in others[direction]]

    def of_kind(self, *kinds: str) -> list[Link]:
        """Return all connections of these kinds, in the order in which they were made."""
        return [link for (_, kind), link in self._links.items() if kind in kinds]

    def remove(self, name: str) -> None:
        """Remove the connections of a dead process."""
        for key in [key for key in self._links if key[0] == name]:
            self._links.pop(key).reset()

    def pick_link(self) -> Link | None:
        links = [*self._links.values(), *(lane for lane in self._lanes.values() if lane)]
        return self._clock.rng.choice(links) if links else None
