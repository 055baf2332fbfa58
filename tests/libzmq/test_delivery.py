"""Assumptions about delivery in libzmq: a high-water mark is not a credit, and an accepted message may be lost."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import zmq

from tests.libzmq.peers import (
    QUIET_MS,
    TIMEOUT_MS,
    SocketMonitor,
    endpoint_of,
    fill_socket,
    kernel_holds,
    make_sockets,
    read_line,
    start_peer,
)

PULL = """
pull = socket(zmq.PULL, RCVHWM=int(words[1]))
(pull.bind if words[2] == "bind" else pull.connect)(words[0])
say("here")
for number in range(int(words[3])):
    pull.recv()
say("read")
pull.poll() if words[4] == "poll" else signal.pause()
"""


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
def test_high_water_mark_is_not_a_credit(tmp_path: Path, scheme: str) -> None:
    with make_sockets() as make:
        push = make(zmq.PUSH, SNDHWM=1)
        push.bind(f"ipc://{tmp_path}/lane" if scheme == "ipc" else "tcp://127.0.0.1:*")
        at = endpoint_of(push)
        with start_peer(PULL, at, 1, "connect", 1, "pause") as pull:
            push.send(b"first")
            assert [read_line(pull), read_line(pull)] == ["here", "read"]
            os.kill(pull.pid, signal.SIGSTOP)
            # A fixed bound would depend on the machine: the kernel charges a small packet with less than 2 kB, so its
            # buffer takes at least SO_SNDBUF / 2048. That is 104 over ipc and over 1,000 over tcp by default.
            holds = kernel_holds(scheme)
            assert holds > 1
            assert (
                fill_socket(push, b"x" * 100, limit=holds + 1, settled=TIMEOUT_MS) > holds
            )  # although the peer reads nothing


@pytest.mark.parametrize("end", ["bind", "connect"])
def test_accepted_messages_of_killed_peer_are_lost_silently(tmp_path: Path, end: str) -> None:
    at, other = f"ipc://{tmp_path}/results", "connect" if end == "bind" else "bind"
    with make_sockets() as make:
        push = make(zmq.PUSH, SNDHWM=0, IMMEDIATE=1, RECONNECT_IVL=5)
        monitor = SocketMonitor(push)
        (push.bind if end == "bind" else push.connect)(at)
        with start_peer(PULL, at, 0, other, 10, "pause") as first:
            for number in range(500):
                assert push.poll(TIMEOUT_MS, zmq.POLLOUT)
                push.send(b"%d" % number, zmq.NOBLOCK)  # all are accepted
            assert [read_line(first), read_line(first)] == ["here", "read"]
            os.kill(first.pid, signal.SIGKILL)
            monitor.wait(zmq.Event.DISCONNECTED)
        pull = make(zmq.PULL)
        (pull.bind if other == "bind" else pull.connect)(at)
        while not pull.poll(10):
            with suppress(zmq.Again):  # the monitor reports the disconnect before the socket knows it
                push.send(b"after", zmq.NOBLOCK)
        assert pull.recv() == b"after"


LEAVES = """
push = socket(zmq.PUSH, SNDHWM=0, LINGER=5000)
push.connect(words[0])
for number in range(60):
    push.send(b"x" * 1000)
push.close()
context.term()
say("all is sent")
"""


@pytest.mark.parametrize(("mark", "arrives"), [(10, False), (0, True)])
def test_term_without_receiver_mark_confirms_no_delivery(tmp_path: Path, mark: int, *, arrives: bool) -> None:
    at = f"ipc://{tmp_path}/results"
    with make_sockets() as make:
        pull = make(zmq.PULL, RCVHWM=mark)
        monitor = SocketMonitor(pull)
        pull.bind(at)
        with start_peer(LEAVES, at) as worker:
            assert read_line(worker) == "all is sent"
            assert worker.wait(TIMEOUT_MS / 1000) == 0
        if arrives:
            monitor.wait(zmq.Event.DISCONNECTED)
        count = 0
        while pull.poll(QUIET_MS):
            pull.recv()
            count += 1
        assert (count == 60) is arrives


@pytest.mark.parametrize(("immediate", "taken"), [(1, 0), (0, 5)])
def test_immediate_without_peer_queues_nothing(tmp_path: Path, immediate: int, taken: int) -> None:
    with make_sockets() as make:
        push = make(zmq.PUSH, IMMEDIATE=immediate)
        push.connect(f"ipc://{tmp_path}/nobody")
        assert fill_socket(push, b"x", limit=5) == taken


def test_conflate_breaks_multipart_messages(tmp_path: Path) -> None:
    at = f"ipc://{tmp_path}/control"
    with make_sockets() as make:
        pull, push = make(zmq.PULL, CONFLATE=1), make(zmq.PUSH, IMMEDIATE=1)
        pull.bind(at)
        push.connect(at)
        assert push.poll(TIMEOUT_MS, zmq.POLLOUT)
        push.send_multipart([b"header", b"body"])
        assert pull.poll(TIMEOUT_MS)
        assert pull.recv_multipart() != [b"header", b"body"]
