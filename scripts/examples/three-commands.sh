#!/bin/sh
# The three commands: a sink, three workers and a ventilator, each a job of the shell, in any order. A worker may be on
# another machine; the README shows --at.
set -eu

name=three-commands-$$ folder=$(mktemp -d) jobs=
finish() {
    # shellcheck disable=SC2086 # several process ids
    [ -z "$jobs" ] || { kill $jobs; kill $jobs; wait; } 2>/dev/null || true
    rm -r "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

for _ in 1 2 3; do
    # shellcheck disable=SC2016 # the shell of each task expands it
    pipe work --quiet --name "$name" --jobs 2 'echo {} squared is $(({} * {}))' &
    jobs="$jobs $!"
done
pipe sink --quiet --name "$name" --keep-order --output "$folder/results" &
jobs="$jobs $!"
seq 1000 | pipe ventilate --quiet --name "$name"
for job in $jobs; do
    wait "$job" # each ends with 0 when the run is complete
done
jobs=

seq 1000 | awk '{ print $1 " squared is " $1 * $1 }' | cmp - "$folder/results"
echo "1000 results, in order, from 3 workers"
