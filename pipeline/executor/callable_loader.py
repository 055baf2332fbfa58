"""Functions named by --call and --init: MODULE:FUNCTION or FILE.py:FUNCTION.

Invariants:
  - a malformed name is reported at once, in the worker; only the fork server imports, so an import never costs the
    worker memory or time;
  - every fault is a UsageError with one sentence, and a traceback when the fault is in the user's module;
  - the function is not called here.
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

_INTERNAL_FILES = {__file__, os.path.join(os.path.dirname(__file__), "warm_process.py")}
"""Files that call the user's code: their frames are left out of tracebacks."""


def validate_name(spec: str, flag: str) -> None:
    """Raise UsageError for a name that cannot be a function's, and for a missing file. Import nothing."""
    path, _, name = spec.rpartition(":")
    if not path or not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{flag} {spec}: not the name of a function", "write MODULE:FUNCTION or FILE.py:FUNCTION")
    if path.endswith(".py") and not os.path.isfile(path):
        raise UsageError(f"{flag} {spec}: no such file: {path}")


def load_callable(spec: str, flag: str) -> Callable[..., Any]:
    """Import the module and return the function. Raise UsageError if that fails."""
    path, _, name = spec.rpartition(":")
    try:
        module = _import_file(path) if path.endswith(".py") else _import_module(path)
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything, even SystemExit
        text = f"{flag} {spec}: cannot import {path}: {error_line(error)}\n{traceback_text(error)}"
        raise UsageError(text.rstrip()) from None
    try:
        function = reduce(getattr, name.split("."), module)
    except AttributeError:
        raise UsageError(f"{flag} {spec}: {path} has no {name}") from None
    if not callable(function):
        raise UsageError(f"{flag} {spec}: {name} is not callable (its type is {type(function).__name__})")
    loaded: Callable[..., Any] = function
    return loaded


def error_line(error: BaseException) -> str:
    """Return the exception and the first line of its message."""
    import traceback

    lines = "".join(traceback.format_exception_only(error)).splitlines()
    return next(line for line in lines if line[:1].strip())  # a SyntaxError has its place, indented, above


def traceback_text(error: BaseException) -> str:
    """Return the traceback from the first frame of the user's code on; empty if there is no such frame."""
    import traceback

    trace = error.__traceback__
    while trace and _is_internal(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    if trace or isinstance(error, SyntaxError):
        return "".join(traceback.format_exception(type(error), error, trace))
    return ""


def _is_internal(filename: str) -> bool:
    return filename in _INTERNAL_FILES or "importlib" in filename


def _import_module(module_name: str) -> ModuleType:
    """Import a module, found in the working directory first, as `python -m` does."""
    import importlib

    sys.path.insert(0, os.getcwd())
    return importlib.import_module(module_name)


def _import_file(path: str) -> ModuleType:
    """Import a file as a module, which can import the other files of its directory."""
    import importlib.util

    path = os.path.realpath(path)
    name = os.path.basename(path).removesuffix(".py")
    loaded = sys.modules.get(name)
    if loaded and getattr(loaded, "__file__", None) == path:
        return loaded  # --call and --init name the same file: one module
    sys.path.insert(0, os.path.dirname(path))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
