"""`pipe lab`: a command for each program of the lab, built from the signature of its `main`.

Invariants:
  - The lab does not know typer; the options of a program are declared only in its signature.
  - A program ends with its own exit code. An expected OS error, such as a port in use, is an error with a hint.
"""

from __future__ import annotations

import errno
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from pipeline.cli.interrupts import InterruptHandler, TerminationInterrupt
from pipeline.config.settings import Settings
from pipeline.lab import PROGRAMS
from pipeline.model.errors import OK, TERMINATED, PipelineError, UsageError

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole

HELP = """Run the ZeroMQ guide's programs, small and measured.

`pipe lab` lists them, each with its lesson; `pipe lab NAME --help` shows the options of one. The exit code is 0 if all
is as it should be, 1 if something was lost or is not as expected, 3 if no peer was there.

\b
Examples:
  pipe lab
  pipe lab batch --kill
  pipe lab relay --help
"""
ADDRESS_HINT = "choose another address or directory by its options"
# expected errors by errno, and what to do
ERRNO_HINTS = {
    **dict.fromkeys((errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EINVAL, errno.ENODEV), ADDRESS_HINT),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTEMPTY, errno.ENOENT, errno.ENOTDIR), ADDRESS_HINT
    ),
    errno.ENOSPC: "free some space",
    errno.ENAMETOOLONG: "set TMPDIR to a directory with a short name",
    errno.EMFILE: "raise the limit of `ulimit -n`, or use smaller options",
}
_HELP_FLAGS = ("--help", "-h")
# click's UsageError, as in app.py
_ClickUsageError: type[Exception] = typer.BadParameter.__bases__[0]


def main(settings: Settings, console: UserConsole) -> int:  # noqa: ARG001 -- all commands are called alike
    """Run the program that `settings.program` names, or list all programs."""
    words = settings.program
    if not words:
        sys.stdout.write(list_programs())
        return OK
    if words[0] not in PROGRAMS:
        raise UsageError(f"no such program: {words[0]}", f"choose one of {', '.join(PROGRAMS)}")
    program = import_module(f"pipeline.lab.{words[0]}")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # two programs may write to one file
    return run_program(program, words[1:])


def list_programs() -> str:
    """Return the list of all programs, each with its title and its lesson."""
    lines = ["The programs of the lab; `pipe lab NAME --help` shows more.", ""]
    for name in PROGRAMS:
        program = import_module(f"pipeline.lab.{name}")
        lines += [f"  {name:<10}  {program.TITLE}", f"  {'':<10}    {program.LEARN}"]
    return "\n".join(lines) + "\n"


def run_program(program: ModuleType, words: Sequence[str]) -> int:
    """Run a program with these words. Raises UsageError if they do not fit, PipelineError for an expected OS error."""
    name = f"pipe lab {program.__name__.rpartition('.')[2]}"
    try:
        typed = build_command(program)(list(words), prog_name=name, standalone_mode=False)
    except _ClickUsageError as error:
        text: str = error.format_message().rstrip(".")  # type: ignore[attr-defined]
        raise UsageError(f"{text[:1].lower()}{text[1:]}", f"see `{name} --help`") from None
    if isinstance(typed, int):
        return typed
    words = next((typed.pop(each) for each in list(typed) if isinstance(typed[each], list)), ())
    InterruptHandler(os.path.dirname(str(program.__file__)))
    try:
        return int(program.main(*words, **typed))
    except TerminationInterrupt:
        return TERMINATED
    except Exception as error:
        number = getattr(error, "errno", None)
        if number not in ERRNO_HINTS:
            raise
        reason = re.sub(r"^\[Errno \d+\] ", "", str(error))
        raise PipelineError(f"{name}: {reason}", f"{ERRNO_HINTS[number]} (see `{name} --help`)") from None


def build_command(program: ModuleType) -> Any:
    """Return the parser of one program. Its result is what was typed, by the names of the options."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    description = f"{program.__doc__}".replace("\n\n    ", "\n\n\b\n    ")  # so that click does not wrap drawings
    text = f"{program.TITLE}\n\n{program.LEARN}\n\n{description}"
    layout = {"max_content_width": 110, "help_option_names": list(_HELP_FLAGS)}
    app.command(help=text, context_settings=layout)(_make_signature(program.main))
    return typer.main.get_command(app)


def _make_signature(program: Callable[..., int]) -> Callable[..., dict[str, Any]]:
    """Return a function with the program's options as typer declares them, which returns its arguments."""

    def collect_options(**values: Any) -> dict[str, Any]:
        return values

    parameters = inspect.signature(program, eval_str=True).parameters.values()
    collect_options.__signature__ = inspect.Signature([_declare_option(each) for each in parameters])  # type: ignore[attr-defined]
    return collect_options


def _declare_option(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return the typer parameter of an option, or of the positional words."""
    kind: Any
    kind, text, *bounds = get_args(parameter.annotation)
    name, default = parameter.name, parameter.default
    minimum, maximum = bounds or (None, None)
    if parameter.kind is parameter.VAR_POSITIONAL:
        declared: Any = Annotated[list[kind], typer.Argument(help=text)]
        default = parameter.empty
    else:
        flag = f"--{name.replace('_', '-')}"
        declared = Annotated[kind, typer.Option(flag, help=text, min=minimum, max=maximum)]
    return inspect.Parameter(name, parameter.KEYWORD_ONLY, default=default, annotation=declared)
