"""`pipe top`: what a run does now.

Promises: on a terminal one view in place of the other, as large as it is now, elsewhere each below the one before; a
sink that is started again is seen again; `q` and ^C end it with 0, since nothing has gone wrong. Never changes a run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.cli import overview, render
from pipeline.cli.figures import took
from pipeline.words.errors import OK, PipelineError
from pipeline.words.messages import Status
from pipeline.words.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from pipeline.cli.screen import Screen

KILLED = {"done", "soon", "now"}
QUIET = 2.0
"""Seconds of silence that are worth a word: a sink speaks each second."""
NOTHING = Status("", "", 0, 0, -1, -1, (), ())
HELP = """Show progress, workers and what they run, each second; q ends it.

\b
Examples:
  pipe top
  pipe top --once --name hashes
  pipe top --once --json | jq .eta
"""


def main(settings: Settings, screen: Screen) -> int:  # noqa: ARG001 -- all commands are called alike
    """Show views until the run is over, or one with --once.

    Raises:
        PipelineError: there is no sink, or it has been silent for too long in the middle of a run.
    """
    from pipeline import onlookers

    where = render.place(settings)
    try:
        if settings.as_json:
            return _each(onlookers.watch(settings), lambda status: json.dumps(facts(status)), once=settings.once)
        if settings.once or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
            views = onlookers.watch(settings)
            return _each(views, lambda status: overview.overview(status, where), once=settings.once)
        return _live(settings, where)
    except KeyboardInterrupt:
        return OK


def is_over(status: Status) -> bool:
    """Whether nothing more will come."""
    return status.state in KILLED and not status.awaited


def facts(status: Status) -> dict[str, Any]:
    """A status for scripts. Task numbers are from 1, times seconds, memory bytes; null is what is not known."""
    return {
        "run": status.run,
        "state": status.state,
        "why": status.why,
        "settled": status.settled,
        "failed": status.failed,
        "retrying": status.retrying,
        "total": status.total if status.total >= 0 else None,
        "turn": status.turn + 1 if status.turn >= 0 else None,
        "rate": round(status.rate, 3),
        "eta": round(overview.left(status), 1) if status.rate > 0 and status.total >= 0 else None,
        "elapsed": round(status.elapsed, 1),
        "awaited": list(status.awaited),
        "workers": [
            {
                "worker": each.worker,
                "command": each.command,
                "slots": each.slots,
                "running": each.running,
                "done": each.done,
                "silent": each.silent,
                "cpu": round(each.cpu, 2),
                "memory": each.memory,
                "tasks": [
                    {"task": task.task + 1, "slot": task.slot, "seconds": task.seconds, "command": task.command}
                    for task in each.doing
                ],
            }
            for each in status.members
        ],
    }


def _each(views: Iterator[Status | float], text: Callable[[Status], str], *, once: bool) -> int:
    """A text for each, one after the other."""
    last = NOTHING
    for view in views:
        if isinstance(view, Status):
            last = view
            sys.stdout.write(f"{text(view)}\n")
            sys.stdout.flush()
            if once or is_over(view):
                return OK
    return _unheard(last)


def _unheard(last: Status) -> int:
    """The exit code when the sink has not come back: 0 if it had said the end. Raises PipelineError if not."""
    if last.state in KILLED:
        return OK
    raise PipelineError("the sink was lost, and no other has come in its place; is the run still there?")


def _live(settings: Settings, where: str) -> int:
    """One view in place of the other, on a page of the terminal's own; the last of them stays when that is gone."""
    from rich.console import Console
    from rich.live import Live

    from pipeline import onlookers
    from pipeline.cli.keys import Keys

    console, last, silent = Console(), NOTHING, 0.0
    with Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        for view in onlookers.watch(settings, keys.files()):
            silent = view if isinstance(view, float) else 0.0
            last = view if isinstance(view, Status) else last
            live.update(_picture(last, where, silent, console), refresh=True)
            if is_over(last) or "q" in keys.pressed():
                break
    if last is not NOTHING:
        sys.stdout.write(f"{overview.overview(last, where)}\n")
        sys.stdout.flush()
    return _unheard(last) if silent > onlookers.LOST else OK


def _picture(status: Status, where: str, silent: float, console: Console) -> Text:
    """All of it, as large as the terminal at most."""
    from rich.text import Text

    told = [Text(overview.headline(status), "bold")] if status.run or status.state else []
    if status.run:
        told.append(Text(overview.bar(status, console.width - 1)))
        told[-1].highlight_regex(r"[\d,]+ failed", "red")
        told.append(Text(f"{took(status.elapsed)} elapsed"))
    if silent > QUIET:
        told.append(Text(f"the sink is silent since {silent:.0f} s", "red"))
    elif because := overview.reason(status, where):
        told.append(Text(because, "yellow"))
    if status.awaited:
        told.append(Text(render.goodbyes(status)))
    if status.members:
        rows = overview.crew(status.members, max(2, console.height - len(told) - 1))
        told += [Text(), Text(rows[0], "bold"), *map(Text, rows[1:])]
    for line in told:
        line.truncate(console.width, overflow="ellipsis")
    return Text("\n").join(told)
