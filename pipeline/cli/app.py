"""Parses the command line.

Tasks on the command line: what stands behind `:::`, `::::`, `:::+` and `::::+`.

The first `:::` or `::::` ends COMMAND; all words behind it are tasks, or marks of further sources.

From the words of a command line to one command and its Settings.

Signatures and help are built from the fields of Settings, so an option is written down once. Typer declares
and click parses; only the chosen command's module is imported. Nothing runs in here: the choice is handed
back, so that no framework stands between a command and its exit code.
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
from pipeline.cli.options import ALIASES, TypedOptions, help_sections, make_signature
from pipeline.config.settings import TASK_COMMANDS, WORK_COMMANDS, Settings, parse_settings
from pipeline.model.errors import OK, USAGE, UsageError
from pipeline.model.records import ArgumentSource

SOURCE_MARKS = (":::", "::::", ":::+", "::::+")
FIRST_MARKS = (":::", "::::")


def split_argument_sources(words: Sequence[str]) -> tuple[list[str], tuple[ArgumentSource, ...]]:
    """The words before the first source, and the sources."""
    start = next((at for at, word in enumerate(words) if word in FIRST_MARKS), len(words))
    sources: list[tuple[str, list[str]]] = []
    for word in words[start:]:
        if word in SOURCE_MARKS:
            sources.append((word, []))
        else:
            sources[-1][1].append(word)
    return list(words[:start]), tuple(ArgumentSource(mark, tuple(values)) for mark, values in sources)


COMMAND_GROUPS = {
    "All on this machine": "run",
    "The three stations": "ventilate work sink",
    "While a run goes on": "top kill",
    "Besides": "journal doctor completion lab",
}
"""The commands under their headings."""
COMMANDS = tuple(" ".join(COMMAND_GROUPS.values()).split())
MONITORING_COMMANDS = {"kill", "top"}
ENDPOINT_FIELDS = {"at", "registry_at", "results_at", "control_at"}
COMPLETE = "_PIPE_COMPLETE"
"""The variable in which a shell asks for completions."""
_LAYOUT: dict[str, Any] = {"max_content_width": 110, "help_option_names": ["--help", "-h"]}
GROUP_HELP = """Spread tasks over many processes and machines; bring each result home, once.

\b
Examples:
  seq 100 | pipe run 'sleep 0.{}; echo slept {}'
  pipe run gzip -k {} ::: *.log
  pipe run -a words.txt -o lengths.txt --call builtins:len

A task is a line. `pipe run` does all on this machine; `pipe ventilate`, `pipe work` and `pipe sink` are its three
stations, to be started in any order, here or on many machines. Each command's --help has examples.

\b
Exit codes: 0 all tasks ok, 1 some failed, 2 wrong usage, 3 could not be completed,
130 and 143 interrupted, 141 stdout closed, 70 a bug of pipe.
"""
SHORT_HELP = """pipe spreads tasks over many processes. A task is a line:

  seq 100 | pipe run 'sleep 0.{}; echo slept {}'             a shell line for each
  pipe run gzip -k {} ::: *.log                              arguments instead of lines
  pipe run -a words.txt -o lengths.txt --call builtins:len   a Python function, warm

