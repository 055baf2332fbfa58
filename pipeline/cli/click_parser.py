"""The parser of typer and click: help, completion, errors, and every command line that is not plain.

Invariants:
  - Signatures and help are built from the fields of Settings.
  - Click parses, and the values are converted nowhere in here.
  - It is imported only when it is needed: its import takes longer than that of all else that a start needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline.cli.app import COMMANDS, HELP_FLAGS
from pipeline.cli.options import ADVANCED_SECTION, HELP_ALL, help_sections, make_signature
from pipeline.cli.plain_parser import TypedOptions
from pipeline.config.settings import ALIASES, WORK_COMMANDS

COMMAND_GROUPS = {
    "On this machine": "run",
    "On one or more machines": "ventilate work sink",
    "During a run": "top kill",
    "Other": "journal doctor completion lab",
}
_LAYOUT: dict[str, Any] = {"max_content_width": 110, "help_option_names": list(HELP_FLAGS)}
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

# click's UsageError: typer carries a click of its own, and exports only what is derived from it
_ClickUsageError: type[Exception] = typer.BadParameter.__bases__[0]


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


def parse_command(name: str, words: Sequence[str]) -> TypedOptions | int:
    """Return what was typed after the command, or the exit code after help was shown. Raises UsageError."""
    typed: TypedOptions | int = _invoke(build_command(name), words, f"pipe {name}")
    return typed


def show_group_help(words: Sequence[str]) -> int:
    """Show the help of all commands, and return the exit code. Raises UsageError."""
    return int(_invoke(build_group(), words, "pipe"))


def _invoke(parser: Any, words: Sequence[str], name: str) -> Any:
    try:
        return parser.main(list(words), prog_name=name, standalone_mode=False)
    except _ClickUsageError as error:
        from pipeline.cli import suggestions

        raise suggestions.usage_error(error, name) from None
