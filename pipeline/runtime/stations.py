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

from pipeline.model.errors import INCOMPLETE, OK, TASKS_FAILED, USAGE, run_exit_code
from pipeline.model.events import ContextCreated, StationStopped
from pipeline.model.messages import RecordFormat
from pipeline.model.state_machine import Adapter, Message, Port, StateMachine
from pipeline.model.structs import replace
from pipeline.runtime.event_loop import EventLoop
from pipeline.system.processes import kill_descendants, monitor_fd
from pipeline.system.resources import disable_heap_trim
from pipeline.system.signals import SignalPipe
from pipeline.transport import channels, endpoints
from pipeline.transport.endpoints import EndpointLock, Endpoints, resolve_endpoints
from pipeline.transport.sockets import ZmqContext

if TYPE_CHECKING:
    from pipeline.config.settings import Settings
    from pipeline.input.source import InputSource
    from pipeline.input.stdin_spool import StdinSpool
    from pipeline.output.destinations import ProgressDisplay
    from pipeline.sink.sink import SinkConfig
    from pipeline.worker.heartbeat import WorkerIdentity

Notify = Callable[[Message], None]


def run_ventilator(settings: Settings, notify: Notify) -> int:
    """Be the ventilator until the sink has settled all tasks; the exit code."""
    from pipeline.system.resources import raise_descriptor_limit
    from pipeline.ventilator.ventilator import Ventilator, VentilatorConfig

    place = resolve_endpoints(settings)
    spool = _create_spool(settings)
    source = _create_source(settings, spool)
    raise_descriptor_limit()
    feed = VentilatorConfig(
        run=os.urandom(8).hex(),
        fingerprint=source.fingerprint,
        record_format=source.record_format,
        results_endpoint=place.results,
        control_endpoint=place.control,
        chunk=settings.chunk,
        max_task_bytes=settings.max_task,
        crash_limit=settings.crash_limit,
        window=settings.window,
        heartbeat_interval=settings.heartbeat_interval,
        heartbeat_timeout=settings.heartbeat_timeout,
        peer_timeout=settings.peer_timeout,
    )
    with StationProcess("ventilator", place, notify) as post:
        own = post.acquire(verbose=settings.verbose > 0)
        first, last = (int(port) for port in settings.lane_ports.split("-"))
        stem = place.registry.rpartition(":")[0] if place.is_tcp else f"ipc://{place.folder}"
        ports = range(first, last + 1) if place.is_tcp else None
        edges: dict[Port, Adapter] = {Port.SOURCE: post.register(source)}
        edges[Port.RESULTS] = post.register(channels.connect_results(own, place.results))
        edges[Port.CONTROL] = post.register(channels.connect_control(own, place.control))
        edges[Port.LANES] = post.register(channels.LaneChannels(own, stem, ports))
        edges[Port.REGISTRY] = post.register(channels.RegistryChannel(own, place.registry))
        ventilator = Ventilator(feed, time.monotonic())
        code = post.run(ventilator, edges)
        if spool and ventilator.kill and ventilator.kill.mode == "done" and not ventilator.kill.reason:
            spool.remove()
        return code


def _create_spool(settings: Settings) -> StdinSpool | None:
    """Where what stdin says is kept, if it can't be read twice and a person may want to resume."""
    from pipeline.runtime import run_files

    if not run_files.needs_spool(settings):
        return None
    from pipeline.input.stdin_spool import StdinSpool

    return StdinSpool(run_files.spool_path(settings), fsync=settings.durability == "disk")


def _create_source(settings: Settings, spool: StdinSpool | None) -> InputSource:
    from pipeline.input.source import InputSource
    from pipeline.input.task_format import format_from_settings

    if settings.from_failed:
        from pipeline.input.dead_letters import DeadLetterReader

        return InputSource.with_format(
            DeadLetterReader(settings.files, spool.first if spool else 0), settings.files, spool=spool
        )
    form, given = format_from_settings(settings, settings.slots), settings.argument_sources
    if len(given) == 1 and given[0].separator == "::::" and len(given[0].arguments) == 1:
        settings, given = replace(settings, files=given[0].arguments), ()  # as -a
    plain = form.is_line_per_task and not form.json and form.source_count == 1
    if not plain:
        from pipeline.input.task_format import TaskFormatter

        return InputSource.with_format(TaskFormatter(form, given, zero=settings.zero), settings.files, spool=spool)
    arguments = given[0].arguments if given else None
    return InputSource(RecordFormat(zero=settings.zero), settings.files, arguments, settings.block, spool=spool)


def run_sink(
    settings: Settings,
    notify: Notify,
    show_stderr: Callable[[bytes], None] | None = None,
    display: ProgressDisplay | None = None,
) -> int:
    """Be the sink until all is written and everybody has gone; the exit code. `errors` shows what tasks complain of."""
    from pipeline.runtime.run_files import RunFiles
    from pipeline.sink.ledger import Ledger
    from pipeline.sink.sink import Sink
    from pipeline.system.resources import raise_descriptor_limit

    place = resolve_endpoints(settings)
    raise_descriptor_limit()
    with StationProcess("sink", place, notify) as post:
        own = post.acquire(verbose=settings.verbose > 0)
        safe = RunFiles(settings, show_stderr, display)
        edges = {port: post.register(edge) for port, edge in safe.adapters.items()}
        ledger = Ledger(safe.journal.read_events())
        safe.restore(ledger)
        edges[Port.CONTROL] = post.register(channels.ControlPublisher(own, place.control))
        edges[Port.RESULTS] = post.register(channels.ResultsChannel(own, place.results))
        birth = time.time_ns() // 1000
        sink = Sink(
            _create_sink_config(settings), os.urandom(4).hex(), birth, time.monotonic(), ledger, safe.spill.size
        )
        code = post.run(sink, edges)
        if sink.shutdown.is_final:
            safe.finish()
        return code


