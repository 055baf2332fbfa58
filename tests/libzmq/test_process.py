"""Assumptions about libzmq and pyzmq in a process: forks, signals, options, limits."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zmq
from psutil import Process

from pipeline.transport.endpoints import MAX_PATH_BYTES
from pipeline.transport.sockets import OPTIONS
from tests.libzmq.peers import QUIET_MS, TIMEOUT_MS, endpoint_of, make_sockets, read_line, start_peer
from tests.support.processes import wait_until

FORKED = """
pull, push = socket(zmq.PULL), socket(zmq.PUSH)
pull.bind(words[0])
push.connect(words[0])
push.send(b"before")
pull.recv()
if words[1] == "fork":
    pid = os.fork()
    if pid:
        say(pid)
        signal.pause()
for number in range(5):
    push.send(b"after")
    if pull.poll(2000):
        say(pull.recv().decode())
"""


@pytest.mark.parametrize(("way", "works"), [("here", True), ("fork", False)])
def test_context_does_not_survive_fork(tmp_path: Path, way: str, *, works: bool) -> None:
    """The child may hang, raise or abort, and may abort its parent too: no message is delivered."""
    with start_peer(FORKED, f"ipc://{tmp_path}/x", way) as parent:
        child = read_line(parent) if way == "fork" else ""
        try:
            assert read_line(parent, TIMEOUT_MS if works else 2 * QUIET_MS) == ("after" if works else "")
        finally:
            if child:
                Process(int(child)).kill()


SIGNALLED = """
flag = []
signal.signal(signal.SIGTERM, lambda *_: flag.append(1))
read, write = os.pipe2(os.O_NONBLOCK)
if words[1] == "fd":
    signal.set_wakeup_fd(write)
pull = socket(zmq.PULL)
pull.bind(words[0])
poller = zmq.Poller()
poller.register(pull, zmq.POLLIN)
poller.register(read, zmq.POLLIN)
say("waiting")
ready = dict(poller.poll())
say("message" if pull in ready else "signal", len(flag))
"""


@pytest.mark.parametrize("way", ["handler", "fd"])
def test_signal_wakes_poll_only_through_a_descriptor(tmp_path: Path, way: str) -> None:
    at = f"ipc://{tmp_path}/x"
    with make_sockets() as make, start_peer(SIGNALLED, at, way) as polling:
        push = make(zmq.PUSH)
        assert read_line(polling) == "waiting"
        os.kill(polling.pid, signal.SIGTERM)
        if way == "handler":
            assert not read_line(polling, QUIET_MS)
            push.connect(at)
            push.send(b"x")
        assert read_line(polling) == ("message 1" if way == "handler" else "signal 1")


def test_socket_options_and_defaults_are_as_expected() -> None:
    with make_sockets() as make:
        for kind in (zmq.ROUTER, zmq.DEALER, zmq.PUSH, zmq.PULL, zmq.XPUB, zmq.SUB):
            socket = make(kind)
            for option, value in {**OPTIONS, zmq.IPV6: 1, zmq.RECONNECT_IVL: 5, zmq.RECONNECT_IVL_MAX: 1000}.items():
                socket.set(option, value)
                assert socket.get(option) == value
            unset = {zmq.HEARTBEAT_IVL: 0, zmq.MAXMSGSIZE: -1, zmq.IMMEDIATE: 0, zmq.MECHANISM: zmq.NULL}
            assert {option: socket.get(option) for option in unset} == unset
        make(zmq.ROUTER, ROUTER_MANDATORY=1)
        make(zmq.XPUB, XPUB_WELCOME_MSG=b"x")


def test_context_has_enough_sockets_for_all_lanes() -> None:
    with make_sockets() as make:
        make.context.set(zmq.MAX_SOCKETS, 16384)
        assert make.context.get(zmq.MAX_SOCKETS) == 16384
        assert make.context.get(zmq.SOCKET_LIMIT) >= 16384


@pytest.mark.parametrize(("length", "fits"), [(MAX_PATH_BYTES, True), (MAX_PATH_BYTES + 1, False)])
def test_longest_ipc_path_matches_our_limit(length: int, *, fits: bool) -> None:
    with TemporaryDirectory(dir="/tmp") as folder, make_sockets() as make:  # the path of pytest's folder is too long
        at = f"ipc://{folder}/".ljust(length + len("ipc://"), "x")
        with nullcontext() if fits else pytest.raises(zmq.ZMQError, match="longer than 107"):
            make(zmq.PULL).bind(at)


def test_context_has_two_threads_until_closed() -> None:
    def threads() -> set[str]:
        return set(os.listdir("/proc/self/task"))

    before = threads()
    with make_sockets() as make:
        pull = make(zmq.PULL)
        pull.bind("tcp://127.0.0.1:*")
        push = make(zmq.PUSH)
        push.connect(endpoint_of(pull))
        push.send(b"x")
        assert pull.poll(TIMEOUT_MS)
        assert len(threads() - before) == 2
    wait_until(lambda: threads() <= before)  # the kernel lists a thread a moment longer than it can be joined
