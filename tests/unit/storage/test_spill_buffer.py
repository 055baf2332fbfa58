"""The spill: each result is given back once and unchanged, from memory and from disk."""

from __future__ import annotations

import errno
import os
import random
import struct
import time
import tracemalloc
from itertools import count
from typing import TYPE_CHECKING

import pytest

from pipeline.model.errors import InternalError, UsageError
from pipeline.model.events import Committed, DiscardBelow, FetchedResult, FetchSpilled, SpillResult, Waiting
from pipeline.model.messages import Result, TaskFailure
from pipeline.model.ranges import RangeSet
from pipeline.model.results import slice_result
from pipeline.model.state_machine import NEVER, Message, Port
from pipeline.model.structs import replace
from pipeline.storage import disk_io, spill_buffer, spill_files
from pipeline.storage.spill_buffer import MEMORY_LIMIT_BYTES, MERGE_LIMIT_BYTES, RESULT_OVERHEAD_BYTES, SpillBuffer
from tests.support.faulty_syscalls import FaultySyscalls

if TYPE_CHECKING:
    from pathlib import Path


def result(first: int, outputs: list[bytes], errors: bytes = b"", failures: tuple[TaskFailure, ...] = ()) -> Result:
    """Return a result of one task per output."""
    ends, end = [], 0
    for output in outputs:
        end += len(output)
        ends.append(end)
    packed = struct.pack(f"<{len(ends)}I", *ends)
    return Result("run", "worker", first, len(outputs), b"".join(outputs), packed, errors, failures)


