"""What a person reads about a run: lines and tables as strings.

Pure: the same words give the same text. Promises: one fact has one sentence, and what came over the wire is cut
down to printable characters. Never prints, never asks the time or the terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.words.errands import Foreign
from pipeline.words.errors import foreign
from pipeline.words.messages import Glance, Status, Stop
from pipeline.words.notices import Began, Ended, Full, Lost, Missing, Preparing, Present, Refused, Stuck
from pipeline.words.parts import Member
from pipeline.words.settings import Settings

MINUTE = 60
HOUR = 3600
LONG = 10 * MINUTE

_ROLES = {
    "worker": ("no worker has checked in", "pipe work{} COMMAND", "a worker has checked in"),
    "ventilator": ("no ventilator has come", "pipe ventilate{} FILE", "the ventilator is here"),
    "sink": ("no sink has answered", "pipe sink{}", "the sink is here"),
}

Sentence = Missing | Present | Lost | Full | Stuck | Preparing | Refused | Foreign | Began | Ended


def place(settings: Settings) -> str:
    """The options that lead to where these settings meet, with a space before each; empty for the default."""
    chosen = [("--at", settings.at), ("--desk", settings.desk), ("--results-at", settings.results)]
    chosen.append(("--control-at", settings.control))
    words = [f" {flag} {value}" for flag, value in chosen if value]
    if not words and settings.name != Settings().name:
        words.append(f" --name {settings.name}")
    return "".join(words) + (" --insecure" if settings.insecure else "")


def sentence(told: Sentence, where: str | None) -> str:
    """What is told, for a person; `where` is the place that stations started now must be given, None: start none."""
    if isinstance(told, Missing):
        lack, start, _ = _ROLES[told.who]
        return lack if where is None else f"{lack}; start one with `{start.format(where)}`"
    return SENTENCES[type(told)](told)


def _lost(lost: Lost) -> str:
    go = "goes" if lost.tasks == 1 else "go"
    back = f"{counted(lost.tasks, 'task')} of its own {go} out again" if lost.tasks else "it held no task"
    return f"worker {plain(lost.worker)} fell silent; {back}"


def _full(full: Full) -> str:
    task = f"task {full.turn + 1:,}"
    if full.full:
        return f"--spill-limit is reached: nothing new starts until {task} has ended, whose result all others wait for"
    return f"there is room again; {task} is next"


def _stuck(stuck: Stuck) -> str:
    if stuck.reason:
        return f"{plain(stuck.reason)}: waiting for room, and going on by itself when there is some"
    return "there is room on the disk again"


SENTENCES: dict[type, Callable[[Any], str]] = {
    Present: lambda told: _ROLES[told.who][2],
    Lost: _lost,
    Full: _full,
    Stuck: _stuck,
    Preparing: lambda told: f"no task runs yet: --call {plain(told.call)} is still being imported",
    Refused: lambda told: f"{plain(told.name)} was turned away: {plain(told.reason)}",
    Foreign: lambda told: plain(foreign(told.version)),
    Began: lambda told: f"{plain(told.role)} {told.pid} has a context of its own, {plain(told.context)}",
    Ended: lambda told: f"the {plain(told.role)} ends: " + "\n".join(map(plain, told.reason.splitlines())),
}


def stopping(stop: Stop) -> str:
    """What a person is told who asked this process to stop."""
    return "stopping: running tasks finish, once more to kill them" if stop.mode == "soon" else "killing what runs"


def progress(status: Status) -> str:
    """One line while a run goes on."""
    of = f" of {status.total:,}" if status.total >= 0 else ""
    parts = [f"{status.settled:,}{of} done"]
    parts += [f"{status.failed:,} failed"] if status.failed else []
    parts += [f"{status.retrying:,} to be tried again"] if status.retrying else []
    if status.rate > 0:
        parts.append(f"{figure(status.rate)}/s")
        if status.total >= 0:
            parts.append(f"{clock(left(status))} left")
    return ", ".join(parts)


def left(status: Status) -> float:
    """Seconds to the end, at the present rate; 0 while that is unknown."""
    return (status.total - status.settled) / status.rate if status.rate > 0 and status.total >= 0 else 0.0


def bar(status: Status, width: int) -> str:
    """The same with a bar before it, in at most so many columns."""
    text = progress(status)
    if status.total <= 0:
        return text[:width]
    part = status.settled / status.total
    columns = min(30, width - len(text) - 8)
    if columns < 4:  # noqa: PLR2004 -- no bar worth the name
        return f"{part:4.0%} {text}"[:width]
    done = int(part * columns)
    return f"[{'#' * done}{'.' * (columns - done)}]{part:5.0%} {text}"


def summary(status: Status, elapsed: float) -> str:
    """The last line of a run; `elapsed` in seconds."""
    of = f" of {status.total:,}" if status.total > status.settled else ""
    unit = "task" if max(status.settled, status.total) == 1 else "tasks"
    rate = status.settled / elapsed if elapsed > 0 else 0.0
    took = f"{elapsed:.1f} s" if elapsed < LONG else clock(elapsed)
    return f"{status.settled:,}{of} {unit}, {status.failed:,} failed, {took}, {figure(rate)} tasks/s"


def overview(status: Status, where: str | None = None) -> str:
    """The whole status as text, lines without a last newline; `where` as in `sentence`."""
    lines = [headline(status)]
    if because := reason(status, where):
        lines.append(because)
    if status.turn >= 0:
        lines.append(f"order waits for task {status.turn + 1:,}")
    if status.awaited:
        lines.append(goodbyes(status))
    if status.members:
        lines += ["", *_table(status.members), *running(status.members)]
    return "\n".join(lines)


def headline(status: Status) -> str:
    """Which run it is, and how far."""
    if not status.run:
        return "no run yet"
    return f"run {plain(status.run)}, {plain(status.state)}: {progress(status)}"


def reason(status: Status, where: str | None) -> str:
    """Why nothing runs, and what to do; empty if something does."""
    here = "" if where is None else where
    return {
        "": "",
        "ventilator": f"nobody reads tasks; start `pipe ventilate{here} FILE`",
        "worker": f"no worker has checked in; start one with `pipe work{here} COMMAND`",
        "slots": f"all {counted(sum(each.slots for each in status.members), 'slot')} are busy",
        "output": "the output takes nothing: its reader is slow, or the disk is full",
        "spill": f"--spill-limit is reached: all wait for task {status.turn + 1:,} to end",
        "input": "the input has said nothing more",
        "turn": f"nothing runs: order waits for task {status.turn + 1:,}",
    }.get(status.why, plain(status.why))


def running(members: tuple[Member, ...]) -> list[str]:
    """A line for each running task, the longest first."""
    tasks = sorted((task for each in members for task in each.doing), key=lambda task: -task.seconds)
    return [f"  task {task.task + 1:,}, {took(task.seconds)}: {plain(task.command)}" for task in tasks]


def glance(seen: Glance) -> str:
    """What one worker runs now."""
    used = f"{seen.cpu:.1f} CPUs, {memory(seen.memory)}, {counted(len(seen.doing), 'task')} running"
    head = f"worker {plain(seen.worker)}: {used}"
    member = Member(seen.worker, "", 0, 0, 0, 0.0, seen.cpu, seen.memory, seen.doing)
    return "\n".join([head, *running((member,))])


def goodbyes(status: Status) -> str:
    """Whose goodbye is missing."""
    return f"waiting for the goodbye of {', '.join(plain(name) for name in status.awaited)}"


def _table(members: tuple[Member, ...]) -> list[str]:
    """A line for each worker, below a heading."""
    wide = max(len("WORKER"), *(len(plain(each.worker)) for each in members))
    lines = [f"{'WORKER':<{wide}}  SLOTS  RUNNING         DONE   CPU    MEMORY  SILENT  COMMAND"]
    for each in members:
        busy = f"{each.slots:>5}  {each.running:>7}  {each.done:>11,}  {each.cpu:>4.1f}  {memory(each.memory):>8}"
        lines.append(f"{plain(each.worker):<{wide}}  {busy}  {each.silent:>4.1f} s  {plain(each.command)}")
    return lines


def memory(size: int) -> str:
    """Bytes as 12 MB or 1.5 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"  # noqa: PLR2004


def took(duration: float) -> str:
    """Seconds as 0.5 s, or 1:02:03."""
    return f"{duration:.1f} s" if duration < MINUTE else clock(duration)


def counted(number: int, noun: str) -> str:
    """`1 task`, `1,234 tasks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def figure(value: float) -> str:
    """Three digits or more of a positive number: 0.52, 19.2, 1,234."""
    return f"{value:,.{max(0, 3 - len(str(int(value))))}f}"


def clock(duration: float) -> str:
    """Seconds as 0:12 or 1:02:03."""
    whole = max(0, round(duration))
    hours, minutes = whole // HOUR, whole // MINUTE % MINUTE
    return f"{hours}:{minutes:02}:{whole % MINUTE:02}" if hours else f"{minutes}:{whole % MINUTE:02}"


def plain(text: str) -> str:
    """The text in one line of printable characters: no word from the wire moves the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)
