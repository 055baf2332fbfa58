"""Real sockets opposite a channel, and example messages."""

from __future__ import annotations

from pathlib import Path

import zmq

from pipeline.model.messages import Ack, Heartbeat
from pipeline.model.state_machine import Adapter
from pipeline.transport import sockets
from pipeline.transport.sockets import ZmqContext

WITHIN = 10_000
PULSE = Heartbeat(
    worker="ann", number=1, run="", digest="d", command="wc", slots=2, lane=0, last_sequence=0, credit_limit=4,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
ACK = Ack("r", 1, "print", "epoch", 1, 0, (), -1, spill_full=False, resend=())


class Peers:
    """A context, the sockets and adapters opened in it, and their endpoints."""

    def __init__(self, folder: Path) -> None:
        self.own, self.folder, self.stem = ZmqContext(), folder, f"ipc://{folder}"
        self._connected: list[zmq.Socket[bytes]] = []
        self._bound: list[zmq.Socket[bytes]] = []
        self._adapters: list[Adapter] = []

    def call(self, kind: int, name: str, topics: tuple[bytes, ...] = ()) -> zmq.Socket[bytes]:
        at = name if "://" in name else f"{self.stem}/{name}"
        self._connected.append(self.own.connect(kind, at, topics=topics))
        return self._connected[-1]

    def bind(self, kind: int, name: str) -> zmq.Socket[bytes]:
        self._bound.append(self.own.bind(kind, f"{self.stem}/{name}"))
        return self._bound[-1]

    def adapter(self, adapter: Adapter) -> Adapter:
        self._adapters.append(adapter)
        return adapter

    def close(self) -> None:
        for adapter in self._adapters:
            adapter.close()
            adapter.close()
        for socket in self._connected:
            sockets.close(socket, linger=0)
        for socket in self._bound:
            sockets.unbind(socket, linger=0)
        self.own.close()