def parts(found: Result) -> list[bytes]:
    """Return the output of each task."""
    ends = [end for (end,) in struct.iter_unpack("<I", found.output_ends)]
    return [found.output[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def store(spill: SpillBuffer, number: int, stored: Result) -> None:
    """Spill one result."""
    spill.send(Port.SPILL, SpillResult(number, stored))
    assert spill.deadline == 0.0
    assert spill.receive() == [Committed("spill", number)]
    assert spill.deadline == NEVER


def fetch(spill: SpillBuffer, first: int) -> Result:
    """Fetch one result."""
    spill.send(Port.SPILL, FetchSpilled(first))
    (answer,) = spill.receive()
    assert isinstance(answer, FetchedResult)
    assert answer.result.first == first
    return answer.result


def open_files(folder: Path) -> int:
    """Return how many files without a name this process has open in `folder`."""
    targets = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return sum(target.startswith(str(folder)) for target in targets)


def test_result_is_fetched_unchanged(tmp_path: Path) -> None:
    spill = SpillBuffer(str(tmp_path))
    stored = result(5, [b"a\n", b"", b"b"], b"oh", (TaskFailure(6, "exit", 3, "exited with 3", "", 0),))
    store(spill, 1, stored)
    assert spill.size > 0
    assert fetch(spill, 5) == stored
    assert spill.size == 0
    assert open_files(tmp_path) == 0


def test_committed_is_sent_once_for_all_results(tmp_path: Path) -> None:
    spill = SpillBuffer(str(tmp_path))
    for number in range(5):
        spill.send(Port.SPILL, SpillResult(number, result(number * 10, [b"x"])))
    assert spill.receive() == [Committed("spill", 4)]
    assert spill.receive() == []


def test_large_result_is_fetched_from_disk(tmp_path: Path) -> None:
    spill = SpillBuffer(str(tmp_path))
    failures = (
        TaskFailure(8, "exception", 1, "lone \udcff, nul \0, umlaut \xfc", "tail\n", 2),
        TaskFailure(9, "signal", 11, "", "", 0),
    )
    stored = replace(
        result(8, [os.urandom(MEMORY_LIMIT_BYTES), b"", b"tail"], b"errors\xff", failures),
        attempt=3,
        failed_records=b"a\xff",
    )
    store(spill, 1, stored)
    assert open_files(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    assert fetch(spill, 8) == stored
    assert spill.size == 0
    assert open_files(tmp_path) == 0


@pytest.mark.parametrize("seed", range(6))
def test_shuffled_results_are_fetched_in_order(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many results, shuffled within a window, are drained from time to time up to the first gap."""
    rng = random.Random(seed)
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", rng.choice([0, 20_000, 200_000]))
    monkeypatch.setattr(spill_files, "SEGMENT_BYTES", rng.choice([1, 50_000]))
    monkeypatch.setattr(spill_buffer, "MERGE_LIMIT_BYTES", rng.choice([1, 3000, MERGE_LIMIT_BYTES]))
    outputs = [rng.randbytes(rng.choice([0, 1, 30, 500])) for _ in range(3000)]
    pieces, first = [], 0
    while first < len(outputs):
        count = rng.choice([1, 1, 1, 7])
        failures = tuple(
            TaskFailure(task, "exit", 1, "x", "", 0)
            for task in range(first, min(first + count, len(outputs)))
            if task % 5 == 0
        )
        pieces.append(result(first, outputs[first : first + count], b"%d " % first, failures))
        first += count
    pieces.sort(key=lambda piece: piece.first + rng.uniform(0, 400))
    spill = SpillBuffer(str(tmp_path))
    stored: set[int] = set()
    low, found, errors, failed_tasks = 0, [], b"", []
    for number, piece in enumerate(pieces):
        store(spill, number, piece)
        stored.update(range(piece.first, piece.first + piece.count))
        while low in stored and (rng.random() < 0.5 or piece is pieces[-1]):
            back = fetch(spill, low)
            assert back.count == len(parts(back))
            found += parts(back)
            errors += back.stderr
            failed_tasks += [failure.task for failure in back.failures]
            low += back.count
    assert found == outputs
    assert errors == b"".join(b"%d " % piece.first for piece in sorted(pieces, key=lambda piece: piece.first))
    assert failed_tasks == list(range(0, len(outputs), 5))
    assert spill.size == 0
    assert open_files(tmp_path) == 0


def test_small_results_are_merged_in_memory(tmp_path: Path) -> None:
    """Two workers send ranges of single tasks in turn: neighbours arrive apart and are merged."""
    spill = SpillBuffer(str(tmp_path))
    total = 30_000
    tracemalloc.start()
    for number in range(total):
        task = number // 200 * 200 + number % 2 * 100 + number % 200 // 2 + 1
        store(spill, number, result(task, [b"x"]))
    used, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MEMORY_LIMIT_BYTES
    assert used < 2 * MEMORY_LIMIT_BYTES
    assert used / total < RESULT_OVERHEAD_BYTES / 4
    low = 1
    while low <= total:
        back = fetch(spill, low)
        assert back.output == b"x" * back.count
        low += back.count
    assert spill.size == 0


def test_fetched_results_free_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_files, "SEGMENT_BYTES", 1 << 20)
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 0)
    spill = SpillBuffer(str(tmp_path))
    for first in range(40):
        store(spill, first, result(first, [b"y" * (256 << 10)]))
        if first >= 8:
            fetch(spill, first - 8)
        assert open_files(tmp_path) <= 4
    assert spill.size > 8 * (256 << 10)
    spill.close()
    spill.close()
    assert open_files(tmp_path) == 0


def test_fetch_of_unknown_result_is_internal_error(tmp_path: Path) -> None:
    spill = SpillBuffer(str(tmp_path))
    store(spill, 1, result(5, [b"a", b"b"]))
    fetch(spill, 5)
    with pytest.raises(InternalError, match="task 5"):
        fetch(spill, 5)


def test_failed_write_is_reported(tmp_path: Path) -> None:
    spill = SpillBuffer(str(tmp_path / "nowhere"))
    spill.send(Port.SPILL, SpillResult(3, result(1, [b"z" * (MEMORY_LIMIT_BYTES + 1)])))
    (answer,) = spill.receive()
    assert isinstance(answer, Committed)
    assert answer.number < 3
    assert "No such file or directory" in answer.failure


def test_failures_of_different_attempts_are_not_merged(tmp_path: Path) -> None:
    spill = SpillBuffer(str(tmp_path))
    first = result(1, [b"a"])
    second = replace(result(2, [b"b"], failures=(TaskFailure(2, "exit", 1, "x", "", 0),)), attempt=2)
    third = replace(second, first=3, failures=(TaskFailure(3, "exit", 1, "x", "", 0),), worker="other")
    for number, item in enumerate((first, second, third)):
        store(spill, number, item)
    assert [fetch(spill, task) for task in (1, 2, 3)] == [first, second, third]


TIMEOUT_SECONDS = 30.0
LIMITS = [
    (spill_buffer, "MEMORY_LIMIT_BYTES", [0, 300, 3000, 100_000]),
    (spill_buffer, "MERGE_LIMIT_BYTES", [1, 3000, MERGE_LIMIT_BYTES]),
    (spill_files, "SEGMENT_BYTES", [1, 2000, 1 << 20]),
    (spill_files, "LOG_BYTES", [1, 2000, 1 << 20]),
]


def pieces(rng: random.Random, tasks: int) -> list[Result]:
    """Return results of the tasks from 1, each with its number as output, in the order of arrival."""
    found, first = [], 1
    while first <= tasks:
        size = rng.choice([1, 1, 3, 9])
        outputs = [b"%d" % task * rng.choice([1, 20]) for task in range(first, first + size)]
        found.append(result(first, outputs, b"%d " % first))
        first += size
    return sorted(found, key=lambda piece: piece.first + rng.uniform(0, 60))


def outputs_by_task(results: list[Result]) -> dict[int, bytes]:
    """Return the output of each task."""
    return {item.first + number: part for item in results for number, part in enumerate(parts(item))}


def fetch_all(spill: SpillBuffer, ranges: list[tuple[int, int]]) -> list[Result]:
    """Fetch all results in these ranges, in order."""
    found = []
    for low, high in ranges:
        first = low
        while first < high:
            found.append(fetch(spill, first))
            first += found[-1].count
    return found


@pytest.mark.parametrize("seed", range(12))
def test_durable_spill_survives_process(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some results are fetched and discarded, some only fetched; then the process is killed, twice."""
    rng = random.Random(seed)
    for module, name, sizes in LIMITS:
        monkeypatch.setattr(module, name, rng.choice(sizes))
    folder = tmp_path / "spill"
    spill = SpillBuffer(durable_folder=str(folder))
    results = pieces(rng, 300)
    half = len(results) // 2
    for number, piece in enumerate(results[:half]):
        store(spill, number, piece)
        if rng.random() < 0.1:
            spill.sync()
    end = min(piece.first for piece in results[half:])
    early = fetch_all(spill, [(1, end)])
    done = early[rng.randrange(len(early))].first if early else 1
    spill.send(Port.SPILL, DiscardBelow(done))
    spill.receive()
    stored = {task: output for task, output in outputs_by_task(results[:half]).items() if task >= done}
    for _ in range(2):
        spill.close()
        low = rng.choice(sorted(stored))
        stored = {task: output for task, output in stored.items() if task >= low}
        spill = SpillBuffer(durable_folder=str(folder))
        spill.restore(ranges_of(stored))
    for number, part in enumerate(slice_above(low, results[half:]), half):
        store(spill, number, part)
        stored |= outputs_by_task([part])
    assert outputs_by_task(fetch_all(spill, list(ranges_of(stored)))) == stored
    spill.send(Port.SPILL, DiscardBelow(max(stored) + 1))
    assert list(folder.iterdir()) == []
    assert spill.size == 0
    spill.remove()
    assert list(tmp_path.iterdir()) == []


def slice_above(low: int, results: list[Result]) -> list[Result]:
    """Return the parts from task `low` on."""
    spans = [(item, max(item.first, low), item.first + item.count) for item in results]
    return [part for item, start, end in spans if start < end for part in slice_result(item, [(start, end)])]


def ranges_of(tasks: dict[int, bytes]) -> tuple[tuple[int, int], ...]:
    """Return the ranges of these tasks."""
    return RangeSet((task, task + 1) for task in tasks).ranges()


def test_fetched_result_stays_on_disk_until_discarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays even when the rest of its log has moved to a segment."""
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 3000)
    spill = SpillBuffer(durable_folder=str(tmp_path))
    first = result(1, [b"one"])
    store(spill, 0, first)
    assert fetch(spill, 1) == first
    for number in range(1, 20):
        store(spill, number, result(number * 3, [b"x" * 300]))
    spill.close()
    reopened = SpillBuffer(durable_folder=str(tmp_path))
    reopened.restore(((1, 2), (30, 31)))
    assert [fetch(reopened, 1), fetch(reopened, 30)] == [first, result(30, [b"x" * 300])]
    reopened.send(Port.SPILL, DiscardBelow(31))
    assert list(tmp_path.iterdir()) == []


def test_log_is_removed_when_results_are_in_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 50_000)
    spill = SpillBuffer(durable_folder=str(tmp_path))
    for number in range(2000):
        store(spill, number, result(number * 2 + 1, [b"x" * 500]))
        on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
        assert on_disk < 2 * spill.size + 200 * (number + 1) + 50_000
    assert on_disk < spill.size + 200 * 2000 + 50_000


def test_missing_or_damaged_result_is_refused(tmp_path: Path) -> None:
    spill = SpillBuffer(durable_folder=str(tmp_path))
    for number in range(3):
        store(spill, number, result(number * 10, [b"text"]))
    spill.close()
    (log,) = tmp_path.iterdir()
    content = log.read_bytes()
    for size in range(len(content)):
        log.write_bytes(content[:size])
        with pytest.raises(UsageError, match=r"missing the result of task (1|11|21)$"):
            SpillBuffer(durable_folder=str(tmp_path)).restore(((0, 1), (10, 11), (20, 21)))
        assert log.read_bytes() == content[:size]
    log.write_bytes(content.replace(b"text", b"tent", 1))
    with pytest.raises(UsageError, match="is damaged at byte"):
        SpillBuffer(durable_folder=str(tmp_path)).restore(((20, 21),))
    log.write_bytes(content[:-1])
    SpillBuffer(durable_folder=str(tmp_path)).restore(((10, 11),))
    SpillBuffer(durable_folder=str(tmp_path)).restore(())
    assert list(tmp_path.iterdir()) == []


def receive_all(spill: SpillBuffer, number: int) -> list[Message]:
    """Return the messages up to the commit of result `number`, or a failure."""
    answers: list[Message] = []
    limit = time.monotonic() + TIMEOUT_SECONDS
    while not any(
        isinstance(message, Committed) and (message.number >= number or message.failure) for message in answers
    ):
        assert time.monotonic() < limit, answers
        answers += spill.receive()
    return answers


@pytest.mark.parametrize("durable", [False, True])
def test_full_disk_is_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, durable: bool) -> None:
    monkeypatch.setattr(disk_io, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 20_000)
    syscalls = FaultySyscalls()
    spill = SpillBuffer(str(tmp_path), durable_folder=str(tmp_path / "spill") if durable else "", syscalls=syscalls)
    results = [result(number * 2 + 1, [b"%d" % number * 900]) for number in range(60)]
    for number, piece in enumerate(results[:20]):
        store(spill, number, piece)
    syscalls.is_full = True
    answers: list[Message] = []
    for number, piece in enumerate(results[20:], 20):
        spill.send(Port.SPILL, SpillResult(number, piece))
        answers += spill.receive()
    (waiting,) = [message for message in answers if isinstance(message, Waiting)]
    assert waiting.detail.endswith(": No space left on device")
    assert max([19, *(message.number for message in answers if isinstance(message, Committed))]) < 59
    spill.send(Port.SPILL, FetchSpilled(results[59].first))
    assert [message for message in spill.receive() if isinstance(message, FetchedResult)] == [
        FetchedResult(results[59])
    ]
    syscalls.is_full = False
    assert receive_all(spill, 59) == [Waiting("disk", active=False), Committed("spill", 59)]
    assert [fetch(spill, piece.first) for piece in results[:59]] == results[:59]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_any_failing_call_keeps_committed_results(tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_io, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 4000)
    results = [result(number * 2 + 1, [b"%d" % number * 300]) for number in range(12)]
    for failing_call in count(1):
        folder = str(tmp_path / f"{failing_call}")
        syscalls = FaultySyscalls(failing_call, error)
        spill = SpillBuffer(durable_folder=folder, syscalls=syscalls)
        committed, failed = -1, False
        for number, piece in enumerate(results):
            spill.send(Port.SPILL, SpillResult(number, piece))
            answer = receive_all(spill, number)[-1] if not failed else None
            if isinstance(answer, Committed):
                committed, failed = answer.number, failed or bool(answer.failure)
            try:
                spill.sync()
            except OSError:
                break
        reopened = SpillBuffer(durable_folder=folder)
        spill.close()
        reopened.restore(tuple((piece.first, piece.first + 1) for piece in results[: committed + 1]))
        assert [fetch(reopened, piece.first) for piece in results[: committed + 1]] == results[: committed + 1]
        if not syscalls.has_failed:
            assert committed == 11
            assert failing_call > 20
            return


def test_restore_merges_results_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 200_000)
    spill = SpillBuffer(durable_folder=str(tmp_path))
    for number in range(5000):
        store(spill, number, result(1 + number // 2 + number % 2 * 3000, [b"x"]))
    spill.close()
    reopened = SpillBuffer(durable_folder=str(tmp_path))
    tracemalloc.start()
    reopened.restore(((1, 2501), (3001, 5501)))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 500_000
    assert sum(item.count for item in fetch_all(reopened, [(1, 2501), (3001, 5501)])) == 5000


def test_synced_log_is_removed_after_segments_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 3000)
    syscalls = FaultySyscalls()
    spill = SpillBuffer(durable_folder=str(tmp_path), syscalls=syscalls)
    removed_count = 0
    spill.sync()
    for number in range(40):
        logs = list(tmp_path.glob("*.log"))
        store(spill, number, result(number * 2 + 1, [b"x" * 300]))
        if any(not log.exists() for log in logs):
            removed_count += 1
            assert syscalls.calls[-1] == "sync"
    assert removed_count > 3


def test_discarded_results_free_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_files, "LOG_BYTES", 2000)
    spill = SpillBuffer(durable_folder=str(tmp_path))
    for number in range(300):
        store(spill, number, result(number * 2, [b"x" * 300]))
        if number >= 5:
            fetch(spill, number * 2 - 10)
            spill.send(Port.SPILL, DiscardBelow(number * 2 - 10))
            spill.receive()
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8000


def test_full_disk_is_retried_rarely(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    spill = SpillBuffer(durable_folder=str(tmp_path), syscalls=syscalls)
    syscalls.is_full = True
    for number in range(20):
        spill.send(Port.SPILL, SpillResult(number, result(number, [b"x"])))
        spill.receive()
    assert syscalls.calls.count("write") < 10  # one, unless the machine stalls for seconds
    assert time.monotonic() < spill.deadline < NEVER
