"""receive_all."""

from __future__ import annotations

import socket

from pipeline.executor.child_channel import receive_all


def test_receive_all_after_reset_returns_last_messages() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    assert receive_all(ours, 10) == ([], True)
    theirs.send(b"one")
    theirs.send(b"two")
    ours.send(b"never read: so closing resets the connection")
    theirs.close()
    assert receive_all(ours, 10) == ([b"one", b"two"], False)
    assert receive_all(ours, 10) == ([], False)
    ours.close()
    assert receive_all(ours, 10) == ([], False)
