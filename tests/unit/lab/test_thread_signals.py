"""The lab's signals between threads: kept and lost messages of each pattern, and their report."""

from __future__ import annotations

import threading

import pytest
import zmq

from pipeline.lab import pings, signal
from pipeline.lab.pings import Pings
from tests.support.lab_programs import run_lab, table_rows

pytestmark = pytest.mark.usefixtures("tidy")
DRAFT = zmq.has("draft")
KEEP = ["pushpull", "router-dealer", *(["client-server"] if DRAFT else [])]


@pytest.mark.parametrize("poll", [False, True])
@pytest.mark.parametrize("threads", [1, 10, 100])
@pytest.mark.parametrize("name", KEEP)
def test_signals_after_handshake_lose_nothing(
    capsys: pytest.CaptureFixture[str], name: str, threads: int, *, poll: bool
) -> None:
    assert signal.main(name, threads=threads, msgs=50, poll=poll) == 0
    (row,) = table_rows(capsys.readouterr().out)
    sent = f"{50 * threads}"
    assert row[:8] == [name, f"{threads}", "yes" if poll else "no", sent, sent, "0", "0", "no"]
    assert int(row[8]) > 0


@pytest.mark.parametrize("poll", [True, False])
def test_pair_accepts_only_one_peer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, poll: bool
) -> None:
    assert signal.main("pair", threads=1, msgs=50, poll=poll) == 0
    (row,) = table_rows(capsys.readouterr().out)
    assert row[3:8] == ["50", "50", "0", "0", "no"]
    monkeypatch.setattr(pings, "DEADLOCK_SECONDS", 0.5)
    assert signal.main("pair", threads=4, msgs=50, poll=poll, debug=True) == 0
    row, *lines = table_rows(capsys.readouterr().out)
    assert (row[4], row[7]) == ("50", "yes")
    assert len(lines) == 4
    assert sum("highest received 50" in line[0] for line in lines) == 1
    assert sum("highest received 0" in line[0] for line in lines) == 3


@pytest.mark.parametrize("poll", [True, False])
def test_pub_loses_messages_before_subscription(capsys: pytest.CaptureFixture[str], *, poll: bool) -> None:
    """The loss depends on timing, so only the sums are compared."""
    assert signal.main("pubsub", threads=3, msgs=500, sleep=0.0001, poll=poll) == 0
    row, *lines = table_rows(capsys.readouterr().out)
    sent, received, first, later = map(int, row[3:7])
    assert sent == 1500
    assert received + first + later == sent
    assert row[7] == "no"
    assert bool(lines) == bool(first + later)


def test_late_subscriber_receives_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delayed subscription loses exactly the first messages."""
    half = threading.Event()
    collect = pings.collect

    def later(data: pings.Socket, control: pings.Socket, run: Pings, *, poll: bool) -> None:
        while run.sent_counts[0] < 10:
            half.wait(0.001)
        data.subscribe(b"")
        collect(data, control, run, poll=poll)

    monkeypatch.setattr(pings, "collect", later)
    monkeypatch.setattr(
        zmq.Socket,
        "subscribe",
        lambda socket, topic: socket.setsockopt(zmq.SUBSCRIBE, topic) if half.is_set() else half.set(),
    )
    run = pings.run_pings(("PUB", "SUB"), Pings(1, 300, 0.001), poll=True)
    lost = run.lost_at_start(0)
    assert lost >= 10
    assert run.received_numbers[0] == list(range(lost + 1, 301))
    assert run.gaps(0) == f"1-{lost}"
    assert not run.is_hung


def test_all_patterns_make_one_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def collected(kinds: tuple[str, str], pings_: Pings, *, poll: bool) -> Pings:
        """Shorten the watchdog's timeout only where it must fire, so that a slow machine passes."""
        monkeypatch.setattr(pings, "DEADLOCK_SECONDS", 0.3 if "PAIR" in kinds and pings_.threads > 1 else 30.0)
        return pings.run_pings(kinds, pings_, poll=poll)

    monkeypatch.setattr(signal, "run_pings", collected)
    assert signal.main("all", msgs=30, quiet=True) == 0
    table = table_rows(capsys.readouterr().out)
    here = [name for name in signal.KINDS if DRAFT or name != "client-server"]
    wanted = [[name, threads, poll] for name in here for threads in ("1", "10", "100") for poll in ("no", "yes")]
    assert [row[:3] for row in table[: len(wanted)]] == wanted
    assert [row[0].split()[0] for row in table[len(wanted) :]] == ([] if DRAFT else ["client-server"])
    hung = [row[:2] for row in table if row[7:8] == ["yes"]]
    assert hung == [["pair", threads] for threads in ("10", "10", "100", "100")]


@pytest.mark.skipif(DRAFT, reason="this libzmq has draft sockets")
def test_missing_draft_support_is_reported() -> None:
    code, printed = run_lab("signal", "client-server")
    assert code == 3
    assert "skipped: CLIENT and SERVER are drafts, and this libzmq was built without them" in printed


def test_lossy_pattern_is_reported(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(signal.KINDS, "pushpull", ("PAIR", "PAIR"))
    monkeypatch.setattr(pings, "DEADLOCK_SECONDS", 0.3)
    assert signal.main("pushpull", threads=3, msgs=30) == 1
    assert table_rows(capsys.readouterr().out)[0][7] == "yes"


def test_missing_signals_are_listed_by_number() -> None:
    run = Pings(2, 9, 0.0)
    run.sent_counts, run.received_numbers = [9, 4], [[3, 4, 7, 9], []]
    assert (run.lost_at_start(0), run.lost_at_start(1)) == (2, 4)
    assert (run.gaps(0), run.gaps(1)) == ("1-2 5-6 8-8", "1-4")
    lines = [line.strip() for line in signal.describe_threads(run, is_verbose=False)]
    assert lines == [
        "thread 1: highest sent 9, highest received 9, missing: 1-2 5-6 8-8",
        "thread 2: highest sent 4, highest received 0, missing: 1-4",
    ]
