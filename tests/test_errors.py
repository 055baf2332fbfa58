"""Errors are told: the exact exit code, and a message that names what is wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
import zmq
from orphans import until
from stage import ACTS, WITHIN, Player, Stage

TASKS = "1\n2\n"
LONG = "echo >> started; until [ -e go ]; do sleep 0.02; done; echo {}"


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        ("run -a /nowhere/tasks echo", 2, "no such file: /nowhere/tasks"),
        ("ventilate /nowhere/tasks", 2, "no such file: /nowhere/tasks"),
        ("run no-such-command", 2, "command not found: no-such-command"),
        ("work no-such-command", 2, "command not found: no-such-command"),
        (f"run --call {ACTS}:nobody", 2, f"--call {ACTS}:nobody: {ACTS} has no nobody"),
        (f"work --call {ACTS}:not_callable", 2, "not_callable cannot be called: it is of type int"),
        ("run --call no_module:x", 2, "--call no_module:x: cannot import no_module: ModuleNotFoundError"),
        ("work --call /nowhere/a.py:x", 2, "--call /nowhere/a.py:x: there is no file /nowhere/a.py"),
        ("run -o /nowhere/out echo", 2, "cannot write /nowhere/out: no such folder: /nowhere"),
        ("sink -o /nowhere/out", 2, "cannot write /nowhere/out: no such folder: /nowhere"),
        ("run --jobs 0 echo", 2, "--jobs must be at least 1, not 0"),
        ("work --jobs 0 echo", 2, "--jobs must be at least 1, not 0"),
        ("sink --at tcp://127.0.0.1", 2, "tcp://127.0.0.1:5557: tcp has no keys yet"),
        ("work --at tcp://127.0.0.1 echo", 2, "allow it with --insecure"),
        ("ventilate --desk tcp://127.0.0.1:5557", 2, "allow it with --insecure"),
        ("sink --at nonsense", 2, "--at nonsense: give it as tcp://HOST, without a port"),
        ("sink --results-at ipc:", 2, "'ipc:' is not an endpoint; use tcp://HOST:PORT or ipc://PATH"),
        ("ventilate --desk tcp://127.0.0.1:99999 --insecure", 2, "'tcp://127.0.0.1:99999' is not an endpoint"),
        ("sink --control-at tcp://192.0.2.1:5559 --insecure", 2, "cannot use tcp://192.0.2.1:5559"),
        ("sink --name a/b", 2, "--name 'a/b': use letters, digits, dots and dashes"),
        ("kill", 3, "nothing runs there"),
        ("top --once", 3, "nothing runs there"),
    ],
)
def test_what_cannot_be_is_told_once(stage: Stage, words: str, code: int, named: str) -> None:
    player = stage.start(*words.split(), tasks=TASKS)
    assert (player.code(), player.out) == (code, "")
    lines = player.err.splitlines()  # a sink adds its summary, and who waits for long says so
    assert [named in line for line in lines].count(True) == 1
    assert all(line.startswith("pipe: ") for line in lines)
    stage.is_empty()


def test_a_path_that_is_too_long_for_ipc_names_the_way_out(stage: Stage) -> None:
    deep = stage.folder / ("x" * 80)
    player = stage.start("sink", XDG_RUNTIME_DIR=str(deep))
    assert player.code() == 2
    path = f"{deep}/pipe/default/control"
    assert f"the socket's path is {len(path) - 3} bytes long, ipc allows 107: " in player.err
    assert "use a shorter --name, or set XDG_RUNTIME_DIR to a shorter folder" in player.err


# --- places that are not ours ----------------------------------------------------------------------


def test_a_folder_that_others_may_enter_is_refused(stage: Stage) -> None:
    folder = stage.runtime / "pipe"
    folder.mkdir()
    folder.chmod(0o755)
    for role in ("sink", "ventilate"):
        player = stage.start(role)
        assert player.code() == 2
        assert f"pipe: {folder} is not a private folder of yours (0700)" in player.err


def test_a_link_in_the_place_of_the_folder_is_refused(stage: Stage) -> None:
    elsewhere = stage.folder / "elsewhere"
    elsewhere.mkdir(0o700)
    (stage.runtime / "pipe").symlink_to(elsewhere)
    player = stage.start("run", "echo", tasks=TASKS)
    assert player.code() == 2
    assert f"pipe: {stage.runtime}/pipe is not a private folder of yours (0700)" in player.err
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(("role", "end"), [("sink", "results"), ("sink", "control"), ("ventilate", "desk")])
def test_a_file_in_the_place_of_a_socket_is_left_alone(stage: Stage, role: str, end: str) -> None:
    folder = stage.runtime / "pipe" / "default"
    folder.parent.mkdir(0o700)
    folder.mkdir(0o700)
    precious = folder / end
    precious.write_text("precious")
    player = stage.start(role)
    assert player.code() == 3
    assert f"pipe: {precious} is in the way and not a socket" in player.err
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    ("role", "flag"), [("sink", "--results-at"), ("sink", "--control-at"), ("ventilate", "--desk")]
)
def test_an_endpoint_that_is_taken_is_named(stage: Stage, role: str, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        player = stage.start(role, flag, at, "--insecure")
        assert player.code() == 3
        assert f"pipe: {at} is taken by another process" in player.err


def test_a_second_live_one_is_refused_and_names_the_first(stage: Stage) -> None:
    roles = {"sink": "sink", "ventilate": "ventilator"}
    firsts = {role: stage.start(role, "-v", "--name", "here", tasks=TASKS) for role in roles}
    for first in firsts.values():
        first.says("has a context of its own")
    seconds = {role: stage.start(role, "--name", "here") for role in roles}
    for role, second in seconds.items():
        assert second.code() == 3
        assert f"pipe: a {roles[role]} is already at work at 'here': pid {firsts[role].pid}, " in second.err
    firsts["sink"].send(signal.SIGTERM)
    assert [first.code() for first in firsts.values()] == [143, 143]
    stage.is_empty()


# --- peers that are not ours -----------------------------------------------------------------------


@pytest.fixture
def line(stage: Stage) -> Iterator[dict[str, Player]]:
    """A line where one task runs, and goes on until the file `go` is there."""
    players = {"sink": stage.start("sink"), "work": stage.start("work", "-j", "1", LONG)}
    players["ventilate"] = stage.start("ventilate", "--interval", "0.2", "--liveness", "1.5", tasks=TASKS)
    until(stage.note("started").exists)
    yield players
    stage.note("go").touch()
    assert {name: player.code() for name, player in players.items()} == {"sink": 0, "work": 0, "ventilate": 0}
    assert players["sink"].lines == ["1", "2"]
    stage.is_empty()


@pytest.fixture
def stranger() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """Whoever can reach the sockets."""
    with zmq.Context() as context:
        yield context


def test_a_worker_with_another_command_is_refused_by_name(stage: Stage, line: dict[str, Player]) -> None:
    other = stage.start("work", "wc -c")
    assert other.code() == 2
    assert f"pipe: the worker ends: refused: it would run 'wc -c', this run is '{LONG}'" in other.err
    line["ventilate"].says("was turned away: it would run 'wc -c'")


def test_a_peer_of_another_version_is_told_so(
    stage: Stage, line: dict[str, Player], stranger: zmq.Context[zmq.Socket[bytes]]
) -> None:
    desk, results = stranger.socket(zmq.DEALER), stranger.socket(zmq.PUSH)
    with desk, results:
        for peer, end in ((desk, "desk"), (results, "results")):
            peer.linger = 0
            peer.connect(f"ipc://{stage.runtime}/pipe/default/{end}")
            peer.send(b"pipe2.pulse \x90")
            peer.send(b"pipe2.pulse \x90")
        assert desk.poll(5000)
        assert b"speaks protocol pipe2, this is pipe1" in desk.recv()
        assert desk.poll(5000)
        assert b"speaks protocol pipe2, this is pipe1" in desk.recv()
        line["ventilate"].says("pipe2")
        line["sink"].says("pipe: a peer speaks protocol pipe2, this is pipe1; install the same version")
    assert line["ventilate"].err.count("pipe2") == line["sink"].err.count("pipe2") == 1


def test_garbage_is_dropped_and_told_once(
    stage: Stage, line: dict[str, Player], stranger: zmq.Context[zmq.Socket[bytes]]
) -> None:
    garbage = [b"", b"\0" * 9, os.urandom(999), b"pipe1.pulse ", b"pipe1.run \xc1"]
    garbage += [b"pipe1.result \x95", b"pipe1.bye \x92\xa1x\x01"]
    desk, results = stranger.socket(zmq.DEALER), stranger.socket(zmq.PUSH)
    with desk, results:
        for peer, end in ((desk, "desk"), (results, "results")):
            peer.linger = 1000
            peer.connect(f"ipc://{stage.runtime}/pipe/default/{end}")
            for word in garbage * 50:
                peer.send(word)
                peer.send_multipart([word, word, b"x"])
        line["ventilate"].says("the desk got something that is not ours")
        line["sink"].says("the sink got something that is not ours")
    assert line["ventilate"].err.count("not ours") == line["sink"].err.count("not ours") == 1


def test_bytes_that_are_no_zeromq_harm_nobody(stage: Stage, line: dict[str, Player]) -> None:
    assert line
    for end in ("desk", "results", "control"):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(f"{stage.runtime}/pipe/default/{end}")
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)


# --- the reader goes -------------------------------------------------------------------------------


def test_a_reader_that_leaves_early_ends_the_run_with_141(stage: Stage) -> None:
    read, write = os.pipe()
    process = subprocess.Popen(
        [*stage.words("run", "-j", "2", "echo {}; sleep 0.01")],
        stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE, env=stage.environment(), text=True,
    )  # fmt: skip
    os.close(write)
    assert process.stdin is not None
    process.stdin.write("".join(f"{number}\n" for number in range(1000)))
    process.stdin.flush()  # and stays open: an input that goes on must not hold up the end
    assert os.read(read, 1).isdigit()
    os.close(read)
    assert process.wait(10) == 141
    assert process.stderr is not None
    said = process.stderr.read().splitlines()
    assert len(said) == 1
    assert ", 0 failed, " in said[0]
    process.stdin.close()
    process.stderr.close()
    stage.is_empty()


def test_stdout_closed_from_the_start_is_141(stage: Stage) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *stage.words("run", "echo", ":::", "1")],
        stderr=subprocess.PIPE, env=stage.environment(), text=True, check=False, timeout=WITHIN,
    )  # fmt: skip
    assert done.returncode == 141
    assert "pipe: 0 of 1 task, 0 failed" in done.stderr
