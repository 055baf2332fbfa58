"""`pipe top`.

`pipe top`: what a run does now.

Promises: on a terminal one view in place of the other, as large as it is now, elsewhere each below the one before; a
sink that is started again is seen again; `q` and ^C end it with 0, since nothing has gone wrong. Never changes a run.

The keys a person presses while looking on, and the terminal's new size, as things to poll.

Promises: the terminal is as it was afterwards, and without one, or in the background, nothing is read and nothing is
changed. ^C is a key, too: as an exception it could come inside a library, and get lost there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from pipeline.cli import messages, status_view
from pipeline.cli.messages import format_duration
from pipeline.config.settings import Settings
from pipeline.model.errors import OK, PipelineError
from pipeline.model.messages import RunStatus

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from pipeline.cli.terminal import UserConsole


KILLED_STATES = {"done", "soon", "now"}
SILENCE_SECONDS = 2.0
"""Seconds of silence that are worth a word: a sink speaks each second."""
EMPTY_STATUS = RunStatus("", "", 0, 0, -1, -1, (), ())
HELP = """Show progress, workers and what they run, each second; q ends it.

\b
Examples:
  pipe top
  pipe top --once --name hashes
  pipe top --once --json | jq .eta
"""


def main(settings: Settings, console: UserConsole) -> int:  # noqa: ARG001 -- all commands are called alike
    """Show views until the run is over, or one with --once.

    Raises:
        PipelineError: there is no sink, or it has been silent for too long in the middle of a run.
    """
    from pipeline.runtime import control_client

    where = messages.format_endpoint_options(settings)
    try:
        if settings.as_json:
            return _print_each(
                control_client.watch_status(settings), lambda status: json.dumps(to_json(status)), once=settings.once
            )
        if settings.once or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
            views = control_client.watch_status(settings)
            return _print_each(views, lambda status: status_view.status_text(status, where), once=settings.once)
        return _run_live_view(settings, where)
    except KeyboardInterrupt:
        return OK


def is_over(status: RunStatus) -> bool:
    """Whether nothing more will come."""
    return status.state in KILLED_STATES and not status.waiting_for


def to_json(status: RunStatus) -> dict[str, Any]:
    """A status for scripts. Task numbers are from 1, times seconds, memory bytes; null is what is not known."""
    return {
        "run": status.run,
        "state": status.state,
        "why": status.blocked_on,
        "settled": status.settled_count,
        "failed": status.failed_count,
        "retrying": status.retry_count,
        "total": status.total if status.total >= 0 else None,
        "turn": status.next_in_order + 1 if status.next_in_order >= 0 else None,
        "rate": round(status.tasks_per_second, 3),
        "eta": round(status_view.seconds_left(status), 1)
        if status.tasks_per_second > 0 and status.total >= 0
        else None,
        "elapsed": round(status.elapsed_seconds, 1),
        "awaited": list(status.waiting_for),
        "workers": [
            {
                "worker": each.worker,
                "command": each.command,
                "slots": each.slots,
                "running": each.running_count,
                "done": each.done_count,
                "silent": each.seconds_since_message,
                "cpu": round(each.cpu, 2),
                "memory": each.memory,
                "tasks": [
                    {"task": task.task + 1, "slot": task.slot, "seconds": task.seconds, "command": task.command}
                    for task in each.running_tasks
                ],
            }
            for each in status.workers
        ],
    }


def _print_each(views: Iterator[RunStatus | float], to_text: Callable[[RunStatus], str], *, once: bool) -> int:
    """A text for each, one after the other."""
    last = EMPTY_STATUS
    for view in views:
        if isinstance(view, RunStatus):
            last = view
            sys.stdout.write(f"{to_text(view)}\n")
            sys.stdout.flush()
            if once or is_over(view):
                return OK
    return _lost_sink_exit_code(last)


def _lost_sink_exit_code(last_status: RunStatus) -> int:
    """The exit code when the sink has not come back: 0 if it had said the end. Raises PipelineError if not."""
    if last_status.state in KILLED_STATES:
        return OK
    raise PipelineError("the sink was lost, and no other has come in its place; is the run still there?")


def _run_live_view(settings: Settings, endpoint_options: str) -> int:
    """One view in place of the other, on a page of the terminal's own; the last of them stays when that is gone."""
    from rich.console import Console
    from rich.live import Live

    from pipeline.runtime import control_client

    console, last, silent = Console(), EMPTY_STATUS, 0.0
    with Keyboard() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        for view in control_client.watch_status(settings, keys.file_descriptors()):
            silent = view if isinstance(view, float) else 0.0
            last = view if isinstance(view, RunStatus) else last
            live.update(_render(last, endpoint_options, silent, console), refresh=True)
            if is_over(last) or "q" in keys.read_keys():
                break
    if last is not EMPTY_STATUS:
        sys.stdout.write(f"{status_view.status_text(last, endpoint_options)}\n")
        sys.stdout.flush()
    return _lost_sink_exit_code(last) if silent > control_client.LOST_AFTER_SECONDS else OK


