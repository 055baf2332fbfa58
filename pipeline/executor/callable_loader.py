"""A callee: the function that --call or --init names, MODULE:FUNCTION or FILE.py:FUNCTION.

Writing it wrong is told at once, in the agent; importing it is done by the nursery alone, so what it imports never
weighs on the agent. All that is wrong with it is a UsageError with one sentence, and a traceback when the fault lies
inside the person's module. Never calls the function.
"""

from __future__ import annotations

import os
import os.path
import sys
from collections.abc import Callable
from functools import reduce
from types import ModuleType
from typing import Any

from pipeline.model.errors import UsageError


def validate_name(spec: str, flag: str) -> None:
    """Refuse with UsageError what can't name a function, or names a file that is not there. Imports nothing."""
    place, _, name = spec.rpartition(":")
    if not place or not all(part.isidentifier() for part in name.split(".")):
        msg = f"{flag} {spec}: write MODULE:FUNCTION or FILE.py:FUNCTION"
        raise UsageError(msg)
    if place.endswith(".py") and not os.path.isfile(place):
        msg = f"{flag} {spec}: there is no file {place}"
        raise UsageError(msg)


def load_callable(spec: str, flag: str) -> Callable[..., Any]:
    """Import the module and return the function; UsageError says what is wrong with it."""
    place, _, name = spec.rpartition(":")
    try:
        module = _import_file(place) if place.endswith(".py") else _import_module(place)
    except BaseException as error:  # noqa: BLE001 - the person's code may raise anything, SystemExit too
        msg = f"{flag} {spec}: cannot import {place}: {error_line(error)}\n{traceback_text(error)}".rstrip()
        raise UsageError(msg) from None
    try:
        found = reduce(getattr, name.split("."), module)
    except AttributeError:
        msg = f"{flag} {spec}: {place} has no {name}"
        raise UsageError(msg) from None
    if not callable(found):
        msg = f"{flag} {spec}: {name} cannot be called: it is of type {type(found).__name__}"
        raise UsageError(msg)
    function: Callable[..., Any] = found
    return function


def error_line(error: BaseException) -> str:
    """The exception and the first line of its message."""
    import traceback

    lines = "".join(traceback.format_exception_only(error)).splitlines()
    return next(line for line in lines if line[:1].strip())  # a SyntaxError has its place, indented, above


def traceback_text(error: BaseException) -> str:
    """The traceback as Python prints it, without the frames above the person's code; empty if there is no other."""
    import traceback

    trace = error.__traceback__
    while trace and (
        trace.tb_frame.f_code.co_filename in _INTERNAL_FILES or "importlib" in trace.tb_frame.f_code.co_filename
    ):
        trace = trace.tb_next
    if trace or isinstance(error, SyntaxError):
        return "".join(traceback.format_exception(type(error), error, trace))
    return ""


_INTERNAL_FILES = {__file__, os.path.join(os.path.dirname(__file__), "warm.py")}


def _import_module(module_name: str) -> ModuleType:
    """A module by its name, found in the working directory first, as `python -m` would."""
    import importlib

    sys.path.insert(0, os.getcwd())
    return importlib.import_module(module_name)


def _import_file(path: str) -> ModuleType:
    """A module by its file; its neighbours can be imported by it."""
    import importlib.util

    path = os.path.realpath(path)
    name = os.path.basename(path).removesuffix(".py")
    known = sys.modules.get(name)
    if known and getattr(known, "__file__", None) == path:
        return known  # --call and --init name the same file: one module
    sys.path.insert(0, os.path.dirname(path))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
