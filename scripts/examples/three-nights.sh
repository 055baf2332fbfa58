#!/bin/sh
# Three nights of nightly.sh: the first is killed, the second resumes it and mails the failed task, the third has no failure.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cd "$folder"
export MAIL="cat >>$folder/mailbox"

seq 60 >tasks
# shellcheck disable=SC2016 # the shell of each task expands it
# from task 40 on, the tasks of the first night sleep until it is killed
command='echo run >>started.{}; [ {} -lt 40 ] || [ -e killed ] || sleep 60; [ {} != 13 ] && echo done {}'

setsid "$here/nightly.sh" tasks results "$command" &
first=$!
while [ "$(cat started.* 2>/dev/null | wc -l)" -lt 20 ]; do sleep 0.05; done
kill -9 "-$first" # all of its processes at once, as in a power cut
wait "$first" || true
touch killed
echo "killed the first night"

"$here/nightly.sh" tasks results "$command"
echo "the second night resumed and mailed: $(head -n 1 mailbox)"
sort -n -k 2 results | cmp - "$(seq 60 | sed '/^13$/d; s/^/done /' >expected && echo expected)"

rm mailbox results results.*
"$here/nightly.sh" tasks results 'echo done {}'
[ ! -e mailbox ]
echo "three nights: 59 results, each written once"
