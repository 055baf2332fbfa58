"""The parser of plain command lines: known options with their values, then the words of COMMAND or FILE.

`parse_plain` returns None for everything else, and click parses those lines: help, mistakes, unusual forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.config.settings import ALIASES, OPTIONS, WORK_COMMANDS, Option

TypedOptions = dict[str, Any]
"""The texts that the user typed, by field names."""


def parse_plain(command: str, words: Sequence[str]) -> TypedOptions | None:
    """Return what was typed after `command`; None if click has to parse it."""
    options = {flag: each for each in OPTIONS if command in each.on for flag in _flags(each)}
    positional = next((each for each in OPTIONS if command in each.positional_on), None)
    typed: TypedOptions = {}
    rest: list[str] = []
    left = list(reversed(words))
    while left:
        word = left.pop()
        if word == "--":
            rest += reversed(left)
            break
        if len(word) > 1 and word.startswith("-"):
            if not _parse_option(word, left, options, typed):
                return None
            continue
        rest.append(word)
        if command in WORK_COMMANDS.split():  # options end at the first word of COMMAND
            rest += reversed(left)
            break
    return _add_positional(typed, rest, positional)


def _flags(option: Option) -> list[str]:
    flags = [name for flag in option.flags for name in flag.split("/")]
    return flags + ALIASES.get(option.flags[0], "").split()


def _negative_flag(option: Option) -> str:
    """Return the second form of a flag like `--bar/--no-bar`; empty if it has none."""
    return option.flags[0].partition("/")[2]


def _parse_option(word: str, left: list[str], options: dict[str, Option], typed: TypedOptions) -> bool:
    """Add one word of options, and its value from `left`; return False if it is not plain."""
    if word.startswith("--"):
        flag, has_value, value = word.partition("=")
        return flag in options and _add_option(flag, options[flag], value if has_value else None, left, typed)
    for at in range(1, len(word)):  # -kq -j4
        flag = "-" + word[at]
        if flag not in options:
            return False
        value = word[at + 1 :]
        if options[flag].kind.metavar:
            return _add_option(flag, options[flag], value or None, left, typed)
        if not _add_option(flag, options[flag], None, left, typed):
            return False
    return True


def _add_option(flag: str, option: Option, value: str | None, left: list[str], typed: TypedOptions) -> bool:
    """Add an option with its value, or the next word as its value; return False if it is not plain."""
    name = option.name
    if not option.kind.metavar:
        typed[name] = typed.get(name, 0) + 1 if name == "verbose" else flag != _negative_flag(option)
        return value is None
    if value is None:
        if not left:
            return False
        value = left.pop()
    if option.type.startswith("tuple"):
        typed.setdefault(name, []).append(value)
    else:
        typed[name] = value
    return True


def _add_positional(typed: TypedOptions, rest: list[str], positional: Option | None) -> TypedOptions | None:
    """Add the words that belong to no option; None if there are too many."""
    if rest and positional is None:
        return None
    if rest and positional:
        if positional.type == "str":
            if len(rest) > 1:
                return None
            typed[positional.name] = rest[0]
        else:
            typed[positional.name] = typed.get(positional.name, []) + rest
    return {name: value for name, value in typed.items() if value or value is False}
