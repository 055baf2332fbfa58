#!/bin/sh
# Workers join and leave an active run: one is killed, one is stopped, another starts. Each result is written once.
set -eu

name=workers-$$ folder=$(mktemp -d) jobs=
finish() {
    # shellcheck disable=SC2086 # several process ids
    [ -z "$jobs" ] || { kill $jobs; kill $jobs; wait; } 2>/dev/null || true
    rm -r "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

work() {
    pipe work --quiet --name "$name" --jobs 2 'sleep 0.02; echo done {}' &
}
wait_for_results() { # LINES
    while [ "$(wc -l <"$folder/results")" -lt "$1" ]; do
        kill -0 "$sink" # end the script if the sink has ended
        sleep 0.05
    done
}

: >"$folder/results"
pipe sink --quiet --name "$name" --heartbeat-interval 0.2 --heartbeat-timeout 2 >"$folder/results" &
sink=$! jobs=$!
work
killed=$! jobs="$jobs $!"
work
stopped=$! jobs="$jobs $!"
seq 400 | pipe ventilate --quiet --name "$name" --heartbeat-interval 0.2 --heartbeat-timeout 2 &
ventilator=$! jobs="$jobs $!"

wait_for_results 50
kill -9 "$killed"
echo "killed a worker after 50 results"
wait_for_results 100
kill "$stopped"
wait "$stopped" || [ $? -eq 143 ] # it finishes its running tasks first
echo "stopped the other worker after 100 results"
work
new=$! jobs="$jobs $!"
wait "$ventilator"
wait "$new"
wait "$sink" # it has detected the loss of the killed worker
jobs=

seq 400 | sed 's/^/done /' >"$folder/expected"
sort -n -k 2 "$folder/results" | cmp - "$folder/expected"
echo "400 results, each written once"
