"""Creates the executor that the settings ask for; --cwd and --env.

Where a worker's tasks run, and what variables they see beside its own: --cwd and --env.

What is wrong with them is a UsageError before anything runs. `take` changes this process, which must be a worker's.

The executor that a person has chosen for a worker: commands, a callable, or a rehearsal of either.

What is wrong with the choice is a UsageError, before anything runs. It imports no more than what is chosen.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pipeline.executor.limits import TaskLimits
from pipeline.model.errors import UsageError
from pipeline.model.structs import replace

if TYPE_CHECKING:
    from pipeline.config.settings import Settings
    from pipeline.executor.command_template import OutputTag
    from pipeline.model.state_machine import Adapter


def validate_cwd_and_env(settings: Settings) -> None:
    """Raises UsageError for a folder that is not there, and a variable that is not set here."""
    if settings.cwd and not os.path.isdir(settings.cwd):
        raise UsageError(f"--cwd {settings.cwd}: no such folder")
    if settings.cwd and not os.access(settings.cwd, os.X_OK):
        raise UsageError(f"--cwd {settings.cwd}: permission denied")
    for given in settings.env:
        name, equals, _ = given.partition("=")
        if not name or (not equals and name not in os.environ):
            raise UsageError(f"--env {given}: it is not set here; give it a value, as in --env {name or 'NAME'}=VALUE")


def apply_cwd_and_env(settings: Settings) -> Settings:
    """Stand there, with these variables; the settings with their own files found from where the person stood."""
    validate_cwd_and_env(settings)
    for name, equals, value in (given.partition("=") for given in settings.env):
        if equals:
            os.environ[name] = value
    if not settings.cwd:
        return settings
    found = replace(settings, call=_make_absolute(settings.call), init=_make_absolute(settings.init))
    sys.path.insert(0, os.getcwd())  # where the modules of --call are
    os.chdir(settings.cwd)
    os.environ["PWD"] = os.getcwd()
    return found


def _make_absolute(call: str) -> str:
    """FILE.py:FUNCTION with the whole path of its file."""
    place, colon, name = call.rpartition(":")
    return os.path.abspath(place) + colon + name if place.endswith(".py") else call


def create_executor(settings: Settings, slots: int) -> Adapter:
    """Made for this process, which stands where tasks run from now on."""
    tag = _output_tag(settings)
    if settings.dry_run:
        from pipeline.executor.command_executor import DryRunExecutor

        validate_cwd_and_env(settings)
        return DryRunExecutor(settings.command, settings.call, tag, stdin=settings.stdin)
    settings = apply_cwd_and_env(settings)
    limits = TaskLimits(settings.timeout, settings.term_grace, settings.max_output)
    if settings.call:
        from pipeline.executor.call_executor import CallExecutor

        return CallExecutor(settings.call, settings.init, slots, limits)
    from pipeline.executor.command_executor import CommandExecutor

    return CommandExecutor(settings.command, slots, limits, tag, stdin=settings.stdin)


def _output_tag(settings: Settings) -> OutputTag | None:
    """What begins each line of a task's output, if anything does."""
    if not settings.tag and not settings.tagstring:
        return None
    from pipeline.executor.command_template import OutputTag

    return OutputTag(settings.tagstring)
