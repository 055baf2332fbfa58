#!/bin/sh
# The ventilator is killed and started again with the same file: it resumes the run.
set -eu

name=restart-$$ folder=$(mktemp -d) jobs=
finish() {
    # shellcheck disable=SC2086 # several process ids
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
    pipe work --quiet --name "$name" --jobs 2 'sleep 0.02; echo done {}' &
    jobs="$jobs $!"
done
ventilate
killed=$! jobs="$jobs $!"

while [ "$(wc -l <"$folder/results")" -lt 100 ]; do
    kill -0 "$sink" # end the script if the sink has ended
    sleep 0.05
done
kill -9 "$killed"
wait "$killed" || [ $? -eq 137 ]
echo "killed the ventilator after 100 results"
ventilate
jobs="$jobs $!"
wait "$sink" # it ends when all workers have ended
wait
jobs=

sed 's/^/done /' "$folder/tasks" >"$folder/expected"
sort -n -k 2 "$folder/results" | cmp - "$folder/expected"
echo "400 results, each written once"
