"""The typer signature of each command and the table of its options, built from the fields of Settings.

Invariants:
  - An option is declared once, in `pipeline.config.settings`.
  - The signed function returns what was typed, as texts, by field names, and nothing else.
  - Nothing here converts or checks a value: `parse_settings` and `Settings.validate` do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from pipeline.cli.plain_parser import TypedOptions
from pipeline.config.option_types import (
    COMMAND,
    DURABILITY,
    FLAG,
    GIB,
    KIB,
    MIB,
    NAME,
    PROGRAM,
    SHELL,
    SIZE,
    OptionType,
    parse_seconds,
)
from pipeline.config.settings import ALIASES, OPTIONS, Option

# a field that is both an option and positional has two parameters; this ends the name of the positional one
POSITIONAL_SUFFIX = "_"
# the headings in a command's help, each by the first field below it
HELP_SECTIONS = {
    "command": "Commands",
    "files": "Tasks",
    "output": "Results",
    "failed": "Failures and resuming",
    "name": "Endpoints",
    "now": "Display",
}
ADVANCED_SECTION = "Advanced"
HELP_ALL = "help_all"
# the parameter's type and default, by the field's type as written; other fields take one text
_TYPES_AND_DEFAULTS: dict[Any, tuple[Any, object]] = {
    "bool": (bool, False),
    "bool | None": (bool | None, None),
    "tuple[str, ...]": (list[str] | None, None),
}
_COMPLETED_TYPES = (COMMAND, DURABILITY, NAME, PROGRAM, SHELL)


def make_signature(command: str) -> Callable[..., TypedOptions]:
    """Return a function with the signature of `command`, which returns its arguments that were typed."""

    def collect_options(**values: Any) -> TypedOptions:
        typed: TypedOptions = {}
        for name, value in values.items():
            field = name.removesuffix(POSITIONAL_SUFFIX)
            if value or value is False:  # --no-bar is False, a missing flag None
                typed[field] = typed[field] + value if field in typed else value
        return typed

    parameters = [_option_parameter(each) for each in OPTIONS if command in each.on]
    parameters += [_positional_parameter(each) for each in OPTIONS if command in each.positional_on]
    help_all = Annotated[bool | None, typer.Option("--help-all", help="show all options")]
    parameters.append(_parameter(HELP_ALL, None, help_all))
    collect_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return collect_options


def help_sections(command: str) -> dict[str, list[tuple[str, str]]]:
    """Return the rows of the help of `command` by their headings: how an option is written, and its help text."""
    sections: dict[str, list[tuple[str, str]]] = {}
    advanced: list[tuple[str, str]] = []
    heading = ""
    for each in OPTIONS:
        heading = HELP_SECTIONS.get(each.name, heading)
        if command in each.on:
            flags = sorted(each.flags, key=lambda flag: flag.startswith("--"))
            row = (f"{', '.join(flags)} {each.kind.metavar}".rstrip(), each.about + _default_text(each))
            (advanced if each.is_advanced else sections.setdefault(heading, [])).append(row)
    return sections | ({ADVANCED_SECTION: advanced} if advanced else {})


def _positional_parameter(field: Option) -> inspect.Parameter:
    """Return the parameter of positional words. The command's help describes them, so no table shows them."""
    kind, name = field.kind, field.name + POSITIONAL_SUFFIX
    argument = typer.Argument(metavar=kind.metavar, hidden=True, autocompletion=_completer(kind, name))
    return _parameter(name, None, Annotated[str | None if field.type == "str" else list[str] | None, argument])


def _option_parameter(field: Option) -> inspect.Parameter:
    annotation, default = _TYPES_AND_DEFAULTS.get(field.type, (str | None, None))
    aliases = ALIASES.get(field.flags[0], "").split()
    about = field.about.replace("[", r"\[")  # typer's completion takes it for rich's markup
    completer = _completer(field.kind, field.name)
    declared = typer.Option(*field.flags, *aliases, help=about, count=field.name == "verbose", autocompletion=completer)
    return _parameter(field.name, default, Annotated[annotation, declared])


def _completer(kind: OptionType, name: str) -> Callable[..., list[str]] | None:
    """Return the function that completes a value of this kind, or None: the shell then completes file names."""
    if kind not in _COMPLETED_TYPES:
        return None

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from pipeline.cli.completion import values

        is_complete = ctx.params.get(name) or ctx.params.get("command" + POSITIONAL_SUFFIX)
        return [] if is_complete else values(kind, incomplete)

    return complete


def _parameter(name: str, default: object, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _default_text(field: Option) -> str:
    """Return the default as the user would type it, in brackets; empty if there is none to show."""
    kind, value = field.kind, field.default
    if not value or kind is FLAG:
        return ""
    if kind.parse is parse_seconds:
        text = f"{value:g}s"
    elif kind is SIZE:
        unit, letter = next((u, x) for u, x in ((GIB, "G"), (MIB, "M"), (KIB, "K"), (1, "")) if value % u == 0)
        text = f"{value // unit}{letter}"
    else:
        text = str(value)
    return f" [{text}]"
