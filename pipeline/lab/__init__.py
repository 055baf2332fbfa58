"""The lab: the ZeroMQ guide's programs, each a page of plain pyzmq to be read from top to bottom, and measured.

A program is a module of at most 100 lines that is named in PROGRAMS. TITLE says what it is and LEARN what to learn
there, one line each: they begin small, end without a full stop, and fit into 95 columns. Its options are the keyword
parameters of `main`, at most six, all with defaults; its words, if it has any, are `*words`:

    def main(*texts: Annotated[str, "what to ask"], clients: Annotated[int, "how many ask", 1, 200] = 3) -> int:

The door makes a command of this signature (str, int, float, bool; `_` becomes `-`; Annotated has the help, the least
and the greatest value) and of the module's docstring, and ends with what main returns: 0 all as it should be, 1
something was lost or is not as promised, 2 misuse (say on stderr what is wrong), 3 nobody was there, or this libzmq
can't.

Promises: a program ends in bounded time, also when nobody is there; at ^C it raises KeyboardInterrupt once all is put
away (the door makes 130 of it); it leaves no process, thread, socket or file. It imports nothing of pipeline but
`pipeline.lab`, has no reliability layer, and nobody but the door imports it. What a page can't hold stands on
one beside it: `forks` (processes that end with their parent), `table`, `keys`, `pings`.
"""

PROGRAMS = (
    *("ventilator", "worker", "sink", "batch"),
    *("signal", "contexts", "relay"),
    *("serve", "ask"),
    *("weather", "sync", "envelope"),
    *("hwm", "poll", "soak"),
)
"""In the order of docs/lab.md."""
