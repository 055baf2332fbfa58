"""A whole simulated line in one process: connections are queues, time is a number, a seed decides the rest.

It promises that the same seed gives the same story, that every wire word goes through the codec, and that connections
behave as libzmq's do: FIFO each, reordered between each other, losing what is under way when they break, sometimes
looking alive and carrying nothing until a new socket is made. The disk loses what was not synced. Safety is checked
after every event; the end is demanded after the last fault.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pipeline.codec import decode, encode
from pipeline.errands import (
    Called,
    Cancel,
    Connect,
    Done,
    Durable,
    End,
    Entry,
    Fetch,
    Keep,
    Kept,
    Open,
    Opened,
    Records,
    Release,
    Returned,
    Shut,
    Spilled,
    Unreachable,
    Want,
    Write,
    Written,
)
from pipeline.ledger import Restored
from pipeline.messages import Ack, Bye, Chunk, Kill, Note, Pulse, Recipe, Result, Run, Status, Stop, Welcome
from pipeline.notices import Missing
from pipeline.ranges import RangeSet, settled_of
from pipeline.records import each
from pipeline.sink import Order, Sink
from pipeline.station import Caller, Lane, Message, Port, Send
from pipeline.ventilator import Feed, Ventilator
from pipeline.voice import Identity
from pipeline.worker import Worker

WIRE = (Pulse, Welcome, Chunk, Result, Run, Ack, Stop, Kill, Status, Bye)
ONE_READ = 3 * 20
"""Bytes that one answer of the source has at most."""
INTERVAL, LIVENESS, PATIENCE = 1.0, 8.0, 300.0


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one seed does: the work, and which faults at which rate a second."""

    seed: int
    tasks: int
    workers: int
    slots: int
    seconds: float
    long: float
    keep_order: bool
    chunk: int | None
    window: int
    slow_input: bool
    delay: float
    faults: dict[str, float]
    calm_after: float = 12.0
    spill_limit: int = 10 << 30


def plan(seed: int) -> Plan:
    """A swarm: every seed draws its own kinds of faults and its own rates."""
    rng = random.Random(seed)
    kinds = ["break", "dead", "drop", "double", "late", "kill worker", "freeze worker", "freeze all"]
    kinds += ["restart ventilator", "restart sink", "leave"]
    chosen = rng.sample(kinds, rng.randint(0, 4))
    return Plan(
        seed=seed,
        tasks=rng.choice([0, 1, 7, 30, 60]),
        workers=rng.randint(1, 3),
        slots=rng.randint(1, 3),
        seconds=rng.choice([0.001, 0.03, 0.3, 0.8]),
        long=rng.choice([0.0, 0.0, 5.0]),
        keep_order=rng.random() < 0.4,
        chunk=rng.choice([None, None, 1, 4]),
        window=rng.choice([64, 1 << 20]),
        slow_input=rng.random() < 0.2,
        delay=rng.choice([0.001, 0.02, 0.3]),
        faults={kind: rng.choice([0.05, 0.2, 0.6]) for kind in chosen},
    )


class Link:
    """One direction of one connection: FIFO, and empty after a break."""

    def __init__(self, line: Line, deliver: Callable[[Message], None]) -> None:
        self.line, self.deliver = line, deliver
        self.generation, self.last = 0, 0.0
        self.is_dead = False
        self.waiting: list[Message] | None = None
        """Kept by the sender's edge while nobody has connected yet; None once somebody has."""

    def send(self, message: Message) -> None:
        if self.waiting is not None:
            self.waiting.append(message)
        elif not self.is_dead:
            self.line.say(message)
            word = decode(encode(message))  # type: ignore[arg-type]
            self._carry(word)
            if self.line.chance("double", 0.1):
                self._carry(word)

    def _carry(self, word: Message) -> None:
        generation = self.generation
        late = 2.0 if self.line.chance("late", 0.05) else 0.0
        at = max(self.last, self.line.now + self.line.plan.delay * self.line.rng.random() + late)
        self.last = at

        def arrive() -> None:
            if generation == self.generation:
                self.deliver(word)

        self.line.at(at, arrive)

    def connect(self) -> None:
        self.is_dead = False
        self.generation += 1
        waiting, self.waiting = self.waiting or [], None
        for message in waiting:
            self.send(message)

    def break_off(self) -> None:
        """What is under way is lost; the next message goes through."""
        self.generation += 1
        self.last = 0.0


