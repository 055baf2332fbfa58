"""The lab's publish-subscribe programs: weather on two networks, a waiting publisher, envelopes."""

from __future__ import annotations

import re

import pytest
import zmq

from pipeline.lab import envelope, sync, weather
from tests.support.lab_programs import run_lab, table_rows

pytestmark = pytest.mark.usefixtures("tidy")
subscribe = sync.subscribe
Printed = pytest.CaptureFixture[str]


def test_weather_reaches_subscribers_on_both_networks(capsys: Printed) -> None:
    assert weather.main(readers=2, updates=50) == 0
    *table, last = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["network", "zip", "code", "updates", "of", "others", "average", "F"]
    cells = table_rows("\n".join(table))
    assert [row[:4] for row in cells] == [
        ["inner", "10001", "50", "0"],
        ["inner", "10002", "50", "0"],
        ["outer", "10003", "50", "0"],
        ["outer", "10004", "50", "0"],
    ]
    assert all(-80 <= float(row[4]) <= 135 for row in cells)
    passed = re.fullmatch(r"the forwarder sent (\d+) updates of 2 zip codes; there are 8", last)
    assert passed
    assert int(passed[1]) >= 100


def test_weather_finds_an_unfiltered_forwarder(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = weather.forward

    def greedy(context: weather.Context, inner: str, readers: int, updates: int, found: weather.Rows) -> object:
        with context.socket(zmq.SUB) as everything:
            everything.connect(inner)
            everything.subscribe(b"")
            passed = forward(context, inner, readers, updates, found)
            assert everything.poll(10_000)
            passed[everything.recv().split()[0]] += 1
            passed.update(b"%d" % code for code in range(100))
        return passed

    monkeypatch.setattr(weather, "forward", greedy)
    assert weather.main(readers=1, updates=5) == 1
    assert "there are 4" in capsys.readouterr().out


def test_weather_subscribers_without_publisher_give_up(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weather, "TIMEOUT_MS", 200)
    monkeypatch.setattr(weather, "publish", lambda *_: None)
    assert weather.main(readers=1, updates=5) == 3
    assert [row[2] for row in table_rows(capsys.readouterr().out)[:2]] == ["0", "0"]


def test_sync_subscriber_receives_all(capsys: Printed) -> None:
    assert sync.main(subscribers=3, updates=20_000) == 0
    waited, hurried = table_rows(capsys.readouterr().out)
    assert waited[:5] == ["waits for subscribers", "3", "20000", "0", "0"]
    assert hurried[:3] == ["begins at once", "3", "20000"]
    assert hurried[4] == "0"


def test_sync_program_exits_with_0() -> None:
    code, printed = run_lab("sync", "--subscribers", 2, "--updates", 100)
    assert code == 0, printed


def late(folder: str) -> None:
    """Subscribe after the first update was sent."""
    with zmq.Context() as context, context.socket(zmq.SUB) as news:
        news.connect(f"ipc://{folder}/news")
        news.subscribe(b"")
        news.recv()
    subscribe(folder)


def test_unsynced_subscriber_loses_the_first_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "subscribe", late)
    for first, later in sync.publish(2, 50_000, waits=False):
        assert 0 < first <= 50_000
        assert later == 0


def test_sync_finds_a_lost_update(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "subscribe", late)
    monkeypatch.setattr(sync, "HELLO", b"\0" * 8)  # a hello that looks like an update, so the publisher does not wait
    monkeypatch.setattr(sync, "TIMEOUT_MS", 1000)
    assert sync.main(subscribers=1, updates=500) == 1  # few enough to be read within the timeout
    assert table_rows(capsys.readouterr().out)[0][3] != "0"


def test_sync_reports_silent_subscribers(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "TIMEOUT_MS", 200)
    monkeypatch.setattr(sync, "subscribe", lambda _: None)
    assert sync.main(subscribers=2, updates=10) == 3
    assert [row[1] for row in table_rows(capsys.readouterr().out)] == ["0", "0"]


@pytest.mark.parametrize(("key", "keys"), [("B", {"B", "BB"}), ("BB", {"BB"}), ("", {"A", "B", "BB"})])
def test_envelope_filter_is_a_key_prefix(key: str, keys: set[str], capsys: Printed) -> None:
    assert envelope.main(key=key, messages=90, publishers=2) == 0
    cells = table_rows(capsys.readouterr().out)[:-1]
    assert {row[1] for row in cells} == keys
    assert {row[0] for row in cells} <= {"publisher 1", "publisher 2"}
    assert sum(int(row[2]) for row in cells) == 90


def test_envelope_without_match_is_reported(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "TIMEOUT_MS", 100)
    assert envelope.main(key="C") == 3
    assert "too few messages: the keys are A, B, BB" in capsys.readouterr().err


def test_envelope_finds_an_unsubscribed_key(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    subscribe = zmq.Socket.subscribe
    monkeypatch.setattr(zmq.Socket, "subscribe", lambda socket, _: subscribe(socket, ""))
    assert envelope.main(key="B", messages=30) == 1
    assert "  A  " in capsys.readouterr().out
