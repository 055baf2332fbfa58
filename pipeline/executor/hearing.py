"""What the agent and its warm children say to each other over a socket pair, and hearing a neighbour out.

A batch is announced by its sizes; the child says when it is ready, what failed and when it is through. No word is
lost when its speaker dies right after it, and nothing here waits.
"""

from __future__ import annotations

import socket
import struct

BATCH_HEADER = struct.Struct("<BIQBQIHBB")
"""To the child: which arena, tasks, bytes of their body, the byte that ends each (or WHOLE); the first's number, its
tries, the slot from 1, the shape of records, whether their cost is wanted. The run's name follows."""
SHAPES = ("line", "columns", "packed", "json")
NO_TERMINATOR = 255
"""Instead of a terminator: the body is one task, as it is. (0xFF never ends a record.)"""
CHILD_MESSAGE = struct.Struct("<BId")
"""From the child: what, the task's index in the batch, seconds; text follows where there is any. Behind FINISHED, if
it is wanted: COST."""
RESOURCE_USAGE = struct.Struct("<dQ")
"""Seconds of CPU, and the most memory that the child has had, in bytes."""
MAX_RUN_NAME_BYTES = 64
"""Bytes of a run's name at most."""
READY, FAILED, FINISHED, INIT_FAILED, TOO_LARGE = range(5)
MAX_TEXT_CHARS = 4 << 10
"""Characters of a text that are told; as JSON, two of them fit the socket's buffer whatever they are."""
MAX_MESSAGE_BYTES = 1 << 17
"""Bytes that no saying exceeds."""


def receive_all(channel: socket.socket, max_bytes: int) -> tuple[list[bytes], bool]:
    """All words that have come, of at most `size` bytes each; and whether more can come."""
    words: list[bytes] = []
    while True:
        try:
            word = channel.recv(max_bytes, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return words, True
        except ConnectionResetError:
            continue  # told once, when it died with words of ours unread; its own last words come behind that
        except OSError:
            return words, False
        if not word:
            return words, False
        words.append(word)


def decode_texts(message: bytes) -> tuple[str, str]:
    """The texts of a FAILED, LARGE or UNFIT: what happened in a line, and the traceback (or empty)."""
    import json

    line, told = json.loads(message[CHILD_MESSAGE.size :])
    return line, told
