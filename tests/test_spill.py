"""The spill: what is kept comes back once and whole, from memory and from disk."""

from __future__ import annotations

import os
import random
import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from pipeline import spill as module
from pipeline.errands import Fetch, Keep, Kept, Spilled
from pipeline.errors import StationError
from pipeline.messages import Note, Result
from pipeline.spill import GROUP, MEMORY, OVERHEAD, Spill
from pipeline.station import NEVER, Port

if TYPE_CHECKING:
    from pathlib import Path


def result(first: int, outputs: list[bytes], errors: bytes = b"", notes: tuple[Note, ...] = ()) -> Result:
    """A result of as many tasks as there are outputs."""
    ends, end = [], 0
    for output in outputs:
        end += len(output)
        ends.append(end)
    packed = struct.pack(f"<{len(ends)}I", *ends)
    return Result("run", "worker", first, len(outputs), b"".join(outputs), packed, errors, notes)


def parts(found: Result) -> list[bytes]:
    """The output of each task."""
    ends = [end for (end,) in struct.iter_unpack("<I", found.ends)]
    return [found.output[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def keep(spill: Spill, number: int, kept: Result) -> None:
    """Give it one result."""
    spill.send(Port.SPILL, Keep(number, kept))
    assert spill.deadline == 0.0
    assert spill.receive() == [Spilled(number)]
    assert spill.deadline == NEVER


def fetch(spill: Spill, first: int) -> Result:
    """Take one back."""
    spill.send(Port.SPILL, Fetch(first))
    (answer,) = spill.receive()
    assert isinstance(answer, Kept)
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
    spill = Spill(str(tmp_path))
    kept = result(5, [b"a\n", b"", b"b"], b"oh", (Note(6, "exit", 3, "exited with 3"),))
    keep(spill, 1, kept)
    assert spill.size > 0
    assert fetch(spill, 5) == kept
    assert spill.size == 0
    assert open_files(tmp_path) == 0


def test_spilled_is_said_once_for_all_kept(tmp_path: Path) -> None:
    spill = Spill(str(tmp_path))
    for number in range(5):
        spill.send(Port.SPILL, Keep(number, result(number * 10, [b"x"])))
    assert spill.receive() == [Spilled(4)]
    assert spill.receive() == []


def test_a_big_result_goes_to_disk_and_comes_back(tmp_path: Path) -> None:
    spill = Spill(str(tmp_path))
    notes = (Note(8, "exception", 1, "lone \udcff, nul \0, umlaut \xfc"), Note(9, "signal", 11, ""))
    kept = result(8, [os.urandom(MEMORY), b"", b"tail"], b"errors\xff", notes)
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
    monkeypatch.setattr(module, "MEMORY", rng.choice([0, 20_000, 200_000]))
    monkeypatch.setattr(module, "SEGMENT", rng.choice([1, 50_000]))
    monkeypatch.setattr(module, "GROUP", rng.choice([1, 3000, GROUP]))
    outputs = [rng.randbytes(rng.choice([0, 1, 30, 500])) for _ in range(3000)]
    pieces, at = [], 0
    while at < len(outputs):
        count = rng.choice([1, 1, 1, 7])
        notes = tuple(Note(task, "exit", 1, "x") for task in range(at, min(at + count, len(outputs))) if task % 5 == 0)
        pieces.append(result(at, outputs[at : at + count], b"%d " % at, notes))
        at += count
    pieces.sort(key=lambda piece: piece.first + rng.uniform(0, 400))
    spill = Spill(str(tmp_path))
    kept: set[int] = set()
    low, found, errors, noted = 0, [], b"", []
    for number, piece in enumerate(pieces):
        keep(spill, number, piece)
        kept.update(range(piece.first, piece.first + piece.count))
        while low in kept and (rng.random() < 0.5 or piece is pieces[-1]):
            back = fetch(spill, low)
            assert back.count == len(parts(back))
            found += parts(back)
            errors += back.errors
            noted += [note.task for note in back.notes]
            low += back.count
    assert found == outputs
    assert errors == b"".join(b"%d " % piece.first for piece in sorted(pieces, key=lambda piece: piece.first))
    assert noted == list(range(0, len(outputs), 5))
    assert spill.size == 0
    assert open_files(tmp_path) == 0


def test_many_tiny_results_need_no_memory_each(tmp_path: Path) -> None:
    """Two workers, each with its own runs of single tasks, in turn: neighbours arrive apart and are merged."""
    spill = Spill(str(tmp_path))
    total = 30_000
    tracemalloc.start()
    for number in range(total):
        task = number // 200 * 200 + number % 2 * 100 + number % 200 // 2 + 1
        keep(spill, number, result(task, [b"x"]))
    used, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MEMORY
    assert used < 2 * MEMORY
    assert used / total < OVERHEAD / 4
    low = 1
    while low <= total:
        back = fetch(spill, low)
        assert back.output == b"x" * back.count
        low += back.count
    assert spill.size == 0


def test_space_is_free_again_while_something_is_always_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT", 1 << 20)
    monkeypatch.setattr(module, "MEMORY", 0)
    spill = Spill(str(tmp_path))
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
    spill = Spill(str(tmp_path))
    keep(spill, 1, result(5, [b"a", b"b"]))
    fetch(spill, 5)
    with pytest.raises(StationError, match="task 5"):
        fetch(spill, 5)


def test_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    spill = Spill(str(tmp_path / "nowhere"))
    spill.send(Port.SPILL, Keep(3, result(1, [b"z" * (MEMORY + 1)])))
    (answer,) = spill.receive()
    assert isinstance(answer, Spilled)
    assert answer.number < 3
    assert "No such file or directory" in answer.failure
