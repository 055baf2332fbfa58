"""Parse the command line into one command and its Settings.

Invariants:
  - Signatures and help are built from the fields of Settings.
  - Typer declares and click parses; only the module of the chosen command is imported.
  - Nothing runs in here: `parse` returns the choice, so that no framework stands between a command and its exit code.
  - The first `:::` or `::::` ends COMMAND; all words after it are tasks, or marks of further sources.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from msgspec import Struct, field
from typer.core import TyperCommand, TyperGroup

from pipeline import __version__
from pipeline.cli.options import ADVANCED_SECTION, ALIASES, HELP_ALL, TypedOptions, help_sections, make_signature
from pipeline.config.settings import TASK_COMMANDS, WORK_COMMANDS, Settings, parse_settings
from pipeline.model.errors import OK, USAGE, UsageError
from pipeline.model.records import ArgumentSource

SOURCE_MARKS = (":::", "::::", ":::+", "::::+")
FIRST_MARKS = (":::", "::::")


COMMAND_GROUPS = {
    "On this machine": "run",
    "On one or more machines": "ventilate work sink",
    "During a run": "top kill",
    "Other": "journal doctor completion lab",
}
COMMANDS = tuple(" ".join(COMMAND_GROUPS.values()).split())
MONITORING_COMMANDS = {"kill", "top"}
ENDPOINT_FIELDS = {"at", "registry_at", "results_at", "control_at"}
COMPLETE = "_PIPE_COMPLETE"  # the variable in which a shell requests completions
_LAYOUT: dict[str, Any] = {"max_content_width": 110, "help_option_names": ["--help", "-h"]}
GROUP_HELP = """Run a command or a Python function for each task, in many processes and on many machines.

\b
Examples:
  seq 100 | pipe run 'sleep 0.{}; echo slept {}'
  pipe run gzip -k {} ::: *.log
  pipe run -a words.txt -o lengths.txt --call builtins:len

A task is a line. `pipe run` does everything on this machine; `pipe ventilate`, `pipe work` and `pipe sink` are its
three parts, which may start in any order, here or on many machines. Each command's --help has examples.

\b
Exit codes: 0 all tasks ok, 1 some failed, 2 wrong usage, 3 could not be completed,
130 and 143 interrupted, 141 stdout closed, 70 a bug of pipe.
"""
SHORT_HELP = """pipe runs a command for each task, in many processes. A task is a line:

  seq 100 | pipe run 'sleep 0.{}; echo slept {}'             a shell line for each
  pipe run gzip -k {} ::: *.log                              arguments instead of lines
  pipe run -a words.txt -o lengths.txt --call builtins:len   a Python function

