"""Contents of large results: collected in files, and kept with their results."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipeline.model.events import (
    Committed,
    ContentStored,
    DiscardBelow,
    DropContent,
    FetchedResult,
    FetchSpilled,
    SpillResult,
    StoreContent,
    Waiting,
)
from pipeline.model.messages import Result
from pipeline.model.results import LargeResult, with_content
from pipeline.model.state_machine import NEVER, Port
from pipeline.storage import spill_buffer
from pipeline.storage.content_file import ContentFile
from pipeline.storage.spill_buffer import SpillBuffer
from tests.support.faulty_syscalls import FaultySyscalls

if TYPE_CHECKING:
    from pathlib import Path

BODY = b"output" + b"stderr"


def collect(spill: SpillBuffer, number: int, task: int, body: bytes = BODY) -> LargeResult:
    """Store content in two parts, and return its result."""
    spill.send(Port.SPILL, StoreContent(number, task, body[:4], is_last=False))
    spill.send(Port.SPILL, StoreContent(number, task, body[4:], is_last=True))
    first, last = spill.receive()
    assert isinstance(first, ContentStored)
    assert isinstance(last, ContentStored)
    assert (first.number, first.size, last.size) == (number, 4, len(body))
    header = Result("run", "worker", task, 1, b"", bytes(4), b"", (), large_sizes=(6, len(body) - 6))
    return with_content(header, last.content)


def store(spill: SpillBuffer, number: int, task: int) -> None:
    spill.send(Port.SPILL, SpillResult(number, collect(spill, number, task)))
    assert Committed("spill", number) in spill.receive()


def fetch(spill: SpillBuffer, task: int) -> bytes:
    """Return the content of a large result."""
    spill.send(Port.SPILL, FetchSpilled(task))
    (answer,) = spill.receive()
    assert isinstance(answer, FetchedResult)
    assert isinstance(answer.result, LargeResult)
    assert answer.result.content
    return answer.result.content.read(0, 100)


def descriptor_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def content_names(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.content")]


@pytest.mark.parametrize("is_durable", [False, True])
@pytest.mark.parametrize("limit", [1 << 20, 0])
def test_large_results_are_given_back_with_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, *, is_durable: bool
) -> None:
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", limit)
    before = descriptor_count()
    spill = SpillBuffer(str(tmp_path), durable_folder=str(tmp_path / "spill") if is_durable else "")
    for number, task in enumerate((5, 4, 6)):
        store(spill, number, task)
    assert spill.size > 3 * len(BODY)
    assert [fetch(spill, task) for task in (4, 5, 6)] == [BODY] * 3
    spill.close()
    assert descriptor_count() == before


def test_waiting_durable_contents_hold_no_descriptors(tmp_path: Path) -> None:
    spill = SpillBuffer(durable_folder=str(tmp_path))
    store(spill, 1, 1)
    before = descriptor_count()
    for task in range(2, 20):
        store(spill, task, task)
    assert descriptor_count() == before
    spill.close()


@pytest.mark.parametrize("limit", [1 << 20, 0])
def test_restored_large_results_have_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(spill_buffer, "MEMORY_LIMIT_BYTES", limit)
    spill = SpillBuffer(durable_folder=str(tmp_path))
    for task in range(3):
        store(spill, task, task)
    collect(spill, 9, 9)  # its result was not spilled
    spill.close()
    reopened = SpillBuffer(durable_folder=str(tmp_path))
    reopened.restore(((1, 3),))
    assert len(content_names(tmp_path)) == 2
    assert [fetch(reopened, task) for task in (1, 2)] == [BODY] * 2
    reopened.send(Port.SPILL, DiscardBelow(2))
    assert len(content_names(tmp_path)) == 1
    reopened.remove()
    assert not tmp_path.exists()


def test_restore_without_the_whole_content_fails(tmp_path: Path) -> None:
    spill = SpillBuffer(durable_folder=str(tmp_path))
    store(spill, 1, 1)
    spill.close()
    (name,) = content_names(tmp_path)
    os.truncate(tmp_path / name, len(BODY) - 1)
    with pytest.raises(Exception, match="missing the result of task 2"):
        SpillBuffer(durable_folder=str(tmp_path)).restore(((1, 2),))


def test_dropped_content_leaves_no_file(tmp_path: Path) -> None:
    spill = SpillBuffer(durable_folder=str(tmp_path))
    spill.send(Port.SPILL, StoreContent(1, 7, b"part", is_last=False))
    spill.receive()
    assert len(content_names(tmp_path)) == 1
    spill.send(Port.SPILL, DropContent(1))
    assert content_names(tmp_path) == []
    spill.close()


def test_content_is_stored_when_a_full_disk_has_space_again(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    spill = SpillBuffer(durable_folder=str(tmp_path), syscalls=syscalls)
    syscalls.is_full = True
    spill.send(Port.SPILL, StoreContent(1, 7, b"abcd", is_last=False))
    spill.send(Port.SPILL, StoreContent(1, 7, b"ef", is_last=True))
    assert [type(message) for message in spill.receive()] == [Waiting]
    syscalls.is_full = False
    spill._space_wait.retry_at = 0.0
    messages = spill.receive()
    assert [message.size for message in messages if isinstance(message, ContentStored)] == [4, 6]
    assert spill.deadline == NEVER


def test_synced_spill_syncs_contents_before_they_are_committed(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    spill = SpillBuffer(durable_folder=str(tmp_path), syscalls=syscalls)
    store(spill, 1, 1)
    before = syscalls.calls.count("sync")
    spill.sync()
    assert syscalls.calls.count("sync") == before + 4  # the content and the log, each with its folder
    spill.sync()
    assert syscalls.calls.count("sync") == before + 4


def test_content_file_after_failed_append_is_as_before(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    content = ContentFile(str(tmp_path / "content"), syscalls=syscalls)
    content.append(b"abc")
    syscalls.is_full = True
    with pytest.raises(OSError, match="No space"):
        content.append(b"def")
    assert (content.size, content.read(0, 9)) == (3, b"abc")
    content.close()
