#!/bin/sh
# Two pipelines in a row: what the first sink writes is what the second ventilator reads, while both run.
set -eu

one=first-$$ two=second-$$ folder=$(mktemp -d) jobs=
finish() {
    # shellcheck disable=SC2086 # several numbers
    [ -z "$jobs" ] || { kill $jobs; kill $jobs; wait; } 2>/dev/null || true
    rm -r "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

pipe work --quiet --name "$one" --jobs 2 'expr {} \* {}' &
jobs=$!
# shellcheck disable=SC2016 # for the shell of each task
pipe work --quiet --name "$two" --jobs 2 'echo {} has $(printf %s {} | wc -c) digits' &
jobs="$jobs $!"
seq 100 | pipe ventilate --quiet --name "$one" &
jobs="$jobs $!"
pipe sink --quiet --keep-order --name "$two" >"$folder/results" &
last=$! jobs="$jobs $!"

# a result of the first is a task of the second as soon as it is there
pipe sink --quiet --keep-order --name "$one" | pipe ventilate --quiet --name "$two"
wait "$last"
wait
jobs=

[ "$(sed -n 12p "$folder/results")" = "144 has 3 digits" ]
[ "$(wc -l <"$folder/results")" -eq 100 ]
echo "100 squares measured, in order"
