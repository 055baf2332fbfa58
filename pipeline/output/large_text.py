"""Output and stderr of large results, which are in files: read in chunks, and encoded chunk by chunk.

Memory use does not depend on their size. Each step is short, so the event loop can do other things between two.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterator

from pipeline.model.results import LargeContent, LargeResult

CHUNK_BYTES = 3 << 18
"""Bytes that are read at once; a multiple of 3, so that base64 of chunks is that of the whole."""
SHOWN_STDERR_BYTES = 1 << 20
"""Bytes of a large stderr that a terminal shows; the middle of a longer one is left out."""


class LargeText:
    """One part of the content of a large result: bytes `start` to `end`."""

    def __init__(self, content: LargeContent, start: int, end: int) -> None:
        self._content, self._start, self._end = content, start, end

    def __len__(self) -> int:
        return self._end - self._start

    def read_all(self) -> bytes:
        """Return everything, in memory. Raises OSError."""
        return self._content.read(self._start, len(self))

    def skip(self, size: int) -> LargeText:
        """Return the text without its first `size` bytes."""
        return LargeText(self._content, min(self._start + size, self._end), self._end)

    def chunks(self) -> Iterator[bytes]:
        """Yield everything in chunks. Raises OSError."""
        for start in range(self._start, self._end, CHUNK_BYTES):
            yield self._content.read(start, min(CHUNK_BYTES, self._end - start))

    def shortened_chunks(self) -> Iterator[bytes]:
        """Yield whole lines from both ends, and between them a line that says how much is left out."""
        half = SHOWN_STDERR_BYTES // 2
        if len(self) <= 2 * half:
            yield from self.chunks()
            return
        head, tail = self._content.read(self._start, half), self._content.read(self._end - half, half)
        head = head[: head.rfind(b"\n") + 1] or head
        tail = tail[tail.find(b"\n") + 1 :] or tail
        left_out = len(self) - len(head) - len(tail)
        newline = b"" if head.endswith(b"\n") else b"\n"
        note = f"[pipe: {left_out:,} bytes of stderr are not shown; --results DIR or -o FILE.jsonl keeps all of it]\n"
        yield head + newline + note.encode() + tail


Text = bytes | LargeText


def content_texts(result: LargeResult) -> tuple[LargeText, LargeText]:
    """Return output and stderr of a large result."""
    assert result.content
    output_size, stderr_size = result.large_sizes
    size = output_size + stderr_size
    return LargeText(result.content, 0, output_size), LargeText(result.content, output_size, size)


def iter_chunks(text: Text) -> Iterator[bytes]:
    return iter([text]) if isinstance(text, bytes) else text.chunks()


def iter_json_field(name: str, text: Text) -> Iterator[bytes]:
    """Yield a JSON field: text or, if it is not UTF-8, base64 under another name. Some pieces are empty."""
    import json  # as in formats

    is_utf8, decoder = True, getincrementaldecoder("utf-8")()
    for chunk in iter_chunks(text):
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError:
            is_utf8 = False
            break
        yield b""
    if not is_utf8 or decoder.getstate()[0]:
        yield from _iter_base64_field(name, text)
        return
    yield f'"{name}": "'.encode()
    decoder.reset()
    for chunk in iter_chunks(text):
        yield json.dumps(decoder.decode(chunk), ensure_ascii=False)[1:-1].encode()
    yield b'"'


def _iter_base64_field(name: str, text: Text) -> Iterator[bytes]:
    from base64 import b64encode

    yield f'"{name}_base64": "'.encode()
    for chunk in iter_chunks(text):
        yield b64encode(chunk)
    yield b'"'


def iter_csv_field(text: Text) -> Iterator[bytes]:
    """Yield a field in quotes."""
    yield b'"'
    for chunk in iter_chunks(text):
        yield chunk.replace(b'"', b'""')
    yield b'"'
