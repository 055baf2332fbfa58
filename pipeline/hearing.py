"""Reading all the words that a neighbour process has said over a socket pair, also when it has died since.

It loses no word and never waits. It does not know what the words mean.
"""

from __future__ import annotations

import socket


def heard(talk: socket.socket, size: int) -> tuple[list[bytes], bool]:
    """All words that have come, of at most `size` bytes each; and whether more can come."""
    words: list[bytes] = []
    while True:
        try:
            word = talk.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return words, True
        except ConnectionResetError:
            continue  # told once, when it died with words of ours unread; its own last words come behind that
        except OSError:
            return words, False
        if not word:
            return words, False
        words.append(word)
