#!/bin/sh
# A nightly job for cron: it resumes an interrupted run, retries failed tasks, and mails those that failed every time.
#
#   nightly.sh TASKS RESULTS COMMAND        run COMMAND for each line of TASKS, and write RESULTS
#
# MAIL is the command that reads the message on stdin (default: mail -s 'nightly: tasks failed' "$USER").
set -eu

tasks=$1 results=$2 command=$3
mail=${MAIL:-"mail -s 'nightly: tasks failed' $(id -un)"}

resume=
[ ! -e "$results.journal" ] || resume=--resume # the last run was interrupted

code=0
pipe run --quiet $resume --arg-file "$tasks" --output "$results" --failed "$results.failed" --joblog "$results.log" \
    --retries 2 --retry-delay 0.1s --timeout 1h "$command" || code=$?

case $code in
0) ;;
1)
    {
        echo "$(wc -l <"$results.failed") of $(wc -l <"$tasks") tasks failed:"
        cat "$results.failed"
        echo "to retry them: pipe run -a $results.failed --from-failed '$command'"
    } | sh -c "$mail"
    ;;
*)
    echo "the run ended with exit code $code; the next night resumes it" | sh -c "$mail"
    exit "$code"
    ;;
esac
