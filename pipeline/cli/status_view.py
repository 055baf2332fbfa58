"""What a run does now, as text: a bar, a summary, and all of it with its workers and what each runs.

Pure: the same Status gives the same text. Promises: whatever came over the wire is cut down to printable characters,
and a width or a height that is given is kept. Never prints, never asks the time or the terminal.
"""

from __future__ import annotations

from pipeline.cli.messages import (
    MINUTE_SECONDS,
    format_clock,
    format_count,
    format_duration,
    format_memory,
    format_number,
    sanitize,
    waiting_for_text,
)
from pipeline.model.messages import RunningTask, RunStatus, WorkerActivity, WorkerStatus

CLOCK_AFTER_SECONDS = 10 * MINUTE_SECONDS
UNLIMITED_LINES = 1 << 30
STATE_TEXTS = {
    "feeding": "reading tasks",
    "ended": "all tasks read",
    "soon": "ending, nothing new starts",
    "now": "killed",
}
"""What is not a word for people. `ended` speaks of the input alone."""


def progress(status: RunStatus) -> str:
    """One line while a run goes on."""
    of = f" of {status.total:,}" if status.total >= 0 else ""
    parts = [f"{status.settled_count:,}{of} done"]
    parts += [failures_text(status)] if status.failed_count else []
    parts += [f"{status.retry_count:,} to be tried again"] if status.retry_count else []
    if status.tasks_per_second > 0:
        parts.append(f"{format_number(status.tasks_per_second)}/s")
        if status.total >= 0:
            parts.append(f"{format_clock(seconds_left(status))} left")
    return ", ".join(parts)


def failures_text(status: RunStatus) -> str:
    """That part of it which may be red."""
    return f"{status.failed_count:,} failed"


def seconds_left(status: RunStatus) -> float:
    """Seconds to the end, at the present rate; 0 while that is unknown."""
    return (
        (status.total - status.settled_count) / status.tasks_per_second
        if status.tasks_per_second > 0 and status.total >= 0
        else 0.0
    )


def progress_bar(status: RunStatus, width: int) -> str:
    """The same with a bar before it, in at most so many columns."""
    text = progress(status)
    if status.total <= 0:
        return text[:width]
    part = status.settled_count / status.total
    columns = min(30, width - len(text) - 8)
    if columns < 4:  # noqa: PLR2004 -- no bar worth the name
        return f"{part:4.0%} {text}"[:width]
    done = int(part * columns)
    return f"[{'#' * done}{'.' * (columns - done)}]{part:5.0%} {text}"


def summary(status: RunStatus, elapsed: float) -> str:
    """The last line of a run; `elapsed` in seconds."""
    of = f" of {status.total:,}" if status.total > status.settled_count else ""
    unit = "task" if max(status.settled_count, status.total) == 1 else "tasks"
    rate = status.settled_count / elapsed if elapsed > 0 else 0.0
    spent = f"{elapsed:.1f} s" if elapsed < CLOCK_AFTER_SECONDS else format_clock(elapsed)
    return (
        f"{status.settled_count:,}{of} {unit}, {status.failed_count:,} failed, {spent}, {format_number(rate)} tasks/s"
    )


def status_text(status: RunStatus, endpoint_options: str | None = None) -> str:
    """The whole status as text, lines without a last newline; `where` as in render.sentence."""
    lines = [f"{headline(status)}: {progress(status)}" if status.run else headline(status)]
    if because := blocked_text(status, endpoint_options):
        lines.append(because)
    if status.next_in_order >= 0 and status.blocked_on not in {"turn", "spill"}:
        lines.append(f"order waits for task {status.next_in_order + 1:,}")
    if status.waiting_for:
        lines.append(waiting_for_text(status))
    if status.workers:
        lines += ["", *worker_table(status.workers)]
    return "\n".join(lines)


def headline(status: RunStatus) -> str:
    """Which run it is, and what it is about."""
    if not status.run:
        return "no run yet"
    return f"run {sanitize(status.run)}, {STATE_TEXTS.get(status.state, sanitize(status.state))}"


