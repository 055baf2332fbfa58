"""The line as it is built for real: each station with its edges, run in this process until it is done.

Executors and their children are made before the context, since a context does not survive a fork. Whatever happens,
sockets are closed, the context is terminated within its lingers, and locks and ipc files are removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from pipeline.house.machine import keep_heap
from pipeline.house.processes import keeper_fd, kill_descendants
from pipeline.house.signals import Signals
from pipeline.loop import Loop
from pipeline.wire import calling, listening, places
from pipeline.wire.places import Lock, Place, meeting_place
from pipeline.wire.sockets import Sockets
from pipeline.words.errors import INCOMPLETE, OK, TASKS_FAILED, USAGE, outcome
from pipeline.words.notices import Began, Ended
from pipeline.words.parts import Recipe
from pipeline.words.station import Edge, Message, Port, Station
from pipeline.words.structs import replace

if TYPE_CHECKING:
    from pipeline.input.source import Source
    from pipeline.input.spool import Spool
    from pipeline.output.page import Curtain
    from pipeline.sink.sink import Order
    from pipeline.words.settings import Settings
    from pipeline.worker.voice import Identity

Told = Callable[[Message], None]


def ventilate(settings: Settings, told: Told) -> int:
    """Be the ventilator until the sink has settled all tasks; the exit code."""
    from pipeline.house.machine import raise_descriptor_limit
    from pipeline.ventilator.ventilator import Feed, Ventilator

    place = meeting_place(settings)
    spool = _spool(settings)
    source = _source(settings, spool)
    raise_descriptor_limit()
    feed = Feed(
        run=os.urandom(8).hex(),
        fingerprint=source.fingerprint,
        recipe=source.recipe,
        sink_at=place.results,
        control_at=place.control,
        chunk=settings.chunk,
        most=settings.max_task,
        crash_limit=settings.crash_limit,
        window=settings.window,
        interval=settings.interval,
        liveness=settings.liveness,
        patience=settings.patience,
    )
    with _Post("ventilator", place, told) as post:
        own = post.begin(verbose=settings.verbose > 0)
        first, last = (int(port) for port in settings.lane_ports.split("-"))
        stem = place.desk.rpartition(":")[0] if place.is_tcp else f"ipc://{place.folder}"
        ports = range(first, last + 1) if place.is_tcp else None
        edges: dict[Port, Edge] = {Port.SOURCE: post.own(source)}
        edges[Port.RESULTS] = post.own(calling.results(own, place.results))
        edges[Port.CONTROL] = post.own(calling.control(own, place.control))
        edges[Port.LANES] = post.own(listening.LanesOut(own, stem, ports))
        edges[Port.DESK] = post.own(listening.DeskIn(own, place.desk))
        ventilator = Ventilator(feed, time.monotonic())
        code = post.run(ventilator, edges)
        if spool and ventilator.kill and ventilator.kill.mode == "done" and not ventilator.kill.reason:
            spool.remove()
        return code


def _spool(settings: Settings) -> Spool | None:
    """Where what stdin says is kept, if it can't be read twice and a person may want to resume."""
    from pipeline import beside

    if not beside.needs_spool(settings):
        return None
    from pipeline.input.spool import Spool

    return Spool(beside.spool_path(settings), disk=settings.durability == "disk")


def _source(settings: Settings, spool: Spool | None) -> Source:
    from pipeline.input.form import form_of
    from pipeline.input.source import Source

    if settings.from_failed:
        from pipeline.input.lettered import Lettered

        return Source.formed(Lettered(settings.files, spool.first if spool else 0), settings.files, spool=spool)
    form, given = form_of(settings, settings.slots), settings.given
    if len(given) == 1 and given[0].mark == "::::" and len(given[0].words) == 1:
        settings, given = replace(settings, files=given[0].words), ()  # as -a
    plain = form.is_plain and not form.json and form.sources == 1
    if not plain:
        from pipeline.input.forming import Forming

        return Source.formed(Forming(form, given, zero=settings.zero), settings.files, spool=spool)
    arguments = given[0].words if given else None
    return Source(Recipe(zero=settings.zero), settings.files, arguments, settings.block, spool=spool)


def collect(
    settings: Settings, told: Told, errors: Callable[[bytes], None] | None = None, curtain: Curtain | None = None
) -> int:
    """Be the sink until all is written and everybody has gone; the exit code. `errors` shows what tasks complain of."""
    from pipeline.house.machine import raise_descriptor_limit
    from pipeline.safe import Safe
    from pipeline.sink.ledger import Ledger
    from pipeline.sink.sink import Sink

    place = meeting_place(settings)
    raise_descriptor_limit()
    with _Post("sink", place, told) as post:
        own = post.begin(verbose=settings.verbose > 0)
        safe = Safe(settings, errors, curtain)
        edges = {port: post.own(edge) for port, edge in safe.edges.items()}
        ledger = Ledger(safe.journal.facts())
        safe.restore(ledger)
        edges[Port.CONTROL] = post.own(listening.ControlOut(own, place.control))
        edges[Port.RESULTS] = post.own(listening.ResultsIn(own, place.results))
        birth = time.time_ns() // 1000
        sink = Sink(_order(settings), os.urandom(4).hex(), birth, time.monotonic(), ledger, safe.spill.size)
        code = post.run(sink, edges)
        if sink.closing.verdict.is_final:
            safe.finish()
        return code


