"""Creation of the executor that the settings ask for; --cwd and --env.

Invariants:
  - a wrong setting raises UsageError before any task runs;
  - only the modules of the chosen executor are imported;
  - the process that creates an executor is a worker: --cwd and --env change it as a whole.
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


def create_executor(settings: Settings, slots: int) -> Adapter:
    """Create the executor of this process, after applying --cwd and --env to it."""
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


def validate_cwd_and_env(settings: Settings) -> None:
    """Raise UsageError for a missing directory, and for a variable without a value that is not set here."""
    if settings.cwd and not os.path.isdir(settings.cwd):
        raise UsageError(f"--cwd {settings.cwd}: no such directory")
    if settings.cwd and not os.access(settings.cwd, os.X_OK):
        raise UsageError(f"--cwd {settings.cwd}: permission denied")
    for variable in settings.env:
        name, equals, _ = variable.partition("=")
        if not name:
            raise UsageError(f"--env {variable}: no variable name", "write --env NAME=VALUE")
        if not equals and name not in os.environ:
            raise UsageError(f"--env {variable}: the variable is not set", f"give it a value: --env {name}=VALUE")


def apply_cwd_and_env(settings: Settings) -> Settings:
    """Apply --cwd and --env to this process; return the settings with absolute paths of --call and --init."""
    validate_cwd_and_env(settings)
    for name, equals, value in (variable.partition("=") for variable in settings.env):
        if equals:
            os.environ[name] = value
    if not settings.cwd:
        return settings
    absolute = replace(settings, call=_make_absolute(settings.call), init=_make_absolute(settings.init))
    sys.path.insert(0, os.getcwd())  # the modules of --call are found from the user's directory
    os.chdir(settings.cwd)
    os.environ["PWD"] = os.getcwd()
    return absolute


def _make_absolute(call: str) -> str:
    path, colon, name = call.rpartition(":")
    return os.path.abspath(path) + colon + name if path.endswith(".py") else call


def _output_tag(settings: Settings) -> OutputTag | None:
    if not settings.tag and not settings.tagstring:
        return None
    from pipeline.executor.command_template import OutputTag

    return OutputTag(settings.tagstring)
