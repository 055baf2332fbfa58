"""What a person typed who is used to other names: the right option, the right command, or what to do instead.

GNU parallel's and xargs's names that mean the same here are aliases (see signature.py); the others are told of here.
Promises: an answer to any wrong word ends with something that can be typed. Never imported where nothing is wrong.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from difflib import get_close_matches

from pipeline.cli.instead import PARALLEL_REPLACEMENTS
from pipeline.cli.signature import ALIASES
from pipeline.words.errors import UsageError
from pipeline.words.settings import OPTIONS, Option

OPTION_SIMILARITY, COMMAND_SIMILARITY = 0.7, 0.6
"""How alike two names are that may be mixed up, as difflib counts it; commands are short, and few."""
MAX_SUGGESTIONS = 3
COMMAND_SYNONYMS = {
    "kill": "stop cancel abort end quit term",
    "top": "status ps stat progress watch monitor show ls list",
    "run": "start exec parallel xargs map",
    "work": "worker workers slave agent",
    "ventilate": "ventilator vent feed submit push source",
    "sink": "collect gather reduce results",
    "journal": "log dump",
    "doctor": "check diagnose health selftest",
    "completion": "complete completions",
}


def with_suggestion(error: Exception, program_name: str) -> str:
    """What to say of a complaint of the parser of `pipe COMMAND`, which is its `name`."""
    said: str = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    option: str = getattr(error, "option_name", "") or ""
    if hasattr(error, "possibilities"):
        return unknown_option_text(option, program_name.rsplit(maxsplit=1)[-1])
    kinds = [each.kind.metavar for each in OPTIONS if option in each.flags]
    if option and kinds and "requires an argument" in said:
        return f"option {option!r} requires an argument: give it as `{option} {kinds[0]}`"
    return f"{said[:1].lower()}{said[1:]} (see `{program_name} --help`)"


def unknown_option_text(option: str, command: str) -> str:
    """What is right instead of an option that `pipe COMMAND` does not have."""
    said = f"no such option: {option}"
    elsewhere = _commands_with_option(option)
    if elsewhere:
        names = " and ".join(f"`pipe {other}`" for other in elsewhere)
        return f"{said}; it belongs to {names}, not to `pipe {command}`"
    if option in PARALLEL_REPLACEMENTS:
        return f"{said}; {PARALLEL_REPLACEMENTS[option]}"
    near = _similar_options(option, command)
    if near:
        return f"{said}; did you mean {', '.join(near)}?"
    return f"{said} (see `pipe {command} --help`)"


def unknown_command_error(words: Sequence[str], commands: Sequence[str]) -> UsageError:
    """What is right instead of a first word that is no command. `words` has at least one."""
    first = words[0]
    if first.startswith("-"):
        flag = first.partition("=")[0] if first.startswith("--") else first[:2]
        way = (
            f"; options stand behind the command: `pipe run {_shorten_command(words)}`"
            if _commands_with_option(flag)
            else ""
        )
        return UsageError(f"no such option: {flag}{way} (see `pipe --help`)")
    meant = [command for command, others in COMMAND_SYNONYMS.items() if first.lower() in others.split()]
    meant += get_close_matches(first.lower(), commands, n=1, cutoff=COMMAND_SIMILARITY)
    said = f"no such command: {first}"
    if meant:
        return UsageError(f"{said}; did you mean `pipe {meant[0]}`?")
    return UsageError(f"{said}; to run it for each task: `pipe run {_shorten_command(words)}` (see `pipe --help`)")


def _shorten_command(words: Sequence[str]) -> str:
    """The words as they could be typed, cut short."""
    few = shlex.join(words[:4])
    return f"{few} ..." if len(words) > len(words[:4]) else few


def _commands_with_option(option: str) -> list[str]:
    """The commands that have this option, the most used first, without `run` where a station has it, too."""
    names = {alias: flag for flag, others in ALIASES.items() for alias in others.split()}
    flag = names.get(option, option)
    found = [each.on for each in OPTIONS if flag in _field_flags(each)]
    order = ("ventilate", "work", "sink", "run", "kill", "top", "doctor")
    on = [command for command in order if found and command in found[0]]
    return [command for command in on if command != "run" or len(on) == 1]


def _similar_options(option: str, command: str) -> list[str]:
    """The options of `command` that may have been meant: those that begin so, else those that look alike."""
    if len(option.lstrip("-")) <= 1:
        return []
    known = [flag for each in OPTIONS if command in each.on for flag in _field_flags(each)]
    names = {flag: flag for flag in known if flag.startswith("--")}
    begun = [flag for flag in names if flag.startswith(option)]
    names |= {alias: flag for flag, others in ALIASES.items() if flag in known for alias in others.split()}
    begun = begun or [flag for name, flag in names.items() if name.startswith(option)]
    alike = get_close_matches(f"--{option.lstrip('-')}", names, n=MAX_SUGGESTIONS, cutoff=OPTION_SIMILARITY)
    return list(dict.fromkeys(begun or [names[name] for name in alike]))[:MAX_SUGGESTIONS]


def _field_flags(field: Option) -> list[str]:
    """The flags of a field, `--bar/--no-bar` being two."""
    return [flag for flags in field.flags for flag in flags.split("/")]
