"""`pipe completion`: completion in bash, zsh and fish, as typer does it.

The printed script runs `pipe` with `_PIPE_COMPLETE` at each TAB. The shell itself completes file names. This module is
imported only to print the script and to complete.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from typer.completion import get_completion_inspect_parameters, shell_complete

from pipeline.config.option_types import COMMAND, NAME, PROGRAM, OptionType
from pipeline.config.settings import Settings
from pipeline.lab import PROGRAMS
from pipeline.model.errors import UsageError

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole

SHELLS = ("bash", "zsh", "fish")
HELP = """Print what bash, zsh or fish need to complete `pipe`.

\b
Examples:
  source <(pipe completion bash)                               in ~/.bashrc
  source <(pipe completion zsh)                                in ~/.zshrc, after compinit
  pipe completion fish > ~/.config/fish/completions/pipe.fish
"""


def main(settings: Settings, console: UserConsole) -> int:  # noqa: ARG001 -- all commands are called alike
    """Print the script for a shell. Raises UsageError without the name of a shell."""
    if settings.shell not in SHELLS:
        text = f"no completion for {settings.shell!r}" if settings.shell else "SHELL is missing"
        raise UsageError(text, "give bash, zsh or fish, as in `pipe completion bash`")
    return complete(f"source_{settings.shell}")


def complete(instruction: str) -> int:
    """Do what `_PIPE_COMPLETE` says: `complete_bash` prints completions, `source_bash` the script."""
    from pipeline.cli.app import COMPLETE
    from pipeline.cli.click_parser import build_group

    if instruction == "complete_bash":
        words = join_words(os.environ["COMP_WORDS"].split("\n")[: int(os.environ["COMP_CWORD"]) + 1])
        os.environ |= {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    get_completion_inspect_parameters()  # registers typer's shells
    try:
        return shell_complete(build_group(), {}, "pipe", COMPLETE, instruction)
    except SystemExit as end:  # its exit code shows fish whether there is something to complete
        return int(end.code or 0)


def join_words(words: list[str]) -> list[str]:
    """Join what bash splits at `=` and `:`, as in `--output=FILE` and `--call MODULE:FUNCTION`. Typer does not."""
    joined = words[:1]
    for word in words[1:]:
        last = joined[-1]
        is_option = last.startswith("-") and "=" not in last
        if (word == ("=" if is_option else ":")) or (last[1:] and last[-1] in "=:"):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def values(kind: OptionType, incomplete: str) -> list[str]:
    """Return values of this kind, at least those that begin with `incomplete`."""
    if kind is NAME:
        from pipeline.transport.endpoints import list_live_runs

        return list_live_runs()
    if kind is PROGRAM:
        return list(PROGRAMS)
    if kind is COMMAND:
        folders = [folder for folder in os.get_exec_path() if incomplete and os.path.isdir(folder)]
        return sorted({name for folder in folders if os.access(folder, os.R_OK) for name in os.listdir(folder)})
    return kind.metavar.split("|")
