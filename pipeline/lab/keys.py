"""CURVE for `serve` and `ask`: their keys, the authenticator, and clients without valid keys.

    FOLDER/server.key                 the public key of the service
    FOLDER/server.key_secret          read by the service only
    FOLDER/friends/friend.key         the public keys that are accepted
    FOLDER/friends/friend.key_secret  read by the accepted clients only

Only this user can read the folder, and the service removes it at its end.
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
    zmq.EVENT_HANDSHAKE_SUCCEEDED: "accepted",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "refused by the authenticator",
    **dict.fromkeys(
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL), "refused in the handshake"
    ),
}
"""The possible ends of a handshake, by the event of the socket's monitor."""


def default_folder(folder: str, port: int) -> str:
    """Return the given folder, or the default one for the service at this port."""
    return folder.rstrip("/") or f"{tempfile.gettempdir()}/pipe-lab-keys-{os.getuid()}-{port}"


def without_curve() -> bool:
    """Return whether this libzmq lacks CURVE, and report that on stderr."""
    if not zmq.has("curve"):
        print("--secure needs a libzmq that is built with CURVE", file=sys.stderr)
    return not zmq.has("curve")


@contextmanager
def authenticate(context: Context, front: Socket, folder: str) -> Iterator[None]:
    """Make the keys, and authenticate the clients of `front`, which is not bound yet. The authenticator is a thread."""
    authenticator = ThreadAuthenticator(context)
    try:
        with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as made:
            os.mkdir(f"{made}/friends")
            create_certificates(made, "server")
            create_certificates(f"{made}/friends", "friend")
            authenticator.start()
            authenticator.configure_curve(domain="*", location=f"{made}/friends")
            front.curve_server, front.curve_secretkey = True, load_certificate(f"{made}/server.key_secret")[1]
            if has_keys(folder, 0):
                shutil.rmtree(folder)  # left by a service that was killed
            os.rename(made, folder)  # atomic: no client finds half of it
            try:
                yield
            finally:
                shutil.rmtree(folder)
    finally:
        authenticator.stop()


def has_keys(folder: str, patience: float) -> bool:
    """Return whether this folder has the keys and belongs to this user; wait for it up to `patience` seconds."""
    deadline = time.monotonic() + patience
    while not os.path.isfile(f"{folder}/server.key") and time.monotonic() < deadline:
        time.sleep(0.02)
    return os.path.isfile(f"{folder}/server.key") and os.stat(folder).st_uid == os.getuid()


def set_keys(socket: Socket, folder: str, pair: tuple[bytes, bytes | None] | None = None) -> None:
    """Set the service's public key and a key pair, by default an accepted one, before the socket is connected."""
    socket.curve_serverkey = load_certificate(f"{folder}/server.key")[0]
    pair = pair or load_certificate(f"{folder}/friends/friend.key_secret")
    socket.curve_publickey, socket.curve_secretkey = pair


def try_stranger(context: Context, endpoint: str, folder: str, *, with_keys: bool, patience: float) -> str:
    """Return the outcome of a handshake with made-up keys or with none."""
    with context.socket(zmq.REQ) as stranger:
        stranger.linger = 0
        if with_keys:
            set_keys(stranger, folder, zmq.curve_keypair())
        monitor = stranger.get_monitor_socket(sum(HANDSHAKE_OUTCOMES))
        try:
            stranger.connect(endpoint)
            if not monitor.poll(int(patience * 1000)):
                return "no answer"
            return HANDSHAKE_OUTCOMES[zmq.Event(recv_monitor_message(monitor)["event"])]
        finally:
            stranger.disable_monitor()
            monitor.close()
