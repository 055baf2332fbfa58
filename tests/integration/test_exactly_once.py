"""Each output format is exact after a kill and a resume: one record per task and attempt."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
from pathlib import Path

import pytest

from pipeline.storage import journal_reader
from tests.integration.cluster import Cluster
from tests.support.processes import wait_until

COUNT, FREE = 40, 24
TEXT = "".join(f"{number}\n" for number in range(COUNT))
FAILS = "[ $(( {} % 5 )) -ne 4 ]"
WAITS = f"[ {{}} -lt {FREE} ] || until [ -e gate ]; do sleep 0.02; done; echo did {{}}; echo oh {{}} >&2; {FAILS}"
FAST = ("--interval", "0.2", "--liveness", "1.5")
FORMS = ["out.csv", "out.jsonl", "out.sqlite", "out.txt"]


def settled(journal: Path) -> int:
    found = journal_reader.read_summary(str(journal)) if journal.exists() else None
    return found.settled if found else 0


def outputs(path: Path) -> list[tuple[int, str]]:
    """Return the number and the output of each task with a record in the file."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [(int(row["Seq"]), row["Stdout"]) for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        return [(record["number"], record["stdout"]) for record in map(json.loads, path.read_text().splitlines())]
    if path.suffix == ".sqlite":
        with sqlite3.connect(path) as base:
            return [(number, text) for number, text in base.execute("SELECT task, stdout FROM tasks")]
    return [(int(line.split()[1]) + 1, f"{line}\n") for line in path.read_text().splitlines()]


@pytest.mark.parametrize("order", ["", "-k"], ids=["any order", "in order"])
@pytest.mark.parametrize("form", FORMS)
def test_killed_and_resumed_run_has_each_record_once(cluster: Cluster, form: str, order: str) -> None:
    cluster.path("tasks").write_text(TEXT)
    more = ("--joblog", "log", "--results", "folders", "--failed", "letters", "--retries", "1", *FAST)
    words = ("run", "-j", "4", "-o", form, *more, *filter(None, [order]), "-a", "tasks")
    run = cluster.start(*words, WAITS)
    wait_until(lambda: settled(cluster.path(f"{form}.journal")) >= FREE // 2)
    cluster.kill_all()
    run.wait()
    cluster.path("gate").touch()
    again = cluster.start(*words, "--resume", WAITS)
    assert again.wait() == 1, again.stderr

    everything = [(number + 1, f"did {number}\n") for number in range(COUNT)]
    assert sorted(outputs(cluster.path(form))) == everything
    if order and form != "out.sqlite":
        assert outputs(cluster.path(form)) == everything
    rows = [line.split("\t") for line in cluster.path("log").read_text().splitlines()]
    assert rows[0][:2] == ["Seq", "Host"]
    tries = sorted((int(row[0]), int(row[9])) for row in rows[1:])
    assert tries == [(n + 1, attempt) for n in range(COUNT) for attempt in ((1, 2) if n % 5 == 4 else (1,))]
    letters = sorted(json.loads(line)["number"] for line in cluster.path("letters").read_text().splitlines())
    assert letters == [number + 1 for number in range(COUNT) if number % 5 == 4]
    folders = {path.parent.name: path.read_text() for path in cluster.path("folders").glob("1/*/stdout")}
    assert folders == {str(number): f"did {number}\n" for number in range(COUNT)}
    assert not list(cluster.path("folders").rglob("*.new"))


@pytest.mark.parametrize("form", ["out.csv", "out.jsonl", "out.sqlite"])
def test_killed_sink_leaves_no_trace_in_the_records(cluster: Cluster, form: str) -> None:
    run = cluster.start("run", "--name", "dies", "-j", "4", "-o", form, *FAST, "-v", WAITS, tasks=TEXT)
    wait_until(lambda: settled(cluster.path(f"{form}.journal")) == FREE)
    os.kill(run.station_pids()["sink"], signal.SIGKILL)
    cluster.path("gate").touch()
    assert run.wait() == 1, run.stderr
    assert sorted(outputs(cluster.path(form))) == [(number + 1, f"did {number}\n") for number in range(COUNT)]


def test_database_of_another_program_is_kept(cluster: Cluster) -> None:
    with sqlite3.connect(cluster.path("mine.sqlite")) as base:
        base.execute("CREATE TABLE precious (x)")
    cluster.path("text.sqlite").write_text("a note")
    for name in ("mine.sqlite", "text.sqlite"):
        run = cluster.start("run", "-o", name, "echo", tasks="1\n")
        assert run.wait() == 2
        assert f"cannot write {name}" in run.stderr
    assert cluster.path("text.sqlite").read_text() == "a note"


def test_new_run_replaces_the_database_at_its_first_result(cluster: Cluster) -> None:
    for text in ("1\n2\n", "3\n"):
        assert cluster.start("run", "-q", "-o", "out.sqlite", "echo", tasks=text).wait() == 0
    assert outputs(cluster.path("out.sqlite")) == [(1, "3\n")]


def test_dry_run_writes_only_to_stdout(cluster: Cluster) -> None:
    cluster.path("out").write_text("precious")
    files = ("-o", "out", "--joblog", "log", "--failed", "letters", "--results", "folders", "--journal", "journal")
    run = cluster.start("run", "-k", "--dry-run", *files, "touch {}", tasks="a\nb c\n")
    assert run.wait() == 0
    assert run.stdout == "touch a\ntouch 'b c'\n"
    assert {path.name for path in cluster.folder.iterdir()} & {"a", "log", "letters", "folders", "journal"} == set()
    assert cluster.path("out").read_text() == "precious"
