"""The executor that a person has chosen for a worker: commands, a callable, or a rehearsal of either.

What is wrong with the choice is a UsageError, before anything runs. It imports no more than what is chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.executor import ground
from pipeline.executor.limits import TaskLimits

if TYPE_CHECKING:
    from pipeline.executor.template import OutputTag
    from pipeline.words.settings import Settings
    from pipeline.words.station import Adapter


def create_executor(settings: Settings, slots: int) -> Adapter:
    """Made for this process, which stands where tasks run from now on."""
    tag = _output_tag(settings)
    if settings.dry_run:
        from pipeline.executor.rehearsal import DryRunExecutor

        ground.validate_cwd_and_env(settings)
        return DryRunExecutor(settings.command, settings.call, tag, stdin=settings.stdin)
    settings = ground.apply_cwd_and_env(settings)
    limits = TaskLimits(settings.timeout, settings.term_grace, settings.max_output)
    if settings.call:
        from pipeline.executor.calls import CallExecutor

        return CallExecutor(settings.call, settings.init, slots, limits)
    from pipeline.executor.commands import CommandExecutor

    return CommandExecutor(settings.command, slots, limits, tag, stdin=settings.stdin)


def _output_tag(settings: Settings) -> OutputTag | None:
    """What begins each line of a task's output, if anything does."""
    if not settings.tag and not settings.tagstring:
        return None
    from pipeline.executor.template import OutputTag

    return OutputTag(settings.tagstring)
