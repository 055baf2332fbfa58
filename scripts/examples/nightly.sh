#!/bin/sh
# A job for the night, fit for cron: it goes on where the last night was cut off, tries what failed again, and mails
# what failed for good.
#
#   nightly.sh TASKS RESULTS COMMAND        each line of TASKS through COMMAND, into RESULTS
#
# MAIL is the command that gets the letter on its stdin (default: mail -s 'nightly: tasks failed' "$USER").
set -eu

tasks=$1 results=$2 command=$3
mail=${MAIL:-"mail -s 'nightly: tasks failed' $(id -un)"}

go_on=
[ ! -e "$results.journal" ] || go_on=--resume # the last night was cut off

code=0
pipe run --quiet $go_on --arg-file "$tasks" --output "$results" --failed "$results.failed" --joblog "$results.log" \
    --retries 2 --retry-delay 0.1s --timeout 1h "$command" || code=$?

case $code in
0) ;;
1)
    {
        echo "$(wc -l <"$results.failed") of $(wc -l <"$tasks") tasks failed:"
        cat "$results.failed"
        echo "once more: pipe run -a $results.failed --from-failed '$command'"
    } | sh -c "$mail"
    ;;
*)
    echo "the run ended with $code and goes on next night" | sh -c "$mail"
    exit "$code"
    ;;
esac