def conclude(settings: Settings) -> int:
    """Bring in order what a run has left that was done and could not say so; its exit code."""
    from pipeline.safe import Safe
    from pipeline.sink.ledger import Ledger

    safe = Safe(settings, None)
    ledger = Ledger(safe.journal.facts())
    safe.restore(ledger)
    safe.finish()
    for edge in safe.edges.values():
        edge.close()
    return outcome("done", "", ledger.failed)


def _order(settings: Settings) -> Order:
    from pipeline.beside import journal_path
    from pipeline.safe import wants_accounts
    from pipeline.sink.attempts import Retrying
    from pipeline.sink.sink import Order
    from pipeline.sink.speech import Wants

    return Order(
        keep_order=settings.keep_order,
        spill_limit=settings.spill_limit,
        interval=settings.interval,
        liveness=settings.liveness,
        patience=settings.patience,
        journal=journal_path(settings) != "",
        retrying=Retrying(settings.retries, settings.retry_delay, settings.crash_limit),
        halt=settings.halt,
        wants=Wants(wants_accounts(settings), settings.line_buffer, settings.joblog != ""),
    )


def work(settings: Settings, told: Told) -> int:
    """Be a worker until KILL; the exit code. Descendants are left to the keeper, unless it has died."""
    from pipeline.executor import chosen
    from pipeline.house.machine import usable_cpus
    from pipeline.worker.worker import Worker

    place = meeting_place(settings)
    slots = settings.jobs or usable_cpus()
    with _Post("worker", place, told) as post:
        executor = post.own(chosen.executor(settings, slots))
        own = post.begin(verbose=settings.verbose > 0)
        edges = {Port.EXECUTOR: executor}
        edges[Port.LANES] = post.own(calling.lane(own))
        edges[Port.RESULTS] = post.own(calling.results(own))
        edges[Port.CONTROL] = post.own(calling.control(own, place.control))
        edges[Port.DESK] = post.own(calling.desk(own, place.desk))
        return post.run(Worker(_identity(settings, slots), time.monotonic(), settings.patience), edges)


def _identity(settings: Settings, slots: int) -> Identity:
    from hashlib import blake2b  # 5 ms that only a worker spends

    from pipeline.worker.voice import Identity

    # not where they run, or with which variables: workers of one run may differ in that
    what = (settings.command, settings.call, settings.init, settings.stdin)
    shown = (settings.tag, settings.tagstring, settings.dry_run)
    text = settings.call or " ".join(settings.command or ["{}"])
    digest = blake2b(repr((*what, *shown)).encode(errors="backslashreplace"), digest_size=8).hexdigest()
    name = f"{os.uname().nodename}.{os.getpid()}.{os.urandom(3).hex()}"
    return Identity(name, digest, text[:200], slots)


class _Post:
    """What one station's process owns, let go of in the right order."""

    def __init__(self, role: str, place: Place, told: Told) -> None:
        self._role, self._place, self._told = role, place, told
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._signals = self._stack.enter_context(Signals())
        return self

    def begin(self, *, verbose: bool) -> Sockets:
        """Take the lock of the place, sweep what a killed owner left there, make this process's own context."""
        binds = places.BOUND.get(self._role, ())
        if binds and self._place.folder:
            lock = Lock(self._place.folder, self._role)
            self._stack.callback(lock.release)
            for name in binds:
                places.sweep(self._place.folder, name)
        keep_heap()
        own = Sockets()
        self._stack.callback(own.close)
        if verbose:
            self._told(Began(self._role, own.pid, own.name))
        return own

    def own(self, edge: Edge) -> Edge:
        """An edge, closed before everything that was there before it."""
        self._stack.callback(edge.close)
        return edge

    def run(self, station: Station, edges: dict[Port, Edge]) -> int:
        """The loop; why it ended early is told, unless a person asked for it just now, and knows."""
        code = Loop(station, edges, self._signals, keeper_fd(), self._told).run()
        planned = (OK, TASKS_FAILED) if self._role == "sink" else ()  # --halt, which one of them tells of
        if station.reason and code in (USAGE, INCOMPLETE, *planned):
            self._told(Ended(self._role, station.reason))
        return code

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        if keeper_fd() is not None:
            kill_descendants()
