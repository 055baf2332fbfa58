"""The Settings dataclass (one field per option) and cross-option validation.

What makes no sense together, of what a person has chosen: a sentence each, with what to do instead.

It looks at the choices alone, never at the file system or the machine.

The one list of options and their defaults: frozen, validated once, taken by all commands.

The door builds its signatures and its help from these fields, and `settings_from` reads what a person typed.
Promises: a UsageError names the option and what it wants. Never looks at the file system or the machine;
below the door, nobody takes more of it than it needs.
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


def find_conflict(settings: Settings, command: str, *, runs_tasks: bool) -> str:
    """The first that is wrong; empty if nothing is. `works`: this command runs tasks."""
    if command == "journal" and not settings.journal:
        return "FILE is missing: give a journal, like results.txt.journal"
    checks = [_check_tasks, _check_columns, _check_results, *([_check_command, _check_work] if runs_tasks else [])]
    return next((wrong for check in checks if (wrong := check(settings))), "")


def _check_command(settings: Settings) -> str:
    """What is wrong with the words of the command; empty if nothing."""
    if any(0 <= word.find("{=") < word.rfind("=}") for word in settings.command):
        return "{= PERL =} is GNU parallel's alone: change the task in the shell line, or in a script"
    return ""


def _check_work(settings: Settings) -> str:
    """What is wrong with the command and its like; empty if nothing."""
    if settings.command and settings.call:
        return "COMMAND and --call exclude each other: give one"
    if settings.init and not settings.call:
        return "--init needs --call: commands have no warm child"
    if settings.stdin and settings.call:
        return "--stdin is for commands: a callable gets its task as an argument"
    if settings.call and (settings.tag or settings.tagstring):
        return "--tag and --tagstring are for commands: a callable writes its lines as it likes"
    if settings.stdin and not settings.command:
        return "--stdin needs COMMAND: without one, each task is a command line itself"
    for flag, name in (("--call", settings.call), ("--init", settings.init)):
        if name and not all(name.rpartition(":")[::2]):
            return f"{flag} wants MODULE:FUNCTION or FILE.py:FUNCTION, not {name!r}"
    return ""


def _check_tasks(settings: Settings) -> str:
    """What is wrong with the tasks and the times; empty if nothing."""
    if settings.files and settings.argument_sources:
        return "tasks come from files or from :::, not from both: write `:::: FILE ::: WORDS` for each with each"
    if settings.block and settings.argument_sources:
        return "--block cuts files or stdin into tasks; there is nothing to cut behind :::"
    if settings.from_failed and (settings.argument_sources or settings.block or settings.zero):
        return "--from-failed reads what --failed wrote, from files or stdin: leave out :::, --block and -0"
    if settings.spool and settings.no_spool:
        return "--spool and --no-spool exclude each other: give one"
    if settings.heartbeat_timeout <= settings.heartbeat_interval:
        return f"--liveness must be longer than --interval ({settings.heartbeat_interval:g} s)"
    return ""


def _check_results(settings: Settings) -> str:
    """What is wrong with where results and journal go; empty if nothing."""
    if settings.line_buffer and (settings.output or settings.journal or settings.results_folder):
        other = "-o" if settings.output else "--journal" if settings.journal else "--results"
        return f"--line-buffer is for stdout, and what is shown there can't be taken back: leave out {other}"
    resuming = "--resume" if settings.resume else "--resume-failed" if settings.resume_failed else ""
    if resuming and settings.restart:
        return f"{resuming} goes on with an unfinished run, --restart forgets it: give one"
    if not (settings.output or settings.journal):
        for flag in filter(None, (resuming, "--durability disk" if settings.durability == "disk" else "")):
            return f"{flag} needs a journal: give -o FILE, or --journal FILE"
    written: dict[str, str] = {}
    for flag, path in _written_files(settings):
        if path and path in written:
            return f"{written[path]} and {flag} both write {path}: give each a file of its own"
        written[path] = flag
    return ""


def _check_columns(settings: Settings) -> str:
    """What is wrong with how lines become tasks; empty if nothing."""
    shaped = {
        "--csv": settings.csv,
        "--colsep": settings.colsep != "",
        "--header": settings.header != "",
        "--jsonl": settings.jsonl,
        "-n": settings.max_args is not None,
        "-X": settings.packed,
        "--shuf": settings.shuf,
    }
    for flag in (flag for flag, given in shaped.items() if given):
        if settings.block:
            return f"--block makes tasks of whole lines as they are: leave out {flag}"
        if settings.from_failed and flag != "--shuf":
            return f"--from-failed knows what its tasks were like: leave out {flag}"
        if settings.jsonl and flag not in {"--jsonl", "--shuf"}:
            return f"--jsonl takes each line as one value: leave out {flag}"
    if settings.jsonl and settings.argument_sources:
        return "--jsonl takes each line as one value: give lines, from stdin or by -a, not :::"
    if settings.csv and settings.zero:
        return "--csv is about lines: leave out -0"
    if settings.seed is not None and not settings.shuf:
        return "--seed is for --shuf: give both, or none"
    return ""


def _written_files(settings: Settings) -> tuple[tuple[str, str], ...]:
    """The options that name a file to write, and the files."""
    return (
        ("-o", settings.output),
        ("--failed", settings.failed),
        ("--joblog", settings.joblog),
        ("--journal", settings.journal),
    )


ALL_COMMANDS = "run ventilate work sink kill top"
TASK_COMMANDS = "run ventilate"
HEARTBEAT_COMMANDS = "run ventilate sink"
WORK_COMMANDS = "run work"
SINK_COMMANDS = "run sink"


class Option(Struct, frozen=True):
    """One field of Settings: its flags (none: not an option), what it is about, the commands it is `on`.

    In the commands named by `words`, the words that are no options are its values, too. `type` is as written.
    """

    flags: tuple[str, ...]
    about: str
    on: frozenset[str]
    kind: OptionType
    words: frozenset[str]
    default: Any
    name: str = ""
    type: str = ""


_DECLARED: list[Option] = []


def option(
    default: Any, *flags: str, about: str, on: str, option_type: OptionType = FLAG, positional_on: str = ""
) -> Any:
    """The default of the next field of Settings; the rest is kept for OPTIONS."""
    commands = frozenset(on.split()) if flags else frozenset()
    _DECLARED.append(Option(flags, about, commands, option_type, frozenset(positional_on.split()), default))
    return default


class Settings(Struct, frozen=True, kw_only=True):
    """Everything a person can choose. Sizes are bytes, times are seconds."""

    # what to run
    command: tuple[str, ...] = option(
        (), about="one shell line, or an argv", on="", option_type=COMMAND, positional_on=WORK_COMMANDS
    )
    dry_run: bool = option(False, "--dry-run", about="print the commands, run none", on=WORK_COMMANDS)
    call: str = option(
        "", "--call", about="call MODULE:FUNCTION or FILE.py:FUNCTION", on=WORK_COMMANDS, option_type=CALLABLE
    )
    init: str = option(
        "", "--init", about="call this once in each warm child first", on=WORK_COMMANDS, option_type=CALLABLE
    )
    stdin: bool = option(False, "--stdin", about="give the task on stdin instead of in {}", on=WORK_COMMANDS)
    jobs: int | None = option(
        None, "--jobs", "-j", about="tasks at a time [one a CPU]", on="run work doctor", option_type=JOBS
    )
    workers: int = option(1, "--workers", "-w", about="worker processes", on="run doctor", option_type=COUNT)

    cwd: str = option(
        "", "--cwd", "--wd", about="run tasks in DIR, which is not made", on=WORK_COMMANDS, option_type=FOLDER
    )
    env: tuple[str, ...] = option(
        (),
        "--env",
        about="give tasks this variable; without =VALUE, ours must be set",
        on=WORK_COMMANDS,
        option_type=VARIABLE,
    )
    tag: bool = option(
        False, "--tag", about="begin each line of a task's output with the task and a tab", on=WORK_COMMANDS
    )
    tagstring: str = option(
        "", "--tagstring", about="the same, with TEXT, in which {} is the task", on=WORK_COMMANDS, option_type=TEXT
    )
    timeout: Timeout = option(
        UNLIMITED,
        "--timeout",
        about="kill a task that runs longer, or longer than N% of the median",
        on=WORK_COMMANDS,
        option_type=TIMEOUT,
    )
    term_grace: float = option(
        5.0, "--term-grace", about="time between SIGTERM and SIGKILL", on=WORK_COMMANDS, option_type=DELAY
    )
    max_output: int | None = option(
        None, "--max-output-bytes", about="a task that writes more fails", on=WORK_COMMANDS, option_type=SIZE
    )

    # the tasks
    files: tuple[str, ...] = option(
        (),
        "--arg-file",
        "-a",
        about="read tasks from FILE, not stdin",
        on=TASK_COMMANDS,
        option_type=FILE,
        positional_on="ventilate",
    )
    slots: int = option(1, about="slots of all workers, as far as that is known", on="")
    argument_sources: tuple[ArgumentSource, ...] = option((), about="tasks given after ::: and its like", on="")
    zero: bool = option(False, "--null", "-0", about="tasks end in NUL, not newline", on=TASK_COMMANDS)
    colsep: str = option(
        "", "--colsep", "-C", about="cut lines into {1} {2} ... at REGEX", on=TASK_COMMANDS, option_type=REGEX
    )
    csv: bool = option(False, "--csv", about="lines are CSV, cut into {1} {2} ...", on=TASK_COMMANDS)
    header: str = option(
        "", "--header", about="with `:`, line 1 names the columns: {name}", on=TASK_COMMANDS, option_type=HEADER
    )
    jsonl: bool = option(
        False, "--jsonl", about="lines are JSON: a callable gets the value, {name} a field", on=TASK_COMMANDS
    )
    max_args: int | None = option(
        None,
        "--max-args",
        "-n",
        "-N",
        about="so many lines make one task: {1} {2} ...",
        on=TASK_COMMANDS,
        option_type=COUNT,
    )
    packed: bool = option(False, "-X", about="as many lines to a task as fit one command", on=TASK_COMMANDS)
    shuf: bool = option(False, "--shuf", about="tasks in random order, all read first", on=TASK_COMMANDS)
    seed: int | None = option(
        None, "--seed", about="another random order [of the input itself]", on=TASK_COMMANDS, option_type=NUMBER
    )
    block: int | None = option(
        None, "--block", about="make each task a block of about SIZE", on=TASK_COMMANDS, option_type=SIZE
    )
    chunk: int | None = option(
        None, "--chunk", about="tasks in a message [sizes itself]", on=TASK_COMMANDS, option_type=COUNT
    )
    window: int = option(64 * MIB, "--window", about="tasks on the way, in bytes", on=TASK_COMMANDS, option_type=SIZE)

    from_failed: bool = option(False, "--from-failed", about="the files were written by --failed", on=TASK_COMMANDS)
    spool: str = option(
        "", "--spool", about="keep what stdin said in DIR, to resume", on=TASK_COMMANDS, option_type=FOLDER
    )
    no_spool: bool = option(False, "--no-spool", about="keep nothing of stdin: not resumable", on=TASK_COMMANDS)
    max_task: int | None = option(
        None, "--max-task-bytes", about="a task that is larger fails", on=TASK_COMMANDS, option_type=SIZE
    )
    crash_limit: int = option(
        3,
        "--crash-limit",
        about="give up a task that has taken N workers along",
        on="run ventilate sink",
        option_type=COUNT,
    )

    # the results
    output: str = option(
        "", "--output", "-o", about="write results to FILE, not stdout", on=SINK_COMMANDS, option_type=FILE
    )
    keep_order: bool = option(False, "--keep-order", "-k", about="results in the order of tasks", on=SINK_COMMANDS)
    line_buffer: bool = option(
        False, "--line-buffer", "--lb", about="write whole lines as they come, of all tasks mixed", on=SINK_COMMANDS
    )
    results_folder: str = option(
        "", "--results", about="a folder in DIR for each task's output", on=SINK_COMMANDS, option_type=FOLDER
    )
    joblog: str = option(
        "", "--joblog", about="a line in FILE for each try of a task", on=SINK_COMMANDS, option_type=FILE
    )
    spill_limit: int = option(
        10 * GIB, "--spill-limit", about="disk for results ahead of their turn", on=SINK_COMMANDS, option_type=SIZE
    )

    failed: str = option(
        "", "--failed", about="write the tasks that failed to FILE", on=SINK_COMMANDS, option_type=FILE
    )
    retries: int = option(0, "--retries", about="tries after the first", on=SINK_COMMANDS, option_type=RETRY_COUNT)
    retry_delay: float = option(
        0.0, "--retry-delay", about="wait before another try, doubled each time", on=SINK_COMMANDS, option_type=DELAY
    )
    halt: HaltCondition | None = option(
        None, "--halt", about="end early, like now,fail=1 or soon,done=10%", on=SINK_COMMANDS, option_type=HALT
    )
    journal: str = option(
        "",
        "--journal",
        about="keep the journal in FILE [beside -o]",
        on=SINK_COMMANDS,
        option_type=FILE,
        positional_on="journal",
    )
    durability: str = option(
        "process",
        "--durability",
        about="what is done outlives any kill, or a power cut, too",
        on=SINK_COMMANDS,
        option_type=DURABILITY,
    )
    resume: bool = option(False, "--resume", about="go on with an unfinished run", on="run")
    resume_failed: bool = option(
        False, "--resume-failed", about="the same, and do what failed once more", on=SINK_COMMANDS
    )
    restart: bool = option(False, "--restart", about="forget an unfinished run and begin anew", on=SINK_COMMANDS)

    # where the stations meet
    name: str = option(
        "default",
        "--name",
        about="meet here under this name; run takes a private one",
        on=ALL_COMMANDS,
        option_type=NAME,
    )
    at: str = option("", "--at", about="meet at tcp://HOST; ports 5557 to 5559", on=ALL_COMMANDS, option_type=ENDPOINT)
    registry_at: str = option("", "--desk", about="the ventilator's desk alone", on=ALL_COMMANDS, option_type=ENDPOINT)
    results_at: str = option(
        "", "--results-at", about="the sink's results endpoint alone", on=ALL_COMMANDS, option_type=ENDPOINT
    )
    control_at: str = option(
        "", "--control-at", about="the sink's control endpoint alone", on=ALL_COMMANDS, option_type=ENDPOINT
    )
    lane_ports: str = option(
        "20000-29999", "--lane-ports", about="tcp ports for lanes", on=TASK_COMMANDS, option_type=PORTS
    )
    insecure: bool = option(False, "--insecure", about="allow tcp, which has no keys yet", on=ALL_COMMANDS)

    # patience and talk
    peer_timeout: float = option(
        600.0, "--patience", about="how long to wait for a lost peer", on=ALL_COMMANDS, option_type=TIME
    )
    heartbeat_interval: float = option(
        1.0, "--interval", about="time between pulses", on=HEARTBEAT_COMMANDS, option_type=TIME
    )
    heartbeat_timeout: float = option(
        10.0, "--liveness", about="silence that loses a worker", on=HEARTBEAT_COMMANDS, option_type=TIME
    )
    now: bool = option(False, "--now", about="kill running tasks, too", on="kill")
    program: tuple[str, ...] = option(
        (), about="one of the lab, and its words", on="", option_type=PROGRAM, positional_on="lab"
    )
    shell: str = option("", about="whose completion to print", on="", option_type=SHELL, positional_on="completion")
    once: bool = option(False, "--once", about="print it once and end", on="top")
    as_json: bool = option(False, "--json", about="as JSON, an object a line", on="top doctor")
    bar: bool | None = option(
        None, "--bar/--no-bar", about="draw a bar on stderr [if it is a terminal]", on=SINK_COMMANDS
    )
    verbose: int = option(0, "--verbose", "-v", about="say more; -vv: what happens, and when", on=ALL_COMMANDS)
    quiet: bool = option(False, "--quiet", "-q", about="say only what goes wrong", on=ALL_COMMANDS)

    def validate(self, command: str) -> Settings:
        """Itself, when it makes sense for `command`; else raises UsageError, naming the option."""
        for each in OPTIONS:
            least, value = each.kind.minimum, getattr(self, each.name)
            if least is not None and value is not None and value < least:
                raise UsageError(f"{each.flags[0]} must be at least {least:g}, not {value:g}")
        if wrong := find_conflict(self, command, runs_tasks=command in WORK_COMMANDS.split()):
            raise UsageError(wrong)
        return self


OPTIONS = tuple(
    replace(declared, name=name, type=kind)
    for declared, (name, kind) in zip(_DECLARED, Settings.__annotations__.items(), strict=True)
)
"""All fields of Settings, in their order."""


def parse_settings(values: Mapping[str, object]) -> Settings:
    """The settings of what was typed: field name to a text, several texts, or a value as it is.

    What is missing or empty keeps its default. Raises UsageError, naming the option.
    """
    given: dict[str, Any] = {}
    for each in OPTIONS:
        value = values.get(each.name)
        try:
            if isinstance(value, str):
                given[each.name] = each.kind.parse(value)
            elif value is not None:
                given[each.name] = tuple(value) if isinstance(value, list) else value
        except ValueError as wrong:
            raise UsageError(f"{each.flags[0]}: {wrong}") from None
    return Settings(**given)
