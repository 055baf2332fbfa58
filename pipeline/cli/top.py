"""`pipe top`: a live view of a run.

Invariants:
  - On a terminal, each view replaces the one before and fits the present size; elsewhere, views follow each other.
  - A restarted sink is found again.
  - `q` and Ctrl-C end it with exit code 0. Ctrl-C is handled as a key: an exception could get lost in a library.
  - The terminal is restored at the end. Without one, or in the background, no key is read and no mode is changed.
  - It never changes a run.
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


FINAL_STATES = {"done", "soon", "now"}
SILENCE_SECONDS = 2.0  # after this, a missing status is reported; a sink sends one each second
EMPTY_STATUS = RunStatus("", "", 0, 0, -1, -1, (), ())
HELP = """Show progress, workers and running tasks each second; q ends it.

\b
Examples:
  pipe top
  pipe top --once --name hashes
  pipe top --once --json | jq .eta
"""


def main(settings: Settings, console: UserConsole) -> int:  # noqa: ARG001 -- all commands are called alike
    """Show views until the run is over, or one with --once. Raises PipelineError if no sink answers."""
    from pipeline.runtime import control_client

    endpoint_options = messages.format_endpoint_options(settings)

    def to_text(status: RunStatus) -> str:
        if settings.as_json:
            return json.dumps(to_json(status))
        return status_view.status_text(status, endpoint_options)

    try:
        is_plain = not sys.stdout.isatty() or os.environ.get("TERM") == "dumb"
        if settings.as_json or settings.once or is_plain:
            return _print_each(control_client.watch_status(settings), to_text, once=settings.once)
        return _run_live_view(settings, endpoint_options)
    except KeyboardInterrupt:
        return OK


def is_over(status: RunStatus) -> bool:
    """Return whether no further status will arrive."""
    return status.state in FINAL_STATES and not status.waiting_for


def to_json(status: RunStatus) -> dict[str, Any]:
    """Return a status for scripts: task numbers from 1, seconds, bytes; null if unknown."""
    has_eta = status.tasks_per_second > 0 and status.total >= 0
    return {
        "run": status.run,
        "state": status.state,
        "blocked_on": status.blocked_on,
        "settled": status.settled_count,
        "failed": status.failed_count,
        "retrying": status.retry_count,
        "total": status.total if status.total >= 0 else None,
        "next_in_order": status.next_in_order + 1 if status.next_in_order >= 0 else None,
        "rate": round(status.tasks_per_second, 3),
        "eta": round(status_view.seconds_left(status), 1) if has_eta else None,
        "elapsed": round(status.elapsed_seconds, 1),
        "waiting_for": list(status.waiting_for),
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
    """Print the text of each view below the one before."""
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
    """Return 0 if the sink had reported the end before it was lost. Raises PipelineError if not."""
    if last_status.state in FINAL_STATES:
        return OK
    raise PipelineError("lost the sink, and no new sink has replaced it", "check that the run is still active")


def _run_live_view(settings: Settings, endpoint_options: str) -> int:
    """Show views on the terminal's alternate screen, and print the last one below the earlier output."""
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
    """Return the whole view, cut to the size of the terminal."""
    from rich.text import Text

    lines = [Text(status_view.headline(status), "bold")] if status.run or status.state else []
    if status.run:
        lines.append(Text(status_view.progress_bar(status, console.width - 1)))
        lines[-1].highlight_regex(r"[\d,]+ failed", "red")
        lines.append(Text(f"{format_duration(status.elapsed_seconds)} elapsed"))
    if seconds_since_message > SILENCE_SECONDS:
        lines.append(Text(f"no message from the sink for {seconds_since_message:.0f} s", "red"))
    elif reason := status_view.blocked_text(status, endpoint_options):
        lines.append(Text(reason, "yellow"))
    if status.waiting_for:
        lines.append(Text(messages.waiting_for_text(status)))
    if status.workers:
        rows = status_view.worker_table(status.workers, max(2, console.height - len(lines) - 1))
        lines += [Text(), Text(rows[0], "bold"), *map(Text, rows[1:])]
    for line in lines:
        line.truncate(console.width, overflow="ellipsis")
    return Text("\n").join(lines)


class Keyboard:
    """Keys of this terminal and changes of its size, as files to poll."""

    def __init__(self) -> None:
        self._terminal = -1
        self._previous_mode: list[Any] = []
        self._is_interrupted = False

    def __enter__(self) -> Self:
        """Read keys without echo and without waiting for a newline; let signals wake the poller."""
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._previous_handlers = {
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, _do_nothing),
            signal.SIGINT: signal.signal(signal.SIGINT, self._on_interrupt),
        }
        # in the background, using the terminal would stop this process
        with suppress(OSError, ValueError):
            terminal = sys.stdin.fileno()
            if os.isatty(terminal) and os.tcgetpgrp(terminal) == os.getpgrp():
                self._claim_terminal(terminal)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore terminal and signal handlers."""
        if self._terminal >= 0:
            import termios

            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._previous_mode)
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup_fd)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def file_descriptors(self) -> list[int]:
        """Return the descriptors that are readable after a key or a signal."""
        return [self._read_fd, self._terminal] if self._terminal >= 0 else [self._read_fd]

    def read_keys(self) -> str:
        """Return the keys since the last call, without waiting; `q` for Ctrl-C, or if the terminal is gone."""
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
    """Handle a signal. The wakeup descriptor reports it."""
