"""The lab's measurements: messages accepted for a frozen receiver, poller or non-blocking reads, and a soak."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event, Thread

import pytest
import zmq

from pipeline.lab import hwm, poll, soak
from tests.libzmq.peers import kernel_holds
from tests.support.lab_programs import table_rows

pytestmark = pytest.mark.usefixtures("tidy")
Printed = pytest.CaptureFixture[str]


@pytest.mark.parametrize("frozen", [False, True])
def test_hwm_swallowed_count_is_not_the_mark(capsys: Printed, monkeypatch: pytest.MonkeyPatch, *, frozen: bool) -> None:
    monkeypatch.setattr(hwm, "SIZES", (10, 100_000))
    monkeypatch.setattr(hwm, "MAX_COUNT", 5000)
    monkeypatch.setattr(hwm, "ROW", "{}  {}  {}  {}")
    monkeypatch.setattr(hwm, "HEADS", ("over", "mark", "10 B", "100 kB"))
    assert hwm.main(frozen=frozen) == 0
    *cells, _ = table_rows(capsys.readouterr().out)
    assert [row[:2] for row in cells] == [[over, f"{mark}"] for over in ("ipc", "tcp") for mark in (1, 10, 1000)]
    for _, mark, *counts in cells:
        assert all(int(count.removeprefix(">")) >= int(mark) for count in counts)  # the sender's own queue holds them


@pytest.mark.parametrize("mark", [1, 10, 1000])
@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("over", ["ipc", "tcp"])
def test_hwm_receiver_that_runs_doubles_the_mark(tmp_path: Path, over: str, size: int, mark: int) -> None:
    """The queues of both sides fill up, whatever the buffers between them hold."""
    assert _swallows(2 * mark, _place(over, tmp_path), mark, size, frozen=False)


@pytest.mark.parametrize("over", ["ipc", "tcp"])
def test_hwm_frozen_receiver_exceeds_mark_one_by_the_buffers(tmp_path: Path, over: str) -> None:
    """At a mark of 1, each message that leaves for the kernel makes room for one more. (At 1000 it takes 500 of them.)

    More small messages than large ones pass, for the kernel counts bytes.
    """
    more = kernel_holds(over)
    assert _swallows(1 + more, _place(over, tmp_path), 1, 10, frozen=True)
    assert not _swallows(1 + more, _place(over, tmp_path), 1, 100_000, frozen=True, settled=200)


def _place(over: str, folder: Path) -> str:
    return f"ipc://{folder}/lane" if over == "ipc" else "tcp://127.0.0.1:*"


def _swallows(number: int, place: str, mark: int, size: int, *, frozen: bool, settled: int = 10_000) -> bool:
    """Return whether `number` messages are accepted. It waits for them, so the speed of the machine does not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hwm, "MAX_COUNT", number - 1)
        patch.setattr(hwm, "FULL_AFTER_MS", settled)
        return hwm.count_swallowed(place, mark, size, frozen=frozen) >= number


def test_hwm_missing_receiver_is_reported(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hwm, "TIMEOUT_MS", 50)
    monkeypatch.setattr(hwm, "SIZES", (10, 100, 1000, 10_000, 100_000))
    monkeypatch.setattr(hwm, "run_idle_receiver", lambda *_: None)
    assert hwm.main() == 1
    assert table_rows(capsys.readouterr().out)[0] == ["ipc", "1", *["0"] * 5]


def test_poller_reads_all_messages_in_each_way(capsys: Printed) -> None:
    assert poll.main(msgs=60, every=2.0) == 0
    busy, napping, polling = table_rows(capsys.readouterr().out)
    assert [row[0] for row in (busy, napping, polling)] == ["non-blocking reads", "and a nap of 1 ms", "a poller"]
    assert all(row[1] == "60" for row in (busy, napping, polling))
    assert all(0 < int(row[2]) <= int(row[3]) for row in (busy, napping, polling))
    assert all(float(row[4]) > 0 for row in (busy, napping, polling))


def test_poller_reports_missing_messages(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "TIMEOUT_MS", 100)
    monkeypatch.setattr(poll, "send", lambda *_: None)
    assert poll.main(msgs=5) == 1
    assert [row[1] for row in table_rows(capsys.readouterr().out)] == ["0"] * 3


def test_soak_without_leak_is_flat(capsys: Printed) -> None:
    assert soak.main(minutes=0.05) == 0
    *cells, last = table_rows(capsys.readouterr().out)
    assert len(cells) == 10
    rounds, messages = (int(cells[-1][column]) for column in (1, 2))
    assert messages == 3 * rounds > 0
    assert last == ["flat"]


class Leak:
    """Rounds that leak a resource."""

    def __init__(self) -> None:
        self.files: list[int] = []
        self.memory: list[bytes] = []
        self.over = Event()

    def descriptor(self, _: str) -> int:
        """Leave a file open."""
        self.files.append(os.dup(0))
        return 0

    def thread(self, _: str) -> int:
        """Leave a thread running."""
        Thread(target=self.over.wait).start()
        return 0

    def block(self, _: str) -> int:
        """Keep 5 MB: a few rounds show it, however slow the machine is."""
        self.memory.append(b"x" * 5_000_000)
        return 0

    def mend(self) -> None:
        """Release all leaked resources."""
        self.over.set()
        for file in self.files:
            os.close(file)


@pytest.mark.parametrize("what", ["descriptor", "thread", "block"])
def test_soak_finds_a_leak(what: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    leak = Leak()
    monkeypatch.setattr(soak, "run_round", getattr(leak, what))
    try:
        assert soak.main(minutes=0.03) == 1
    finally:
        leak.mend()
    assert capsys.readouterr().out.endswith("not flat: each round leaks\n")


def test_soak_round_without_messages_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "TIMEOUT_MS", 50)
    monkeypatch.setattr(zmq.Socket, "send_multipart", lambda *_: None)
    with pytest.raises(zmq.Again):
        soak.main(minutes=0.01)
