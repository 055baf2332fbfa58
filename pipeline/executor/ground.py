"""Where a worker's tasks run, and what variables they see beside its own: --cwd and --env.

What is wrong with them is a UsageError before anything runs. `take` changes this process, which must be a worker's.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pipeline.words.errors import UsageError
from pipeline.words.structs import replace

if TYPE_CHECKING:
    from pipeline.words.settings import Settings


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
