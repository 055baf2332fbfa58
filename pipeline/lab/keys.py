"""CURVE for `serve` and `ask`: the keys of both, the guard who looks at them, and strangers who try.

    FOLDER/server.key      what all may know: the service's public key
    FOLDER/server.key_secret                  only the service reads it
    FOLDER/friends/friend.key                 whose public key is here is let in
    FOLDER/friends/friend.key_secret          only friends read it

The folder is for this user only, and goes when the service goes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import zmq
from zmq.auth import create_certificates, load_certificate
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]
HANDSHAKE_OUTCOMES = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: "let in",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "refused by the guard",
    **dict.fromkeys((zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL), "refused unheard"),
}
"""How a handshake can end, as the socket's monitor tells it."""


def default_folder(folder: str, port: int) -> str:
    """The folder that was said, or else the usual one of the service at this port."""
    return folder.rstrip("/") or f"{tempfile.gettempdir()}/pipe-lab-keys-{os.getuid()}-{port}"


def without_curve() -> bool:
    """Whether this libzmq can't do it, after a sentence that says so."""
    if not zmq.has("curve"):
        print("this libzmq was built without CURVE: there is no --secure here", file=sys.stderr)
    return not zmq.has("curve")


@contextmanager
def authenticate(context: Context, front: Socket, folder: str) -> Iterator[None]:
    """Make the keys, and put a guard before `front`, which is not bound yet. He is a thread, and asks the folder."""
    guard = ThreadAuthenticator(context)
    try:
        with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as made:
            os.mkdir(f"{made}/friends")
            create_certificates(made, "server")
            create_certificates(f"{made}/friends", "friend")
            guard.start()
            guard.configure_curve(domain="*", location=f"{made}/friends")
            front.curve_server, front.curve_secretkey = True, load_certificate(f"{made}/server.key_secret")[1]
            if has_keys(folder, 0):
                shutil.rmtree(folder)  # of a service that was killed
            os.rename(made, folder)  # so nobody finds half of it
            try:
                yield
            finally:
                shutil.rmtree(folder)
    finally:
        guard.stop()


def has_keys(folder: str, patience: float) -> bool:
    """Whether the keys are in this folder, and it is ours; waits for it `patience` seconds."""
    until = time.monotonic() + patience
    while not os.path.isfile(f"{folder}/server.key") and time.monotonic() < until:
        time.sleep(0.02)
    return os.path.isfile(f"{folder}/server.key") and os.stat(folder).st_uid == os.getuid()


def set_keys(socket: Socket, folder: str, pair: tuple[bytes, bytes | None] | None = None) -> None:
    """Tell the socket, not connected yet, whom it will speak with; its keys are these, or a friend's."""
    socket.curve_serverkey = load_certificate(f"{folder}/server.key")[0]
    pair = pair or load_certificate(f"{folder}/friends/friend.key_secret")
    socket.curve_publickey, socket.curve_secretkey = pair


def try_stranger(context: Context, at: str, folder: str, *, with_keys: bool, patience: float) -> str:
    """What a stranger is told, who has made up keys, or has none."""
    with context.socket(zmq.REQ) as stranger:
        stranger.linger = 0
        if with_keys:
            set_keys(stranger, folder, zmq.curve_keypair())
        monitor = stranger.get_monitor_socket(sum(HANDSHAKE_OUTCOMES))
        try:
            stranger.connect(at)
            if not monitor.poll(int(patience * 1000)):
                return "heard nothing"
            return HANDSHAKE_OUTCOMES[zmq.Event(recv_monitor_message(monitor)["event"])]
        finally:
            stranger.disable_monitor()
            monitor.close()
