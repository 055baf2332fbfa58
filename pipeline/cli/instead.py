"""Options of GNU parallel and xargs that `pipe` does not have, and what to do instead: one table.

Promises: each sentence names something that can be typed here. A name that `pipe` has is never in it.
"""

from __future__ import annotations

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
