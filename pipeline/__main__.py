"""`pipe` and `python -m pipeline`: from the words to an exit code.

Promises: imports what the chosen command needs and no more. Never lets a traceback out for what a person did wrong.
"""

from __future__ import annotations

import sys
import time


def main() -> int:
    """Run what the command line asks for; the exit code of cli.md's table."""
    started = time.monotonic()
    from pipeline.cli.ends import ended, settle_streams

    settle_streams()
    return ended(lambda: _run(sys.argv[1:], started))


def _run(argv: list[str], started: float) -> int:
    from importlib import import_module

    from pipeline.cli.app import choose
    from pipeline.cli.screen import Screen

    choice = choose(argv)
    if not choice.command:
        return choice.exit_code
    screen = Screen(choice.settings, started)
    code: int = import_module(f"pipeline.cli.{choice.command}").main(choice.settings, screen)
    return code


if __name__ == "__main__":
    sys.exit(main())
