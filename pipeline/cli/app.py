"""Parse the command line into one command and its Settings.

Invariants:
  - A plain command line is parsed here; typer is imported for help, completion, errors and all others. Both read
    the options from the fields of Settings, and a test holds that they agree.
  - Only the module of the chosen command is imported.
  - Nothing runs in here: `parse` returns the choice, so that no framework stands between a command and its exit code.
  - The first `:::` or `::::` ends COMMAND; all words after it are tasks, or marks of further sources.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from msgspec import Struct, field

from pipeline import __version__
from pipeline.cli.plain_parser import TypedOptions, parse_plain
from pipeline.config.settings import TASK_COMMANDS, Settings, parse_settings
from pipeline.model.errors import OK, USAGE, UsageError
from pipeline.model.records import ArgumentSource

SOURCE_MARKS = (":::", "::::", ":::+", "::::+")
FIRST_MARKS = (":::", "::::")


COMMANDS = ("run", "ventilate", "work", "sink", "top", "kill", "journal", "doctor", "completion", "lab")
MONITORING_COMMANDS = {"kill", "top"}
COMPLETE = "_PIPE_COMPLETE"  # the variable in which a shell requests completions
HELP_FLAGS = ("--help", "-h")
ENDPOINT_FIELDS = {"at", "registry_at", "results_at", "control_at"}
SHORT_HELP = """pipe runs a command for each task, in many processes. A task is a line:

  seq 100 | pipe run 'sleep 0.{}; echo slept {}'             a shell line for each
  pipe run gzip -k {} ::: *.log                              arguments instead of lines
  pipe run -a words.txt -o lengths.txt --call builtins:len   a Python function

`pipe --help` shows all commands, `pipe run --help` the options; `pipe doctor` checks this machine.
"""


class ParsedCommand(Struct, frozen=True):
    """A command and its settings; or, if help was shown and nothing is to run, only the exit code."""

    command: str = ""
    settings: Settings = field(default_factory=Settings)
    exit_code: int = 0


def parse(argv: Sequence[str]) -> ParsedCommand:
    """Return the command and settings of these words; show help or version. Raises UsageError."""
    name = argv[0] if argv else ""
    if instruction := os.environ.get(COMPLETE):
        from pipeline.cli.completion import complete

        return ParsedCommand(exit_code=complete(instruction))
    if name not in COMMANDS:
        return ParsedCommand(exit_code=_handle_missing_command(argv))
    if name == "lab" and not {*argv[1:2]} & {*HELP_FLAGS}:
        # the programs of the lab parse their own options
        return ParsedCommand(name, Settings(program=tuple(argv[1:])))
    words, sources = split_argument_sources(argv[1:]) if name in TASK_COMMANDS.split() else (list(argv[1:]), ())
    typed: TypedOptions | int | None = parse_plain(name, words)
    if typed is None:
        from pipeline.cli.click_parser import parse_command

        typed = parse_command(name, words)
    if isinstance(typed, int):
        return ParsedCommand(exit_code=typed)
    if "name" not in typed:
        typed.update(_default_name(name, typed))
    return ParsedCommand(name, parse_settings({**typed, "argument_sources": sources}).validate(name))


def split_argument_sources(words: Sequence[str]) -> tuple[list[str], tuple[ArgumentSource, ...]]:
    """Return the words before the first source, and the sources."""
    start = next((at for at, word in enumerate(words) if word in FIRST_MARKS), len(words))
    sources: list[tuple[str, list[str]]] = []
    for word in words[start:]:
        if word in SOURCE_MARKS:
            sources.append((word, []))
        else:
            sources[-1][1].append(word)
    return list(words[:start]), tuple(ArgumentSource(mark, tuple(values)) for mark, values in sources)


def _default_name(name: str, options: TypedOptions) -> TypedOptions:
    """Return the pipeline name if none was typed: for `run` a private one, for `top` and `kill` the live one."""
    if name == "run":
        return {"name": f"run-{os.getpid()}"}
    if name not in MONITORING_COMMANDS or not options.keys().isdisjoint(ENDPOINT_FIELDS):
        return {}
    from pipeline.transport.endpoints import list_live_runs

    live = sorted(list_live_runs())
    if len(live) > 1:
        raise UsageError(f"several pipelines are running: {', '.join(live)}", "choose one with --name")
    return {"name": live[0]} if live else {}


def _handle_missing_command(argv: Sequence[str]) -> int:
    """Show help or version if the first word is not a command, and return the exit code. Raises UsageError."""
    if not argv:
        sys.stderr.write(SHORT_HELP)
        return USAGE
    if argv[0] == "--version":
        sys.stdout.write(f"pipe {__version__}\n")
        return OK
    if argv[0] not in HELP_FLAGS:
        from pipeline.cli import suggestions

        raise suggestions.unknown_command_error(argv, COMMANDS)
    from pipeline.cli.click_parser import show_group_help

    return show_group_help(argv[:1])
