"""Entry point of `pipe` and `python -m pipeline`.

It imports only what the chosen command needs, never returns, and shows no traceback for a mistake of the user.
"""

from __future__ import annotations

import gc
import os
import sys
import time


def main() -> None:
    """Run the command line and exit. Do not return."""
    started = time.monotonic()
    gc.disable()  # imports leave no garbage, and looking for some takes 8 ms
    import signal

    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a status request must not kill a process that cannot answer yet
    _import_msgspec()
    from contextlib import suppress

    from pipeline.cli.exit_codes import open_missing_streams, run_guarded

    open_missing_streams()
    code = run_guarded(lambda: _run(sys.argv[1:], started))
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)  # a regular exit takes 20 ms, and there is nothing left to save


def _import_msgspec() -> None:
    """Import msgspec without typing_extensions.

    If that is installed, msgspec prefers it to typing, which has the same from Python 3.11 on. It takes 10 ms.
    """
    is_hidden = "typing_extensions" not in sys.modules
    if is_hidden:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    import msgspec  # noqa: F401

    if is_hidden:
        del sys.modules["typing_extensions"]


def _run(argv: list[str], started_at: float) -> int:
    from importlib import import_module

    from pipeline.cli.app import parse
    from pipeline.cli.terminal import UserConsole

    choice = parse(argv)
    if not choice.command:
        return choice.exit_code
    console = UserConsole(choice.settings, started_at)
    command_main = import_module(f"pipeline.cli.{choice.command}").main
    if choice.command != "run":  # its launcher and its stations enable it when they have started
        gc.freeze()
        gc.enable()
    code: int = command_main(choice.settings, console)
    return code


if __name__ == "__main__":
    main()
