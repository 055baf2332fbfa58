"""Killed and resumed runs: each result once, no settled task runs again, and another input is rejected.

At the time of the kill the first tasks are done, two run and wait for the gate, and the others have not started. So the
test knows which tasks must run again.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pipeline.storage import journal_reader
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from tests.integration.cluster import Cluster, PipeProcess


COUNT, FREE = 50, 30
"""Number of tasks, and of those that do not wait for the gate."""
FEED = ("--interval", "0.2", "--liveness", "1.5")
NAMES = [str(number) for number in range(COUNT)]
TEXT = "".join(f"{name}\n" for name in NAMES)
WAITS = f"echo {{}} >> ledger; [ {{}} -lt {FREE} ] || until [ -e gate ]; do sleep 0.02; done; echo {{}}"
RUN = ("run", "-j", "2", "-o", "out", *FEED)
OURS = {"out", "ledger", "gate", "tasks"}


def read(cluster: Cluster, name: str) -> list[str]:
    """Return the lines of a file; empty if it does not exist."""
    path = cluster.path(name)
    return path.read_text().splitlines() if path.exists() else []


def settled(cluster: Cluster, journal: str = "out.journal") -> int:
    """Return the number of settled tasks in the journal."""
    found = journal_reader.read_summary(str(cluster.path(journal)))
    return found.settled if found else 0


def tasks(cluster: Cluster, text: str = TEXT) -> tuple[str, str]:
    """Write the tasks to a file, and return the arguments for it."""
    cluster.path("tasks").write_text(text)
    return "-a", "tasks"


def midway(cluster: Cluster, journal: str = "out.journal") -> None:
    """Wait until all tasks without gate are settled and two others run."""
    wait_until(lambda: settled(cluster, journal) == FREE and len(read(cluster, "ledger")) == FREE + 2)


def strike(cluster: Cluster, *words: object, journal: str = "out.journal", stdin: object = "") -> PipeProcess:
    """Kill all processes of a run midway at once, then open the gate."""
    run = cluster.start(*words, tasks=stdin)
    midway(cluster, journal)
    cluster.kill_all()
    run.wait()
    cluster.path("gate").touch()
    return run


def is_whole(cluster: Cluster, again: int = 2) -> None:
    """Check that each result exists once, at most `again` unsettled tasks ran twice, and nothing remains."""
    assert sorted(read(cluster, "out"), key=int) == NAMES
    executed = Counter(read(cluster, "ledger"))
    assert sorted(executed, key=int) == NAMES
    assert executed.total() <= COUNT + again
    assert {executed[name] for name in NAMES[:FREE]} == {1}
    assert {path.name for path in cluster.folder.iterdir()} <= OURS
    cluster.assert_empty()


def error_and_hint(run: PipeProcess) -> tuple[str, str]:
    """Return the only error and the only hint of a run, in this order."""
    error, hint = (line for line in run.stderr.splitlines() if line.startswith(("pipe: error: ", "pipe: hint: ")))
    return error.removeprefix("pipe: error: "), hint.removeprefix("pipe: hint: ")


def piped(text: str) -> int:
    """Return the read end of a pipe that contains the text and is closed for writing."""
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    return reading


# --- all is killed, and resumed ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["file", "stdin", "arguments"])
@pytest.mark.parametrize("durability", ["process", "disk"])
def test_killed_run_resumes_where_it_was(cluster: Cluster, how: str, durability: str) -> None:
    run = (*RUN, "--durability", durability)
    words = {
        "file": (*run, *tasks(cluster), WAITS),
        "stdin": (*run, WAITS),
        "arguments": (*run, WAITS, ":::", *NAMES),
    }[how]
    reading = piped(TEXT) if how == "stdin" else None
    strike(cluster, *words, stdin="" if reading is None else reading)
    again = cluster.start(words[0], "--resume", *words[1:])  # where it was a pipe, stdin is empty by now
    if reading is not None:
        os.close(reading)
    assert again.wait() == 0
    assert "pipe: resuming the unfinished run (started " in again.stderr
    is_whole(cluster)


def test_spooled_stdin_survives_a_kill_before_any_result(cluster: Cluster) -> None:
    names = [f"{number:01000d}" for number in range(300)]
    reading, writing = os.pipe()
    words = (*RUN, "--window", "1k", "until [ -e gate ]; do sleep 0.02; done; echo {}")
    run = cluster.start(*words, tasks=reading)
    os.close(reading)
    with open(writing, "w") as writer:  # the writer is not blocked although no task ends
        writer.writelines(f"{name}\n" for name in names)
    noted = [cluster.path(f"out.spool/state{number}") for number in range(2)]
    wait_until(lambda: any(f'"size": {300 * 1001}' in note.read_text() for note in noted))
    cluster.kill_all()
    run.wait()
    cluster.path("gate").touch()
    assert cluster.start(words[0], "--resume", *words[1:]).wait() == 0
    assert sorted(read(cluster, "out")) == names


def test_repeatedly_killed_run_has_each_result_once(cluster: Cluster) -> None:
    words = (*RUN, *tasks(cluster), WAITS)
    run = cluster.start(*words)
    midway(cluster)
    for _ in range(2):
        cluster.kill_all()
        run.wait()
        begun = len(read(cluster, "ledger"))
        run = cluster.start("run", "--resume", *words[1:])
        wait_until(lambda begun=begun: len(read(cluster, "ledger")) == begun + 2)  # type: ignore[misc]
    cluster.path("gate").touch()
    assert run.wait() == 0
    assert sorted(read(cluster, "out"), key=int) == NAMES
    executed = Counter(read(cluster, "ledger"))
    assert {executed[name] for name in NAMES[:FREE]} == {1}
    assert executed.total() <= COUNT + 2 * 2


def test_ordered_run_resumes_with_a_slow_first_task(cluster: Cluster) -> None:
    waits = "echo {} >> ledger; [ {} -gt 0 ] || until [ -e gate ]; do sleep 0.02; done; echo {}"
    words = (*RUN, "-k", *tasks(cluster), waits)
    run = cluster.start(*words)
    wait_until(lambda: settled(cluster) == COUNT - 1)
    cluster.kill_all()
    run.wait()
    assert read(cluster, "out") == []
    cluster.path("gate").touch()
    again = cluster.start("run", "--resume", *words[1:])
    assert again.wait() == 0
    assert read(cluster, "out") == NAMES
    assert len(read(cluster, "ledger")) == COUNT + 1
    assert {path.name for path in cluster.folder.iterdir()} <= OURS


def test_run_to_stdout_resumes_with_a_journal(cluster: Cluster) -> None:
    words = ("run", "-j", "2", "--journal", "j", *FEED, *tasks(cluster), WAITS)
    first = strike(cluster, *words, journal="j")
    again = cluster.start("run", "--resume", *words[1:])
    assert again.wait() == 0
    assert sorted([*first.lines, *again.lines], key=int) == NAMES
    assert {path.name for path in cluster.folder.iterdir()} == {"ledger", "gate", "tasks", "j"}
    over = cluster.start("run", "--resume", *words[1:])
    assert (over.wait(), over.stdout) == (0, "")
    assert over.stderr == f"pipe: nothing to resume: all {COUNT} tasks of the run in j are done\n"


def test_run_killed_after_its_last_task_is_only_merged(cluster: Cluster) -> None:
    sink = cluster.start("sink", "-o", "out", "--failed", "failed", PIPE_FAILPOINT="sink.kill-sent:1=kill")
    cluster.start("ventilate", *FEED, tasks(cluster)[1])
    cluster.start("work", "-j", "2", "echo {} >> ledger; echo {}; [ {} != 7 ]")
    assert sink.wait() == -signal.SIGKILL
    cluster.kill_all()
    cluster.path("out").write_text(cluster.path("out").read_text() + "of a group that was not committed\n")
    again = cluster.start(*RUN, "--resume", "--failed", "failed", "-a", "tasks", "echo never")
    assert again.wait() == 1  # one task had failed
    assert again.stderr == f"pipe: nothing to resume: all {COUNT} tasks of the run in out.journal are done\n"
    assert sorted(read(cluster, "out"), key=int) == NAMES
    assert {path.name for path in cluster.folder.iterdir()} == {"out", "failed", "tasks", "ledger"}


def test_finished_run_leaves_only_its_output(cluster: Cluster) -> None:
    run = cluster.start(*RUN, "-k", "--failed", "failed", "echo", tasks=piped("1\n2\n"))
    assert run.wait() == 0
    assert read(cluster, "out") == ["1", "2"]
    assert {path.name for path in cluster.folder.iterdir()} <= {"out", "failed"}


# --- what is refused --------------------------------------------------------------------------------


def test_unfinished_run_is_not_overwritten(cluster: Cluster) -> None:
    words = (*RUN, *tasks(cluster), WAITS)
    strike(cluster, *words)
    before = [cluster.path(name).read_bytes() for name in ("out", "out.journal", "ledger")]
    again = cluster.start(*words)
    assert again.wait() == 2
    error, hint = again.stderr.splitlines()
    assert error.startswith("pipe: error: out.journal contains an unfinished run (started ")
    assert hint == "pipe: hint: use --resume to continue it, or --restart to discard it"
    assert [cluster.path(name).read_bytes() for name in ("out", "out.journal", "ledger")] == before


def test_restart_discards_the_unfinished_run(cluster: Cluster) -> None:
    words = (*RUN, *tasks(cluster), WAITS)
    strike(cluster, *words)
    cluster.path("ledger").unlink()
    assert cluster.start("run", "--restart", *words[1:]).wait() == 0
    is_whole(cluster, again=0)


def test_changed_input_is_rejected_at_the_first_difference(cluster: Cluster) -> None:
    words = (*RUN, *tasks(cluster), WAITS)
    strike(cluster, *words)
    before = read(cluster, "out")
    tasks(cluster, TEXT.replace("\n7\n", "\nseven\n"))
    edited = cluster.start("run", "--resume", *words[1:])
    assert edited.wait() == 2
    error = "sink stopped: the input is not that of the unfinished run: task 8 differs"
    assert error_and_hint(edited) == (error, "use the same input, or discard the run with --restart")
    assert "in time" not in edited.stderr
    assert read(cluster, "out")[: len(before)] == before
    assert "seven" not in read(cluster, "ledger")
    tasks(cluster)
    assert cluster.start("run", "--resume", *words[1:]).wait() == 0
    is_whole(cluster, again=4)


def test_rejected_input_settles_no_task(cluster: Cluster) -> None:
    words = (*RUN, *tasks(cluster), WAITS)
    strike(cluster, *words)
    tasks(cluster, TEXT.replace("\n7\n", "\n"))
    assert cluster.start("run", "--resume", *words[1:]).wait() == 2
    assert settled(cluster) == FREE
    tasks(cluster)
    assert cluster.start("run", "--resume", *words[1:]).wait() == 0
    assert sorted(read(cluster, "out"), key=int) == NAMES


def test_renamed_input_is_rejected_early(cluster: Cluster) -> None:
    words = (*RUN, *tasks(cluster), WAITS)
    strike(cluster, *words)
    other = cluster.start("run", "--resume", *RUN[1:], WAITS, ":::", "1", "2")
    assert other.wait() == 2
    error = "ventilator stopped: the sink has an unfinished run of another input"
    assert error_and_hint(other) == (error, "use the same input, or discard the run with --restart")
    assert "in time" not in other.stderr
    assert cluster.start("run", "--resume", *words[1:]).wait() == 0
    is_whole(cluster, again=4)


def test_appended_input_is_resumed(cluster: Cluster) -> None:
    words = (*RUN, *tasks(cluster), WAITS)
    strike(cluster, *words)
    tasks(cluster, TEXT + f"{COUNT}\n{COUNT + 1}\n")
    assert cluster.start("run", "--resume", *words[1:]).wait() == 0
    assert sorted(read(cluster, "out"), key=int) == [*NAMES, str(COUNT), str(COUNT + 1)]
    assert len(read(cluster, "ledger")) <= COUNT + 2 + 2


def test_changed_command_is_rejected(cluster: Cluster) -> None:
    words = (*RUN, *tasks(cluster), WAITS)
    strike(cluster, *words)
    other = cluster.start("run", "--resume", *words[1:-1], "echo other {}")
    assert other.wait() == 2
    assert "other" not in cluster.path("out").read_text()
    error, hint = error_and_hint(other)
    assert error.startswith(
        "worker stopped: rejected: worker runs 'echo other {}' but this run uses 'echo {} >> ledger"
    )
    assert hint == "use the command of this run, or discard the run with --restart"
    assert "in time" not in other.stderr
    assert cluster.start("run", "--resume", *words[1:]).wait() == 0
    is_whole(cluster)


# --- what failed ------------------------------------------------------------------------------------


def test_resume_failed_reruns_only_failed_tasks(cluster: Cluster) -> None:
    fails = f"case {{}} in *3) [ -e mended ] || {{ echo {{}} >> ledger; exit 1; }};; esac; {WAITS}"
    words = (*RUN, "--failed", "failed", *tasks(cluster), fails)
    strike(cluster, *words)
    assert sorted(read(cluster, "out"), key=int) == [name for name in NAMES[:FREE] if name[-1] != "3"]
    cluster.path("mended").touch()
    assert cluster.start("run", "--resume-failed", *words[1:]).wait() == 0
    assert sorted(read(cluster, "out"), key=int) == NAMES
    executed = Counter(read(cluster, "ledger"))
    assert {executed[name] for name in NAMES[:FREE] if name[-1] != "3"} == {1}
    assert {executed[name] for name in NAMES[:FREE] if name[-1] == "3"} == {2}


# --- one is killed while the others run ---------------------------------------------------------------


def test_killed_run_of_dead_letters_loses_none(cluster: Cluster) -> None:
    bad = cluster.path("bad")
    bad.write_text("".join(f'{{"task":"{name}"}}\n' for name in NAMES))
    before = bad.read_text()
    words = (*RUN, "-a", "bad", "--from-failed", "--failed", "bad", f"{WAITS}; [ {{}} -ge 10 ]")
    run = cluster.start(*words)
    midway(cluster)
    run.send_signal(signal.SIGKILL)  # the launcher only: all others end with it
    wait_until(lambda: not cluster.living_pids())
    assert bad.read_text() == before
    cluster.path("gate").touch()
    assert cluster.start(words[0], "--resume", *words[1:]).wait() == 1
    assert sorted(json.loads(line)["task"] for line in read(cluster, "bad")) == NAMES[:10]
    bad.unlink()
    is_whole(cluster)


@pytest.mark.parametrize("target", ["sink", "ventilate", "work"])
def test_killed_command_can_be_started_again(cluster: Cluster, target: str) -> None:
    words = {
        "sink": ("sink", "-o", "out", *FEED),
        "work": ("work", "-j", "2", WAITS),
        "ventilate": ("ventilate", "--chunk", "4", *FEED, tasks(cluster)[1]),
    }
    # the ventilator dies after at most 5 * 4 tasks: else a worker that holds the rest could end the run without it
    fault = {"PIPE_FAILPOINT": "ventilator.chunk-sent:5=kill"} if target == "ventilate" else {}
    players = {role: cluster.start(*each, **fault) for role, each in words.items()}
    if not fault:
        midway(cluster)
        players[target].send_signal(signal.SIGKILL)
    assert players[target].wait() == -signal.SIGKILL
    if target == "work":
        wait_until(lambda: len(cluster.living_pids()) == 2)
    players[target] = cluster.start(*words[target])
    if target == "sink":
        players[target].wait_for_stderr("pipe: resuming the unfinished run (started ")
    cluster.path("gate").touch()
    assert {role: player.wait() for role, player in players.items()} == dict.fromkeys(words, 0)
    is_whole(cluster, again=2 if target == "work" else 0)


@pytest.mark.parametrize("target", ["sink", "ventilator", "worker-1"])
def test_run_restarts_any_killed_process(cluster: Cluster, target: str) -> None:
    run = cluster.start("run", "-v", *RUN[1:], *tasks(cluster), WAITS)
    midway(cluster)
    os.kill(run.station_pids()[target], signal.SIGKILL)
    run.wait_for_stderr(f"pipe: warning: {target} was killed by SIGKILL; restarting in 0.1 s\n")
    cluster.path("gate").touch()
    assert run.wait() == 0
    is_whole(cluster, again=2 if target == "worker-1" else 0)
