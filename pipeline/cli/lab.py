"""`pipe lab`: a command for each program of the lab, made of the signature of its `main`.

Promises: the lab knows no typer; a program's options stand nowhere else. Lets a program end with its own exit code;
what is in its way (a port that is taken) is told in a sentence.
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

`pipe lab` lists them, each with what to learn there; `pipe lab NAME --help` shows one's options. Ends with 0 when all
is as it should be, with 1 when something was lost or is not as promised, with 3 when nobody was there.

\b
Examples:
  pipe lab
  pipe lab batch --kill
  pipe lab relay --help
"""
PLACE_HINT = "its options choose another place"
ERRNO_HINTS = {
    **dict.fromkeys((errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EINVAL, errno.ENODEV), PLACE_HINT),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTEMPTY, errno.ENOENT, errno.ENOTDIR), PLACE_HINT),
    errno.ENOSPC: "make room there",
    errno.ENAMETOOLONG: "set TMPDIR to a folder with a short name",
    errno.EMFILE: "`ulimit -n` allows so few open files; raise it, or ask for less",
}
"""What can be in a program's way, by its errno, and what to do."""
_HELP_FLAGS = ("--help", "-h")
# click's UsageError, as in app.py
_ClickUsageError: type[Exception] = typer.BadParameter.__bases__[0]


def main(settings: Settings, console: UserConsole) -> int:  # noqa: ARG001 -- all commands are called alike
    """Run the program that the words of `settings.program` ask for, or list all; the exit code is its own."""
    words = settings.program
    if not words:
        sys.stdout.write(list_programs())
        return OK
    if words[0] not in PROGRAMS:
        raise UsageError(f"no such program: {words[0]}; the lab has {', '.join(PROGRAMS)}")
    program = import_module(f"pipeline.lab.{words[0]}")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # two programs that share a file shall not mix their lines
    return run_program(program, words[1:])


def list_programs() -> str:
    """All programs, each with what it is and what to learn there."""
    lines = ["The programs of the lab; `pipe lab NAME --help` says more.", ""]
    for name in PROGRAMS:
        program = import_module(f"pipeline.lab.{name}")
        lines += [f"  {name:<10}  {program.TITLE}", f"  {'':<10}    {program.LEARN}"]
    return "\n".join(lines) + "\n"


def run_program(program: ModuleType, words: Sequence[str]) -> int:
    """Run a program with these words. Raises UsageError when they don't fit, PipelineError when the way is barred."""
    name = f"pipe lab {program.__name__.rpartition('.')[2]}"
    try:
        typed = build_command(program)(list(words), prog_name=name, standalone_mode=False)
    except _ClickUsageError as wrong:
        said: str = wrong.format_message().rstrip(".")  # type: ignore[attr-defined]
        raise UsageError(f"{said[:1].lower()}{said[1:]} (see `{name} --help`)") from None
    if isinstance(typed, int):
        return typed
    words = next((typed.pop(each) for each in list(typed) if isinstance(typed[each], list)), ())
    InterruptHandler(os.path.dirname(str(program.__file__)))
    try:
        return int(program.main(*words, **typed))
    except TerminationInterrupt:
        return TERMINATED
    except Exception as wrong:
        number = getattr(wrong, "errno", None)
        if number not in ERRNO_HINTS:
            raise
        why = re.sub(r"^\[Errno \d+\] ", "", str(wrong))
        raise PipelineError(f"{name}: {why}; {ERRNO_HINTS[number]} (see `{name} --help`)") from None


def build_command(program: ModuleType) -> Any:
    """The parser of one program; what it returns is what was typed, by the names of its options."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    drawn = f"{program.__doc__}".replace("\n\n    ", "\n\n\b\n    ")  # click shall not fill pictures as paragraphs
    text = f"{program.TITLE}\n\n{program.LEARN}\n\n{drawn}"
    layout = {"max_content_width": 110, "help_option_names": list(_HELP_FLAGS)}
    app.command(help=text, context_settings=layout)(_make_signature(program.main))
    return typer.main.get_command(app)


def _make_signature(program: Callable[..., int]) -> Callable[..., dict[str, Any]]:
    """A function with the program's options as typer wants them: what was typed comes in, and goes out."""

    def collect_options(**values: Any) -> dict[str, Any]:
        return values

    parameters = inspect.signature(program, eval_str=True).parameters.values()
    collect_options.__signature__ = inspect.Signature([_declare_option(each) for each in parameters])  # type: ignore[attr-defined]
    return collect_options


def _declare_option(parameter: inspect.Parameter) -> inspect.Parameter:
    """One option, or the words."""
    kind: Any
    kind, told, *bounds = get_args(parameter.annotation)
    name, default = parameter.name, parameter.default
    least, most = bounds or (None, None)
    if parameter.kind is parameter.VAR_POSITIONAL:
        declared: Any = Annotated[list[kind], typer.Argument(help=told)]
        default = parameter.empty
    else:
        declared = Annotated[kind, typer.Option(f"--{name.replace('_', '-')}", help=told, min=least, max=most)]
    return inspect.Parameter(name, parameter.KEYWORD_ONLY, default=default, annotation=declared)