@dataclass
class Process:
    """A station and its inbox; killed, it is replaced by another life of the same place."""

    name: str
    station: Ventilator | Worker | Sink
    inbox: deque[Message] = field(default_factory=deque)
    frozen_until: float = 0.0
    alive: bool = True
    woken_at: float = -1.0

    @property
    def is_running(self) -> bool:
        return self.alive and not self.station.done


class Disk:
    """The sink's output and journal: what was not synced is lost with the power, and the output cut back to it."""

    def __init__(self) -> None:
        self.output: list[int] = []
        self.spill: dict[int, Result] = {}
        self.journal: list[tuple[Entry, int]] = []
        self.synced, self.written = 0, 0

    def crash(self) -> Restored:
        del self.journal[self.synced :]
        del self.output[(self.journal[-1][1] if self.journal else 0) :]
        self.written = len(self.output)
        written, spilled = RangeSet(), RangeSet()
        for entry, _ in self.journal:
            (spilled if entry.spilled else written).update(entry.ranges)
        spilled.difference_update(written.ranges())
        self.spill = {first: kept for first, kept in self.spill.items() if first in spilled}
        if not self.journal:
            return Restored()
        last = self.journal[-1][0]
        return Restored(last.run, last.fingerprint, written.ranges(), spilled.ranges(), last.failed, last.total)


class Bench:
    """A worker's executor: `slots` tasks at a time, each as long as its seed says."""

    def __init__(self, line: Line, process: Process) -> None:
        self.line, self.process = line, process
        self.backlog: deque[int] = deque()
        self.running: dict[int, float] = {}

    def send(self, message: Message) -> None:
        match message:
            case Chunk(first=first, count=count, body=body):
                if [int(record) for record in each(body, Recipe())] != list(range(first, first + count)):
                    raise Violation(f"chunk {first}+{count} carries other records")
                self.backlog.extend(range(first, first + count))
            case Release():
                returned, self.backlog = RangeSet((task, task + 1) for task in self.backlog), deque()
                self.line.soon(self.process, Returned(returned.ranges()))
            case Cancel(ranges):
                gone = RangeSet(ranges)
                self.backlog = deque(task for task in self.backlog if task not in gone)
                for task in [task for task in self.running if task in gone]:
                    self.line.busy += self.line.now - self.running.pop(task)
            case _:
                pass
        self.start()

    def start(self) -> None:
        while self.backlog and len(self.running) < self.line.plan.slots:
            task = self.backlog.popleft()
            self.running[task] = self.line.now
            self.line.executions[task] = self.line.executions.get(task, 0) + 1
            seconds = self.line.seconds(task)
            self.line.at(self.line.now + seconds, partial(self.end, task, seconds))

    def end(self, task: int, seconds: float) -> None:
        if self.line.now < self.process.frozen_until:
            self.line.at(self.process.frozen_until, lambda: self.end(task, seconds))
        elif self.process.is_running and task in self.running:
            self.line.busy += self.line.now - self.running.pop(task)
            note = (Note(task, "exit", 1, "odd"),) if task % 7 == 6 else ()
            output = b"%d\n" % task
            done = Done(task, 1, output, len(output).to_bytes(4, "little"), b"", note, seconds)
            self.line.soon(self.process, done)
            self.start()