pipe --help shows all commands, pipe run --help all options; pipe doctor looks at this machine.
"""

# click's UsageError: typer carries a click of its own, and exports only what is derived from it
_ClickUsageError: type[Exception] = typer.BadParameter.__bases__[0]


class ParsedCommand(Struct, frozen=True):
    """A command, and what it shall do; or, without one, only the exit code of what was already shown."""

    command: str = ""
    settings: Settings = field(default_factory=Settings)
    exit_code: int = 0


class PipeCommand(TyperCommand):
    """A command whose words stay as click's parser read them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the words as they are: typer converts each by pydantic, whose import takes longer than all else here."""
        if ctx.resilient_parsing:
            return self._parse_to_complete(ctx, args)
        words, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        if words.get("help") is True:
            return super().parse_args(ctx, args)
        if rest:
            ctx.fail(f"too many words: {' '.join(rest)}")
        ctx.params = words
        return []

    def _parse_to_complete(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before the cursor. After `-ko`, the next word is no COMMAND, which typer does not see."""
        words, _, _ = self.make_parser(ctx).parse_args(args=[*args, "next"])
        rest = super().parse_args(ctx, args)
        if "command_" in ctx.params and not words["command_"]:
            ctx.params["command_"] = ["value of an option"]
        return rest

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete options up to COMMAND; the names that other tools have for them are not offered."""
        if ctx.params.get("command_"):
            return []
        others = " ".join(ALIASES.values()).split()
        return [item for item in super().shell_complete(ctx, incomplete) if item.value not in others]

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 -- click calls it so
        """The options under their headings."""
        assert self.name
        _write_tables(formatter, help_sections(self.name) | {"Help": [("-h, --help", "show this")]})


class PipeGroup(TyperGroup):
    """All commands, under their headings; each is built when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 -- click calls it so
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:  # noqa: ARG002 -- click calls it so
        """Build one of them."""
        return build_command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 -- click calls it so
        """Their names, and the first line of their helps."""
        helps = {name: build_command(name).get_short_help_str(formatter.width) for name in COMMANDS}
        _write_tables(
            formatter, {heading: [(name, helps[name]) for name in on.split()] for heading, on in COMMAND_GROUPS.items()}
        )


def _write_tables(formatter: Any, tables: dict[str, list[tuple[str, str]]]) -> None:
    """Several tables of two columns, as wide as one."""
    width = max(len(left) for rows in tables.values() for left, _ in rows)
    for heading, rows in tables.items():
        with formatter.section(heading):
            formatter.write_dl([(left.ljust(width), right) for left, right in rows])


def parse(argv: Sequence[str]) -> ParsedCommand:
    """What these words ask for. Help and version are shown here. Raises UsageError."""
    name = argv[0] if argv else ""
    if instruction := os.environ.get(COMPLETE):
        from pipeline.cli.completion import complete

        return ParsedCommand(exit_code=complete(instruction))
    if name not in COMMANDS:
        return ParsedCommand(exit_code=_handle_missing_command(argv))
    if name == "lab" and not {*argv[1:2]} & {*_LAYOUT["help_option_names"]}:
        # its programs have options of their own
        return ParsedCommand(name, Settings(program=tuple(argv[1:])))
    words, sources = split_argument_sources(argv[1:]) if name in TASK_COMMANDS.split() else (list(argv[1:]), ())
    typed = _invoke_parser(build_command(name), words, f"pipe {name}")
    if isinstance(typed, int):
        return ParsedCommand(exit_code=typed)
    if "name" not in typed:
        typed.update(_default_name(name, typed))
    return ParsedCommand(name, parse_settings({**typed, "argument_sources": sources}).validate(name))


def _default_name(name: str, options: TypedOptions) -> TypedOptions:
    """The name of a pipeline that got none: a run's own, so that two runs never meet; the live one to look at."""
    if name == "run":
        return {"name": f"run-{os.getpid()}"}
    if name not in MONITORING_COMMANDS or not options.keys().isdisjoint(ENDPOINT_FIELDS):
        return {}
    from pipeline.transport.endpoints import list_live_runs

    live = sorted(list_live_runs())
    if len(live) > 1:
        raise UsageError(f"several pipelines are live: {', '.join(live)}; pick one with --name")
    return {"name": live[0]} if live else {}


def build_command(name: str) -> TyperCommand:
    """The parser of one command; what it returns is what was typed, by the fields' names."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    declare = app.command(
        name,
        cls=PipeCommand,
        help=import_module(f"pipeline.cli.{name}").HELP,
        # options end at the first word of COMMAND: what follows belongs to it
        context_settings={"allow_interspersed_args": name not in WORK_COMMANDS.split(), **_LAYOUT},
    )
    declare(make_signature(name))
    built = typer.main.get_command(app)
    assert isinstance(built, TyperCommand)  # a lone command makes no group
    return built


def build_group() -> TyperGroup:
    """All commands under one name, for `pipe --help`."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

    @app.callback(cls=PipeGroup, help=GROUP_HELP, context_settings=_LAYOUT)
    def _pipe(*, version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
        """Only for its help: choose() answers --version itself."""
        del version

    return typer.main.get_group(app)


def _handle_missing_command(argv: Sequence[str]) -> int:
    """Exit code of what is shown when the first word is no command."""
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
    """What the parser returns; an exit code after it has shown its help. Raises UsageError with click's sentence."""
    try:
        return parser.main(list(words), prog_name=name, standalone_mode=False)
    except _ClickUsageError as wrong:
        from pipeline.cli import suggestions

        raise UsageError(suggestions.with_suggestion(wrong, name)) from None