def _render(status: RunStatus, endpoint_options: str, seconds_since_message: float, console: Console) -> Text:
    """All of it, as large as the terminal at most."""
    from rich.text import Text

    told = [Text(status_view.headline(status), "bold")] if status.run or status.state else []
    if status.run:
        told.append(Text(status_view.progress_bar(status, console.width - 1)))
        told[-1].highlight_regex(r"[\d,]+ failed", "red")
        told.append(Text(f"{format_duration(status.elapsed_seconds)} elapsed"))
    if seconds_since_message > SILENCE_SECONDS:
        told.append(Text(f"the sink is silent since {seconds_since_message:.0f} s", "red"))
    elif because := status_view.blocked_text(status, endpoint_options):
        told.append(Text(because, "yellow"))
    if status.waiting_for:
        told.append(Text(messages.waiting_for_text(status)))
    if status.workers:
        rows = status_view.worker_table(status.workers, max(2, console.height - len(told) - 1))
        told += [Text(), Text(rows[0], "bold"), *map(Text, rows[1:])]
    for line in told:
        line.truncate(console.width, overflow="ellipsis")
    return Text("\n").join(told)


class Keyboard:
    """The keyboard of this terminal, for as long as this is entered."""

    def __init__(self) -> None:
        self._terminal = -1
        self._previous_mode: list[Any] = []
        self._is_interrupted = False

    def __enter__(self) -> Self:
        """Keys come at once, unseen; a new size wakes whoever polls."""
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._previous_handlers = {
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, _do_nothing),
            signal.SIGINT: signal.signal(signal.SIGINT, self._on_interrupt),
        }
        with suppress(OSError, ValueError):  # not there, or not ours: who is in the background would be stopped
            terminal = sys.stdin.fileno()
            if os.isatty(terminal) and os.tcgetpgrp(terminal) == os.getpgrp():
                self._claim_terminal(terminal)
        return self

    def __exit__(self, *_: object) -> None:
        """Everything as it was before."""
        if self._terminal >= 0:
            import termios

            with suppress(termios.error):  # it has gone
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._previous_mode)
        for number, before in self._previous_handlers.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._previous_wakeup_fd)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def file_descriptors(self) -> list[int]:
        """What is readable when there is something."""
        return [self._read_fd, self._terminal] if self._terminal >= 0 else [self._read_fd]

    def read_keys(self) -> str:
        """The keys since the last call, without waiting; `q` for ^C, and if the terminal has gone."""
        with suppress(BlockingIOError):
            while os.read(self._read_fd, 4096):
                pass
        if self._is_interrupted:
            return "q"
        if self._terminal < 0:
            return ""
        import select

        poll = select.poll()
        poll.register(self._terminal, select.POLLIN)
        if not poll.poll(0):
            return ""
        with suppress(OSError):
            return os.read(self._terminal, 4096).decode(errors="replace") or "q"
        return "q"

    def _on_interrupt(self, *_: object) -> None:
        self._is_interrupted = True

    def _claim_terminal(self, terminal: int) -> None:
        import termios
        import tty

        self._previous_mode = termios.tcgetattr(terminal)
        tty.setcbreak(terminal, termios.TCSANOW)
        self._terminal = terminal


def _do_nothing(*_: object) -> None:
    """Handle a signal: it is in the pipe that is polled."""
