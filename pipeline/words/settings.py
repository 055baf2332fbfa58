"""The one list of options and their defaults: frozen, validated once, taken by all commands.

The door builds its signatures and its help from these fields, and `settings_from` reads what a person typed.
Promises: a UsageError names the option and what it wants. Never looks at the file system or the machine;
below the door, nobody takes more of it than it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from pipeline.words import wrongs
from pipeline.words.errors import UsageError
from pipeline.words.halt import Halt
from pipeline.words.inputs import Given
from pipeline.words.kinds import (
    CALLABLE,
    COMMAND,
    COUNT,
    DURABILITY,
    ENDPOINT,
    FILE,
    FLAG,
    FOLDER,
    GIB,
    HALT,
    HEADER,
    JOBS,
    MIB,
    NAME,
    NUMBER,
    PAUSE,
    PORTS,
    PROGRAM,
    REGEX,
    SHELL,
    SIZE,
    TEXT,
    TIME,
    TIMEOUT,
    TRIES,
    UNLIMITED,
    VARIABLE,
    Kind,
    Timeout,
)
from pipeline.words.structs import replace

ALL = "run ventilate work sink kill top"
TASKS = "run ventilate"
BEATS = "run ventilate sink"
WORK = "run work"
SINK = "run sink"


class Option(Struct, frozen=True):
    """One field of Settings: its flags (none: not an option), what it is about, the commands it is `on`.

    In the commands named by `words`, the words that are no options are its values, too. `type` is as written.
    """

    flags: tuple[str, ...]
    about: str
    on: frozenset[str]
    kind: Kind
    words: frozenset[str]
    default: Any
    name: str = ""
    type: str = ""


_DECLARED: list[Option] = []


def option(default: Any, *flags: str, about: str, on: str, kind: Kind = FLAG, words: str = "") -> Any:
    """The default of the next field of Settings; the rest is kept for OPTIONS."""
    commands = frozenset(on.split()) if flags else frozenset()
    _DECLARED.append(Option(flags, about, commands, kind, frozenset(words.split()), default))
    return default


class Settings(Struct, frozen=True, kw_only=True):
    """Everything a person can choose. Sizes are bytes, times are seconds."""

    # what to run
    command: tuple[str, ...] = option((), about="one shell line, or an argv", on="", kind=COMMAND, words=WORK)
    dry_run: bool = option(False, "--dry-run", about="print the commands, run none", on=WORK)
    call: str = option("", "--call", about="call MODULE:FUNCTION or FILE.py:FUNCTION", on=WORK, kind=CALLABLE)
    init: str = option("", "--init", about="call this once in each warm child first", on=WORK, kind=CALLABLE)
    stdin: bool = option(False, "--stdin", about="give the task on stdin instead of in {}", on=WORK)
    jobs: int | None = option(
        None, "--jobs", "-j", about="tasks at a time [one a CPU]", on="run work doctor", kind=JOBS
    )
    workers: int = option(1, "--workers", "-w", about="worker processes", on="run doctor", kind=COUNT)

    cwd: str = option("", "--cwd", "--wd", about="run tasks in DIR, which is not made", on=WORK, kind=FOLDER)
    env: tuple[str, ...] = option(
        (), "--env", about="give tasks this variable; without =VALUE, ours must be set", on=WORK, kind=VARIABLE
    )
    tag: bool = option(False, "--tag", about="begin each line of a task's output with the task and a tab", on=WORK)
    tagstring: str = option("", "--tagstring", about="the same, with TEXT, in which {} is the task", on=WORK, kind=TEXT)
    timeout: Timeout = option(
        UNLIMITED,
        "--timeout",
        about="kill a task that runs longer, or longer than N% of the median",
        on=WORK,
        kind=TIMEOUT,
    )
    term_grace: float = option(5.0, "--term-grace", about="time between SIGTERM and SIGKILL", on=WORK, kind=PAUSE)
    max_output: int | None = option(
        None, "--max-output-bytes", about="a task that writes more fails", on=WORK, kind=SIZE
    )

    # the tasks
    files: tuple[str, ...] = option(
        (), "--arg-file", "-a", about="read tasks from FILE, not stdin", on=TASKS, kind=FILE, words="ventilate"
    )
    slots: int = option(1, about="slots of all workers, as far as that is known", on="")
    given: tuple[Given, ...] = option((), about="tasks given after ::: and its like", on="")
    zero: bool = option(False, "--null", "-0", about="tasks end in NUL, not newline", on=TASKS)
    colsep: str = option("", "--colsep", "-C", about="cut lines into {1} {2} ... at REGEX", on=TASKS, kind=REGEX)
    csv: bool = option(False, "--csv", about="lines are CSV, cut into {1} {2} ...", on=TASKS)
    header: str = option("", "--header", about="with `:`, line 1 names the columns: {name}", on=TASKS, kind=HEADER)
    jsonl: bool = option(False, "--jsonl", about="lines are JSON: a callable gets the value, {name} a field", on=TASKS)
    max_args: int | None = option(
        None, "--max-args", "-n", "-N", about="so many lines make one task: {1} {2} ...", on=TASKS, kind=COUNT
    )
    packed: bool = option(False, "-X", about="as many lines to a task as fit one command", on=TASKS)
    shuf: bool = option(False, "--shuf", about="tasks in random order, all read first", on=TASKS)
    seed: int | None = option(None, "--seed", about="another random order [of the input itself]", on=TASKS, kind=NUMBER)
    block: int | None = option(None, "--block", about="make each task a block of about SIZE", on=TASKS, kind=SIZE)
    chunk: int | None = option(None, "--chunk", about="tasks in a message [sizes itself]", on=TASKS, kind=COUNT)
    window: int = option(64 * MIB, "--window", about="tasks on the way, in bytes", on=TASKS, kind=SIZE)

    from_failed: bool = option(False, "--from-failed", about="the files were written by --failed", on=TASKS)
    spool: str = option("", "--spool", about="keep what stdin said in DIR, to resume", on=TASKS, kind=FOLDER)
    no_spool: bool = option(False, "--no-spool", about="keep nothing of stdin: not resumable", on=TASKS)
    max_task: int | None = option(None, "--max-task-bytes", about="a task that is larger fails", on=TASKS, kind=SIZE)
    crash_limit: int = option(
        3, "--crash-limit", about="give up a task that has taken N workers along", on="run ventilate sink", kind=COUNT
    )

    # the results
    output: str = option("", "--output", "-o", about="write results to FILE, not stdout", on=SINK, kind=FILE)
    keep_order: bool = option(False, "--keep-order", "-k", about="results in the order of tasks", on=SINK)
    line_buffer: bool = option(
        False, "--line-buffer", "--lb", about="write whole lines as they come, of all tasks mixed", on=SINK
    )
    results_folder: str = option("", "--results", about="a folder in DIR for each task's output", on=SINK, kind=FOLDER)
    joblog: str = option("", "--joblog", about="a line in FILE for each try of a task", on=SINK, kind=FILE)
    spill_limit: int = option(
        10 * GIB, "--spill-limit", about="disk for results ahead of their turn", on=SINK, kind=SIZE
    )

    failed: str = option("", "--failed", about="write the tasks that failed to FILE", on=SINK, kind=FILE)
    retries: int = option(0, "--retries", about="tries after the first", on=SINK, kind=TRIES)
    retry_delay: float = option(
        0.0, "--retry-delay", about="wait before another try, doubled each time", on=SINK, kind=PAUSE
    )
    halt: Halt | None = option(None, "--halt", about="end early, like now,fail=1 or soon,done=10%", on=SINK, kind=HALT)
    journal: str = option(
        "", "--journal", about="keep the journal in FILE [beside -o]", on=SINK, kind=FILE, words="journal"
    )
    durability: str = option(
        "process", "--durability", about="what is done outlives any kill, or a power cut, too", on=SINK, kind=DURABILITY
    )
    resume: bool = option(False, "--resume", about="go on with an unfinished run", on="run")
    resume_failed: bool = option(False, "--resume-failed", about="the same, and do what failed once more", on=SINK)
    restart: bool = option(False, "--restart", about="forget an unfinished run and begin anew", on=SINK)

    # where the stations meet
    name: str = option(
        "default", "--name", about="meet here under this name; run takes a private one", on=ALL, kind=NAME
    )
    at: str = option("", "--at", about="meet at tcp://HOST; ports 5557 to 5559", on=ALL, kind=ENDPOINT)
    desk: str = option("", "--desk", about="the ventilator's desk alone", on=ALL, kind=ENDPOINT)
    results: str = option("", "--results-at", about="the sink's results endpoint alone", on=ALL, kind=ENDPOINT)
    control: str = option("", "--control-at", about="the sink's control endpoint alone", on=ALL, kind=ENDPOINT)
    lane_ports: str = option("20000-29999", "--lane-ports", about="tcp ports for lanes", on=TASKS, kind=PORTS)
    insecure: bool = option(False, "--insecure", about="allow tcp, which has no keys yet", on=ALL)

    # patience and talk
    patience: float = option(600.0, "--patience", about="how long to wait for a lost peer", on=ALL, kind=TIME)
    interval: float = option(1.0, "--interval", about="time between pulses", on=BEATS, kind=TIME)
    liveness: float = option(10.0, "--liveness", about="silence that loses a worker", on=BEATS, kind=TIME)
    now: bool = option(False, "--now", about="kill running tasks, too", on="kill")
    program: tuple[str, ...] = option((), about="one of the lab, and its words", on="", kind=PROGRAM, words="lab")
    shell: str = option("", about="whose completion to print", on="", kind=SHELL, words="completion")
    once: bool = option(False, "--once", about="print it once and end", on="top")
    as_json: bool = option(False, "--json", about="as JSON, an object a line", on="top doctor")
    bar: bool | None = option(None, "--bar/--no-bar", about="draw a bar on stderr [if it is a terminal]", on=SINK)
    verbose: int = option(0, "--verbose", "-v", about="say more; -vv: what happens, and when", on=ALL)
    quiet: bool = option(False, "--quiet", "-q", about="say only what goes wrong", on=ALL)

    def validate(self, command: str) -> Settings:
        """Itself, when it makes sense for `command`; else raises UsageError, naming the option."""
        for each in OPTIONS:
            least, value = each.kind.least, getattr(self, each.name)
            if least is not None and value is not None and value < least:
                raise UsageError(f"{each.flags[0]} must be at least {least:g}, not {value:g}")
        if wrong := wrongs.found(self, command, works=command in WORK.split()):
            raise UsageError(wrong)
        return self


OPTIONS = tuple(
    replace(declared, name=name, type=kind)
    for declared, (name, kind) in zip(_DECLARED, Settings.__annotations__.items(), strict=True)
)
"""All fields of Settings, in their order."""


def settings_from(typed: Mapping[str, object]) -> Settings:
    """The settings of what was typed: field name to a text, several texts, or a value as it is.

    What is missing or empty keeps its default. Raises UsageError, naming the option.
    """
    given: dict[str, Any] = {}
    for each in OPTIONS:
        value = typed.get(each.name)
        try:
            if isinstance(value, str):
                given[each.name] = each.kind.read(value)
            elif value is not None:
                given[each.name] = tuple(value) if isinstance(value, list) else value
        except ValueError as wrong:
            raise UsageError(f"{each.flags[0]}: {wrong}") from None
    return Settings(**given)
