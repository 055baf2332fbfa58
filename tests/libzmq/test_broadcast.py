"""Assumptions about PUB-SUB in libzmq: late subscribers, welcome messages, slow subscribers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from tests.libzmq.peers import QUIET_MS, TIMEOUT_MS, BytesSocket, SocketFactory, make_sockets, read_line, start_peer


@pytest.fixture
def make() -> Iterator[SocketFactory]:
    with make_sockets() as made:
        yield made


@pytest.fixture
def control(make: SocketFactory, tmp_path_factory: pytest.TempPathFactory) -> tuple[BytesSocket, str]:
    """An XPUB, and where it is."""
    at = f"ipc://{tmp_path_factory.mktemp('control')}/control"
    xpub = make(zmq.XPUB)
    xpub.bind(at)
    return xpub, at


def test_late_subscriber_misses_earlier_messages(make: SocketFactory, control: tuple[BytesSocket, str]) -> None:
    xpub, at = control
    xpub.send(b"ack 1")
    late = make(zmq.SUB, SUBSCRIBE=b"ack")
    late.connect(at)
    assert xpub.poll(TIMEOUT_MS)
    assert xpub.recv() == b"\1ack"
    xpub.send(b"ack 2")
    assert late.poll(TIMEOUT_MS)
    assert late.recv() == b"ack 2"


def test_welcome_message_needs_a_polled_sender(make: SocketFactory, control: tuple[BytesSocket, str]) -> None:
    xpub, at = control
    xpub.set(zmq.XPUB_WELCOME_MSG, b"kill")
    late = make(zmq.SUB, SUBSCRIBE=b"kill")
    late.connect(at)
    assert not late.poll(QUIET_MS)
    assert xpub.poll(TIMEOUT_MS)
    assert late.poll(TIMEOUT_MS)
    assert late.recv() == b"kill"


def test_new_welcome_message_skips_existing_subscribers(make: SocketFactory, control: tuple[BytesSocket, str]) -> None:
    xpub, at = control
    xpub.set(zmq.XPUB_WELCOME_MSG, b"ack 1")
    here, late = make(zmq.SUB, SUBSCRIBE=b"ack"), make(zmq.SUB, SUBSCRIBE=b"ack")
    here.connect(at)
    assert xpub.poll(TIMEOUT_MS)
    assert here.poll(TIMEOUT_MS)
    assert here.recv() == b"ack 1"
    assert xpub.recv() == b"\1ack"
    xpub.set(zmq.XPUB_WELCOME_MSG, b"ack 2")
    late.connect(at)
    while not late.poll(1):
        xpub.poll(100)
    assert late.recv() == b"ack 2"
    xpub.send(b"ack 3")
    assert here.poll(TIMEOUT_MS)
    assert here.recv() == b"ack 3"


def test_message_between_welcome_and_subscription_is_lost(
    make: SocketFactory, control: tuple[BytesSocket, str]
) -> None:
    xpub, at = control
    xpub.set(zmq.XPUB_WELCOME_MSG, b"ack 1")
    late = make(zmq.XSUB)
    late.connect(at)
    assert not late.poll(QUIET_MS)
    while not late.poll(1):
        xpub.poll(10)
    assert late.recv() == b"ack 1"
    xpub.send(b"ack 2")
    late.send(b"\1ack")
    assert xpub.poll(TIMEOUT_MS)
    assert xpub.recv() == b"\1ack"
    xpub.send(b"ack 3")
    assert late.poll(TIMEOUT_MS)
    assert late.recv() == b"ack 3"


SLOW = """
sub = socket(zmq.SUB, RCVHWM=16, SUBSCRIBE=b"")
sub.connect(words[0])
say(sub.recv().decode())
signal.pause()
"""


def test_broadcast_to_slow_subscriber_drops_without_blocking(make: SocketFactory, tmp_path: Path) -> None:
    at, xpub = f"ipc://{tmp_path}/control", make(zmq.XPUB, SNDHWM=16)
    xpub.bind(at)
    quick = make(zmq.SUB, SUBSCRIBE=b"x")  # an XPUB receives the first subscription of a topic only
    with start_peer(SLOW, at) as slow:
        assert xpub.poll(TIMEOUT_MS)
        xpub.recv()
        xpub.send(b"here")
        assert read_line(slow) == "here"
        os.kill(slow.pid, signal.SIGSTOP)
        quick.connect(at)
        assert xpub.poll(TIMEOUT_MS)
        xpub.recv()
        for _ in range(2000):
            xpub.send(b"x" * 1000, zmq.NOBLOCK)  # never EAGAIN
            assert quick.poll(TIMEOUT_MS)
            quick.recv()
            xpub.poll(0)  # otherwise it also drops the messages of the quick subscriber
