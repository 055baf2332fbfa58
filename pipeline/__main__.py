"""`pipe` and `python -m pipeline`: from the words to an exit code.

Promises: imports what the chosen command needs and no more, and does not return: the process ends here, at once.
Never lets a traceback out for what a person did wrong.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from contextlib import suppress
from typing import NoReturn


def main() -> NoReturn:
    """Run what the command line asks for, and end with the exit code of cli.md's table."""
    started = time.monotonic()
    gc.disable()  # what is imported stays: to look for garbage in it takes 8 ms
    from pipeline.cli.exit_codes import open_missing_streams, run_guarded

    open_missing_streams()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a question, of which nobody dies; who can answer listens later
    code = run_guarded(lambda: _run(sys.argv[1:], started))
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)  # to take the interpreter apart takes 20 ms, and there is nothing left to save


def _run(argv: list[str], started_at: float) -> int:
    from importlib import import_module

    from pipeline.cli.app import parse
    from pipeline.cli.terminal import UserConsole

    choice = parse(argv)
    if not choice.command:
        return choice.exit_code
    screen = UserConsole(choice.settings, started_at)
    run = import_module(f"pipeline.cli.{choice.command}").main
    gc.freeze()
    gc.enable()
    code: int = run(choice.settings, screen)
    return code


if __name__ == "__main__":
    main()