def finalize_run(settings: Settings) -> int:
    """Bring in order what a run has left that was done and could not say so; its exit code."""
    from pipeline.runtime.run_files import RunFiles
    from pipeline.sink.ledger import Ledger

    safe = RunFiles(settings, None)
    ledger = Ledger(safe.journal.read_events())
    safe.restore(ledger)
    safe.finish()
    for edge in safe.adapters.values():
        edge.close()
    return run_exit_code("done", "", ledger.failed_count)


def _create_sink_config(settings: Settings) -> SinkConfig:
    from pipeline.runtime.run_files import journal_path, needs_metrics
    from pipeline.sink.broadcast import ReportOptions
    from pipeline.sink.retries import RetryPolicy
    from pipeline.sink.sink import SinkConfig

    return SinkConfig(
        keep_order=settings.keep_order,
        spill_limit=settings.spill_limit,
        heartbeat_interval=settings.heartbeat_interval,
        heartbeat_timeout=settings.heartbeat_timeout,
        peer_timeout=settings.peer_timeout,
        has_journal=journal_path(settings) != "",
        retry_policy=RetryPolicy(settings.retries, settings.retry_delay, settings.crash_limit),
        halt_condition=settings.halt,
        report_options=ReportOptions(needs_metrics(settings), settings.line_buffer, settings.joblog != ""),
    )


def run_worker(settings: Settings, notify: Notify) -> int:
    """Be a worker until KILL; the exit code. Descendants are left to the keeper, unless it has died."""
    from pipeline.executor import factory
    from pipeline.system.resources import usable_cpus
    from pipeline.worker.worker import Worker

    place = resolve_endpoints(settings)
    slots = settings.jobs or usable_cpus()
    with StationProcess("worker", place, notify) as post:
        executor = post.register(factory.create_executor(settings, slots))
        own = post.acquire(verbose=settings.verbose > 0)
        edges = {Port.EXECUTOR: executor}
        edges[Port.LANES] = post.register(channels.connect_lane(own))
        edges[Port.RESULTS] = post.register(channels.connect_results(own))
        edges[Port.CONTROL] = post.register(channels.connect_control(own, place.control))
        edges[Port.REGISTRY] = post.register(channels.connect_registry(own, place.registry))
        return post.run(Worker(_create_identity(settings, slots), time.monotonic(), settings.peer_timeout), edges)


def _create_identity(settings: Settings, slots: int) -> WorkerIdentity:
    from hashlib import blake2b  # 5 ms that only a worker spends

    from pipeline.worker.heartbeat import WorkerIdentity

    # not where they run, or with which variables: workers of one run may differ in that
    what = (settings.command, settings.call, settings.init, settings.stdin)
    shown = (settings.tag, settings.tagstring, settings.dry_run)
    text = settings.call or " ".join(settings.command or ["{}"])
    digest = blake2b(repr((*what, *shown)).encode(errors="backslashreplace"), digest_size=8).hexdigest()
    name = f"{os.uname().nodename}.{os.getpid()}.{os.urandom(3).hex()}"
    return WorkerIdentity(name, digest, text[:200], slots)


class StationProcess:
    """What one station's process owns, let go of in the right order."""

    def __init__(self, role: str, endpoints: Endpoints, notify: Notify) -> None:
        self._role, self._endpoints, self._notify = role, endpoints, notify
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._signals = self._stack.enter_context(SignalPipe())
        return self

    def acquire(self, *, verbose: bool) -> ZmqContext:
        """Take the lock of the place, sweep what a killed owner left there, make this process's own context."""
        binds = endpoints.SOCKET_PREFIXES.get(self._role, ())
        if binds and self._endpoints.folder:
            lock = EndpointLock(self._endpoints.folder, self._role)
            self._stack.callback(lock.release)
            for name in binds:
                endpoints.remove_stale_sockets(self._endpoints.folder, name)
        disable_heap_trim()
        own = ZmqContext()
        self._stack.callback(own.close)
        if verbose:
            self._notify(ContextCreated(self._role, own.pid, own.name))
        return own

    def register(self, adapter: Adapter) -> Adapter:
        """An edge, closed before everything that was there before it."""
        self._stack.callback(adapter.close)
        return adapter

    def run(self, machine: StateMachine, adapters: dict[Port, Adapter]) -> int:
        """The loop; why it ended early is told, unless a person asked for it just now, and knows."""
        code = EventLoop(machine, adapters, self._signals, monitor_fd(), self._notify).run()
        planned = (OK, TASKS_FAILED) if self._role == "sink" else ()  # --halt, which one of them tells of
        if machine.stop_reason and code in (USAGE, INCOMPLETE, *planned):
            self._notify(StationStopped(self._role, machine.stop_reason))
        return code

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        if monitor_fd() is not None:
            kill_descendants()