class Line:
    """Ventilator, workers, sink, and what lies between them."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.rng = plan, random.Random(plan.seed + 1)
        self.now, self.turns = 0.0, 0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.executions: dict[int, int] = {}
        self.said: dict[str, int] = {}
        self.story: deque[tuple[float, str, Send | str]] = deque(maxlen=60)
        self.disk = Disk()
        self.lives = 0
        self.alarms = 0
        """How often a person was told that somebody is missing."""
        self.busy = 0.0
        """Seconds that slots have worked."""
        self.waited = 0.0
        """Seconds until it was written, of all tasks."""
        self.faulty = True
        self.acked = RangeSet()
        self.allowed: dict[tuple[str, int], int] = {}
        """The highest sequence each worker has asked for, by lane; -1: on any lane that it does not know yet."""
        self.lane_of: dict[tuple[str, int], str] = {}
        self.links: dict[tuple[str, str], Link] = {}
        self.peers: dict[bytes, str] = {}
        self.lanes: dict[str, Link] = {}
        self.numbers: dict[int, str] = {}
        self.welcome: Message | None = None
        self.benches: dict[str, Bench] = {}
        self.kinds = {"break": self._break, "dead": self._die, "kill worker": self._kill_worker}
        self.kinds |= {"freeze worker": self._freeze, "freeze all": self._freeze_all, "leave": self._leave}
        self.kinds |= {"restart ventilator": self._restart_ventilator, "restart sink": self._restart_sink}
        self.workers: list[Process] = []
        self.sink = self._new_sink(Restored())
        self.ventilator = self._new_ventilator()
        for _ in range(plan.workers):
            self._new_worker()
        for kind, rate in plan.faults.items():
            if kind in self.kinds:
                self._schedule(kind, rate)
        self.at(plan.calm_after, self._calm)

    # --- time

    def at(self, when: float, act: Callable[[], None]) -> None:
        self.turns += 1
        heapq.heappush(self.events, (when, self.turns, act))

    def soon(self, process: Process, message: Message) -> None:
        self.at(self.now + 0.0001, lambda: self.deliver(process, message))

    def deliver(self, process: Process, message: Message) -> None:
        if process.is_running:
            process.inbox.append(message)
            self.wake(process)

    def wake(self, process: Process) -> None:
        """One turn of the loop: all that has arrived, then the deadline."""
        if not process.is_running or self.now < process.frozen_until:
            return
        station = process.station
        sends: list[Send] = []
        while process.inbox and not station.done:
            sends += station.receive(process.inbox.popleft(), self.now)
        while not station.done and station.deadline <= self.now:
            sends += station.tick(self.now)
            if station.deadline <= self.now and not station.done:
                raise Violation(f"{process.name} asks to be woken at {station.deadline} at {self.now}, again")
        for send in sends:
            self.route(process, send)
        if station.done:
            self.story.append((self.now, process.name, f"ends with {station.outcome} {station.reason}"))
            return
        at = max(station.deadline, self.now + 0.0001)
        if not self.now < process.woken_at <= at:
            process.woken_at = at
            self.at(at, lambda: self._alarm(process, at))

    def _alarm(self, process: Process, at: float) -> None:
        if process.woken_at == at:
            process.woken_at = -1.0
            self.wake(process)

    def run(self) -> Line:
        while self.events:
            self.now, _, act = heapq.heappop(self.events)
            act()
            self.check()
            if not any(self.is_missed(process) for process in self.everybody()):
                break
            if self.now > self.plan.calm_after + 150 + 4 * self.plan.tasks * max(self.plan.seconds, self.plan.delay):
                raise Violation(f"hangs: {self.describe()}")
        self.check_end()
        return self

    def is_missed(self, process: Process) -> bool:
        """Whether the line is not at its end yet for this one; a worker that came too late waits for another run."""
        late = isinstance(process.station, Worker) and not process.station.voice.run
        return process.is_running and not (late and not self.ventilator.is_running and not self.sink.is_running)

    def everybody(self) -> list[Process]:
        return [self.ventilator, self.sink, *self.workers]

    def chance(self, kind: str, of_rate: float) -> bool:
        return self.faulty and kind in self.plan.faults and self.rng.random() < of_rate

    def seconds(self, task: int) -> float:
        return self.plan.long if self.plan.long and task % 13 == 5 else self.plan.seconds

    # --- the ways

    def route(self, process: Process, send: Send) -> None:
        self.story.append((self.now, process.name, send))
        if isinstance(send.message, Missing):
            self.alarms += 1
        if isinstance(process.station, Ventilator):
            self._from_ventilator(process, send)
        elif isinstance(process.station, Worker):
            self._from_worker(process, send)
        else:
            self._from_sink(process, send)

    def say(self, message: Message) -> None:
        kind = type(message).__name__
        self.said[kind] = self.said.get(kind, 0) + 1

    def link(self, name: str, kind: str, deliver: Callable[[Message], None]) -> Link:
        return self.links.setdefault((name, kind), Link(self, deliver))

    def _from_ventilator(self, process: Process, send: Send) -> None:
        match send.to, send.message:
            case Caller(peer), word:
                if isinstance(word, Welcome) and word.lane:
                    self.lane_of[process.name, word.lane] = self.peers.get(peer, "")
                self._call_back(process, peer, word)
            case Lane(number), word:
                assert isinstance(word, Chunk)
                self._check_credit(process, word)
                if lane := self.lanes.get(self.numbers[number]):
                    lane.send(word)
            case Port.LANES, Open(number):
                at = f"{process.name}/{number}"
                self.numbers[number] = at
                lane = self.lanes[at] = Link(self, lambda _: None)
                lane.waiting = []
                self.soon(process, Opened(number, at))
            case Port.LANES, Shut(number):
                if lane := self.lanes.pop(self.numbers[number], None):
                    lane.break_off()
            case Port.SOURCE, Want():
                self._read(process)
            case Port.RESULTS, Connect():
                self._results(process).connect()
            case Port.RESULTS, word:
                self._results(process).send(word)
            case Port.CONTROL, Connect():
                self._subscribe(process)
            case _:
                pass

    def _call_back(self, process: Process, peer: bytes, word: Message) -> None:
        name = self.peers.get(peer)
        if name is None:
            self.soon(process, Unreachable(peer))
        else:
            self.links[name, "desk back"].send(word)

    def _read(self, process: Process) -> None:
        start = self.cursor
        if start >= self.plan.tasks:
            self.soon(process, End(self.plan.tasks))
            return
        count = min(self.rng.randint(1, 20), self.plan.tasks - start)
        self.cursor += count
        body = b"".join(b"%d\n" % task for task in range(start, start + count))
        wait = self.rng.random() * 2 if self.plan.slow_input else 0.0001
        self.at(self.now + wait, lambda: self.deliver(process, Records(start, count, body)))

    def _results(self, process: Process) -> Link:
        return self.link(process.name, "results", lambda word: self.deliver(self.sink, word))

    def _from_worker(self, process: Process, send: Send) -> None:
        match send.to, send.message:
            case Port.DESK, Connect():
                self._call(process)
            case Port.DESK, Pulse() | Bye() as word:
                if isinstance(word, Pulse):
                    for number, allowed in ((word.lane, word.allowed), (-1, word.allowed - word.seen)):
                        self.allowed[process.name, number] = max(allowed, self.allowed.get((process.name, number), 0))
                self.links[process.name, "desk"].send(word)
            case Port.RESULTS, Connect():
                self._results(process).connect()
            case Port.RESULTS, word:
                self._results(process).send(word)
            case Port.CONTROL, Connect():
                self._subscribe(process)
            case Port.LANES, Connect(at):
                if lane := self.lanes.get(at):
                    lane.deliver = partial(self.deliver, process)
                    lane.connect()
            case Port.EXECUTOR, word:
                self.benches[process.name].send(word)
            case _:
                pass

    def _call(self, process: Process) -> None:
        """A new connection to the desk, under a new number."""
        self.lives += 1
        peer = b"%d" % self.lives
        for old in [key for key, name in self.peers.items() if name == process.name]:
            del self.peers[old]
        self.peers[peer] = process.name
        there = self.links[process.name, "desk"] = Link(self, lambda _: None)
        there.deliver = lambda word: self.deliver(self.ventilator, Called(peer, word))  # type: ignore[arg-type]
        self.links[process.name, "desk back"] = Link(self, lambda word: self.deliver(process, word))

    def _subscribe(self, process: Process) -> None:
        link = self.link(process.name, "control", lambda word: self.deliver(process, word))
        link.connect()
        if self.welcome:
            link.send(self.welcome)

    def _from_sink(self, process: Process, send: Send) -> None:
        match send.to, send.message:
            case Port.CONTROL, word:
                if isinstance(word, Ack | Kill):
                    self.welcome = word
                if isinstance(word, Ack):
                    self._check_ack(word)
                for (_, kind), link in list(self.links.items()):
                    if kind == "control" and not self.chance("drop", 0.3):
                        link.send(word)
            case Port.OUTPUT, Write(number, result):
                self.disk.output.extend(int(line) for line in result.output.split())
                length = len(self.disk.output)
                self.waited += self.now * result.count
                self.at(self.now + 0.01 * self.rng.random(), lambda: self._written(process, number, length))
            case Port.SPILL, Keep(number, result):
                self.disk.spill[result.first] = result
                self.soon(process, Spilled(number))
            case Port.SPILL, Fetch(first):
                self.soon(process, Kept(self.disk.spill[first]))
            case Port.JOURNAL, Entry() as entry:
                self.disk.journal.append((entry, self.disk.written))
                self.at(self.now + 0.02, lambda: self._sync(process, entry.number))
            case _:
                pass

    def _written(self, process: Process, number: int, length: int) -> None:
        if process.is_running:
            self.disk.written = max(self.disk.written, length)
            self.deliver(process, Written(number))

    def _sync(self, process: Process, number: int) -> None:
        if process.is_running:
            self.disk.synced = max(
                self.disk.synced,
                1 + max(index for index, (entry, _) in enumerate(self.disk.journal) if entry.number == number),
            )
            self.deliver(process, Durable(number))

    # --- lives

    def _new_sink(self, restored: Restored) -> Process:
        self.lives += 1
        order = Order(self.plan.keep_order, self.plan.spill_limit, INTERVAL, LIVENESS, PATIENCE)
        sink = Sink(order, f"epoch{self.lives}", int(self.now * 1e6), self.now, restored)
        process = Process(f"sink{self.lives}", sink)
        self.at(self.now, lambda: self.wake(process))
        return process

    def _new_ventilator(self) -> Process:
        self.lives += 1
        self.cursor = 0
        feed = Feed(
            f"run{self.lives}",
            "the input",
            Recipe(),
            chunk=self.plan.chunk,
            window=self.plan.window,
            interval=INTERVAL,
            liveness=LIVENESS,
            patience=PATIENCE,
        )
        process = Process(f"ventilator{self.lives}", Ventilator(feed, self.now))
        self._subscribe(process)
        self.at(self.now, lambda: self.wake(process))
        return process

    def _new_worker(self) -> None:
        self.lives += 1
        name = f"worker{self.lives}"
        process = Process(name, Worker(Identity(name, "d", "c", self.plan.slots), self.now, PATIENCE))
        self.workers.append(process)
        self.benches[name] = Bench(self, process)
        self._call(process)
        self._subscribe(process)
        self.at(self.now, lambda: self.wake(process))

    def _forget(self, process: Process) -> None:
        """Its connections die with it; what was under way is lost."""
        process.alive = False
        for name, kind in [key for key in self.links if key[0] == process.name]:
            self.links.pop((name, kind)).break_off()
        for peer in [peer for peer, name in self.peers.items() if name == process.name]:
            del self.peers[peer]

    # --- faults

    def _schedule(self, kind: str, rate: float) -> None:
        def strike() -> None:
            if self.faulty:
                self.story.append((self.now, "FAULT", kind))
                self.kinds[kind]()
                self._schedule(kind, rate)

        self.at(self.now + self.rng.expovariate(rate), strike)

    def _calm(self) -> None:
        """The last fault is over; broken connections stay as they are until somebody repairs them."""
        self.faulty = False
        self.story.append((self.now, "calm", ""))
        for process in self.everybody():
            process.frozen_until = min(process.frozen_until, self.now)
            self.wake(process)
        staying = [worker for worker in self.workers if worker.is_running and not is_leaving(worker.station)]
        if not staying and self.ventilator.is_running:
            self._new_worker()

    def _any_link(self) -> Link | None:
        links = [*self.links.values(), *self.lanes.values()]
        return self.rng.choice(links) if links else None

    def _break(self) -> None:
        if link := self._any_link():
            link.break_off()

    def _die(self) -> None:
        if link := self._any_link():
            link.break_off()
            link.is_dead = True

    def _kill_worker(self) -> None:
        alive = [worker for worker in self.workers if worker.is_running]
        if alive:
            self._forget(self.rng.choice(alive))
            self._new_worker()

    def _leave(self) -> None:
        alive = [worker for worker in self.workers if worker.is_running]
        if len(alive) > 1:
            self.deliver(self.rng.choice(alive), Stop("soon", "^C"))

    def _freeze(self) -> None:
        self._hold(self.rng.choice(self.workers))

    def _freeze_all(self) -> None:
        for worker in self.workers:
            self._hold(worker)

    def _hold(self, process: Process) -> None:
        process.frozen_until = self.now + self.rng.choice([1.0, LIVENESS * 1.5])
        self.at(process.frozen_until, lambda: self.wake(process))

    def _restart_ventilator(self) -> None:
        if not self.ventilator.is_running:
            return
        self._forget(self.ventilator)
        for lane in self.lanes.values():
            lane.break_off()
        self.lanes.clear()
        self.numbers.clear()
        for kind in ("desk", "desk back"):
            for worker in self.workers:
                if worker.is_running:
                    self.links[worker.name, kind].break_off()
        self.ventilator = self._new_ventilator()
        for worker in self.workers:
            if worker.is_running:
                self._call(worker)

    def _restart_sink(self) -> None:
        if not self.sink.is_running:
            return
        self._forget(self.sink)
        for (_, kind), link in self.links.items():
            if kind in ("results", "control"):
                link.break_off()
        self.sink = self._new_sink(self.disk.crash())
        self.welcome = None

    # --- promises

    def _check_ack(self, ack: Ack) -> None:
        safe = RangeSet()
        for entry, _ in self.disk.journal[: self.disk.synced]:
            safe.update(entry.ranges)
        for low, high in settled_of(ack.low, ack.ranges):
            if not safe.covers(low, high):
                raise Violation(f"acked {low}-{high}, which is not on the disk")

    def check(self) -> None:
        """After every event."""
        output = self.disk.output
        if len(output) != getattr(self, "_checked", -1):
            self._checked = len(output)
            if len(set(output)) != len(output):
                raise Violation(f"written twice: {sorted(task for task in output if output.count(task) > 1)}")
            if self.plan.keep_order and output != sorted(output):
                raise Violation(f"out of order: {output}")
        station = self.ventilator.station
        if isinstance(station, Ventilator):
            held = station.feeding.stock.size + station.desk.lanes.size
            if held > self.plan.window + ONE_READ:
                raise Violation(f"the ventilator keeps {held} bytes, its window is {self.plan.window}")

    def _check_credit(self, process: Process, chunk: Chunk) -> None:
        """No lane carries more than its worker has asked for."""
        name = self.lane_of.get((process.name, chunk.lane))
        if not name:
            return  # its worker has called again meanwhile: nobody hears this
        allowed = self.allowed.get((name, chunk.lane), self.allowed.get((name, 0), 0))
        if chunk.sequence > max(allowed, self.allowed.get((name, -1), 0)):
            raise Violation(f"{name} was sent {chunk.sequence} on lane {chunk.lane}, having asked for {allowed}")

    def check_end(self) -> None:
        """Everybody has gone."""
        if sorted(self.disk.output) != list(range(self.plan.tasks)):
            missing = sorted(set(range(self.plan.tasks)) - set(self.disk.output))
            raise Violation(f"never written: {missing}; {self.describe()}")
        failed = sum(1 for task in range(self.plan.tasks) if task % 7 == 6)
        for process in (self.sink, self.ventilator):
            if process.station.outcome != (1 if failed else 0):
                raise Violation(f"{process.name} ended with {process.station.outcome}: {process.station.reason}")

    def told(self) -> list[str]:
        """The last words, to read."""
        return [f"{when:.3f} {who} {what}" for when, who, what in self.story]

    def describe(self) -> str:
        lines = [f"{process.name} {'runs' if process.is_running else 'is over'}" for process in self.everybody()]
        return "; ".join(lines)


def is_leaving(station: Ventilator | Worker | Sink) -> bool:
    """Whether a worker has been asked to go."""
    return isinstance(station, Worker) and station.departure.begun


def sail(seed: int, **changes: Any) -> Line:
    """Run one seed, with these changes to its plan; a violation names the command that replays it."""
    line = Line(replace(plan(seed), **changes))
    try:
        return line.run()
    except Exception as error:
        story = "\n".join(line.told())
        raise Violation(f"{error}\nreplay: scripts/simulate --seed {seed}\n{line.plan}\n{story}") from error
