"""What lies between the stations of a simulated line: where each thing that a station says goes.

A table of ports; each entry does what the real edge of that port would do, with links instead of sockets. Knows which
ventilator and which sink are there now, and never what they decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clock import Clock
from disk import Disk, Input
from links import Links
from log import Log
from process import Process
from promises import Allowances, Promises
from slots import Slots

from pipeline.words.errands import Called, Connect, Open, Opened, Shut, Unreachable
from pipeline.words.messages import Ack, Bye, Chunk, Kill, Pulse, Welcome
from pipeline.words.station import Caller, Lane, Message, Port, Send

Way = Callable[[Process, Any], None]


class Ways:
    """All ways of one line."""

    ventilator: Process
    sink: Process

    def __init__(self, clock: Clock, log: Log) -> None:
        self.clock, self.log, self.links = clock, log, Links(clock, log)
        self.disk = Disk(clock, log)
        self.input = Input(clock, self.disk)
        self.slots: dict[str, Slots] = {}
        self.allowances, self.promises = Allowances(), Promises(clock.plan, self.disk)
        self.last: Message | None = None
        """What the sink tells at once to who subscribes."""
        self._callers: dict[bytes, str] = {}
        self._ways: dict[Port, Way] = {
            Port.DESK: self._desk,
            Port.LANES: self._lanes,
            Port.RESULTS: self._results,
            Port.CONTROL: self._control,
            Port.SOURCE: self.input.send,
            Port.EXECUTOR: lambda process, word: self.slots[process.name].send(word),
            Port.TOLD: lambda _, notice: self.log.notice(notice),
            **dict.fromkeys((Port.OUTPUT, Port.SPILL, Port.JOURNAL), self.disk.send),
        }

    def route(self, process: Process, send: Send) -> None:
        """A station has said this."""
        match send.to:
            case Caller(peer):
                self._answer(process, peer, send.message)
            case Lane(number):
                self._feed(process, number, send.message)
            case port:
                self._ways[port](process, send.message)

    def call(self, process: Process) -> None:
        """A new connection to the desk, under a new number."""
        peer = b"%d" % self.clock.number()
        self._hang_up(process)
        self._callers[peer] = process.name

        def deliver(word: Message) -> None:
            assert isinstance(word, Pulse | Bye)
            self.ventilator.deliver(Called(peer, word))

        self.links.renew(process.name, "desk", deliver)
        self.links.renew(process.name, "desk back", process.deliver)

    def subscribe(self, process: Process) -> None:
        """A new connection to the sink's broadcast."""
        link = self.links.once(process.name, "control", process.deliver)
        link.connect()
        if self.last and self.sink.is_running:
            link.send(self.last)

    def forget(self, process: Process) -> None:
        """It is dead, and so are its connections; what was under way is lost."""
        process.alive = False
        self.links.forget(process.name)
        self._hang_up(process)

    def _hang_up(self, process: Process) -> None:
        for peer in [peer for peer, name in self._callers.items() if name == process.name]:
            del self._callers[peer]

    def _answer(self, process: Process, peer: bytes, word: Message) -> None:
        name = self._callers.get(peer)
        if isinstance(word, Welcome) and word.lane:
            self.allowances.welcomed(process.name, word.lane, name or "")
        if name is None:
            process.soon(Unreachable(peer))
        else:
            self.links.of(name, "desk back").send(word)

    def _feed(self, process: Process, number: int, word: Message) -> None:
        assert isinstance(word, Chunk)
        self.allowances.check(process.name, word)
        if lane := self.links.lane(f"{process.name}/{number}"):
            lane.send(word)

    def _desk(self, process: Process, word: Connect | Pulse | Bye) -> None:
        if isinstance(word, Connect):
            self.call(process)
            return
        if isinstance(word, Pulse):
            self.allowances.asked(process.name, word)
        self.links.of(process.name, "desk").send(word)

    def _lanes(self, process: Process, word: Open | Shut | Connect) -> None:
        match word:
            case Open(number):
                at = f"{process.name}/{number}"
                self.links.bind(at)
                process.soon(Opened(number, at))
            case Shut(number):
                self.links.shut(f"{process.name}/{number}")
            case Connect(at):
                self.links.attach(at, process.deliver)

    def _results(self, process: Process, word: Message) -> None:
        def deliver(word: Message) -> None:
            self.sink.deliver(word)  # whichever is there by then

        link = self.links.once(process.name, "results", deliver)
        if isinstance(word, Connect):
            link.connect()
        else:
            link.send(word)

    def _control(self, process: Process, word: Connect | Message) -> None:
        if isinstance(word, Connect):
            self.subscribe(process)
            return
        if isinstance(word, Ack | Kill):
            self.last = word
        if isinstance(word, Ack):
            self.promises.check_ack(word)
        for link in self.links.kind("control"):
            if not self.clock.chance("drop", 0.3):
                link.send(word)
