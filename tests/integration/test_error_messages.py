"""Error messages: the exact exit code, and a message that names the cause."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
import zmq

from tests.integration.cluster import TASK_FUNCTIONS, TIMEOUT_SECONDS, Cluster, PipeProcess
from tests.support.processes import wait_until

TASKS = "1\n2\n"
LONG = "echo >> started; until [ -e go ]; do sleep 0.02; done; echo {}"


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        ("run -a /nowhere/tasks echo", 2, "no such file: /nowhere/tasks"),
        ("ventilate /nowhere/tasks", 2, "no such file: /nowhere/tasks"),
        ("run no-such-command", 2, "command not found: no-such-command"),
        ("work no-such-command", 2, "command not found: no-such-command"),
        (f"run --call {TASK_FUNCTIONS}:nobody", 2, f"--call {TASK_FUNCTIONS}:nobody: {TASK_FUNCTIONS} has no nobody"),
        (f"work --call {TASK_FUNCTIONS}:not_callable", 2, "not_callable is not callable (its type is int)"),
        ("run --call no_module:x", 2, "--call no_module:x: cannot import no_module: ModuleNotFoundError"),
        ("work --call /nowhere/a.py:x", 2, "--call /nowhere/a.py:x: no such file: /nowhere/a.py"),
        ("run -o /nowhere/out echo", 2, "cannot write /nowhere/out: no such directory: /nowhere"),
        ("sink -o /nowhere/out", 2, "cannot write /nowhere/out: no such directory: /nowhere"),
        ("run --jobs 0 echo", 2, "--jobs must be at least 1, not 0"),
        ("work --jobs 0 echo", 2, "--jobs must be at least 1, not 0"),
        ("sink --at tcp://127.0.0.1", 2, "refused tcp://127.0.0.1:5557: tcp is not encrypted"),
        ("work --at tcp://127.0.0.1 echo", 2, "allow it with --insecure"),
        ("ventilate --desk tcp://127.0.0.1:5557", 2, "allow it with --insecure"),
        ("sink --at nonsense", 2, "invalid --at nonsense"),
        ("run --failed missing/f cat", 2, "cannot write missing/f: no such directory: missing"),
        ("run --journal missing/j cat", 2, "cannot write missing/j: no such directory: missing"),
        ("journal missing.journal", 2, "missing.journal"),
        ("work --desk ipx://nowhere cat", 2, "ipx://nowhere"),
        ("sink --results-at ipc:", 2, "error: 'ipc:' is not an endpoint"),
        ("ventilate --desk tcp://127.0.0.1:99999 --insecure", 2, "'tcp://127.0.0.1:99999' is not an endpoint"),
        ("sink --control-at tcp://192.0.2.1:5559 --insecure", 2, "cannot use tcp://192.0.2.1:5559"),
        ("sink --name a/b", 2, "invalid --name 'a/b'"),
        ("kill", 3, "nothing runs there"),
        ("top --once", 3, "nothing runs there"),
    ],
)
def test_start_error_is_printed_once(cluster: Cluster, words: str, code: int, named: str) -> None:
    player = cluster.start(*words.split(), tasks=TASKS)
    assert (player.wait(), player.stdout) == (code, "")
    lines = player.stderr.splitlines()  # a sink adds its summary, and a waiting station reports that
    assert [named in line for line in lines].count(True) == 1
    assert all(line.startswith("pipe: ") for line in lines)
    cluster.assert_empty()


def test_run_refuses_to_overwrite_its_input(cluster: Cluster) -> None:
    cluster.path("tasks").write_text(TASKS)
    player = cluster.start("run", "--restart", "-a", "tasks", "-o", "./tasks", "echo")
    assert player.wait() == 2
    assert player.stderr.startswith("pipe: error: -o ./tasks and input tasks are the same file\npipe: hint: ")
    assert cluster.path("tasks").read_text() == TASKS
    cluster.assert_empty()


def test_too_long_ipc_path_gets_a_hint(cluster: Cluster) -> None:
    name = "x" * 64
    folder = cluster.folder / ("y" * (70 - len(f"{cluster.folder}/")))
    folder.mkdir(0o700)
    player = cluster.start("sink", "--name", name, XDG_RUNTIME_DIR=str(folder))
    assert player.wait() == 2
    assert "bytes, more than the 107 that ipc allows: " in player.stderr
    assert "use a shorter --name, or set XDG_RUNTIME_DIR to a shorter folder" in player.stderr


# --- places that are not ours ----------------------------------------------------------------------


def test_shared_runtime_folder_is_rejected(cluster: Cluster) -> None:
    folder = cluster.runtime_folder / "pipe"
    folder.mkdir()
    folder.chmod(0o755)
    for role in ("sink", "ventilate"):
        player = cluster.start(role)
        assert player.wait() == 2
        assert f"pipe: error: {folder} is not a private directory of yours\n" in player.stderr


def test_link_as_runtime_folder_is_rejected(cluster: Cluster) -> None:
    elsewhere = cluster.folder / "elsewhere"
    elsewhere.mkdir(0o700)
    (cluster.runtime_folder / "pipe").symlink_to(elsewhere)
    player = cluster.start("run", "echo", tasks=TASKS)
    assert player.wait() == 2
    assert f"pipe: error: {cluster.runtime_folder}/pipe is not a private directory of yours\n" in player.stderr
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(("role", "end"), [("sink", "results"), ("sink", "control"), ("ventilate", "registry")])
def test_file_in_place_of_a_socket_is_kept(cluster: Cluster, role: str, end: str) -> None:
    folder = cluster.runtime_folder / "pipe" / "default"
    folder.parent.mkdir(0o700)
    folder.mkdir(0o700)
    precious = folder / end
    precious.write_text("precious")
    player = cluster.start(role)
    assert player.wait() == 3
    assert f"pipe: error: cannot bind to {precious}: a file that is not a socket exists\n" in player.stderr
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    ("role", "flag"), [("sink", "--results-at"), ("sink", "--control-at"), ("ventilate", "--desk")]
)
def test_used_endpoint_is_named(cluster: Cluster, role: str, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        player = cluster.start(role, flag, at, "--insecure")
        assert player.wait() == 3
        assert f"pipe: error: {at} is in use by another process\n" in player.stderr


def test_second_station_is_rejected_and_names_the_first(cluster: Cluster) -> None:
    roles = {"sink": "sink", "ventilate": "ventilator"}
    firsts = {role: cluster.start(role, "-v", "--name", "here", tasks=TASKS) for role in roles}
    for first in firsts.values():
        first.wait_for_stderr("created ZeroMQ context")
    seconds = {role: cluster.start(role, "--name", "here") for role in roles}
    for role, second in seconds.items():
        assert second.wait() == 3
        assert f"pipe: error: another {roles[role]} is running as 'here': pid {firsts[role].pid}, " in second.stderr
    firsts["sink"].send_signal(signal.SIGTERM)
    assert [first.wait() for first in firsts.values()] == [143, 143]
    cluster.assert_empty()


# --- peers that are not ours -----------------------------------------------------------------------


@pytest.fixture
def line(cluster: Cluster) -> Iterator[dict[str, PipeProcess]]:
    """Start a pipeline with one task that runs until the file `go` exists."""
    players = {"sink": cluster.start("sink"), "work": cluster.start("work", "-j", "1", LONG)}
    players["ventilate"] = cluster.start("ventilate", "--interval", "0.2", "--liveness", "1.5", tasks=TASKS)
    wait_until(cluster.path("started").exists)
    yield players
    cluster.path("go").touch()
    assert {name: player.wait() for name, player in players.items()} == {"sink": 0, "work": 0, "ventilate": 0}
    assert players["sink"].lines == ["1", "2"]
    cluster.assert_empty()


@pytest.fixture
def stranger() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """Yield a context for sockets of a foreign process."""
    with zmq.Context() as context:
        yield context


def test_worker_with_another_command_is_rejected(cluster: Cluster, line: dict[str, PipeProcess]) -> None:
    other = cluster.start("work", "wc -c")
    assert other.wait() == 2
    assert f"pipe: error: worker stopped: rejected: worker runs 'wc -c' but this run uses '{LONG}'" in other.stderr
    line["ventilate"].wait_for_stderr(": worker runs 'wc -c'")


def test_peer_of_another_version_is_rejected(
    cluster: Cluster, line: dict[str, PipeProcess], stranger: zmq.Context[zmq.Socket[bytes]]
) -> None:
    desk, results = stranger.socket(zmq.DEALER), stranger.socket(zmq.PUSH)
    with desk, results:
        for peer, end in ((desk, "registry"), (results, "results")):
            peer.linger = 0
            peer.connect(f"ipc://{cluster.runtime_folder}/pipe/default/{end}")
            peer.send(b"pipe3.pulse \x90")
            peer.send(b"pipe3.pulse \x90")
        assert desk.poll(int(TIMEOUT_SECONDS * 1000))
        assert b"peer uses pipe3, this process pipe2" in desk.recv()
        assert desk.poll(int(TIMEOUT_SECONDS * 1000))
        assert b"peer uses pipe3, this process pipe2" in desk.recv()
        line["ventilate"].wait_for_stderr("pipe3")
        line["sink"].wait_for_stderr(
            "pipe: warning: protocol mismatch: peer uses pipe3, this process pipe2\npipe: hint: "
        )
    assert line["ventilate"].stderr.count("pipe3") == line["sink"].stderr.count("pipe3") == 1


def test_garbage_is_dropped_and_reported_once(
    cluster: Cluster, line: dict[str, PipeProcess], stranger: zmq.Context[zmq.Socket[bytes]]
) -> None:
    garbage = [b"", b"\0" * 9, os.urandom(999), b"pipe2.heartbeat ", b"pipe2.ventilator \xc1"]
    garbage += [b"pipe2.result \x95", b"pipe2.goodbye \x92\xa1x\x01"]
    desk, results = stranger.socket(zmq.DEALER), stranger.socket(zmq.PUSH)
    with desk, results:
        for peer, end in ((desk, "registry"), (results, "results")):
            peer.linger = 1000
            peer.connect(f"ipc://{cluster.runtime_folder}/pipe/default/{end}")
            for word in garbage * 50:
                peer.send(word)
                peer.send_multipart([word, word, b"x"])
        line["ventilate"].wait_for_stderr("invalid message at the registry")
        line["sink"].wait_for_stderr("invalid message at the sink")
    assert line["ventilate"].stderr.count("invalid message") == line["sink"].stderr.count("invalid message") == 1


def test_non_zmtp_bytes_do_no_harm(cluster: Cluster, line: dict[str, PipeProcess]) -> None:
    assert line
    for end in ("registry", "results", "control"):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(f"{cluster.runtime_folder}/pipe/default/{end}")
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)


# --- the reader goes -------------------------------------------------------------------------------


def test_closed_output_pipe_ends_the_run_with_141(cluster: Cluster) -> None:
    read, write = os.pipe()
    process = subprocess.Popen(
        [*cluster.command("run", "-j", "2", "echo {}; sleep 0.01")],
        stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE, env=cluster.environment(), text=True,
    )  # fmt: skip
    os.close(write)
    assert process.stdin is not None
    process.stdin.write("".join(f"{number}\n" for number in range(1000)))
    process.stdin.flush()  # stays open: an unfinished input must not delay the end
    assert os.read(read, 1).isdigit()
    os.close(read)
    assert process.wait(TIMEOUT_SECONDS) == 141
    assert process.stderr is not None
    report = process.stderr.read()
    assert "error: " not in report
    assert ", 0 failed, " in report.splitlines()[-1]
    process.stdin.close()
    process.stderr.close()
    cluster.assert_empty()


def test_closed_stdout_at_start_exits_with_141(cluster: Cluster) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *cluster.command("run", "echo", ":::", "1")],
        stderr=subprocess.PIPE, env=cluster.environment(), text=True, check=False, timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    assert done.returncode == 141
    assert "pipe: 0 of 1 task, 0 failed" in done.stderr
