"""Assembly of each station: state machine, adapters and event loop, run in this process until it is done.

- Executors and their child processes are created before the ZeroMQ context, which does not survive a fork.
- Whatever happens, sockets are closed, the context is terminated within its lingers, and locks and ipc files are
  removed.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from pipeline.model.errors import INCOMPLETE, OK, PIPE_KILL_REASON, TASKS_FAILED, USAGE, run_exit_code
from pipeline.model.events import ContextCreated, StationStopped
from pipeline.model.messages import RecordFormat
from pipeline.model.state_machine import Adapter, Message, Port, StateMachine
from pipeline.model.structs import replace
from pipeline.runtime.event_loop import EventLoop
from pipeline.system.digests import blake2b
from pipeline.system.processes import kill_descendants, monitor_fd
from pipeline.system.resources import disable_heap_trim, raise_descriptor_limit
from pipeline.system.signals import SignalPipe
from pipeline.transport import channels
from pipeline.transport.endpoints import (
    SOCKET_PREFIXES,
    EndpointLock,
    Endpoints,
    remove_stale_sockets,
    resolve_endpoints,
)
from pipeline.transport.sockets import ZmqContext

if TYPE_CHECKING:
    from pipeline.config.settings import Settings
    from pipeline.input.source import InputSource
    from pipeline.input.stdin_spool import StdinSpool
    from pipeline.model.records import PackingLimit
    from pipeline.output.destinations import ProgressDisplay
    from pipeline.runtime.file_conflicts import RunFile
    from pipeline.sink.sink import SinkConfig
    from pipeline.worker.heartbeat import WorkerIdentity

Notify = Callable[[Message], None]


def run_ventilator(settings: Settings, notify: Notify) -> int:
    """Run the ventilator until the sink has settled all tasks; return the exit code."""
    from pipeline.runtime.file_conflicts import input_files
    from pipeline.ventilator.ventilator import Ventilator, VentilatorConfig

    endpoints = resolve_endpoints(settings)
    spool = _create_spool(settings)
    source = _create_source(settings, spool)
    source.check_encodings()
    config = VentilatorConfig(
        run=os.urandom(8).hex(),
        fingerprint=source.fingerprint,
        record_format=source.record_format,
        results_endpoint=endpoints.results,
        control_endpoint=endpoints.control,
        chunk=settings.chunk,
        max_task_bytes=settings.max_task,
        crash_limit=settings.crash_limit,
        window=settings.window,
        heartbeat_interval=settings.heartbeat_interval,
        heartbeat_timeout=settings.heartbeat_timeout,
        peer_timeout=settings.peer_timeout,
    )
    with StationProcess("ventilator", endpoints, notify) as process:
        context = process.acquire(verbose=settings.verbose > 0)
        process.mark_files(input_files(settings), raise_descriptor_limit() // 2)
        first, last = (int(port) for port in settings.lane_ports.split("-"))
        lane_prefix = endpoints.registry.rpartition(":")[0] if endpoints.is_tcp else f"ipc://{endpoints.folder}"
        ports = range(first, last + 1) if endpoints.is_tcp else None
        adapters: dict[Port, Adapter] = {Port.SOURCE: process.register(source)}
        adapters[Port.RESULTS] = process.register(channels.connect_results(context, endpoints.results))
        adapters[Port.CONTROL] = process.register(channels.connect_control(context, endpoints.control))
        adapters[Port.LANES] = process.register(channels.LaneChannels(context, lane_prefix, ports))
        adapters[Port.REGISTRY] = process.register(channels.RegistryChannel(context, endpoints.registry))
        ventilator = Ventilator(config, time.monotonic())
        # in a `pipe run`, the sink that has sent the Kill reports its reason
        code = process.run(ventilator, adapters, is_reported=lambda: bool(ventilator.kill and monitor_fd() is not None))
        if spool and ventilator.kill and ventilator.kill.mode == "done" and not ventilator.kill.reason:
            spool.remove()
        return code


def _create_spool(settings: Settings) -> StdinSpool | None:
    """Create the copy of a stdin that cannot be read twice, if the run can be resumed."""
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
    task_format, sources = format_from_settings(settings, settings.slots), settings.argument_sources
    if len(sources) == 1 and sources[0].separator == "::::" and len(sources[0].arguments) == 1:
        settings, sources = replace(settings, files=sources[0].arguments), ()  # the same as -a FILE
    is_plain = task_format.is_line_per_task and not task_format.json and task_format.source_count == 1
    if not is_plain:
        from pipeline.input.task_format import TaskFormatter

        packing_limit, is_resumed = _packing_limit(settings) if settings.packed else None, bool(spool and spool.first)
        formatter = TaskFormatter(task_format, sources, packing_limit, zero=settings.zero, is_resumed=is_resumed)
        return InputSource.with_format(formatter, settings.files, spool=spool)
    arguments = sources[0].arguments if sources else None
    return InputSource(RecordFormat(zero=settings.zero), settings.files, arguments, settings.block, spool=spool)


def _packing_limit(settings: Settings) -> PackingLimit:
    """Return how much fits a command of -X, in the environment of the tasks. Only `pipe run` knows the command here."""
    from pipeline.executor.command_size import limit_command

    variables = (os.fsencode(variable).partition(b"=") for variable in settings.env)
    environment = {**os.environb, **{name: value for name, equals, value in variables if equals}}
    return limit_command(settings.command, environment, is_appended=not settings.stdin)


def run_sink(
    settings: Settings,
    notify: Notify,
    show_stderr: Callable[[bytes], None] | None = None,
    display: ProgressDisplay | None = None,
    *,
    is_replacement: bool = False,
) -> int:
    """Run the sink until all is written and all stations have exited; return the exit code.

    `show_stderr` shows what tasks write to stderr. A sink that replaces one which had ended the run early, and was
    killed just before it exited, has nothing left to do.
    """
    from pipeline.runtime.file_conflicts import output_files
    from pipeline.runtime.run_files import RunFiles
    from pipeline.sink.ledger import Ledger
    from pipeline.sink.sink import Sink

    endpoints = resolve_endpoints(settings)
    with StationProcess("sink", endpoints, notify) as process:
        context = process.acquire(verbose=settings.verbose > 0)
        process.mark_files(output_files(settings), raise_descriptor_limit() // 2)
        files = RunFiles(settings, show_stderr, display)
        process.on_exit(files.close)
        adapters = {**files.adapters}
        ledger = Ledger(files.journal.read_events())
        files.restore(ledger)
        if is_replacement and ledger.suspended_exit_code is not None:
            return ledger.suspended_exit_code
        adapters[Port.CONTROL] = process.register(channels.ControlPublisher(context, endpoints.control))
        adapters[Port.RESULTS] = process.register(channels.ResultsChannel(context, endpoints.results))
        config, epoch, first_number = _create_sink_config(settings), os.urandom(4).hex(), time.time_ns() // 1000
        sink = Sink(config, epoch, first_number, time.monotonic(), ledger, files.spill.size)
        code = process.run(sink, adapters)
        if sink.shutdown.is_final:
            files.finish()
        return code


def finalize_run(settings: Settings) -> int:
    """Finish the files of a run that was complete when its sink died; return its exit code."""
    from pipeline.runtime.run_files import RunFiles
    from pipeline.sink.ledger import Ledger

    files = RunFiles(settings, None)
    ledger = Ledger(files.journal.read_events())
    files.restore(ledger)
    files.finish()
    files.close()
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
    """Run a worker until Kill; return the exit code. The monitoring process, if it is alive, kills descendants."""
    from pipeline.executor import factory
    from pipeline.system.resources import usable_cpus
    from pipeline.worker.worker import Worker

    endpoints = resolve_endpoints(settings)
    slots = settings.jobs or usable_cpus()
    with StationProcess("worker", endpoints, notify) as process:
        executor = process.register(factory.create_executor(settings, slots))
        context = process.acquire(verbose=settings.verbose > 0)
        adapters = {Port.EXECUTOR: executor}
        adapters[Port.LANES] = process.register(channels.connect_lane(context))
        adapters[Port.RESULTS] = process.register(channels.connect_results(context))
        adapters[Port.CONTROL] = process.register(channels.connect_control(context, endpoints.control))
        adapters[Port.REGISTRY] = process.register(channels.connect_registry(context, endpoints.registry))
        worker = Worker(_create_identity(settings, slots), time.monotonic(), settings.peer_timeout)
        code = process.run(worker, adapters)
        if not settings.call and not settings.dry_run:
            process.end_background(executor, keep=settings.keep_background and code == OK)
        return code


def _create_identity(settings: Settings, slots: int) -> WorkerIdentity:
    from pipeline.worker.heartbeat import WorkerIdentity

    # only options that determine the output: workers of one run may differ in directory and environment
    identity = (settings.command, settings.call, settings.init, settings.stdin)
    presentation = (settings.tag, settings.tagstring, settings.dry_run)
    text = settings.call or " ".join(settings.command or ["{}"])
    digest = blake2b(repr((*identity, *presentation)).encode(errors="backslashreplace"), digest_size=8).hexdigest()
    name = f"{os.uname().nodename}.{os.getpid()}.{os.urandom(3).hex()}"
    return WorkerIdentity(name, digest, text[:200], slots)


class StationProcess:
    """Resources of a station's process, released in reverse order."""

    def __init__(self, role: str, endpoints: Endpoints, notify: Notify) -> None:
        self._role, self._endpoints, self._notify = role, endpoints, notify
        self._stack, self._keeps_background = ExitStack(), False

    def __enter__(self) -> Self:
        self._signals = self._stack.enter_context(SignalPipe())
        return self

    def acquire(self, *, verbose: bool) -> ZmqContext:
        """Lock the station's endpoints, remove stale sockets, and create the ZeroMQ context."""
        prefixes = SOCKET_PREFIXES.get(self._role, ())
        if prefixes and self._endpoints.folder:
            lock = EndpointLock(self._endpoints.folder, self._role)
            self._stack.callback(lock.release)
            for prefix in prefixes:
                remove_stale_sockets(self._endpoints.folder, prefix)
        disable_heap_trim()
        context = ZmqContext()
        self._stack.callback(context.close)
        if verbose:
            self._notify(ContextCreated(self._role, context.pid, context.name))
        return context

    def register(self, adapter: Adapter) -> Adapter:
        """Close the adapter on exit, before everything registered earlier."""
        self.on_exit(adapter.close)
        return adapter

    def on_exit(self, close: Callable[[], None]) -> None:
        """Call `close` on exit, before everything registered earlier."""
        self._stack.callback(close)

    def mark_files(self, files: Sequence[RunFile], max_count: int) -> None:
        """Mark the station's files, at most `max_count`. Raises UsageError for one that the other station uses."""
        from pipeline.runtime.file_conflicts import FileMarks

        marks = FileMarks(self._endpoints.results, self._role)
        self.on_exit(marks.close)
        marks.add(files, max_count)

    def run(
        self, machine: StateMachine, adapters: dict[Port, Adapter], is_reported: Callable[[], bool] = lambda: False
    ) -> int:
        """Run the event loop. Notify the user why it ended early, unless the user requested it or it `is_reported`."""
        gc.freeze()  # imports leave no garbage, and a look for some takes 1 ms and copies pages of the launcher
        gc.enable()
        code = EventLoop(machine, adapters, self._signals, monitor_fd(), self._notify).run()
        halt_codes = (OK, TASKS_FAILED) if self._role == "sink" else ()  # after --halt, only the sink says so
        is_asked_elsewhere = machine.stop_reason == PIPE_KILL_REASON and code != OK
        is_early = machine.stop_reason and (is_asked_elsewhere or code in (USAGE, INCOMPLETE, *halt_codes))
        if is_early and not is_reported():
            self._notify(StationStopped(self._role, machine.stop_reason))
        return code

    def end_background(self, executor: Adapter, *, keep: bool) -> None:
        """End what tasks have left in the background, with `keep` only what failed ones have, and notify the user."""
        from pipeline.executor.command_executor import CommandExecutor

        if monitor_fd() is not None and isinstance(executor, CommandExecutor):
            if ended := executor.end_background(keep=keep):
                self._notify(ended)
            self._keeps_background = keep

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        if monitor_fd() is not None and not self._keeps_background:
            kill_descendants()
