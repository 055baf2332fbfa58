"""Hints for unknown options and commands.

Names of GNU parallel and xargs that mean the same here are aliases (`options.py`). For the other ones,
PARALLEL_REPLACEMENTS says what to do instead.

Invariants:
  - Every hint contains something that the user can type.
  - No option of pipe is in PARALLEL_REPLACEMENTS.
  - This module is imported only after an error.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from difflib import get_close_matches

from pipeline.config.settings import ALIASES, OPTIONS, Option
from pipeline.model.errors import UsageError

_REPLACEMENT_GROUPS = {
    # many tasks, blocks and records
    "--pipe --spreadstdin --pipe-part --pipepart --cat --fifo": (
        "`--block SIZE --stdin` gives each command a block of whole lines on its stdin"
    ),
    "--round-robin --roundrobin --round --rr": "leave it out: the next free slot gets the next block of `--block SIZE`",
    "--recstart --recend --rrs --remove-rec-sep --removerecsep --regexp --regex --group-by --groupby --shard --bin": (
        "records are lines, or end in NUL with -0; convert them first"
    ),
    "-m --xargs": "`-X` puts as many tasks on a command line as fit",
    "-L -l --max-lines": "`-n N` makes one task of N lines",
    "-s --max-chars --maxchars -x --exit": "`-X` fills a command line as far as the system allows, `-n N` with N lines",
    # how tasks are read
    "-d --delimiter": "tasks end in newline, or in NUL with -0; convert other delimiters, as with `tr , '\\n'`",
    "-E -e --eof": "end the input itself, as with `sed '/^END$/,$d'`",
    "-r --no-run-if-empty --norunifempty": "leave it out: an empty input has no tasks; drop empty lines with `grep .`",
    "--skip-first-line": "`--header :` reads names from the first line, `tail -n +2` drops it",
    "--link --xapply": "`::: a b :::+ c d` joins sources item by item",
    "--arg-sep --argsep --arg-file-sep --argfilesep": "leave it out: the separators are :::, ::::, :::+ and ::::+",
    "--trim": "trim the input itself, as with `sed 's/^ *//; s/ *$//'`",
    "--total-jobs --totaljobs --total": "leave it out: the total is known when the input has ended",
    # replacement strings and quoting
    "-I -i --replace -U --er --extensionreplace --bnr --basenamereplace --dnr --dirnamereplace --bner "
    "--basenameextensionreplace --seqreplace --slotreplace": (
        "the task is always {}; parts of it are {.} {/} {//} {/.} {#} {%}"
    ),
    "--plus --rpl --parens": "besides {.} {/} {//} {/.}, use the shell: COMMAND may be a whole shell line",
    "--quote --shellquote --shell-quote": "leave it out: {} is always quoted; `--dry-run` shows how",
    "--template --tmpl": 'let COMMAND fill the template, as with `sed "s/NAME/"{}/ template`',
    # when and where
    "--delay --ssh-delay --sshdelay": "start COMMAND with a `sleep`, or use a smaller `--jobs N`",
    "--load --noswap --memfree --memsuspend --limit": (
        "`--jobs N` is the limit; `pipe work` may start and stop during a run"
    ),
    "--nice": "`nice pipe run ...` is inherited by all tasks",
    "-S --sshlogin --sshloginfile --slf --onall --nonall --filter-hosts --ssh -M --controlmaster": (
        "start `pipe work --at tcp://HOST --insecure COMMAND` on each machine"
    ),
    "--trc --transfer --transferfile --transfer-file --tf --return --cleanup --basefile --bf --rsync-opts": (
        "pipe transfers tasks and results, not files: use a shared folder, or rsync in COMMAND"
    ),
    "--tmpdir --tempdir": "set TMPDIR",
    "--semaphore --sem --fg --bg --wait --id": "`flock FILE COMMAND` is a mutex",
    "--profile -J": "define a shell function or an alias with these options",
    "--process-slot-var": "tasks find their slot in PIPE_SLOT",
    "--record-env --recordenv": "tasks inherit your environment; `--env NAME=VALUE` adds to it",
    # results
    "--ungroup -u --latest-line --latestline --ll": "`--line-buffer` writes each line at once",
    "--group -g --no-keep-order --nokeeporder": "leave it out: it is the default without `--line-buffer` and `-k`",
    "--files --files0 --outputasfiles": "`--results DIR` writes the output of each task to files",
    "--sqlmaster --sql-master --sqlworker --sql-worker --sqlandworker --sql": "`-o FILE.sqlite` writes a table",
    "--compress --compress-program --decompress-program": "compress the output: `pipe run ... | gzip`",
    "--ctag --ctagstring --ctag-string --color --colour --color-failed": "`--tag` begins each line with its task",
    "--tmux --tmuxpane --tmux-pane": "`pipe top` shows the running tasks",
    # failures and messages
    "--retry-failed --retryfailed": "`--resume-failed` runs failed tasks again",
    "--halt-on-error --halt-on-error-now": "`--halt now,fail=1` ends at the first failure",
    "--term-seq --termseq": "leave it out: tasks get SIGTERM, then SIGKILL after `--term-grace TIME`",
    "--eta --progress": "`--bar` shows progress, rate and remaining time",
    "-t -p --interactive": "`--dry-run` prints the commands, `--joblog FILE` records them",
    "--silent": "`--quiet` hides progress and summary",
    "--tty -T --open-tty --ctrl-c --ctrlc": "leave it out: tasks read /dev/null, or the task itself with `--stdin`",
    "--will-cite --willcite --nonotice --no-notice --nn --citation --bibtex --gnu --tollef": "leave it out",
    "--number-of-cpus --number-of-cores --number-of-threads --number-of-sockets --max-line-length-allowed "
    "--show-limits": "`pipe doctor` shows the limits of this machine",
    "--version": "`pipe --version` shows it",
}
PARALLEL_REPLACEMENTS = {name: hint for names, hint in _REPLACEMENT_GROUPS.items() for name in names.split()}

# minimum ratio of difflib for two names that may be mixed up; lower for commands, which are short and few
OPTION_SIMILARITY, COMMAND_SIMILARITY = 0.7, 0.6
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


def usage_error(error: Exception, program_name: str) -> UsageError:
    """Return click's error of `program_name` (as in `pipe run`) in our words, with a hint."""
    text: str = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    option: str = getattr(error, "option_name", "") or ""
    if hasattr(error, "possibilities"):
        return UsageError(f"no such option: {option}", option_hint(option, program_name.rsplit(maxsplit=1)[-1]))
    metavars = [each.kind.metavar for each in OPTIONS if option in each.flags]
    if option and metavars and "requires an argument" in text:
        return UsageError(f"option {option!r} requires an argument", f"give `{option} {metavars[0]}`")
    return UsageError(f"{text[:1].lower()}{text[1:]}", f"see `{program_name} --help`")


