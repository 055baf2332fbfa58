"""The executor that a person has chosen for a worker: commands, a callable, or a rehearsal of either.

What is wrong with the choice is a UsageError, before anything runs. It imports no more than what is chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.executor import ground
from pipeline.executor.limits import Limits

if TYPE_CHECKING:
    from pipeline.executor.template import Tag
    from pipeline.words.settings import Settings
    from pipeline.words.station import Edge


def executor(settings: Settings, slots: int) -> Edge:
    """Made for this process, which stands where tasks run from now on."""
    tag = _tag(settings)
    if settings.dry_run:
        from pipeline.executor.rehearsal import Rehearsal

        ground.check(settings)
        return Rehearsal(settings.command, settings.call, tag, stdin=settings.stdin)
    settings = ground.take(settings)
    limits = Limits(settings.timeout, settings.term_grace, settings.max_output)
    if settings.call:
        from pipeline.executor.calls import Calls

        return Calls(settings.call, settings.init, slots, limits)
    from pipeline.executor.commands import Commands

    return Commands(settings.command, slots, limits, tag, stdin=settings.stdin)


def _tag(settings: Settings) -> Tag | None:
    """What begins each line of a task's output, if anything does."""
    if not settings.tag and not settings.tagstring:
        return None
    from pipeline.executor.template import Tag

    return Tag(settings.tagstring)
