#!/bin/sh
# Workers come and go while a run is on: one is killed, one is asked to leave, another comes. Nothing is lost or done twice.
set -eu

name=come-and-go-$$ folder=$(mktemp -d) jobs=
finish() {
    # shellcheck disable=SC2086 # several numbers
    [ -z "$jobs" ] || { kill $jobs; kill $jobs; wait; } 2>/dev/null || true
    rm -r "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

work() {
    pipe work --quiet --name "$name" --jobs 2 'sleep 0.02; echo did {}' &
}
until_written() { # LINES: wait for so many
    while [ "$(wc -l <"$folder/results")" -lt "$1" ]; do
        kill -0 "$sink" # it is still there
        sleep 0.05
    done
}

: >"$folder/results"
pipe sink --quiet --name "$name" --heartbeat-interval 0.2 --heartbeat-timeout 2 >"$folder/results" &
sink=$! jobs=$!
work
first=$! jobs="$jobs $!"
work
second=$! jobs="$jobs $!"
seq 400 | pipe ventilate --quiet --name "$name" --heartbeat-interval 0.2 --heartbeat-timeout 2 &
ventilator=$! jobs="$jobs $!"

until_written 50
kill -9 "$first"
echo "after 50 results a worker was killed"
until_written 100
kill "$second"
wait "$second" || [ $? -eq 143 ] # it has finished what it ran, and said goodbye
echo "after 100 the other was asked to leave"
work
third=$! jobs="$jobs $!"
wait "$ventilator"
wait "$third"
wait "$sink" # it has waited for a goodbye of the killed one, too
jobs=

seq 400 | sed 's/^/did /' >"$folder/expected"
sort -n -k 2 "$folder/results" | cmp - "$folder/expected"
echo "400 results, each once"
