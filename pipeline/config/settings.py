"""The settings: one field per option, with its help, its default and the commands that have it.

`pipeline.cli` builds signatures and help from these fields; `parse_settings` converts what the user typed, and
`Settings.validate` checks it.

Invariants:
  - An option is declared once, here.
  - A UsageError names the option; its hint says what to give instead.
  - Nothing here looks at the file system or the machine.
  - Other packages take the values they need, not the whole Settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from pipeline.config.option_types import (
    CALLABLE,
    COMMAND,
    COUNT,
    DELAY,
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
    PORTS,
    PROGRAM,
    REGEX,
    RETRY_COUNT,
    SHELL,
    SIZE,
    TEXT,
    TIME,
    TIMEOUT,
    VARIABLE,
    OptionType,
)
from pipeline.model.errors import UsageError
from pipeline.model.option_values import UNLIMITED, HaltCondition, Timeout
from pipeline.model.records import ArgumentSource
from pipeline.model.structs import replace

ALL_COMMANDS = "run ventilate work sink kill top"
TASK_COMMANDS = "run ventilate"
HEARTBEAT_COMMANDS = "run ventilate sink"
WORK_COMMANDS = "run work"
SINK_COMMANDS = "run sink"
ADVANCED_OPTIONS = (
    "term_grace max_output chunk window spool no_spool max_task crash_limit spill_limit durability "
    "registry_at results_at control_at lane_ports peer_timeout heartbeat_interval heartbeat_timeout"
)

# other names of an option, accepted and not shown: those of GNU parallel and xargs, and old ones of pipe
ALIASES = {
    "--jobs": "-P --max-procs --maxprocs",
    "--cwd": "--work-dir --workdir",
    "--dry-run": "--dryrun --dr",
    "--tagstring": "--tag-string",
    "--arg-file": "--argfile",
    "--max-args": "--maxargs --max-replace-args --maxreplaceargs",
    "--keep-order": "--keeporder",
    "--line-buffer": "--line-buffered --linebuffer --linebuffered",
    "--results": "--result --res",
    "--joblog": "--jl",
    "--resume-failed": "--resumefailed",
    "--registry-at": "--desk",
    "--peer-timeout": "--patience",
    "--heartbeat-interval": "--interval",
    "--heartbeat-timeout": "--liveness",
}


class Option(Struct, frozen=True):
    """One field of Settings: its flags (none: not an option), its help text, and the commands it is `on`.

    Commands in `positional_on` also take it as positional words. `type` is the annotation as written. The help of a
    command shows an advanced option (one in ADVANCED_OPTIONS) only with --help-all.
    """

    flags: tuple[str, ...]
    about: str
    on: frozenset[str]
    kind: OptionType
    positional_on: frozenset[str]
    default: Any
    name: str = ""
    type: str = ""

    @property
    def is_advanced(self) -> bool:
        return self.name in ADVANCED_OPTIONS.split()


_DECLARED: list[Option] = []


def option(
    default: Any, *flags: str, about: str, on: str, option_type: OptionType = FLAG, positional_on: str = ""
) -> Any:
    """Return the default of the next field of Settings, and keep the rest for OPTIONS."""
    commands = frozenset(on.split()) if flags else frozenset()
    _DECLARED.append(Option(flags, about, commands, option_type, frozenset(positional_on.split()), default))
    return default


class Settings(Struct, frozen=True, kw_only=True):
    """All values that the user can choose. Sizes are in bytes, times in seconds."""

    # commands
    command: tuple[str, ...] = option(
        (), about="a shell line, or an argument list", on="", option_type=COMMAND, positional_on=WORK_COMMANDS
    )
    dry_run: bool = option(False, "--dry-run", about="print the commands instead of running them", on=WORK_COMMANDS)
    call: str = option(
        "", "--call", about="call MODULE:FUNCTION or FILE.py:FUNCTION", on=WORK_COMMANDS, option_type=CALLABLE
    )
    init: str = option(
        "",
        "--init",
        about="call this once in each process before its first task",
        on=WORK_COMMANDS,
        option_type=CALLABLE,
    )
    stdin: bool = option(False, "--stdin", about="give the task on stdin instead of in {}", on=WORK_COMMANDS)
    jobs: int | None = option(
        None, "--jobs", "-j", about="tasks at a time [one per CPU]", on="run work doctor", option_type=JOBS
    )
    workers: int = option(1, "--workers", "-w", about="worker processes", on="run doctor", option_type=COUNT)

    cwd: str = option(
        "", "--cwd", "--wd", about="run tasks in DIR, which must exist", on=WORK_COMMANDS, option_type=FOLDER
    )
    env: tuple[str, ...] = option(
        (),
        "--env",
        about="set this variable for tasks; without =VALUE, copy it",
        on=WORK_COMMANDS,
        option_type=VARIABLE,
    )
    tag: bool = option(False, "--tag", about="begin each output line with the task and a tab", on=WORK_COMMANDS)
    tagstring: str = option(
        "", "--tagstring", about="the same with TEXT, in which {} is the task", on=WORK_COMMANDS, option_type=TEXT
    )
    timeout: Timeout = option(
        UNLIMITED,
        "--timeout",
        about="end a task that runs longer, or longer than N% of the median",
        on=WORK_COMMANDS,
        option_type=TIMEOUT,
    )
    term_grace: float = option(
        5.0, "--term-grace", about="time between SIGTERM and SIGKILL", on=WORK_COMMANDS, option_type=DELAY
    )
    max_output: int | None = option(
        None, "--max-output-bytes", about="fail a task that writes more", on=WORK_COMMANDS, option_type=SIZE
    )

    keep_background: bool = option(
        False, "--keep-background", about="leave what successful tasks have started running", on=WORK_COMMANDS
    )

    # the tasks
    files: tuple[str, ...] = option(
        (),
        "--arg-file",
        "-a",
        about="read tasks from FILE instead of stdin",
        on=TASK_COMMANDS,
        option_type=FILE,
        positional_on="ventilate",
    )
    slots: int = option(1, about="slots of all workers, if known", on="")
    argument_sources: tuple[ArgumentSource, ...] = option((), about="sources after ::: and ::::", on="")
    zero: bool = option(False, "--null", "-0", about="tasks end in NUL instead of newline", on=TASK_COMMANDS)
    colsep: str = option(
        "", "--colsep", "-C", about="split lines into {1} {2} ... at REGEX", on=TASK_COMMANDS, option_type=REGEX
    )
    csv: bool = option(False, "--csv", about="lines are CSV, split into {1} {2} ...", on=TASK_COMMANDS)
    header: str = option(
        "", "--header", about="with `:`, line 1 names the columns: {name}", on=TASK_COMMANDS, option_type=HEADER
    )
    jsonl: bool = option(
        False, "--jsonl", about="lines are JSON: a callable gets the value, {name} a field", on=TASK_COMMANDS
    )
    max_args: int | None = option(
        None, "--max-args", "-n", "-N", about="N lines make one task: {1} {2} ...", on=TASK_COMMANDS, option_type=COUNT
    )
    packed: bool = option(False, "-X", about="as many lines per task as fit one command", on=TASK_COMMANDS)
    shuf: bool = option(False, "--shuf", about="shuffle the tasks, after all are read", on=TASK_COMMANDS)
    seed: int | None = option(
        None, "--seed", about="choose another order of --shuf", on=TASK_COMMANDS, option_type=NUMBER
    )
    block: int | None = option(
        None, "--block", about="make each task a block of lines of about SIZE", on=TASK_COMMANDS, option_type=SIZE
    )
    chunk: int | None = option(None, "--chunk", about="tasks per message [adapts]", on=TASK_COMMANDS, option_type=COUNT)
    window: int = option(64 * MIB, "--window", about="bytes of tasks in flight", on=TASK_COMMANDS, option_type=SIZE)

    from_failed: bool = option(False, "--from-failed", about="read tasks that --failed has written", on=TASK_COMMANDS)
    spool: str = option("", "--spool", about="store stdin in DIR, to resume", on=TASK_COMMANDS, option_type=FOLDER)
    no_spool: bool = option(
        False, "--no-spool", about="do not store stdin; the run cannot be resumed", on=TASK_COMMANDS
    )
    max_task: int | None = option(
        None, "--max-task-bytes", about="fail a task that is larger", on=TASK_COMMANDS, option_type=SIZE
    )
    crash_limit: int = option(
        3, "--crash-limit", about="fail a task after it crashed N workers", on="run ventilate sink", option_type=COUNT
    )

    # the results
    output: str = option(
        "", "--output", "-o", about="write results to FILE instead of stdout", on=SINK_COMMANDS, option_type=FILE
    )
    keep_order: bool = option(
        False, "--keep-order", "-k", about="write results in the order of tasks", on=SINK_COMMANDS
    )
    line_buffer: bool = option(
        False, "--line-buffer", "--lb", about="write each line at once; lines of tasks mix", on=SINK_COMMANDS
    )
    results_folder: str = option(
        "", "--results", about="write each task's output to a directory in DIR", on=SINK_COMMANDS, option_type=FOLDER
    )
    joblog: str = option(
        "", "--joblog", about="write a line to FILE for each attempt", on=SINK_COMMANDS, option_type=FILE
    )
    spill_limit: int = option(
        10 * GIB, "--spill-limit", about="disk space for results out of order", on=SINK_COMMANDS, option_type=SIZE
    )

    failed: str = option("", "--failed", about="write failed tasks to FILE", on=SINK_COMMANDS, option_type=FILE)
    retries: int = option(0, "--retries", about="attempts after the first", on=SINK_COMMANDS, option_type=RETRY_COUNT)
    retry_delay: float = option(
        0.0, "--retry-delay", about="pause before a retry; it doubles each time", on=SINK_COMMANDS, option_type=DELAY
    )
    halt: HaltCondition | None = option(
        None, "--halt", about="end early, as in now,fail=1 or soon,done=10%", on=SINK_COMMANDS, option_type=HALT
    )
    journal: str = option(
        "",
        "--journal",
        about="write the journal to FILE [beside -o]",
        on=SINK_COMMANDS,
        option_type=FILE,
        positional_on="journal",
    )
    durability: str = option(
        "process",
        "--durability",
        about="the journal survives a kill, or a power cut too",
        on=SINK_COMMANDS,
        option_type=DURABILITY,
    )
    resume: bool = option(False, "--resume", about="continue an unfinished run", on="run")
    resume_failed: bool = option(
        False, "--resume-failed", about="the same, and run failed tasks again", on=SINK_COMMANDS
    )
    restart: bool = option(False, "--restart", about="discard an unfinished run and start again", on=SINK_COMMANDS)

    # endpoints
    name: str = option(
        "default",
        "--name",
        about="pipeline name on this machine; `run` uses a private one",
        on=ALL_COMMANDS,
        option_type=NAME,
    )
    at: str = option(
        "", "--at", about="connect at tcp://HOST, ports 5557 to 5559", on=ALL_COMMANDS, option_type=ENDPOINT
    )
    registry_at: str = option(
        "", "--registry-at", about="endpoint of the worker registry", on=ALL_COMMANDS, option_type=ENDPOINT
    )
    results_at: str = option("", "--results-at", about="endpoint for results", on=ALL_COMMANDS, option_type=ENDPOINT)
    control_at: str = option(
        "", "--control-at", about="endpoint of the control channel", on=ALL_COMMANDS, option_type=ENDPOINT
    )
    lane_ports: str = option(
        "20000-29999", "--lane-ports", about="TCP ports for task lanes", on=TASK_COMMANDS, option_type=PORTS
    )
    insecure: bool = option(
        False, "--insecure", about="allow TCP, which has no encryption or keys yet", on=ALL_COMMANDS
    )

    # timeouts
    peer_timeout: float = option(
        600.0, "--peer-timeout", about="give up a lost peer after this time", on=ALL_COMMANDS, option_type=TIME
    )
    heartbeat_interval: float = option(
        1.0, "--heartbeat-interval", about="time between heartbeats", on=HEARTBEAT_COMMANDS, option_type=TIME
    )
    heartbeat_timeout: float = option(
        10.0,
        "--heartbeat-timeout",
        about="a worker silent for this time is lost",
        on=HEARTBEAT_COMMANDS,
        option_type=TIME,
    )

    # display
    now: bool = option(False, "--now", about="kill running tasks", on="kill")
    program: tuple[str, ...] = option(
        (), about="a program of the lab, and its arguments", on="", option_type=PROGRAM, positional_on="lab"
    )
    shell: str = option(
        "", about="the shell to print the completion of", on="", option_type=SHELL, positional_on="completion"
    )
    once: bool = option(False, "--once", about="print one view and exit", on="top")
    as_json: bool = option(False, "--json", about="print JSON, one object per line", on="top doctor")
    bar: bool | None = option(
        None, "--bar/--no-bar", about="show a progress bar [if stderr is a terminal]", on=SINK_COMMANDS
    )
    verbose: int = option(0, "--verbose", "-v", about="show more; -vv: events with their times", on=ALL_COMMANDS)
    quiet: bool = option(False, "--quiet", "-q", about="show only warnings and errors", on=ALL_COMMANDS)

    def validate(self, command: str) -> Settings:
        """Return self; raise UsageError if the values do not fit together in `command`."""
        for each in OPTIONS:
            minimum, value = each.kind.minimum, getattr(self, each.name)
            if minimum is not None and value is not None and value < minimum:
                raise UsageError(f"{each.flags[0]} must be at least {minimum:g}, not {value:g}")
        if command == "journal" and not self.journal:
            raise UsageError("FILE is missing", "give a journal, like results.txt.journal")
        checks = [_check_tasks, _check_formats, _check_results]
        if command in WORK_COMMANDS.split():
            checks.append(_check_work)
        for check in checks:
            check(self)
        return self


OPTIONS = tuple(
    replace(declared, name=name, type=kind)
    for declared, (name, kind) in zip(_DECLARED, Settings.__annotations__.items(), strict=True)
)


def parse_settings(values: Mapping[str, object]) -> Settings:
    """Return the settings of what was typed: for each field name a text, several texts, or a value as it is.

    A missing field keeps its default. Raises UsageError, naming the option.
    """
    parsed: dict[str, Any] = {}
    for each in OPTIONS:
        value = values.get(each.name)
        try:
            if isinstance(value, str):
                parsed[each.name] = each.kind.parse(value)
            elif value is not None:
                parsed[each.name] = tuple(value) if isinstance(value, list) else value
        except ValueError as error:
            text, _, hint = str(error).partition("; ")
            raise UsageError(f"{each.flags[0]}: {text}", hint) from None
    return Settings(**parsed)


def _check_work(settings: Settings) -> None:
    if any(0 <= word.find("{=") < word.rfind("=}") for word in settings.command):
        raise UsageError("{= PERL =} works only in GNU parallel", "change the task in the shell line, or in a script")
    if settings.command and settings.call:
        raise UsageError("COMMAND and --call exclude each other", "give one of them")
    if settings.keep_background and settings.call:
        raise UsageError("--keep-background requires COMMAND, not --call", "start the process by a command")
    if settings.init and not settings.call:
        raise UsageError("--init requires --call")
    if settings.stdin and settings.call:
        raise UsageError("--stdin requires COMMAND, not --call", "a callable gets its task as an argument")
    if settings.call and (settings.tag or settings.tagstring):
        flag = "--tag" if settings.tag else "--tagstring"
        raise UsageError(f"{flag} requires COMMAND, not --call", "let the callable write the task into its output")
    if settings.stdin and not settings.command:
        raise UsageError("--stdin requires COMMAND", "without COMMAND, each task is itself a command line")
    for flag, name in (("--call", settings.call), ("--init", settings.init)):
        if name and not all(name.rpartition(":")[::2]):
            raise UsageError(f"{flag}: {name!r} is not like MODULE:FUNCTION or FILE.py:FUNCTION")


def _check_tasks(settings: Settings) -> None:
    if settings.files and settings.argument_sources:
        hint = "write `:::: FILE ::: WORDS` to combine each line with each word"
        raise UsageError("tasks come from files or from :::, not from both", hint)
    if settings.block and settings.argument_sources:
        raise UsageError("--block cuts files or stdin into tasks, not words after :::", "leave out --block or :::")
    if settings.from_failed and (settings.argument_sources or settings.block or settings.zero):
        hint = "leave out :::, --block and -0"
        raise UsageError("--from-failed reads the output of --failed, from files or stdin", hint)
    if settings.spool and settings.no_spool:
        raise UsageError("--spool and --no-spool exclude each other", "give one of them")
    if settings.heartbeat_timeout <= settings.heartbeat_interval:
        limit = f"{settings.heartbeat_interval:g} s"
        raise UsageError(f"--heartbeat-timeout must be longer than --heartbeat-interval ({limit})")


def _check_formats(settings: Settings) -> None:
    """Check the options that turn lines into tasks."""
    has_format = {
        "--csv": settings.csv,
        "--colsep": settings.colsep != "",
        "--header": settings.header != "",
        "--jsonl": settings.jsonl,
        "-n": settings.max_args is not None,
        "-X": settings.packed,
        "--shuf": settings.shuf,
    }
    for flag in (flag for flag, is_given in has_format.items() if is_given):
        if settings.block:
            raise UsageError("--block makes tasks of whole, unchanged lines", f"leave out {flag}")
        if settings.from_failed and flag != "--shuf":
            raise UsageError("--from-failed restores the format of its tasks", f"leave out {flag}")
        if settings.jsonl and flag not in {"--jsonl", "--shuf"}:
            raise UsageError("--jsonl takes each line as one value", f"leave out {flag}")
    if settings.jsonl and settings.argument_sources:
        raise UsageError("--jsonl reads lines, not words after :::", "give lines on stdin or with -a")
    if settings.csv and settings.zero:
        raise UsageError("--csv reads lines, not records that end in NUL", "leave out -0")
    if settings.seed is not None and not settings.shuf:
        raise UsageError("--seed requires --shuf")


def _check_results(settings: Settings) -> None:
    if settings.line_buffer and (settings.output or settings.journal or settings.results_folder):
        other = "-o" if settings.output else "--journal" if settings.journal else "--results"
        raise UsageError("--line-buffer requires stdout, where written lines cannot be undone", f"leave out {other}")
    resume_flag = "--resume" if settings.resume else "--resume-failed" if settings.resume_failed else ""
    if resume_flag and settings.restart:
        raise UsageError(f"{resume_flag} continues an unfinished run, --restart discards it", "give one of them")
    if not (settings.output or settings.journal):
        for flag in filter(None, (resume_flag, "--durability disk" if settings.durability == "disk" else "")):
            raise UsageError(f"{flag} requires a journal", "give -o FILE, or --journal FILE")
