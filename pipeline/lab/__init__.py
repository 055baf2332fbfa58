"""The lab: the programs of the ZeroMQ guide, each one page of plain pyzmq, with measurements.

A program is a module of at most 150 lines that is named in PROGRAMS. TITLE says what it is and LEARN what it teaches:
one line each, lower case, no full stop, at most 95 columns. Its options are the keyword parameters of `main`, at most
six, all with defaults. Its arguments, if it has any, are `*args`:

    def main(*texts: Annotated[str, "what to ask"], clients: Annotated[int, "how many ask", 1, 200] = 3) -> int:

`pipeline.cli.lab` makes a command of this signature and of the module's docstring. Option types are str, int, float and
bool; `_` becomes `-`; Annotated has the help, the minimum and the maximum. The exit code is what `main` returns: 0 as
promised, 1 something was lost or differs, 2 wrong usage (reported on stderr), 3 no peer came or libzmq lacks a feature.

Invariants:
  - a program ends in bounded time, also without peers;
  - after Ctrl-C it raises KeyboardInterrupt once everything is closed (exit code 130);
  - it leaves no process, thread, socket or file;
  - it imports only `pipeline.lab`, has no reliability layer, and is imported only by `pipeline.cli.lab`.

Shared helpers: `forks` (processes that end with their parent), `table`, `keys`, `pings`.
"""

PROGRAMS = (
    *("ventilator", "worker", "sink", "batch"),
    *("signal", "contexts", "relay"),
    *("serve", "ask"),
    *("weather", "sync", "envelope"),
    *("hwm", "poll", "soak"),
)
"""The order is that of docs/lab.md."""