def blocked_text(status: RunStatus, endpoint_options: str | None) -> str:
    """Why nothing more runs, and what to do; empty if there is no reason."""
    here = "" if endpoint_options is None else endpoint_options
    return {
        "": "",
        "ventilator": f"nobody reads tasks; start `pipe ventilate{here} FILE`",
        "worker": f"no worker has checked in; start one with `pipe work{here} COMMAND`",
        "slots": _busy_text(sum(each.slots for each in status.workers)),
        "output": "the output takes nothing: its reader is slow, or the disk is full",
        "spill": f"--spill-limit is reached: all wait for task {status.next_in_order + 1:,} to end",
        "input": "the input has said nothing more",
        "turn": f"nothing runs: order waits for task {status.next_in_order + 1:,}",
    }.get(status.blocked_on, sanitize(status.blocked_on))


def _busy_text(slots: int) -> str:
    return f"all {slots:,} slots are busy" if slots > 1 else "the only slot is busy"


def worker_table(workers: tuple[WorkerStatus, ...], max_lines: int = UNLIMITED_LINES) -> list[str]:
    """The workers, below each what it runs, the longest first, in at most `room` lines (2 or more).

    What takes longest in the whole line is shown first of all; a last line counts what had no room.
    """
    heading, *rows = _table_rows(workers)
    free = max_lines - 1 - len(rows)
    if free < 0:
        shown = rows[: max_lines - 2]
        return [heading, *shown, f"and {format_count(len(rows) - len(shown), 'worker')} more"]
    tasks = [(task, number) for number, each in enumerate(workers) for task in each.running_tasks]
    tasks.sort(key=lambda pair: -pair[0].seconds)
    kept = tasks if len(tasks) <= free else tasks[: max(0, free - 1)]
    lines = [heading]
    for number, row in enumerate(rows):
        lines += [row, *(_task_text(task) for task, owner in kept if owner == number)]
    if kept is not tasks and free:
        lines.append(f"and {format_count(len(tasks) - len(kept), 'task')} more")
    return lines


def worker_text(activity: WorkerActivity) -> str:
    """What one worker runs now."""
    used = f"{activity.cpu:.1f} CPUs, {format_memory(activity.memory)}, {format_count(len(activity.running_tasks), 'task')} running"
    tasks = sorted(activity.running_tasks, key=lambda task: -task.seconds)
    return "\n".join([f"worker {sanitize(activity.worker)}: {used}", *map(_task_text, tasks)])


def changes(previous: RunStatus | None, current: RunStatus, endpoint_options: str | None) -> list[str]:
    """What has happened between two looks at a run, a sentence each."""
    then = {each.worker for each in previous.workers} if previous else set()
    now = {each.worker for each in current.workers}
    failed, retrying, why = (
        (previous.failed_count, previous.retry_count, previous.blocked_on) if previous else (0, 0, "")
    )
    said = [
        f"worker {sanitize(each.worker)} has come with {format_count(each.slots, 'slot')} for: {sanitize(each.command)}"
        for each in current.workers
        if each.worker not in then
    ]
    said += [f"worker {sanitize(name)} has gone" for name in sorted(then - now)]
    if current.failed_count > failed:
        said.append(f"{format_count(current.failed_count - failed, 'task')} failed, {current.failed_count:,} in all")
    if current.retry_count > retrying:
        said.append(f"{format_count(current.retry_count - retrying, 'task')} failed and will be tried again")
    if current.blocked_on not in {why, "slots"} and (because := blocked_text(current, endpoint_options)):
        said.append(because)
    return said


def _task_text(task: RunningTask) -> str:
    return f"  task {task.task + 1:,}, {format_duration(task.seconds)}: {sanitize(task.command)}"


def _table_rows(workers: tuple[WorkerStatus, ...]) -> list[str]:
    """A line for each worker, below a heading."""
    wide = max([len("WORKER"), *(len(sanitize(each.worker)) for each in workers)])
    lines = [f"{'WORKER':<{wide}}  SLOTS  BUSY         DONE   CPU    MEMORY  SILENT  COMMAND"]
    for each in workers:
        busy = f"{each.slots:>5}  {each.running_count:>4}  {each.done_count:>11,}  {each.cpu:>4.1f}  {format_memory(each.memory):>8}"
        lines.append(
            f"{sanitize(each.worker):<{wide}}  {busy}  {each.seconds_since_message:>4.1f} s  {sanitize(each.command)}"
        )
    return lines
