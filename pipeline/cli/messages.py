"""Texts of user messages, and formatting of numbers.

Invariants:
  - The same message gives the same text; nothing here prints, or looks at the clock, the terminal or the locale.
  - Texts from the wire are cut down to printable characters.
  - A text begins with `error: ` or `warning: ` if something went wrong, and may end with a line `hint: `.
    `terminal.py` puts `pipe: ` before each.
"""

from __future__ import annotations

from pipeline.config.settings import Settings
from pipeline.model.errors import version_mismatch_text
from pipeline.model.events import (
    BackgroundEnded,
    CallableLoading,
    ContextCreated,
    PeerRejected,
    StationStopped,
    VersionMismatch,
    Waiting,
    WorkerLost,
)
from pipeline.model.messages import RunStatus, StopRequest
from pipeline.model.state_machine import Message

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600

# texts for the start and the end of a wait, by its kind; {} is the detail
_WAITING_TEXTS = {
    "worker": ("no worker connected", "worker connected"),
    "ventilator": ("no ventilator connected", "ventilator connected"),
    "sink": ("no sink connected", "sink connected"),
    "spill": (
        "warning: --spill-limit reached; paused until {} finishes (results are written in order)",
        "spill space available again; next result: {}",
    ),
    "disk": ("warning: {}; paused, will resume when space is available", "disk space available again; resumed"),
}
# the commands that start a missing peer; {} is the endpoint options
_START_COMMANDS = {"worker": "pipe work{} COMMAND", "ventilator": "pipe ventilate{} FILE", "sink": "pipe sink{}"}

UserMessage = (
    Waiting
    | WorkerLost
    | CallableLoading
    | ContextCreated
    | PeerRejected
    | VersionMismatch
    | StationStopped
    | BackgroundEnded
)


def message_text(message: UserMessage, endpoint_options: str | None, heartbeat_timeout: float) -> str:
    """Return the text of a message.

    `endpoint_options` are those with which the user can start a missing peer; None if a launcher starts all peers.
    """
    match message:
        case Waiting(kind, detail, active):
            return waiting_text(kind, sanitize(detail), endpoint_options, active=active)
        case WorkerLost(worker, task_count, is_disconnected):
            silence = "its connection is closed" if is_disconnected else f"no heartbeat for {heartbeat_timeout:g} s"
            tasks = f"requeued {format_count(task_count, 'task')}" if task_count else "it held no tasks"
            return f"warning: lost worker {sanitize(worker)} ({silence}); {tasks}"
        case CallableLoading(call):
            return f"waiting for --call {sanitize(call)} to be imported"
        case ContextCreated(role, pid, context):
            return f"{sanitize(role)} {pid} created ZeroMQ context {sanitize(context)}"
        case PeerRejected(name, reason):
            return f"warning: rejected {sanitize(name)}: {sanitize(reason)}"
        case VersionMismatch(_, version):
            return f"warning: {_sanitize_lines(version_mismatch_text(version))}"
        case BackgroundEnded():
            return _background_text(message)
        case StationStopped(role, reason):
            level = "" if reason.startswith("--halt ") else "error: "  # --halt ends a run as the user wants it
            return f"{level}{sanitize(role)} stopped: {_sanitize_lines(reason)}"


def waiting_text(kind: str, detail: str, endpoint_options: str | None, *, active: bool = True) -> str:
    """Return the text for the start of a wait, or, not `active`, for its end."""
    text = _WAITING_TEXTS[kind][not active].format(detail)
    if not active or kind not in _START_COMMANDS or endpoint_options is None:
        return text
    return f"{text}; start one with `{_START_COMMANDS[kind].format(endpoint_options)}`"


def _background_text(ended: BackgroundEnded) -> str:
    owners = "failed tasks" if ended.is_failed_only else "tasks"
    processes = "process" if ended.count == 1 else "processes"
    text = f"warning: ended {ended.count:,} {processes} that {owners} left in the background"
    first = f"{'the first was' if ended.count > 1 else 'it was'} {ended.pid}, {sanitize(ended.command)}"
    return f"{text}: {first}" + ("" if ended.is_failed_only else "; --keep-background leaves such")


def stopping_text(stop: StopRequest) -> str:
    if stop.mode == "now":
        return "killing running tasks"
    repeat = "press Ctrl-C again" if stop.reason == "^C" else f"send {stop.reason} again"
    return f"stopping after running tasks finish; {repeat} to kill them"


def waiting_for_text(status: RunStatus) -> str:
    return f"waiting for {', '.join(sanitize(name) for name in status.waiting_for)} to disconnect"


def is_informational(message: Message) -> bool:
    """Return whether --quiet hides this message, since nothing went wrong."""
    return isinstance(message, CallableLoading | ContextCreated | StopRequest) or (
        isinstance(message, Waiting) and message.kind in _START_COMMANDS
    )


def format_endpoint_options(settings: Settings) -> str:
    """Return the options that lead to the endpoints of these settings, each after a space."""
    chosen = [("--at", settings.at), ("--registry-at", settings.registry_at), ("--results-at", settings.results_at)]
    chosen.append(("--control-at", settings.control_at))
    words = [f" {flag} {value}" for flag, value in chosen if value]
    if not words and settings.name != Settings().name:
        words.append(f" --name {settings.name}")
    return "".join(words) + (" --insecure" if settings.insecure else "")


def sanitize(text: str) -> str:
    """Return the text as one line of printable characters, so that no text from the wire moves the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _sanitize_lines(text: str) -> str:
    return "\n".join(map(sanitize, text.splitlines()))


def format_memory(size: int) -> str:
    """Return bytes as 12 MB or 1.5 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"  # noqa: PLR2004


def format_duration(seconds: float) -> str:
    """Return seconds as 0.5 s, or 1:02:03."""
    return f"{seconds:.1f} s" if seconds < MINUTE_SECONDS else format_clock(seconds)


def format_clock(seconds: float) -> str:
    """Return seconds as 0:12 or 1:02:03."""
    whole = max(0, round(seconds))
    hours, minutes = whole // HOUR_SECONDS, whole // MINUTE_SECONDS % MINUTE_SECONDS
    return f"{hours}:{minutes:02}:{whole % MINUTE_SECONDS:02}" if hours else f"{minutes}:{whole % MINUTE_SECONDS:02}"


def format_count(number: int, noun: str) -> str:
    """Return `1 task`, or `1,234 tasks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_number(value: float) -> str:
    """Return at least three digits of a positive number: 0.52, 19.2, 1,234."""
    return f"{value:,.{max(0, 3 - len(str(int(value))))}f}"
