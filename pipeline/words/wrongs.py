"""What makes no sense together, of what a person has chosen: a sentence each, with what to do instead.

It looks at the choices alone, never at the file system or the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.words.settings import Settings


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
