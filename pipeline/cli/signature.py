"""A command's signature, built from the fields of Settings, so that an option is written down once.

Promises: what the signed function returns holds what was typed and nothing else, by the fields' names, as texts.
Never converts and never judges: that is `settings_from` and `Settings.validate`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Annotated, Any

import typer

from pipeline.words.kinds import FLAG, GIB, KIB, MIB, SIZE, Kind, seconds
from pipeline.words.settings import Settings

Typed = dict[str, Any]

# a field that is both an option and the words has two parameters; the words' one ends so
_AS_WORDS = "_"


def signed(command: str) -> Callable[..., Typed]:
    """A function with the signature of `command`: what was typed comes in, and goes out."""

    def typed(**given: Any) -> Typed:
        gathered: Typed = {}
        for name, value in given.items():
            plain = name.removesuffix(_AS_WORDS)
            if value:
                gathered[plain] = gathered[plain] + value if plain in gathered else value
        return gathered

    parameters = [_option(each) for each in fields(Settings) if command in each.metadata["on"]]
    parameters += [_words(each) for each in fields(Settings) if command in each.metadata["words"]]
    typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return typed


def _words(each: Field[Any]) -> inspect.Parameter:
    """The words of a command line that are no options; the command's help speaks of them, so no table does."""
    argument = typer.Argument(metavar=each.metadata["kind"].metavar, hidden=True)
    shape = str | None if each.type == "str" else list[str] | None
    return _parameter(each.name + _AS_WORDS, None, Annotated[shape, argument])


def _option(each: Field[Any]) -> inspect.Parameter:
    """One option, as its field says. All values are texts, apart from flags."""
    meta = each.metadata
    shape, default = _SHAPES.get(each.type, (str | None, None))
    declared = typer.Option(
        *meta["flags"],
        help=meta["help"] + _shown(each),
        metavar=meta["kind"].metavar or None,
        show_default=False,
        count=each.name == "verbose",
    )
    return _parameter(each.name, default, Annotated[shape, declared])


# by the field's type as it is written there; all else is one text
_SHAPES: dict[Any, tuple[Any, object]] = {
    "bool": (bool, False),
    "tuple[str, ...]": (list[str] | None, None),
}


def _parameter(name: str, default: object, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _shown(each: Field[Any]) -> str:
    """The default as a person would type it, for the help; empty if there is none to show."""
    kind: Kind = each.metadata["kind"]
    value: Any = each.default
    if not value or kind is FLAG:
        return ""
    if kind.read is seconds:
        text = f"{value:g}s"
    elif kind is SIZE:
        unit, letter = next((u, x) for u, x in ((GIB, "G"), (MIB, "M"), (KIB, "K"), (1, "")) if value % u == 0)
        text = f"{value // unit}{letter}"
    else:
        text = str(value)
    return f" [{text}]"
