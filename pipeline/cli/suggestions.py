"""Hints for unknown options and commands.

Options of GNU parallel and xargs that `pipe` does not have, and what to do instead: one table.

Promises: each sentence names something that can be typed here. A name that `pipe` has is never in it.

What a person typed who is used to other names: the right option, the right command, or what to do instead.

GNU parallel's and xargs's names that mean the same here are aliases (see signature.py); the others are told of here.
Promises: an answer to any wrong word ends with something that can be typed. Never imported where nothing is wrong.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from difflib import get_close_matches

from pipeline.cli.options import ALIASES
from pipeline.config.settings import OPTIONS, Option
from pipeline.model.errors import UsageError

_REPLACEMENT_GROUPS = {
    # many tasks, blocks and records
    "--pipe --spreadstdin --pipe-part --pipepart --cat --fifo": (
        "`--block SIZE --stdin` gives each command a block of whole lines on its stdin"
    ),
    "--round-robin --roundrobin --round --rr": "leave it out: who is free gets the next block of `--block SIZE`",
    "--recstart --recend --rrs --remove-rec-sep --removerecsep --regexp --regex --group-by --groupby --shard --bin": (
        "records are lines, or end in NUL with -0; bring them into that form first"
    ),
    "-m --xargs": "-X puts as many tasks on a command line as fit",
    "-L -l --max-lines": "`-n N` makes one task of N lines",
    "-s --max-chars --maxchars -x --exit": "-X fills a command line as far as the system allows; `-n N` says how far",
    # how tasks are read
    "-d --delimiter": "tasks end in newline, or in NUL with -0; turn another end into one, as with `tr , '\\n'`",
    "-E -e --eof": "end the input itself, as with `sed '/^END$/,$d'`",
    "-r --no-run-if-empty --norunifempty": "leave it out: no input is no task; drop empty lines with `grep .`",
    "--skip-first-line": "`--header :` takes the first line for names, `tail -n +2` leaves it out",
    "--link --xapply": "`::: a b :::+ c d` joins sources item by item",
    "--arg-sep --argsep --arg-file-sep --argfilesep": "the marks are :::, ::::, :::+ and ::::+",
    "--trim": "trim the input itself, as with `sed 's/^ *//; s/ *$//'`",
    "--total-jobs --totaljobs --total": "leave it out: the total is known once the input has ended",
    # replacement strings and quoting
    "-I -i --replace -U --er --extensionreplace --bnr --basenamereplace --dnr --dirnamereplace --bner "
    "--basenameextensionreplace --seqreplace --slotreplace": (
        "the task is always {}, and {.} {/} {//} {/.} {#} {%} are its like"
    ),
    "--plus --rpl --parens": "beyond {.} {/} {//} {/.}, let the shell cut: COMMAND may be a whole shell line",
    "--quote --shellquote --shell-quote": "leave it out: {} is always quoted; `--dry-run` shows how",
    "--template --tmpl": 'let COMMAND fill the template, as with `sed "s/NAME/"{}/ template`',
    # when and where
    "--delay --ssh-delay --sshdelay": "let COMMAND begin with a `sleep`, or take a smaller `--jobs N`",
    "--load --noswap --memfree --memsuspend --limit": (
        "`--jobs N` is the limit; more `pipe work` may come and go while a run goes on"
    ),
    "--nice": "`nice pipe run ...` is inherited by all tasks",
    "-S --sshlogin --sshloginfile --slf --onall --nonall --filter-hosts --ssh -M --controlmaster": (
        "start `pipe work --at tcp://HOST --insecure COMMAND` on each machine"
    ),
    "--trc --transfer --transferfile --transfer-file --tf --return --cleanup --basefile --bf --rsync-opts": (
        "pipe moves tasks and results, not files: use a shared folder, or rsync in COMMAND"
    ),
    "--tmpdir --tempdir": "set TMPDIR",
    "--semaphore --sem --fg --bg --wait --id": "`flock FILE COMMAND` is a mutex",
    "--profile -J": "keep options in a shell function or an alias",
    "--process-slot-var": "tasks see their slot as PIPE_SLOT",
    "--record-env --recordenv": "tasks have your environment; `--env NAME=VALUE` adds to it",
    # results
    "--ungroup -u --latest-line --latestline --ll": "`--line-buffer` writes whole lines as they come",
    "--group -g --no-keep-order --nokeeporder": "leave it out: that is how it is without `--line-buffer` and `-k`",
    "--files --files0 --outputasfiles": "`--results DIR` keeps what each task wrote in files",
    "--sqlmaster --sql-master --sqlworker --sql-worker --sqlandworker --sql": "`-o FILE.sqlite` writes a table",
    "--compress --compress-program --decompress-program": "compress what comes out: `pipe run ... | gzip`",
    "--ctag --ctagstring --ctag-string --color --colour --color-failed": "`--tag` names the task in each line",
    "--tmux --tmuxpane --tmux-pane": "`pipe top` shows what runs now",
    # failures and talk
    "--retry-failed --retryfailed": "`--resume-failed` does what failed once more",
    "--halt-on-error --halt-on-error-now": "`--halt now,fail=1` ends at the first failure",
    "--term-seq --termseq": "SIGTERM is sent, and SIGKILL `--term-grace TIME` later",
    "--eta --progress": "`--bar` shows how far it is, the rate and the time that is left",
    "-t -p --interactive": "`--dry-run` prints the commands; `--joblog FILE` keeps those that ran",
    "--silent": "`--quiet` leaves out progress and summary",
    "--tty -T --open-tty --ctrl-c --ctrlc": "a task's stdin is /dev/null, or the task itself with `--stdin`",
    "--will-cite --willcite --nonotice --no-notice --nn --citation --bibtex --gnu --tollef": "leave it out",
    "--number-of-cpus --number-of-cores --number-of-threads --number-of-sockets --max-line-length-allowed "
    "--show-limits": "`pipe doctor` says what this machine allows",
    "--version": "`pipe --version` shows it",
}
PARALLEL_REPLACEMENTS = {name: sentence for names, sentence in _REPLACEMENT_GROUPS.items() for name in names.split()}
"""By the name that was typed."""


OPTION_SIMILARITY, COMMAND_SIMILARITY = 0.7, 0.6
"""How alike two names are that may be mixed up, as difflib counts it; commands are short, and few."""
MAX_SUGGESTIONS = 3
COMMAND_SYNONYMS = {
    "kill": "stop cancel abort end quit term",
    "top": "status ps stat progress watch monitor show ls list",
    "run": "start exec parallel xargs map",
    "work": "worker workers slave agent",
    "ventilate": "ventilator vent feed submit push source",
    "sink": "collect gather reduce results",
    "journal": "log dump",
    "doctor": "check diagnose health selftest",
    "completion": "complete completions",
}


def with_suggestion(error: Exception, program_name: str) -> str:
    """What to say of a complaint of the parser of `pipe COMMAND`, which is its `name`."""
    said: str = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    option: str = getattr(error, "option_name", "") or ""
    if hasattr(error, "possibilities"):
        return unknown_option_text(option, program_name.rsplit(maxsplit=1)[-1])
    kinds = [each.kind.metavar for each in OPTIONS if option in each.flags]
    if option and kinds and "requires an argument" in said:
        return f"option {option!r} requires an argument: give it as `{option} {kinds[0]}`"
    return f"{said[:1].lower()}{said[1:]} (see `{program_name} --help`)"


def unknown_option_text(option: str, command: str) -> str:
    """What is right instead of an option that `pipe COMMAND` does not have."""
    said = f"no such option: {option}"
    elsewhere = _commands_with_option(option)
    if elsewhere:
        names = " and ".join(f"`pipe {other}`" for other in elsewhere)
        return f"{said}; it belongs to {names}, not to `pipe {command}`"
    if option in PARALLEL_REPLACEMENTS:
        return f"{said}; {PARALLEL_REPLACEMENTS[option]}"
    near = _similar_options(option, command)
    if near:
        return f"{said}; did you mean {', '.join(near)}?"
    return f"{said} (see `pipe {command} --help`)"


def unknown_command_error(words: Sequence[str], commands: Sequence[str]) -> UsageError:
    """What is right instead of a first word that is no command. `words` has at least one."""
    first = words[0]
    if first.startswith("-"):
        flag = first.partition("=")[0] if first.startswith("--") else first[:2]
        way = (
            f"; options stand behind the command: `pipe run {_shorten_command(words)}`"
            if _commands_with_option(flag)
            else ""
        )
        return UsageError(f"no such option: {flag}{way} (see `pipe --help`)")
    meant = [command for command, others in COMMAND_SYNONYMS.items() if first.lower() in others.split()]
    meant += get_close_matches(first.lower(), commands, n=1, cutoff=COMMAND_SIMILARITY)
    said = f"no such command: {first}"
    if meant:
        return UsageError(f"{said}; did you mean `pipe {meant[0]}`?")
    return UsageError(f"{said}; to run it for each task: `pipe run {_shorten_command(words)}` (see `pipe --help`)")


def _shorten_command(words: Sequence[str]) -> str:
    """The words as they could be typed, cut short."""
    few = shlex.join(words[:4])
    return f"{few} ..." if len(words) > len(words[:4]) else few


def _commands_with_option(option: str) -> list[str]:
    """The commands that have this option, the most used first, without `run` where a station has it, too."""
    names = {alias: flag for flag, others in ALIASES.items() for alias in others.split()}
    flag = names.get(option, option)
    found = [each.on for each in OPTIONS if flag in _field_flags(each)]
    order = ("ventilate", "work", "sink", "run", "kill", "top", "doctor")
    on = [command for command in order if found and command in found[0]]
    return [command for command in on if command != "run" or len(on) == 1]


def _similar_options(option: str, command: str) -> list[str]:
    """The options of `command` that may have been meant: those that begin so, else those that look alike."""
    if len(option.lstrip("-")) <= 1:
        return []
    known = [flag for each in OPTIONS if command in each.on for flag in _field_flags(each)]
    names = {flag: flag for flag in known if flag.startswith("--")}
    begun = [flag for flag in names if flag.startswith(option)]
    names |= {alias: flag for flag, others in ALIASES.items() if flag in known for alias in others.split()}
    begun = begun or [flag for name, flag in names.items() if name.startswith(option)]
    alike = get_close_matches(f"--{option.lstrip('-')}", names, n=MAX_SUGGESTIONS, cutoff=OPTION_SIMILARITY)
    return list(dict.fromkeys(begun or [names[name] for name in alike]))[:MAX_SUGGESTIONS]


def _field_flags(field: Option) -> list[str]:
    """The flags of a field, `--bar/--no-bar` being two."""
    return [flag for flags in field.flags for flag in flags.split("/")]
