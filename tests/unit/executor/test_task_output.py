"""What a task writes is kept completely: in memory, then in files."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from pipeline.executor import task_output
from pipeline.executor.outcomes import MAX_MERGED_BYTES
from pipeline.executor.task_output import MAX_MEMORY_BYTES, TaskContent, TaskText, prefix_lines
from pipeline.model.messages import RecordFormat
from pipeline.model.results import LargeResult
from pipeline.storage import content_file
from tests.unit.executor.command_driver import make_driver

if TYPE_CHECKING:
    from pipeline.model.messages import Result


@pytest.fixture(autouse=True)
def _small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_output, "MAX_MEMORY_BYTES", 100)
    monkeypatch.setattr(task_output, "WRITE_BYTES", 10)


def read_content(result: Result) -> tuple[bytes, bytes]:
    """Return output and stderr of a large result."""
    assert isinstance(result, LargeResult)
    assert result.content
    assert (result.output, result.stderr) == (b"", b"")
    output_size, stderr_size = result.large_sizes
    return result.content.read(0, output_size), result.content.read(output_size, stderr_size + 1)


@pytest.mark.parametrize("tag", [b"", b"a\t", b"\\1\t"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_task_text_is_tagged_as_a_whole_whatever_its_pieces(tag: bytes, size: int) -> None:
    written = b"one\ntwo\r\nthree\rfour\n\n" * 9 + b"end"
    text = TaskText(tag)
    for start in range(0, len(written), size):
        text.append(written[start : start + size])
    text.flush()
    expected = prefix_lines(written, tag)
    assert text.is_in_file
    assert (text.raw_size, text.size) == (len(written), len(expected))
    assert text.read(0, text.size + 1) == expected
    assert text.read(5, 50) == expected[5:55]
    assert text.tail == written


def test_small_text_stays_in_memory() -> None:
    text = TaskText()
    text.append(b"x" * 100)
    assert not text.is_in_file
    assert text.read(1, 200) == b"x" * 99


def test_texts_in_memory_fit_in_uint32_ends() -> None:
    assert MAX_MERGED_BYTES + MAX_MEMORY_BYTES < 1 << 32


@pytest.mark.parametrize(("stdout", "stderr"), [(0, 150), (150, 0), (150, 150), (150, 3), (3, 150)])
def test_task_content_is_stdout_and_then_stderr(stdout: int, stderr: int) -> None:
    texts = TaskText(), TaskText()
    texts[0].append(b"o" * stdout)
    texts[1].append(b"e" * stderr)
    content = TaskContent(*texts)
    assert content.sizes == (stdout, stderr)
    whole = b"o" * stdout + b"e" * stderr
    assert content.read(0, 1000) == whole
    for start in (0, 2, 3, 149, 150, 151, 299, 300):
        assert content.read(start, 5) == whole[start : start + 5]


def test_nothing_of_a_large_output_or_stderr_is_cut() -> None:
    lines = "".join(f"{number}\n" for number in range(1, 200_001)).encode()
    with make_driver(
        "seq 200000; seq 200000 >&2; echo {}", slots=1, record_format=RecordFormat(collect_metrics=True)
    ) as driver:
        driver.run_records(b"a", b"b")
    assert [read_content(result) for result in driver.finished_messages()] == [
        (lines + b"a\n", lines),
        (lines + b"b\n", lines),
    ]


def test_large_result_is_not_merged_with_its_neighbours() -> None:
    with make_driver("head -c {} /dev/zero", slots=1) as driver:
        driver.send_records(b"1", b"101", b"2")
        driver.run_until(lambda: len(driver.outputs) == 3)
    large = [result for result in driver.finished_messages() if result.large_sizes]
    assert [(result.first, result.count, result.large_sizes) for result in large] == [(1, 1, (101, 0))]
    assert driver.outputs == {0: b"\0", 1: b"", 2: b"\0\0"}


def test_failed_task_with_large_stderr_has_all_of_it_and_its_end_in_the_failure() -> None:
    with make_driver("seq 2000 >&2; exit {}", tag="") as driver:
        driver.run_records(b"3")
    (result,) = driver.finished_messages()
    expected = "".join(f"3\t{number}\n" for number in range(1, 2001)).encode()
    assert read_content(result) == (b"", expected)
    assert result.failures[0].stderr_tail.endswith("\n1999\n2000\n")


@pytest.mark.parametrize("command", ["yes", "yes >&2", "head -c 120 /dev/zero"])
def test_task_whose_output_cannot_be_stored_fails(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_file, "open_file", raise_enospc)
    with make_driver(f"{command}; : {{}}") as driver:
        assert driver.run_records(b"a") == [b""]
    failure = driver.failures[0]
    assert failure.kind == "size"
    assert failure.text.startswith("cannot store its output in a temporary file: No space left on device: ")


def raise_enospc(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_files_of_a_large_result_are_closed_with_it() -> None:
    before = count_descriptors()
    with make_driver("seq 1000; seq 1000 >&2; : {}") as driver:
        driver.run_records(b"a")
        driver.messages.clear()
    assert count_descriptors() == before
