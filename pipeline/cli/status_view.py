"""The status of a run as text: progress line, summary, and the table of workers with their running tasks.

Invariants:
  - The same status gives the same text; nothing here prints, or looks at the clock or the terminal.
  - Texts from the wire are cut down to printable characters.
  - The result is never wider or longer than requested.
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
    waiting_text,
)
from pipeline.model.messages import RunningTask, RunStatus, WorkerActivity, WorkerStatus

CLOCK_AFTER_SECONDS = 10 * MINUTE_SECONDS
UNLIMITED_LINES = 1 << 30
# states that are shown in other words; `ended` describes the input alone
STATE_TEXTS = {
    "feeding": "reading tasks",
    "ended": "all tasks read",
    "soon": "stopping after running tasks finish",
    "now": "killed",
}


def progress(status: RunStatus) -> str:
    """Return one line of progress."""
    of_total = f" of {status.total:,}" if status.total >= 0 else ""
    parts = [f"{status.settled_count:,}{of_total} done"]
    parts += [failures_text(status)] if status.failed_count else []
    parts += [f"{status.retry_count:,} to retry"] if status.retry_count else []
    if status.tasks_per_second > 0:
        parts.append(f"{format_number(status.tasks_per_second)}/s")
        if status.total >= 0:
            parts.append(f"{format_clock(seconds_left(status))} left")
    return ", ".join(parts)


def failures_text(status: RunStatus) -> str:
    """Return the part of the progress that may be red."""
    return f"{status.failed_count:,} failed"


def seconds_left(status: RunStatus) -> float:
    """Return the seconds to the end at the present rate; 0 if unknown."""
    if status.tasks_per_second <= 0 or status.total < 0:
        return 0.0
    return (status.total - status.settled_count) / status.tasks_per_second


def progress_bar(status: RunStatus, width: int) -> str:
    """Return the progress after a bar, in at most `width` columns."""
    text = progress(status)
    if status.total <= 0:
        return text[:width]
    part = status.settled_count / status.total
    columns = min(30, width - len(text) - 8)
    if columns < 4:  # noqa: PLR2004 -- too short to show anything
        return f"{part:4.0%} {text}"[:width]
    done = int(part * columns)
    return f"[{'#' * done}{'.' * (columns - done)}]{part:5.0%} {text}"


def summary(status: RunStatus, elapsed: float) -> str:
    """Return the last line of a run; `elapsed` is in seconds."""
    of_total = f" of {status.total:,}" if status.total > status.settled_count else ""
    unit = "task" if max(status.settled_count, status.total) == 1 else "tasks"
    rate = status.settled_count / elapsed if elapsed > 0 else 0.0
    duration = f"{elapsed:.1f} s" if elapsed < CLOCK_AFTER_SECONDS else format_clock(elapsed)
    done, failed = f"{status.settled_count:,}{of_total} {unit}", failures_text(status)
    return f"{done}, {failed}, {duration}, {format_number(rate)} tasks/s"


def status_text(status: RunStatus, endpoint_options: str | None = None) -> str:
    """Return the whole status as lines, without a last newline; `endpoint_options` as in `message_text`."""
    lines = [f"{headline(status)}: {progress(status)}" if status.run else headline(status)]
    if reason := blocked_text(status, endpoint_options):
        lines.append(reason)
    if status.next_in_order >= 0 and status.blocked_on not in {"turn", "spill"}:
        lines.append(f"next in order: task {status.next_in_order + 1:,}")
    if status.waiting_for:
        lines.append(waiting_for_text(status))
    if status.workers:
        lines += ["", *worker_table(status.workers)]
    return "\n".join(lines)


def headline(status: RunStatus) -> str:
    """Return the id and the state of the run."""
    if not status.run:
        return "no run yet"
    return f"run {sanitize(status.run)}, {STATE_TEXTS.get(status.state, sanitize(status.state))}"


def blocked_text(status: RunStatus, endpoint_options: str | None) -> str:
    """Return why no further task starts, and what to do; empty if nothing blocks the run."""
    reason, next_task = status.blocked_on, f"task {status.next_in_order + 1:,}"
    if reason in {"worker", "ventilator", "spill"}:
        return waiting_text(reason, next_task, endpoint_options or "").removeprefix("warning: ")
    return {
        "": "",
        "slots": _slots_text(sum(each.slots for each in status.workers)),
        "output": "output is blocked: slow reader or full disk",
        "input": "waiting for input",
        "turn": f"no task is running; next in order: {next_task}",
    }.get(reason, sanitize(reason))


def _slots_text(slots: int) -> str:
    return f"all {slots:,} slots are busy" if slots > 1 else "the only slot is busy"


def worker_table(workers: tuple[WorkerStatus, ...], max_lines: int = UNLIMITED_LINES) -> list[str]:
    """Return the workers, each with its running tasks below it, in at most `max_lines` lines (2 or more).

    If there are too many tasks, those that have run longest are shown, and a last line counts the others.
    """
    heading, *rows = _table_rows(workers)
    free = max_lines - 1 - len(rows)
    if free < 0:
        shown = rows[: max_lines - 2]
        return [heading, *shown, f"and {format_count(len(rows) - len(shown), 'more worker')}"]
    tasks = [(task, number) for number, each in enumerate(workers) for task in each.running_tasks]
    tasks.sort(key=lambda pair: -pair[0].seconds)
    shown_tasks = tasks if len(tasks) <= free else tasks[: max(0, free - 1)]
    lines = [heading]
    for number, row in enumerate(rows):
        lines += [row, *(_task_text(task) for task, owner in shown_tasks if owner == number)]
    if shown_tasks is not tasks and free:
        lines.append(f"and {format_count(len(tasks) - len(shown_tasks), 'more task')}")
    return lines


def worker_text(activity: WorkerActivity) -> str:
    """Return one worker and its running tasks."""
    count = format_count(len(activity.running_tasks), "task")
    usage = f"{activity.cpu:.1f} CPUs, {format_memory(activity.memory)}, {count} running"
    tasks = sorted(activity.running_tasks, key=lambda task: -task.seconds)
    return "\n".join([f"worker {sanitize(activity.worker)}: {usage}", *map(_task_text, tasks)])


def changes(previous: RunStatus | None, current: RunStatus, endpoint_options: str | None) -> list[str]:
    """Return what has happened between two statuses of a run, one text each."""
    then = {each.worker for each in previous.workers} if previous else set()
    now = {each.worker for each in current.workers}
    failed, retrying = (previous.failed_count, previous.retry_count) if previous else (0, 0)
    texts = [
        f"worker {sanitize(each.worker)} connected: {format_count(each.slots, 'slot')}, {sanitize(each.command)}"
        for each in current.workers
        if each.worker not in then
    ]
    texts += [f"worker {sanitize(name)} disconnected" for name in sorted(then - now)]
    if current.failed_count > failed:
        texts.append(
            f"{format_count(current.failed_count - failed, 'task')} failed ({current.failed_count:,} in total)"
        )
    if current.retry_count > retrying:
        texts.append(f"{format_count(current.retry_count - retrying, 'task')} failed, will be retried")
    is_new_reason = current.blocked_on not in {previous.blocked_on if previous else "", "slots"}
    if is_new_reason and (reason := blocked_text(current, endpoint_options)):
        texts.append(reason)
    return texts


def _task_text(task: RunningTask) -> str:
    return f"  task {task.task + 1:,}, {format_duration(task.seconds)}: {sanitize(task.command)}"


def _table_rows(workers: tuple[WorkerStatus, ...]) -> list[str]:
    """Return a heading, and a line for each worker."""
    width = max([len("WORKER"), *(len(sanitize(each.worker)) for each in workers)])
    lines = [f"{'WORKER':<{width}}  SLOTS  BUSY         DONE   CPU    MEMORY  SILENT  COMMAND"]
    for each in workers:
        counts = f"{each.slots:>5}  {each.running_count:>4}  {each.done_count:>11,}"
        usage = f"{each.cpu:>4.1f}  {format_memory(each.memory):>8}  {each.seconds_since_message:>4.1f} s"
        lines.append(f"{sanitize(each.worker):<{width}}  {counts}  {usage}  {sanitize(each.command)}")
    return lines
