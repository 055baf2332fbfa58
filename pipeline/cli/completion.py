"""`pipe completion`: a script for a shell that completes `pipe`.

Promises: the script asks no Python: a TAB costs no start of an interpreter.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.words.errors import OK, UsageError
from pipeline.words.settings import Settings

if TYPE_CHECKING:
    from pipeline.cli.screen import Screen

SHELLS = ("bash", "zsh", "fish")
HELP = """Print what bash, zsh or fish need to complete `pipe`.

\b
Examples:
  source <(pipe completion bash)                               in ~/.bashrc
  source <(pipe completion zsh)                                in ~/.zshrc, after compinit
  pipe completion fish > ~/.config/fish/completions/pipe.fish
"""


def main(settings: Settings, screen: Screen) -> int:  # noqa: ARG001 -- all commands are called alike
    """Print it. Raises UsageError without the name of a shell."""
    from pipeline.cli.app import COMMANDS
    from pipeline.cli.offers import offers

    if settings.shell not in SHELLS:
        said = f"no completion for {settings.shell!r}" if settings.shell else "SHELL is missing"
        raise UsageError(f"{said}: give bash, zsh or fish, as in `pipe completion bash`")
    script: str = import_module(f"pipeline.cli.{settings.shell}").script([offers(each) for each in COMMANDS])
    sys.stdout.write(script)
    return OK
