"""The spill: what is kept comes back once and whole, from memory and from disk."""

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
from pipeline.storage import disk_io as kernels
from pipeline.storage import spill_buffer, spill_files
from pipeline.storage.spill_buffer import MEMORY_LIMIT_BYTES, MERGE_LIMIT_BYTES, RESULT_OVERHEAD_BYTES, SpillBuffer
from tests.support.faulty_syscalls import FaultySyscalls

if TYPE_CHECKING:
    from pathlib import Path


def result(first: int, outputs: list[bytes], errors: bytes = b"", notes: tuple[TaskFailure, ...] = ()) -> Result:
    """A result of as many tasks as there are outputs."""
    ends, end = [], 0
    for output in outputs:
        end += len(output)
        ends.append(end)
    packed = struct.pack(f"<{len(ends)}I", *ends)
    return Result("run", "worker", first, len(outputs), b"".join(outputs), packed, errors, notes)


def parts(found: Result) -> list[bytes]:
    """The output of each task."""
    ends = [end for (end,) in struct.iter_unpack("<I", found.output_ends)]
    return [found.output[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def keep(spill: SpillBuffer, number: int, kept: Result) -> None:
    """Give it one result."""
    spill.send(Port.SPILL, SpillResult(number, kept))
    assert spill.deadline == 0.0
    assert spill.receive() == [Committed("spill", number)]
    assert spill.deadline == NEVER


def fetch(spill: SpillBuffer, first: int) -> Result:
    """Take one back."""
    spill.send(Port.SPILL, FetchSpilled(first))
    (answer,) = spill.receive()
    assert isinstance(answer, FetchedResult)
    assert answer.result.first == first
    return answer.result


def open_files(folder: Path) -> int:
    """How many (unnamed) files this process has open in `folder`."""
    targets = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return sum(target.startswith(str(folder)) for target in targets)


def test_one_result_comes_back_as_it_was(tmp_path: Path) -> None:
    spill = SpillBuffer(str(tmp_path))
    kept = result(5, [b"a\n", b"", b"b"], b"oh", (TaskFailure(6, "exit", 3, "exited with 3", "", 0),))
    keep(spill, 1, kept)
    assert spill.size > 0
    assert fetch(spill, 5) == kept
    assert spill.size == 0
    assert open_files(tmp_path) == 0


def test_spilled_is_said_once_for_all_kept(tmp_path: Path) -> None:
    spill = SpillBuffer(str(tmp_path))
    for number in range(5):
        spill.send(Port.SPILL, SpillResult(number, result(number * 10, [b"x"])))
    assert spill.receive() == [Committed("spill", 4)]
    assert spill.receive() == []


def test_a_big_result_goes_to_disk_and_comes_back(tmp_path: Path) -> None:
    spill = SpillBuffer(str(tmp_path))
    notes = (
        TaskFailure(8, "exception", 1, "lone \udcff, nul \0, umlaut \xfc", "tail\n", 2),
        TaskFailure(9, "signal", 11, "", "", 0),
    )
    kept = replace(
        result(8, [os.urandom(MEMORY_LIMIT_BYTES), b"", b"tail"], b"errors\xff", notes),
        attempt=3,
        failed_records=b"a\xff",
    )
    keep(spill, 1, kept)
    assert open_files(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    assert fetch(spill, 8) == kept
    assert spill.size == 0
    assert open_files(tmp_path) == 0


@pytest.mark.parametrize("seed", range(6))
def test_any_order_comes_back_in_order(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many results, shuffled within a window, drained now and then up to the first gap."""
    rng = random.Random(seed)
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", rng.choice([0, 20_000, 200_000]))
    monkeypatch.setattr(spill_files, "SEGMENT_BYTES", rng.choice([1, 50_000]))
    monkeypatch.setattr(spill_buffer, "MERGE_LIMIT_BYTES", rng.choice([1, 3000, MERGE_LIMIT_BYTES]))
    outputs = [rng.randbytes(rng.choice([0, 1, 30, 500])) for _ in range(3000)]
    pieces, at = [], 0
    while at < len(outputs):
        count = rng.choice([1, 1, 1, 7])
        notes = tuple(
            TaskFailure(task, "exit", 1, "x", "", 0)
            for task in range(at, min(at + count, len(outputs)))
            if task % 5 == 0
        )
        pieces.append(result(at, outputs[at : at + count], b"%d " % at, notes))
        at += count
    pieces.sort(key=lambda piece: piece.first + rng.uniform(0, 400))
    spill = SpillBuffer(str(tmp_path))
    kept: set[int] = set()
    low, found, errors, noted = 0, [], b"", []
    for number, piece in enumerate(pieces):
        keep(spill, number, piece)
        kept.update(range(piece.first, piece.first + piece.count))
        while low in kept and (rng.random() < 0.5 or piece is pieces[-1]):
            back = fetch(spill, low)
            assert back.count == len(parts(back))
            found += parts(back)
            errors += back.stderr
            noted += [note.task for note in back.failures]
            low += back.count
    assert found == outputs
    assert errors == b"".join(b"%d " % piece.first for piece in sorted(pieces, key=lambda piece: piece.first))
    assert noted == list(range(0, len(outputs), 5))
    assert spill.size == 0
    assert open_files(tmp_path) == 0


@pytest.mark.untraced
def test_many_tiny_results_need_no_memory_each(tmp_path: Path) -> None:
    """Two workers, each with its own runs of single tasks, in turn: neighbours arrive apart and are merged."""
    spill = SpillBuffer(str(tmp_path))
    total = 30_000
    tracemalloc.start()
    for number in range(total):
        task = number // 200 * 200 + number % 2 * 100 + number % 200 // 2 + 1
        keep(spill, number, result(task, [b"x"]))
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


def test_space_is_free_again_while_something_is_always_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_files, "SEGMENT_BYTES", 1 << 20)
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 0)
    spill = SpillBuffer(str(tmp_path))
    for first in range(40):
        keep(spill, first, result(first, [b"y" * (256 << 10)]))
        if first >= 8:
            fetch(spill, first - 8)
        assert open_files(tmp_path) <= 4
    assert spill.size > 8 * (256 << 10)
    spill.close()
    spill.close()
    assert open_files(tmp_path) == 0


def test_what_was_not_kept_cannot_be_fetched(tmp_path: Path) -> None:
    spill = SpillBuffer(str(tmp_path))
    keep(spill, 1, result(5, [b"a", b"b"]))
    fetch(spill, 5)
    with pytest.raises(InternalError, match="task 5"):
        fetch(spill, 5)


def test_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    spill = SpillBuffer(str(tmp_path / "nowhere"))
    spill.send(Port.SPILL, SpillResult(3, result(1, [b"z" * (MEMORY_LIMIT_BYTES + 1)])))
    (answer,) = spill.receive()
    assert isinstance(answer, Committed)
    assert answer.number < 3
    assert "No such file or directory" in answer.failure


def test_notes_of_different_tries_are_not_merged(tmp_path: Path) -> None:
    spill = SpillBuffer(str(tmp_path))
    first = result(1, [b"a"])
    second = replace(result(2, [b"b"], notes=(TaskFailure(2, "exit", 1, "x", "", 0),)), attempt=2)
    third = replace(second, first=3, failures=(TaskFailure(3, "exit", 1, "x", "", 0),), worker="other")
    for number, each in enumerate((first, second, third)):
        keep(spill, number, each)
    assert [fetch(spill, task) for task in (1, 2, 3)] == [first, second, third]


PATIENCE = 30.0
LIMITS = [
    (spill_buffer, "MEMORY_LIMIT_BYTES", [0, 300, 3000, 100_000]),
    (spill_buffer, "MERGE_LIMIT_BYTES", [1, 3000, MERGE_LIMIT_BYTES]),
    (spill_files, "SEGMENT_BYTES", [1, 2000, 1 << 20]),
    (spill_files, "LOG_BYTES", [1, 2000, 1 << 20]),
]


def pieces(rng: random.Random, tasks: int) -> list[Result]:
    """Results of neighbouring tasks from 1 on, each worth its number, in the order of their coming."""
    found, at = [], 1
    while at <= tasks:
        size = rng.choice([1, 1, 3, 9])
        outputs = [b"%d" % task * rng.choice([1, 20]) for task in range(at, at + size)]
        found.append(result(at, outputs, b"%d " % at))
        at += size
    return sorted(found, key=lambda piece: piece.first + rng.uniform(0, 60))


def covers(results: list[Result]) -> dict[int, bytes]:
    """The output of each task."""
    return {each.first + number: part for each in results for number, part in enumerate(parts(each))}


def fetch_all(spill: SpillBuffer, ranges: list[tuple[int, int]]) -> list[Result]:
    """All that is kept in these ranges, in order."""
    found = []
    for low, high in ranges:
        at = low
        while at < high:
            found.append(fetch(spill, at))
            at += found[-1].count
    return found


@pytest.mark.parametrize("seed", range(12))
def test_a_durable_spill_outlives_its_process(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some is fetched and forgotten, some fetched only; then the process is killed, twice."""
    rng = random.Random(seed)
    for module, name, sizes in LIMITS:
        monkeypatch.setattr(module, name, rng.choice(sizes))
    folder = tmp_path / "spill"
    spill = SpillBuffer(durable_folder=str(folder))
    given = pieces(rng, 300)
    half = len(given) // 2
    for number, piece in enumerate(given[:half]):
        keep(spill, number, piece)
        if rng.random() < 0.1:
            spill.sync()
    end = min(piece.first for piece in given[half:])
    early = fetch_all(spill, [(1, end)])
    done = early[rng.randrange(len(early))].first if early else 1
    spill.send(Port.SPILL, DiscardBelow(done))
    spill.receive()
    kept = {task: output for task, output in covers(given[:half]).items() if task >= done}
    for _ in range(2):
        spill.close()
        low = rng.choice(sorted(kept))
        kept = {task: output for task, output in kept.items() if task >= low}
        spill = SpillBuffer(durable_folder=str(folder))
        spill.restore(runs(kept))
    for number, part in enumerate(above(low, given[half:]), half):
        keep(spill, number, part)
        kept |= covers([part])
    assert covers(fetch_all(spill, list(runs(kept)))) == kept
    spill.send(Port.SPILL, DiscardBelow(max(kept) + 1))
    assert list(folder.iterdir()) == []
    assert spill.size == 0
    spill.remove()
    assert list(tmp_path.iterdir()) == []


def above(low: int, results: list[Result]) -> list[Result]:
    """What of these is not below task `low`."""
    spans = [(each, max(each.first, low), each.first + each.count) for each in results]
    return [part for each, start, end in spans if start < end for part in slice_result(each, [(start, end)])]


def runs(tasks: dict[int, bytes]) -> tuple[tuple[int, int], ...]:
    """Their ranges."""
    return RangeSet((task, task + 1) for task in tasks).ranges()


def test_what_was_handed_out_stays_until_it_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when all else in its log has gone to a segment."""
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 3000)
    spill = SpillBuffer(durable_folder=str(tmp_path))
    first = result(1, [b"one"])
    keep(spill, 0, first)
    assert fetch(spill, 1) == first
    for number in range(1, 20):
        keep(spill, number, result(number * 3, [b"x" * 300]))
    spill.close()
    again = SpillBuffer(durable_folder=str(tmp_path))
    again.restore(((1, 2), (30, 31)))
    assert [fetch(again, 1), fetch(again, 30)] == [first, result(30, [b"x" * 300])]
    again.send(Port.SPILL, DiscardBelow(31))
    assert list(tmp_path.iterdir()) == []


def test_logs_go_when_all_in_them_is_in_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 50_000)
    spill = SpillBuffer(durable_folder=str(tmp_path))
    for number in range(2000):
        keep(spill, number, result(number * 2 + 1, [b"x" * 500]))
        on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
        assert on_disk < 2 * spill.size + 200 * (number + 1) + 50_000
    assert on_disk < spill.size + 200 * 2000 + 50_000


def test_what_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    spill = SpillBuffer(durable_folder=str(tmp_path))
    for number in range(3):
        keep(spill, number, result(number * 10, [b"text"]))
    spill.close()
    (log,) = tmp_path.iterdir()
    whole = log.read_bytes()
    for size in range(len(whole)):
        log.write_bytes(whole[:size])
        with pytest.raises(UsageError, match=r"missing the result of task (1|11|21)$"):
            SpillBuffer(durable_folder=str(tmp_path)).restore(((0, 1), (10, 11), (20, 21)))
        assert log.read_bytes() == whole[:size]
    log.write_bytes(whole.replace(b"text", b"tent", 1))
    with pytest.raises(UsageError, match="is damaged at byte"):
        SpillBuffer(durable_folder=str(tmp_path)).restore(((20, 21),))
    log.write_bytes(whole[:-1])
    SpillBuffer(durable_folder=str(tmp_path)).restore(((10, 11),))
    SpillBuffer(durable_folder=str(tmp_path)).restore(())
    assert list(tmp_path.iterdir()) == []


def receive_all(spill: SpillBuffer, number: int) -> list[Message]:
    """What it says until it has kept result `number`, or failed."""
    said: list[Message] = []
    limit = time.monotonic() + PATIENCE
    while not any(isinstance(word, Committed) and (word.number >= number or word.failure) for word in said):
        assert time.monotonic() < limit, said
        said += spill.receive()
    return said


@pytest.mark.parametrize("durable", [False, True])
def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, durable: bool) -> None:
    monkeypatch.setattr(kernels, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 20_000)
    kernel = FaultySyscalls()
    spill = SpillBuffer(str(tmp_path), durable_folder=str(tmp_path / "spill") if durable else "", syscalls=kernel)
    given = [result(number * 2 + 1, [b"%d" % number * 900]) for number in range(60)]
    for number, piece in enumerate(given[:20]):
        keep(spill, number, piece)
    kernel.is_full = True
    said: list[Message] = []
    for number, piece in enumerate(given[20:], 20):
        spill.send(Port.SPILL, SpillResult(number, piece))
        said += spill.receive()
    (stuck,) = [word for word in said if isinstance(word, Waiting)]
    assert stuck.detail.endswith(": No space left on device")
    assert max([19, *(word.number for word in said if isinstance(word, Committed))]) < 59
    spill.send(Port.SPILL, FetchSpilled(given[59].first))
    assert [word for word in spill.receive() if isinstance(word, FetchedResult)] == [FetchedResult(given[59])]
    kernel.is_full = False
    assert receive_all(spill, 59) == [Waiting("disk", active=False), Committed("spill", 59)]
    assert [fetch(spill, piece.first) for piece in given[:59]] == given[:59]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_whichever_call_fails_what_was_said_is_kept(
    tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 4000)
    given = [result(number * 2 + 1, [b"%d" % number * 300]) for number in range(12)]
    for kth in count(1):
        folder = str(tmp_path / f"{kth}")
        kernel = FaultySyscalls(kth, error)
        spill = SpillBuffer(durable_folder=folder, syscalls=kernel)
        said, failed = -1, False
        for number, piece in enumerate(given):
            spill.send(Port.SPILL, SpillResult(number, piece))
            answer = receive_all(spill, number)[-1] if not failed else None
            if isinstance(answer, Committed):
                said, failed = answer.number, failed or bool(answer.failure)
            try:
                spill.sync()
            except OSError:
                break
        again = SpillBuffer(durable_folder=folder)
        spill.close()
        again.restore(tuple((piece.first, piece.first + 1) for piece in given[: said + 1]))
        assert [fetch(again, piece.first) for piece in given[: said + 1]] == given[: said + 1]
        if not kernel.has_failed:
            assert said == 11
            assert kth > 20
            return


def test_restoring_needs_no_memory_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 200_000)
    spill = SpillBuffer(durable_folder=str(tmp_path))
    for number in range(5000):
        keep(spill, number, result(1 + number // 2 + number % 2 * 3000, [b"x"]))
    spill.close()
    again = SpillBuffer(durable_folder=str(tmp_path))
    tracemalloc.start()
    again.restore(((1, 2501), (3001, 5501)))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 500_000
    assert sum(each.count for each in fetch_all(again, [(1, 2501), (3001, 5501)])) == 5000


def test_with_syncs_no_log_goes_before_its_segments_are_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", 3000)
    kernel = FaultySyscalls()
    spill = SpillBuffer(durable_folder=str(tmp_path), syscalls=kernel)
    gone = 0
    spill.sync()
    for number in range(40):
        logs = list(tmp_path.glob("*.log"))
        keep(spill, number, result(number * 2 + 1, [b"x" * 300]))
        if any(not log.exists() for log in logs):
            gone += 1
            assert kernel.calls[-1] == "sync"
    assert gone > 3


def test_where_little_is_ahead_the_disk_is_free_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_files, "LOG_BYTES", 2000)
    spill = SpillBuffer(durable_folder=str(tmp_path))
    for number in range(300):
        keep(spill, number, result(number * 2, [b"x" * 300]))
        if number >= 5:
            fetch(spill, number * 2 - 10)
            spill.send(Port.SPILL, DiscardBelow(number * 2 - 10))
            spill.receive()
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8000


def test_a_full_disk_is_asked_once_in_a_while_only(tmp_path: Path) -> None:
    kernel = FaultySyscalls()
    spill = SpillBuffer(durable_folder=str(tmp_path), syscalls=kernel)
    kernel.is_full = True
    for number in range(20):
        spill.send(Port.SPILL, SpillResult(number, result(number, [b"x"])))
        spill.receive()
    assert kernel.calls.count("write") < 10  # one, where this machine does not stand still for seconds
    assert time.monotonic() < spill.deadline < NEVER
