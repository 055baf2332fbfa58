#!/bin/sh
# Two pipelines, connected by a pipe: the second ventilator reads the results of the first sink while both run.
set -eu

first=first-$$ second=second-$$ folder=$(mktemp -d) jobs=
finish() {
    # shellcheck disable=SC2086 # several process ids
    [ -z "$jobs" ] || { kill $jobs; kill $jobs; wait; } 2>/dev/null || true
    rm -r "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

pipe work --quiet --name "$first" --jobs 2 'expr {} \* {}' &
jobs=$!
# shellcheck disable=SC2016 # the shell of each task expands it
pipe work --quiet --name "$second" --jobs 2 'echo {} has $(printf %s {} | wc -c) digits' &
jobs="$jobs $!"
seq 100 | pipe ventilate --quiet --name "$first" &
jobs="$jobs $!"
pipe sink --quiet --keep-order --name "$second" >"$folder/results" &
sink=$! jobs="$jobs $!"

# each result of the first pipeline is at once a task of the second
pipe sink --quiet --keep-order --name "$first" | pipe ventilate --quiet --name "$second"
wait "$sink"
wait
jobs=

[ "$(sed -n 12p "$folder/results")" = "144 has 3 digits" ]
[ "$(wc -l <"$folder/results")" -eq 100 ]
echo "100 squares measured, in order"
