"""The herald speaks for a dead ventilator, to a real socket."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pipeline.house import herald
from pipeline.wire.codec import decode
from pipeline.words.errors import interrupted
from pipeline.words.messages import Bye, Stop
from pipeline.words.settings import Settings
from pipeline.words.station import VENTILATOR

WITHIN = 5000  # milliseconds


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Where a sink may be; pytest's paths are too long for ipc."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Settings(results=f"ipc://{folder}/r", desk=f"ipc://{folder}/d", control=f"ipc://{folder}/c")


def test_it_asks_for_the_end_and_says_goodbye_behind_it(settings: Settings) -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as sink:
        sink.bind(settings.results)
        assert herald.announce(settings) == 0
        words: list[object] = []
        while len(words) < 2:
            assert sink.poll(WITHIN)
            words.append(decode(sink.recv_multipart()))
    stop, bye = words
    assert isinstance(stop, Stop)
    assert stop.mode == "now"
    assert interrupted(stop.reason) != 3  # the sink takes it for a wish, and leaves the sentence to the launcher
    assert isinstance(bye, Bye)
    assert bye.name == VENTILATOR


def test_it_finds_a_sink_that_comes_a_little_later(settings: Settings) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os.write(write, b"!")
        os._exit(herald.announce(settings))
    assert os.read(read, 1)
    with zmq.Context() as context, context.socket(zmq.PULL) as sink:
        sink.bind(settings.results)
        assert sink.poll(WITHIN)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(read)
    os.close(write)


def test_it_does_not_wait_for_ever_for_a_sink_that_has_gone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(herald, "WITHIN", 0.05)
    assert herald.announce(settings) == 3
    assert not Path(settings.results.removeprefix("ipc://")).exists()