def option_hint(option: str, command: str) -> str:
    """Return what to type instead of an option that `pipe COMMAND` does not have."""
    if elsewhere := _commands_with_option(option):
        names = " and ".join(f"`pipe {other}`" for other in elsewhere)
        return f"{option} is an option of {names}, not of `pipe {command}`"
    if option in PARALLEL_REPLACEMENTS:
        return PARALLEL_REPLACEMENTS[option]
    if similar := _similar_options(option, command):
        return f"did you mean {', '.join(similar)}?"
    return f"see `pipe {command} --help-all`"


def unknown_command_error(words: Sequence[str], commands: Sequence[str]) -> UsageError:
    """Return the error for a first word that is not a command. `words` has at least one."""
    first = words[0]
    if first.startswith("-"):
        flag = first.partition("=")[0] if first.startswith("--") else first[:2]
        order = f"options follow the command: `pipe run {_shorten_command(words)}`"
        return UsageError(f"no such option: {flag}", order if _commands_with_option(flag) else "see `pipe --help`")
    meant = [command for command, others in COMMAND_SYNONYMS.items() if first.lower() in others.split()]
    meant += get_close_matches(first.lower(), commands, n=1, cutoff=COMMAND_SIMILARITY)
    hint = (
        f"did you mean `pipe {meant[0]}`?"
        if meant
        else f"to run it for each task: `pipe run {_shorten_command(words)}`"
    )
    return UsageError(f"no such command: {first}", hint)


def _shorten_command(words: Sequence[str]) -> str:
    """Return the first words as the user could type them."""
    first_words = shlex.join(words[:4])
    return f"{first_words} ..." if len(words) > len(words[:4]) else first_words


def _commands_with_option(option: str) -> list[str]:
    """Return the commands that have this option, without `run` where another one has it too."""
    flag_of_alias = {alias: flag for flag, others in ALIASES.items() for alias in others.split()}
    flag = flag_of_alias.get(option, option)
    on = next((each.on for each in OPTIONS if flag in _split_flags(each)), frozenset())
    found = [command for command in ("ventilate", "work", "sink", "run", "kill", "top", "doctor") if command in on]
    return [command for command in found if command != "run" or len(found) == 1]


def _similar_options(option: str, command: str) -> list[str]:
    """Return the options of `command` that begin with `option`, or else those that are similar."""
    if len(option.lstrip("-")) <= 1:
        return []
    known = [flag for each in OPTIONS if command in each.on for flag in _split_flags(each)]
    names = {flag: flag for flag in known if flag.startswith("--")}
    matches = [flag for flag in names if flag.startswith(option)]
    names |= {alias: flag for flag, others in ALIASES.items() if flag in known for alias in others.split()}
    matches = matches or [flag for name, flag in names.items() if name.startswith(option)]
    similar = get_close_matches(f"--{option.lstrip('-')}", names, n=MAX_SUGGESTIONS, cutoff=OPTION_SIMILARITY)
    return list(dict.fromkeys(matches or [names[name] for name in similar]))[:MAX_SUGGESTIONS]


def _split_flags(field: Option) -> list[str]:
    """Return the flags of a field, where `--bar/--no-bar` is two."""
    return [flag for flags in field.flags for flag in flags.split("/")]
