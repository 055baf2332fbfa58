"""Shared memory and socket messages between executor and warm process.

An arena: the shared memory through which one batch goes to a warm child and its results come back.

The agent lays in a batch; the child writes each task's output and then stores the task's end. That store
publishes the task: the agent can take finished neighbours at any time, without the child's help, also when the child
is deep in a C call or dead, and the first task without an end is the one that runs, or ran. Nothing here waits.

    ends (uint32 a task) · go (a byte a task, 0: do not start it) · body · output, up to the end of the memory

What the agent and its warm children say to each other over a socket pair, and hearing a neighbour out.

A batch is announced by its sizes; the child says when it is ready, what failed and when it is through. No word is
lost when its speaker dies right after it, and nothing here waits.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct

KIB = 1 << 10
MIB = 1 << 20

UNFINISHED_END = 0xFFFFFFFF
RESERVED_OUTPUT_BYTES = MIB
"""Bytes of output that a batch always has room for; the task that passes it is the last of its batch."""
MAX_RESULT_BYTES = 1 << 30
"""Bytes of output a single task may have."""
MAX_IDLE_BYTES = 8 * MIB
"""An arena that grew larger than this is cut back after the batch."""

_END_FORMAT = struct.Struct("<I")


class SharedBatch:
    """One anonymous shared memory, seen from either side. `descriptor` is what a child needs to see it, too."""

    __slots__ = ("_count", "_output_offset", "descriptor", "map")

    def __init__(self, descriptor: int = -1) -> None:
        """Look into the memory behind `descriptor`, or make a new one."""
        if descriptor < 0:
            descriptor = os.memfd_create("pipe-arena", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, RESERVED_OUTPUT_BYTES)
        self.descriptor = descriptor
        self.map = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        self._count = self._output_offset = 0

    def set_layout(self, count: int, size: int) -> int:
        """Where things are in a batch of `count` tasks in `size` bytes, for both sides; the offset of the body."""
        body = 5 * count
        self._count, self._output_offset = count, body + size
        return body

    # --- the agent's side ---

    def write_batch(self, count: int, body: bytes) -> None:
        """Lay in the next batch. The child must be idle."""
        at = self.set_layout(count, len(body))
        self._grow_to(self._output_offset + RESERVED_OUTPUT_BYTES)
        self.map[:at] = b"\xff" * at
        self.map[at : self._output_offset] = body

    def stop_after_current(self) -> None:
        """The child shall start no other task of this batch."""
        self.map[4 * self._count : 5 * self._count] = bytes(self._count)

    def finished_count(self) -> int:
        """How many tasks have ended: all before this one, which runs, or is next."""
        if self._count and self._read_end(self._count - 1) != UNFINISHED_END:
            return self._count
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._read_end(middle) == UNFINISHED_END:
                high = middle
            else:
                low = middle + 1
        return low

    def read_outputs(self, low: int, high: int) -> tuple[bytes, bytes]:
        """What the finished tasks `low` to `high` of the batch wrote, joined; and their ends in that, as uint32."""
        start, stop = self._read_end(low - 1) if low else 0, self._read_end(high - 1)
        if self._output_offset + stop > len(self.map):
            self.remap()
        ends = self.map[4 * low : 4 * high]
        if start:
            # no end is below `start`, so one long subtraction serves them all: no borrow leaves its uint32
            step = int.from_bytes(_END_FORMAT.pack(start) * (high - low), "little")
            ends = (int.from_bytes(ends, "little") - step).to_bytes(len(ends), "little")
        return self.map[self._output_offset + start : self._output_offset + stop], ends

    def shrink(self) -> None:
        """Give back what a large batch took. The child must be idle."""
        if len(self.map) > MAX_IDLE_BYTES or os.fstat(self.descriptor).st_size > MAX_IDLE_BYTES:
            os.ftruncate(self.descriptor, MAX_IDLE_BYTES)
            self.remap()

    def close(self) -> None:
        """Let go; the memory is freed when the child has, too."""
        if self.descriptor >= 0:
            self.map.close()
            os.close(self.descriptor)
            self.descriptor = -1

    def _read_end(self, index: int) -> int:
        """The end of a task's output, or NOT_YET."""
        end: int = _END_FORMAT.unpack_from(self.map, 4 * index)[0]
        return end

    # --- the child's side ---

    def open_records(self, offset: int) -> memoryview:
        """The batch's records, laid at `at`. Positions the map where output starts."""
        self.remap()
        self.map.seek(self._output_offset)
        return memoryview(self.map)[offset : self._output_offset]

    def ends(self) -> memoryview:
        """The tasks' ends, to be stored into."""
        return memoryview(self.map)[: 4 * self._count].cast("I")

    def start_flags(self) -> memoryview:
        """Which tasks may be started, to be read before each."""
        return memoryview(self.map)[4 * self._count : 5 * self._count]

    def append_output(self, index: int, offset: int, data: bytes) -> None:
        """Write and publish the output of task `index`, which starts at `place`, whatever its size."""
        self._grow_to(self._output_offset + offset + len(data))
        at = self._output_offset + offset
        self.map[at : at + len(data)] = data
        _END_FORMAT.pack_into(self.map, 4 * index, offset + len(data))

    # --- both ---

    def _grow_to(self, size: int) -> None:
        """Make the memory at least this large; pages are whole anyway, and a little more saves the next growing."""
        if size > len(self.map):
            os.ftruncate(self.descriptor, (size + size // 8) | 0xFFF)
            self.remap()

    def remap(self) -> None:
        """See all of the memory, whose size the other side may have changed."""
        size = os.fstat(self.descriptor).st_size
        if size != len(self.map):
            # the old map is not closed but forgotten: views on it may be alive, and it goes with the last
            self.map = mmap.mmap(self.descriptor, size)


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
