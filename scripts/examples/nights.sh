#!/bin/sh
# Three nights of nightly.sh: the first is cut off by kill -9, the second resumes it and mails what failed, and the third
# has no failure.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cd "$folder"
export MAIL="cat >>$folder/mailbox"

seq 60 >tasks
# shellcheck disable=SC2016 # for the shell of each task
# from task 40 on, the first night goes on for as long as it takes to cut it off
command='echo run >>started.{}; [ {} -lt 40 ] || [ -e dawn ] || sleep 60; [ {} != 13 ] && echo did {}'

setsid "$here/nightly.sh" tasks results "$command" &
night=$!
while [ "$(cat started.* 2>/dev/null | wc -l)" -lt 20 ]; do sleep 0.05; done
kill -9 "-$night" # all of its processes at once, as a power cut would
wait "$night" || true
touch dawn
echo "the first night was cut off"

"$here/nightly.sh" tasks results "$command"
echo "the second went on, and mailed: $(head -n 1 mailbox)"
sort -n -k 2 results | cmp - "$(seq 60 | sed '/^13$/d; s/^/did /' >expected && echo expected)"

rm mailbox results results.*
"$here/nightly.sh" tasks results 'echo did {}'
[ ! -e mailbox ]
echo "three nights, 59 results each once"
