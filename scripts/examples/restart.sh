#!/bin/sh
# The ventilator is killed in the middle and started again with the same file: the run goes on where it was.
set -eu

name=restart-$$ folder=$(mktemp -d) jobs=
finish() {
    # shellcheck disable=SC2086 # several numbers
    [ -z "$jobs" ] || { kill $jobs; kill $jobs; wait; } 2>/dev/null || true
    rm -r "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

ventilate() {
    pipe ventilate --quiet --name "$name" --heartbeat-interval 0.2 --heartbeat-timeout 2 "$folder/tasks" &
}

seq 400 >"$folder/tasks"
: >"$folder/results"
pipe sink --quiet --name "$name" --heartbeat-interval 0.2 --heartbeat-timeout 2 >"$folder/results" &
sink=$! jobs=$!
for _ in 1 2; do
    pipe work --quiet --name "$name" --jobs 2 'sleep 0.02; echo did {}' &
    jobs="$jobs $!"
done
ventilate
first=$! jobs="$jobs $!"

while [ "$(wc -l <"$folder/results")" -lt 100 ]; do
    kill -0 "$sink" # it is still there
    sleep 0.05
done
kill -9 "$first"
wait "$first" || [ $? -eq 137 ]
echo "after 100 results the ventilator was killed"
ventilate
jobs="$jobs $!"
wait "$sink" # it has said KILL, and heard all goodbyes
wait
jobs=

sed 's/^/did /' "$folder/tasks" >"$folder/expected"
sort -n -k 2 "$folder/results" | cmp - "$folder/expected"
echo "400 results, each once"
