"""`pipe top`: what a run does now.

Promises: on a terminal the newest view alone is seen, elsewhere each follows the other; a sink that is started again
is seen again. Never changes a run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.cli import render
from pipeline.words.errors import INCOMPLETE, OK
from pipeline.words.messages import Status
from pipeline.words.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console, Group

    from pipeline.cli.screen import Screen

KILLED = {"done", "soon", "now"}
HELP = """Show progress, workers and what they run, each second until the end.

\b
Examples:
  pipe top
  pipe top --once --name hashes
  pipe top --once --json | jq .eta
"""


def main(settings: Settings, screen: Screen) -> int:  # noqa: ARG001 -- all commands are called alike
    """Show views until the run is over, or one with --once. ^C just ends it."""
    from pipeline import onlookers

    try:
        views = onlookers.watch(settings)
        if settings.as_json:
            return _each(views, lambda status: json.dumps(facts(status)), once=settings.once)
        if settings.once or not sys.stdout.isatty():
            where = render.place(settings)
            return _each(views, lambda status: render.overview(status, where), once=settings.once)
        return _live(views, render.place(settings))
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
        "eta": round(render.left(status), 1) if status.rate > 0 and status.total >= 0 else None,
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
    for view in views:
        if isinstance(view, Status):
            sys.stdout.write(f"{text(view)}\n")
            sys.stdout.flush()
            if once or is_over(view):
                return OK
    return INCOMPLETE


def _live(views: Iterator[Status | float], where: str) -> int:
    """One view in place of the other."""
    from rich.console import Console
    from rich.live import Live

    console, last = Console(), Status("", "", 0, 0, -1, -1, (), ())
    with Live(console=console, screen=False, auto_refresh=False, vertical_overflow="crop") as live:
        for view in views:
            silent = view if isinstance(view, float) else 0.0
            last = view if isinstance(view, Status) else last
            live.update(_picture(last, where, silent, console), refresh=True)
            if isinstance(view, Status) and is_over(view):
                return OK
    return INCOMPLETE


def _picture(status: Status, where: str, silent: float, console: Console) -> Group:
    """All of it, as high as the terminal at most."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("WORKER", "SLOTS", "BUSY", "DONE", "CPU", "MEMORY", "SILENT", "COMMAND"):
        table.add_column(heading, justify="left" if heading in {"WORKER", "COMMAND"} else "right", no_wrap=True)
    for each in status.members:
        numbers = (str(each.slots), str(each.running), f"{each.done:,}", f"{each.cpu:.1f}", render.memory(each.memory))
        table.add_row(render.plain(each.worker), *numbers, f"{each.silent:.0f} s", render.plain(each.command))
    told = [Text(render.headline(status), style="bold"), Text(render.bar(status, console.width - 1))]
    told.append(Text(f"{render.took(status.elapsed)} elapsed"))
    if silent:
        told.append(Text(f"the sink is silent since {silent:.0f} s", style="red"))
    elif because := render.reason(status, where):
        told.append(Text(because, style="yellow"))
    if status.awaited:
        told.append(Text(render.goodbyes(status)))
    room = max(0, console.height - len(told) - len(status.members) - 4)
    tasks = [Text(line, overflow="ellipsis", no_wrap=True) for line in render.running(status.members)]
    more = [Text(f"  and {len(tasks) - room} more")] if len(tasks) > room else []
    return Group(*told, Text(""), table, Text(""), *tasks[:room], *more)
