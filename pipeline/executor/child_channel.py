"""Shared memory and socket messages between the worker and its warm processes.

The worker writes a batch into shared memory and announces it over the socket. The process writes each task's output
and then stores the end of the output, which publishes the task.

Invariants:
  - the worker can read finished tasks at any time, even while the process is in a C call, or is dead;
  - the first task without an end is the running one;
  - the last messages of a process that dies are received;
  - nothing waits.

    ends (uint32 a task) | start flags (a byte a task, 0: do not start) | records | output, up to the end of the memory
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections.abc import Iterable, Iterator

from pipeline.model.option_values import HaltEvent

MIB = 1 << 20

RESERVED_OUTPUT_BYTES = MIB  # always free for output; the task that exceeds it is the last of its batch
MAX_RESULT_BYTES = 1 << 30  # of a single task
MAX_IDLE_BYTES = 8 * MIB  # a larger memory is shrunk after its batch

BATCH_HEADER = struct.Struct("<BIQBQIHBBBB")
"""To the process: shared memory, tasks, bytes of records, terminator, first task, attempt, slot (from 1), shape,
whether metrics are collected, halt event, and whether this event closes the gate. The name of the run follows."""
MAX_RUN_NAME_BYTES = 64
SHAPES = ("line", "columns", "packed", "json")
HALT_EVENTS: tuple[HaltEvent, ...] = ("", "fail", "success", "done")
NO_TERMINATOR = 255  # instead of a terminator: the records are one task (0xFF never ends a record)

READY, FAILED, FINISHED, INIT_FAILED, TOO_LARGE = range(5)
CHILD_MESSAGE = struct.Struct("<BId")
"""From the process: kind, index of the task, seconds. Texts follow where there are any; after FINISHED the
RESOURCE_USAGE follows if metrics are collected."""
RESOURCE_USAGE = struct.Struct("<dQ")  # CPU seconds, and the most memory that the process has had, in bytes
MAX_TEXT_CHARS = 4 << 10  # of a text; as JSON, two of them fit in the socket's buffer, whatever the characters
MAX_MESSAGE_BYTES = 1 << 17

_END_FORMAT = struct.Struct("<I")
_UNFINISHED_END = 0xFFFFFFFF


def receive_all(channel: socket.socket, max_bytes: int) -> tuple[list[bytes], bool]:
    """Return all messages that have arrived, and whether more can come."""
    messages: list[bytes] = []
    while True:
        try:
            message = channel.recv(max_bytes, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return messages, True
        except ConnectionResetError:
            continue  # reported once, when the peer died with unread messages; its own last messages follow
        except OSError:
            return messages, False
        if not message:
            return messages, False
        messages.append(message)


def decode_texts(message: bytes) -> tuple[str, str]:
    """Return the texts of FAILED, TOO_LARGE or INIT_FAILED: an error line, and the traceback or an empty text."""
    import json

    line, trace = json.loads(message[CHILD_MESSAGE.size :])
    return line, trace


class HaltGate:
    """Shared memory of all processes of a worker: a flag of each slot, set by its process, and one of the worker.

    While any is set, no process starts a task of a run with `--halt`.
    """

    __slots__ = ("_flags",)

    def __init__(self, slots: int) -> None:
        self._flags = mmap.mmap(-1, slots + 1)

    @property
    def is_closed(self) -> bool:
        return self._flags.find(b"\1", 0) >= 0

    def set(self, slot: int, *, is_closed: bool) -> None:
        """Set the flag of a slot, counted from 1, or that of the worker."""
        self._flags[slot] = is_closed

    def filter(self, start_flags: Iterable[int]) -> Iterator[int]:
        """Yield the start flags until the gate is closed. That ends the batch: no later task of it may start."""
        find = self._flags.find
        for flag in start_flags:
            if find(b"\1", 0) >= 0:
                return
            yield flag


class SharedBatch:
    """One anonymous shared memory, used by both sides. `descriptor` is passed to the warm process."""

    __slots__ = ("_count", "_output_offset", "descriptor", "map")

    def __init__(self, descriptor: int = -1) -> None:
        """Map the memory of `descriptor`, or create one."""
        if descriptor < 0:
            descriptor = os.memfd_create("pipe-batch", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, RESERVED_OUTPUT_BYTES)
        self.descriptor = descriptor
        self.map = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        self._count = self._output_offset = 0

    def set_layout(self, count: int, size: int) -> int:
        """Set the layout of a batch of `count` tasks in `size` bytes; return the offset of the records."""
        offset = 5 * count
        self._count, self._output_offset = count, offset + size
        return offset

    # --- worker ---

    def write_batch(self, count: int, body: bytes) -> None:
        """Write the next batch into a memory that the process does not use."""
        offset = self.set_layout(count, len(body))
        self._grow_to(self._output_offset + RESERVED_OUTPUT_BYTES)
        self.map[:offset] = b"\xff" * offset
        self.map[offset : self._output_offset] = body

    def stop_after_current(self) -> None:
        """Let the process start no further task of this batch."""
        self.map[4 * self._count : 5 * self._count] = bytes(self._count)

    def finished_count(self) -> int:
        """Return how many tasks have ended: the index of the running or next one."""
        if self._count and self._read_end(self._count - 1) != _UNFINISHED_END:
            return self._count
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._read_end(middle) == _UNFINISHED_END:
                high = middle
            else:
                low = middle + 1
        return low

    def read_outputs(self, low: int, high: int) -> tuple[bytes, bytes]:
        """Return the joined outputs of the finished tasks from `low` to `high`, and their ends in it, as uint32."""
        start, stop = self._read_end(low - 1) if low else 0, self._read_end(high - 1)
        if self._output_offset + stop > len(self.map):
            self.remap()
        ends = self.map[4 * low : 4 * high]
        if start:
            # no end is below `start`, so one long subtraction is enough: no borrow leaves its uint32
            shift = int.from_bytes(_END_FORMAT.pack(start) * (high - low), "little")
            ends = (int.from_bytes(ends, "little") - shift).to_bytes(len(ends), "little")
        return self.map[self._output_offset + start : self._output_offset + stop], ends

    def shrink(self) -> None:
        """Free the memory of a large batch. The process must not use it."""
        if len(self.map) > MAX_IDLE_BYTES or os.fstat(self.descriptor).st_size > MAX_IDLE_BYTES:
            os.ftruncate(self.descriptor, MAX_IDLE_BYTES)
            self.remap()

    def close(self) -> None:
        """Unmap the memory; it is freed when the process has closed it, too."""
        if self.descriptor >= 0:
            self.map.close()
            os.close(self.descriptor)
            self.descriptor = -1

    def _read_end(self, index: int) -> int:
        end: int = _END_FORMAT.unpack_from(self.map, 4 * index)[0]
        return end

    # --- warm process ---

    def open_records(self, offset: int) -> memoryview:
        """Return the records, which start at `offset`, and position the map where the output starts."""
        self.remap()
        self.map.seek(self._output_offset)
        return memoryview(self.map)[offset : self._output_offset]

    def ends(self) -> memoryview:
        """Return the ends of the tasks' outputs, writable."""
        return memoryview(self.map)[: 4 * self._count].cast("I")

    def start_flags(self) -> memoryview:
        """Return the flags of tasks that may be started, to be read before each."""
        return memoryview(self.map)[4 * self._count : 5 * self._count]

    def append_output(self, index: int, offset: int, data: bytes) -> None:
        """Write and publish the output of a task, which starts at `offset`, whatever its size."""
        self._grow_to(self._output_offset + offset + len(data))
        start = self._output_offset + offset
        self.map[start : start + len(data)] = data
        _END_FORMAT.pack_into(self.map, 4 * index, offset + len(data))

    # --- both ---

    def _grow_to(self, size: int) -> None:
        if size > len(self.map):
            # pages are whole anyway, and a reserve saves the next growth
            os.ftruncate(self.descriptor, (size + size // 8) | 0xFFF)
            self.remap()

    def remap(self) -> None:
        """Map all of the memory, whose size the other side may have changed."""
        size = os.fstat(self.descriptor).st_size
        if size != len(self.map):
            # the old map is not closed: views may exist, and it is freed with the last of them
            self.map = mmap.mmap(self.descriptor, size)