`pipe --help` shows all commands, `pipe run --help` the options; `pipe doctor` checks this machine.
"""

# click's UsageError: typer carries a click of its own, and exports only what is derived from it
_ClickUsageError: type[Exception] = typer.BadParameter.__bases__[0]


class ParsedCommand(Struct, frozen=True):
    """A command and its settings; or, if help was shown and nothing is to run, only the exit code."""

    command: str = ""
    settings: Settings = field(default_factory=Settings)
    exit_code: int = 0


class PipeCommand(TyperCommand):
    """A command that takes values as click's parser read them, and hides its advanced options."""

    shows_advanced = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse without typer's conversion: it uses pydantic, whose import takes longer than all else here."""
        if ctx.resilient_parsing:
            return self._parse_to_complete(ctx, args)
        values, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        self.shows_advanced = values.get(HELP_ALL) is True
        if values.get("help") is True or self.shows_advanced:
            return super().parse_args(ctx, ["--help"])
        if rest:
            ctx.fail(f"unexpected argument: {' '.join(rest)}")
        ctx.params = values
        return []

    def _parse_to_complete(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words before the cursor. After `-ko`, the next word is not COMMAND, which typer does not see."""
        values, _, _ = self.make_parser(ctx).parse_args(args=[*args, "next"])
        rest = super().parse_args(ctx, args)
        if "command_" in ctx.params and not values["command_"]:
            ctx.params["command_"] = ["value of an option"]
        return rest

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete options before COMMAND, without the other names of an option."""
        if ctx.params.get("command_"):
            return []
        others = " ".join(ALIASES.values()).split()
        return [item for item in super().shell_complete(ctx, incomplete) if item.value not in others]

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 -- click calls it so
        """Write the options under their headings; the advanced ones only with --help-all."""
        assert self.name
        sections = help_sections(self.name)
        help_rows = [("-h, --help", "show this help")]
        if ADVANCED_SECTION in sections:
            help_rows.append(("--help-all", "show all options, including advanced ones"))
            if not self.shows_advanced:
                del sections[ADVANCED_SECTION]
        _write_tables(formatter, sections | {"Help": help_rows})


class PipeGroup(TyperGroup):
    """All commands under their headings. A command is built when click requests it."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 -- click calls it so
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:  # noqa: ARG002 -- click calls it so
        return build_command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 -- click calls it so
        """Write each command with the first line of its help."""
        helps = {name: build_command(name).get_short_help_str(formatter.width) for name in COMMANDS}
        tables = {title: [(name, helps[name]) for name in names.split()] for title, names in COMMAND_GROUPS.items()}
        _write_tables(formatter, tables)


def _write_tables(formatter: Any, tables: dict[str, list[tuple[str, str]]]) -> None:
    """Write tables of two columns, all with the same width of the first column."""
    width = max(len(left) for rows in tables.values() for left, _ in rows)
    for heading, rows in tables.items():
        with formatter.section(heading):
            formatter.write_dl([(left.ljust(width), right) for left, right in rows])


def parse(argv: Sequence[str]) -> ParsedCommand:
    """Return the command and settings of these words; show help or version. Raises UsageError."""
    name = argv[0] if argv else ""
    if instruction := os.environ.get(COMPLETE):
        from pipeline.cli.completion import complete

        return ParsedCommand(exit_code=complete(instruction))
    if name not in COMMANDS:
        return ParsedCommand(exit_code=_handle_missing_command(argv))
    if name == "lab" and not {*argv[1:2]} & {*_LAYOUT["help_option_names"]}:
        # the programs of the lab parse their own options
        return ParsedCommand(name, Settings(program=tuple(argv[1:])))
    words, sources = split_argument_sources(argv[1:]) if name in TASK_COMMANDS.split() else (list(argv[1:]), ())
    typed = _invoke_parser(build_command(name), words, f"pipe {name}")
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


def build_command(name: str) -> TyperCommand:
    """Return the parser of one command. Its result is what was typed, by field names."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    declare = app.command(
        name,
        cls=PipeCommand,
        help=import_module(f"pipeline.cli.{name}").HELP,
        # options end at the first word of COMMAND, since the following words belong to COMMAND
        context_settings={"allow_interspersed_args": name not in WORK_COMMANDS.split(), **_LAYOUT},
    )
    declare(make_signature(name))
    built = typer.main.get_command(app)
    assert isinstance(built, TyperCommand)  # typer makes no group of a single command
    return built


def build_group() -> TyperGroup:
    """Return the group of all commands, for `pipe --help`."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

    @app.callback(cls=PipeGroup, help=GROUP_HELP, context_settings=_LAYOUT)
    def _pipe(*, version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
        """Declare --version for the help; `parse` handles it."""
        del version

    return typer.main.get_group(app)


def _handle_missing_command(argv: Sequence[str]) -> int:
    """Show help or version if the first word is not a command, and return the exit code. Raises UsageError."""
    if not argv:
        typer.echo(SHORT_HELP, nl=False, err=True)
        return USAGE
    if argv[0] == "--version":
        typer.echo(f"pipe {__version__}")
        return OK
    if argv[0] not in _LAYOUT["help_option_names"]:
        from pipeline.cli import suggestions

        raise suggestions.unknown_command_error(argv, COMMANDS)
    return int(_invoke_parser(build_group(), argv[:1], "pipe"))


def _invoke_parser(parser: Any, words: Sequence[str], name: str) -> Any:
    """Return the parser's result, or an exit code after it has shown its help. Raises UsageError."""
    try:
        return parser.main(list(words), prog_name=name, standalone_mode=False)
    except _ClickUsageError as error:
        from pipeline.cli import suggestions

        raise suggestions.usage_error(error, name) from None
