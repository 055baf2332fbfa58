"""A command's signature and the table of its options, built from the fields of Settings.

Promises: an option is written down once; what the signed function returns holds what was typed and nothing else, by
the fields' names, as texts. Never converts and never judges: that is `settings_from` and `Settings.validate`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

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
from pipeline.config.settings import OPTIONS, Option

TypedOptions = dict[str, Any]

# a field that is both an option and the words has two parameters; the words' one ends so
_WORDS_SUFFIX = "_"
HELP_SECTIONS = {
    "command": "Commands",
    "files": "Tasks",
    "output": "Results",
    "failed": "Failures, and going on",
    "name": "Where the stations meet",
    "peer_timeout": "Times",
    "now": "Talk",
}
"""The headings in a command's help, each by the first field that it stands above."""
ALIASES = {
    "--jobs": "-P --max-procs --maxprocs",
    "--cwd": "--work-dir --workdir",
    "--dry-run": "--dryrun --dr",
    "--tagstring": "--tag-string",
    "--arg-file": "--argfile",
    "--max-args": "--maxargs --max-replace-args --maxreplaceargs",
    "--keep-order": "--keeporder",
    "--line-buffer": "--line-buffered --linebuffer --linebuffered",
    "--results": "--result --res",
    "--joblog": "--jl",
    "--resume-failed": "--resumefailed",
}
"""Other names of the same in GNU parallel and xargs: taken, and not shown."""


def make_signature(command: str) -> Callable[..., TypedOptions]:
    """A function with the signature of `command`: what was typed comes in, and goes out."""

    def collect_options(**values: Any) -> TypedOptions:
        gathered: TypedOptions = {}
        for name, value in values.items():
            plain = name.removesuffix(_WORDS_SUFFIX)
            if value or value is False:  # as --no-bar is
                gathered[plain] = gathered[plain] + value if plain in gathered else value
        return gathered

    parameters = [_option_parameter(each) for each in OPTIONS if command in each.on]
    parameters += [_words_parameter(each) for each in OPTIONS if command in each.words]
    collect_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return collect_options


def help_sections(command: str) -> dict[str, list[tuple[str, str]]]:
    """The options of `command` under their headings: how each is written, and what it is about."""
    found: dict[str, list[tuple[str, str]]] = {}
    panel = ""
    for each in OPTIONS:
        panel = HELP_SECTIONS.get(each.name, panel)
        if command in each.on:
            flags = sorted(each.flags, key=lambda flag: flag.startswith("--"))
            written = f"{', '.join(flags)} {each.kind.metavar}".rstrip()
            found.setdefault(panel, []).append((written, each.about + _default_text(each)))
    return found


def _words_parameter(field: Option) -> inspect.Parameter:
    """The words of a command line that are no options; the command's help speaks of them, so no table does."""
    kind = field.kind
    argument = typer.Argument(
        metavar=kind.metavar, hidden=True, autocompletion=_completer(kind, field.name + _WORDS_SUFFIX)
    )
    shape = str | None if field.type == "str" else list[str] | None
    return _parameter(field.name + _WORDS_SUFFIX, None, Annotated[shape, argument])


def _option_parameter(field: Option) -> inspect.Parameter:
    """One option, as its field says. All values are texts, apart from flags."""
    shape, default = _TYPES_AND_DEFAULTS.get(field.type, (str | None, None))
    aliases = ALIASES.get(field.flags[0], "").split()
    about = field.about.replace("[", r"\[")  # typer's completion takes it for rich's markup
    completer = _completer(field.kind, field.name)
    declared = typer.Option(*field.flags, *aliases, help=about, count=field.name == "verbose", autocompletion=completer)
    return _parameter(field.name, default, Annotated[shape, declared])


def _completer(kind: OptionType, name: str) -> Callable[..., list[str]] | None:
    """Return what completes a value of this kind, or None: the shell completes file names."""
    if kind not in _COMPLETED:
        return None

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from pipeline.cli.completion import values

        is_complete = ctx.params.get(name) or ctx.params.get("command" + _WORDS_SUFFIX)
        return [] if is_complete else values(kind, incomplete)

    return complete


_COMPLETED = (COMMAND, DURABILITY, NAME, PROGRAM, SHELL)


# by the field's type as it is written there; all else is one text
_TYPES_AND_DEFAULTS: dict[Any, tuple[Any, object]] = {
    "bool": (bool, False),
    "bool | None": (bool | None, None),
    "tuple[str, ...]": (list[str] | None, None),
}


def _parameter(name: str, default: object, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _default_text(field: Option) -> str:
    """The default as a person would type it, for the help; empty if there is none to show."""
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
