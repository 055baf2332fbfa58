"""Tasks that fail, exceed a limit or kill their worker: retried as configured, and reported once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import wait_until

if TYPE_CHECKING:
    from tests.integration.cluster import Cluster, PipeProcess

FEED = ("--interval", "0.2", "--liveness", "1.5")
TRY = "echo x >> tries{}; echo out{}; echo try $(wc -l < tries{}) >&2; [ $(wc -l < tries{}) -gt 2 ]"
"""Fails twice."""
UNTIL = "until [ -e gate ]; do sleep 0.02; done"


def run(cluster: Cluster, *words: object) -> PipeProcess:
    return cluster.start("run", *FEED, *words)


def tries(cluster: Cluster, task: str) -> int:
    return len(cluster.path(f"tries{task}").read_text().splitlines())


def letters(cluster: Cluster) -> list[dict[str, object]]:
    return [json.loads(line) for line in cluster.path("failed").read_text().splitlines()]


# --- retries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("-w", "2"), ("--retry-delay", "0.1"), ("-k", "-o", "out")], ids=" ".join)
def test_retried_task_shows_only_its_last_attempt(cluster: Cluster, more: tuple[str, ...]) -> None:
    player = run(cluster, "-j", "2", "--retries", "2", *more, TRY, ":::", "a", "b", "c")
    assert player.wait() == 0
    out = cluster.path("out").read_text().splitlines() if "-o" in more else player.lines
    assert out == ["outa", "outb", "outc"]
    assert [tries(cluster, task) for task in "abc"] == [3, 3, 3]
    assert player.stderr.count("try 3\n") == 3
    assert "try 1" not in player.stderr
    assert "3 tasks, 0 failed" in player.stderr.splitlines()[-1]
    cluster.assert_empty()


def test_task_fails_after_its_last_attempt(cluster: Cluster) -> None:
    player = run(cluster, "--retries", "1", "--failed", "failed", TRY, ":::", "a")
    assert player.wait() == 1
    assert player.lines == ["outa"]
    assert tries(cluster, "a") == 2
    assert "try 2\npipe: task 1: exit 1: " in player.stderr
    (letter,) = letters(cluster)
    assert (letter["task"], letter["attempts"], letter["code"], letter["stderr"]) == ("a", 2, 1, "try 2\n")


def test_callable_is_retried(cluster: Cluster) -> None:
    cluster.path("theirs.py").write_text(
        "import os\ndef once(task):\n    if not os.path.exists(task):\n"
        "        open(task, 'w').close()\n        raise ValueError(task)\n    return task\n"
    )
    player = run(cluster, "--retries", "1", "--call", "theirs.py:once", ":::", "a", "b")
    assert player.wait() == 0
    assert player.lines == ["a", "b"]
    assert "ValueError" not in player.stderr


# --- limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["1", "2000%"])  # 1 s, far more than a short task needs on a busy machine
def test_task_over_its_timeout_is_killed(cluster: Cluster, limit: str) -> None:
    words = ("-j", "1", "--timeout", limit, "--term-grace", "0.1", "--failed", "failed")
    player = run(cluster, *words, "sleep {}; echo {}", ":::", *["0.05"] * 6, "1000")
    assert player.wait() == 1
    assert player.lines == ["0.05"] * 6
    assert "pipe: task 7: timed out after " in player.stderr
    assert [(letter["number"], letter["why"]) for letter in letters(cluster)] == [(7, "timeout")]
    cluster.assert_empty()


def test_too_large_task_fails_alone_without_retry(cluster: Cluster) -> None:
    words = ("--max-task-bytes", "5", "--retries", "3", "--failed", "failed")
    player = run(cluster, *words, "echo {} >> ran; echo {}", ":::", "123456", "12345")
    assert player.wait() == 1
    assert player.lines == ["12345"]
    assert cluster.path("ran").read_text() == "12345\n"
    (letter,) = letters(cluster)
    assert (letter["task"], letter["why"]) == ("123456", "size")


def test_task_with_too_much_output_fails_alone(cluster: Cluster) -> None:
    words = ("--max-output-bytes", "1k", "--failed", "failed")
    player = run(cluster, *words, "head -c {} /dev/zero | tr '\\0' x; echo", ":::", "9", "5000", "8")
    assert player.wait() == 1
    assert player.lines == ["x" * 8, "x" * 9]
    assert "pipe: task 2: wrote more than 1 KiB" in player.stderr
    assert [(letter["task"], letter["why"]) for letter in letters(cluster)] == [("5000", "size")]


# --- halt --------------------------------------------------------------------------------------------


def test_halt_now_kills_running_tasks_and_allows_resume(cluster: Cluster) -> None:
    waits = f"echo {{}} >> ran; [ {{}} != 2 ] || exit 1; [ {{}} -lt 4 ] || {{ {UNTIL}; }}; echo {{}}"
    tasks = (":::", *map(str, range(1, 9)))
    first = run(cluster, "-o", "out", "--halt", "now,fail=1", "-j", "1", waits, *tasks)
    assert first.wait() == 1
    assert first.stderr.count("sink stopped: --halt now,fail=1\n") == 1
    assert cluster.path("out.journal").exists()
    assert cluster.path("ran").read_text().split() == ["1", "2"]
    cluster.path("gate").touch()
    halt = ("--halt", "now,fail=1")  # the failure before was of the first run
    assert run(cluster, "-o", "out", "--resume", *halt, "-j", "1", waits, *tasks).wait() == 1
    assert sorted(cluster.path("out").read_text().split()) == ["1", "3", "4", "5", "6", "7", "8"]
    ran = cluster.path("ran").read_text().split()
    assert ran.count("1") == ran.count("2") == 1
    assert not cluster.path("out.journal").exists()


def test_halt_soon_finishes_running_tasks(cluster: Cluster) -> None:
    bad = f"echo {{}} >> ran; [ {{}} -gt 2 ] || exit 1; {UNTIL}; echo {{}}"
    words = ("-j", "3", "-o", "out", "--halt", "soon,fail=2")
    heard = cluster.path("heard")
    player = cluster.start(
        "run", *FEED, *words, bad, ":::", "1", "2", "3", *["9"] * 50, PIPE_FAILPOINT=f"record:{heard}"
    )
    wait_until(lambda: heard.exists() and "worker.kill-received" in heard.read_text())  # it starts no task any more
    cluster.path("gate").touch()
    assert player.wait() == 1
    out = cluster.path("out").read_text().split()
    assert "3" in out
    assert len(cluster.path("ran").read_text().split()) == 2 + len(out) <= 4  # one was started before the second failed
    assert player.stderr.count("sink stopped: --halt soon,fail=2\n") == 1
    cluster.assert_empty()


def test_halt_at_first_success_exits_with_0(cluster: Cluster) -> None:
    player = run(cluster, "--halt", "now,success=1", "-j", "2", "sleep {}; echo {}", ":::", "1000", "0", "2000")
    assert player.wait() == 0
    assert player.lines == ["0"]
    assert player.stderr.count("sink stopped: --halt now,success=1\n") == 1
    cluster.assert_empty()


@pytest.mark.parametrize(("halt", "jobs", "lines"), [("now,fail=1", 1, 1500), ("now,success=1000", 2, 1000)])
def test_halt_stops_functions_at_the_outcome_that_counts(cluster: Cluster, halt: str, jobs: int, lines: int) -> None:
    cluster.path("theirs.py").write_text("def number(task): return 1 // (task != '1501') * int(task)\n")
    cluster.path("tasks").write_text("".join(f"{task}\n" for task in range(1, 100_001)))
    player = run(cluster, "-a", "tasks", "-j", str(jobs), "--halt", halt, "--call", "theirs.py:number")
    assert player.wait() == int("fail" in halt)
    assert lines <= len(player.lines) < lines + jobs


def test_halt_at_a_percentage_of_tasks(cluster: Cluster) -> None:
    done = f"[ {{}} -le 10 ] || {{ {UNTIL}; }}; echo {{}}"
    player = run(cluster, "--halt", "now,done=50%", "-j", "1", done, ":::", *map(str, range(1, 21)))
    assert player.wait() == 0
    assert sorted(map(int, player.lines)) == list(range(1, 11))
    assert player.stderr.count("sink stopped: --halt now,done=50%\n") == 1


# --- dead letters ------------------------------------------------------------------------------------


def test_dead_letters_are_input_for_a_new_run(cluster: Cluster) -> None:
    tasks = ["a", "b c", "'d'", "é"]
    bad = "echo why >&2; test -e mended && echo {}"
    first = run(cluster, "-j", "1", "--failed", "failed", bad, ":::", *tasks)
    assert first.wait() == 1
    assert [letter["task"] for letter in letters(cluster)] == tasks
    assert {(letter["why"], letter["code"], letter["stderr"]) for letter in letters(cluster)} == {("exit", 1, "why\n")}
    cluster.path("mended").touch()
    again = run(cluster, "-k", "-a", "failed", "--from-failed", bad)
    assert again.wait() == 0
    assert again.stdout.splitlines() == tasks


# --- poison ------------------------------------------------------------------------------------------


def test_task_that_kills_its_workers_fails_alone(cluster: Cluster) -> None:
    words = ("-w", "2", "-j", "2", "--crash-limit", "1", "-o", "out", "--failed", "failed")
    player = run(cluster, *words, "[ {} != 7 ] || kill -9 $PPID; echo {}", ":::", *map(str, range(20)))
    assert player.wait() == 1
    out = cluster.path("out").read_text().split()
    assert sorted(out, key=int) == [str(number) for number in range(20) if number != 7]
    assert [(letter["task"], letter["why"]) for letter in letters(cluster)] == [("7", "poison")]
    assert "pipe: task 8: " in player.stderr
    assert player.stderr.count("was killed by SIGKILL; restarting in") >= 2
    cluster.assert_empty()
