"""What a worker says of itself: pulses, with all that it holds and what more it may be sent.

A pulse leaves at each interval, to desk and sink, and to the desk at once when a slot or a good part of the credit
waits. It is the whole truth of its moment, so that losing one costs an interval and nothing else.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.words.errands import Connect, Done, Returned
from pipeline.words.messages import Ack, Bye, Chunk, Part, Pulse, Result, Welcome
from pipeline.words.parts import Again, Shape
from pipeline.words.station import Port, Send
from pipeline.words.structs import replace
from pipeline.worker.credit import Credit
from pipeline.worker.held import Held

UNSAID = 2 << 20
"""Bytes of chunks that have come, past which that is said: a quarter of what a lane may have under way."""
BUDGET = 64 << 20
"""Bytes of unanswered results past which nothing new is asked for."""


class Identity(Struct, frozen=True):
    """Who a worker is: its name, new at each start; what it runs, as a digest and as text; its slots."""

    name: str
    digest: str
    command: str
    slots: int


class Voice:
    """What a worker says of itself: its pulses, numbered, with what it holds and what more it may be sent."""

    def __init__(self, identity: Identity, held: Held, now: float) -> None:
        self.identity = identity
        self.run, self.lane, self.seen, self.ack, self.number, self.finished = "", 0, 0, 0, 0, 0
        self.interval, self.liveness = 1.0, 10.0
        self.soon, self.next, self._unsaid = True, now, 0
        self._shape: Shape = "line"
        self._held, self._credit, self._told, self._joined = held, Credit(identity.slots), 0, False

    def welcomed(self, welcome: Welcome) -> list[Send]:
        """To a run, and to a lane."""
        self.interval, self.liveness = welcome.interval, welcome.liveness
        if welcome.run != self.run:
            self.run, self.ack, self.lane, self._joined = welcome.run, 0, 0, True
            self._shape = welcome.recipe.shape
        if welcome.lane <= self.lane:
            return []
        self.lane, self.seen, self._told, self.soon = welcome.lane, 0, 0, True
        return [Send(Port.LANES, Connect(welcome.lane_at))]

    def saw(self, chunk: Chunk, now: float) -> bool:
        """A chunk came; False if it is none of this run and lane."""
        if chunk.run != self.run or chunk.lane != self.lane:
            return False
        self.seen = max(self.seen, chunk.sequence)
        self._unsaid += len(chunk.body)
        self.soon = self.soon or self._unsaid >= UNSAID
        self._credit.came(chunk.sequence, chunk.count, now)
        return True

    def meant(self, ack: Ack) -> list[Again]:
        """Take in the number of an Ack; what it asks of this worker."""
        self.ack = ack.number
        return [again for again in ack.again if again.worker == self.identity.name]

    def result(self, done: Done) -> Result:
        """What the sink is told of tasks that have ended."""
        self._credit.finished(done.result.count, done.seconds)
        self.finished += done.result.count
        self.soon = True
        return replace(done.result, run=self.run, worker=self.identity.name, shape=self._shape)

    def part(self, part: Part) -> list[Send]:
        """What the sink is told of a task that still runs; what is lost of it comes with the result."""
        return [Send(Port.RESULTS, part)] if self._held.unfinished.covers(part.task, part.task + 1) else []

    def gave_back(self, returned: Returned) -> list[Send]:
        """The executor has not started these, and the next pulse says so."""
        self._held.give_back(returned.ranges)
        self.soon = True
        return []

    def goodbye(self, *, over: bool) -> list[Send]:
        """The last word, to desk and sink."""
        bye = Bye(self.identity.name, over)
        return [Send(Port.DESK, bye), *([Send(Port.RESULTS, bye)] if self.run else [])]

    def tick(self, now: float, *, asks: bool) -> list[Send]:
        """A pulse at each interval, to desk and sink; and one to the desk when there is something to ask for."""
        self.soon = False
        allowed = self._allowed() if asks else self.seen
        beat = now >= self.next or self._joined
        more, self._joined = allowed - self._told, False
        hungry = more > 0 and (self._held.idle or more >= max(1, self._credit.ahead() // 4))
        # the ventilator counts as under way what it has not heard of as seen, and stops at so many bytes
        arrived = self._unsaid >= UNSAID or (self._unsaid and not self._held.unfinished.tasks)
        if not beat and not hungry and not arrived:
            return []
        self._unsaid = 0
        if more > 0:
            self._credit.told(allowed, now)
        self._told = allowed
        pulse = self._pulse()
        if not beat:
            return [Send(Port.DESK, pulse)]
        self.next = now + self.interval
        return [Send(Port.DESK, pulse), *([Send(Port.RESULTS, pulse)] if self.run else [])]

    def _allowed(self) -> int:
        if self._held.unanswered.size > BUDGET:
            return self.seen
        return self.seen + (self._held.idle if self._held.stuck else self._credit.room(self._held.unfinished.tasks))

    def _pulse(self) -> Pulse:
        self.number += 1
        return Pulse(
            worker=self.identity.name,
            number=self.number,
            run=self.run,
            digest=self.identity.digest,
            command=self.identity.command,
            slots=self.identity.slots,
            lane=self.lane,
            seen=self.seen,
            allowed=self._told,
            holding=self._held.unfinished.ranges(),
            finished=self._held.unanswered.tasks.ranges(),
            ack=self.ack,
            pace=self._credit.pace,
            done=self.finished,
            tried=self._held.tried(),
        )
