"""The lab's request-reply service with threads and processes, with and without CURVE."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import zmq

from tests.support.lab_programs import free_ports, run_lab, start_program, wait_for_end, wait_until_ready

TEXTS = ["hello", "world", "again"]
CLIENTS = 4
SPREAD = len(TEXTS) * CLIENTS


def counted(printed: str) -> dict[str, int]:
    """Return the replies of each worker in the table."""
    lines = printed.splitlines()
    rows = [line.rsplit(maxsplit=1) for line in lines[lines.index(lines[0]) + 1 :] if line[:6] in {"thread", "proces"}]
    return {name: int(replies) for name, replies in rows}


@pytest.mark.parametrize("way", ["threads", "processes"])
def test_replies_return_and_load_is_shared(way: str) -> None:
    (port,) = free_ports(1)
    with start_program("serve", f"--{way}", 3, "--port", port) as service:
        wait_until_ready(service)
        code, printed = run_lab("ask", *TEXTS, "--clients", CLIENTS, "--port", port)
        assert code == 0, printed
        assert printed.splitlines()[-1] == f"{SPREAD} asked, {SPREAD} replies, 0 misrouted"
        load = counted(printed)
        service.send_signal(signal.SIGINT)
        code, printed = wait_for_end(service)
    assert code == 130
    assert counted(printed) == load
    assert sum(load.values()) == SPREAD
    assert set(load) == {f"{'thread' if way == 'threads' else 'process'} {each}" for each in (1, 2, 3)}


def test_service_ends_without_requests() -> None:
    (port,) = free_ports(1)
    assert run_lab("serve", "--port", port, "--seconds", 0.2) == (3, "ready\nworker  replies\n")


def test_missing_reply_is_reported() -> None:
    (port,) = free_ports(1)
    code, printed = run_lab("ask", "x", "--port", port, "--clients", 2, "--patience", 0.2)
    assert code == 3
    assert "2 asked, 0 replies, 0 misrouted" in printed


def test_reply_to_another_client_is_reported() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as service:
        port = service.bind_to_random_port("tcp://127.0.0.1")
        with start_program("ask", "x", "--clients", 2, "--port", port) as asking:
            first, second = service.recv_multipart(), service.recv_multipart()
            for one, other in ((first, second), (second, first)):
                service.send_multipart([one[0], b"", b"thief", other[2].upper()])
            code, printed = wait_for_end(asking)
    assert code == 1
    assert "2 asked, 2 replies, 2 misrouted" in printed


@pytest.mark.skipif(not zmq.has("curve"), reason="this libzmq has no CURVE")
@pytest.mark.parametrize("way", ["threads", "processes"])
def test_curve_accepts_known_keys_only(way: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    keys = tmp_path / "keys"
    with start_program("serve", f"--{way}", 2, "--secure", "--port", port, "--keys", keys) as service:
        wait_until_ready(service)
        assert keys.stat().st_mode & 0o077 == 0
        code, printed = run_lab("ask", *TEXTS, "--secure", "--port", port, "--keys", keys)
        plain = run_lab("ask", "x", "--port", port, "--patience", 1)
        service.send_signal(signal.SIGINT)
        assert wait_for_end(service)[0] == 130
    assert code == 0, printed
    assert "9 asked, 9 replies, 0 misrouted" in printed
    assert "a client with made-up keys: refused by the authenticator" in printed
    assert "a client without keys: refused in the handshake" in printed
    assert plain[0] == 3
    assert not keys.exists()


@pytest.mark.skipif(not zmq.has("curve"), reason="this libzmq has no CURVE")
def test_service_without_curve_is_reported(tmp_path: Path) -> None:
    """The keys exist, but the service does not use CURVE."""
    (port,), (other,) = free_ports(1), free_ports(1)
    with (
        start_program("serve", "--secure", "--port", port, "--keys", tmp_path / "keys") as service,
        start_program("serve", "--port", other) as open_one,
    ):
        wait_until_ready(service)
        wait_until_ready(open_one)
        words = ("--secure", "--port", other, "--keys", tmp_path / "keys", "--patience", 1)
        code, printed = run_lab("ask", "x", *words)
    assert code == 3
    assert "a client without keys: accepted" in printed


def test_missing_keys_are_reported(tmp_path: Path) -> None:
    code, printed = run_lab("ask", "x", "--secure", "--keys", tmp_path / "none", "--patience", 0.1)
    assert code == 3
    assert f"no keys in {tmp_path}/none" in printed


@pytest.mark.skipif(not zmq.has("curve"), reason="this libzmq has no CURVE")
def test_foreign_key_folder_is_kept(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "mine").touch()
    code, printed = run_lab("serve", "--secure", "--port", free_ports(1)[0], "--keys", keys)
    assert code == 3
    assert "Directory not empty" in printed
    assert [path.name for path in tmp_path.rglob("*")] == ["keys", "mine"]


@pytest.mark.skipif(not zmq.has("curve"), reason="this libzmq has no CURVE")
def test_keys_are_replaced_only_for_a_dead_service(tmp_path: Path) -> None:
    words = ("serve", "--secure", "--port", free_ports(1)[0])
    with start_program(*words, folder=tmp_path) as service:
        wait_until_ready(service)
        (old,) = tmp_path.glob("pipe-lab-keys-*/server.key")
        before = old.read_text()
        service.kill()
        service.wait()
    with start_program(*words, folder=tmp_path) as service:
        wait_until_ready(service)
        after = old.read_text()
        assert after != before
        with start_program(*words, folder=tmp_path) as other:
            code, printed = wait_for_end(other)
        assert (code, "Address already in use" in printed) == (3, True)
        assert old.read_text() == after
        service.send_signal(signal.SIGINT)
        assert wait_for_end(service)[0] == 130
    assert not list(tmp_path.glob("pipe-lab-keys-*"))


def test_multipart_request_does_not_end_a_worker() -> None:
    (port,) = free_ports(1)
    with start_program("serve", "--threads", 1, "--port", port) as service, zmq.Context() as context:
        wait_until_ready(service)
        with context.socket(zmq.REQ) as question:
            question.linger, question.rcvtimeo = 0, 10_000
            question.connect(f"tcp://127.0.0.1:{port}")
            question.send_multipart([b"a", b"b"])
            assert question.recv_multipart() == [b"thread 1", b"B"]
        assert run_lab("ask", "x", "--clients", 1, "--port", port)[0] == 0


def test_any_request_gets_its_reply() -> None:
    (port,) = free_ports(1)
    with start_program("serve", "--port", port) as service:
        wait_until_ready(service)
        assert run_lab("ask", "h\u00e9 \u00df", os.fsdecode(b"\xff"), "--clients", 1, "--port", port)[0] == 0
