"""What a run does now, as text: a bar, a summary, and all of it with its workers and what each runs.

Pure: the same Status gives the same text. Promises: whatever came over the wire is cut down to printable characters,
and a width or a height that is given is kept. Never prints, never asks the time or the terminal.
"""

from __future__ import annotations

from pipeline.cli.figures import MINUTE, clock, counted, figure, memory, plain, took
from pipeline.cli.render import goodbyes
from pipeline.words.messages import Glance, Status
from pipeline.words.parts import Doing, Member

LONG = 10 * MINUTE
ENDLESS = 1 << 30
STATES = {"feeding": "reading tasks", "ended": "all tasks read", "soon": "ending, nothing new starts", "now": "killed"}
"""What is not a word for people. `ended` speaks of the input alone."""


def progress(status: Status) -> str:
    """One line while a run goes on."""
    of = f" of {status.total:,}" if status.total >= 0 else ""
    parts = [f"{status.settled:,}{of} done"]
    parts += [failures(status)] if status.failed else []
    parts += [f"{status.retrying:,} to be tried again"] if status.retrying else []
    if status.rate > 0:
        parts.append(f"{figure(status.rate)}/s")
        if status.total >= 0:
            parts.append(f"{clock(left(status))} left")
    return ", ".join(parts)


def failures(status: Status) -> str:
    """That part of it which may be red."""
    return f"{status.failed:,} failed"


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
    spent = f"{elapsed:.1f} s" if elapsed < LONG else clock(elapsed)
    return f"{status.settled:,}{of} {unit}, {status.failed:,} failed, {spent}, {figure(rate)} tasks/s"


def overview(status: Status, where: str | None = None) -> str:
    """The whole status as text, lines without a last newline; `where` as in render.sentence."""
    lines = [f"{headline(status)}: {progress(status)}" if status.run else headline(status)]
    if because := reason(status, where):
        lines.append(because)
    if status.turn >= 0 and status.why not in {"turn", "spill"}:
        lines.append(f"order waits for task {status.turn + 1:,}")
    if status.awaited:
        lines.append(goodbyes(status))
    if status.members:
        lines += ["", *crew(status.members)]
    return "\n".join(lines)


def headline(status: Status) -> str:
    """Which run it is, and what it is about."""
    if not status.run:
        return "no run yet"
    return f"run {plain(status.run)}, {STATES.get(status.state, plain(status.state))}"


def reason(status: Status, where: str | None) -> str:
    """Why nothing more runs, and what to do; empty if there is no reason."""
    here = "" if where is None else where
    return {
        "": "",
        "ventilator": f"nobody reads tasks; start `pipe ventilate{here} FILE`",
        "worker": f"no worker has checked in; start one with `pipe work{here} COMMAND`",
        "slots": _busy(sum(each.slots for each in status.members)),
        "output": "the output takes nothing: its reader is slow, or the disk is full",
        "spill": f"--spill-limit is reached: all wait for task {status.turn + 1:,} to end",
        "input": "the input has said nothing more",
        "turn": f"nothing runs: order waits for task {status.turn + 1:,}",
    }.get(status.why, plain(status.why))


def _busy(slots: int) -> str:
    return f"all {slots:,} slots are busy" if slots > 1 else "the only slot is busy"


def crew(members: tuple[Member, ...], room: int = ENDLESS) -> list[str]:
    """The workers, below each what it runs, the longest first, in at most `room` lines (2 or more).

    What takes longest in the whole line is shown first of all; a last line counts what had no room.
    """
    heading, *rows = _table(members)
    free = room - 1 - len(rows)
    if free < 0:
        shown = rows[: room - 2]
        return [heading, *shown, f"and {counted(len(rows) - len(shown), 'worker')} more"]
    tasks = [(task, number) for number, each in enumerate(members) for task in each.doing]
    tasks.sort(key=lambda pair: -pair[0].seconds)
    kept = tasks if len(tasks) <= free else tasks[: max(0, free - 1)]
    lines = [heading]
    for number, row in enumerate(rows):
        lines += [row, *(_task(task) for task, owner in kept if owner == number)]
    if kept is not tasks and free:
        lines.append(f"and {counted(len(tasks) - len(kept), 'task')} more")
    return lines


def glance(seen: Glance) -> str:
    """What one worker runs now."""
    used = f"{seen.cpu:.1f} CPUs, {memory(seen.memory)}, {counted(len(seen.doing), 'task')} running"
    tasks = sorted(seen.doing, key=lambda task: -task.seconds)
    return "\n".join([f"worker {plain(seen.worker)}: {used}", *map(_task, tasks)])


def news(before: Status | None, after: Status, where: str | None) -> list[str]:
    """What has happened between two looks at a run, a sentence each."""
    then = {each.worker for each in before.members} if before else set()
    now = {each.worker for each in after.members}
    failed, retrying, why = (before.failed, before.retrying, before.why) if before else (0, 0, "")
    said = [
        f"worker {plain(each.worker)} has come with {counted(each.slots, 'slot')} for: {plain(each.command)}"
        for each in after.members
        if each.worker not in then
    ]
    said += [f"worker {plain(name)} has gone" for name in sorted(then - now)]
    if after.failed > failed:
        said.append(f"{counted(after.failed - failed, 'task')} failed, {after.failed:,} in all")
    if after.retrying > retrying:
        said.append(f"{counted(after.retrying - retrying, 'task')} failed and will be tried again")
    if after.why not in {why, "slots"} and (because := reason(after, where)):
        said.append(because)
    return said


def _task(task: Doing) -> str:
    return f"  task {task.task + 1:,}, {took(task.seconds)}: {plain(task.command)}"


def _table(members: tuple[Member, ...]) -> list[str]:
    """A line for each worker, below a heading."""
    wide = max([len("WORKER"), *(len(plain(each.worker)) for each in members)])
    lines = [f"{'WORKER':<{wide}}  SLOTS  BUSY         DONE   CPU    MEMORY  SILENT  COMMAND"]
    for each in members:
        busy = f"{each.slots:>5}  {each.running:>4}  {each.done:>11,}  {each.cpu:>4.1f}  {memory(each.memory):>8}"
        lines.append(f"{plain(each.worker):<{wide}}  {busy}  {each.silent:>4.1f} s  {plain(each.command)}")
    return lines
